"""Preparation: by Beam, in part, under mocks, in buckets and formats."""

import contextlib
import importlib.util
import os
import pathlib
import pickle
import shutil
import signal
import subprocess
import sys
import time

import filelock
import numpy as np
import psutil
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

import tfds_physics
from tfds_physics import pictures, preparation
from tfds_physics.hnn import pixel_pendulum
from tfds_physics.hnn.builders import HNNPendulum, HNNTwoBody
from tfds_physics.hnn.pixel_pendulum import HNNPixelPendulum
from tfds_physics.video import examples
from tfds_physics.video.builder import PhysicsPendulum

needs_beam = pytest.mark.skipif(
    importlib.util.find_spec("apache_beam") is None,
    reason="Apache Beam is not installed",
)
ROOT = pathlib.Path(tfds_physics.__file__).parent.parent
TWO_THREADS = "direct_num_workers=2,direct_running_mode=multi_threading"
TWO_PROCESSES = "direct_num_workers=2,direct_running_mode=multi_processing"


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """The smallest dataset, prepared."""
    folder = tmp_path_factory.mktemp("rows")
    builder = HNNPendulum(config="tiny", data_dir=folder)
    builder.download_and_prepare()
    return builder


def few(name="few", **changes):
    sizes = dict.fromkeys((f"num_{split}" for split in examples.SPLITS), 0)
    return tfds_physics.PhysicsConfig(name=name, **sizes | changes)


def settings(**changes):
    return tfds.download.DownloadConfig(try_download_gcs=False, **changes)


def by_beam(options, **changes):
    parsed = tfds_physics.parse_beam_options(options)
    return settings(beam_options=parsed, **changes)


def stored(builder):
    """Split -> what is in the files of each example, sorted."""
    found = {}
    for split in builder.info.splits:
        paths = map(os.fspath, builder.info.splits[split].filepaths)
        found[split] = sorted(
            sorted(
                (name, value.SerializeToString())
                for name, value in tf.train.Example.FromString(
                    record.numpy()
                ).features.feature.items()
            )
            for record in tf.data.TFRecordDataset(list(paths))
        )
    return found


def files_below(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


@needs_beam
def test_two_workers_of_beam_make_the_same_bytes(tiny, tmp_path):
    builder = tfds.builder("physics_two_body/tiny", data_dir=tmp_path)
    builder.download_and_prepare(download_config=by_beam(TWO_THREADS))
    builder.check_whole()
    assert stored(builder) == stored(tiny)


@needs_beam
@pytest.mark.parametrize("kind", [HNNTwoBody, HNNPixelPendulum])
def test_beam_makes_the_same_rows(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(pixel_pendulum, "swing", _swing)
    plain, beam = (
        kind(config="tiny", data_dir=tmp_path / name) for name in ("1", "2")
    )
    plain.download_and_prepare()
    beam.download_and_prepare(download_config=by_beam("runner=DirectRunner"))
    assert stored(beam) == stored(plain)


def _swing(rng, num_points, change):
    """Needs no gymnasium."""
    names = ("angle", "velocity", "time")
    return {
        "x": rng.rand(num_points, 1568),
        "dx_dt": rng.rand(num_points, 1568),
        **{name: rng.rand(num_points) for name in names},
    }


@needs_beam
def test_beam_stops_at_the_limit(rows, tmp_path):
    config = by_beam("runner=DirectRunner", max_examples_per_split=5)
    builder = HNNPendulum(config="tiny", data_dir=tmp_path)
    builder.download_and_prepare(download_config=config)
    cut = stored(builder)
    assert [len(found) for found in cut.values()] == [5, 5]
    assert all(row in stored(rows)["train"] for row in cut["train"])


@needs_beam
@pytest.mark.parametrize(
    "changes, error, rule",
    [
        (
            {"beam_options": "direct_num_workers=2"},
            TypeError,
            "PipelineOptions",
        ),
        (
            {"beam_runner": "DirectRunner", "nondeterministic_order": True},
            ValueError,
            "`num_shards` must be given",
        ),
    ],
)
def test_beam_refuses_what_it_cannot_do(changes, error, rule, tmp_path):
    builder = HNNPendulum(config="tiny", data_dir=tmp_path)
    with pytest.raises(error, match=rule):
        builder.download_and_prepare(download_config=settings(**changes))
    assert not list(tmp_path.rglob("incomplete.*"))


def test_missing_beam_is_told(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "apache_beam.options", None)
    monkeypatch.setitem(
        sys.modules, "apache_beam.options.pipeline_options", None
    )
    with pytest.raises(ImportError, match=r"pip install 'hgn-tf\[beam\]'"):
        tfds_physics.parse_beam_options("direct_num_workers=2")
    builder = HNNPendulum(config="tiny", data_dir=tmp_path)
    with pytest.raises(ImportError, match="Apache Beam must be installed"):
        builder.download_and_prepare(
            download_config=settings(beam_runner="DirectRunner")
        )


# No `if __name__ == "__main__"`: workers must not run the script again.
SCRIPT = """
import dataclasses
import sys

import tensorflow_datasets as tfds

import tfds_physics
from tfds_physics.systems import Pendulum


@dataclasses.dataclass(frozen=True)
class Moon(Pendulum):
    gravity: float = 1.62


config = tfds_physics.PhysicsConfig(
    name="moon",
    system=Moon(),
    num_train={num_train},
    num_validation=0,
    num_test=1,
    num_test_long=0,
    num_validation_long=0,
)
builder = tfds.builder("physics_pendulum", config=config, data_dir=sys.argv[1])
options = tfds_physics.parse_beam_options("{options}")
builder.download_and_prepare(
    download_config=tfds.download.DownloadConfig(
        beam_options=options, try_download_gcs=False
    )
)
builder.check_whole()
"""


def start(folder, num_train):
    script = folder / "prepare.py"
    script.write_text(SCRIPT.format(num_train=num_train, options=TWO_PROCESSES))
    return subprocess.Popen(
        [sys.executable, script, folder],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )


@needs_beam
@pytest.mark.slow
def test_own_system_of_a_script_goes_to_other_processes(tmp_path):
    assert start(tmp_path, num_train=3).wait() == 0


@needs_beam
@pytest.mark.slow
def test_killed_preparation_leaves_nothing_in_the_way(tmp_path):
    process = start(tmp_path, num_train=600)
    while not list(tmp_path.rglob("incomplete.*")) or not (
        children := psutil.Process(process.pid).children(recursive=True)
    ):
        assert process.poll() is None
        time.sleep(0.05)
    time.sleep(2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    # A worker that has not yet reached the caller gives up after a minute.
    _, alive = psutil.wait_procs(children, timeout=300)
    assert not alive
    assert list(tmp_path.rglob("incomplete.*"))
    assert start(tmp_path, num_train=600).wait() == 0
    assert not list(tmp_path.rglob("incomplete.*"))


def test_half_of_the_shared_metadata_goes_with_the_next_preparation(tmp_path):
    dataset = tmp_path / "hnn_pendulum"
    half = dataset / ".config" / f"incomplete.{'0' * 32}.metadata.json"
    other = dataset / "paper" / ".1.0.0.lock"
    for path in (half, other):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"")
    place = dataset / "tiny" / "1.0.0"
    with filelock.FileLock(other):  # It may be that process's half.
        with preparation.sole_writer(place):
            assert half.exists()
    with preparation.sole_writer(place):
        assert not half.exists()


@pytest.mark.parametrize("dataset", ["physics_pendulum", "hnn_pendulum"])
@pytest.mark.parametrize("policy", ["AUTO", "USE_CODE"])
def test_mock_works_and_writes_nothing(dataset, policy, tmp_path, monkeypatch):
    monkeypatch.setattr(preparation, "sole_writer", _no_lock)
    metadata = pathlib.Path(tfds.testing.__file__).with_name("metadata")
    with tfds.testing.mock_data(
        num_examples=2, policy=tfds.testing.MockPolicy[policy]
    ):
        name = f"{dataset}/tiny"
        train = tfds.load(name, split="train", data_dir=tmp_path)
        assert len(list(train)) == 2
        assert len(tfds.data_source(name, split="train")) == 2
    assert not list(tmp_path.iterdir())
    assert not (metadata / dataset).exists()


@contextlib.contextmanager
def _no_lock(data_path):
    pytest.fail(f"{data_path} would be locked")
    yield


def test_mock_of_prepared_metadata_writes_nothing(rows):
    before = files_below(pathlib.Path(rows.data_dir_root))
    with tfds.testing.mock_data(
        num_examples=2,
        policy=tfds.testing.MockPolicy.USE_FILES,
        data_dir=rows.data_dir_root,
    ):
        assert len(tfds.load("hnn_pendulum/tiny", split="test")) == 2
    assert files_below(pathlib.Path(rows.data_dir_root)) == before


@pytest.mark.parametrize("kind", [PhysicsPendulum, HNNPendulum])
def test_bucket_gets_no_local_lock(kind, tmp_path, monkeypatch):
    class Reached(Exception):
        pass

    def stop(**_):
        raise Reached

    monkeypatch.chdir(tmp_path)
    bucket = tfds.core.Path("gs://bucket/data")
    monkeypatch.setattr(type(bucket), "exists", lambda path: False)
    builder = kind(config="tiny", data_dir=bucket)
    assert not preparation.is_local(builder.data_path)
    monkeypatch.setattr(builder, "_make_download_manager", stop)
    with pytest.raises(Reached):  # all that comes before TFDS's writing
        builder.download_and_prepare(download_config=settings())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("folder", ["hdfs://host/data", "file:///tmp/data"])
def test_unknown_file_systems_are_refused(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="`data_dir` must be a local path"):
        HNNPendulum(config="tiny", data_dir=folder)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["hnn_pendulum", "physics_two_body"])
def test_read_only_data_are_read(name, rows, tiny, tmp_path):
    source = rows if name == rows.name else tiny
    folder = tmp_path / "data" / name / "tiny" / str(source.version)
    shutil.copytree(source.data_dir, folder)
    before = files_below(tmp_path)
    for path in [*folder.parents][:3] + [folder]:
        path.chmod(0o555)
    try:
        loaded = tfds.load(
            f"{name}/tiny", split="test", data_dir=tmp_path / "data"
        )
        assert len(list(loaded)) == source.info.splits["test"].num_examples
        builder = tfds.builder(f"{name}/tiny", data_dir=tmp_path / "data")
        builder.download_and_prepare()
        # Root may write where it should not, so look.
        assert files_below(tmp_path) == before
    finally:
        for path in [*folder.parents][:3] + [folder]:
            path.chmod(0o755)


@pytest.mark.parametrize("limit", [7, 0])
def test_part_of_a_dataset_is_told_from_the_whole(limit, rows, tmp_path):
    rows.check_whole()
    assert "max_examples_per_split" not in rows.info.metadata
    cut = HNNPendulum(config="tiny", data_dir=tmp_path)
    few = settings(max_examples_per_split=limit)
    cut.download_and_prepare(download_config=few)
    again = HNNPendulum(config="tiny", data_dir=tmp_path)
    assert again.info.metadata["max_examples_per_split"] == limit
    missing = f"{limit} of 180 examples of train, {limit} of 90 examples of te"
    with pytest.raises(ValueError, match=missing):
        again.check_whole()
    mode = tfds.download.GenerateMode.REUSE_CACHE_IF_EXISTS
    again.download_and_prepare(download_config=settings(download_mode=mode))
    again.check_whole()
    whole = HNNPendulum(config="tiny", data_dir=tmp_path)
    assert whole.info.metadata == rows.info.metadata


def test_reader_of_a_part_is_warned(rows, tmp_path, recwarn):
    cut = HNNPendulum(config="tiny", data_dir=tmp_path)
    limit = settings(max_examples_per_split=7)
    cut.download_and_prepare(download_config=limit)
    rows.as_dataset(split="train")
    assert not [each for each in recwarn if "a part of" in str(each.message)]
    with pytest.warns(UserWarning, match="a part of the dataset: 7 of 180"):
        tfds.load("hnn_pendulum/tiny", split="train", data_dir=tmp_path)


def test_limit_above_the_splits_cuts_nothing(tmp_path):
    builder = HNNPendulum(config="tiny", data_dir=tmp_path)
    limit = settings(max_examples_per_split=180)
    builder.download_and_prepare(download_config=limit)
    builder.check_whole()
    assert "max_examples_per_split" not in builder.info.metadata


def test_a_few_examples_of_much_need_little_room(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(
        shutil, "disk_usage", lambda path: usage._replace(free=10_000_000)
    )
    builder = PhysicsPendulum(config="paper", data_dir=tmp_path)
    limit = settings(max_examples_per_split=1)
    builder.download_and_prepare(download_config=limit)
    assert builder.info.splits["train"].num_examples == 1


def test_rows_need_room_too(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(
        shutil, "disk_usage", lambda path: usage._replace(free=10_000)
    )
    builder = HNNTwoBody(config="paper", data_dir=tmp_path)
    with pytest.raises(OSError, match=r"room for about \d+\.\d MB"):
        builder.download_and_prepare()
    assert not list(tmp_path.iterdir())


def test_array_record_is_read_at_random(tiny, tmp_path):
    builder = PhysicsPendulum(
        config=few(num_train=2), data_dir=tmp_path, file_format="array_record"
    )
    builder.download_and_prepare(download_config=settings())
    source = builder.as_data_source(split="train")
    recipe, found = builder.recipe, source[1]
    index = int(found["id"].decode().rpartition("/")[2])
    (made,) = tfds_physics.make_examples(recipe, "train", [index])
    for name in ("video", "q", "energy"):
        np.testing.assert_array_equal(found[name], made[name])
    with pytest.raises(NotImplementedError, match="as_data_source"):
        builder.as_dataset(split="train")


def test_builder_goes_to_other_processes_with_its_format(tmp_path):
    builder = HNNPendulum(
        config="tiny", data_dir=tmp_path, file_format="array_record"
    )
    copy = pickle.loads(pickle.dumps(builder))
    assert copy.info.file_format == builder.info.file_format
    assert copy.data_dir == builder.data_dir


@pytest.mark.parametrize(
    "options, sizes",
    [
        (["hnn_pendulum/tiny", "--max_examples_per_split", "3"], (3, 3)),
        (["hnn_pendulum", "--config", "tiny", "--num_shards", "2"], (180, 90)),
        (
            ["hnn_pendulum", "--config", '{"name": "a", "num_train": 1}'],
            (45, 25 * 45),
        ),
    ],
)
def test_command_tfds_build_does_what_it_documents(options, sizes, tmp_path):
    pytest.importorskip("apache_beam")
    pytest.importorskip("mlcroissant")
    from tensorflow_datasets.scripts.cli import main as cli

    common = ["--imports", "tfds_physics", "--data_dir", str(tmp_path)]
    with contextlib.redirect_stdout(None):
        cli.main(cli._parse_flags(["tfds", "build", *options, *common]))
    (info,) = tmp_path.rglob("dataset_info.json")
    found = tfds.builder_from_directory(info.parent).info.splits
    assert (found["train"].num_examples, found["test"].num_examples) == sizes


@needs_beam
@pytest.mark.slow
def test_command_tfds_build_makes_configs_side_by_side(tmp_path):
    pytest.importorskip("mlcroissant")
    command = (
        "from tensorflow_datasets.scripts.cli.main import launch_cli; "
        "launch_cli()"
    )
    options = (
        "build hnn_pendulum --imports tfds_physics --num-processes 2 "
        f"--max_examples_per_split 2 --data_dir {tmp_path} "
        "--file_format array_record"
    )
    subprocess.run(
        [sys.executable, "-c", command, *options.split()],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=True,
    )
    for config in HNNPendulum.builder_configs:
        found = tfds.builder(f"hnn_pendulum/{config}", data_dir=tmp_path)
        assert found.info.splits["train"].num_examples == 2
        assert found.info.file_format is tfds.core.FileFormat.ARRAY_RECORD


@pytest.mark.slow
def test_import_needs_nothing_of_posix():
    lines = (
        "import sys",
        *(
            f"sys.modules[{name!r}] = None"
            for name in ("fcntl", "resource", "pwd", "grp", "termios")
        ),
    )
    code = "; ".join([*lines, "import tfds_physics, hgn_tf.cli"])
    subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=True,
    )


def test_files_name_no_class_of_this_package(tiny):
    text = (pathlib.Path(tiny.data_dir) / "features.json").read_text()
    assert "tfds_physics" not in text
    plain = tfds.builder_from_directory(tiny.data_dir)
    assert type(plain.info.features["video"]) is tfds.features.Tensor


def test_dataframe_shows_a_moving_picture(tiny):
    video = next(iter(tfds.as_numpy(tiny.as_dataset(split="test"))))["video"]
    feature = tiny.info.features["video"]
    assert isinstance(feature, pictures.Frames)
    assert 'src="data:image/gif;base64,R0lGOD' in feature.repr_html(video)


@pytest.mark.filterwarnings("ignore:.*non-interactive")
def test_show_examples_draws_videos_and_rows(tiny, rows):
    strips = tfds.show_examples(tiny.as_dataset(split="test"), tiny.info)
    shapes = {each.get_images()[0].get_array().shape for each in strips.axes}
    assert len(strips.axes) == 9 and shapes == {(32, 6 * 32, 3)}
    read = tfds.builder_from_directory(tiny.data_dir)
    tfds.show_examples(read.as_dataset(split="test"), read.info, rows=1)
    arrows = tfds.show_examples(rows.as_dataset(split="test"), rows.info)
    assert arrows.axes[0].collections[0].N == 9
