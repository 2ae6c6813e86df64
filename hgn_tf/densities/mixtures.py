"""Round Gaussians at points, and along curves."""

import math

import numpy as np

from hgn_tf.densities.base import Density

_ROWS = 500  # at once: [rows, means] should fit into a cache


class GaussianMixture(Density):
    """Round Gaussians of equal weight and standard deviation `scale`.

    Args:
      modes: Means [k, 2], at least 7 `scale` apart, so that they are the
        modes too.
      scale: Standard deviation.
    """

    def __init__(self, modes, scale: float):
        self.modes = np.asarray(modes, np.float64)
        self.scale = scale
        self.half_width = np.abs(self.modes).max() + 6 * scale
        self.step = scale / 2

    def _draw(self, rng, n):
        modes = self.modes[rng.integers(len(self.modes), size=n)]
        return modes + self.scale * rng.standard_normal((n, 2))

    def _log_prob(self, x):
        weights = np.full(len(self.modes), 1 / len(self.modes))
        return _mixture(x, self.modes, weights, self.scale)


class NoisyCurves(Density):
    """A point of one of two curves, and round Gaussian noise `scale`.

    The density is the integral along the curves, by Gauss-Legendre nodes that
    lie closer than half a `scale`.

    Args:
      curves: Callable, parameter [n] -> the two curves [2, n, 2].
      start: First parameter.
      stop: Last one.
      power: The parameter's density grows as its power.
      scale: Standard deviation of the noise.
      half_width: See `Density`.
      num_nodes: Of the quadrature.
    """

    def __init__(
        self,
        curves,
        start: float,
        stop: float,
        power: int,
        scale: float,
        half_width: float,
        num_nodes: int,
    ):
        self.curves = curves
        self.limits = start, stop
        self.power = power
        self.scale = scale
        self.half_width = half_width
        self.step = scale / 2
        nodes, weights = np.polynomial.legendre.leggauss(num_nodes)
        nodes = start + (nodes + 1) / 2 * (stop - start)
        weights = weights * nodes**power
        self._means = curves(nodes).reshape(-1, 2)
        self._weights = np.tile(weights / weights.sum() / 2, 2)

    def _draw(self, rng, n):
        start, stop = (x ** (self.power + 1) for x in self.limits)
        parameter = rng.uniform(start, stop, n) ** (1 / (self.power + 1))
        which = rng.integers(2, size=n)
        points = self.curves(parameter)[which, np.arange(n)]
        return points + self.scale * rng.standard_normal((n, 2))

    def _log_prob(self, x):
        return _mixture(x, self._means, self._weights, self.scale)


def moons(angle):
    """The two arcs of scikit-learn's make_moons, as FFJORD scales them."""
    cos, sin = np.cos(angle), np.sin(angle)
    arcs = np.stack([[cos, sin], [1 - cos, 0.5 - sin]]).swapaxes(1, 2)
    return 2 * arcs + [-1.0, -0.2]


def spirals(angle):
    """Two arms of one and a half turns, the second the first turned by pi."""
    arm = np.stack([-np.cos(angle) * angle, np.sin(angle) * angle], -1) / 3
    return np.stack([arm, -arm])


def _mixture(x, means, weights, scale):
    """Log density of a mixture of round Gaussians at points [n, 2]; [n]."""
    result = np.empty(len(x))
    for first in range(0, len(x), _ROWS):
        rows = x[first : first + _ROWS]
        square = np.square(rows[:, :1] - means[:, 0])
        square += np.square(rows[:, 1:] - means[:, 1])
        nearest = square.min(axis=1)
        square -= nearest[:, None]
        square *= -0.5 / scale**2
        mass = np.exp(square, out=square) @ weights
        result[first : first + _ROWS] = np.log(mass) - 0.5 * nearest / scale**2
    return result - math.log(2 * math.pi * scale**2)
