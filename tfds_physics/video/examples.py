"""Examples of the datasets, each from its own counted seed.

numpy only, so that worker processes start fast and never load TensorFlow.
"""

import dataclasses
import hashlib
from collections.abc import Iterable

import numpy as np

from tfds_physics.systems import System
from tfds_physics.video import render

# In the order that seeds count them: append only.
SPLITS = ("train", "validation", "test", "test_long", "validation_long")

_MAX_INDEX = 2**40
_CHUNK_BYTES = 2**25  # of video made at once by one process


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """All that fixes the bytes of a dataset's examples.

    Attributes:
      dataset: Name such as "physics_pendulum".
      config: Name such as "paper"; with `dataset` it picks the random stream.
      system: The system that moves.
      image_size: Height and width in pixels.
      noise: Standard deviation on each coordinate of q before drawing.
      dt: Seconds between frames.
      num_frames: Frames per example of validation and test.
      num_train_frames: Frames per example of train.
      num_long_frames: Frames per example of test_long.
      num_validation_long_frames: Frames per example of validation_long.
    """

    dataset: str
    config: str
    system: System
    image_size: int
    noise: float
    dt: float
    num_frames: int
    num_train_frames: int
    num_long_frames: int
    num_validation_long_frames: int

    def times(self, split: str) -> np.ndarray:
        """Seconds of the frames of a split's examples, [time]."""
        lengths = {
            "train": self.num_train_frames,
            "test_long": self.num_long_frames,
            "validation_long": self.num_validation_long_frames,
        }
        return self.dt * np.arange(lengths.get(split, self.num_frames))


def example_seed(dataset: str, config: str, split: str, index: int) -> int:
    """The seed of one example, 0 <= seed < 2^63.

    hash(dataset/config) + 2^40 * (place of split in SPLITS) + index, modulo
    2^63: within a dataset and config no two examples share a seed, so splits
    are disjoint by construction.

    Args:
      dataset: Name such as "physics_pendulum".
      config: Name such as "small".
      split: One of SPLITS.
      index: Number of the example in its split.

    Raises:
      ValueError: If the split is unknown or the index outside 0..2^40 - 1.
    """
    if split not in SPLITS:
        raise ValueError(
            f"`split` must be one of {list(SPLITS)}. Received: {split!r}."
        )
    if not 0 <= index < _MAX_INDEX:
        raise ValueError(
            f"`index` must be at least 0 and below 2^40. Received: {index!r}."
        )
    digest = hashlib.sha256(f"{dataset}/{config}".encode()).digest()
    base = int.from_bytes(digest[:8], "little")
    return (base + SPLITS.index(split) * _MAX_INDEX + index) % 2**63


def make_examples(
    recipe: Recipe, split: str, indices: Iterable[int]
) -> list[dict]:
    """Makes any examples of a dataset again, without reading it.

    An example depends on the recipe, the split and its index alone: the bytes
    are the same for any other indices beside it.

    Args:
      recipe: As given by `tfds.builder("physics_pendulum/small").recipe`.
      split: One of SPLITS.
      indices: Whole numbers; an `id` "physics_pendulum/small/train/00012" has
        split "train" and index 12. Indices past the split's size work too.

    Returns:
      One dictionary of arrays per index, with the features of the dataset.

    Raises:
      ValueError: If the split is unknown or an index out of range.
    """
    indices = [int(index) for index in indices]
    if not indices:
        return []
    system = recipe.system
    seeds = [
        example_seed(recipe.dataset, recipe.config, split, index)
        for index in indices
    ]
    # A counter-based generator: any example starts at once from its seed.
    rngs = [np.random.Generator(np.random.Philox(key=seed)) for seed in seeds]
    starts = [system.sample_state(rng) for rng in rngs]
    q0, p0 = (np.stack(states) for states in zip(*starts, strict=True))
    times = recipe.times(split)
    q, p = system.simulate(q0, p0, times)
    noise = [rng.standard_normal(q.shape[1:]) for rng in rngs]
    video = render.render_video(
        system, q + recipe.noise * np.stack(noise), recipe.image_size
    )
    dH_dq, dH_dp = system.gradient(q, p)
    arrays = {
        "q": q,
        "p": p,
        "dq_dt": dH_dp,
        "dp_dt": -dH_dq,
        "energy": system.hamiltonian(q, p),
        "time": np.broadcast_to(times, q.shape[:2]),
    }
    arrays = {name: value.astype(np.float32) for name, value in arrays.items()}
    return [
        {
            "video": video[row],
            **{name: value[row] for name, value in arrays.items()},
            "dt": np.float32(recipe.dt),
            "parameters": dict(system.parameters),
            "seed": seeds[row],
            "id": f"{recipe.dataset}/{recipe.config}/{split}/{index:05d}",
        }
        for row, index in enumerate(indices)
    ]


def chunk_indices(recipe: Recipe, split: str, num_examples: int) -> list[range]:
    """Examples 0..num_examples - 1 in ranges to be made at once.

    Args:
      recipe: Recipe of the examples.
      split: One of SPLITS.
      num_examples: Number of examples, from index 0 on.
    """
    num_frames = len(recipe.times(split))
    size = max(1, _CHUNK_BYTES // (num_frames * recipe.image_size**2 * 3))
    return [
        range(start, min(start + size, num_examples))
        for start in range(0, num_examples, size)
    ]
