"""Densities: mass, entropy and draws, each against another way to know it."""

import math

import numpy as np
import pytest
from scipy import stats

from hgn_tf.densities import DENSITIES, get_density

PLANAR = [name for name, density in DENSITIES.items() if density.dim == 2]
MIXTURES = [name for name in PLANAR if DENSITIES[name].modes is not None]
NORMAL = 0.5 * math.log(2 * math.pi * math.e)  # entropy of N(0, 1)


@pytest.mark.parametrize("name", PLANAR)
def test_density_integrates_to_one(name):
    points, area = DENSITIES[name].grid()
    mass = area * np.exp(DENSITIES[name].log_prob(points)).sum()
    # What lies outside of the square is below 1e-7.
    assert mass == pytest.approx(1, abs=2e-7)


@pytest.mark.parametrize("name", PLANAR)
def test_grid_resolves_the_density(name):
    density = DENSITIES[name]
    points, area = density.grid()
    count = round(2 * density.half_width / math.sqrt(area))
    log_prob = density.log_prob(points).reshape(count, count)[::2, ::2]
    mass = 4 * area * np.exp(log_prob).sum()
    # Half the points sum a smooth density to 1 already; the sum converges
    # faster than any power, so that all of them are exact.
    assert mass == pytest.approx(
        1, abs=0.02 if name == "checkerboard" else 1e-3
    )


@pytest.mark.parametrize("name", DENSITIES)
def test_entropy_is_the_mean_over_samples(name):
    density = DENSITIES[name]
    log_prob = density.log_prob(density.sample(20_000, seed=1))
    error = log_prob.std() / math.sqrt(len(log_prob))
    assert abs(density.entropy() + log_prob.mean()) <= 4 * error + 1e-12


@pytest.mark.parametrize("name", MIXTURES)
def test_entropy_of_a_mixture_is_that_of_its_parts(name):
    density = DENSITIES[name]
    # Two parts 7 standard deviations apart overlap by less than 1e-3.
    closed = math.log(len(density.modes)) + 2 * (
        NORMAL + math.log(density.scale)
    )
    assert density.entropy() == pytest.approx(closed, abs=1e-3)


def test_entropy_of_rings_is_a_radial_integral():
    rings = DENSITIES["rings"]
    radius = np.linspace(0, 4, 4001)
    log_prob = rings.log_prob(np.stack([0 * radius, radius], -1))
    integrand = -np.exp(log_prob) * log_prob * 2 * np.pi * radius
    entropy = np.trapezoid(integrand, radius)
    assert rings.entropy() == pytest.approx(entropy, abs=1e-6)


def test_entropy_of_pinwheel_is_that_of_its_arms_without_the_twist():
    line = np.arange(-3.2, 3.2, 0.02) + 0.01
    grid = np.stack(np.meshgrid(line, line), -1)
    arms = 0
    for angle in np.arange(5) * 2 * np.pi / 5:
        turn = np.array(
            [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        )
        covariance = turn @ np.diag([0.3**2, 0.1**2]) @ turn.T
        arm = stats.multivariate_normal(turn[:, 0], covariance)
        arms = arms + arm.pdf(grid) / 5
    entropy = -np.sum(arms * np.log(arms)) * 0.02**2
    # Twice as large is four times the area.
    expected = entropy + math.log(4)
    assert DENSITIES["pinwheel"].entropy() == pytest.approx(expected, abs=1e-6)


def test_entropies_in_closed_form():
    assert DENSITIES["checkerboard"].entropy() == math.log(32)
    assert DENSITIES["funnel_8d"].entropy() == pytest.approx(8 * NORMAL)


@pytest.mark.parametrize("name", PLANAR)
def test_samples_are_distributed_as_the_density_says(name):
    density = DENSITIES[name]
    points, area = density.grid()
    count = round(2 * density.half_width / math.sqrt(area))
    edges = np.linspace(-density.half_width, density.half_width, count + 1)
    edges = edges[:: math.ceil(count / 20)]
    expected, observed = (
        np.histogram2d(*x.T, bins=[edges, edges], weights=weights)[0].ravel()
        for x, weights in (
            (points, area * np.exp(density.log_prob(points))),
            (density.sample(20_000, seed=2), None),
        )
    )
    expected = 20_000 * expected
    often = expected > 10
    # What is left over, rare cells and the margin, is one more cell.
    expected, observed = (
        np.append(x[often], 20_000 - x[often].sum())
        for x in (expected, observed)
    )
    statistic = np.sum((observed - expected) ** 2 / np.maximum(expected, 10))
    assert stats.chi2.sf(statistic, len(expected) - 1) > 1e-3


def test_funnel_is_the_product_of_its_conditionals():
    funnel = DENSITIES["funnel_8d"]
    x = funnel.sample(5000, seed=3)
    v, rest = x[:, :1].astype(float), x[:, 1:]
    expected = stats.norm.logpdf(v[:, 0]) + stats.norm.logpdf(
        rest, scale=np.exp(v / 2)
    ).sum(axis=1)
    np.testing.assert_allclose(funnel.log_prob(x), expected, rtol=1e-6)
    assert stats.kstest(v[:, 0], "norm").pvalue > 1e-3
    whitened = (rest / np.exp(v / 2)).ravel()
    assert stats.kstest(whitened, "norm").pvalue > 1e-3


@pytest.mark.parametrize("name", DENSITIES)
def test_same_seed_same_samples(name):
    density = DENSITIES[name]
    first, again, other = (density.sample(50, s) for s in (4, 4, [4, 1]))
    assert first.shape == (50, density.dim) and first.dtype == np.float32
    np.testing.assert_array_equal(first, again)
    assert not np.isclose(first, other).all()


@pytest.mark.parametrize("name", MIXTURES)
def test_modes_are_local_maxima(name):
    density = DENSITIES[name]
    angle = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    circle = 0.05 * np.stack([np.cos(angle), np.sin(angle)], -1)
    top = density.log_prob(density.modes)
    for direction in circle:
        assert (density.log_prob(density.modes + direction) < top).all()


@pytest.mark.filterwarnings("error")
def test_off_the_support_is_minus_infinity_without_a_warning():
    board = DENSITIES["checkerboard"]
    points = np.array([[1, 1], [-1, 1], [3, 1], [5, 1], [-3.0, -3]])
    inside = [True, False, False, False, True]
    np.testing.assert_array_equal(np.isfinite(board.log_prob(points)), inside)
    assert np.isfinite(board.log_prob(board.sample(100_000, 5))).all()
    far = np.full((1, 2), 1e3)
    assert DENSITIES["rings"].log_prob(far) < -1e6


def test_errors_name_the_rule():
    with pytest.raises(ValueError, match="must be one of .*'rings'.*ring'"):
        get_density("ring")
    with pytest.raises(ValueError, match=r"\[n, 2\]. Received: \(3, 8\)"):
        get_density("rings").log_prob(np.zeros((3, 8)))
    with pytest.raises(ValueError, match="at least 1"):
        get_density("rings").sample(0, 0)
    with pytest.raises(ValueError, match="of the plane. Received: 8 coord"):
        get_density("funnel_8d").grid()
