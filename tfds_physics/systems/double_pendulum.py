"""A pendulum that hangs from the bob of another."""

import dataclasses

import numpy as np

from tfds_physics.systems import base


@dataclasses.dataclass(frozen=True, kw_only=True)
class DoublePendulum(base.System):
    """H = p M(q)^-1 p / 2 + V(q), a Hamiltonian that is not separable.

    M = [[(m1 + m2) l1^2, m2 l1 l2 cos(q1 - q2)],
         [m2 l1 l2 cos(q1 - q2), m2 l2^2]]
    V = (m1 + m2) g l1 (1 - cos q1) + m2 g l2 (1 - cos q2)

    Both angles are measured from hanging at rest, counter-clockwise, in
    radians, and are not wrapped. H is 0 when both hang at rest. A start has
    (q1, p1) and (q2, p2) each uniform on a circle of its own radius.

    Attributes:
      mass_1: Mass of the inner bob, kilograms.
      mass_2: Mass of the outer bob, kilograms.
      length_1: Length of the inner rod, metres.
      length_2: Length of the outer rod, metres.
      gravity: g, metres per second squared.

    Source: Goldstein, Classical Mechanics, 3rd ed., section 1.6 (its
      Lagrangian); constants as in DeepMind's Hamiltonian dynamics suite, 2021.
    """

    mass_1: float = 0.5
    mass_2: float = 0.5
    length_1: float = 1.0
    length_2: float = 1.0
    gravity: float = 3.0
    start_radius: tuple[float, float] = (1.3, 2.3)
    half_width: float = 2.4
    noise: float = 0.1

    @property
    def dof(self) -> int:
        return 2

    @property
    def masses(self) -> np.ndarray:
        return np.array([self.mass_1, self.mass_2])

    def hamiltonian(self, q: np.ndarray, p: np.ndarray) -> np.ndarray:
        inner, outer = self._torques
        potential = inner * (1 - np.cos(q[..., 0]))
        potential = potential + outer * (1 - np.cos(q[..., 1]))
        numerator, determinant = self._kinetic_fraction(q, p)
        return potential + numerator / (2 * determinant)

    def gradient(
        self, q: np.ndarray, p: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        p1, p2 = p[..., 0], p[..., 1]
        difference = q[..., 0] - q[..., 1]
        inertia_1, inertia_2, coupling = self._inertias
        shared = coupling * np.cos(difference)
        numerator, determinant = self._kinetic_fraction(q, p)
        dH_dp1 = (inertia_2 * p1 - shared * p2) / determinant
        dH_dp2 = (inertia_1 * p2 - shared * p1) / determinant
        # K = N / (2 D) depends on q through q1 - q2 alone.
        dN = 2 * coupling * np.sin(difference) * p1 * p2
        dD = coupling**2 * np.sin(2 * difference)
        dK = (dN - numerator * dD / determinant) / (2 * determinant)
        inner, outer = self._torques
        dH_dq1 = dK + inner * np.sin(q[..., 0])
        dH_dq2 = -dK + outer * np.sin(q[..., 1])
        return (
            np.stack([dH_dq1, dH_dq2], axis=-1),
            np.stack([dH_dp1, dH_dp2], axis=-1),
        )

    def sample_state(
        self, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        inner = base.sample_on_circle(rng, self.start_radius)
        outer = base.sample_on_circle(rng, self.start_radius)
        q, p = np.stack([inner, outer], axis=-1)
        return q, p

    def positions(self, q: np.ndarray) -> np.ndarray:
        rods = np.stack([np.sin(q), -np.cos(q)], axis=-1)  # [..., 2, 2]
        inner = self.length_1 * rods[..., 0, :]
        outer = inner + self.length_2 * rods[..., 1, :]
        return np.stack([inner, outer], axis=-2)

    @property
    def _torques(self) -> tuple[float, float]:
        inner = (self.mass_1 + self.mass_2) * self.gravity * self.length_1
        return inner, self.mass_2 * self.gravity * self.length_2

    @property
    def _inertias(self) -> tuple[float, float, float]:
        """Diagonal of M and the factor of the cosine in it."""
        return (
            (self.mass_1 + self.mass_2) * self.length_1**2,
            self.mass_2 * self.length_2**2,
            self.mass_2 * self.length_1 * self.length_2,
        )

    def _kinetic_fraction(
        self, q: np.ndarray, p: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """N and D = det M of the kinetic energy N / (2 D)."""
        p1, p2 = p[..., 0], p[..., 1]
        inertia_1, inertia_2, coupling = self._inertias
        shared = coupling * np.cos(q[..., 0] - q[..., 1])
        numerator = inertia_2 * p1**2 + inertia_1 * p2**2
        numerator = numerator - 2 * shared * p1 * p2
        return numerator, inertia_1 * inertia_2 - shared**2
