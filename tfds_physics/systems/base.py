"""What every physical system gives, and its simulation in float64."""

import abc
import colorsys
import dataclasses
import math

import numpy as np

from tfds_physics.systems import integration


@dataclasses.dataclass(frozen=True, kw_only=True)
class System(abc.ABC):
    """Base of all systems: parameters with units, H, its gradients, the look.

    A subclass adds its physical parameters as fields, all positive, and
    defines `dof`, `masses`, `hamiltonian`, `gradient`, `sample_state` and
    `positions`. Arrays are float64 with coordinates last, [..., dof], and all
    methods are vectorised over the leading axes. Angles are in radians and
    never wrapped.

    Attributes:
      start_radius: Lowest and highest radius of a start, see `sample_state`.
      half_width: Half the side of the square that pictures show, metres.
      noise: Standard deviation of the Gaussian noise on each coordinate of
        the state of each frame, in the coordinate's unit.
    """

    start_radius: tuple[float, float]
    half_width: float
    noise: float

    def __post_init__(self):
        for name, value in self.parameters.items():
            _check_positive(name, value)
        _check_positive("half_width", self.half_width)
        if not (math.isfinite(self.noise) and self.noise >= 0):
            raise ValueError(
                "`noise` must be finite and not negative. "
                f"Received: {self.noise!r}."
            )
        low, high = self.start_radius
        if not 0 <= low <= high < math.inf:
            raise ValueError(
                "`start_radius` must be (low, high) with 0 <= low <= high. "
                f"Received: {self.start_radius!r}."
            )

    @property
    def parameters(self) -> dict[str, float]:
        """The physical parameters by name, in SI units."""
        look = {field.name for field in dataclasses.fields(System)}
        return {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name not in look
        }

    @property
    @abc.abstractmethod
    def dof(self) -> int:
        """Number of degrees of freedom: the length of q and of p."""

    @property
    @abc.abstractmethod
    def masses(self) -> np.ndarray:
        """Masses of the bodies in kilograms, [bodies]."""

    @property
    def radii(self) -> np.ndarray:
        """Radii of the drawn discs, sqrt(mass / pi) metres, [bodies]."""
        return np.sqrt(self.masses / np.pi)

    @property
    def colors(self) -> np.ndarray:
        """RGB in 0..1 of the bodies, hues evenly spaced from red, [bodies, 3].

        One body is red; two are red and cyan; three red, green and blue.
        """
        count = len(self.masses)
        hues = [body / count for body in range(count)]
        return np.array([colorsys.hsv_to_rgb(hue, 1.0, 1.0) for hue in hues])

    @abc.abstractmethod
    def hamiltonian(self, q: np.ndarray, p: np.ndarray) -> np.ndarray:
        """Energy in joules, [...], of q and p, each [..., dof]."""

    @abc.abstractmethod
    def gradient(
        self, q: np.ndarray, p: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Exact (dH/dq, dH/dp), each [..., dof]; dq/dt is dH/dp, dp/dt -dH/dq.

        Elementwise operations only: no sum or product over the leading axes,
        so that a trajectory never depends on the others of its batch.
        """

    @abc.abstractmethod
    def sample_state(
        self, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draws one start (q, p), each [dof]."""

    @abc.abstractmethod
    def positions(self, q: np.ndarray) -> np.ndarray:
        """Centres (x, y) of the bodies, metres, y up, [..., bodies, 2]."""

    def simulate(
        self, q0: np.ndarray, p0: np.ndarray, times: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Solves Hamilton's equations from the state (q0, p0) at times[0].

        Each trajectory takes its own adaptive steps: its result is the same,
        bit for bit, alone and in any batch. Times may decrease, which goes
        back from the given state, and need no even spacing.

        Args:
          q0: Positions at times[0], [batch, dof].
          p0: Momenta at times[0], [batch, dof].
          times: Seconds, strictly increasing or strictly decreasing, [time].

        Returns:
          (q, p), each float64 of shape [batch, time, dof]; frame 0 is the
          given state.

        Raises:
          ValueError: If shapes do not fit, a value is not finite, or times
            turn back.
          ArithmeticError: If the motion runs into a collision.
        """
        q0 = np.asarray(q0, np.float64)
        p0 = np.asarray(p0, np.float64)
        times = np.asarray(times, np.float64)
        if q0.ndim != 2 or q0.shape[1] != self.dof or p0.shape != q0.shape:
            raise ValueError(
                f"`q0` and `p0` must both be of shape [batch, {self.dof}]. "
                f"Received: {q0.shape} and {p0.shape}."
            )
        if not (np.isfinite(q0).all() and np.isfinite(p0).all()):
            raise ValueError(
                "`q0` and `p0` must be finite. Received: NaN or infinity."
            )
        _check_times(times)

        def field(state: np.ndarray) -> np.ndarray:  # [2 dof, batch]
            dH_dq, dH_dp = self.gradient(
                state[: self.dof].T, state[self.dof :].T
            )
            derivative = np.empty(state.shape)
            derivative[: self.dof] = dH_dp.T
            derivative[self.dof :] = -dH_dq.T
            return derivative

        start = np.concatenate([q0, p0], axis=1).T  # [2 dof, batch]
        path = integration.integrate(field, start, times)
        path = np.ascontiguousarray(np.moveaxis(path, 2, 0))
        return path[..., : self.dof], path[..., self.dof :]


def sample_on_circle(
    rng: np.random.Generator, radius_range: tuple[float, float]
) -> np.ndarray:
    """A point uniform on a circle whose radius is uniform in a range, [2]."""
    radius = rng.uniform(*radius_range)
    angle = rng.uniform(0.0, 2.0 * np.pi)
    return radius * np.array([np.cos(angle), np.sin(angle)])


def _check_positive(name: str, value: float):
    if not (math.isfinite(value) and value > 0):
        raise ValueError(
            f"`{name}` must be positive and finite. Received: {value!r}."
        )


def _check_times(times: np.ndarray):
    steps = np.diff(times) if times.ndim == 1 else None
    if (
        steps is None
        or times.size == 0
        or not np.isfinite(times).all()
        or not ((steps > 0).all() or (steps < 0).all())
    ):
        raise ValueError(
            "`times` must be a list of finite seconds, strictly increasing "
            f"or strictly decreasing. Received: {times!r}."
        )
