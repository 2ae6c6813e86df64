"""Datasets by name: batches for training, whole splits for evaluation.

With `tfds_physics` this is the only door to the true physics: models and
measures see arrays.
"""

from dataclasses import dataclass

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

import tfds_physics

DATASETS = tuple(f"physics_{name}" for name in tfds_physics.SYSTEMS)


@dataclass(frozen=True)
class Trajectories:
    """Some examples of a split, as arrays.

    Attributes:
      video: uint8 [batch, time, height, width, 3].
      q: True positions [batch, time, dof].
      p: True momenta [batch, time, dof].
      energy: True energy at the first frame, [batch], joules.
      dt: Seconds between frames.
    """

    video: np.ndarray
    q: np.ndarray
    p: np.ndarray
    energy: np.ndarray
    dt: float

    def __len__(self) -> int:
        return len(self.video)

    def __getitem__(self, rows: slice) -> "Trajectories":
        return Trajectories(
            self.video[rows],
            self.q[rows],
            self.p[rows],
            self.energy[rows],
            self.dt,
        )


def get_builder(name: str, data_dir: str | None = None, num_workers: int = 1):
    """The TFDS builder of "dataset" or "dataset/config".

    Args:
      name: Such as "physics_pendulum/small"; without a config the default.
      data_dir: TFDS's folder; None for its default.
      num_workers: Processes that generate.
    Raises: ValueError: if there is no such dataset or config.
    """
    dataset, _, config = name.partition("/")
    if dataset not in DATASETS:
        raise ValueError(
            f"The dataset must be one of {list(DATASETS)}, with or without a "
            f'config as in "physics_pendulum/small". Received: {name!r}.'
        )
    configs = list(tfds.builder_cls(dataset).builder_configs)
    if config and config not in configs:
        raise ValueError(
            f"The config of {dataset} must be one of {configs}. "
            f"Received: {config!r}."
        )
    return tfds.builder(
        dataset,
        config=config or None,
        data_dir=data_dir,
        num_workers=num_workers,
    )


def training_batches(
    builder,
    batch_size: int,
    seed: int,
    first_step: int = 0,
    reversed_videos: bool = False,
) -> tf.data.Dataset:
    """Endless shuffled batches of the split train, from any step on.

    The whole split is shuffled anew each time through. What a step gets
    depends on the seed and the step alone, so a run that goes on at a step
    sees what it would have seen.

    Args:
      builder: Prepared builder.
      batch_size: Videos a batch.
      seed: Of the order.
      first_step: Batches to leave out.
      reversed_videos: Whether the second half of each batch is shown last
        frame first: without friction that is a motion of the system too.
    Returns: dataset of uint8 [batch_size, time, height, width, 3].
    Raises: ValueError: if the split is smaller than a batch.
    """
    size = builder.info.splits["train"].num_examples
    if not 1 <= batch_size <= size:
        raise ValueError(
            f"`batch_size` must be from 1 to {size}, the size of the split. "
            f"Received: {batch_size}."
        )
    # The split is kept in memory as compressed bytes, so that every order can
    # be taken up in its middle, and what is left out is never decompressed.
    compressed = (
        builder.as_dataset(
            split="train", decoders={"video": tfds.decode.SkipDecoding()}
        )
        .map(lambda example: example["video"])
        .batch(size)
        .get_single_element()
    )
    feature = builder.info.features["video"]
    recipe = builder.recipe
    frames = len(recipe.times("train"))
    shape = (frames, recipe.image_size, recipe.image_size, 3)

    def order(epoch):
        rows = tf.random.experimental.stateless_shuffle(
            tf.range(size), tf.stack([tf.cast(seed, tf.int64), epoch])
        )
        return tf.data.Dataset.from_tensor_slices(rows)

    def decode(rows):
        video = tf.map_fn(
            feature.decode_example,
            tf.gather(compressed, rows),
            fn_output_signature=tf.uint8,
        )
        if reversed_videos:
            half = batch_size // 2
            # By index: TF's reversal of bytes takes sixty times as long.
            last_first = tf.range(frames - 1, -1, -1)
            turned = tf.gather(video[half:], last_first, axis=1)
            video = tf.concat([video[:half], turned], axis=0)
        return tf.ensure_shape(video, (batch_size, *shape))

    start_epoch, skipped = divmod(first_step * batch_size, size)
    return (
        tf.data.Dataset.counter(start=start_epoch, step=1)
        .flat_map(order)
        .skip(skipped)
        .batch(batch_size, drop_remainder=True)
        .map(decode)
        .prefetch(2)
    )


def load_split(
    builder, split: str, num_examples: int | None = None
) -> Trajectories:
    """The first examples of a split: at most `num_examples`, None for all.

    Raises: ValueError: if there is no such split or less than 1 is asked for.
    """
    if split not in builder.info.splits:
        raise ValueError(
            f"The split must be one of {list(builder.info.splits)}. "
            f"Received: {split!r}."
        )
    size = builder.info.splits[split].num_examples
    if num_examples is not None and num_examples < 1:
        raise ValueError(
            f"`num_examples` must be at least 1. Received: {num_examples}."
        )
    part = f"{split}[:{min(size, num_examples or size)}]"
    return _stack(list(tfds.as_numpy(builder.as_dataset(split=part))))


def make_trajectories(recipe, split: str, indices) -> Trajectories:
    """Examples of a dataset made anew, without the dataset.

    Args:
      recipe: `builder.recipe`.
      split: Name of a split.
      indices: Their numbers; those past its size are in no dataset.
    Raises: ValueError: if there are none.
    """
    if not len(indices):
        raise ValueError(
            f"There must be an example at least. Received: {indices}."
        )
    return _stack(tfds_physics.make_examples(recipe, split, indices))


def mean_image(builder, num_examples: int = 1000) -> np.ndarray:
    """Mean frame of training videos, [height, width, 3] in [0, 1].

    Of longer training videos only as many frames count as the split test has:
    three bodies drift apart, and their mean image changes with time.
    """
    videos = load_split(builder, "train", num_examples).video
    videos = videos[:, : builder.recipe.num_frames]
    return videos.mean(axis=(0, 1)) / 255.0


def true_video(
    builder, trajectories: Trajectories, times: np.ndarray
) -> np.ndarray:
    """The noise-free motion from the first true state, at other times.

    Args:
      builder: Whose system moves.
      trajectories: Examples of it.
      times: Seconds from the first frame, rising or falling from 0, [time].
    Returns: uint8 [batch, time, height, width, 3].
    """
    recipe = builder.recipe
    q, _ = recipe.system.simulate(
        trajectories.q[:, 0], trajectories.p[:, 0], times
    )
    return tfds_physics.render_video(recipe.system, q, recipe.image_size)


def expected_frames(
    builder, trajectories: Trajectories, num_samples: int = 32
) -> tuple[np.ndarray, np.ndarray]:
    """The best prediction of each noisy frame, and its error.

    Args:
      builder: Whose noise it is.
      trajectories: Examples of it.
      num_samples: Noise samples a frame.
    Returns: mean frame given the true state, and its variance; both
      [batch, time, height, width, 3].
    """
    recipe = builder.recipe
    return tfds_physics.expected_video(
        recipe.system,
        trajectories.q,
        recipe.noise,
        recipe.image_size,
        num_samples=num_samples,
    )


def _stack(rows):
    stacked = {
        name: np.stack([row[name] for row in rows])
        for name in ("video", "q", "p", "energy")
    }
    stacked["energy"] = stacked["energy"][:, 0]
    return Trajectories(**stacked, dt=float(rows[0]["dt"]))
