"""The state tasks: the published draw, exact fields, conserved quantities."""

import os
import pathlib

import numpy as np
import pytest
import tensorflow_datasets as tfds

from tfds_physics import StateConfig
from tfds_physics.hnn import pixel_pendulum, real_pendulum
from tfds_physics.hnn.builders import (
    HNNMassSpring,
    HNNPendulum,
    HNNThreeBody,
    HNNTwoBody,
)
from tfds_physics.hnn.pixel_pendulum import HNNPixelPendulum
from tfds_physics.hnn.real_pendulum import HNNRealPendulum
from tfds_physics.hnn.tasks import STATE_TASKS, make_rows

# Of the exact field on the published draw of spring and pendulum, train and
# test, as it scores on the authors' own data.
FLOORS = {"mass_spring": 3.8e-2, "pendulum": 3.6e-2}
ROWS = {
    "mass_spring": (750, 750),
    "pendulum": (1125, 1125),
    "two_body": (40_000, 10_000),
    "three_body": (80_000, 20_000),
}


class _Case:
    VERSION = "1.0.0"
    BUILDER_CONFIG_NAMES_TO_TEST = ["tiny"]
    EXAMPLE_DIR = os.path.dirname(__file__)  # nothing is read from it
    SKIP_CHECKSUMS = True
    SKIP_TF1_GRAPH_MODE = True


class MassSpringTest(_Case, tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = HNNMassSpring
    SPLITS = {"train": 4 * 30, "test": 2 * 30}


class PendulumTest(_Case, tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = HNNPendulum
    SPLITS = {"train": 4 * 45, "test": 2 * 45}


class TwoBodyTest(_Case, tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = HNNTwoBody
    SPLITS = {"train": 4 * 50, "test": 2 * 50}


class ThreeBodyTest(_Case, tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = HNNThreeBody
    SPLITS = {"train": 4 * 20, "test": 2 * 20}


@pytest.fixture(scope="module", params=STATE_TASKS)
def made(request):
    task = STATE_TASKS[request.param]
    return request.param, task, make_rows(task, 0)


def halves(task, x):
    return x[..., : task.system.dof], x[..., task.system.dof :]


def exact(task, x):
    dH_dq, dH_dp = task.system.gradient(*halves(task, x))
    return np.concatenate([dH_dp, -dH_dq], axis=-1)


def test_splits_have_the_published_sizes(made):
    name, _, rows = made
    assert (len(rows["train"]["x"]), len(rows["test"]["x"])) == ROWS[name]
    train, test = (set(rows[s]["trajectory"]) for s in ("train", "test"))
    assert not train & test


def test_derivative_is_exact_at_the_state_without_noise(made):
    _, task, rows = made
    test = rows["test"]
    np.testing.assert_array_equal(test["dx_dt"], exact(task, test["x_true"]))


def test_energy_is_conserved_along_each_trajectory(made):
    _, task, rows = made
    energy = task.system.hamiltonian(*halves(task, rows["test"]["x_true"]))
    energy = energy.reshape(-1, task.num_points)
    # Solved to 1e-12 a step; close encounters of three bodies amplify it.
    np.testing.assert_allclose(energy / energy[:, :1], 1, rtol=1e-6)


@pytest.mark.parametrize("name", ["two_body", "three_body"])
def test_momenta_of_bodies_are_conserved(name):
    task = STATE_TASKS[name]
    q, p = halves(task, make_rows(task, 0)["test"]["x_true"])
    shape = (-1, task.num_points, task.system.num_bodies, 2)
    q, p = q.reshape(shape), p.reshape(shape)
    total = p.sum(axis=2)
    angular = (q[..., 0] * p[..., 1] - q[..., 1] * p[..., 0]).sum(axis=2)
    np.testing.assert_allclose(total - total[:, :1], 0, atol=1e-9)
    np.testing.assert_allclose(angular - angular[:, :1], 0, atol=1e-6)


@pytest.mark.parametrize("name", FLOORS)
def test_exact_field_scores_the_published_floor(name):
    """So the noise is that of the published losses, number for number."""
    task = STATE_TASKS[name]
    test = make_rows(task, 0)["test"]
    error = exact(task, test["x"]) - test["dx_dt"]
    assert np.mean(error**2) == pytest.approx(FLOORS[name], rel=0.02)


@pytest.mark.parametrize("name", ["two_body", "three_body"])
def test_bodies_without_spread_would_move_on_circles(name):
    task = STATE_TASKS[name]
    q, p = task.draw_start(_NoSpread())
    q, p = task.system.simulate(q[None], p[None], np.linspace(0, 3, 7))
    radii = np.hypot(*np.moveaxis(task.system.positions(q), -1, 0))
    np.testing.assert_allclose(radii, radii[:, :1].repeat(7, 1), rtol=1e-9)


class _NoSpread(np.random.RandomState):
    """Draws the middle of every spread: a circular orbit."""

    def rand(self, *shape):
        return np.full(shape, 0.5) if shape else 0.5

    def randn(self, *shape):
        return np.zeros(shape) if shape else 0.0


def test_seed_decides_the_draw():
    task = STATE_TASKS["mass_spring"]
    first, again, other = (make_rows(task, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first["train"]["x"], again["train"]["x"])
    assert not np.array_equal(first["train"]["x"], other["train"]["x"])


def test_prepared_rows_are_those_made(data_dir):
    builder = HNNMassSpring(config="tiny", data_dir=str(data_dir))
    builder.download_and_prepare()
    read = builder.as_dataset(split="train", batch_size=-1)
    order = np.lexsort((read["time"], read["trajectory"]))
    made = make_rows(builder.task, 0)["train"]
    for name, value in made.items():
        found = read[name].numpy()[order]
        np.testing.assert_array_equal(found, value.astype(found.dtype))


@pytest.mark.parametrize(
    "builder",
    [
        HNNMassSpring,
        HNNPendulum,
        HNNTwoBody,
        HNNThreeBody,
        HNNRealPendulum,
        HNNPixelPendulum,
    ],
)
def test_card_is_found(builder, tmp_path):
    info = builder(data_dir=str(tmp_path)).info
    assert f"`{builder.name}`" in info.description
    assert "greydanus2019hamiltonian" in info.citation


def test_other_settings_under_one_name_are_refused(tmp_path):
    config = StateConfig(name="mine", num_train=1, num_test=1)
    HNNPendulum(config=config, data_dir=str(tmp_path)).download_and_prepare()
    other = StateConfig(name="mine", num_train=2, num_test=1)
    with pytest.raises(ValueError, match="same settings"):
        HNNPendulum(config=other, data_dir=str(tmp_path))


@pytest.mark.parametrize(
    "settings", [{"seed": -1}, {"noise": -0.1}, {"num_train": 0}]
)
def test_settings_that_cannot_be_are_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        StateConfig(name="mine", **settings)


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


def disc(size, angle):
    """A red square where a rod at `angle` ends, on white."""
    picture = np.full((size, size, 3), 255, np.uint8)
    reach = size / 4.4  # the window is 4.4 rods wide
    row = round(size / 2 + reach * np.cos(angle))
    column = round(size / 2 + reach * np.sin(angle))
    half = round(size / 50)
    square = (
        slice(row - half, row + half),
        slice(column - half, column + half),
    )
    picture[square] = (204, 77, 77)
    return picture


@pytest.mark.parametrize("angle", [0.0, 0.6, -0.6])
def test_crop_does_not_depend_on_the_size_of_the_window(angle):
    centres = []
    for size in (500, 1000):
        frame = pixel_pendulum.crop(disc(size, angle))
        assert frame.shape == (28, 28) and 0.2 < frame.max() <= 0.5
        total = frame.sum()
        across = (frame.sum(0) * np.arange(28)).sum() / total
        down = (frame.sum(1) * np.arange(28)).sum() / total
        centres.append((across, down))
    np.testing.assert_allclose(centres[0], centres[1], atol=0.2)
    side = 13.5 + 28 / 0.34 / 4.4 * np.sin(angle)
    assert centres[0][0] == pytest.approx(side, abs=0.2)


@pytest.mark.parametrize("shape", [(400, 600, 3), (40, 40, 3), (500, 500)])
def test_other_windows_are_refused(shape):
    with pytest.raises(ValueError, match="must be square"):
        pixel_pendulum.crop(np.zeros(shape, np.uint8))


def test_pixel_rows_follow_the_pendulum(tmp_path):
    pytest.importorskip("gymnasium")
    pytest.importorskip("pygame")
    builder = HNNPixelPendulum(config="tiny", data_dir=str(tmp_path))
    builder.download_and_prepare()
    rows = builder.as_dataset(split="train", batch_size=-1)
    rows = {name: value.numpy() for name, value in rows.items()}
    order = np.lexsort((rows["time"], rows["trajectory"]))
    rows = {name: value[order] for name, value in rows.items()}
    assert rows["x"].shape == (200, 1568)
    first = slice(0, 99)
    np.testing.assert_allclose(
        rows["x"][first] + rows["dx_dt"][first], rows["x"][1:100], atol=1e-6
    )
    frames = rows["x"][:, :784].reshape(-1, 28, 28)
    across = (frames.sum(1) * np.arange(28)).sum(1) / frames.sum((1, 2))
    # The rod leans the way that the angle says, one pixel at a time.
    assert np.corrcoef(across, np.sin(rows["angle"]))[0, 1] ** 2 > 0.99
