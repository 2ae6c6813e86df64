"""What a model of the HNN table is worth: published and corrected measures."""

import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from hgn_tf import metrics, networks
from hgn_tf.evaluation import Metric
from hgn_tf.experiments.hnn import truth as truths
from hgn_tf.experiments.hnn.config import PIXEL_TASKS, TASKS
from hgn_tf.experiments.hnn.truth import Truth
from hgn_tf.models.hnn import StateField
from hgn_tf.models.pixel_hnn import PixelHNN

# What the measures are called in the table; what they are is said where they
# are taken.
METRICS = {
    "train_loss": Metric("train loss", form=".2e"),
    "train_loss_floor": Metric("floor", form=".2e", yardstick=True),
    "test_loss": Metric("test loss", form=".2e"),
    "test_loss_floor": Metric("floor", form=".2e", yardstick=True),
    "energy_mse": Metric("energy MSE", form=".2e"),
    "true_energy_mse": Metric("energy MSE", form=".2e"),
    "true_energy_mse_median": Metric("median over trials", form=".2e"),
    "coordinate_mse": Metric("coordinate MSE", form=".2e"),
    "field_mse": Metric("field error", form=".2e"),
    "field_fvu": Metric("field error / its variance", form=".2e"),
    "energy_drift": Metric("drift, 10 horizons", form=".2e"),
    "pixel_mse": Metric("pixel MSE of rollouts", form=".2e"),
    "encoded_pixel_mse": Metric("without dynamics", form=".2e"),
    "frozen_frame_pixel_mse": Metric(
        "frozen frame", form=".2e", yardstick=True
    ),
    "mean_image_pixel_mse": Metric("mean image", form=".2e", yardstick=True),
    "encoded_mse": Metric("coordinate MSE without dynamics", form=".2e"),
    "gradient_norm": Metric("norm of grad H", form=".2e"),
    "gradient_norm_share": Metric("grad H / spread of z", form=".2e"),
}

_ROWS_AT_ONCE = 1000


def score_model(
    model: StateField | PixelHNN, name: str, truth: Truth
) -> dict[str, float]:
    """The measures of one set of weights.

    As published, oversights included:
      train_loss, test_loss: Mean squared error of dx/dt at the noisy states.
      energy_mse: Mean over trials and times of the squared difference of the
        energies along the predicted and the true path.
    Corrected:
      true_energy_mse: The same with the true H and one horizon for all.
      true_energy_mse_median: Median over trials of it.
      coordinate_mse: Mean squared error of a coordinate along the path.
      field_mse: As test_loss, but at the states without noise.
      field_fvu: The same over the mean square of dx/dt.
      train_loss_floor, test_loss_floor: Losses of the exact field at the
        noisy states; no field can be judged by a loss near them.

    Args:
      model: Model with `time_derivative` and `integrate`; on the pixel
        pendulum a PixelHNN, which has the measures of `score_pixels` too.
      name: Key of TASKS.
      truth: Truth of the task.
    Returns: Name -> number. Measures without a truth are left out, on the real
      and the pixel pendulum.
    """
    results: dict[str, float] = {}
    reader = as_states(model, name, truth)
    if isinstance(reader, StateReader):
        results |= score_pixels(reader, truth)
    else:
        for split, rows in truth.rows.items():
            error = model.time_derivative(rows["x"]).numpy() - rows["dx_dt"]
            results[f"{split}_loss"] = _mean_square(error)
    path, published_path = _predict(reader, name, truth)
    error = truths.published_energy(
        name, truth, published_path
    ) - truths.published_energy(name, truth, truth.published_path)
    results["energy_mse"] = _mean_square(error)
    error = truths.energy(name, truth, path) - truths.energy(
        name, truth, truth.path
    )
    results["true_energy_mse"] = _mean_square(error)
    results["coordinate_mse"] = _mean_square(path - truth.path)
    if len(truth.start) > 1:
        results["true_energy_mse_median"] = float(
            np.median(np.square(error).mean(axis=1))
        )
    if truth.system is None:
        return results
    test = truth.rows["test"]
    exact = truths.field(truth, test["x_true"])
    error = model.time_derivative(test["x_true"]).numpy() - exact
    results["field_mse"] = _mean_square(error)
    results["field_fvu"] = _mean_square(error) / _mean_square(exact)
    for split, rows in truth.rows.items():
        error = truths.field(truth, rows["x"]) - rows["dx_dt"]
        results[f"{split}_loss_floor"] = _mean_square(error)
    return results


def score_long(
    model: StateField | PixelHNN, name: str, truth: Truth
) -> dict[str, float]:
    """What shows itself in 10 times the horizon only, at more cost.

      energy_drift: Median over trials of the largest change of the true H in
        10 times the horizon, over the spread of H among the starts.

    Args:
      model: Model with `integrate`, or a PixelHNN.
      name: Key of TASKS.
      truth: Truth of the task.
    Returns: Name -> number.
    """
    times = truth.long_times
    reader = as_states(model, name, truth)
    path = reader.integrate(
        truth.start, times[[0, -1]], times, TASKS[name].rtol
    )
    energy = truths.energy(name, truth, path)
    # One recording has no spread among its starts.
    scale = None if len(energy) > 1 else float(energy[0, 0])
    drift = metrics.energy_drift(energy, scale)
    return {"energy_drift": float(np.median(drift))}


class StateReader:
    """A pixel HNN as a model of angle and velocity, for the measures.

    The latent (q, p) of a swing is read as angle and velocity by the linear
    map, with an offset, that fits those of the split train best by least
    squares. How the published energies were read from the latent state is
    nowhere said; a linear map suits L_CC, by which p is the change of q.

    Args:
      model: A trained PixelHNN of vectors.
      rows: Features of the split train.
    """

    def __init__(self, model: PixelHNN, rows: dict[str, np.ndarray]):
        self.model = model
        z = self.encode(rows["x"])
        truth = np.stack([rows["angle"], rows["velocity"]], axis=1)
        self._map = np.linalg.lstsq(_with_one(z), truth, rcond=None)[0]

    def encode(self, x: np.ndarray) -> np.ndarray:
        """Latent states [rows, 2] of observations [rows, size]."""
        parts = [
            tf.concat(self.model.infer(x[start : start + _ROWS_AT_ONCE]), -1)
            for start in range(0, len(x), _ROWS_AT_ONCE)
        ]
        return np.concatenate(parts).astype(np.float64)

    def read(self, z: np.ndarray) -> np.ndarray:
        """Angle and velocity of latent states, [..., 2]."""
        return _with_one(z) @ self._map

    def time_derivative(self, x: np.ndarray) -> np.ndarray:
        """The field as that of angle and velocity [rows, 2], per second."""
        slopes, offset = self._map[:-1], self._map[-1]
        z = np.linalg.solve(slopes.T, (x - offset).T).T
        change = np.asarray(self.model.dynamics.time_derivative(z))
        return change @ slopes / self.model.dt

    def follow(
        self,
        x0: np.ndarray,
        t_span: Sequence[float] | np.ndarray,
        t_eval: np.ndarray,
        rtol: float = 1e-9,
    ) -> np.ndarray:
        """Latent states [batch, time, 2] from observations x0, as RK45 goes.

        Args:
          x0: Observations [batch, size] at t_span[0].
          t_span: Pair of seconds.
          t_eval: Seconds of the answer.
          rtol: Relative tolerance of a step.
        """
        span, times = (np.asarray(t) / self.model.dt for t in (t_span, t_eval))
        z0 = self.encode(x0)
        return self.model.dynamics.integrate(z0, span, times, rtol)

    def integrate(
        self,
        x0: np.ndarray,
        t_span: Sequence[float] | np.ndarray,
        t_eval: np.ndarray,
        rtol: float = 1e-9,
    ) -> np.ndarray:
        """As `follow`, read as angle and velocity."""
        return self.read(self.follow(x0, t_span, t_eval, rtol))


def score_pixels(reader: StateReader, truth: Truth) -> dict[str, float]:
    """What is measured on pixels, beside what all tasks have.

      train_loss, test_loss: L_AE + L_CC + 0.1 L_HNN, as published.
      pixel_mse: Mean squared error of a pixel of the frames, 0 to 1, drawn
        along the paths from the first row of each test trajectory.
      encoded_pixel_mse: The same of rows encoded and drawn again, without
        dynamics.
      frozen_frame_pixel_mse, mean_image_pixel_mse: The same of the first
        frame kept, and of the mean frame of the split train.
      encoded_mse: Mean squared error of angle and velocity read from the
        true rows: what the reading alone is off by.
      gradient_norm: Mean |grad H| on the test rows, latent units per row; of
        the baseline |dz/dt|.
      gradient_norm_share: The same over the spread of the latent states.
      collapsed: 1 if the field moves next to nothing, see
        `PixelHNN.check_collapse`.

    Returns: Name -> number.
    """
    model, results = reader.model, {}
    for split, rows in truth.rows.items():
        scores = model.evaluate(
            rows["x"],
            rows["dx_dt"],
            batch_size=_ROWS_AT_ONCE,
            verbose=0,
            return_dict=True,
        )
        results[f"{split}_loss"] = scores["loss"]
    rows, shape = truth.rows["test"], truth.path.shape[:2]
    frames = _frame(rows["x"]).reshape(*shape, -1)
    times = truth.times
    z = reader.encode(rows["x"])
    drawn = {
        "": _draw(model, reader.follow(truth.start, times[[0, -1]], times)),
        "encoded_": _draw(model, z.reshape(*shape, -1)),
        "frozen_frame_": frames[:, :1],
        "mean_image_": _frame(truth.rows["train"]["x"]).mean(axis=0),
    }
    for name, prediction in drawn.items():
        error = np.square(prediction - frames, dtype=np.float64).mean()
        results[f"{name}pixel_mse"] = float(error)
    error = reader.read(z).reshape(truth.path.shape) - truth.path
    results["encoded_mse"] = float(np.square(error).mean())
    return results | model.check_collapse(rows["x"]).metrics()


def as_states(
    model: StateField | PixelHNN, name: str, truth: Truth
) -> StateField | StateReader:
    """The model, or what reads its states, with `integrate`."""
    if name in PIXEL_TASKS:
        return StateReader(model, truth.rows["train"])
    return model


def _predict(model, name, truth):
    """Predicted states at the times of the truth, by one integration."""
    every = np.unique(
        np.concatenate([truth.times, truth.published_times.ravel()])
    )
    path = model.integrate(truth.start, every[[0, -1]], every, TASKS[name].rtol)
    times = np.tile(truth.times, (len(truth.start), 1))
    return (
        truths.pick(path, every, times),
        truths.pick(path, every, truth.published_times),
    )


def _mean_square(x):
    return float(np.square(x, dtype=np.float64).mean())


def _frame(x):
    """The first half of observations [..., size], which is a frame."""
    return np.split(x, 2, axis=-1)[0]


def as_video(x: np.ndarray) -> np.ndarray:
    """The frames of observations in time, [batch, time, height, width, 1].

    Args:
      x: Observations [batch, time, size], whose first half is a frame.
    """
    frame = _frame(np.asarray(x))
    side = math.isqrt(frame.shape[-1])
    return frame.reshape(*frame.shape[:2], side, side, 1)


def _draw(model, z):
    z = tf.constant(z, tf.float32)
    return _frame(model.decode(networks.split_state(z)).numpy())


def _with_one(z):
    return np.concatenate([z, np.ones([*z.shape[:-1], 1])], axis=-1)
