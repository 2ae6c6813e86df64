"""Phase states and Hamilton's equations from any energy function.

A Hamiltonian is any callable `(q, p) -> energy [batch]`, learned or exact.
One that also has the methods `potential(q)` and `kinetic(p)`, each of shape
[batch], is separable: H(q, p) = K(p) + V(q). Its gradients are then taken from
the part that needs them, and integrators may reuse a gradient of V, which does
not change in a kick. This is the only module that takes gradients of energies.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol, TypeGuard

import tensorflow as tf

Hamiltonian = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


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


def _gradient(energy: Callable[[tf.Tensor], tf.Tensor], at: tf.Tensor):
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(at)
        value = energy(at)
    # A free particle's energy does not depend on q: its force is zero, not
    # missing.
    return tape.gradient(
        value, at, unconnected_gradients=tf.UnconnectedGradients.ZERO
    )
