"""The real pendulum of the state tasks: somebody else's recording."""

import hashlib
import io
import pathlib
import zipfile
from typing import ClassVar

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core.download.util import DownloadError

from tfds_physics import preparation
from tfds_physics.hnn.builders import StateRows, iterate_rows

ARCHIVE = "invar_datasets.zip"
ARCHIVE_URL = (
    "http://science.sciencemag.org/highwire/filestream/590089/"
    "field_highwire_adjunct_files/2/"
)
ARCHIVE_SHA256 = (
    "9794ee02f45403f87b739cc235a046bd424a73b8222067165f66463cef57be59"
)
_RECORDING = "real_pend_h_1.txt"
_SIZES = {"train": 445, "test": 110}


class HNNRealPendulum(StateRows):
    """One recording of a real pendulum, which loses energy: 445 + 110 rows.

    x is (theta, omega) as recorded every 1/6 s, with ten gaps of up to 1/2 s;
    dx_dt is the forward difference.
    The file is the supplement of Schmidt and Lipson 2009. It is downloaded,
    or taken from TFDS's manual folder, and checked by its SHA-256.
    """

    name = "hnn_real_pendulum"
    BUILDER_CONFIGS: ClassVar[list] = []
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        f"Put {ARCHIVE}, the data in the supplement of Schmidt and Lipson, "
        "Distilling Free-Form Natural Laws from Experimental Data (Science "
        "324, 2009, doi 10.1126/science.1165893), into this folder."
    )

    def _info(self) -> tfds.core.DatasetInfo:
        return self._make_info(
            2, "Angle theta in radians, 0 at rest, and omega in radians/s."
        )

    def _more_features(self, vector):
        return {}  # nobody knows the state without noise

    @property
    def expected_sizes(self) -> dict[str, int]:
        """Number of rows by split."""
        return dict(_SIZES)

    def _chunks(self, dl_manager):
        rows = read_recording(_fetch_archive(dl_manager))
        num_train = _SIZES["train"]
        parts = {"train": slice(num_train), "test": slice(num_train, None)}
        return {
            split: preparation.Chunks(
                iterate_rows,
                [{name: value[part] for name, value in rows.items()}],
            )
            for split, part in parts.items()
        }


def read_recording(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Reads the rows of the real pendulum.

    Args:
      path: Path of the archive `invar_datasets.zip`.

    Returns:
      Name -> array: `x` and `dx_dt` [rows, 2]; `time` and `trajectory` [rows].

    Raises:
      ValueError: If the archive has another SHA-256.
    """
    content = pathlib.Path(path).read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest != ARCHIVE_SHA256:
        raise ValueError(
            f"{ARCHIVE} must have the SHA-256 {ARCHIVE_SHA256}. Received: "
            f"{digest} of {path} ({len(content)} bytes). Remove it and put "
            "the original there."
        )
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        lines = archive.read(_RECORDING).decode("ascii").splitlines()
    columns = np.loadtxt(lines[1:])  # trial, t, theta, omega
    time, x = columns[:, 1], columns[:, 2:4]
    return {
        "x": x[:-1],
        "dx_dt": np.diff(x, axis=0) / np.diff(time)[:, None],
        "time": time[:-1] - time[0],
        "trajectory": columns[:-1, 0],
    }


def _fetch_archive(dl_manager):
    """Path of the archive: TFDS's manual folder first, then the network."""
    try:
        manual = dl_manager.manual_dir / ARCHIVE
        if manual.exists():
            return manual
    except AssertionError:  # TFDS's word for a folder that is not there
        pass
    try:
        return dl_manager.download(ARCHIVE_URL)
    except (OSError, DownloadError) as error:
        folder = dl_manager._manual_dir
        raise OSError(
            f"{ARCHIVE} must be in the folder {folder}, or {ARCHIVE_URL} must "
            f"be reachable. Received: neither ({error}). "
            f"{HNNRealPendulum.MANUAL_DOWNLOAD_INSTRUCTIONS} The folder: "
            f"{folder}"
        ) from error
