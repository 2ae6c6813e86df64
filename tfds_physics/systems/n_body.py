"""Equal bodies in a plane that attract each other by gravity."""

import dataclasses
import itertools
from collections.abc import Iterator

import numpy as np

from tfds_physics.systems import base


@dataclasses.dataclass(frozen=True, kw_only=True)
class NBody(base.System):
    """H = sum_i p_i^2 / (2 m) - sum_{i<j} g m^2 / |q_i - q_j|.

    Coordinates are (x1, y1, x2, y2, ...) metres, y up; q and p have 2 per
    body.

    A start puts the bodies on a regular polygon of radius r, turned by a
    uniform angle, each with the speed of the circular orbit about the centre.
    Then two bodies have both speeds multiplied by one 1 + 0.05 N(0, 1), which
    keeps their centre of mass at rest; three and more have each component of
    their velocities multiplied by its own U(0.8, 1.2), so that theirs drifts
    and they may leave the picture on long runs.

    Attributes:
      num_bodies: Two or more.
      mass: m of every body, kilograms.
      gravity: g, newtons square metre per square kilogram.

    Source: Toth et al. 2019, Hamiltonian Generative Networks, section 4;
      starts as in the code of Greydanus et al. 2019, but over the whole
      circle.
    """

    num_bodies: int
    mass: float = 1.0
    gravity: float = 1.0
    half_width: float = 2.75

    def __post_init__(self):
        super().__post_init__()
        if not isinstance(self.num_bodies, int) or self.num_bodies < 2:
            raise ValueError(
                "`num_bodies` must be a whole number of at least 2. "
                f"Received: {self.num_bodies!r}."
            )
        if self.start_radius[0] == 0:
            raise ValueError(
                "`start_radius` of bodies must start above 0, or they would "
                f"start at one place. Received: {self.start_radius!r}."
            )

    @property
    def dof(self) -> int:
        return 2 * self.num_bodies

    @property
    def masses(self) -> np.ndarray:
        return np.full(self.num_bodies, self.mass)

    def hamiltonian(self, q: np.ndarray, p: np.ndarray) -> np.ndarray:
        energy = np.zeros(p.shape[:-1], p.dtype)
        for component in range(self.dof):
            energy = energy + p[..., component] ** 2 / (2 * self.mass)
        for _, _, dx, dy in self._pairs(q):
            distance = np.sqrt(dx**2 + dy**2)
            energy = energy - self.gravity * self.mass**2 / distance
        return energy

    def gradient(
        self, q: np.ndarray, p: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        dH_dq = np.zeros((self.dof, *q.shape[:-1]))
        for i, j, dx, dy in self._pairs(q):
            squared = dx**2 + dy**2
            pull = self.gravity * self.mass**2 / (squared * np.sqrt(squared))
            dH_dq[2 * i] -= pull * dx
            dH_dq[2 * i + 1] -= pull * dy
            dH_dq[2 * j] += pull * dx
            dH_dq[2 * j + 1] += pull * dy
        return np.moveaxis(dH_dq, 0, -1), p / self.mass

    def sample_state(
        self, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        radius = rng.uniform(*self.start_radius)
        turn = rng.uniform(0.0, 2.0 * np.pi)
        corners = np.arange(self.num_bodies) / self.num_bodies
        angles = turn + 2.0 * np.pi * corners
        outward = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
        along = np.stack([-np.sin(angles), np.cos(angles)], axis=-1)
        velocity = self._circular_speed(radius) * along  # [bodies, 2]
        if self.num_bodies == 2:
            velocity *= 1.0 + 0.05 * rng.standard_normal()
        else:
            velocity *= rng.uniform(0.8, 1.2, velocity.shape)
        return (radius * outward).ravel(), (self.mass * velocity).ravel()

    def positions(self, q: np.ndarray) -> np.ndarray:
        return q.reshape(*q.shape[:-1], self.num_bodies, 2)

    def _circular_speed(self, radius: float) -> float:
        """v^2 / r equals the pull of the n - 1 others towards the centre."""
        halves = np.pi * np.arange(1, self.num_bodies) / self.num_bodies
        pull = np.sum(1.0 / np.sin(halves)) / 4.0
        return np.sqrt(self.gravity * self.mass * pull / radius)

    def _pairs(
        self, q: np.ndarray
    ) -> Iterator[tuple[int, int, np.ndarray, np.ndarray]]:
        """Yields i, j and the components of q_j - q_i for i < j."""
        for i, j in itertools.combinations(range(self.num_bodies), 2):
            dx = q[..., 2 * j] - q[..., 2 * i]
            dy = q[..., 2 * j + 1] - q[..., 2 * i + 1]
            yield i, j, dx, dy
