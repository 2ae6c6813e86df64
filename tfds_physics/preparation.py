"""Writing a dataset's folder: one writer, no orphans, room on the disk."""

import contextlib
import errno
import fcntl
import os
import pathlib
import shutil
from collections.abc import Iterator

_FULL_DISK = (errno.ENOSPC, errno.EDQUOT)


@contextlib.contextmanager
def sole_writer(data_path: pathlib.Path) -> Iterator[None]:
    """Waits until no other process writes the folder, then removes orphans.

    TFDS writes to a folder "incomplete.*" and renames it when it is whole. A
    killed process leaves that folder behind, but its lock dies with it: so,
    under the lock, every such folder is an orphan. POSIX, local disks.

    Args:
      data_path: Folder <data_dir>/<dataset>/<config>/<version> to be written.
    """
    data_path.parent.mkdir(parents=True, exist_ok=True)
    lock_path = data_path.parent / f".{data_path.name}.lock"
    with lock_path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for orphan in data_path.parent.glob(f"incomplete.*_{data_path.name}"):
            shutil.rmtree(orphan)
        yield


@contextlib.contextmanager
def enough_space(data_path: pathlib.Path, needed: int) -> Iterator[None]:
    """Raises one clear error if the disk is, or becomes, too full.

    Args:
      data_path: Folder to be written; an existing folder above it is asked.
      needed: Estimate of the bytes to be written.

    Raises:
      OSError: With errno ENOSPC, naming the folder and the space needed.
    """
    folder = data_path
    while not folder.exists():
        folder = folder.parent
    if shutil.disk_usage(folder).free < needed:
        raise _full_disk_error(data_path, folder, needed)
    try:
        yield
    except Exception as error:
        if not _is_full_disk(error):
            raise
        raise _full_disk_error(data_path, folder, needed) from error


def _is_full_disk(error: Exception) -> bool:
    """By the system's own words, whatever type they are wrapped in.

    TensorFlow raises a ResourceExhaustedError, which TFDS turns into a
    RuntimeError; both quote the system's message.
    """
    return any(os.strerror(code) in str(error) for code in _FULL_DISK)


def _full_disk_error(
    data_path: pathlib.Path, folder: pathlib.Path, needed: int
) -> OSError:
    free = shutil.disk_usage(folder).free
    return OSError(
        errno.ENOSPC,
        f"The disk must have room for about {needed / 1e6:.1f} MB to prepare "
        f"the dataset. Received: {free / 1e6:.1f} MB free. Free some space, "
        "pass another `data_dir`, or choose a config with smaller splits. "
        "Datasets that were prepared before are untouched",
        os.fspath(data_path),
    )
