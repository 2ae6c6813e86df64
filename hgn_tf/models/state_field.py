"""Models x -> dx/dt of states: their network, their checks, their paths."""

import keras
import numpy as np
import tensorflow as tf
from scipy.integrate import solve_ivp

from hgn_tf.models.inner_steps import run_steps
from hgn_tf.networks import serializable


@serializable
class StateMLP(keras.layers.Layer):
    """Dense layers as in the HNN paper; the last one is linear, without bias.

    Weights are orthogonal, biases uniform in +-1/sqrt(inputs): with biases of
    0 the net would be odd in x, and a quadratic energy slow to find.

    Args:
      units: Width of each hidden layer.
      num_outputs: Width of the last layer; None for one number a row.
      activation: Smooth, since training takes second derivatives.
      weight_decay: L2 coupled into the gradient, which grows by
        weight_decay * w (not the decoupled decay of AdamW).
    Call: x [batch, dim] -> [batch, num_outputs], or [batch].
    Source: Greydanus et al. 2019, Hamiltonian Neural Networks, appendix A.
    """

    def __init__(
        self,
        units=(200, 200),
        num_outputs=None,
        activation="tanh",
        weight_decay=0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.units = tuple(units)
        self.num_outputs = num_outputs
        self.activation = activation
        self.weight_decay = weight_decay
        self._stack = []

    def build(self, shape):
        widths = [*self.units, self.num_outputs or 1]
        # The gradient of weight_decay / 2 * w^2 is weight_decay * w.
        decay = keras.regularizers.L2(self.weight_decay / 2)
        for index, width in enumerate(widths):
            last = index == len(self.units)
            limit = shape[-1] ** -0.5
            layer = keras.layers.Dense(
                width,
                activation=None if last else self.activation,
                use_bias=not last,
                kernel_initializer=keras.initializers.Orthogonal(),
                bias_initializer=keras.initializers.RandomUniform(
                    -limit, limit
                ),
                kernel_regularizer=decay if self.weight_decay else None,
                bias_regularizer=decay if self.weight_decay else None,
            )
            layer.build(shape)
            self._stack.append(layer)
            shape = (*shape[:-1], width)

    def call(self, x):
        for layer in self._stack:
            x = layer(x)
        return x if self.num_outputs else tf.squeeze(x, axis=-1)

    def get_config(self):
        return {
            **super().get_config(),
            "units": self.units,
            "num_outputs": self.num_outputs,
            "activation": self.activation,
            "weight_decay": self.weight_decay,
        }


class StateField(keras.Model):
    """What both models share: x -> dx/dt, checked, and followed in time.

    Args:
      units: Width of each hidden layer.
      activation: Of the hidden layers, smooth.
      weight_decay: See `StateMLP`.
    Attributes:
      inner_steps: A batch that `fit` is given is cut into so many, each one
        step of the optimiser, all in one compiled call.
    Call: x [batch, dim] -> dx/dt [batch, dim].
    """

    def __init__(
        self, units=(200, 200), activation="tanh", weight_decay=0.0, **kwargs
    ):
        super().__init__(**kwargs)
        self.units = tuple(units)
        self.activation = activation
        self.weight_decay = weight_decay
        self.inner_steps = 1
        self._compiled_field = None

    def train_step(self, data):
        if self.inner_steps == 1:
            return super().train_step(data)
        run_steps(super().train_step, data, self.inner_steps)
        return self.get_metrics_result()

    def fit(self, x=None, y=None, *args, **kwargs):
        """As `keras.Model.fit`; arrays are checked before the first step.

        Args:
          x: States [rows, dim], or a tf.data.Dataset of batches (x, y).
          y: dx/dt of the shape of x.
          *args: Of `keras.Model.fit`.
          **kwargs: Likewise.
        Raises: ValueError: if shapes do not fit or a value is not finite.
        """
        if y is not None:
            x, y = np.asarray(x), np.asarray(y)
            self._check_target(x, y)
            check_finite("x", x)
            check_finite("y", y)
        return super().fit(x, y, *args, **kwargs)

    def time_derivative(self, x) -> tf.Tensor:
        """dx/dt of states, [batch, dim].

        Args:
          x: States [batch, dim], finite.
        Raises: ValueError: if the shape is not that of the model.
        """
        return self._field(self._check_states(x, "x"))

    def integrate(
        self, x0, t_span, t_eval=None, rtol: float = 1e-9, atol: float = 1e-6
    ) -> np.ndarray:
        """Follows the field from x0 by scipy's RK45.

        Args:
          x0: State at t_span[0], [dim]; or several, [batch, dim], which share
            their adaptive steps.
          t_span: Pair of seconds; the second may be the earlier one.
          t_eval: Times of the answer within t_span; None for its two ends.
          rtol: Relative tolerance of a step.
          atol: Absolute tolerance. The field is float32, so little is gained
            below 1e-6.
        Returns: float64 [time, dim] or [batch, time, dim].
        Raises:
          ValueError: if shapes do not fit or t_eval leaves t_span.
          ArithmeticError: if the steps become too small to go on.
        """
        single = np.ndim(x0) == 1
        start = self._check_states([x0] if single else x0, "x0").numpy()
        times = _check_times(t_span, t_eval)

        def field(_, flat):
            x = tf.constant(flat.reshape(start.shape), tf.float32)
            return self._field(x).numpy().ravel().astype(np.float64)

        solution = solve_ivp(
            field,
            tuple(t_span),
            start.astype(np.float64).ravel(),
            t_eval=times,
            rtol=rtol,
            atol=atol,
        )
        if not solution.success:
            raise ArithmeticError(
                "The learned field must be smooth enough to follow. "
                f"Received: {solution.message}"
            )
        path = solution.y.reshape(*start.shape, -1).transpose(0, 2, 1)
        return path[0] if single else path

    def _field(self, x):
        """The compiled field, traced once for any number of rows."""
        if self._compiled_field is None:
            spec = tf.TensorSpec([None, x.shape[1]], tf.float32)
            self._compiled_field = tf.function(
                lambda x: self(x, training=False), input_signature=[spec]
            )
        return self._compiled_field(x)

    def _check_states(self, x, name):
        x = np.asarray(x, np.float32)
        if x.ndim != 2:
            raise ValueError(
                f"`{name}` must be states [batch, dim]. Received: {x.shape}."
            )
        if not self.built:
            self.build((None, x.shape[1]))
        if x.shape[1] != self.dim:
            raise ValueError(
                f"`{name}` must have the model's {self.dim} coordinates. "
                f"Received: {x.shape}."
            )
        check_finite(name, x)
        return tf.constant(x)

    def _check_target(self, x, y):
        if x.ndim != 2 or x.shape != y.shape:
            raise ValueError(
                "`x` and `y` must be states and their time derivatives, both "
                f"[rows, dim]. Received: {x.shape} and {y.shape}."
            )

    def get_config(self):
        return {
            **super().get_config(),
            "units": self.units,
            "activation": self.activation,
            "weight_decay": self.weight_decay,
        }


def check_finite(name: str, array: np.ndarray) -> None:
    """Raises: ValueError: if a row has a NaN or an infinity, naming it."""
    bad = np.flatnonzero(~np.isfinite(array).reshape(len(array), -1).all(1))
    if bad.size:
        raise ValueError(
            f"`{name}` must be finite. Received: NaN or infinity in "
            f"{bad.size} of {len(array)} rows, the first is row {bad[0]}."
        )


def _check_times(t_span, t_eval):
    first, last = t_span
    times = np.asarray(t_span if t_eval is None else t_eval, np.float64)
    inside = (times >= min(t_span)) & (times <= max(t_span))
    steps = np.diff(times) * np.sign(last - first)
    if times.ndim != 1 or not inside.all() or not (steps > 0).all():
        raise ValueError(
            "`t_eval` must be times in order within `t_span`. "
            f"Received: {times} and {tuple(t_span)}."
        )
    return times
