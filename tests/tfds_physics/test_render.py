"""Pictures: where, how large, what colour, and what noise does to them."""

import numpy as np
import pytest

from tfds_physics import SYSTEMS, expected_video, render_video
from tfds_physics.video.render import BACKGROUND, render

RED, GREEN = [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]


def draw_one(x, y, radius=0.4, half_width=2.0, image_size=64, color=RED):
    return render(np.array([[x, y]]), [radius], [color], half_width, image_size)


def cover(frame):
    """How much of each pixel a red disc covers, from its red channel."""
    red = frame[..., 0] / 255.0
    share = (red - BACKGROUND[0]) / (1 - BACKGROUND[0])
    return np.where(share > 0.01, share, 0)  # the background's rounding


@pytest.mark.parametrize("image_size", [32, 64])
@pytest.mark.parametrize("x, y", [(0, 0), (0.7, 0), (0, 0.7), (-0.83, -0.41)])
def test_centre_of_mass_is_at_the_position(x, y, image_size):
    frame = draw_one(x, y, image_size=image_size)
    weight = cover(frame) / cover(frame).sum()
    grid = np.linspace(-2, 2, image_size)
    # Columns go right; rows go down, so y falls. A tenth of a pixel.
    tolerance = 0.1 * 4 / (image_size - 1)
    assert abs((weight.sum(axis=0) * grid).sum() - x) < tolerance
    assert abs((weight.sum(axis=1) * -grid).sum() - y) < tolerance


@pytest.mark.parametrize("radius", [0.3, 0.6, 0.9])
def test_disc_has_its_area(radius):
    frame = draw_one(0, 0, radius=radius)
    pixel = (4 / 63) ** 2
    # The soft edge of 1/80 side adds pi (pi s)^2 / 3, s = 4 / 80 metres.
    expected = np.pi * radius**2 + np.pi * (np.pi * 4 / 80) ** 2 / 3
    assert abs(cover(frame).sum() * pixel / expected - 1) < 0.03


def test_edge_is_the_logistic_function():
    frame = draw_one(0.3, -0.2, radius=0.5)
    grid = np.linspace(-2, 2, 64)
    distance = np.hypot(grid[None, :] - 0.3, -grid[:, None] + 0.2)
    mask = 1 / (1 + np.exp(80 * (distance - 0.5) / 4))[..., None]
    exact = 255 * (BACKGROUND * (1 - mask) + np.array(RED) * mask)
    # Half a level of rounding, a tenth from the table.
    assert np.abs(frame - exact).max() < 0.6


def test_colors_and_background():
    frame = draw_one(0, 0, color=[0.2, 0.6, 1.0], radius=1.0)
    np.testing.assert_array_equal(frame[32, 32], [51, 153, 255])
    np.testing.assert_array_equal(frame[0, 0], [82, 89, 94])


def test_earlier_bodies_cover_later_ones():
    places = np.array([[0.0, 0.0], [0.2, 0.0]])
    frame = render(places, [0.5, 0.5], [RED, GREEN], 2.0, 64)
    np.testing.assert_array_equal(frame[32, 32], [255, 0, 0])
    swapped = render(places, [0.5, 0.5], [GREEN, RED], 2.0, 64)
    np.testing.assert_array_equal(swapped[32, 32], [0, 255, 0])


def test_disc_outside_the_picture_leaves_the_background():
    frame = draw_one(50.0, 0)
    assert (frame == frame[0, 0]).all()


def test_pendulum_at_rest_hangs_at_the_bottom():
    frame = render_video(SYSTEMS["pendulum"], np.zeros(1), 32)
    row, column = np.unravel_index(cover(frame).argmax(), (32, 32))
    assert row > 24 and 13 < column < 18


@pytest.mark.parametrize("name", SYSTEMS)
def test_video_is_the_same_frame_by_frame(name):
    system = SYSTEMS[name]
    rng = np.random.default_rng(1)
    q = rng.normal(size=(7, 11, system.dof))
    video = render_video(system, q, 24)
    assert video.shape == (7, 11, 24, 24, 3) and video.dtype == np.uint8
    np.testing.assert_array_equal(
        video[3, 5], render_video(system, q[3, 5], 24)
    )
    np.testing.assert_array_equal(video, render_video(system, q, 24))


@pytest.mark.parametrize(
    "change, rule",
    [
        ({"positions": np.zeros((2, 3))}, "`positions` must be of shape"),
        ({"positions": np.full((1, 2), np.nan)}, "`positions` must be finite"),
        ({"radii": [0.1, 0.2]}, "`radii` must be of shape"),
        ({"colors": [[1.0, 0.0]]}, "`colors` must be of shape"),
        ({"half_width": 0.0}, "`half_width` must be positive"),
        ({"image_size": 7}, "`image_size` must be"),
        ({"image_size": 32.0}, "`image_size` must be"),
    ],
)
def test_render_refuses_bad_input(change, rule):
    good = dict(
        positions=np.zeros((1, 2)),
        radii=[0.1],
        colors=[RED],
        half_width=1.0,
        image_size=32,
    )
    with pytest.raises(ValueError, match=rule):
        render(**(good | change))


def test_video_functions_refuse_bad_input():
    pendulum = SYSTEMS["pendulum"]
    with pytest.raises(ValueError, match="`q` must be of shape"):
        render_video(pendulum, np.zeros((3, 2)), 32)
    with pytest.raises(ValueError, match="`q` must be of shape"):
        expected_video(pendulum, np.zeros((3, 2)), 0.1)
    with pytest.raises(ValueError, match="`noise` must not be negative"):
        expected_video(pendulum, np.zeros((3, 1)), -0.1)
    with pytest.raises(ValueError, match="`num_samples` must be"):
        expected_video(pendulum, np.zeros((3, 1)), 0.1, num_samples=1)


def test_expected_video_without_noise_is_the_video():
    q = np.linspace(-1, 1, 6).reshape(2, 3, 1)
    pendulum = SYSTEMS["pendulum"]
    mean, variance = expected_video(pendulum, q, 0.0, 16, num_samples=3)
    np.testing.assert_allclose(mean, render_video(pendulum, q, 16) / 255, 1e-6)
    assert mean.dtype == variance.dtype == np.float32
    assert not variance.any()


def test_expected_video_matches_an_integral_over_the_noise():
    pendulum = SYSTEMS["pendulum"]
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    frames = render_video(pendulum, 0.4 + 0.1 * nodes[:, None], 32) / 255
    weights = (weights / weights.sum())[:, None, None, None]
    mean = (weights * frames).sum(axis=0)
    variance = (weights * (frames - mean) ** 2).sum(axis=0)
    estimate = expected_video(
        pendulum, np.array([0.4]), 0.1, 32, num_samples=4000
    )
    # Four standard errors of a pixel with variance at most 0.25.
    assert np.abs(estimate[0] - mean).max() < 4 * np.sqrt(0.25 / 4000)
    assert abs(estimate[1].mean() / variance.mean() - 1) < 0.05


# x 1e-4: MSE of the mean image and noise floor, each known from 256
# trajectories of an independent prototype.
REFERENCE = {
    "mass_spring": (67.6, 11.9),
    "pendulum": (101.0, 11.9),
    "two_body": (132.0, 3.6),
    "three_body": (165.0, 44.9),
}


@pytest.mark.parametrize("name", REFERENCE)
def test_mean_image_and_noise_floor_match_the_reference(name):
    system = SYSTEMS[name]
    rng = np.random.default_rng(0)
    states = [system.sample_state(rng) for _ in range(512)]
    q0, p0 = (np.stack(each) for each in zip(*states, strict=True))
    q, _ = system.simulate(q0, p0, 0.125 * np.arange(30))
    noisy = q + system.noise * rng.standard_normal(q.shape)
    video = render_video(system, noisy[:, ::3], 32) / 255
    mean_image = 1e4 * video.var(axis=(0, 1)).mean()
    _, variance = expected_video(
        system, q[::8, ::5], system.noise, num_samples=32
    )
    floor = 1e4 * variance.mean()
    # Sets of 256 trajectories differ by 3 % in the first (mass-spring, whose
    # radius varies most) and 2 % in the second.
    assert abs(mean_image / REFERENCE[name][0] - 1) < 0.06
    assert abs(floor / REFERENCE[name][1] - 1) < 0.06
