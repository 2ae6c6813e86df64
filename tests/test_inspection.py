"""Measures of videos alone, on videos whose noise and motion are known."""

import numpy as np
import pytest

from hgn_tf import inspection

SIDE, FRAMES = 32, 20


def blob(places, width=3.0):
    """A bright blob at places [time] of a circle: uint8 [1, time, ..., 1]."""
    row, column = np.mgrid[:SIDE, :SIDE]
    frames = [
        np.exp(
            -((row - SIDE / 2) ** 2 + (column - place) ** 2) / (2 * width**2)
        )
        for place in places
    ]
    video = 60 + 150 * np.stack(frames)
    return np.rint(video).astype(np.uint8)[None, ..., None]


def to_and_fro(speed):
    return 16 + 8 * np.sin(speed / 8 * np.arange(FRAMES))


@pytest.mark.parametrize("sd", [0.0, 2.0, 8.0])
def test_noise_is_read_from_the_pixels_that_stand_still(sd):
    clean = blob(to_and_fro(1.0)).astype(float)
    noise = sd * np.random.default_rng(0).normal(size=(8, *clean.shape[1:]))
    video = np.clip(np.rint(clean + noise), 0, 255).astype(np.uint8)
    found = 255 * inspection.noise_variance(video) ** 0.5
    # Rounding to grey levels adds a standard deviation of 0.29.
    assert found == pytest.approx(np.hypot(sd, 0.29 * (sd > 0)), rel=0.1)


@pytest.mark.parametrize("speed", [0.5, 1.0, 2.0])
def test_motion_is_in_pixels_per_frame(speed):
    places = 8 + speed * np.arange(8)
    found = inspection.motion_per_frame(blob(places))
    # The slope along the edge of a round thing counts too.
    assert 0.75 * speed < found < 1.05 * speed
    assert inspection.motion_per_frame(blob(np.full(8, 9.0))) == 0.0


def test_what_moves_and_what_stands_still():
    moving, standing = blob(to_and_fro(1.0)), blob(np.full(FRAMES, 16.0))
    assert 0.02 < inspection.moving_share(moving) < 0.3
    assert inspection.still_share(standing) == 1.0
    half = np.concatenate([moving, np.repeat(moving[:, -1:], 20, 1)], axis=1)
    assert inspection.still_share(half) == pytest.approx(0.5, abs=0.1)


def test_a_drawing_is_told_from_a_body():
    body = blob(to_and_fro(2.0))
    drawing = np.maximum.accumulate(body, axis=1)
    assert inspection.one_way_share(body) < 0.35
    assert inspection.one_way_share(drawing) > 0.9
    assert inspection.one_way_share(body[:, [0, 0, 0]]) == 0.0


def test_a_single_frame_is_refused():
    with pytest.raises(ValueError, match="two frames at least.*1, 1, 32"):
        inspection.noise_variance(blob([16.0]))
