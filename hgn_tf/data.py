"""Datasets by name: batches for training, whole splits for evaluation.

With `tfds_physics` this is the only door to the true physics: models and
measures see arrays.
"""

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

import tfds_physics
from hgn_tf import records

# What others call a builder, who import nothing of tfds_physics: one of
# simulated videos, or of a folder of videos, made or read again by its name.
Builder: TypeAlias = tfds_physics.PhysicsVideo | tfds.core.DatasetBuilder
_OWN = tfds_physics.VideoFolder.name
DATASETS = tuple(f"physics_{name}" for name in tfds_physics.SYSTEMS)
_READERS = 16  # reads at a time of a dataset in a bucket


@dataclass(frozen=True)
class Trajectories:
    """Examples of a split, as arrays.

    Attributes:
      video: uint8 [batch, time, height, width, channels].
      q: True positions [batch, time, dof]. None where the truth is not known,
        as p and energy.
      p: True momenta [batch, time, dof].
      energy: True energy at the first frame, [batch], joules.
      dt: Seconds between frames.
    """

    video: np.ndarray
    q: np.ndarray | None
    p: np.ndarray | None
    energy: np.ndarray | None
    dt: float

    def __len__(self) -> int:
        return len(self.video)

    def __getitem__(self, rows: slice) -> "Trajectories":
        q, p, energy = (
            None if part is None else part[rows]
            for part in (self.q, self.p, self.energy)
        )
        return Trajectories(self.video[rows], q, p, energy, self.dt)


def get_builder(name: str, data_dir: str | None = None) -> Builder:
    """Makes the TFDS builder of "dataset" or "dataset/config".

    Args:
      name: Name such as "physics_pendulum/small". Without a config it is the
        dataset's default, "paper". Or the name that `open_videos` gave to
        videos of your own, such as "video_folder/clips-1a2b3c4d5e".
      data_dir: Folder of TFDS's datasets. None for TFDS's default.

    Returns:
      Builder of a dataset that may or may not be prepared.

    Raises:
      ValueError: If there is no such dataset or config.
    """
    dataset, _, config = name.partition("/")
    if dataset == _OWN:
        try:
            return tfds.builder(name, data_dir=data_dir)
        except tfds.core.DatasetNotFoundError as error:
            raise ValueError(
                "A dataset of your own videos must have been made in this "
                f"folder of datasets. Received: {name!r}; `hgn-tf inspect "
                "FOLDER` with the same options makes it again."
            ) from error
    if dataset not in DATASETS:
        raise ValueError(
            f"The dataset must be one of {list(DATASETS)}, with or without a "
            'config as in "physics_pendulum/small", or a folder or file of '
            f"videos. Received: {name!r}."
        )
    configs = list(tfds.builder_cls(dataset).builder_configs)
    if config and config not in configs:
        raise ValueError(
            f"The config of {dataset} must be one of {configs}. "
            f"Received: {config!r}."
        )
    return tfds.builder(dataset, config=config or None, data_dir=data_dir)


def prepare(
    builder: Builder | tfds_physics.preparation.PhysicsBuilder,
    beam_options: str | None = None,
) -> None:
    """Makes the dataset of a builder unless it is there, for a run.

    A run needs all of a dataset, in files that TFDS can stream. `open_videos`
    has made that of your own videos.

    Args:
      builder: Builder of a dataset that may or may not be prepared.
      beam_options: Options of Apache Beam with a comma between them, as of
        `tfds build --beam_pipeline_options`, such as
        "direct_num_workers=2,direct_running_mode=multi_processing". None
        for one process, without Beam.

    Raises:
      ImportError: If there are options and Beam is not installed.
      OSError: If the disk is too full.
      ValueError: If the folder holds a part of the dataset, or files of
        another format, or there are options for your own videos.
    """
    if not isinstance(builder, tfds_physics.preparation.PhysicsBuilder):
        if beam_options is not None:
            raise ValueError(
                "Apache Beam makes simulated videos; those of your own are "
                f"read by one process. Received: {beam_options!r}; leave "
                "--beam-options out."
            )
        return
    config = tfds.download.DownloadConfig()
    if beam_options is not None:
        config.beam_options = tfds_physics.parse_beam_options(beam_options)
    if not builder.data_path.exists():
        builder.download_and_prepare(download_config=config)
    builder.check_whole()
    _check_format(builder)


def _check_format(builder):
    file_format = builder.info.file_format
    if file_format is not tfds.core.FileFormat.TFRECORD:
        # TFDS streams no array_record, and of parquet 100 examples a file.
        raise ValueError(
            "The files of a dataset must be of the format tfrecord. Received: "
            f"{file_format.value} in {builder.data_dir}. Read it by "
            "`tfds.data_source`, or use another `data_dir`."
        )


def open_videos(
    path: str | os.PathLike, data_dir: str | None = None, **settings: Any
) -> tfds_physics.VideoFolder:
    """Makes the dataset of a folder or file of videos, unless it is there.

    Args:
      path: File or folder.
      data_dir: Folder of TFDS's datasets. None for TFDS's default.
      **settings: Settings of `tfds_physics.VideoFolder`, such as `channels`.

    Returns:
      Builder of the prepared dataset. `dataset_name` names it for
      `get_builder`.

    Raises:
      ValueError: If a file or a setting does not fit.
      FileNotFoundError: If there is no such path.
      ImportError: If PyAV is needed and not installed.
    """
    builder = tfds_physics.VideoFolder(path, data_dir=data_dir, **settings)
    builder.download_and_prepare()
    return builder


def dataset_name(builder: Builder) -> str:
    """The name that `get_builder` takes: "dataset/config"."""
    return f"{builder.name}/{builder.builder_config.name}"


def has_truth(builder: Builder) -> bool:
    """Whether states and energies are known, and the physics behind them."""
    return isinstance(builder, tfds_physics.PhysicsVideo)


def frame_shape(builder: Builder) -> tuple[int, int, int]:
    """Height, width and channels of the frames."""
    return tuple(builder.info.features["video"].shape[1:])


def seconds_per_frame(builder: Builder) -> float:
    """Seconds between two frames of the videos."""
    return builder.info.metadata["dt"]


def frames_per_video(builder: Builder, split: str = "test") -> int:
    """Number of frames of the videos of a split."""
    if isinstance(builder, tfds_physics.PhysicsVideo):
        return len(builder.recipe.times(split))
    return builder.info.metadata["num_frames"]


def training_batches(
    builder: Builder,
    batch_size: int,
    seed: int,
    first_step: int = 0,
    reversed_videos: bool = False,
    num_frames: int | None = None,
) -> tf.data.Dataset:
    """Endless shuffled batches of the split train, from any step on.

    Each epoch shuffles the whole split anew. The batch of a step depends on
    the seed and the step alone, so a resumed run sees the batches that the
    uninterrupted run would have seen.

    Videos are read from the disk, each at its place, when their batch is due.
    What is held in memory is that place and the number of each video in the
    order: 16 bytes per video of the split.

    Args:
      builder: Prepared builder.
      batch_size: Number of videos per batch.
      seed: Seed of the order.
      first_step: Number of batches to leave out. Defaults to 0.
      reversed_videos: Whether the second half of each batch is shown last
        frame first, which without friction is a motion of the system too.
        Defaults to False.
      num_frames: Number of first frames of each video; the others are left
        out. Defaults to None, all of them.

    Returns:
      Dataset of uint8 [batch_size, time, height, width, channels]. Inside of
      `intact(builder)` an altered video is told in one line.

    Raises:
      ValueError: If the split is smaller than a batch, `num_frames` is not
        from 1 to the frames of a video, the files are of another format than
        tfrecord, or one of them is not whole.
    """
    size = builder.info.splits["train"].num_examples
    if not 1 <= batch_size <= size:
        raise ValueError(
            f"`batch_size` must be from 1 to {size}, the size of the split. "
            f"Received: {batch_size}."
        )
    recorded = frames_per_video(builder, "train")
    frames = recorded if num_frames is None else num_frames
    if not 1 <= frames <= recorded:
        raise ValueError(
            f"`num_frames` must be from 1 to {recorded}, the frames of a "
            f"video. Received: {num_frames}."
        )
    _check_format(builder)
    paths, shards, offsets = _places(builder, "train")
    features = tfds.features.FeaturesDict(
        {"video": builder.info.features["video"]}
    )
    shape = (frames, *frame_shape(builder))

    def order(epoch: tf.Tensor) -> tf.data.Dataset:
        rows = tf.random.experimental.stateless_shuffle(
            tf.range(size), tf.stack([tf.cast(seed, tf.int64), epoch])
        )
        return tf.data.Dataset.from_tensor_slices(rows)

    def read(row: tf.Tensor) -> tf.data.Dataset:
        path = tf.gather(paths, tf.gather(shards, row))
        return records.read_record(path, tf.gather(offsets, row))

    def decode(examples: tf.Tensor) -> tf.Tensor:
        video = tf.map_fn(
            lambda example: features.deserialize_example(example)["video"],
            examples,
            fn_output_signature=tf.uint8,
        )[:, :frames]
        if reversed_videos:
            half = batch_size // 2
            # By index: TF's reversal of bytes takes sixty times as long.
            last_first = tf.range(frames - 1, -1, -1)
            turned = tf.gather(video[half:], last_first, axis=1)
            video = tf.concat([video[:half], turned], axis=0)
        return tf.ensure_shape(video, (batch_size, *shape))

    start_epoch, skipped = divmod(first_step * batch_size, size)
    # One at a time is least work. Of a bucket each read is waited for.
    side_by_side: dict[str, Any] = {"cycle_length": 1}
    if not tfds_physics.preparation.is_local(builder.data_dir):
        side_by_side = {
            "cycle_length": _READERS,
            "num_parallel_calls": _READERS,
            "deterministic": True,
        }
    # On several machines each is to have its rows of every batch. By default
    # TensorFlow would deal out records, before they are batched.
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = (
        tf.data.experimental.AutoShardPolicy.DATA
    )
    return (
        tf.data.Dataset.counter(start=start_epoch, step=1)
        .flat_map(order)
        .skip(skipped)
        .interleave(read, **side_by_side)
        .batch(batch_size, drop_remainder=True)
        .map(decode)
        .prefetch(2)
        .with_options(options)
    )


def _places(builder, split):
    """Files of a split; file and offset of each example, in TFDS's order."""
    info = builder.info.splits[split]
    paths, counts = info.filepaths, info.shard_lengths
    shards = np.repeat(np.arange(len(paths), dtype=np.int32), counts)
    offsets = np.concatenate(
        [records.find_offsets(*each) for each in zip(paths, counts)]
    )
    # TFDS streams its files in turn. That their examples are numbered in this
    # order, and not file after file, keeps batches what they always were.
    stops = np.cumsum(counts)
    order = (
        tf.data.Dataset.from_tensor_slices((stops - counts, stops))
        .interleave(tf.data.Dataset.range, cycle_length=16, block_length=16)
        .batch(len(shards))
        .get_single_element()
        .numpy()
    )
    names = tf.constant([os.fspath(path) for path in paths])
    return names, tf.constant(shards[order]), tf.constant(offsets[order])


@contextlib.contextmanager
def intact(builder: Builder) -> Iterator[None]:
    """Tells in one line which file of a dataset was altered.

    TensorFlow compares the checksum of each example that it reads, but its
    error names no file. So the files are read once more to find it.

    Args:
      builder: Prepared builder, whose examples are read in the body.

    Raises:
      ValueError: If an example that was read is not what it was when it was
        written, naming the file.
    """
    try:
        yield
    except tf.errors.DataLossError:
        for info in builder.info.splits.values():
            records.check(info.filepaths)
        raise


def load_split(
    builder: Builder,
    split: str,
    num_examples: int | None = None,
) -> Trajectories:
    """Loads the first examples of a split.

    Args:
      builder: Prepared builder.
      split: Name of a split, such as "test".
      num_examples: Number of examples at most. None for all.

    Returns:
      The examples, in the order in which TFDS stores them.

    Raises:
      ValueError: If there is no such split, or `num_examples` is below 1.
    """
    part = builder.as_dataset(split=_part(builder, split, num_examples))
    with intact(builder):
        return _stack(tfds.as_numpy(part), len(part))


def _part(builder, split, num_examples):
    """TFDS's name of the first examples of a split."""
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
    return f"{split}[:{min(size, num_examples or size)}]"


def split_batches(
    builder: Builder,
    split: str,
    num_examples: int,
    batch_size: int = 250,
) -> tf.data.Dataset:
    """Batches of the first videos of a split, once and in their order.

    Args:
      builder: Prepared builder.
      split: Name of a split, such as "train".
      num_examples: Number of examples at most.
      batch_size: Number of videos per batch; the last has what is left.
        Defaults to 250.

    Returns:
      Dataset of uint8 [batch, time, height, width, channels].

    Raises:
      ValueError: If there is no such split, or `num_examples` is below 1.
    """
    videos = builder.as_dataset(split=_part(builder, split, num_examples))
    return videos.map(lambda example: example["video"]).batch(batch_size)


def make_trajectories(
    recipe: tfds_physics.Recipe, split: str, indices: Sequence[int]
) -> Trajectories:
    """Makes examples of a dataset anew, without the dataset.

    Args:
      recipe: Recipe of the examples, `builder.recipe`.
      split: Name of a split.
      indices: Numbers of the examples. Those past the size of the split are
        in no dataset.

    Returns:
      The examples, in the order of `indices`.

    Raises:
      ValueError: If `indices` is empty or holds no example's number, or there
        is no such split.
    """
    if not len(indices):
        raise ValueError(
            f"`indices` must name an example at least. Received: {indices}."
        )
    made = tfds_physics.make_examples(recipe, split, indices)
    return _stack(made, len(made))


def mean_image(builder: Builder, num_examples: int = 1000) -> np.ndarray:
    """Mean frame of training videos.

    Training videos may be longer than those of the split test. Then only as
    many of their frames count as test videos have: three bodies drift apart,
    so that their mean image changes with time.

    Args:
      builder: Prepared builder.
      num_examples: Number of training videos at most. Defaults to 1000.

    Returns:
      float64 [height, width, channels] in [0, 1].
    """
    frames = frames_per_video(builder)
    total, count = np.zeros(frame_shape(builder), np.int64), 0
    with intact(builder):
        for batch in split_batches(builder, "train", num_examples, 50):
            videos = batch.numpy()[:, :frames]
            total += videos.sum(axis=(0, 1), dtype=np.int64)
            count += videos.shape[0] * videos.shape[1]
    return total / count / 255.0


def true_video(
    builder: tfds_physics.PhysicsVideo,
    trajectories: Trajectories,
    times: np.ndarray,
) -> np.ndarray:
    """Draws the noise-free motion from the first true state, at other times.

    Args:
      builder: Builder of the dataset, whose system moves.
      trajectories: Examples of the dataset.
      times: Seconds from the first frame, rising or falling from 0, [time].

    Returns:
      uint8 [batch, time, height, width, 3].

    Raises:
      ValueError: If `times` turn back.
    """
    recipe = builder.recipe
    q = true_motion(recipe, trajectories, times)
    return tfds_physics.render_video(recipe.system, q, recipe.image_size)


def true_motion(
    recipe: tfds_physics.Recipe, trajectories: Trajectories, times: np.ndarray
) -> np.ndarray:
    """True positions from the first true state on, at other times.

    Args:
      recipe: Recipe of the dataset, whose system moves.
      trajectories: Examples of the dataset.
      times: Seconds from the first frame, rising or falling from 0, [time].

    Returns:
      q, float64 [batch, time, dof].

    Raises:
      ValueError: If `times` turn back.
    """
    assert trajectories.q is not None and trajectories.p is not None
    q, _ = recipe.system.simulate(
        trajectories.q[:, 0], trajectories.p[:, 0], times
    )
    return q


def expected_frames(
    builder: tfds_physics.PhysicsVideo,
    trajectories: Trajectories,
    num_samples: int = 32,
) -> tuple[np.ndarray, np.ndarray]:
    """The best prediction of each noisy frame, and its squared error.

    Args:
      builder: Builder of the dataset, whose noise is averaged over.
      trajectories: Examples of the dataset.
      num_samples: Number of noise samples per frame. Defaults to 32.

    Returns:
      (mean, variance) of the frame given the true state, both float32
      [batch, time, height, width, 3] for pixels in [0, 1].

    Raises:
      ValueError: If `num_samples` is below 2.
    """
    assert trajectories.q is not None
    return expected_frames_of(builder.recipe, trajectories.q, num_samples)


def expected_frames_of(
    recipe: tfds_physics.Recipe, q: np.ndarray, num_samples: int = 32
) -> tuple[np.ndarray, np.ndarray]:
    """As `expected_frames`, of any true positions.

    Args:
      recipe: Recipe of the dataset, `builder.recipe`.
      q: True positions [batch, time, dof].
      num_samples: Number of noise samples per frame. Defaults to 32.

    Returns:
      (mean, variance), both float32 [batch, time, height, width, 3].

    Raises:
      ValueError: If `num_samples` is below 2.
    """
    return tfds_physics.expected_video(
        recipe.system,
        q,
        recipe.noise,
        recipe.image_size,
        num_samples=num_samples,
    )


def read_frames(
    recipe: tfds_physics.Recipe, video: np.ndarray
) -> tfds_physics.Reading:
    """The positions whose expected frame is nearest to each drawn one.

    Args:
      recipe: Recipe of the dataset, `builder.recipe`, with system and noise.
      video: Floats about 0 to 1, [..., height, width, 3].

    Returns:
      Reading: q [..., dof] and the mean squared error that is left, [...].

    Raises:
      ValueError: If the frames do not fit.
    """
    return tfds_physics.read_frames(recipe.system, video, recipe.noise)


def read_motions(
    recipe: tfds_physics.Recipe, q: np.ndarray, dt: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How far positions are from the nearest true motion, and its energy.

    Args:
      recipe: Recipe of the dataset.
      q: Positions [batch, time, dof], as `read_frames` gives them.
      dt: Seconds between frames.

    Returns:
      (distance, spread, energy), each [batch]. The distance of the bodies
      from that motion and what it takes them from their mean places are roots
      of mean squares, in pixels. Energies are in joules.

    Raises:
      ValueError: If there are fewer than 7 frames.
    """
    found = tfds_physics.read_motion(recipe.system, q, dt)
    pixel = 2.0 * recipe.system.half_width / (recipe.image_size - 1)
    with np.errstate(all="ignore"):
        energy = recipe.system.hamiltonian(found.q0, found.p0)
    return found.distance / pixel, found.spread / pixel, energy


def fitted_motions(
    recipe: tfds_physics.Recipe, video: np.ndarray, num_frames: int
) -> np.ndarray:
    """True motions nearest to the places that the frames of videos show.

    The places are read off each frame by itself, as
    `tfds_physics.read_frames` does. The motion is that of least squares, as of
    `tfds_physics.read_motion`: about what can be known from noisy frames.

    Args:
      recipe: Recipe of the dataset.
      video: Recorded frames, floats in [0, 1], 7 at least in time, [batch,
        time, height, width, 3].
      num_frames: Frames from the first one on.

    Returns:
      q, float64 [batch, num_frames, dof]; NaN where a motion found would run
      into a collision.

    Raises:
      ValueError: If there are fewer than 7 frames.
    """
    system = recipe.system
    # A recorded frame is sharp, at a place that noise has moved.
    places = tfds_physics.read_frames(system, video).q
    found = tfds_physics.read_motion(system, places, recipe.dt)
    times = recipe.dt * np.arange(num_frames)
    q = np.full((len(video), num_frames, system.dof), np.nan)
    for row, (q0, p0) in enumerate(zip(found.q0, found.p0)):
        with contextlib.suppress(ArithmeticError):  # a collision
            q[row] = system.simulate(q0[None], p0[None], times)[0][0]
    return q


def read_energies(
    recipe: tfds_physics.Recipe, q: np.ndarray, dt: float
) -> np.ndarray:
    """True energies of positions in time, velocities by differences.

    Args:
      recipe: Recipe of the dataset.
      q: Positions [batch, time, dof], as `read_frames` gives them.
      dt: Seconds between frames.

    Returns:
      Joules, [batch, time - 6]: the first three and the last three frames
      have none.

    Raises:
      ValueError: If there are fewer than 7 frames.
    """
    q = tfds_physics.unwrap(q, recipe.system)
    p = tfds_physics.read_momenta(recipe.system, q, dt)
    cut = (q.shape[1] - p.shape[1]) // 2
    with np.errstate(all="ignore"):
        return recipe.system.hamiltonian(q[:, cut:-cut], p)


def _stack(rows: Iterable[dict], count: int) -> Trajectories:
    """Examples as arrays, one after another: they are not held twice."""
    arrays: dict[str, Any] = dict.fromkeys(("video", "q", "p", "energy"))
    for number, row in enumerate(rows):
        for name in arrays.keys() & row.keys():
            part = np.asarray(row[name])
            if arrays[name] is None:
                arrays[name] = np.empty((count, *part.shape), part.dtype)
            arrays[name][number] = part
        dt = float(row["dt"])
    if arrays["energy"] is not None:
        arrays["energy"] = arrays["energy"][:, 0]
    return Trajectories(**arrays, dt=dt)
