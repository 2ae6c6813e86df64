"""The pixel pendulum of the HNN table: its model, and how it is measured."""

import numpy as np
import tensorflow as tf

from hgn_tf import networks
from hgn_tf.experiments.hnn_tasks import Truth
from hgn_tf.models.pixel_hnn import PixelHNN
from hgn_tf.models.state_field import StateField

_LATENT_SIZE = 2
_ROWS_AT_ONCE = 1000


def make_model(
    dynamics: StateField, observation_size: int, weight_decay: float, dt: float
) -> PixelHNN:
    """The published form around a field: autoencoder of width 200, latent 2.

    Published: weight decay on all weights. Here: on those of the autoencoder
    only, and residual hidden layers in it. With decay on H too, H went to 0,
    since its share of the loss pulls less than the decay: at step 2000 |grad
    H| was 0.0009 against 0.17, and the loss 1.1e-3 against 6.7e-4.

    Args:
      dynamics: The field of the latent state, without weight decay.
      observation_size: Numbers of a row of the dataset.
      weight_decay: Of the autoencoder.
      dt: Seconds between rows.
    """
    parts = networks.dense_pair_networks(
        (observation_size,), _LATENT_SIZE, residual=True
    )
    return PixelHNN(
        **parts, dynamics=dynamics, dt=dt, weight_decay=weight_decay
    )


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

    def follow(self, x0, t_span, t_eval, rtol=1e-9) -> np.ndarray:
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

    def integrate(self, x0, t_span, t_eval, rtol=1e-9) -> np.ndarray:
        """As `follow`, read as angle and velocity."""
        return self.read(self.follow(x0, t_span, t_eval, rtol))


def measure(reader: StateReader, truth: Truth) -> dict[str, float]:
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
      gradient_norm: Mean |grad H| on the test rows, latent units a row; of
        the baseline |dz/dt|.
      gradient_norm_share: The same over the spread of the latent states.
      collapsed: 1 if the field moves next to nothing, see `PixelHNN.motion`.

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
    return results | model.motion(rows["x"]).metrics()


def _frame(x):
    """Of observations [..., size], a frame and its change, the frame."""
    return np.split(x, 2, axis=-1)[0]


def _draw(model, z):
    z = tf.constant(z, tf.float32)
    return _frame(model.decode(networks.split_state(z)).numpy())


def _with_one(z):
    return np.concatenate([z, np.ones([*z.shape[:-1], 1])], axis=-1)
