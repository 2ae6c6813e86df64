"""Phase states and Hamilton's equations from any energy function.

A Hamiltonian is any callable `(q, p) -> energy [batch]`, learned or exact.
One that also has the methods `potential(q)` and `kinetic(p)`, each of shape
[batch], is separable: H(q, p) = K(p) + V(q). Its gradients are then taken from
the part that needs them, and integrators may reuse a gradient of V, which does
not change in a kick. This is the only module that takes gradients of energies.
"""

import math
from collections.abc import Callable
from typing import NamedTuple, Protocol, TypeGuard

import tensorflow as tf

Hamiltonian = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]

# Steps up the gradient in which energy is added.
_CLIMB = 64


class PhaseState(NamedTuple):
    """Position q and momentum p: two tensors of equal shape [batch, ...].

    With a time axis it is the second: [batch, time, ...].
    """

    q: tf.Tensor
    p: tf.Tensor


class Separable(Protocol):
    """A Hamiltonian that gives K(p) and V(q) apart, each [batch]."""

    def kinetic(self, p: tf.Tensor) -> tf.Tensor:
        """K(p)."""

    def potential(self, q: tf.Tensor) -> tf.Tensor:
        """V(q)."""

    def __call__(self, q: tf.Tensor, p: tf.Tensor) -> tf.Tensor: ...


def is_separable(hamiltonian: Hamiltonian) -> TypeGuard[Separable]:
    """Whether `hamiltonian` gives K(p) and V(q) apart."""
    return hasattr(hamiltonian, "kinetic") and hasattr(hamiltonian, "potential")


def force(hamiltonian: Hamiltonian, state: PhaseState) -> tf.Tensor:
    """dp/dt = -dH/dq, of the shape of q."""
    if is_separable(hamiltonian):
        return -_gradient(hamiltonian.potential, state.q)
    return -_gradient(lambda q: hamiltonian(q, state.p), state.q)


def velocity(hamiltonian: Hamiltonian, state: PhaseState) -> tf.Tensor:
    """dq/dt = dH/dp, of the shape of p."""
    if is_separable(hamiltonian):
        return _gradient(hamiltonian.kinetic, state.p)
    return _gradient(lambda p: hamiltonian(state.q, p), state.p)


def time_derivative(hamiltonian: Hamiltonian, state: PhaseState) -> PhaseState:
    """Hamilton's equations: dq/dt = dH/dp, dp/dt = -dH/dq.

    Args:
      hamiltonian: Callable (q, p) -> energy of shape [batch].
      state: PhaseState, q and p of shape [batch, ...].
    Returns: PhaseState (dq_dt, dp_dt) of the same shapes.
    Source: the HGN paper (Toth et al., 2019), equation 3.
    """
    if is_separable(hamiltonian):
        return PhaseState(
            velocity(hamiltonian, state), force(hamiltonian, state)
        )
    # One tape for both halves: a joint energy is evaluated once, not twice.
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(state)
        energy = hamiltonian(*state)
    dh_dq, dh_dp = tape.gradient(
        energy, state, unconnected_gradients=tf.UnconnectedGradients.ZERO
    )
    return PhaseState(dh_dp, -dh_dq)


def add_energy(
    hamiltonian: Hamiltonian, state: PhaseState, amount: float
) -> PhaseState:
    """The states moved up the gradient of H until H is higher by `amount`.

    state += (H_k - H(state)) * grad H / |grad H|^2,  k = 1, ..., 64

    H_k rises evenly to the energy wanted, so each step also mends what the
    last one missed. Where the gradient is zero a state stays.

    Args:
      hamiltonian: Callable (q, p) -> energy of shape [batch].
      state: PhaseState, q and p of shape [batch, ...].
      amount: Energy, in the units of H; a negative one is taken away. No
        state can go below the least energy there is.
    Returns: PhaseState of the same shapes.
    Raises: ValueError: if the amount is not finite.
    """
    if not math.isfinite(amount):
        raise ValueError(
            f"`amount` must be a finite energy. Received: {amount}."
        )
    state = PhaseState(*map(tf.convert_to_tensor, state))
    first = hamiltonian(*state)
    # The last few steps only mend: so near the end the error is squared.
    shares = [min(1.0, (k + 1) / (_CLIMB - 3)) for k in range(_CLIMB)]
    for share in shares:
        dq_dt, dp_dt = time_derivative(hamiltonian, state)
        slope = PhaseState(-dp_dt, dq_dt)
        missing = first + share * amount - hamiltonian(*state)
        square = sum(
            tf.reduce_sum(tf.square(part), axis=list(range(1, part.shape.rank)))
            for part in slope
        )
        length = tf.math.divide_no_nan(missing, square)
        shape = [-1] + [1] * (state.q.shape.rank - 1)
        state = PhaseState(
            *(
                part + tf.reshape(length, shape) * up
                for part, up in zip(state, slope)
            )
        )
    return state


def _gradient(energy: Callable[[tf.Tensor], tf.Tensor], at: tf.Tensor):
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(at)
        value = energy(at)
    # A free particle's energy does not depend on q: its force is zero, not
    # missing.
    return tape.gradient(
        value, at, unconnected_gradients=tf.UnconnectedGradients.ZERO
    )
