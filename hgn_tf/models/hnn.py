"""Hamiltonian neural networks on states, and their baseline without physics.

A state x [batch, 2 dof] is q and p joined on the last axis. Both models map x
to dx/dt and train by `model.fit(x, dx_dt)`. The field of the HNN is that of one
learned energy; the field of the baseline is free.
"""

import os
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from hgn_tf import integrators, losses, phase
from hgn_tf.models.batches import (
    FIRST,
    LATER,
    SPEC,
    WHOLE,
    Batch,
    CheckedModel,
    as_array,
    check_finite,
    has_values,
)
from hgn_tf.models.exports import export, spec
from hgn_tf.models.steps import run_steps
from hgn_tf.networks import (
    MLP,
    JointHamiltonian,
    SeparableHamiltonian,
    build_once,
    serializable,
    split_state,
)
from hgn_tf.networks.layers import check_smooth

# Shift of a start for a difference quotient: far above float32's rounding,
# far below the size of a state.
_DIFFERENCE = 1e-2


class StateMLP(MLP):
    """The HNN paper's network, whose last layer has no bias.

    Saved weights are found by the name of this class.
    """

    def __init__(
        self,
        units: tuple[int, ...],
        target_shape: tuple[int, ...],
        activation: str | None,
        weight_decay: float,
        dtype: str,
    ):
        super().__init__(
            units,
            target_shape,
            activation,
            last_bias=False,
            weight_decay=weight_decay,
            dtype=dtype,
        )


class StateField(CheckedModel):
    """What both models share: x -> dx/dt, checked, and followed in time.

    Args:
      units: Width of each hidden layer.
      activation: Activation of the hidden layers, smooth.
      weight_decay: Factor of the L2 decay, see `networks.MLP`.
      dtype: Precision, float32 or float64. Defaults to Keras's.
    Attributes:
      inner_steps: A batch that `fit` is given is cut into so many, each one
        step of the optimiser, all in one compiled call.
    Call: x [batch, dim] -> dx/dt [batch, dim].
    """

    # A weight per row, or one for each state of its path.
    _weight_ranks = (1, 2)
    # Steps are Keras's own: a NaN would end in the weights.
    _reads_values = True

    def __init__(
        self,
        units: Sequence[int] = (200, 200),
        activation: str | None = "tanh",
        weight_decay: float = 0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if self.compute_dtype not in ("float32", "float64"):
            raise ValueError(
                "A field of states is computed in float32 or float64. "
                f"Received: {self.dtype_policy.name}; give the model "
                'dtype="float32".'
            )
        losses.check_weight("weight_decay", weight_decay)
        self.units = tuple(units)
        self.activation = activation
        self.weight_decay = weight_decay
        self.inner_steps = 1
        self._compiled_field: Any = None

    def train_step(self, data):
        if tf.distribute.has_strategy():
            # Batches that were distributed before have not been looked at.
            for name, part in zip("xy", Batch.of(data)):
                _check_values(name, part)
        if self.inner_steps == 1:
            return super().train_step(data)
        run_steps(super().train_step, data, self.inner_steps)
        return self.get_metrics_result()

    def fit(
        self, x: Any = None, y: Any = None, *args, **kwargs
    ) -> keras.callbacks.History:
        """As `keras.Model.fit`; arrays are checked before the first step.

        Args:
          x: States [rows, dim], or a dataset or generator of batches (x, y).
          y: Derivatives dx/dt of the shape of x.
          *args: Further arguments of `keras.Model.fit`.
          **kwargs: Further arguments of `keras.Model.fit`.
        Raises:
          ValueError: if shapes do not fit or a value is not finite.
          tf.errors.InvalidArgumentError: if a value of a dataset is not, when
            its batch comes.
        """
        return super().fit(x, y, *args, **kwargs)

    def _admit(self, batch, purpose, seen):
        x, y = as_array(batch.x), batch.y
        self._check_state_shape(x, seen)
        if purpose != "predict":
            if y is None:
                raise ValueError(
                    "`y` must be what is learned from states `x`. Received: "
                    "None."
                )
            y = as_array(y)
            if seen != SPEC or Batch(x, y).is_known():
                self._check_target(x, y)
        _check_weight_of_rows(y, batch.sample_weight)
        if seen in (WHOLE, FIRST, LATER):
            _check_values("x", x)
            if y is not None:
                _check_values("y", y)
        return batch._replace(x=x, y=y)

    def _check_state_shape(self, x, seen):
        shape = tf.TensorShape(x.shape)
        if seen == SPEC and not shape[1:].is_fully_defined():
            return
        if shape.rank != 2 or None in shape[1:]:
            raise ValueError(
                f"`x` must be states [rows, dim]. Received: {shape}."
            )
        if self.built and shape[1] != self.dim:
            raise ValueError(
                f"`x` must have the model's {self.dim} coordinates. "
                f"Received: {shape}."
            )

    def export(self, filepath: str | os.PathLike, *args, **kwargs) -> None:
        """Writes a SavedModel, which runs without Keras and this package.

        Its endpoints take any number of states x [batch, dim].

        - serve: x -> dx_dt [batch, dim].
        - rollout, of an HNN: x, dt, num_steps -> x [batch, time, dim].
        - energy, of an HNN: x -> energy [batch].

        Args:
          filepath: Folder of the SavedModel.
          *args: Arguments of `keras.Model.export`, without a signature.
          **kwargs: The same by name.
        Raises: ValueError: if the model is not built, or an argument does not
          apply.
        """
        export(self, self._endpoints, filepath, *args, **kwargs)

    def _endpoints(self):
        states = [spec("x", [None, self.dim], self.compute_dtype)]
        return {"serve": (lambda x: {"dx_dt": self(x)}, states)}

    def time_derivative(self, x: np.ndarray | tf.Tensor) -> tf.Tensor:
        """dx/dt of states, [batch, dim].

        Args:
          x: States [batch, dim], finite.
        Raises: ValueError: if the shape is not that of the model.
        """
        return self._field(self._check_states(x, "x"))

    def integrate(
        self,
        x0: np.ndarray | tf.Tensor,
        t_span: Sequence[float] | np.ndarray,
        t_eval: np.ndarray | None = None,
        rtol: float = 1e-9,
        atol: float = 1e-6,
    ) -> np.ndarray:
        """Follows the field from x0 by scipy's RK45.

        Args:
          x0: State at t_span[0], [dim]; or several, [batch, dim], which share
            their adaptive steps.
          t_span: Pair of seconds; the second may be the earlier one.
          t_eval: Times of the answer within t_span; None for its two ends.
          rtol: Relative tolerance of a step.
          atol: Absolute tolerance. Of a field in float32 little is gained
            below 1e-6.
        Returns: float64 [time, dim] or [batch, time, dim].
        Raises:
          ValueError: if shapes do not fit or t_eval leaves t_span.
          ArithmeticError: if the steps become too small to go on.
        """
        # Here, because it takes as long to import as all of `hgn_tf`.
        from scipy.integrate import solve_ivp

        single = np.ndim(x0) == 1
        start = self._check_states([x0] if single else x0, "x0").numpy()
        times = _check_times(t_span, t_eval)

        def field(_, flat):
            x = tf.constant(flat.reshape(start.shape), self.compute_dtype)
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
            spec = tf.TensorSpec([None, x.shape[1]], self.compute_dtype)
            self._compiled_field = tf.function(
                lambda x: self(x, training=False), input_signature=[spec]
            )
        return self._compiled_field(x)

    def _check_states(self, x, name):
        x = np.asarray(x, self.compute_dtype)
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
        if not tf.TensorShape(x.shape).is_compatible_with(y.shape):
            raise ValueError(
                "`x` and `y` must be states and their time derivatives, both "
                f"[rows, dim]. Received: {tuple(x.shape)} and {tuple(y.shape)}."
            )

    def get_config(self):
        return {
            **super().get_config(),
            "units": self.units,
            "activation": self.activation,
            "weight_decay": self.weight_decay,
        }


@serializable
class DerivativeNet(StateField):
    """The HNN paper's baseline: an MLP whose output is dx/dt itself.

    Args:
      units: Width of each hidden layer.
      activation: Activation of the hidden layers.
      weight_decay: Factor of the L2 decay, see `networks.MLP`.
    Call: x [batch, dim] -> dx/dt [batch, dim].
    Source: Greydanus et al. 2019, Hamiltonian Neural Networks, section 3.
    """

    def build(self, shape):
        self.dim = shape[-1]
        self.network = StateMLP(
            self.units,
            (self.dim,),
            self.activation,
            self.weight_decay,
            self.compute_dtype,
        )
        self.network.build(shape)

    def call(self, x):
        return self.network(x)


@serializable
class HNN(StateField):
    """A learned energy H(q, p) and its field dq/dt = dH/dp, dp/dt = -dH/dq.

    Two ways to train, by the shape of the target:
      `fit(x, dx_dt)` matches derivatives, as in the paper.
      `fit(x0, path)` with path [rows, steps, dim] follows the field from x0
        and matches the states at dt, 2 dt, ... It needs no derivatives and
        averages over the noise of the path, where matching derivatives at
        noisy states underestimates them. Take `separable=True` with it, and
        `start_iterations` where x0 is as noisy as the rest.

    Args:
      units: Width of each hidden layer.
      activation: Activation of the hidden layers, smooth: training takes
        second derivatives of H.
      weight_decay: Factor of the L2 decay, see `networks.MLP`.
      separable: Whether K(p) + V(q) is learned in two networks instead of one
        H(q, p). leapfrog and yoshida4 keep order and volume only then.
      dt: Seconds between the states of a path, for the second way.
      integrator: Name in `integrators.INTEGRATORS`, for the second way.
      substeps: Number of integrator steps between two states of a path.
      start_iterations: Number of Gauss-Newton iterations that fit the start of
        a path to x0 and all of the path before it is followed; 0 takes x0 as
        given. One or two remove most of the bias that the noise of x0 leaves.
    Call: x [batch, 2 dof] -> dx/dt [batch, 2 dof].
    Raises:
      ValueError: if the dimension of x is odd.
      ValueError: if the activation is bent from straight pieces, as relu.
      ValueError: if there is no such integrator.
      ValueError: if dt, substeps or start_iterations is out of its range.
    Source: Greydanus et al. 2019, Hamiltonian Neural Networks, equation 3;
      the second way: Chen et al. 2020, Symplectic Recurrent Neural Networks,
      section 3, where L-BFGS fits the starts now and then; here a few
      iterations in every step do, so that nothing is kept between steps.
    """

    def __init__(
        self,
        units: Sequence[int] = (200, 200),
        activation: str | None = "tanh",
        weight_decay: float = 0.0,
        *,
        separable: bool = False,
        dt: float = 0.1,
        integrator: str = "leapfrog",
        substeps: int = 1,
        start_iterations: int = 0,
        **kwargs,
    ):
        super().__init__(units, activation, weight_decay, **kwargs)
        check_smooth(activation)
        integrators.get_integrator(integrator)
        integrators.check_dt(dt)
        integrators.check_count("substeps", substeps)
        integrators.check_count("start_iterations", start_iterations, least=0)
        self.separable = separable
        self.dt = dt
        self.integrator = integrator
        self.substeps = substeps
        self.start_iterations = start_iterations
        self._compiled_rollout = tf.function(
            integrators.rollout, reduce_retracing=True
        )

    def build(self, shape):
        self.dim = shape[-1]
        if self.dim % 2:
            raise ValueError(
                "The dimension of a state (q, p) must be even. "
                f"Received: {self.dim}."
            )
        half = (*shape[:-1], self.dim // 2)
        dtype = self.compute_dtype
        settings = (self.units, (), self.activation, self.weight_decay, dtype)
        if self.separable:
            self.hamiltonian = SeparableHamiltonian(
                StateMLP(*settings), StateMLP(*settings), dtype=dtype
            )
        else:
            self.hamiltonian = JointHamiltonian(
                StateMLP(*settings), dtype=dtype
            )
        build_once(self.hamiltonian, half, half)

    def call(self, x):
        if isinstance(x, (tuple, list)):
            # Keras compares with the path what is given for it.
            return self._best_path(*x)
        slope = phase.time_derivative(self.hamiltonian, split_state(x))
        return tf.concat(slope, axis=-1)

    def energy(self, x: np.ndarray | tf.Tensor) -> tf.Tensor:
        """Learned H of states [batch, dim], [batch]; its offset is free."""
        q, p = split_state(self._check_states(x, "x"))
        return self.hamiltonian(q, p)

    def rollout(
        self,
        x0: np.ndarray | tf.Tensor,
        dt: float,
        num_steps: int,
        integrator: str | None = None,
    ) -> tf.Tensor:
        """The states at 0, dt, ..., num_steps * dt by fixed steps.

        Args:
          x0: States [batch, dim].
          dt: Seconds per step; negative steps go back in time.
          num_steps: Number of steps, 0 or more.
          integrator: Name in INTEGRATORS; None for the model's own.
        Returns: [batch, num_steps + 1, dim].
        Raises: ValueError: as `integrators.rollout`.
        """
        start = split_state(self._check_states(x0, "x0"))
        dt = integrators.check_dt(dt)
        num_steps = integrators.check_num_steps(num_steps)
        # As tensors: other numbers need no other graph.
        path = self._compiled_rollout(
            self.hamiltonian,
            start,
            tf.constant(dt, start.q.dtype),
            tf.constant(num_steps),
            integrator or self.integrator,
        )
        return tf.concat(path, axis=-1)

    def fit_start(
        self, x0: np.ndarray | tf.Tensor, path: np.ndarray | tf.Tensor
    ) -> tf.Tensor:
        """Starts whose paths are nearest to x0 and `path` by least squares.

        Args:
          x0: States [batch, dim] to begin from.
          path: States at dt, 2 dt, ..., [batch, steps, dim].
        Returns: [batch, dim] after `start_iterations` of Gauss-Newton.
        Raises: ValueError: if shapes do not fit or a value is not finite.
        """
        x0 = self._check_states(x0, "x0")
        path = np.asarray(path, self.compute_dtype)
        if path.ndim != 3:
            raise ValueError(
                "`path` must be states [batch, steps, dim]. Received: "
                f"{path.shape}."
            )
        self._check_target(x0, path)
        check_finite("path", path)
        return self._fit_start(x0, tf.constant(path))

    def train_step(self, data):
        return super().train_step(_with_path(data))

    def test_step(self, data):
        return super().test_step(_with_path(data))

    def _best_path(self, x0, path):
        """The states from the best start, of the shape of `path`."""
        path = tf.cast(path, x0.dtype)
        # At the best start the loss does not change with it, so that the
        # gradient of the weights needs none through the fit.
        start = tf.stop_gradient(self._fit_start(x0, path))
        return self._follow(start, path.shape[1])[:, 1:]

    def _endpoints(self):
        serve, states = super()._endpoints()["serve"]
        steps = [spec("dt", (), self.compute_dtype), spec("num_steps")]

        def rollout(x, dt, num_steps):
            path = integrators.rollout(
                self.hamiltonian,
                split_state(x),
                dt,
                num_steps,
                self.integrator,
            )
            return {"x": tf.concat(path, axis=-1)}

        def energy(x):
            return {"energy": self.hamiltonian(*split_state(x))}

        return {
            "serve": (serve, states),
            "rollout": (rollout, [*states, *steps]),
            "energy": (energy, states),
        }

    def _follow(self, x0, num_states):
        """The states at 0, dt, ..., num_states * dt, [batch, time, dim]."""
        path = integrators.rollout(
            self.hamiltonian,
            split_state(x0),
            self.dt / self.substeps,
            num_states * self.substeps,
            self.integrator,
        )
        return tf.concat(path, axis=-1)[:, :: self.substeps]

    def _fit_start(self, x0, path):
        data = tf.concat([x0[:, None], path], axis=1)
        unit = tf.eye(self.dim, dtype=x0.dtype)
        shifts = _DIFFERENCE * tf.concat([tf.zeros_like(unit[:1]), unit], 0)
        start = x0
        for _ in range(self.start_iterations):
            # The path from `start` and those from its shifts, in one batch.
            starts = tf.reshape(start + shifts[:, None], [-1, self.dim])
            paths = self._follow(starts, path.shape[1])
            paths = tf.reshape(
                paths, [self.dim + 1, -1, path.shape[1] + 1, self.dim]
            )
            jacobian = (paths[1:] - paths[0]) / _DIFFERENCE
            # x0 itself is data, so this matrix is at least the identity.
            normal = tf.einsum("ibtd,jbtd->bij", jacobian, jacobian)
            slope = tf.einsum("ibtd,btd->bi", jacobian, data - paths[0])
            factor = tf.linalg.cholesky(normal)
            start += tf.linalg.cholesky_solve(factor, slope[..., None])[..., 0]
        return start

    def _check_target(self, x, y):
        shape = tuple(y.shape)
        if len(shape) != 3:
            super()._check_target(x, y)
        elif 0 in shape[1:] or not tf.TensorShape(x.shape).is_compatible_with(
            (shape[0], shape[2])
        ):
            raise ValueError(
                "To train on paths, `x` must be [rows, dim] and `y` "
                f"[rows, steps, dim]. Received: {tuple(x.shape)} and {shape}."
            )

    def get_config(self):
        return {
            **super().get_config(),
            "separable": self.separable,
            "dt": self.dt,
            "integrator": self.integrator,
            "substeps": self.substeps,
            "start_iterations": self.start_iterations,
        }


def _check_weight_of_rows(y, weight):
    """Derivatives have a weight per row: Keras would weigh coordinates."""
    if y is None or weight is None or tf.TensorShape(y.shape).rank != 2:
        return
    shape = tf.TensorShape(as_array(weight).shape)
    if shape.rank == 2 and shape[1] not in (None, 1):
        raise ValueError(
            "`sample_weight` must be a number per row, [rows], where the "
            f"target is dx/dt. Received: shape {tuple(shape)}."
        )


def _check_values(name, part):
    """Refuses what is not finite; in a graph, as it runs."""
    if has_values(part):
        check_finite(name, np.asarray(part))
    elif tf.is_tensor(part) and part.dtype.is_floating:
        tf.debugging.assert_all_finite(
            part, f"`{name}` must be finite. Received: NaN or infinity."
        )


def _with_path(data):
    """A batch of paths as the model takes it: (x0, path), path and weights."""
    x, y, weight = Batch.of(data)
    if len(y.shape) == 3:
        x = (x, y)
        if weight is not None and len(weight.shape) == 1:
            # Of each state of the path, as Keras weighs them.
            weight = tf.repeat(weight[:, tf.newaxis], y.shape[1], axis=1)
    return keras.utils.pack_x_y_sample_weight(x, y, weight)


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
