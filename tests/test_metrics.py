"""Exact values on hand-made arrays."""

import numpy as np
import pytest
import scipy.interpolate
import scipy.stats
import tensorflow as tf

from hgn_tf import losses, metrics
from tfds_physics.systems.pendulum import Pendulum

SHAPE = (2, 3, 2, 2, 1)


def make_video():
    """[2, 3, 2, 2, 1]: 0.5 everywhere."""
    return np.full(SHAPE, 0.5, np.float32)


def test_pixel_mse_counts_each_frame_and_trajectory_alone():
    prediction = make_video()
    prediction[1, 2] += 0.25  # All 4 pixels of one frame.
    prediction[0, 0, 0, 0] += 0.5  # One pixel of one frame.
    per_frame = metrics.pixel_mse_per_frame(make_video(), prediction)
    np.testing.assert_array_equal(per_frame, [[0.0625, 0, 0], [0, 0, 0.0625]])
    mse = metrics.pixel_mse(make_video(), prediction)
    np.testing.assert_allclose(mse, [0.0625 / 3, 0.0625 / 3], rtol=1e-15)


def test_mean_image_has_fvu_one_and_truth_zero():
    video = np.random.default_rng(0).random((4, 5, 3, 3, 2))
    mean_image = np.broadcast_to(video.mean(axis=(0, 1)), video.shape)
    baseline = metrics.pixel_mse(video, mean_image)
    assert metrics.fvu(baseline, baseline) == 1.0
    assert metrics.fvu(metrics.pixel_mse(video, video), baseline) == 0.0


def test_mean_image_explains_no_variance():
    video = np.random.default_rng(0).random((4, 5, 3, 3, 2))
    mean_image = np.broadcast_to(video.mean(axis=(0, 1)), video.shape)
    mse = metrics.pixel_mse(video, mean_image)
    variance = video.var(axis=(0, 1)).mean()
    np.testing.assert_allclose(mse.mean(), variance, rtol=1e-12)


def test_fvu_is_the_ratio_of_means():
    assert metrics.fvu([1.0, 3.0], [4.0, 12.0]) == 0.25


def test_energy_drift_ignores_offset_and_factor():
    energy = np.array([[1.0, 1.5, 0.0], [3.0, 3.0, 3.5]])
    drift = metrics.energy_drift(energy)  # sd of (1, 3) is 1.
    np.testing.assert_array_equal(drift, [1.0, 0.5])
    np.testing.assert_allclose(metrics.energy_drift(7 - 4 * energy), drift)
    np.testing.assert_array_equal(
        metrics.energy_drift(energy, scale=2.0), [0.5, 0.25]
    )


def test_energy_variance_is_over_time():
    energy = [[1.0, 3.0], [5.0, 5.0]]
    np.testing.assert_array_equal(metrics.energy_variance(energy), [1.0, 0.0])


def test_reversibility_error_is_relative_and_takes_both_halves():
    q, p = np.full((1, 2, 2, 1), 3.0), np.full((1, 2, 2, 1), 4.0)  # |s| = 10
    error = metrics.reversibility_error((q, p), (q + 0.3, p - 0.4))
    np.testing.assert_allclose(error, [0.1], rtol=1e-12)
    assert metrics.reversibility_error((q, p), (q, p)) == 0


def test_r_squared_is_that_of_scipy():
    rng = np.random.default_rng(0)
    x = rng.normal(size=50)
    y = 3 - 2 * x + rng.normal(size=50)
    expected = scipy.stats.pearsonr(x, y).statistic ** 2
    np.testing.assert_allclose(metrics.r_squared(x, y), expected, rtol=1e-12)
    np.testing.assert_allclose(metrics.r_squared(x, 1 - 5 * x), 1, rtol=1e-12)
    assert metrics.r_squared(x, np.full(50, 2.0)) == 0.0


def test_rank_correlation_is_that_of_scipy_without_its_sign():
    rng = np.random.default_rng(0)
    x = rng.integers(0, 9, size=50).astype(float)  # some are equal
    y = rng.normal(size=50) - x
    expected = -scipy.stats.spearmanr(x, y).statistic
    assert expected > 0.5
    np.testing.assert_allclose(
        metrics.rank_correlation(x, y), expected, rtol=1e-12
    )
    assert metrics.rank_correlation(y, -np.exp(y)) == pytest.approx(1.0)
    assert metrics.rank_correlation(x, np.full(50, 2.0)) == 0.0
    assert metrics.rank_correlation(np.full(50, np.nan), x) == 0.0


def test_valid_prediction_time_is_the_first_frame_over_the_threshold():
    prediction = make_video()
    prediction[0, 1] += 0.05  # Relative squared error 0.01: valid.
    prediction[0, 2] += 0.1  # 0.04: over 0.025.
    vpt = metrics.valid_prediction_time(make_video(), prediction)
    np.testing.assert_array_equal(vpt, [2, 3])


def test_valid_prediction_time_skips_early_frames_and_catches_nan():
    prediction = make_video()
    prediction[0, 0] = 1.0
    prediction[1, 2] = np.nan
    vpt = metrics.valid_prediction_time(make_video(), prediction, first_frame=1)
    np.testing.assert_array_equal(vpt, [3, 2])


def test_mean_and_stderr_over_the_batch():
    mean, stderr = metrics.mean_and_stderr([1.0, 2.0, 3.0, 6.0])
    assert mean == 3.0
    assert stderr == pytest.approx(scipy.stats.sem([1, 2, 3, 6]), rel=1e-12)
    mean, stderr = metrics.mean_and_stderr(np.array([[1.0, 5.0], [3.0, 5.0]]))
    np.testing.assert_allclose(mean, [2.0, 5.0])
    np.testing.assert_allclose(stderr, [1.0, 0.0])
    assert np.isnan(metrics.mean_and_stderr([1.0])[1])


def wrong_calls():
    video = make_video()
    state = (np.ones((2, 3)), np.ones((2, 3)))
    zero = (np.zeros((2, 3)), np.zeros((2, 3)))
    return {
        "must have one shape": lambda: metrics.pixel_mse(video, video[:, 1:]),
        r"must be in \[0, 1\]": lambda: metrics.pixel_mse(255 * video, video),
        "equal shapes": lambda: metrics.fvu([1.0], [1.0, 2.0]),
        "mean above 0": lambda: metrics.fvu([1.0], [0.0]),
        r"shape \[batch, time\]": lambda: metrics.energy_drift(np.ones(3)),
        "scale.*above 0": lambda: metrics.energy_drift(np.ones((2, 3))),
        "norm above 0": lambda: metrics.reversibility_error(zero, state),
        "batch >= 2": lambda: metrics.r_squared([1.0], [1.0]),
        "batch >= 1": lambda: metrics.mean_and_stderr([]),
        "first_frame": lambda: metrics.valid_prediction_time(
            video, video, first_frame=3
        ),
    }


@pytest.mark.parametrize("message", wrong_calls())
def test_wrong_input_gets_a_clear_error(message):
    with pytest.raises(ValueError, match=message):
        wrong_calls()[message]()


def test_frames_of_integers_are_refused():
    frames = np.zeros(SHAPE, np.uint8)
    with pytest.raises(TypeError, match="must be floats"):
        metrics.pixel_mse(frames, make_video())


@pytest.mark.parametrize("width, expected", [(1.0, 2.0), (0.1, 1.21 / 1.01)])
def test_directions_that_points_fill(width, expected):
    grid = np.linspace(-1.0, 1.0, 9)
    across, along = np.meshgrid(grid, grid)
    flat = np.stack([across.ravel(), width * along.ravel()], axis=1)
    turned = np.linalg.qr(np.random.default_rng(0).normal(size=(6, 6)))[0][:2]
    points = 3.0 + 5.0 * flat @ turned
    for shape in (-1, 6), (-1, 2, 3):
        found = metrics.filled_directions(points.reshape(shape))
        assert found == pytest.approx(expected)
    spare = losses.spare_directions(tf.constant(points[None]))
    assert float(spare) == pytest.approx(expected - 1.0, rel=1e-2)


def test_directions_of_points_that_do_not_vary_or_are_not_finite():
    assert metrics.filled_directions(np.ones((4, 3))) == 0.0
    assert np.isnan(metrics.filled_directions(np.full((4, 3), np.nan)))


def pendulum_states(count=600):
    """States on the circles that pendulums start on, q and p [count, 1]."""
    rng = np.random.default_rng(0)
    angle = rng.uniform(0, 2 * np.pi, count)
    radius = rng.uniform(1.3, 2.3, count)
    states = radius * np.stack([np.cos(angle), np.sin(angle)])
    return tuple(states[..., None])


def test_symetric_of_symplectic_maps_passes():
    q, p = pendulum_states()
    sheared = q, p + 0.3 * q + 0.2 * q**2
    swapped = -3.0 * p, 3.0 * q
    for learned in ((q, p), sheared, swapped):
        found = metrics.symetric(learned, (q, p))
        assert found.passed == 1.0
        assert found.r2 > 0.999 and found.sym < 1e-3


@pytest.mark.parametrize("unit", [1e-4, 1e4])
def test_units_are_no_matter_to_symetric(unit):
    q, p = pendulum_states()
    found = metrics.symetric((q, p), (q, unit * p))
    assert found.passed == 1.0 and found.sym < 1e-3


def test_symetric_of_a_map_that_bends_q_alone_fails():
    q, p = pendulum_states()
    found = metrics.symetric((q + 0.1 * q**3, p), (q, p))
    assert found.r2 > 0.99 and found.sym > 0.05
    assert found.passed == 0.0


@pytest.mark.filterwarnings("error")
def test_symetric_leaves_out_a_true_coordinate_that_rests():
    """As of a body that is held; none of it has a variance to explain."""
    rng = np.random.default_rng(3)
    q, p = rng.normal(size=(2, 200, 2))
    q[:, 1] = p[:, 1] = 0.5
    assert metrics.symetric((q, p), (q, p)).r2 == pytest.approx(1.0, abs=1e-4)
    still = np.full((200, 1), 0.5)
    assert metrics.symetric((q, p), (still, still)).r2 == 0.0


@pytest.mark.parametrize("dof", [1, 2, 12])
def test_symetric_of_a_map_without_a_two_form_fails(dof):
    """Whatever the number of coordinates that a mean is over."""
    rng = np.random.default_rng(4)
    q, p = rng.normal(size=(2, 400, dof))
    found = metrics.symetric((q, q), (q, p))
    assert found.sym == 1.0 and found.passed == 0.0


def test_symetric_of_noise_fails():
    q, p = pendulum_states()
    rng = np.random.default_rng(1)
    found = metrics.symetric(rng.normal(size=(2, *q.shape)), (q, p))
    assert found.r2 < 0.1 and found.passed == 0.0


def test_symetric_sees_through_idle_coordinates():
    q, p = pendulum_states()
    rng = np.random.default_rng(1)
    idle = 0.1 * rng.normal(size=(2, len(q), 3))
    learned = [np.concatenate(pair, 1) for pair in ((q, idle[0]), (p, idle[1]))]
    assert metrics.symetric(learned, (q, p)).passed == 1.0


@pytest.mark.parametrize("size", [2, 16, 17, 256])
def test_symetric_sees_a_system_in_a_larger_latent(size):
    q, p = pendulum_states()
    rng = np.random.default_rng(1)
    bent = q + 0.1 * q**3
    for part, passed in ((q, 1.0), (bent, 0.0)):
        learned = [
            x + 0.01 * rng.normal(size=x.shape) / size**0.5
            for x in embedded(part, p, size)
        ]
        assert metrics.symetric(learned, (q, p)).passed == passed
    assert metrics.symetric(embedded(q, p, size), (q, p)).passed == 1.0
    assert metrics.two_form(embedded(q, p, size), (q, p)).defect < 1e-3


@pytest.mark.parametrize("width", [0.0, 0.01, 0.2])
def test_symetric_knows_a_scale_that_follows_the_energy(width):
    """A spare coordinate labels it, too narrow to count or not."""
    q, p = pendulum_states()
    energy = 0.5 * (q**2 + p**2)
    label = (energy - energy.mean()) / energy.std()
    scale = 1.0 + 0.1 * label
    learned = (
        np.concatenate([scale * q, width * label], axis=1),
        np.concatenate([scale * p, 0.0 * label], axis=1),
    )
    found = metrics.symetric(learned, (q, p))
    assert found.r2 > 0.99 and found.passed == 0.0
    assert metrics.two_form(learned, (q, p)).defect > 0.01


STEP, REACH = 0.005, 1.06  # seconds; C over the highest energy


def pendulums_and_another_law():
    """True motions, and the same ones by the bent law of docs/law_trials.md.

    Returns: q, p and energy, bent q and p [motions, time], and C.
    """
    system, rng = Pendulum(), np.random.default_rng(0)
    starts = zip(*(system.sample_state(rng) for _ in range(80)), strict=True)
    times = STEP * np.arange(601)
    q, p = system.simulate(*(np.stack(part) for part in starts), times)
    energy = system.hamiltonian(q, p)
    highest = REACH * energy.max()

    def share(x):
        return 1.0 - system.hamiltonian(x, 0.0 * x) / highest

    still = np.linspace(-2.8, 2.8, 20_001)
    stretch = scipy.interpolate.CubicSpline(
        still, share(still[:, None]) ** -0.5
    ).antiderivative()
    unit = (2.0 * system.mass * highest) ** 0.5
    speed = p[..., 0] / system.mass / share(q) ** 0.5
    bent_q = stretch(q[..., 0]) - stretch(0.0)
    bent_p = unit * np.arctanh(system.mass * speed / unit)
    return q[..., 0], p[..., 0], energy, bent_q, bent_p, highest


def test_another_exact_law_with_a_kinetic_energy_of_its_own():
    """Hamilton's equations of K(p) + V(q), by differences in time."""
    q, p, energy, bent_q, bent_p, highest = pendulums_and_another_law()
    system = Pendulum()
    unit = (2.0 * system.mass * highest) ** 0.5
    still = q[..., None]
    share = 1.0 - system.hamiltonian(still, 0.0 * still) / highest
    dK_dp = unit / system.mass * np.tanh(bent_p / unit)
    dV_dq = system.gradient(still, still)[0][..., 0] / share**0.5
    for part, rate in (bent_q, dK_dp), (bent_p, -dV_dq):
        found = np.gradient(part, STEP, axis=1)[:, 2:-2]
        np.testing.assert_allclose(found, rate[:, 2:-2], atol=1e-3)
    kinetic = 2.0 * highest * np.log(np.cosh(bent_p / unit))
    bent = -highest * np.log(1.0 - energy / highest)
    np.testing.assert_allclose(kinetic - highest * np.log(share), bent)


def test_measures_know_a_right_motion_with_a_bent_energy():
    q, p, energy, bent_q, bent_p, highest = pendulums_and_another_law()
    bent = -highest * np.log(1.0 - energy[:, 0] / highest)
    assert metrics.r_squared(bent, energy[:, 0]) < 0.93
    assert metrics.rank_correlation(bent, energy[:, 0]) > 0.999
    states, truth = (
        [np.reshape(part[:, ::20], [-1, 1]) for part in pair]
        for pair in ((bent_q, bent_p), (q, p))
    )
    assert metrics.two_form(states, truth).defect > 0.1
    assert metrics.symetric(states, truth).passed == 0.0


def test_symetric_of_one_number_needs_a_bent_map():
    """A linear map of one degree of freedom is symplectic, whatever it is."""
    q, p = pendulum_states()
    rng = np.random.default_rng(1)
    for count, passed in ((15, 1.0), (16, 0.0)):
        idle = 0.2 * rng.normal(size=(2, len(q), count))
        learned = [
            np.concatenate(pair, 1) for pair in ((q, idle[0]), (p, idle[1]))
        ]
        assert metrics.symetric(learned, (q, p)).passed == passed


def embedded(q, p, size=6, seed=0):
    """The same states in more coordinates, by a linear symplectic map."""
    turned, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(size, 2)))
    return q @ turned[:, : q.shape[1]].T, p @ turned[:, : p.shape[1]].T


def test_two_form_of_symplectic_maps_is_the_true_one():
    q, p = pendulum_states()
    sheared = q, p + 0.3 * q + 0.2 * q**2
    swapped = -3.0 * p, 3.0 * q
    for learned in ((q, p), sheared, swapped, embedded(q, p)):
        found = metrics.two_form(learned, (q, p))
        assert found.r2 > 0.999 and found.defect < 1e-3


def test_two_form_knows_a_bent_map_whatever_coordinates_are_spare():
    q, p = pendulum_states()
    # W = (1 + 0.3 q^2) E.
    factor = 1.0 + 0.3 * q**2
    expected = factor.var() / np.square(factor).mean()
    for learned in ((q + 0.1 * q**3, p), embedded(q + 0.1 * q**3, p)):
        found = metrics.two_form(learned, (q, p))
        assert found.defect == pytest.approx(expected, rel=0.25)
        assert found.defect > 0.05


@pytest.mark.parametrize("factor", [2.0, 3.0, 0.7, -1.3])
def test_two_form_of_one_number_twice_is_none(factor):
    """q and p carry the same number: nothing is left of dq ^ dp."""
    q, p = pendulum_states()
    assert metrics.two_form((q, factor * q), (q, p)).defect == 1.0


@pytest.mark.parametrize("seed", range(4))
def test_two_form_of_noise_is_none(seed):
    q, p = pendulum_states()
    noise = np.random.default_rng(seed).normal(size=(2, *q.shape))
    for learned in ((q, 0.1 * noise[0]), noise, (0.0 * q, 0.0 * p)):
        found = metrics.two_form(learned, (q, p))
        assert found.r2 < 0.1 and found.defect == 1.0


def test_two_form_does_not_depend_on_units():
    q, p = pendulum_states()
    bent = q + 0.1 * q**3
    found = metrics.two_form((bent, p), (q, p)).defect
    for size in (0.005, 30.0):
        again = metrics.two_form((bent, size * p), (q, p / size))
        assert again.defect == pytest.approx(found, rel=1e-3)


def test_two_form_leaves_out_what_true_states_do_not_fill():
    """Two bodies about a centre at rest: four of eight numbers are free."""
    rng = np.random.default_rng(0)
    q, p = rng.normal(size=(2, 400, 2))
    truth = np.concatenate([q, -q], 1), np.concatenate([p, -p], 1)
    assert metrics.two_form((q, p), truth).defect < 1e-3
    bent = metrics.two_form((q + 0.1 * q**3, p), truth)
    assert bent.r2 > 0.99 and bent.defect > 0.05


@pytest.mark.parametrize(
    "count, other", [(19, 19), (30, 40)], ids=["few", "not as many"]
)
def test_symetric_refuses_states_that_do_not_fit(count, other):
    q, p = pendulum_states(40)
    with pytest.raises(ValueError, match="as many finite states"):
        metrics.symetric((q[:count], p[:count]), (q[:other], p[:other]))
    with pytest.raises(ValueError, match="as many finite states"):
        metrics.two_form((q[:count], p[:count]), (q[:other], p[:other]))
