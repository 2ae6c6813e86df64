"""The TFDS builders: one class a system over a shared base.

README.md, CITATIONS.bib and TAGS.txt beside this module are their card.
"""

import dataclasses
import functools
import json
import zlib
from typing import ClassVar

import numpy as np
import tensorflow_datasets as tfds

from tfds_physics import pictures, preparation
from tfds_physics.systems import SYSTEMS
from tfds_physics.video import examples
from tfds_physics.video.configs import CONFIGS, PhysicsConfig


class PhysicsVideo(  # type: ignore[call-arg]
    preparation.PhysicsBuilder, skip_registration=True
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

    @property
    def expected_sizes(self) -> dict[str, int]:
        """Number of examples by split of the whole dataset."""
        sizes = self.builder_config.sizes
        return {split: size for split, size in sizes.items() if size}

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=_features(self.recipe),
            supervised_keys=None,
            metadata=tfds.core.MetadataDict(self._settings()),
        )

    def _chunks(self, dl_manager):
        del dl_manager  # nothing is downloaded
        recipe = self.recipe
        return {
            split: preparation.Chunks(
                functools.partial(_make_chunk, recipe, split),
                examples.chunk_indices(recipe, split, size),
            )
            for split, size in self.expected_sizes.items()
        }

    def _settings(self) -> dict:
        """All that decides the data, as plain JSON."""
        settings = dataclasses.asdict(self.recipe)
        settings["sizes"] = self.builder_config.sizes
        return json.loads(json.dumps(settings))

    def _estimate_bytes(self, max_examples: int | None = None) -> int:
        """From a few examples: noisy frames compress badly."""
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
            min(size, max_examples or size) * len(recipe.times(split))
            for split, size in self.expected_sizes.items()
        )
        return int(1.1 * per_frame * num_frames)


def _make_chunk(recipe, split, indices):
    return [
        (example["id"], example)
        for example in examples.make_examples(recipe, split, indices)
    ]


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
            "video": pictures.Frames(
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
