"""Hamiltonian dynamics as a bijector of TensorFlow Probability."""

import tensorflow as tf
import tensorflow_probability as tfp

from hgn_tf import integrators
from hgn_tf.phase import Hamiltonian, PhaseState, is_separable


class LeapfrogFlow(tfp.bijectors.Bijector):
    """s -> the state after `num_steps` leapfrog steps of H(q, p) = K(p) + V(q).

    An event is q and p joined, shape [2 dof]. The map is symplectic, so the
    logarithm of its Jacobian's determinant is 0, exactly and everywhere; the
    inverse is the same steps with -dt.

    The flow borrows the networks in H: `flow.trainable_variables` is empty,
    and what trains them must own them, as `models.nhf.NHF` does. TFP caches
    what a bijector returned for a tensor object, so after a change of the
    weights call it on a new one, `tf.identity(x)`.

    Args:
      hamiltonian: Separable: kinetic(p) and potential(q) of one row a state,
        [batch, dof] -> [batch].
      num_steps: Leapfrog steps, 1 or more.
      dt: Length of a step, a number other than 0, or a scalar tensor or
        variable, which is not checked.
      name: Of the bijector.
    Call: x [..., 2 dof] -> [..., 2 dof], float32 or float64.
    Raises: ValueError: if the Hamiltonian is not separable, num_steps is not
      positive, dt is 0, NaN or infinite, or the event size odd.
    Source: the HGN paper (Toth et al., 2019), section 3.3.
    """

    def __init__(
        self,
        hamiltonian: Hamiltonian,
        num_steps: int = 1,
        dt=0.5,
        name: str = "leapfrog_flow",
    ):
        if not is_separable(hamiltonian):
            raise ValueError(
                "`hamiltonian` must be separable, with methods kinetic(p) and "
                "potential(q): on others leapfrog keeps no volume. "
                f"Received: {hamiltonian!r}."
            )
        if num_steps < 1:
            raise ValueError(
                f"`num_steps` must be at least 1. Received: {num_steps}."
            )
        if isinstance(dt, int | float):
            integrators.check_dt(dt)
        # `dict(locals())`, as TFP's own do, fails on a Keras model.
        super().__init__(
            forward_min_event_ndims=1,
            is_constant_jacobian=True,
            parameters={"name": name},
            name=name,
        )
        self._hamiltonian = hamiltonian
        self._num_steps = num_steps
        self._dt = dt

    # Equal bijectors share a cache: by name alone, all flows would be equal.
    def __eq__(self, other):
        return self is other

    def __hash__(self):
        return id(self)

    @property
    def hamiltonian(self) -> Hamiltonian:
        return self._hamiltonian

    @property
    def num_steps(self) -> int:
        return self._num_steps

    @property
    def dt(self):
        return self._dt

    @classmethod
    def _parameter_properties(cls, dtype):
        return {}

    def _forward(self, x):
        return self.advance(x, tf.convert_to_tensor(self._dt, x.dtype))

    def _inverse(self, y):
        return self.advance(y, -tf.convert_to_tensor(self._dt, y.dtype))

    def _forward_log_det_jacobian(self, x):
        return tf.zeros([], x.dtype)

    def advance(self, x: tf.Tensor, dt) -> tf.Tensor:
        """The states after `num_steps` steps of `dt`, whatever the flow's own.

        Args:
          x: States [..., 2 dof].
          dt: Length of a step, as in the constructor.
        Returns: [..., 2 dof].
        Raises: ValueError: if the event size is odd.
        """
        size = x.shape[-1]
        if size is None or size % 2:
            raise ValueError(
                "An event must be q and p joined, of even size. "
                f"Received: shape {x.shape}."
            )
        # Energies of layers take one batch axis.
        flat = tf.reshape(x, [-1, size])
        state = integrators.last_state(
            self._hamiltonian,
            PhaseState(*tf.split(flat, 2, axis=-1)),
            dt,
            self._num_steps,
        )
        moved = tf.reshape(tf.concat(state, axis=-1), tf.shape(x))
        return tf.ensure_shape(moved, x.shape)
