"""The datasets: same bytes everywhere, whole folders, clear errors."""

import dataclasses
import errno
import hashlib
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import psutil
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

import tfds_physics
from tfds_physics import SYSTEMS, PhysicsConfig, make_examples, preparation
from tfds_physics.video import examples, workers
from tfds_physics.video.builder import (
    PhysicsDoublePendulum,
    PhysicsMassSpring,
    PhysicsPendulum,
    PhysicsThreeBody,
    PhysicsTwoBody,
)

BUILDERS = {
    "mass_spring": PhysicsMassSpring,
    "pendulum": PhysicsPendulum,
    "two_body": PhysicsTwoBody,
    "three_body": PhysicsThreeBody,
    "double_pendulum": PhysicsDoublePendulum,
}


class _Case:
    VERSION = "1.1.0"
    BUILDER_CONFIG_NAMES_TO_TEST = ["tiny"]
    EXAMPLE_DIR = os.path.dirname(__file__)  # nothing is read from it
    SKIP_CHECKSUMS = True
    SKIP_TF1_GRAPH_MODE = True
    SPLITS = {
        "train": 64,
        "validation": 16,
        "test": 16,
        "test_long": 4,
        "validation_long": 8,
    }


class MassSpringTest(_Case, tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = PhysicsMassSpring


class PendulumTest(_Case, tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = PhysicsPendulum


class TwoBodyTest(_Case, tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = PhysicsTwoBody


class ThreeBodyTest(_Case, tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = PhysicsThreeBody


class DoublePendulumTest(_Case, tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = PhysicsDoublePendulum


def few(name="few", **changes):
    sizes = dict.fromkeys((f"num_{split}" for split in examples.SPLITS), 0)
    sizes |= dict(num_train=6, num_test=2)
    return PhysicsConfig(name=name, **(sizes | changes))


def load_by_id(builder, split):
    rows = tfds.as_numpy(builder.as_dataset(split=split))
    return {row["id"].decode(): row for row in rows}


def assert_same_example(left, right):
    assert left.keys() == right.keys()
    for name, value in left.items():
        if name == "parameters":
            assert value.keys() == right[name].keys()
        elif name != "id":
            np.testing.assert_array_equal(value, right[name])
            assert np.asarray(value).shape == np.asarray(right[name]).shape


@pytest.fixture(scope="module")
def tiny(data_dir):
    builder = tfds.builder("physics_two_body/tiny", data_dir=data_dir)
    builder.download_and_prepare()
    return builder


def recipe(name="pendulum", config="tiny", **changes):
    builder = tfds.builder(f"physics_{name}/{config}")
    return dataclasses.replace(builder.recipe, **changes)


def test_every_system_has_a_builder():
    assert list(BUILDERS) == list(SYSTEMS)
    for name, builder in BUILDERS.items():
        assert builder.name == f"physics_{name}"
        assert builder.SYSTEM == name


def test_ready_configs_are_those_promised():
    configs = PhysicsPendulum.builder_configs
    sizes = {name: list(each.sizes.values()) for name, each in configs.items()}
    paper = [50_000, 5_000, 10_000, 1_000, 64]
    small = [20_000, 1_000, 2_000, 200, 64]
    assert sizes == {
        "paper": paper,
        "paper_64": paper,
        "clean": paper,
        "small": small,
        "small_clean": small,
        "long": [5_000, *small[1:]],
        "long_clean": [5_000, *small[1:]],
        "tiny": [64, 16, 16, 4, 8],
    }
    assert tfds.builder("physics_pendulum").builder_config.name == "paper"
    assert recipe(config="paper_64").image_size == 64
    assert recipe(config="clean").noise == recipe(config="small_clean").noise
    assert recipe(config="clean").noise == 0 and recipe().noise == 0.1


def test_splits_have_the_frames_promised():
    for config, num_train_frames in [("small", 30), ("long", 120)]:
        found = recipe(config=config)
        frames = {split: len(found.times(split)) for split in examples.SPLITS}
        assert frames == {
            "train": num_train_frames,
            "validation": 30,
            "test": 30,
            "test_long": 240,
            "validation_long": 60,
        }
    assert recipe(config="long_clean").num_train_frames == 120
    assert recipe(config="long").noise > recipe(config="long_clean").noise == 0


def test_loaded_examples_are_those_made_alone(tiny):
    frames = {"validation": 30, "test_long": 240, "validation_long": 60}
    for split, num_frames in frames.items():
        loaded = load_by_id(tiny, split)
        assert len(loaded) == tiny.builder_config.sizes[split]
        for name, example in list(loaded.items())[:3]:
            index = int(name.rpartition("/")[2])
            (made,) = make_examples(tiny.recipe, split, [index])
            assert made["id"] == name
            assert example["video"].shape == (num_frames, 32, 32, 3)
            assert example["q"].shape == (num_frames, 4)
            assert_same_example(example, made)


def test_states_of_an_example_obey_the_system(tiny):
    example = next(iter(load_by_id(tiny, "train").values()))
    system = tiny.recipe.system
    q, p = example["q"].astype(float), example["p"].astype(float)
    dH_dq, dH_dp = system.gradient(q, p)
    # Single precision, 6e-8, of values of order 1.
    np.testing.assert_allclose(example["dq_dt"], dH_dp, atol=1e-6)
    np.testing.assert_allclose(example["dp_dt"], -dH_dq, atol=1e-5)
    np.testing.assert_allclose(
        example["energy"], system.hamiltonian(q, p), atol=1e-5
    )
    np.testing.assert_allclose(np.ptp(example["energy"]), 0, atol=1e-6)
    np.testing.assert_array_equal(example["time"], 0.125 * np.arange(30))
    assert example["dt"] == 0.125
    assert example["parameters"] == system.parameters


def test_clean_video_shows_the_states_and_noisy_ones_do_not():
    (clean,) = make_examples(recipe(noise=0.0), "train", [3])
    (noisy,) = make_examples(recipe(), "train", [3])
    q = clean["q"]
    np.testing.assert_array_equal(q, noisy["q"])
    drawn = tfds_physics.render_video(SYSTEMS["pendulum"], q, 32).astype(int)
    # The state was rounded to single precision after it was drawn.
    assert np.abs(drawn - clean["video"]).max() <= 1
    assert np.abs(drawn - noisy["video"]).mean() > 1


GOLDEN = {
    "mass_spring": "e79ab64bf600bf14",
    "pendulum": "b70c21aa313f414d",
    "two_body": "fde1cbc1b8093db5",
    "three_body": "ff6401d4008f3a1c",
    "double_pendulum": "aad09f5bd5ec1893",
}


@pytest.mark.parametrize("name", BUILDERS)
def test_bytes_never_change(name):
    (example,) = make_examples(recipe(name), "train", [7])
    digest = hashlib.sha256()
    for feature in ("video", "q", "p", "energy"):
        digest.update(np.ascontiguousarray(example[feature]))
    digest.update(str(example["seed"]).encode())
    # If this must change, raise VERSION: prepared folders go by it.
    assert digest.hexdigest()[:16] == GOLDEN[name]


@pytest.mark.parametrize("name", BUILDERS)
def test_example_depends_on_its_index_alone(name, monkeypatch):
    whole = list(examples.iterate_examples(recipe(name), "test", 9))
    shuffled = make_examples(recipe(name), "test", [8, 2, 5])
    for index, example in zip([8, 2, 5], shuffled):
        assert_same_example(example, whole[index])
    monkeypatch.setattr(examples, "_CHUNK_BYTES", 3 * 30 * 32 * 32 * 3)
    for left, right in zip(
        whole, examples.iterate_examples(recipe(name), "test", 9), strict=True
    ):
        assert_same_example(left, right)


def test_workers_write_the_same_bytes(tmp_path):
    for num_workers in (1, 2):
        PhysicsPendulum(
            config=few(num_train=5),
            data_dir=tmp_path / str(num_workers),
            num_workers=num_workers,
        ).download_and_prepare()
    alone = {
        path.name: path.read_bytes()
        for path in (tmp_path / "1").rglob("*.tfrecord*")
    }
    assert alone and alone == {
        path.name: path.read_bytes()
        for path in (tmp_path / "2").rglob("*.tfrecord*")
    }


def test_seeds_differ_between_splits_and_configs():
    seeds = [
        examples.example_seed(dataset, config, split, index)
        for dataset in ("physics_pendulum", "physics_two_body")
        for config in ("paper", "small")
        for split in examples.SPLITS
        for index in (0, 1, 2, 49_999, 2**40 - 1)
    ]
    assert len(set(seeds)) == len(seeds) == 100
    assert min(seeds) >= 0 and max(seeds) < 2**63


def test_seeds_count_the_splits_in_the_order_of_their_addition():
    """Another order would change the bytes of data that were made before."""
    order = ("train", "validation", "test", "test_long", "validation_long")
    seeds = [
        examples.example_seed("physics_pendulum", "small", split, 5)
        for split in order
    ]
    assert seeds == [(seeds[0] + n * 2**40) % 2**63 for n in range(5)]


def test_seeds_and_examples_refuse_what_is_no_example():
    with pytest.raises(ValueError, match="`split` must be one of"):
        make_examples(recipe(), "valid", [0])
    with pytest.raises(ValueError, match="`index` must be"):
        make_examples(recipe(), "train", [-1])
    with pytest.raises(ValueError, match="`index` must be"):
        make_examples(recipe(), "train", [2**40])


def test_card_is_found(tiny):
    info = tiny.info
    assert "hangs at the bottom" in info.description
    assert "Toth" in info.citation
    assert info.features["q"].doc.desc.startswith("True positions")


def test_own_config_loads_through_tfds(tmp_path):
    own = few(
        "mine",
        image_size=16,
        dt=0.25,
        num_frames=7,
        system=tfds_physics.systems.Pendulum(potential_factor=1.0),
    )
    splits = tfds.load(
        "physics_pendulum",
        data_dir=tmp_path,
        builder_kwargs={"config": own},
    )
    assert set(splits) == {"train", "test"}  # sizes of 0 leave a split out
    example = next(iter(splits["train"]))
    assert example["video"].shape == (7, 16, 16, 3)
    assert example["parameters"]["potential_factor"] == 1.0


def test_prepared_data_of_other_settings_are_refused(tmp_path):
    PhysicsPendulum(config=few(), data_dir=tmp_path).download_and_prepare()
    again = PhysicsPendulum(config=few(), data_dir=tmp_path)
    assert again.info.splits["train"].num_examples == 6
    for change in ({"dt": 0.25}, {"num_train_frames": 40}):
        with pytest.raises(ValueError, match="must always stand for the same"):
            PhysicsPendulum(config=few(**change), data_dir=tmp_path)


def test_version_may_be_named(tiny):
    root = tiny.data_dir_root
    named = tfds.load(
        "physics_two_body/tiny:1.1.0", split="test", data_dir=root
    )
    assert len(named) == 16


@pytest.mark.parametrize(
    "change, rule",
    [
        ({"image_size": 7}, "`image_size` must be"),
        ({"image_size": 32.5}, "`image_size` must be"),
        ({"noise": -0.1}, "`noise` must be"),
        ({"noise": np.nan}, "`noise` must be"),
        ({"dt": 0}, "`dt` must be positive"),
        ({"dt": np.inf}, "`dt` must be positive"),
        ({"num_frames": 0}, "`num_frames` must be"),
        ({"num_train_frames": 0}, "`num_train_frames` must be"),
        ({"num_long_frames": 1.5}, "`num_long_frames` must be"),
        (
            {"num_validation_long_frames": 0},
            "`num_validation_long_frames` must be",
        ),
        ({"num_validation_long": -1}, "`num_validation_long` must be"),
        ({"num_train": -1}, "`num_train` must be"),
        ({"num_train": 0, "num_test": 0}, "At least one split"),
    ],
)
def test_config_refuses_bad_values(change, rule):
    with pytest.raises(ValueError, match=rule):
        few(**change)


def test_builder_refuses_bad_arguments(tmp_path):
    with pytest.raises(ValueError, match="`num_workers` must be"):
        PhysicsPendulum(num_workers=0, data_dir=tmp_path)
    with pytest.raises(TypeError, match="must be a System instance"):
        few(system="pendulum")
    with pytest.raises(TypeError, match="must be a Pendulum"):
        PhysicsPendulum(
            config=few(system=SYSTEMS["two_body"]), data_dir=tmp_path
        )
    with pytest.raises(TypeError, match="must be a PhysicsConfig"):
        PhysicsPendulum(
            config=tfds.core.BuilderConfig(name="x"), data_dir=tmp_path
        )


def test_orphan_folder_is_removed(tmp_path):
    builder = PhysicsPendulum(config=few(), data_dir=tmp_path)
    home = pathlib.Path(builder.data_dir).parent
    (home / "incomplete.ABCDEF_1.1.0").mkdir(parents=True)
    (home / "incomplete.ABCDEF_1.1.0" / "bucket.tmp").write_bytes(b"half")
    builder.download_and_prepare()
    assert not list(home.glob("incomplete.*"))
    assert len(load_by_id(builder, "train")) == 6


def test_second_writer_waits_and_then_reads(tmp_path):
    first, second = (
        PhysicsPendulum(config=few(), data_dir=tmp_path) for _ in range(2)
    )
    folder = pathlib.Path(first.data_dir)
    thread = threading.Thread(target=second.download_and_prepare)
    with preparation.sole_writer(folder):
        live = folder.parent / "incomplete.ABCDEF_1.1.0"
        live.mkdir()
        thread.start()
        time.sleep(0.5)
        assert thread.is_alive() and live.exists()
        live.rmdir()
    first.download_and_prepare()
    thread.join()
    for builder in (first, second):
        assert len(load_by_id(builder, "train")) == 6


def test_overwriting_makes_the_data_again(tmp_path):
    mode = tfds.download.GenerateMode.REUSE_CACHE_IF_EXISTS
    config = tfds.download.DownloadConfig(download_mode=mode)
    builder = PhysicsPendulum(config=few(), data_dir=tmp_path)
    builder.download_and_prepare()
    builder.download_and_prepare(download_config=config)
    assert len(load_by_id(builder, "train")) == 6


def test_full_disk_is_seen_before_the_work(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(
        shutil, "disk_usage", lambda path: usage._replace(free=10_000)
    )
    builder = PhysicsPendulum(config="paper", data_dir=tmp_path)
    with pytest.raises(OSError, match=r"about \d{3}\.\d MB") as caught:
        builder.download_and_prepare()
    assert caught.value.errno == errno.ENOSPC
    assert str(tmp_path) in str(caught.value)
    assert not list(tmp_path.rglob("*"))


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        tf.errors.ResourceExhaustedError(None, None, "No space left on device"),
        RuntimeError("ResourceExhaustedError: x; No space left on device"),
    ],
)
def test_full_disk_while_writing_loses_nothing(tmp_path, monkeypatch, error):
    done = PhysicsPendulum(config=few("done"), data_dir=tmp_path)
    done.download_and_prepare()

    def fill_disk(*_):
        yield from make_examples(recipe(), "train", [0])
        raise error

    monkeypatch.setattr(examples, "iterate_examples", fill_disk)
    builder = PhysicsPendulum(config=few(), data_dir=tmp_path)
    with pytest.raises(OSError, match="The disk must have room") as caught:
        builder.download_and_prepare()
    assert caught.value.errno == errno.ENOSPC
    assert not list(tmp_path.rglob("incomplete.*"))
    monkeypatch.undo()
    builder.download_and_prepare()
    for each in (done, builder):
        assert len(load_by_id(each, "train")) == 6


# No `if __name__ == "__main__"`: workers must not run the script again.
SCRIPT = """
import sys
from tfds_physics import PhysicsConfig
from tfds_physics.video.builder import PhysicsPendulum

config = PhysicsConfig(
    name="many",
    num_train=3000,
    num_validation=0,
    num_test=0,
    num_test_long=0,
    num_validation_long=0,
)
PhysicsPendulum(
    config=config, data_dir=sys.argv[1], num_workers=2
).download_and_prepare()
"""


@pytest.mark.slow
def test_killed_preparation_leaves_nothing_in_the_way(tmp_path):
    script = tmp_path / "prepare.py"
    script.write_text(SCRIPT)
    root = pathlib.Path(tfds_physics.__file__).parent.parent
    command = [sys.executable, str(script), str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": str(root)}
    process = subprocess.Popen(command, env=environment)
    while not list(tmp_path.rglob("incomplete.*")) or not (
        children := psutil.Process(process.pid).children(recursive=True)
    ):
        assert process.poll() is None
        time.sleep(0.05)
    time.sleep(2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    psutil.wait_procs(children, timeout=10)
    assert not any(worker.is_running() for worker in children)
    assert list(tmp_path.rglob("incomplete.*"))
    subprocess.run(command, env=environment, check=True)
    assert not list(tmp_path.rglob("incomplete.*"))
    assert len(list(tmp_path.rglob("*.tfrecord*"))) > 0


def test_map_keeps_order_and_passes_errors_on():
    assert list(workers.ordered_map(abs, range(-9, 0), 2)) == [*range(9, 0, -1)]
    assert list(workers.ordered_map(abs, [], 2)) == []
    with pytest.raises(TypeError, match="bad operand"):
        list(workers.ordered_map(abs, ["a", 1], 2))


def test_map_may_be_left_half_way():
    left = workers.ordered_map(abs, range(9), 2)
    other = workers.ordered_map(abs, range(10, 19), 2)
    assert [next(left), next(other), next(left), next(other)] == [0, 10, 1, 11]


def test_dead_worker_is_one_clear_error():
    with pytest.raises(RuntimeError, match="Worker processes must stay"):
        list(workers.ordered_map(os._exit, [1, 1], 2))
