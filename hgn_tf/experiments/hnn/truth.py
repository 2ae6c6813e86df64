"""What the models of the HNN table are measured against."""

import dataclasses

import numpy as np
import tensorflow_datasets as tfds

from hgn_tf import data
from hgn_tf.experiments.hnn.config import PIXEL_TASKS, TASKS, dataset_of
from tfds_physics.hnn.tasks import STATE_TASKS
from tfds_physics.systems import System

_NUM_TRIALS = 15
# Of the trials' starts; apart from 0, the seed of the training data.
_TRIAL_SEED = 15
_LONG = 10  # times the horizon, for the drift


@dataclasses.dataclass(frozen=True)
class Truth:
    """What a model is measured against.

    Attributes:
      rows: Split -> feature -> array of the dataset, float32, sorted by
        trajectory and time.
      start: States at time 0 of the trials, [trials, dim]; of the pixel
        pendulum the observations then, [trials, pixels].
      times: Seconds of the points of a trial, [time].
      path: True states, [trials, time, dim]; of the pixel pendulum angle and
        velocity.
      published_times: Seconds of the points in the published energy figure,
        [trials, time].
      published_path: True states at those, [trials, time, dim].
      long_times: Seconds up to 10 times the horizon, [time].
      system: System that moves; None for the real and the pixel pendulum.
    """

    rows: dict[str, dict[str, np.ndarray]]
    start: np.ndarray
    times: np.ndarray
    path: np.ndarray
    published_times: np.ndarray
    published_path: np.ndarray
    long_times: np.ndarray
    system: System | None = None


def load_truth(name: str, data_dir: str | None = None) -> Truth:
    """The dataset of a task, made if needed, and the true trials.

    Args:
      name: A key of TASKS.
      data_dir: TFDS's folder; None for its default.
    """
    builder = tfds.builder(dataset_of(name), data_dir=data_dir)
    data.prepare(builder)
    rows = {split: _load_rows(builder, split) for split in ("train", "test")}
    task = TASKS[name]
    if name not in STATE_TASKS:
        return _recorded_truth(rows, task)
    states = STATE_TASKS[name]
    rng = np.random.RandomState(_TRIAL_SEED)
    starts = [states.draw_start(rng) for _ in range(_NUM_TRIALS)]
    q0, p0 = (np.stack(part) for part in zip(*starts))
    times = np.linspace(0.0, task.horizon, task.num_points)
    factors = task.stretch ** np.arange(1, _NUM_TRIALS + 1)
    published_times = factors[:, None] * times
    every = np.unique(published_times)
    path = _simulate(states.system, q0, p0, times)
    published = _simulate(states.system, q0, p0, every)
    return Truth(
        rows=rows,
        start=path[:, 0],
        times=times,
        path=path,
        published_times=published_times,
        published_path=pick(published, every, published_times),
        long_times=np.linspace(0.0, _LONG * task.horizon, task.num_points),
        system=states.system,
    )


def energy(name: str, truth: Truth, x: np.ndarray) -> np.ndarray:
    """True energy of states [..., dim], joules; [...]."""
    q, p = np.split(np.asarray(x, np.float64), 2, axis=-1)
    if truth.system is not None:
        return truth.system.hamiltonian(q, p)
    if name in PIXEL_TASKS:
        # Gymnasium's rod of 1 kg and 1 m with g = 10, angle and velocity.
        return 5.0 * (1.0 - np.cos(q[..., 0])) + p[..., 0] ** 2 / 6.0
    # The published fit to the recording, theta and omega; it is dissipative.
    return 2.4 * (1.0 - np.cos(q[..., 0])) + p[..., 0] ** 2


def published_energy(name: str, truth: Truth, x: np.ndarray) -> np.ndarray:
    """What the published energy figure takes for the energy, [...]."""
    if name == "pendulum":
        return np.square(x).sum(axis=-1)  # an oversight: q^2 + p^2
    return energy(name, truth, x)


def field(truth: Truth, x: np.ndarray) -> np.ndarray:
    """True dx/dt of states [..., dim]."""
    assert truth.system is not None, "only tasks with a system have a field"
    q, p = np.split(np.asarray(x, np.float64), 2, axis=-1)
    dH_dq, dH_dp = truth.system.gradient(q, p)
    return np.concatenate([dH_dp, -dH_dq], axis=-1)


def pick(path: np.ndarray, times: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Rows of path [trials, time, dim] at the times wanted [trials, time]."""
    index = np.searchsorted(times, wanted)
    return np.take_along_axis(path, index[..., None], axis=1)


def make_paths(
    rows: dict[str, np.ndarray], window: int
) -> tuple[np.ndarray, np.ndarray]:
    """Every stretch of `window` steps of the noisy trajectories.

    Args:
      rows: Rows of a dataset, sorted by trajectory and time.
      window: Number of steps of a path.
    Returns: x0 [paths, dim] and the states after it [paths, window, dim].
    Raises: ValueError: if a trajectory is shorter than that.
    """
    num_points = int(np.sum(rows["trajectory"] == rows["trajectory"][0]))
    if not 0 < window < num_points:
        raise ValueError(
            f"`window` must be above 0 and below {num_points}, the points of "
            f"a trajectory. Received: {window}."
        )
    paths = rows["x"].reshape(-1, num_points, rows["x"].shape[1])
    pieces = np.concatenate(
        [
            paths[:, first : first + window + 1]
            for first in range(num_points - window)
        ]
    )
    return pieces[:, 0], pieces[:, 1:]


def _simulate(system, q0, p0, times):
    return np.concatenate(system.simulate(q0, p0, times), axis=-1)


def _recorded_truth(rows, task):
    """The trials are those of the split test, as they were recorded."""
    test = rows["test"]
    count = len(test["x"]) // task.num_points
    times = test["time"][: task.num_points].astype(np.float64)
    times -= times[0]
    if "angle" in test:
        path = np.stack([test["angle"], test["velocity"]], axis=-1)
    else:
        path = test["x"]
    path = path.reshape(count, task.num_points, 2).astype(np.float64)
    return Truth(
        rows=rows,
        start=test["x"][:: task.num_points],
        times=times,
        path=path,
        published_times=np.tile(times, (count, 1)),
        published_path=path,
        long_times=np.linspace(0.0, _LONG * times[-1], len(times)),
    )


def _load_rows(builder, split):
    dataset = builder.as_dataset(split=split, batch_size=-1)
    arrays = {name: value.numpy() for name, value in dataset.items()}
    order = np.lexsort((arrays["time"], arrays["trajectory"]))
    return {name: value[order] for name, value in arrays.items()}
