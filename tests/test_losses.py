"""The objective: against TFP and scipy, and what GECO's multiplier does."""

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
import tensorflow_probability as tfp

from hgn_tf import losses
from hgn_tf.losses import Geco, gaussian_kl, reconstruction


@pytest.mark.parametrize("shape", [(5,), (4, 4, 6)])
def test_kl_is_that_of_tfp(shape):
    rng = np.random.default_rng(0)
    mean, log_scale = rng.normal(size=(2, 3, *shape))
    posterior = tfp.distributions.Normal(mean, np.exp(log_scale))
    prior = tfp.distributions.Normal(tf.zeros_like(mean), 1.0)
    expected = posterior.kl_divergence(prior)
    axes = tuple(range(1, len(shape) + 1))
    kl = gaussian_kl(tf.constant(mean), tf.constant(log_scale))
    np.testing.assert_allclose(kl, np.sum(expected, axis=axes), rtol=1e-12)


def test_kl_of_the_prior_is_zero():
    zero = tf.zeros([2, 5])
    np.testing.assert_array_equal(gaussian_kl(zero, zero), [0.0, 0.0])


def test_reconstruction_is_the_mean_square_of_each_video():
    video = np.zeros((2, 3, 2, 2, 1), np.float32)
    prediction = video.copy()
    prediction[0, 1, 0, 0] = 0.5  # One of 12 pixels.
    prediction[1] = -0.25
    error = reconstruction(tf.constant(video), tf.constant(prediction))
    np.testing.assert_allclose(error, [0.25 / 12, 0.0625], rtol=1e-6)


def test_objective_at_multiplier_one_is_the_gaussian_elbo_and_a_constant():
    """Minus log N(video | prediction, tolerance), mean over frames, plus KL."""
    tolerance, rng = 0.04, np.random.default_rng(0)
    shape = (2, 3, 4, 4, 1)
    pixels = 16
    differences = []
    for _ in range(3):
        video, prediction = rng.random((2, *shape))
        kl = rng.random(2)
        likelihood = scipy.stats.norm.logpdf(video, prediction, tolerance**0.5)
        per_frame = likelihood.sum(axis=(2, 3, 4))
        elbo = np.mean(per_frame.mean(axis=1) - kl)
        error = reconstruction(tf.constant(video), tf.constant(prediction))
        geco = Geco(tolerance, dtype="float64")
        objective = geco.objective(error, tf.constant(kl), pixels)
        differences.append(float(objective) * pixels + elbo)
    assert geco.multiplier == 1.0
    assert np.ptp(differences) < 1e-10
    constant = -0.5 * pixels * (1 + np.log(2 * np.pi * tolerance))
    np.testing.assert_allclose(differences[0], constant, rtol=1e-10)


def multipliers(geco, error, num_steps=30):
    """The multiplier after each of some steps at one error, [num_steps]."""
    found = []
    for _ in range(num_steps):
        geco.update(tf.constant([error, error]))
        found.append(float(geco.multiplier))
    return np.array(found)


def test_multiplier_rises_above_the_tolerance_and_falls_below():
    above = multipliers(Geco(1e-3), 2e-3)
    below = multipliers(Geco(1e-3), 5e-4)
    assert above[0] > 1 and np.all(np.diff(above) > 0)
    assert below[0] < 1 and np.all(np.diff(below) < 0)


def test_multiplier_rests_at_the_tolerance():
    # 1e-3 / 1e-3 - 1 in float32.
    np.testing.assert_allclose(multipliers(Geco(1e-3), 1e-3), 1.0, atol=1e-6)


def test_multiplier_follows_the_formula():
    geco = Geco(0.5, rate=0.2, smoothing=0.9)
    average, log_multiplier = 0.0, 0.0
    for error in (0.8, 0.1, 4.0):
        geco.update(tf.constant([error - 0.05, error + 0.05]))
        average = 0.9 * average + 0.1 * np.clip(np.log(error / 0.5), -1, 1)
        log_multiplier += 0.2 * average
    assert float(geco.average) == pytest.approx(average, rel=1e-5)
    assert float(geco.multiplier) == pytest.approx(
        np.exp(log_multiplier), rel=1e-5
    )


@pytest.mark.parametrize("factor", [1.3, 2.0, 50.0])
def test_multiplier_falls_as_fast_as_it_rises(factor):
    above = multipliers(Geco(1e-3), 1e-3 * factor)
    below = multipliers(Geco(1e-3), 1e-3 / factor)
    np.testing.assert_allclose(above * below, 1.0, rtol=1e-5)


def test_an_error_that_is_not_finite_moves_nothing():
    geco, other = Geco(0.5, rate=0.2), Geco(0.5, rate=0.2)
    for error in (np.nan, np.inf):
        geco.update(tf.constant([error, 0.75]))
        other.update(tf.constant([0.5, 0.75]))
    assert float(geco.average) == float(other.average) > 0
    assert float(geco.multiplier) == float(other.multiplier) > 1


@pytest.mark.parametrize("error", [1e3, 0.0])
def test_multiplier_stays_within_its_limits(error):
    geco = Geco(1e-3, rate=1.0, smoothing=0.0, limits=(0.5, 5.0))
    found = multipliers(geco, error)
    assert np.all((found > 0.5 - 1e-6) & (found < 5.0 + 1e-5))
    assert found[-1] == pytest.approx(5.0 if error else 0.5, rel=1e-5)


def test_limits_of_one_fix_the_multiplier():
    assert np.all(multipliers(Geco(1e-3, limits=(1.0, 1.0)), 1.0) == 1.0)


def test_gradient_leaves_the_multiplier_alone():
    geco = Geco(1e-3)
    assert not geco.trainable_variables
    assert len(geco.non_trainable_variables) == 2


def test_multiplier_survives_saving(tmp_path):
    class Owner(keras.Model):
        def __init__(self, geco):
            super().__init__()
            self.geco = geco
            self.built = True

        def call(self, x):
            return x * self.geco.multiplier

    owner = Owner(Geco(1e-3))
    multipliers(owner.geco, 2e-3)
    owner.save_weights(tmp_path / "owner.weights.h5")
    other = Owner(Geco(1e-3))
    other.load_weights(tmp_path / "owner.weights.h5")
    assert float(other.geco.multiplier) == float(owner.geco.multiplier) > 1
    assert float(other.geco.average) == float(owner.geco.average) > 0


def test_elbo_is_the_gaussian_likelihood_minus_the_divergence():
    rng = np.random.default_rng(0)
    frames, drawn = rng.uniform(size=(2, 5, 7, 12))
    kl, variance = rng.uniform(size=5), 0.03
    # [batch, frames, pixels]; the mean over frames, the sum over pixels.
    log_likelihood = scipy.stats.norm(drawn, variance**0.5).logpdf(frames)
    expected = log_likelihood.sum(axis=-1).mean(axis=-1) - kl
    error = np.square(frames - drawn).mean(axis=(1, 2))
    found = losses.gaussian_elbo(error, kl, 12, variance)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_disagreement_of_equal_states_is_0_and_of_independent_ones_near_1():
    rng = np.random.default_rng(0)
    # Widths of their own, so large that the floor does not count.
    scale = np.array([100.0, 130.0])
    first, second = scale * rng.standard_normal((2, 20_000, 2))
    np.testing.assert_array_equal(losses.disagreement(first, first), 0.0)
    # A tenth of the mean variance is added below.
    share = np.mean(2 * scale**2 / (2 * scale**2 + 0.2 * np.mean(scale**2)))
    found = np.mean(losses.disagreement(first, second))
    assert found == pytest.approx(share, rel=0.02)
    assert 0.88 < found < 1.0


def test_disagreement_does_not_shrink_with_the_states():
    rng = np.random.default_rng(0)
    first, second = rng.standard_normal((2, 64, 3))
    small = losses.disagreement(100 * first, 100 * second)
    large = losses.disagreement(1e4 * first, 1e4 * second)
    # Down to 1e-3 over the variances.
    np.testing.assert_allclose(small, large, rtol=1e-6)


def test_disagreement_of_states_that_do_not_vary_is_finite():
    assert np.all(losses.disagreement(np.ones((4, 3)), np.ones((4, 3))) == 0.0)


def test_configuration_makes_the_same_layer():
    settings = dict(tolerance=0.02, rate=0.3, smoothing=0.5)
    settings["limits"] = (0.5, 7.0)
    config = keras.saving.serialize_keras_object(Geco(**settings))
    again = keras.saving.deserialize_keras_object(config)
    assert {name: getattr(again, name) for name in settings} == settings


@pytest.mark.parametrize(
    "wrong",
    [
        {"tolerance": 0.0},
        {"tolerance": -1e-3},
        {"tolerance": float("nan")},
        {"rate": 0.0},
    ],
)
def test_tolerance_and_rate_must_be_positive(wrong):
    with pytest.raises(ValueError, match="`tolerance` and `rate` must be"):
        Geco(**wrong)


@pytest.mark.parametrize(
    "limits", [(0.0, 5.0), (2.0, 5.0), (0.2, 0.9), (0.5, float("nan"))]
)
def test_limits_without_the_start_are_refused(limits):
    with pytest.raises(ValueError, match=r"`limits` must be \(low, high\)"):
        Geco(limits=limits)


@pytest.mark.parametrize("smoothing", [-0.1, 1.0])
def test_smoothing_that_never_moves_is_refused(smoothing):
    with pytest.raises(ValueError, match="`smoothing` must be"):
        Geco(smoothing=smoothing)
