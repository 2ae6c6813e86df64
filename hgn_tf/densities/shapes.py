"""Rings, a checkerboard, a pinwheel, a funnel."""

import math

import numpy as np
from scipy.special import i0e, logsumexp

from hgn_tf.densities.base import Density


class Rings(Density):
    """Four circles of equal weight around 0, and Gaussian noise."""

    radii = np.array([3.0, 2.25, 1.5, 0.75])
    scale = 0.08
    half_width = 3.5
    step = 0.04

    def _draw(self, rng, n):
        radius = self.radii[rng.integers(4, size=n)]
        angle = rng.uniform(0, 2 * np.pi, n)
        circle = np.stack([np.cos(angle), np.sin(angle)], -1)
        return radius[:, None] * circle + self.scale * rng.standard_normal(
            (n, 2)
        )

    def _log_prob(self, x):
        # The mean of a Gaussian over a circle is the Bessel function I0.
        radius, variance = np.linalg.norm(x, axis=1)[:, None], self.scale**2
        terms = -((radius - self.radii) ** 2) / (2 * variance) + np.log(
            i0e(radius * self.radii / variance)
        )
        return logsumexp(terms, axis=1) - np.log(4 * 2 * np.pi * variance)


class Checkerboard(Density):
    """Uniform on eight squares of side 2 in [-4, 4]^2; entropy ln 32."""

    half_width = 4.0
    step = 0.05

    def _draw(self, rng, n):
        column, row = rng.integers(4, size=n), rng.integers(2, size=n)
        corner = np.stack([column, 2 * row + column % 2], -1)
        # Multiples of 2^-20, which float32 holds: no point is rounded onto
        # the edge of its square, beyond which the density is 0.
        within = (rng.integers(2**20, size=(n, 2)) + 0.5) / 2**20
        return 2 * (corner + within) - 4

    def _log_prob(self, x):
        inside = (np.abs(x) < 4).all(axis=1)
        dark = np.floor(x / 2).sum(axis=1) % 2 == 0
        return np.where(inside & dark, -math.log(32), -np.inf)

    def _entropy(self):
        return math.log(32)


class Pinwheel(Density):
    """Five arms: Gaussians around 0, twisted by 0.25 exp(radius), times 2.

    An arm's standard deviation is 0.3 along the radius and 0.1 across.
    Departure: FFJORD twists by the exponential of the first coordinate before
    the rotation; of the radius, the twist keeps areas and the density is
    exact.
    """

    half_width = 5.6
    step = 0.02  # the twist makes arms thinner

    def _draw(self, rng, n):
        arm = rng.standard_normal((n, 2)) * self._scales + self._middle
        turn = rng.integers(5, size=n) * (2 * np.pi / 5)
        radius = np.linalg.norm(arm, axis=1)
        return 2 * _rotate(arm, turn + 0.25 * np.exp(radius))

    def _log_prob(self, x):
        x = x / 2
        x = _rotate(x, -0.25 * np.exp(np.linalg.norm(x, axis=1)))
        terms = [
            ((_rotate(x, -turn) - self._middle) / self._scales) ** 2
            for turn in np.arange(5) * (2 * np.pi / 5)
        ]
        terms = -0.5 * np.sum(terms, axis=-1)
        area = 4 * 5 * 2 * np.pi * self._scales.prod()
        return logsumexp(terms, axis=0) - np.log(area)

    _middle = np.array([1.0, 0.0])
    _scales = np.array([0.3, 0.1])


class Funnel(Density):
    """v ~ N(0, 1) and seven x_i ~ N(0, exp(v)), a point (v, x_1, ..., x_7).

    Source: Neal 2003, Slice sampling, section 8; there with nine x and a
    standard deviation of 3 for v.
    """

    dim = 8

    def _draw(self, rng, n):
        x = rng.standard_normal((n, 8))
        x[:, 1:] *= np.exp(x[:, :1] / 2)
        return x

    def _log_prob(self, x):
        v = x[:, 0]
        square = np.square(x[:, 1:]).sum(axis=1)
        terms = v**2 + square * np.exp(-v) + 7 * v
        return -0.5 * terms - 4 * math.log(2 * math.pi)

    def _entropy(self):
        # That of x_i given v is that of N(0, 1) plus v / 2, whose mean is 0.
        return 4 * math.log(2 * math.pi * math.e)


def _rotate(x, angle):
    """Points [n, 2] turned by an angle each, clockwise if it is positive."""
    cos, sin = np.cos(angle), np.sin(angle)
    return np.stack(
        [cos * x[:, 0] + sin * x[:, 1], cos * x[:, 1] - sin * x[:, 0]], -1
    )
