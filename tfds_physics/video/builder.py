"""The TFDS builders: one class a system over a shared base.

README.md, CITATIONS.bib and TAGS.txt beside this module are their card.
"""

import dataclasses
import functools
import json
import pathlib
import zlib
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from tfds_physics import preparation
from tfds_physics.systems import SYSTEMS
from tfds_physics.video import examples, workers
from tfds_physics.video.configs import CONFIGS, PhysicsConfig


class PhysicsVideo(  # type: ignore[call-arg]
    tfds.core.GeneratorBasedBuilder, skip_registration=True
):
    """Videos of a physical system with its true states and energies.

    Attributes:
      SYSTEM: Name in SYSTEMS; a subclass sets it.
    """

    SYSTEM: ClassVar[str]
    VERSION = tfds.core.Version("1.1.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {
        "1.0.0": "First release.",
        "1.1.0": "Split validation_long; the other splits are as in 1.0.0.",
    }
    BUILDER_CONFIGS: ClassVar[list[PhysicsConfig]] = CONFIGS

    def __init__(self, *, num_workers: int = 1, **kwargs: Any):
        """Makes a builder.

        Args:
          num_workers: Number of processes that make examples while this one
            writes them; the data are the same for any number. From
            `tfds.load`: `builder_kwargs={"num_workers": 2}`. Defaults to 1.
          **kwargs: Arguments of `tfds.core.GeneratorBasedBuilder`: `config`,
            `data_dir` and others.

        Raises:
          ValueError: If `num_workers` is below 1, or the folder holds data
            made with other settings under the same config name.
          TypeError: If the config or its system is of another kind.
        """
        if not isinstance(num_workers, int) or num_workers < 1:
            raise ValueError(
                "`num_workers` must be a whole number of at least 1. "
                f"Received: {num_workers!r}."
            )
        self._num_workers = num_workers
        super().__init__(**kwargs)
        if self.data_path.exists():
            self._check_same_settings()

    @property
    def recipe(self) -> examples.Recipe:
        """All that fixes the examples: `make_examples` needs nothing else."""
        config = self.builder_config
        if not isinstance(config, PhysicsConfig):
            raise TypeError(
                "`config` must be a PhysicsConfig or the name of one. "
                f"Received: {config!r}."
            )
        own = SYSTEMS[self.SYSTEM]
        system = own if config.system is None else config.system
        if not isinstance(system, type(own)):
            raise TypeError(
                f"`system` of {self.name} must be a {type(own).__name__}. "
                f"Received: {system!r}."
            )
        return examples.Recipe(
            dataset=self.name,
            config=config.name,
            system=system,
            image_size=config.image_size,
            noise=system.noise if config.noise is None else config.noise,
            dt=config.dt,
            num_frames=config.num_frames,
            num_train_frames=config.num_train_frames or config.num_frames,
            num_long_frames=config.num_long_frames,
            num_validation_long_frames=config.num_validation_long_frames,
        )

    def download_and_prepare(self, **kwargs: Any) -> None:
        """Makes the dataset unless it is there; nothing is downloaded.

        Args:
          **kwargs: Arguments of
            `tfds.core.DatasetBuilder.download_and_prepare`.

        Raises:
          OSError: If the disk is too full (errno ENOSPC).
          RuntimeError: If a worker process dies.
        """
        download_config = kwargs.get("download_config")
        overwrite = (
            download_config is not None
            and download_config.download_mode.overwrite_dataset
        )
        if self.data_path.exists() and not overwrite:
            super().download_and_prepare(**kwargs)
            return
        data_path = pathlib.Path(self.data_dir)
        with (
            preparation.enough_space(data_path, self._estimate_bytes()),
            preparation.sole_writer(data_path),
        ):
            super().download_and_prepare(**kwargs)
        if not self.info.splits:  # another process made it while we waited
            self.info.read_from_directory(self.data_dir)
            self._check_same_settings()

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=_features(self.recipe),
            supervised_keys=None,
            metadata=tfds.core.MetadataDict(self._settings()),
        )

    def _split_generators(self, dl_manager):
        del dl_manager  # nothing is downloaded
        return {
            split: self._generate_examples(split, size)
            for split, size in self.builder_config.sizes.items()
            if size
        }

    def _generate_examples(self, split: str, size: int):
        chunk_map = functools.partial(
            workers.ordered_map, num_processes=self._num_workers
        )
        for example in examples.iterate_examples(
            self.recipe, split, size, chunk_map
        ):
            yield example["id"], example

    def _settings(self) -> dict:
        """All that decides the data, as plain JSON."""
        settings = dataclasses.asdict(self.recipe)
        settings["sizes"] = self.builder_config.sizes
        return json.loads(json.dumps(settings))

    def _check_same_settings(self):
        """TFDS goes by names alone and would hand out data of other settings.

        So the settings are kept as metadata beside the data.
        """
        stored = dict(self.info.metadata or {})
        wanted = self._settings()
        if stored != wanted:
            differing = {
                key: (stored.get(key), wanted[key])
                for key in wanted
                if stored.get(key) != wanted[key]
            }
            raise ValueError(
                "A config's name must always stand for the same settings. "
                f"Received: other settings than those of the data in "
                f"{self.data_dir} (stored, wanted): {differing}. Give the "
                "config another name, or remove that folder."
            )

    def _estimate_bytes(self) -> int:
        """Bytes on the disk, from a few examples."""
        recipe = self.recipe
        sample = examples.make_examples(recipe, "train", range(4))
        states = sum(
            value.nbytes
            for value in sample[0].values()
            if isinstance(value, np.ndarray) and value.dtype == np.float32
        )
        videos = [
            len(zlib.compress(each["video"].tobytes())) for each in sample
        ]
        per_example = states + sum(videos) / len(videos)
        per_frame = per_example / recipe.num_train_frames
        num_frames = sum(
            size * len(recipe.times(split))
            for split, size in self.builder_config.sizes.items()
        )
        return int(1.1 * per_frame * num_frames)


def _features(recipe: examples.Recipe) -> tfds.features.FeaturesDict:
    size, dof = recipe.image_size, recipe.system.dof

    def states(doc: str, *shape: int) -> tfds.features.Tensor:
        return tfds.features.Tensor(
            shape=(None, *shape), dtype=np.float32, doc=doc
        )

    return tfds.features.FeaturesDict(
        {
            # Compressed bytes: smaller than PNG and faster to read than raw
            # frames, see benchmarks/bench_data.py.
            "video": tfds.features.Tensor(
                shape=(None, size, size, 3),
                dtype=np.uint8,
                encoding=tfds.features.Encoding.ZLIB,
                doc="RGB frames [time, height, width, 3]; row 0 is the top, "
                "and gravity, where there is one, points down. Drawn from "
                "q plus noise.",
            ),
            "q": states(
                "True positions [time, dof], without noise; metres or "
                "radians. Angles are 0 hanging at rest, counter-clockwise "
                "positive, and not wrapped: whole turns add up.",
                dof,
            ),
            "p": states(
                "True canonical momenta [time, dof], without noise; kg m/s "
                "or, of an angle, kg m^2/s.",
                dof,
            ),
            "dq_dt": states("Exact dH/dp [time, dof]; unit of q per s.", dof),
            "dp_dt": states("Exact -dH/dq [time, dof]; unit of p per s.", dof),
            "energy": states("H(q, p) [time], joules; constant up to 1e-6."),
            "time": states("Seconds since the first frame [time]."),
            "dt": tfds.features.Scalar(
                np.float32, doc="Seconds between frames."
            ),
            "parameters": tfds.features.FeaturesDict(
                {
                    name: tfds.features.Scalar(
                        np.int64 if isinstance(value, int) else np.float32
                    )
                    for name, value in recipe.system.parameters.items()
                },
                doc="Parameters of the system by name, SI units.",
            ),
            "seed": tfds.features.Scalar(
                np.int64, doc="Seed of this example alone."
            ),
            "id": tfds.features.Text(
                doc="dataset/config/split/index; `make_examples` makes the "
                "example again from these."
            ),
        }
    )


class PhysicsMassSpring(PhysicsVideo):
    """A mass on a spring; see the card."""

    SYSTEM = "mass_spring"


class PhysicsPendulum(PhysicsVideo):
    """The bob of a pendulum; see the card."""

    SYSTEM = "pendulum"


class PhysicsTwoBody(PhysicsVideo):
    """Two bodies that attract each other; see the card."""

    SYSTEM = "two_body"


class PhysicsThreeBody(PhysicsVideo):
    """Three bodies that attract each other; see the card."""

    SYSTEM = "three_body"


class PhysicsDoublePendulum(PhysicsVideo):
    """The two bobs of a double pendulum; see the card."""

    SYSTEM = "double_pendulum"
