"""From a dataset's name to arrays: which examples, in which order."""

import dataclasses
import pathlib
import shutil
import tracemalloc

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from scipy.optimize import minimize

import tfds_physics
from hgn_tf import data

BATCH, SIZE = 24, 64  # 64 is no multiple of 24: batches cross epochs.


@pytest.fixture(scope="module")
def builder(data_dir):
    builder = data.get_builder("physics_pendulum/tiny", str(data_dir))
    builder.download_and_prepare()
    return builder


@pytest.fixture(scope="module")
def test_split(builder):
    return data.load_split(builder, "test")


def batches(builder, count, first_step=0, seed=0, batch_size=BATCH):
    """[count, batch, time, height, width, 3]."""
    stream = data.training_batches(builder, batch_size, seed, first_step)
    return np.stack(list(stream.take(count).as_numpy_iterator()))


@pytest.fixture(scope="module")
def stream(builder):
    """Eight batches from the first step on: three epochs."""
    return batches(builder, 8)


def names(videos):
    """What tells examples apart: their bytes."""
    return [video.tobytes() for video in videos]


def test_batches_are_videos_of_the_split(builder):
    spec = data.training_batches(builder, BATCH, 0).element_spec
    assert spec.shape == (BATCH, 30, 32, 32, 3) and spec.dtype == "uint8"
    stored = names(data.load_split(builder, "train").video)
    assert set(names(batches(builder, 1)[0])) <= set(stored)


def test_half_of_a_batch_can_be_shown_last_frame_first(builder, stream):
    reversed_half = data.training_batches(builder, BATCH, 0, 0, True)
    found = next(reversed_half.as_numpy_iterator())
    half = BATCH // 2
    np.testing.assert_array_equal(found[:half], stream[0, :half])
    np.testing.assert_array_equal(found[half:], stream[0, half:, ::-1])


def test_each_epoch_sees_each_example_once(builder, stream):
    stored = names(data.load_split(builder, "train").video)
    assert len(set(stored)) == SIZE
    seen = names(np.concatenate(stream))
    epochs = [seen[start : start + SIZE] for start in (0, SIZE, 2 * SIZE)]
    for epoch in epochs:
        assert sorted(epoch) == sorted(stored)
    assert epochs[0] != epochs[1] != epochs[2] != stored


@pytest.mark.parametrize("first_step", [1, 3, 7])
def test_stream_from_a_step_goes_on_as_the_uninterrupted_one(
    builder, stream, first_step
):
    rest = batches(builder, 8 - first_step, first_step)
    np.testing.assert_array_equal(rest, stream[first_step:])


def test_far_step_is_taken_up_in_its_epoch(builder):
    """With 16 a batch an epoch is 4 steps, and step 4000 begins one."""
    far = batches(builder, 4, first_step=4000, batch_size=16)
    assert len(set(names(np.concatenate(far)))) == SIZE


def test_order_depends_on_the_seed_alone(builder, stream):
    again, other = (batches(builder, 2, seed=seed) for seed in (0, 1))
    np.testing.assert_array_equal(again, stream[:2])
    assert not np.array_equal(other, stream[:2])


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Videos of our own that do not compress: train is a good 20 MB."""
    folder = tmp_path_factory.mktemp("recorded")
    rng = np.random.default_rng(0)
    for index in range(8):
        video = rng.integers(0, 255, (3, 16, 256, 256, 1), np.uint8)
        np.save(folder / f"{index}.npy", video)
    where = str(folder / "data")
    builder = data.open_videos(
        folder, where, channels=1, image_size=256, clip_frames=4, fps=8
    )
    return data.get_builder(data.dataset_name(builder), where)


@pytest.fixture(scope="module")
def sharded(data_dir):
    """A split in four files, of which the stream takes sixteen in turn."""
    config = tfds_physics.PhysicsConfig(
        name="sharded",
        image_size=8,
        num_frames=3,
        num_train=150,
        num_validation=0,
        num_test=0,
        num_test_long=0,
        num_validation_long=0,
    )
    builder = tfds.builder(
        "physics_pendulum", config=config, data_dir=str(data_dir)
    )
    files = tfds.download.DownloadConfig(num_shards=4)
    builder.download_and_prepare(download_config=files)
    assert len(builder.info.splits["train"].filepaths) == 4
    return builder


def rows_in_memory(builder, seed, epochs):
    """What the batches are made of, told by TFDS's stream of the split."""
    stored = np.stack(
        [row["video"] for row in tfds.as_numpy(builder.as_dataset("train"))]
    )
    orders = [
        tf.random.experimental.stateless_shuffle(
            tf.range(len(stored)), tf.constant([seed, epoch], tf.int64)
        )
        for epoch in range(epochs)
    ]
    return stored[np.concatenate(orders)]


@pytest.mark.parametrize("kind", ["builder", "sharded", "recorded"])
def test_order_is_a_permutation_of_tfds_order_per_epoch(kind, request):
    """What every run since the first version has seen, byte for byte."""
    builder = request.getfixturevalue(kind)
    size = builder.info.splits["train"].num_examples
    batch_size = size // 3 + 1  # the third batch crosses into the next epoch
    rows = rows_in_memory(builder, seed=5, epochs=2)
    found = batches(builder, 5, seed=5, batch_size=batch_size)
    np.testing.assert_array_equal(np.concatenate(found), rows[: 5 * batch_size])


def test_stream_goes_on_from_every_step(sharded):
    """An epoch is six batches and a quarter."""
    whole = batches(sharded, 8)
    for step in range(8):
        rest = batches(sharded, 8 - step, step)
        np.testing.assert_array_equal(rest, whole[step:])


def test_reads_side_by_side_keep_the_order(sharded, monkeypatch):
    expected = batches(sharded, 8)
    monkeypatch.setattr(
        tfds_physics.preparation, "is_local", lambda path: False
    )
    np.testing.assert_array_equal(batches(sharded, 8), expected)


def test_replicas_share_a_batch_without_another_order(sharded):
    """Of two workers, each takes its half of the rows of every batch."""
    stream = data.training_batches(sharded, BATCH, 0, 0, True)
    policy = stream.options().experimental_distribute.auto_shard_policy
    assert policy is tf.data.experimental.AutoShardPolicy.DATA


def held_bytes():
    """Memory of this process that is no file's."""
    status = pathlib.Path("/proc/self/status")
    if not status.exists():
        pytest.skip("the system does not tell the memory of a process")
    (line,) = (x for x in status.read_text().splitlines() if "RssAnon" in x)
    return 1024 * int(line.split()[1])


def test_memory_does_not_hold_the_split(recorded, builder):
    paths = recorded.info.splits["train"].filepaths
    size = sum(path.stat().length for path in paths)
    next(iter(data.training_batches(builder, BATCH, 0)))  # what TF loads once
    before = held_bytes()
    stream = data.training_batches(recorded, 2, 0).as_numpy_iterator()
    for _ in range(recorded.info.splits["train"].num_examples):
        next(stream)
    # A few batches of 1 MB are on their way.
    assert held_bytes() - before < size / 3


def test_loaded_videos_are_not_held_twice(recorded):
    tracemalloc.start()
    split = data.load_split(recorded, "train")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert split.video.nbytes < peak < 1.5 * split.video.nbytes


def copy_of(builder, folder):
    """The same dataset elsewhere, and the last of the files of its train."""
    name = data.dataset_name(builder)
    there = folder / name / str(builder.version)
    shutil.copytree(builder.data_dir, there)
    copy = tfds.builder_from_directory(str(there))
    return copy, pathlib.Path(copy.info.splits["train"].filepaths[-1])


def test_altered_video_is_told_in_one_line(sharded, tmp_path):
    """Wherever it is read: in a batch, by Keras, in a part, in the mean."""
    copy, path = copy_of(sharded, tmp_path)
    stream = data.training_batches(copy, 100, 0)
    content = bytearray(path.read_bytes())
    content[-100] ^= 1  # of the last video
    path.write_bytes(content)
    model = keras.Sequential([keras.layers.Flatten()])
    model.compile(jit_compile=False)
    for read in (
        lambda: list(stream.take(2)),
        lambda: model.predict(stream, steps=2, verbose=0),
        lambda: data.load_split(copy, "train"),
        lambda: data.mean_image(copy),
    ):
        with pytest.raises(ValueError) as caught, data.intact(copy):
            read()
        line = str(caught.value)
        assert path.name in line and "record" in line and "\n" not in line
        assert f"Remove {path.parent} and prepare" in line
    with data.intact(copy):  # what is whole can be read
        assert len(data.load_split(copy, "train", 20)) == 20


def test_file_that_ends_early_is_refused_before_the_first_batch(
    sharded, tmp_path
):
    copy, path = copy_of(sharded, tmp_path)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ValueError, match=f"whole.*{path.name}.*ends past"):
        data.training_batches(copy, BATCH, 0)


def test_batches_of_files_that_tfds_does_not_stream_are_refused(tmp_path):
    builder = tfds.builder(
        "physics_pendulum/tiny", data_dir=tmp_path, file_format="array_record"
    )
    builder.download_and_prepare()
    with pytest.raises(ValueError, match="tfrecord. Received: array_record"):
        data.training_batches(builder, BATCH, 0)


@pytest.mark.parametrize("batch_size", [0, -1, SIZE + 1])
def test_batch_size_beyond_the_split_is_refused(builder, batch_size):
    with pytest.raises(ValueError, match="`batch_size` must be from 1 to 64"):
        data.training_batches(builder, batch_size, 0)


def test_split_gives_the_examples_of_the_recipe(builder, test_split):
    made = tfds_physics.make_examples(builder.recipe, "test", range(16))
    stored = {each["video"].tobytes(): each for each in made}
    assert len(test_split) == 16 and test_split.dt == 0.125
    for row, video in enumerate(test_split.video):
        example = stored[video.tobytes()]
        np.testing.assert_array_equal(test_split.q[row], example["q"])
        np.testing.assert_array_equal(test_split.p[row], example["p"])
        assert test_split.energy[row] == example["energy"][0]


def test_first_examples_of_a_split_are_its_first(builder, test_split):
    for count in (1, 5, 16, 1000):
        part = data.load_split(builder, "test", count)
        assert len(part) == min(count, 16)
        np.testing.assert_array_equal(part.video, test_split.video[:count])


def test_rows_of_trajectories_stay_together(test_split):
    part = test_split[3:7]
    assert len(part) == 4 and part.dt == test_split.dt
    for name in ("video", "q", "p", "energy"):
        np.testing.assert_array_equal(
            getattr(part, name), getattr(test_split, name)[3:7]
        )


def test_long_splits_are_longer(builder):
    for split, shape in [("test_long", (4, 240)), ("validation_long", (8, 60))]:
        assert data.load_split(builder, split).video.shape[:2] == shape


@pytest.fixture(scope="module")
def long_builder(data_dir):
    """A dataset whose training videos are longer than the others."""
    config = tfds_physics.PhysicsConfig(
        name="longer",
        num_frames=5,
        num_train_frames=12,
        num_train=6,
        num_validation=2,
        num_test=2,
        num_test_long=0,
        num_validation_long=0,
    )
    builder = tfds.builder(
        "physics_three_body", config=config, data_dir=str(data_dir)
    )
    builder.download_and_prepare()
    return builder


def test_longer_training_videos_are_batched_whole(long_builder):
    stream = data.training_batches(long_builder, 4, 0, reversed_videos=True)
    assert stream.element_spec.shape == (4, 12, 32, 32, 3)
    stored = names(data.load_split(long_builder, "train").video)
    batch = next(iter(stream)).numpy()
    shown = np.concatenate([batch[:2], batch[2:, ::-1]])
    assert len(set(names(shown)) & set(stored)) == 4
    assert data.load_split(long_builder, "test").video.shape[1] == 5


def test_first_frames_of_training_videos_alone_are_batched(long_builder):
    whole = next(iter(data.training_batches(long_builder, 4, 0))).numpy()
    stream = data.training_batches(
        long_builder, 4, 0, reversed_videos=True, num_frames=7
    )
    assert stream.element_spec.shape == (4, 7, 32, 32, 3)
    found = next(iter(stream)).numpy()
    np.testing.assert_array_equal(found[:2], whole[:2, :7])
    np.testing.assert_array_equal(found[2:], whole[2:, 6::-1])


@pytest.mark.parametrize("num_frames", [0, -1, 13])
def test_more_frames_than_a_video_has_are_refused(long_builder, num_frames):
    with pytest.raises(ValueError, match="`num_frames` must be from 1 to 12"):
        data.training_batches(long_builder, 4, 0, num_frames=num_frames)


def test_mean_image_is_of_as_many_frames_as_are_tested(long_builder):
    video = data.load_split(long_builder, "train").video[:, :5] / 255.0
    image = data.mean_image(long_builder)
    np.testing.assert_allclose(image, video.mean(axis=(0, 1)), atol=1e-12)


def test_examples_made_anew_must_be_some(builder):
    with pytest.raises(ValueError, match="`indices` must name an example"):
        data.make_trajectories(builder.recipe, "test", [])


def test_true_video_at_the_frames_is_the_clean_recording(builder, test_split):
    recipe = dataclasses.replace(builder.recipe, noise=0.0)
    clean = tfds_physics.make_examples(recipe, "test", range(16))
    by_start = {tuple(each["q"][0]): each["video"] for each in clean}
    expected = np.stack([by_start[tuple(q[0])] for q in test_split.q])
    times = test_split.dt * np.arange(30)
    video = data.true_video(builder, test_split, times)
    assert video.dtype == np.uint8
    # States are kept as float32: a grey level more or less.
    difference = video.astype(int) - expected
    assert np.abs(difference).max() <= 1


def test_physics_fitted_to_noisy_frames_gets_below_their_floor():
    """Two numbers fitted to 30 frames leave about 28/30 of the noise."""
    recipe = data.get_builder("physics_mass_spring/small").recipe
    system, rows = recipe.system, 30
    test = data.make_trajectories(recipe, "test", range(rows))
    grid = np.linspace(-1.5, 1.5, 121)
    drawn, _ = tfds_physics.expected_video(
        system, grid[:, None], recipe.noise, recipe.image_size
    )
    drawn = drawn.reshape(len(grid), -1)
    frames = test.video.reshape(rows, 30, -1) / np.float32(255)
    # Error of the expected frame of each place, for every frame.
    errors = (
        np.square(frames).mean(-1, keepdims=True)
        - 2 * frames @ drawn.T / drawn.shape[1]
        + np.square(drawn).mean(-1)
    )
    rate = np.sqrt(system.stiffness / system.mass)
    angles = rate * test.dt * np.arange(30)

    def error(start, row):
        places = start[0] * np.cos(angles) + start[1] * np.sin(angles)
        along = zip(places, errors[row])
        return np.mean([np.interp(q, grid, each) for q, each in along])

    starts = test.q[:, 0, 0], test.p[:, 0, 0] / (system.mass * rate)
    floor = [error(start, row) for row, start in enumerate(zip(*starts))]
    fitted = [
        minimize(error, start, (row,), method="Nelder-Mead").fun
        for row, start in enumerate(zip(*starts))
    ]
    assert 0.9 < np.mean(fitted) / np.mean(floor) < 0.96


def test_motion_fitted_to_noisy_frames_is_that_of_least_squares():
    """On a spring it is known: a cosine and a sine through the places."""
    recipe = data.get_builder("physics_mass_spring/small").recipe
    system, seen = recipe.system, 30
    test = data.make_trajectories(recipe, "test", range(6))
    video = test.video[:, :seen] / np.float32(255)
    found = data.fitted_motions(recipe, video, 50)
    angles = np.sqrt(system.stiffness / system.mass) * test.dt * np.arange(50)
    waves = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    places = tfds_physics.read_frames(system, video).q[..., 0]
    sizes, *_ = np.linalg.lstsq(waves[:seen], places.T, rcond=None)
    np.testing.assert_allclose(found[..., 0], (waves @ sizes).T, atol=2e-3)
    # Noise hides the true state, and only noise does.
    assert np.abs(found[:, :seen] - test.q).max() > 5e-3
    clean = dataclasses.replace(recipe, noise=0.0)
    test = data.make_trajectories(clean, "test", range(6))
    found = data.fitted_motions(clean, test.video / np.float32(255), 30)
    np.testing.assert_allclose(found, test.q, atol=5e-3)
    for frames in (1, 6):
        with pytest.raises(ValueError, match="7 times at least"):
            data.fitted_motions(recipe, video[:, :frames], 30)


def test_true_video_runs_back_and_at_other_speeds(builder, test_split):
    """Back from the middle of a recording it meets its start again."""
    middle = dataclasses.replace(
        test_split, q=test_split.q[:, 10:], p=test_split.p[:, 10:]
    )
    back = data.true_video(builder, middle, -0.125 * np.arange(11))
    forth = data.true_video(builder, test_split, 0.125 * np.arange(11))
    difference = back[:, ::-1].astype(int) - forth
    assert np.abs(difference).max() <= 1
    fine = data.true_video(builder, test_split, 0.0625 * np.arange(21))
    assert np.abs(fine[:, ::2].astype(int) - forth).max() <= 1


def test_no_frame_is_predicted_better_than_by_the_expected_one(
    builder, test_split
):
    recorded = test_split.video / 255.0
    mean, variance = data.expected_frames(builder, test_split, 64)
    assert mean.shape == variance.shape == recorded.shape
    error = np.square(recorded - mean).mean()
    # The mean of 64 samples adds a 64th; 480 recorded frames are a sample.
    assert error == pytest.approx(variance.mean() * 65 / 64, rel=0.1)
    times = test_split.dt * np.arange(30)
    clean = data.true_video(builder, test_split, times) / 255.0
    assert error < 0.9 * np.square(recorded - clean).mean()


def test_mean_image_is_the_mean_over_frames(builder):
    video = data.load_split(builder, "train").video / 255.0
    image = data.mean_image(builder)
    np.testing.assert_allclose(image, video.mean(axis=(0, 1)), atol=1e-12)
    few = data.mean_image(builder, 3)
    np.testing.assert_allclose(few, video[:3].mean(axis=(0, 1)), atol=1e-12)


def test_name_without_config_is_the_default(data_dir):
    builder = data.get_builder("physics_two_body", str(data_dir))
    assert builder.builder_config.name == "paper"


@pytest.mark.parametrize("name", data.DATASETS)
def test_every_dataset_has_a_builder(name, data_dir):
    assert data.get_builder(f"{name}/tiny", str(data_dir)).name == name


@pytest.mark.parametrize("name", ["pendulum", "mnist/small", "", "/tiny"])
def test_unknown_dataset_is_refused_with_the_known_ones(name):
    with pytest.raises(ValueError, match="one of.*physics_pendulum.*Received"):
        data.get_builder(name)


def test_unknown_config_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="config of.*'small'.*'smal'"):
        data.get_builder("physics_pendulum/smal")


def test_unknown_split_is_refused(builder):
    with pytest.raises(ValueError, match="split must be.*'test_long'.*'valid'"):
        data.load_split(builder, "valid")


@pytest.mark.parametrize("count", [0, -3])
def test_empty_part_of_a_split_is_refused(builder, count):
    with pytest.raises(ValueError, match="`num_examples` must be at least 1"):
        data.load_split(builder, "test", count)
