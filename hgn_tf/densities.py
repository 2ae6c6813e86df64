"""Densities with known entropy, to measure density models against.

All but the last are in the plane. Where FFJORD (Grathwohl et al. 2019, its
toy_data.py) has them they are FFJORD's, with independent draws in place of
equal counts; other departures are said where they are. Numpy alone.
"""

import functools
import math
from collections.abc import Callable, Sequence

import numpy as np
from scipy.special import i0e, logsumexp

__all__ = ["DENSITIES", "Density", "get_density"]

_ROWS = 500  # at once: [rows, means] should fit into a cache


class Density:
    """A density that can be drawn from and evaluated exactly.

    Attributes:
      dim: Coordinates of a point.
      modes: Local maxima [k, dim], where they are known; else None.
      half_width: Half the side of the square around 0 that has all of the
        mass but 1e-7; None outside of the plane.
      step: Step of a grid that resolves the density, at most half of its
        narrowest standard deviation; None outside of the plane.
    """

    dim: int = 2
    modes: np.ndarray | None = None
    half_width: float | None = None
    step: float | None = None

    def sample(
        self, n: int, seed: int | Sequence[int] | np.random.Generator
    ) -> np.ndarray:
        """Independent draws, float32 [n, dim].

        Args:
          n: Number of points, at least 1.
          seed: Seed as `numpy.random.default_rng` takes it: a number, a list
            of numbers, or a Generator.
        Raises: ValueError: if n is below 1.
        """
        if n < 1:
            raise ValueError(f"`n` must be at least 1. Received: {n}.")
        return self._draw(np.random.default_rng(seed), n).astype(np.float32)

    def log_prob(self, x: np.ndarray) -> np.ndarray:
        """Log density of points [n, dim] in nats, float64 [n].

        It is -inf off the support.

        Raises: ValueError: if the points do not have `dim` coordinates.
        """
        x = np.asarray(x, np.float64)
        if x.ndim != 2 or x.shape[1] != self.dim:
            raise ValueError(
                f"`x` must be points [n, {self.dim}]. Received: {x.shape}."
            )
        return self._log_prob(x)

    @functools.cache  # noqa: B019 (they live as long as the module)
    def entropy(self) -> float:
        """-E[ln p] in nats: in closed form, or by quadrature to 1e-6."""
        return self._entropy()

    def grid(self) -> tuple[np.ndarray, float]:
        """Midpoints [n, 2] of cells that cover the square, and their area.

        Raises: ValueError: if the density is not in the plane.
        """
        if self.half_width is None or self.step is None:
            raise ValueError(
                "A grid covers densities of the plane. "
                f"Received: {self.dim} coordinates."
            )
        count = math.ceil(2 * self.half_width / self.step)
        step = 2 * self.half_width / count
        line = (np.arange(count) + 0.5) * step - self.half_width
        return np.stack(np.meshgrid(line, line), -1).reshape(-1, 2), step**2

    def _entropy(self):
        points, area = self.grid()
        log_prob = self._log_prob(points)
        return -area * float(np.sum(np.exp(log_prob) * log_prob))

    def _draw(self, rng, n):
        raise NotImplementedError

    def _log_prob(self, x):
        raise NotImplementedError


class GaussianMixture(Density):
    """Round Gaussians of equal weight and standard deviation `scale`.

    Args:
      modes: Means [k, 2], at least 7 `scale` apart, so that they are the
        modes too.
      scale: Standard deviation.
    """

    def __init__(self, modes: Sequence[tuple[float, float]], scale: float):
        self._means = np.asarray(modes, np.float64)
        self.modes = self._means
        self.scale = scale
        self.half_width = float(np.abs(self._means).max()) + 6 * scale
        self.step = scale / 2

    def _draw(self, rng, n):
        modes = self._means[rng.integers(len(self._means), size=n)]
        return modes + self.scale * rng.standard_normal((n, 2))

    def _log_prob(self, x):
        weights = np.full(len(self._means), 1 / len(self._means))
        return _mixture(x, self._means, weights, self.scale)


class NoisyCurves(Density):
    """A point of one of two curves, and round Gaussian noise `scale`.

    The density is the integral along the curves, by Gauss-Legendre nodes that
    lie closer than half a `scale`.

    Args:
      curves: Callable, parameter [n] -> the two curves [2, n, 2].
      start: First value of the parameter.
      stop: Last value of the parameter.
      power: Exponent with which the density of the parameter grows.
      scale: Standard deviation of the noise.
      half_width: Half the side of the square, see `Density`.
      num_nodes: Number of nodes of the quadrature.
    """

    def __init__(
        self,
        curves: Callable[[np.ndarray], np.ndarray],
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


def moons(angle: np.ndarray) -> np.ndarray:
    """The two arcs of scikit-learn's make_moons, as FFJORD scales them."""
    cos, sin = np.cos(angle), np.sin(angle)
    arcs = np.stack([[cos, sin], [1 - cos, 0.5 - sin]]).swapaxes(1, 2)
    return 2 * arcs + [-1.0, -0.2]


def spirals(angle: np.ndarray) -> np.ndarray:
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


_CORNERS = [(x, y) for x in (-1.5, 1.5) for y in (-1.5, 1.5)]
_LATTICE = [(x, y) for x in (-1.5, 0, 1.5) for y in (-1.5, 0, 1.5)]

DENSITIES = {
    "two_gaussians": GaussianMixture([(-1.5, 0), (1.5, 0)], 0.3),
    "four_gaussians": GaussianMixture(_CORNERS, 0.3),
    "nine_gaussians": GaussianMixture(_LATTICE, 0.2),
    # Noise 0.1 before the factor 2, as in FFJORD.
    "two_moons": NoisyCurves(moons, 0.0, np.pi, 0, 0.2, 4.2, 128),
    "rings": Rings(),
    "checkerboard": Checkerboard(),
    "pinwheel": Pinwheel(),
    # Departure: without FFJORD's uniform noise of 0.5 / 3 on the curve.
    "two_spirals": NoisyCurves(spirals, 0.0, 3 * np.pi, 1, 0.1, 3.8, 768),
    "funnel_8d": Funnel(),
}


def get_density(name: str) -> Density:
    """The entry of DENSITIES called `name`, or a ValueError with its keys."""
    if name not in DENSITIES:
        raise ValueError(
            f"`density` must be one of {list(DENSITIES)}. Received: {name!r}."
        )
    return DENSITIES[name]
