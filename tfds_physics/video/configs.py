"""Settings of the datasets, and CONFIGS: the ready ones."""

import dataclasses
import math
from typing import Any

import tensorflow_datasets as tfds

from tfds_physics.systems import System
from tfds_physics.video import render
from tfds_physics.video.examples import SPLITS


@dataclasses.dataclass(eq=False, kw_only=True)
class PhysicsConfig(tfds.core.BuilderConfig):
    """Settings of a dataset of videos, under a name of its own.

    Attributes:
      image_size: Height and width in pixels, at least 8.
      noise: Standard deviation of the Gaussian noise on each coordinate of q
        before a frame is drawn; None for the system's own, 0 for clean frames.
      dt: Seconds between frames.
      num_frames: Frames per example of train, validation and test.
      num_train_frames: Frames per example of train; None for `num_frames`.
      num_long_frames: Frames per example of test_long.
      num_validation_long_frames: Frames per example of validation_long.
      num_train: Number of examples of train; 0 leaves a split out.
      num_validation: Number of examples of validation.
      num_test: Number of examples of test.
      num_test_long: Number of examples of test_long.
      num_validation_long: Number of examples of validation_long.
      system: Instance with other parameters than the dataset's own, such as
        `Pendulum(potential_factor=1.0)`; None for the one in SYSTEMS.

    Raises:
      ValueError: If a value is out of its range.
      TypeError: If `system` is not a System.

    Source: The defaults are those of Toth et al. 2019, Hamiltonian Generative
      Networks, sections 4 and A.1; validation, test_long and validation_long
      are additions.
    """

    image_size: int = 32
    noise: float | None = None
    dt: float = 0.125
    num_frames: int = 30
    num_train_frames: int | None = None
    num_long_frames: int = 240
    num_validation_long_frames: int = 60
    num_train: int = 50_000
    num_validation: int = 5_000
    num_test: int = 10_000
    num_test_long: int = 1_000
    num_validation_long: int = 64
    system: System | None = None

    def __post_init__(self):
        render.check_image_size(self.image_size)
        if self.noise is not None and not 0 <= self.noise < math.inf:
            raise ValueError(
                "`noise` must be finite and not negative, or None for the "
                f"system's own. Received: {self.noise!r}."
            )
        if not 0 < self.dt < math.inf:
            raise ValueError(
                "`dt` must be positive and finite, in seconds. "
                f"Received: {self.dt!r}."
            )
        for name in (
            "num_frames",
            "num_long_frames",
            "num_validation_long_frames",
        ):
            _check_count(name, getattr(self, name), 1)
        if self.num_train_frames is not None:
            _check_count("num_train_frames", self.num_train_frames, 1)
        for split in SPLITS:
            _check_count(f"num_{split}", self.sizes[split], 0)
        if not any(self.sizes.values()):
            raise ValueError(
                "At least one split must have examples. Received: 0 for each "
                f"of {list(SPLITS)}."
            )
        if not isinstance(self.system, System | None):
            raise TypeError(
                "`system` must be a System instance or None. "
                f"Received: {self.system!r}."
            )

    @property
    def sizes(self) -> dict[str, int]:
        """Number of examples by split."""
        return {split: getattr(self, f"num_{split}") for split in SPLITS}


def _check_count(name: str, value: int, lowest: int) -> None:
    if not isinstance(value, int) or value < lowest:
        raise ValueError(
            f"`{name}` must be a whole number of at least {lowest}. "
            f"Received: {value!r}."
        )


_SMALL: dict[str, Any] = dict(
    num_train=20_000, num_validation=1_000, num_test=2_000, num_test_long=200
)
# Fewer but longer videos to train on, as many frames in all as `small`.
_LONG: dict[str, Any] = _SMALL | dict(num_train=5_000, num_train_frames=120)

# The first is the default.
CONFIGS = [
    PhysicsConfig(
        name="paper",
        description="The paper's: 32x32 pixels, noise, 50,000 trajectories.",
    ),
    PhysicsConfig(
        name="paper_64",
        image_size=64,
        description="As `paper`, at 64x64 pixels.",
    ),
    PhysicsConfig(
        name="clean", noise=0.0, description="As `paper`, without noise."
    ),
    PhysicsConfig(
        name="small",
        **_SMALL,
        description="As `paper`, for a small machine: 20,000 trajectories.",
    ),
    PhysicsConfig(
        name="small_clean",
        noise=0.0,
        **_SMALL,
        description="As `small`, without noise.",
    ),
    PhysicsConfig(
        name="long",
        **_LONG,
        description="As `small`, with 5,000 training videos of 120 frames.",
    ),
    PhysicsConfig(
        name="long_clean",
        noise=0.0,
        **_LONG,
        description="As `long`, without noise.",
    ),
    PhysicsConfig(
        name="tiny",
        num_train=64,
        num_validation=16,
        num_test=16,
        num_test_long=4,
        num_validation_long=8,
        description="As `paper`, a few dozen trajectories for tests.",
    ),
]
