"""Files that are whole or not there: written beside, then renamed."""

import contextlib
import io
import json
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

_PARTIAL = "partial-"


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[pathlib.Path]:
    """Gives a path beside `path`; at the end that file takes its place.

    If the body raises, what was written is removed and `path` is as it was.
    Only a process that is killed leaves the half of a file; `is_partial` tells
    it by its name.

    Args:
      path: Place of the file; what is there is replaced.
    Yields: A path in the same folder, with the same suffixes.
    Raises:
      IsADirectoryError: if `path` is a folder.
      FileNotFoundError: if its folder is not there.
    """
    path = pathlib.Path(path)
    if path.is_dir():
        raise IsADirectoryError(
            f"The path must be that of a file. Received: {path}, a folder."
        )
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"The folder of a file must be there. Received: {path}; make "
            f"{path.parent} first."
        )
    partial = path.with_name(f"{_PARTIAL}{os.getpid()}-{path.name}")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def is_partial(path: pathlib.Path) -> bool:
    """Whether a file is what a killed process left of another."""
    return path.name.startswith(_PARTIAL)


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
    text = json.dumps(_without_nan(value), indent=2, allow_nan=False) + "\n"
    return write_whole(path, text.encode("utf-8"))


def read_json(path: str | os.PathLike) -> dict:
    """The dictionary of a JSON file.

    Raises: ValueError: if it holds something else, or no JSON.
    """
    return dict(json.loads(pathlib.Path(path).read_text(encoding="utf-8")))


def write_arrays(
    path: str | os.PathLike, arrays: dict[str, np.ndarray]
) -> pathlib.Path:
    """Writes arrays as a compressed .npz.

    Args:
      path: Place of the file; what is there is replaced.
      arrays: Name -> array.
    Returns: The path.
    """
    data, named = io.BytesIO(), dict[str, Any](arrays)
    np.savez_compressed(data, **named)
    return write_whole(path, data.getvalue())


def read_arrays(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """The arrays of an .npz, by name."""
    with np.load(path) as arrays:
        return dict(arrays)


def _without_nan(value):
    if isinstance(value, dict):
        return {name: _without_nan(each) for name, each in value.items()}
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
