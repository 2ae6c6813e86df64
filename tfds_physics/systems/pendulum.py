"""A pendulum: a bob on a rod without mass."""

import dataclasses

import numpy as np

from tfds_physics.systems import base


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pendulum(base.System):
    """H = factor m g l (1 - cos q) + p^2 / (2 m l^2), q in radians.

    q is 0 when the bob hangs at rest, at the bottom of the picture, grows
    counter-clockwise, and is not wrapped. Only the bob is drawn.

    The paper prints the potential 2 m g l (1 - cos q), twice that of a bob on
    a rod; `potential_factor` of 2 follows the print, and
    `Pendulum(potential_factor=1.0)` is the textbook's. A start is uniform on
    a circle in the plane of q and p.

    Attributes:
      mass: m, kilograms.
      length: l, metres.
      gravity: g, metres per second squared.
      potential_factor: Factor of the potential, without unit.

    Source: Toth et al. 2019, Hamiltonian Generative Networks, section 4.
    """

    mass: float = 0.5
    length: float = 1.0
    gravity: float = 3.0
    potential_factor: float = 2.0
    start_radius: tuple[float, float] = (1.3, 2.3)
    half_width: float = 1.4
    noise: float = 0.1

    @property
    def dof(self) -> int:
        return 1

    @property
    def masses(self) -> np.ndarray:
        return np.array([self.mass])

    def hamiltonian(self, q: np.ndarray, p: np.ndarray) -> np.ndarray:
        potential = self._torque * (1 - np.cos(q[..., 0]))
        return potential + p[..., 0] ** 2 / (2 * self._inertia)

    def gradient(
        self, q: np.ndarray, p: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        return self._torque * np.sin(q), p / self._inertia

    def sample_state(
        self, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        q, p = base.sample_on_circle(rng, self.start_radius)
        return np.array([q]), np.array([p])

    def positions(self, q: np.ndarray) -> np.ndarray:
        return self.length * np.stack([np.sin(q), -np.cos(q)], axis=-1)

    @property
    def _torque(self) -> float:
        return self.potential_factor * self.mass * self.gravity * self.length

    @property
    def _inertia(self) -> float:
        return self.mass * self.length**2
