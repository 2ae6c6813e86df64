"""A mass on a spring without friction."""

import dataclasses

import numpy as np

from tfds_physics.systems import base


@dataclasses.dataclass(frozen=True, kw_only=True)
class MassSpring(base.System):
    """H = stiffness q^2 / 2 + p^2 / (2 mass); q is metres from rest.

    The disc moves along the horizontal line through the picture's centre.
    A start is uniform on a circle in the plane of q and p. (At other
    parameters than these, a circle has no single energy; at these it has.)

    Attributes:
      stiffness: Newtons per metre.
      mass: Kilograms.

    Source: Toth et al. 2019, Hamiltonian Generative Networks, section 4.
    """

    stiffness: float = 2.0
    mass: float = 0.5
    start_radius: tuple[float, float] = (0.1, 1.0)
    half_width: float = 1.4
    noise: float = 0.1

    @property
    def dof(self) -> int:
        return 1

    @property
    def masses(self) -> np.ndarray:
        return np.array([self.mass])

    def hamiltonian(self, q: np.ndarray, p: np.ndarray) -> np.ndarray:
        potential = self.stiffness * q[..., 0] ** 2 / 2
        return potential + p[..., 0] ** 2 / (2 * self.mass)

    def gradient(
        self, q: np.ndarray, p: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        return self.stiffness * q, p / self.mass

    def sample_state(
        self, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        q, p = base.sample_on_circle(rng, self.start_radius)
        return np.array([q]), np.array([p])

    def positions(self, q: np.ndarray) -> np.ndarray:
        return np.stack([q, np.zeros_like(q)], axis=-1)
