"""Priors: the soft uniform against quadrature, phase states, configurations."""

import json

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from scipy import special, stats

from hgn_tf.models.nhf.priors import (
    SoftUniform,
    distribution_config,
    distribution_from,
    phase_prior,
)

tfd = tfp.distributions
SHAPES = [(6.0, 8.0), (1.0, 0.5), (0.3, 20.0), (4.0, 100.0)]


def soft_uniform(sigma, beta):
    return SoftUniform(np.float64(sigma), np.float64(beta))


def formula(s, sigma, beta):
    """The paper's, up to its constant."""
    right, left = beta * (s + sigma / 2), -beta * (s - sigma / 2)
    return special.expit(right) * special.expit(left)


def integral(function, sigma, beta, end=None):
    # The trapezoid rule: on a smooth function that ends in zeros it is exact.
    far = sigma / 2 + 40 / beta
    s = np.linspace(-far, far if end is None else end, 200_001)
    return np.trapezoid(function(s), s)


@pytest.mark.parametrize("sigma,beta", SHAPES)
def test_soft_uniform_is_the_formula_with_its_integral_1(sigma, beta):
    prior, x = soft_uniform(sigma, beta), np.linspace(-sigma, sigma, 9)
    total = integral(lambda s: formula(s, sigma, beta), sigma, beta)
    exact = np.log(formula(x, sigma, beta) / total)
    np.testing.assert_allclose(prior.log_prob(x), exact, atol=1e-7)
    variance = integral(lambda s: s**2 * prior.prob(s), sigma, beta)
    np.testing.assert_allclose(prior.variance(), variance, rtol=1e-6)


@pytest.mark.parametrize("sigma,beta", SHAPES)
def test_cdf_is_the_integral_and_quantile_its_inverse(sigma, beta):
    prior = soft_uniform(sigma, beta)
    for share in (0.001, 0.3, 0.5, 0.999):
        at = prior.quantile(np.float64(share)).numpy()
        np.testing.assert_allclose(prior.cdf(at), share, rtol=1e-9)
        found = integral(prior.prob, sigma, beta, end=at)
        np.testing.assert_allclose(found, share, rtol=1e-6)


@pytest.mark.parametrize("sigma,beta", SHAPES)
def test_samples_follow_the_cdf(sigma, beta):
    prior = soft_uniform(sigma, beta)
    samples = prior.sample(5000, seed=(0, 1)).numpy()
    assert stats.kstest(samples, lambda s: prior.cdf(s).numpy()).pvalue > 0.01
    np.testing.assert_array_equal(samples, prior.sample(5000, seed=(0, 1)))


def test_far_tails_are_finite_and_batches_broadcast():
    prior = SoftUniform([1.0, 2.0], [3.0, 50.0])
    assert prior.batch_shape == (2,) and prior.sample(3).shape == (3, 2)
    far = prior.log_prob([[1e4], [-1e4]])
    assert np.isfinite(far).all() and far.dtype == tf.float32
    np.testing.assert_array_equal(prior.cdf([1e4, -1e4]), [1, 0])


def _cdf(prior):
    return lambda s: prior.cdf(s).numpy()


def test_one_beta_serves_a_batch_of_widths():
    wide = np.array([1.0, 4.0])
    prior = SoftUniform(wide, 8.0)
    assert prior.batch_shape == (2,) and prior.dtype == tf.float64
    samples = prior.sample(5000, seed=(0, 1)).numpy()
    for index, sigma in enumerate(wide):
        alone = SoftUniform(sigma, 8.0)
        at = np.linspace(-1, 1, 5)
        expected = alone.log_prob(at)
        found = prior.log_prob(at[:, None])[:, index]
        np.testing.assert_allclose(found, expected)
        spread = stats.kstest(samples[:, index], _cdf(alone))
        assert spread.pvalue > 0.01
    assert SoftUniform(6.0, np.float64(8)).dtype == tf.float64


def test_sigma_and_beta_must_be_positive():
    with pytest.raises(ValueError, match="`sigma` must be positive"):
        SoftUniform(0.0, 8.0)
    with pytest.raises(ValueError, match="`beta` must be positive"):
        SoftUniform(6.0, [1.0, -8.0])


PRIORS = {
    "normal": "normal",
    "soft_uniform": "soft_uniform",
    "number": SoftUniform(5.0, 8.0),
    "pair": (SoftUniform(6.0, 8.0), "normal"),
    "vectors": (
        tfd.MultivariateNormalDiag(scale_diag=[1.0, 2.0]),
        tfd.StudentT(5.0, 0.0, np.float32(1.5)),
    ),
    "joint": tfd.MultivariateNormalTriL(
        np.ones(4, "f4"), 2 * np.eye(4, dtype="f4")
    ),
    "mixture": tfd.MixtureSameFamily(
        tfd.Categorical(probs=[0.3, 0.7]), tfd.Normal([-1.0, 1.0], 0.5)
    ),
}


@pytest.mark.parametrize("name", PRIORS)
def test_prior_covers_the_state_and_survives_json(name):
    prior = phase_prior(PRIORS[name], 2, "float32")
    assert prior.event_shape == (4,) and prior.batch_shape == ()
    config = json.loads(json.dumps(distribution_config(PRIORS[name])))
    again = phase_prior(distribution_from(config), 2, "float32")
    x = prior.sample(5, seed=(0, 1))
    np.testing.assert_array_equal(again.log_prob(x), prior.log_prob(x))


@pytest.mark.parametrize(
    "prior",
    [
        tfd.Normal(np.float64(0), np.float64(1)),
        SoftUniform(np.float64(6), np.float64(8)),
    ],
)
def test_numbers_of_numpy_keep_their_precision_in_json(prior):
    config = json.loads(json.dumps(distribution_config(prior)))
    assert distribution_from(config).dtype == "float64"


def test_pair_is_the_product_of_its_parts():
    prior = phase_prior((SoftUniform(6.0, 8.0), "normal"), 2, "float32")
    x = prior.sample(7, seed=(0, 1)).numpy()
    exact = stats.norm.logpdf(x[:, 2:]).sum(1)
    exact += SoftUniform(6.0, 8.0).log_prob(x[:, :2]).numpy().sum(1)
    np.testing.assert_allclose(prior.log_prob(x), exact, rtol=1e-5)


@pytest.mark.parametrize(
    "prior,match",
    [
        ("gauss", "must be one of \\['normal', 'soft_uniform'\\]"),
        (tfd.MultivariateNormalDiag([0.0, 0.0]), "must cover q and p"),
        (("normal", None), "must be one of"),
        (("normal",), "must be \\(q, p\\): without p"),
        (tfd.Normal(np.float64(0), 1), "in float32"),
        (tfd.Normal([0.0, 0.0], 1.0), "must cover q and p"),
        (tfd.Normal(tf.Variable(0.0), 1.0), "without variables"),
        (
            tfd.JointDistributionSequential(2 * [tfd.Normal(0.0, 1.0)]),
            "must have one event",
        ),
    ],
)
def test_prior_that_cannot_be_is_refused(prior, match):
    with pytest.raises(ValueError, match=match):
        phase_prior(prior, 2, "float32")


def test_prior_that_cannot_be_saved_is_refused():
    normal = tfd.Normal(0.0, 1.0)
    prior = tfd.TransformedDistribution(normal, tfp.bijectors.Exp())
    with pytest.raises(ValueError, match="To be saved, a prior must be a name"):
        distribution_config(prior)
