"""The builders: promised configs, whole folders, clear errors."""

import errno
import os
import pathlib
import shutil
import threading
import time

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

import tfds_physics
from tfds_physics import SYSTEMS, PhysicsConfig, make_examples, preparation
from tfds_physics.video import builder as video_builder
from tfds_physics.video import examples
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


def recipe(config="tiny"):
    return tfds.builder(f"physics_pendulum/{config}").recipe


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
    with pytest.raises(TypeError, match="num_workers=2.$"):
        PhysicsPendulum(num_workers=2, data_dir=tmp_path)
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
        (example,) = make_examples(recipe(), "train", [0])
        yield example["id"], example
        raise error

    monkeypatch.setattr(video_builder, "_make_chunk", fill_disk)
    builder = PhysicsPendulum(config=few(), data_dir=tmp_path)
    with pytest.raises(OSError, match="The disk must have room") as caught:
        builder.download_and_prepare()
    assert caught.value.errno == errno.ENOSPC
    assert not list(tmp_path.rglob("incomplete.*"))
    monkeypatch.undo()
    builder.download_and_prepare()
    for each in (done, builder):
        assert len(load_by_id(each, "train")) == 6
