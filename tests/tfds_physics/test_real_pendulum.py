"""The recording of the real pendulum: read right, and refused if altered."""

import os
import pathlib

import numpy as np
import pytest
import tensorflow_datasets as tfds

from tfds_physics.hnn import real_pendulum
from tfds_physics.hnn.real_pendulum import HNNRealPendulum


def archive():
    """Path of the real recording, which is not part of this repository."""
    path = os.environ.get("HGN_TF_INVAR_ZIP", "")
    if not path or not pathlib.Path(path).exists():
        pytest.skip(
            f"HGN_TF_INVAR_ZIP must be the path of {real_pendulum.ARCHIVE}, "
            "which is somebody else's file"
        )
    return pathlib.Path(path)


def test_recording_is_read_as_forward_differences():
    rows = real_pendulum.read_recording(archive())
    assert len(rows["x"]) == 555
    steps = np.diff(rows["time"])
    assert np.sum(np.abs(steps - 1 / 6) > 1e-9) == 10  # gaps in the recording
    ahead = rows["x"][:-1] + rows["dx_dt"][:-1] * steps[:, None]
    np.testing.assert_allclose(ahead, rows["x"][1:], atol=1e-9)
    # omega is the rate of theta, within the error of a forward difference.
    rate = np.corrcoef(rows["dx_dt"][:, 0], rows["x"][:, 1])[0, 1]
    assert rate > 0.95


def test_real_pendulum_is_taken_from_the_manual_folder(tmp_path):
    manual = tmp_path / "manual"
    manual.mkdir()
    (manual / real_pendulum.ARCHIVE).write_bytes(archive().read_bytes())
    builder = HNNRealPendulum(data_dir=str(tmp_path / "data"))
    builder.download_and_prepare(download_config=settings_of(manual))
    sizes = {k: v.num_examples for k, v in builder.info.splits.items()}
    assert sizes == {"train": 445, "test": 110}


def settings_of(manual):
    return tfds.download.DownloadConfig(manual_dir=str(manual))


def test_altered_archive_is_refused(tmp_path):
    (tmp_path / real_pendulum.ARCHIVE).write_bytes(b"not the data")
    builder = HNNRealPendulum(data_dir=str(tmp_path / "data"))
    with pytest.raises(ValueError, match="SHA-256.*12 bytes"):
        builder.download_and_prepare(download_config=settings_of(tmp_path))


def test_missing_archive_says_what_to_put_where(tmp_path, monkeypatch):
    def no_network(self, url):
        raise OSError("no route to host")

    monkeypatch.setattr(tfds.download.DownloadManager, "download", no_network)
    manual = tmp_path / "manual"
    builder = HNNRealPendulum(data_dir=str(tmp_path / "data"))
    with pytest.raises(OSError, match="no route") as caught:
        builder.download_and_prepare(download_config=settings_of(manual))
    assert str(manual) in str(caught.value)
    assert real_pendulum.ARCHIVE in str(caught.value)
