"""Rows (x, dx_dt) of the tasks of Hamiltonian Neural Networks, in numpy.

Greydanus et al. 2019 drew each dataset from one stream of random numbers, and
their losses depend on the draw: on the spring by 4 %, and among three bodies,
where a close encounter outweighs a thousand rows, by a factor. So these tasks
take the same numbers from numpy's legacy generator in the same order, and the
published losses are comparable. The motion is solved more tightly than theirs.
"""

import dataclasses
import functools
from collections.abc import Callable

import numpy as np

from tfds_physics.systems import SYSTEMS, NBody, System

_Start = tuple[np.ndarray, np.ndarray]


@dataclasses.dataclass(frozen=True, kw_only=True)
class StateTask:
    """One task: what moves, from where, and how it is sampled.

    Attributes:
      system: The system that moves.
      draw_start: Callable RandomState -> start (q, p), each [dof].
      num_train: Trajectories of the split train.
      num_test: Trajectories of the split test.
      num_points: Rows per trajectory, evenly spaced from 0 to `duration`.
      duration: Seconds from the first row to the last.
      noise: Standard deviation of the Gaussian noise on each coordinate of x.
      test_first: Whether the first trajectories drawn are the test's.
    """

    system: System
    draw_start: Callable[[np.random.RandomState], _Start]
    num_train: int
    num_test: int
    num_points: int
    duration: float
    noise: float = 0.0
    test_first: bool = False

    @property
    def times(self) -> np.ndarray:
        """Seconds of the rows of a trajectory, [num_points]."""
        return np.linspace(0.0, self.duration, self.num_points)

    @property
    def splits(self) -> dict[str, range]:
        """Numbers of the trajectories by split, in the order of the draw."""
        first = self.num_test if self.test_first else self.num_train
        parts = range(first), range(first, self.num_train + self.num_test)
        names = ("test", "train") if self.test_first else ("train", "test")
        return dict(zip(names, parts, strict=True))


def draw_on_circle(
    rng: np.random.RandomState, low: float, high: float
) -> _Start:
    """Start (q, p) of radius U(low, high), towards a point of the square.

    The direction is that of a uniform point of a square, as the source has it,
    so diagonals are 1.4 times as likely as axes.

    Args:
      rng: Source of three uniform numbers.
      low: Lowest radius.
      high: Highest radius.

    Returns:
      (q, p), each [1].
    """
    direction = 2.0 * rng.rand(2) - 1.0
    radius = low + (high - low) * rng.rand()
    q, p = radius * direction / np.hypot(*direction)
    return np.array([q]), np.array([p])


def draw_two_bodies(rng: np.random.RandomState, spread: float = 0.05) -> _Start:
    """Bodies at +-position, components U(0.5, 1.5), near a circular orbit.

    Both speeds are the circular one times one 1 + spread * N(0, 1).

    Args:
      rng: Source of two uniform numbers and a normal one.
      spread: Relative standard deviation of the speed.

    Returns:
      (q, p), each [4]: x1, y1, x2, y2.
    """
    x, y = 0.5 + rng.rand(2)
    speed = (1.0 + spread * rng.randn()) / (2.0 * np.hypot(x, y) ** 1.5)
    return np.array([x, y, -x, -y]), speed * np.array([-y, x, y, -x])


def draw_three_bodies(
    rng: np.random.RandomState, spread: float = 0.2
) -> _Start:
    """Bodies on an equilateral triangle of radius U(0.9, 1.2).

    Each component of the circular orbit's velocities is multiplied by its own
    U(1 - spread, 1 + spread), so the total momentum is not zero.

    Args:
      rng: Source of nine uniform numbers.
      spread: Largest relative change of a component of velocity.

    Returns:
      (q, p), each [6]: x1, y1, x2, y2, x3, y3.
    """
    direction = 2.0 * rng.rand(2) - 1.0
    radius = 0.9 + 0.3 * rng.rand()
    first = np.arctan2(direction[1], direction[0])
    angles = first + 2.0 * np.pi / 3.0 * np.arange(3)
    outward = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    along = np.stack([-np.sin(angles), np.cos(angles)], axis=-1)
    # The pull of two bodies at distance sqrt(3) r, towards the centre.
    speed = np.sqrt(1.0 / (np.sqrt(3.0) * radius))
    factors = 1.0 + spread * (2.0 * rng.rand(3, 2) - 1.0)
    return (radius * outward).ravel(), (speed * along * factors).ravel()


STATE_TASKS = {
    "mass_spring": StateTask(
        system=SYSTEMS["mass_spring"],  # H = q^2 + p^2
        draw_start=functools.partial(draw_on_circle, low=0.1, high=1.0),
        num_train=25,
        num_test=25,
        num_points=30,
        duration=3.0,
        noise=0.1,
    ),
    "pendulum": StateTask(
        system=SYSTEMS["pendulum"],  # H = 3 (1 - cos q) + p^2
        draw_start=functools.partial(draw_on_circle, low=1.3, high=2.3),
        num_train=25,
        num_test=25,
        num_points=45,
        duration=3.0,
        noise=0.1,
    ),
    "two_body": StateTask(
        system=NBody(num_bodies=2, start_radius=(0.5, 1.5), noise=0.0),
        draw_start=draw_two_bodies,
        num_train=800,
        num_test=200,
        num_points=50,
        duration=20.0,
        test_first=True,
    ),
    "three_body": StateTask(
        system=NBody(num_bodies=3, start_radius=(0.9, 1.2), noise=0.0),
        draw_start=draw_three_bodies,
        num_train=4000,
        num_test=1000,
        num_points=20,
        duration=5.0,
        test_first=True,
    ),
}


def make_rows(
    task: StateTask, seed: int, trajectories: range
) -> dict[str, np.ndarray]:
    """Makes the rows of some trajectories of a draw.

    A row depends on the task, the seed and its trajectory alone: the bytes are
    the same for any other trajectories beside it.

    Args:
      task: The task, such as `STATE_TASKS["pendulum"]`.
      seed: Seed of the one stream of random numbers; 0 is the published draw.
      trajectories: Their numbers, such as `task.splits["train"]`.

    Returns:
      Name -> array: `x`, `dx_dt` and `x_true` [rows, 2 dof], `time` [rows] in
      seconds, `trajectory` [rows].
    """
    rng = np.random.RandomState(seed)
    starts, noise = [], []
    shape = (2 * task.system.dof, task.num_points)
    for _ in range(trajectories.stop):
        starts.append(task.draw_start(rng))
        # Drawn trajectory by trajectory, q before p, and not at all for 0.
        noise.append(rng.randn(*shape).T if task.noise else np.zeros(shape).T)
    wanted = slice(trajectories.start, trajectories.stop)
    q0, p0 = (np.stack(part) for part in zip(*starts[wanted], strict=True))
    q, p = task.system.simulate(q0, p0, task.times)
    dq, dp = task.system.gradient(q, p)
    x_true = np.concatenate([q, p], axis=-1)
    numbers = np.arange(trajectories.start, trajectories.stop)
    arrays = {
        "x": x_true + task.noise * np.stack(noise[wanted]),
        # Exact, at the states without noise, as in the source.
        "dx_dt": np.concatenate([dp, -dq], axis=-1),
        "x_true": x_true,
        "time": np.broadcast_to(task.times, q.shape[:2]),
        "trajectory": np.broadcast_to(numbers[:, None], q.shape[:2]),
    }
    return {
        name: value.reshape(-1, *value.shape[2:])
        for name, value in arrays.items()
    }
