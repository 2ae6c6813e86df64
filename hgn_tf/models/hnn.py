"""Hamiltonian neural networks on states, and their baseline without physics.

A state x [batch, 2 dof] is q and p joined on the last axis. Both models are
x -> dx/dt and train by `model.fit(x, dx_dt)`; what differs is that the HNN's
field is that of one learned energy.
"""

import tensorflow as tf

from hgn_tf import integrators, phase
from hgn_tf.models.state_field import StateField, StateMLP
from hgn_tf.networks import (
    JointHamiltonian,
    SeparableHamiltonian,
    build_once,
    serializable,
    split_state,
)


@serializable
class DerivativeNet(StateField):
    """The HNN paper's baseline: an MLP whose output is dx/dt itself.

    Args:
      units: Width of each hidden layer.
      activation: Of the hidden layers.
      weight_decay: See `StateMLP`.
    Call: x [batch, dim] -> dx/dt [batch, dim].
    Source: Greydanus et al. 2019, Hamiltonian Neural Networks, section 3.
    """

    def build(self, shape):
        self.dim = shape[-1]
        self.network = StateMLP(
            self.units, self.dim, self.activation, self.weight_decay
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
        noisy states underestimates them. Take `separable=True` with it.

    Args:
      units: Width of each hidden layer.
      activation: Of the hidden layers.
      weight_decay: See `StateMLP`.
      separable: Learn K(p) + V(q) in two networks instead of one H(q, p);
        leapfrog and yoshida4 keep order and volume for those only.
      dt: Seconds between the states of a path, for the second way.
      integrator: A name in `integrators.INTEGRATORS`, for the second way.
      substeps: Integrator steps between two states of a path.
    Call: x [batch, 2 dof] -> dx/dt [batch, 2 dof].
    Raises: ValueError: for an odd dimension, an unknown integrator, a dt or
      substeps that cannot be.
    Source: Greydanus et al. 2019, Hamiltonian Neural Networks, equation 3;
      the second way: Chen et al. 2020, Symplectic Recurrent Neural Networks,
      section 3.
    """

    def __init__(
        self,
        units=(200, 200),
        activation="tanh",
        weight_decay=0.0,
        *,
        separable=False,
        dt=0.1,
        integrator="leapfrog",
        substeps=1,
        **kwargs,
    ):
        super().__init__(units, activation, weight_decay, **kwargs)
        integrators.get_integrator(integrator)
        integrators.check_dt(dt)
        self.separable = separable
        self.dt = dt
        self.integrator = integrator
        self.substeps = substeps
        self._compiled_rollout = tf.function(integrators.rollout)

    def build(self, shape):
        self.dim = shape[-1]
        if self.dim % 2:
            raise ValueError(
                "The dimension of a state (q, p) must be even. "
                f"Received: {self.dim}."
            )
        half = (*shape[:-1], self.dim // 2)
        settings = (self.units, None, self.activation, self.weight_decay)
        if self.separable:
            self.hamiltonian = SeparableHamiltonian(
                StateMLP(*settings), StateMLP(*settings)
            )
        else:
            self.hamiltonian = JointHamiltonian(StateMLP(*settings))
        build_once(self.hamiltonian, half, half)

    def call(self, x):
        slope = phase.time_derivative(self.hamiltonian, split_state(x))
        return tf.concat(slope, axis=-1)

    def energy(self, x) -> tf.Tensor:
        """Learned H of states [batch, dim], [batch]; its offset is free."""
        q, p = split_state(self._check_states(x, "x"))
        return self.hamiltonian(q, p)

    def rollout(
        self, x0, dt: float, num_steps: int, integrator: str | None = None
    ) -> tf.Tensor:
        """The states at 0, dt, ..., num_steps * dt by fixed steps.

        Args:
          x0: States [batch, dim].
          dt: Seconds a step; negative steps go back in time.
          num_steps: How many, 0 or more.
          integrator: A name in INTEGRATORS; None for the model's own.
        Returns: [batch, num_steps + 1, dim].
        Raises: ValueError: as `integrators.rollout`.
        """
        start = split_state(self._check_states(x0, "x0"))
        path = self._compiled_rollout(
            self.hamiltonian,
            start,
            dt,
            num_steps,
            integrator or self.integrator,
        )
        return tf.concat(path, axis=-1)

    def compute_loss(self, x=None, y=None, y_pred=None, *args, **kwargs):
        if y is not None and y.shape.rank == 3:
            path = integrators.rollout(
                self.hamiltonian,
                split_state(x),
                self.dt / self.substeps,
                y.shape[1] * self.substeps,
                self.integrator,
            )
            y_pred = tf.concat(path, axis=-1)
            y_pred = y_pred[:, self.substeps :: self.substeps]
        return super().compute_loss(x, y, y_pred, *args, **kwargs)

    def _check_target(self, x, y):
        if y.ndim != 3:
            super()._check_target(x, y)
        elif x.ndim != 2 or x.shape != (len(y), y.shape[2]) or not y.size:
            raise ValueError(
                "To train on paths, `x` must be [rows, dim] and `y` "
                f"[rows, steps, dim]. Received: {x.shape} and {y.shape}."
            )

    def get_config(self):
        return {
            **super().get_config(),
            "separable": self.separable,
            "dt": self.dt,
            "integrator": self.integrator,
            "substeps": self.substeps,
        }
