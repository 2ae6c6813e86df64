"""What every density gives: draws, ln p, entropy."""

import functools
import math

import numpy as np


class Density:
    """A density that can be drawn from and evaluated exactly.

    Attributes:
      dim: Coordinates of a point.
      modes: Local maxima [k, dim], where they are known; else None.
      half_width: The square [-half_width, half_width]^2 has all of the mass
        but 1e-7 of it; None outside of the plane.
      step: Of a grid that resolves the density, half of its narrowest
        standard deviation or less; None outside of the plane.
    """

    dim = 2
    modes = None
    half_width = None
    step = None

    def sample(self, n: int, seed) -> np.ndarray:
        """Independent draws, float32 [n, dim].

        Args:
          n: How many, at least 1.
          seed: As `numpy.random.default_rng` takes it: a number, a list of
            numbers, or a Generator.
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
        """Midpoints [n, 2] of cells that cover the square, and their area."""
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
