"""Files are whole or not there, and read back as they were written."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from hgn_tf import files


def test_failed_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    files.write_whole(path, b"old")

    def full_disk(*args):
        raise OSError("No space left on device")

    monkeypatch.setattr("os.replace", full_disk)
    with pytest.raises(OSError, match="No space"):
        files.write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_writer_leaves_is_told_by_its_name(tmp_path):
    with files.replacing(tmp_path / "model.keras") as partial:
        assert files.is_partial(partial) and partial.suffix == ".keras"
        partial.write_bytes(b"half")
        assert not (tmp_path / "model.keras").exists()
    assert not files.is_partial(tmp_path / "model.keras")
    assert [path.name for path in tmp_path.iterdir()] == ["model.keras"]


# The module alone: its package would bring TensorFlow.
KILLED = f"""
import importlib.util, os, signal

spec = importlib.util.spec_from_file_location("files", {files.__file__!r})
files = importlib.util.module_from_spec(spec)
spec.loader.exec_module(files)
with files.replacing("log.csv") as partial:
    partial.write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there are no locks")
def test_what_a_killed_writer_left_goes_with_the_next_write(tmp_path):
    process = subprocess.run([sys.executable, "-c", KILLED], cwd=tmp_path)
    assert process.returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    assert files.is_partial(left) and left.read_bytes() == b"half"
    others = [tmp_path / "partial-7-my-log.csv", tmp_path / "partial-log.csv"]
    for other in others:
        other.write_bytes(b"somebody's")
    files.write_whole(tmp_path / "log.csv", b"new")
    assert set(tmp_path.iterdir()) == {tmp_path / "log.csv", *others}


@pytest.mark.skipif(sys.platform == "win32", reason="there are no locks")
def test_what_another_writes_is_left_alone(tmp_path, monkeypatch):
    path = tmp_path / "log.csv"
    with files.replacing(path) as first:
        first.write_bytes(b"first")
        with monkeypatch.context() as patch:
            patch.setattr(os, "getpid", lambda: 1)  # as another process
            files.write_whole(path, b"second")
        assert path.read_bytes() == b"second"
    assert path.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [path]


def test_files_take_their_places_together(tmp_path, room):
    contents = {"card.json": b"new", "weights.npz": b"x" * 5000}
    (tmp_path / "card.json").write_bytes(b"old")
    with room(1000), pytest.raises(OSError, match="weights.npz"):
        files.write_together(tmp_path, contents)
    assert [path.name for path in tmp_path.iterdir()] == ["card.json"]
    assert (tmp_path / "card.json").read_bytes() == b"old"
    files.write_together(tmp_path, contents)
    assert (tmp_path / "card.json").read_bytes() == b"new"


def test_json_and_arrays_come_back_and_nan_as_null(tmp_path):
    value = {"a": 1.5, "b": {"c": float("nan")}, "d": [1, "two"]}
    files.write_json(tmp_path / "x.json", value)
    expected = {**value, "b": {"c": None}}
    assert files.read_json(tmp_path / "x.json") == expected
    arrays = {"x": np.arange(3), "y": np.ones((2, 2), np.float16)}
    files.write_arrays(tmp_path / "x.npz", arrays)
    found = files.read_arrays(tmp_path / "x.npz")
    assert list(found) == ["x", "y"]
    for name in arrays:
        np.testing.assert_array_equal(found[name], arrays[name])
        assert found[name].dtype == arrays[name].dtype


def test_json_that_is_no_dictionary_is_refused(tmp_path):
    for text, kind in (("3", "int"), ("[]", "list"), ('[["a", 1]]', "list")):
        (tmp_path / "x.json").write_text(text)
        with pytest.raises(ValueError, match=f"a dictionary.*x.json.* {kind}"):
            files.read_json(tmp_path / "x.json")


@pytest.mark.parametrize(
    "name, error, message",
    [
        (".", IsADirectoryError, "a folder"),
        ("nowhere/x.gif", FileNotFoundError, "make .*nowhere first"),
    ],
)
def test_places_of_no_file_are_refused(tmp_path, name, error, message):
    with pytest.raises(error, match=message):
        files.write_whole(tmp_path / name, b"")
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_told_with_the_name_of_the_file(tmp_path, room):
    path = tmp_path / "page.html"
    files.write_whole(path, b"old")
    with room(1000), pytest.raises(OSError, match=r"\[Errno .*page.html"):
        files.write_whole(path, b"x" * 5000)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_places_are_checked_before_the_work(tmp_path):
    assert files.check_place(tmp_path / "x.GIF", (".gif",)).name == "x.GIF"
    with pytest.raises(ValueError, match=r"in one of \['.gif'\].*x.mp4"):
        files.check_place(tmp_path / "x.mp4", (".gif",))


def test_a_folder_has_one_user_at_a_time(tmp_path):
    with files.sole_user(tmp_path):
        with pytest.raises(BlockingIOError, match="by one process at a time"):
            with files.sole_user(tmp_path):
                pass
    with files.sole_user(tmp_path):
        assert not list(tmp_path.iterdir())
