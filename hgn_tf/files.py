"""Files that are whole or not there: written beside, then renamed."""

import contextlib
import io
import json
import os
import pathlib
import re
import sys
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

_PARTIAL = "partial-"
_LONGEST_REASON = 200  # Keras quotes whole configs.


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[pathlib.Path]:
    """Gives a path beside `path`; at the end that file takes its place.

    If the body raises, what was written is removed and `path` is as it was.
    Only a process that is killed leaves the half of a file; `is_partial` tells
    it by its name, and who writes the same file next removes it.

    Args:
      path: Place of the file; what is there is replaced.
    Yields: A path in the same folder, with the same suffixes.
    Raises: OSError: if the file cannot be written, naming it: its folder is
      not there, the disk is full, and others.
    """
    path = check_place(path)
    partial = _partial(path)
    try:
        with beside(path):
            yield partial
            os.replace(partial, path)
    except OSError as error:
        # The system names the half that nobody asked for, or no file at all.
        if error.errno is None or error.filename not in (None, str(partial)):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


@contextlib.contextmanager
def beside(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Gives a path beside `path`, whose file is gone after the body.

    What killed processes left of the same is removed. The system's lock on a
    file tells it from what another process writes: it dies with its process.
    Windows has none, nor have some network disks; there such files stay.

    Args:
      path: Place whose folder and suffixes the file has.
    Yields: A path in the same folder, with the same suffixes.
    """
    own = re.compile(rf"{_PARTIAL}\d+-{re.escape(path.name)}")
    for left in path.parent.iterdir():
        if own.fullmatch(left.name):
            with contextlib.suppress(OSError), _lock(left, alone=True):
                left.unlink()
    partial = _partial(path)
    try:
        # Shared, since HDF5 takes such a lock where it reads.
        with _lock(partial, alone=False):
            yield partial
    finally:
        partial.unlink(missing_ok=True)


def check_place(
    path: str | os.PathLike, suffixes: Sequence[str] = ()
) -> pathlib.Path:
    """Whether a file can be written there: to be asked before the work.

    Args:
      path: Place of the file.
      suffixes: Suffixes that the name may end in, in any case; none for all.
    Returns: The path.
    Raises:
      ValueError: if the name ends in another suffix.
      IsADirectoryError: if `path` is a folder.
      FileNotFoundError: if its folder is not there.
      PermissionError: if its folder may not be written to.
    """
    path = pathlib.Path(path)
    if path.is_dir():
        raise IsADirectoryError(
            f"The path must be that of a file. Received: {path}, a folder."
        )
    if suffixes and path.suffix.lower() not in suffixes:
        raise ValueError(
            f"The name of the file must end in one of {list(suffixes)}. "
            f"Received: {path}."
        )
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"The folder of a file must be there. Received: {path}; make "
            f"{path.parent} first."
        )
    if not os.access(path.parent, os.W_OK):
        raise PermissionError(
            f"The folder of a file must be open to writing. Received: {path}."
        )
    return path


def check_folder(folder: str | os.PathLike) -> pathlib.Path:
    """Whether a folder is there or can be made: to be asked before the work.

    Args:
      folder: Path of the folder.
    Returns: The path.
    Raises:
      NotADirectoryError: if a file stands in its place, or above it.
      PermissionError: if it, or what is above it, may not be written to.
    """
    folder = pathlib.Path(folder)
    above = next(path for path in (folder, *folder.parents) if path.exists())
    if not above.is_dir():
        raise NotADirectoryError(
            "A folder must be there, or can be made. Received: "
            f"{folder}, where {above} is a file."
        )
    if not os.access(above, os.W_OK):
        raise PermissionError(
            f"A folder must be open to writing. Received: {folder}."
        )
    return folder


@contextlib.contextmanager
def sole_user(folder: pathlib.Path) -> Iterator[None]:
    """Holds a folder in which one process at a time may work.

    The system's lock lies on the folder itself: it leaves no file, and dies
    with its process. Windows has none, nor have some network disks; there
    nothing is held.

    Args:
      folder: A folder that is there.
    Raises: BlockingIOError: if another process holds it.
    """
    if sys.platform == "win32":
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            _flock(handle, alone=True)
        except BlockingIOError as error:
            raise BlockingIOError(
                "A folder is worked in by one process at a time. Received: "
                f"{folder}, where another is at work; wait for it, or choose "
                "another folder."
            ) from error
        except OSError:
            pass  # a disk without locks
        yield
    finally:
        os.close(handle)


def is_partial(path: pathlib.Path) -> bool:
    """Whether a file is what a killed process left of another."""
    return path.name.startswith(_PARTIAL)


def write_together(folder: pathlib.Path, contents: Mapping[str, bytes]) -> None:
    """Writes files of a folder: all of them before one takes its place.

    Args:
      folder: A folder that is there.
      contents: Content by name. The first is the last to take its place.
    """
    with contextlib.ExitStack() as stack:
        for name, data in contents.items():
            stack.enter_context(replacing(folder / name)).write_bytes(data)


def write_whole(path: str | os.PathLike, data: bytes) -> pathlib.Path:
    """Writes a file: whole or not at all.

    Args:
      path: Place of the file; what is there is replaced.
      data: Content of the file.
    Returns: The path.
    """
    with replacing(path) as partial:
        partial.write_bytes(data)
    return pathlib.Path(path)


def write_json(path: str | os.PathLike, value: dict) -> pathlib.Path:
    """Writes a dictionary as JSON; numbers that are not finite become null.

    Args:
      path: Place of the file; what is there is replaced.
      value: Dictionary of what JSON can hold, with dictionaries in it.
    Returns: The path.
    """
    return write_whole(path, json_bytes(value))


def json_bytes(value: dict) -> bytes:
    """A dictionary as JSON, as `write_json` writes it."""
    text = json.dumps(_without_nan(value), indent=2, allow_nan=False) + "\n"
    return text.encode("utf-8")


def read_json(path: str | os.PathLike) -> dict:
    """The dictionary of a JSON file.

    Raises: ValueError: if it holds something else, or no JSON.
    """
    value = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    if not isinstance(value, dict):
        raise ValueError(
            f"A JSON file of ours must hold a dictionary. Received: {path}, "
            f"with a {type(value).__name__}."
        )
    return value


def write_arrays(
    path: str | os.PathLike, arrays: dict[str, np.ndarray]
) -> pathlib.Path:
    """Writes arrays as a compressed .npz.

    Args:
      path: Place of the file; what is there is replaced.
      arrays: Name -> array.
    Returns: The path.
    """
    return write_whole(path, array_bytes(arrays))


def array_bytes(arrays: dict[str, np.ndarray]) -> bytes:
    """Arrays as a compressed .npz, as `write_arrays` writes it."""
    data, named = io.BytesIO(), dict[str, Any](arrays)
    np.savez_compressed(data, **named)
    return data.getvalue()


def read_arrays(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """The arrays of an .npz, by name; objects, which are pickles, are refused.

    Raises: ValueError: if the file is not whole.
    """
    with open(path, "rb") as file:
        try:
            with np.load(file, allow_pickle=False) as arrays:
                return dict(arrays)
        except Exception as error:  # whatever altered bytes lead to
            raise not_whole(path, error) from error


def check_archive(path: str | os.PathLike) -> None:
    """A zip archive, such as a .keras, holds what its checksums say.

    Raises: ValueError, or what zipfile raises: if it does not.
    """
    with zipfile.ZipFile(path) as archive:
        altered = archive.testzip()
    if altered is not None:
        raise ValueError(f"{altered} is not what its checksum says")


def not_whole(
    path: str | os.PathLike,
    error: Exception,
    remedy: str = "",
    rule: str = "A file must be whole, as it was written",
) -> ValueError:
    """The error that says in one line which file cannot be read, and why.

    Args:
      path: The file.
      error: What reading it raised.
      remedy: A sentence on what would do.
      rule: What the file must be.
    Returns: The error, to be raised.
    """
    why = " ".join(str(error).split())
    if len(why) > _LONGEST_REASON:
        why = why[:_LONGEST_REASON] + " ..."
    return ValueError(
        f"{rule}. Received: {path}, which cannot be read "
        f"({type(error).__name__}: {why.removesuffix('.')}). {remedy}".rstrip()
    )


def _partial(path):
    return path.with_name(f"{_PARTIAL}{os.getpid()}-{path.name}")


@contextlib.contextmanager
def _lock(path, alone):
    """Holds a file, which is made; an OSError if it is another's."""
    if sys.platform == "win32":  # where an open file cannot be renamed either
        if alone:
            raise OSError("no locks")
        yield
        return
    handle = os.open(path, os.O_RDWR | (0 if alone else os.O_CREAT), 0o666)
    try:
        try:
            _flock(handle, alone)
        except OSError:  # a disk without locks
            if alone:
                raise
        yield
    finally:
        os.close(handle)


def _flock(handle, alone):
    import fcntl  # Windows has none.

    kind = fcntl.LOCK_EX if alone else fcntl.LOCK_SH
    fcntl.flock(handle, kind | fcntl.LOCK_NB)


def _without_nan(value):
    if isinstance(value, dict):
        return {name: _without_nan(each) for name, each in value.items()}
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
