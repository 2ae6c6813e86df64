"""The TFDS builders of the state tasks of Hamiltonian Neural Networks.

One example is one row: a state x, its time derivative, the state without
noise, the time, and the number of its trajectory. x is q and p joined.
README.md, CITATIONS.bib and TAGS.txt beside this module are their card.
"""

import dataclasses
import functools
from collections.abc import Iterator
from typing import ClassVar

import numpy as np
import tensorflow_datasets as tfds

from tfds_physics import preparation
from tfds_physics.hnn.tasks import STATE_TASKS, StateTask, make_rows


@dataclasses.dataclass(eq=False, kw_only=True)
class StateConfig(tfds.core.BuilderConfig):
    """Settings of a simulated task; None keeps the published one.

    Attributes:
      seed: Seed of the draw; 0 is the published one.
      noise: Standard deviation of the noise on each coordinate of x.
      num_train: Trajectories of the split train.
      num_test: Trajectories of the split test.

    Raises:
      ValueError: If a value is out of its range.
    """

    seed: int = 0
    noise: float | None = None
    num_train: int | None = None
    num_test: int | None = None

    def __post_init__(self):
        for name in ("num_train", "num_test"):
            value = getattr(self, name)
            if value is None or isinstance(value, int) and value >= 1:
                continue
            raise ValueError(
                f"`{name}` must be a whole number of at least 1, or None. "
                f"Received: {value!r}."
            )
        if not isinstance(self.seed, int) or not 0 <= self.seed < 2**32:
            raise ValueError(
                "`seed` must be a whole number of at least 0 and below 2^32. "
                f"Received: {self.seed!r}."
            )
        if self.noise is not None and not 0 <= self.noise < np.inf:
            raise ValueError(
                "`noise` must be finite and not negative, or None. "
                f"Received: {self.noise}."
            )


# At once: enough to be fast together, few enough to be shared by processes.
_TRAJECTORIES = 500


class StateRows(  # type: ignore[call-arg]
    preparation.PhysicsBuilder, skip_registration=True
):
    """Rows of states and their time derivatives.

    Attributes:
      TASK: Name in STATE_TASKS; a subclass sets it.
    """

    TASK: ClassVar[str]
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First release."}
    BUILDER_CONFIGS: ClassVar[list[StateConfig]] = [
        StateConfig(name="paper", description="The published draw."),
        StateConfig(
            name="clean",
            noise=0.0,
            description="As `paper`, without noise; another draw of starts.",
        ),
        StateConfig(
            name="tiny",
            num_train=4,
            num_test=2,
            description="As `paper`, a few trajectories for tests.",
        ),
    ]

    @property
    def task(self) -> StateTask:
        """The task, with the changes of the config."""
        config = self.builder_config
        changes = {
            name: getattr(config, name)
            for name in ("noise", "num_train", "num_test")
            if getattr(config, name) is not None
        }
        return dataclasses.replace(STATE_TASKS[self.TASK], **changes)

    @property
    def expected_sizes(self) -> dict[str, int]:
        """Number of rows by split of the whole dataset."""
        task = self.task
        return {
            split: len(trajectories) * task.num_points
            for split, trajectories in task.splits.items()
        }

    def _info(self) -> tfds.core.DatasetInfo:
        noise = f"Gaussian noise of {self.task.noise} on each coordinate"
        return self._make_info(
            2 * self.task.system.dof, f"State (q, p): {noise}."
        )

    def _make_info(self, dim: int, x_doc: str) -> tfds.core.DatasetInfo:
        def vector(doc: str) -> tfds.features.Tensor:
            return tfds.features.Tensor(shape=(dim,), dtype=np.float32, doc=doc)

        return self.dataset_info_from_configs(
            supervised_keys=("x", "dx_dt"),
            metadata=tfds.core.MetadataDict(self._settings()),
            features=tfds.features.FeaturesDict(
                {
                    "x": vector(x_doc),
                    "dx_dt": vector("Its derivative, per second."),
                    **self._more_features(vector),
                    "time": tfds.features.Scalar(
                        np.float32, doc="Seconds since the start."
                    ),
                    "trajectory": tfds.features.Scalar(
                        np.int64, doc="Sort by it and by time to join rows."
                    ),
                }
            ),
        )

    def _more_features(self, vector):
        return {
            "x_true": vector("State without noise, at which dx_dt is exact.")
        }

    def _chunks(self, dl_manager):
        del dl_manager  # nothing is downloaded
        seed = self.builder_config.seed
        return {
            split: preparation.Chunks(
                functools.partial(_make_chunk, self.task, seed, whole.start),
                [
                    whole[first : first + _TRAJECTORIES]
                    for first in range(0, len(whole), _TRAJECTORIES)
                ],
            )
            for split, whole in self.task.splits.items()
        }

    def _settings(self) -> dict:
        config = self.builder_config
        if config is None:
            return {}
        names = ("seed", "noise", "num_train", "num_test")
        return {name: getattr(config, name) for name in names}


def iterate_rows(
    rows: dict[str, np.ndarray], first: int = 0
) -> Iterator[tuple[int, dict]]:
    """Yields (key, example) of rows [rows, ...], numbered from `first` on.

    Args:
      rows: Name of a feature -> array.
      first: Number of the first row in its split.
    """
    kinds = {"trajectory": np.int64}
    columns = [
        value.astype(kinds.get(name, np.float32))
        for name, value in rows.items()
    ]
    for index, values in enumerate(zip(*columns, strict=True), first):
        yield index, dict(zip(rows, values, strict=True))


def _make_chunk(task, seed, first, trajectories):
    rows = make_rows(task, seed, trajectories)
    return iterate_rows(rows, (trajectories.start - first) * task.num_points)


class HNNMassSpring(StateRows):
    """A mass on a spring, H = q^2 + p^2: 25 + 25 trajectories of 30 rows."""

    name = "hnn_mass_spring"
    TASK = "mass_spring"


class HNNPendulum(StateRows):
    """A pendulum, H = 3 (1 - cos q) + p^2: 25 + 25 trajectories of 45 rows."""

    name = "hnn_pendulum"
    TASK = "pendulum"


class HNNTwoBody(StateRows):
    """Two bodies near circular orbits: 800 + 200 trajectories of 50 rows."""

    name = "hnn_two_body"
    TASK = "two_body"


class HNNThreeBody(StateRows):
    """Three bodies: 4000 + 1000 trajectories of 20 rows.

    Close encounters: a thousandth of the rows carries two thirds of the sum
    of dx_dt^2.
    """

    name = "hnn_three_body"
    TASK = "three_body"
