"""The pixel pendulum: what is cropped, and rows that follow the rod."""

import types

import numpy as np
import pytest

from tfds_physics.hnn import pixel_pendulum
from tfds_physics.hnn.pixel_pendulum import HNNPixelPendulum, PixelConfig


class Environment:
    """A rod whose angle grows by 0.01 per step, seen as one brightness."""

    dt = 0.05

    def __init__(self):
        self.unwrapped = self
        self.steps = 0
        self.reset = lambda seed: None
        self.close = lambda: None

    def render(self):
        picture = np.zeros((500, 500, 3), np.uint8)
        picture[..., 0] = 10 * self.steps
        return picture

    def step(self, action):
        self.steps += 1
        angle, velocity = self.state
        self.state = np.array([angle + 0.01, velocity])


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


@pytest.mark.parametrize("change", [False, True])
def test_x_is_two_frames_or_a_frame_and_its_change(change, monkeypatch):
    monkeypatch.setattr(pixel_pendulum, "_make_environment", Environment)
    rng = types.SimpleNamespace(rand=lambda: 0.5)  # starts at rest
    rows = pixel_pendulum.swing(rng, 5, change)
    first, second = rows["x"][:, 0], rows["x"][:, -1]
    step = 10 / 255
    expected = step if change else first + step
    np.testing.assert_allclose(second, expected, atol=1e-6)
    # The angle is that of the frame that x begins with.
    np.testing.assert_allclose(rows["angle"], first / step * 0.01, atol=1e-6)
    np.testing.assert_allclose(
        (rows["x"] + rows["dx_dt"])[:-1], rows["x"][1:], atol=1e-6
    )


def test_frames_have_no_noise():
    with pytest.raises(ValueError, match="`noise` must be None.* 0.1"):
        PixelConfig(name="mine", noise=0.1)


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
