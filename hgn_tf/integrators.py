"""Steps in time along Hamilton's equations, and rollouts made of them.

"leapfrog" means kick-drift-kick (velocity Verlet); "yoshida4" is the fourth
order composition of three of them by Yoshida (1990). Both are explicit and
symplectic for H(q, p) = K(p) + V(q) only: on any other H they are first order
and do not keep phase-space volume. "implicit_midpoint" keeps its order and the
two-form on any H, at several gradients per step.
"""

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from hgn_tf.phase import (
    Hamiltonian,
    PhaseState,
    force,
    is_separable,
    time_derivative,
    velocity,
)

Step = Callable[[Hamiltonian, PhaseState, float], PhaseState]


@dataclass(frozen=True)
class Integrator:
    """One method: a pure step and what is claimed of it for separable H.

    Attributes:
      step: Callable (hamiltonian, state, dt) -> state.
      order: Order of the method: the global error is O(dt^order).
      symplectic: Whether the step keeps the two-form dq ^ dp.
      any_energy: Whether the step keeps the two-form of every H, separable or
        not.
      lengths: Lengths of the leapfrog steps that the method is composed of, as
        fractions of dt; empty for other methods.
    """

    step: Step
    order: int
    symplectic: bool
    any_energy: bool = False
    lengths: tuple[float, ...] = ()


def compose(
    name: str, lengths: tuple[float, ...], order: int, source: str
) -> Integrator:
    """A symplectic method made of leapfrog steps, one after another.

    A leapfrog step of length h is kick-drift-kick:

    ph = p - h/2 * dH/dq(q, p);  q1 = q + h * dH/dp(q, ph)
    p1 = ph - h/2 * dH/dq(q1, ph)

    Args:
      name: str. Name of the step.
      lengths: Lengths of the steps as fractions of dt; they add up to 1.
      order: int. Order that the method is known to have if H is separable.
      source: str. Source of the lengths.
    Returns: Integrator; its step takes (hamiltonian, state, dt).
    Raises: ValueError: if the lengths do not add up to 1.
    Source: Hairer, Lubich, Wanner, Geometric Numerical Integration, I.1.4
      for leapfrog, II.4 for compositions.
    """
    if not np.isclose(sum(lengths), 1.0, rtol=0.0, atol=1e-12):
        raise ValueError(
            f"`lengths` must add up to 1. Received: {lengths}, {sum(lengths)}."
        )

    def step(
        hamiltonian: Hamiltonian, state: PhaseState, dt: float
    ) -> PhaseState:
        start = force(hamiltonian, state)
        return _compose(hamiltonian, state, start, dt, lengths)[0]

    step.__name__ = step.__qualname__ = name
    step.__doc__ = (
        f"Leapfrog steps of {lengths} * dt; order {order}.\n\nSource: {source}"
    )
    return Integrator(step, order, symplectic=True, lengths=lengths)


def euler(hamiltonian: Hamiltonian, state: PhaseState, dt: float) -> PhaseState:
    """Explicit Euler step s + dt * ds/dt; order 1, not symplectic.

    Args:
      hamiltonian: Callable (q, p) -> energy of shape [batch].
      state: PhaseState, q and p of shape [batch, ...].
      dt: Step in seconds; negative steps go back in time.
    Returns: PhaseState of the same shapes.
    Source: the HGN paper, section 3.2.
    """
    return _advance(state, dt, time_derivative(hamiltonian, state))


def rk4(hamiltonian: Hamiltonian, state: PhaseState, dt: float) -> PhaseState:
    """Classical Runge-Kutta step; order 4, not symplectic.

    s + dt/6 * (k1 + 2 k2 + 2 k3 + k4)

    Args:
      hamiltonian: Callable (q, p) -> energy of shape [batch].
      state: PhaseState, q and p of shape [batch, ...].
      dt: Step in seconds; negative steps go back in time.
    Returns: PhaseState of the same shapes.
    Source: Hairer, Norsett, Wanner, Solving ODEs I, II.1, table 1.2.
    """
    k1 = time_derivative(hamiltonian, state)
    k2 = time_derivative(hamiltonian, _advance(state, dt / 2, k1))
    k3 = time_derivative(hamiltonian, _advance(state, dt / 2, k2))
    k4 = time_derivative(hamiltonian, _advance(state, dt, k3))
    slope = PhaseState(
        *((a + 2 * b + 2 * c + d) / 6 for a, b, c, d in zip(k1, k2, k3, k4))
    )
    return _advance(state, dt, slope)


def implicit_midpoint(
    hamiltonian: Hamiltonian, state: PhaseState, dt: float
) -> PhaseState:
    """Implicit midpoint step; order 2 and symplectic for every H.

    s1 = s + dt * ds/dt((s + s1) / 2)

    The equation is solved by iteration until nothing changes beyond rounding,
    in 50 rounds at most. It converges where dt / 2 times the second derivatives
    of H is below 1. Each round costs a gradient of H: 5 to 20 per step. It is
    for energies that do not separate; where one does, leapfrog is cheaper.

    Args:
      hamiltonian: Callable (q, p) -> energy of shape [batch].
      state: PhaseState, q and p of shape [batch, ...].
      dt: Step in seconds; negative steps go back in time.
    Returns: PhaseState of the same shapes.
    Source: Hairer, Lubich, Wanner, Geometric Numerical Integration, VI.4.1.
    """
    dtype = state.q.dtype
    enough = _ROUNDING * np.finfo(dtype.as_numpy_dtype).eps

    def unsettled(_, change):
        return change > enough

    def improve(end, _):
        middle = PhaseState(*((a + b) / 2 for a, b in zip(state, end)))
        new = _advance(state, dt, time_derivative(hamiltonian, middle))
        changes = [tf.abs(a - b) / (1 + tf.abs(b)) for a, b in zip(new, end)]
        # A state that is lost must not end the search of its neighbours.
        settling = [
            tf.reduce_max(tf.where(tf.math.is_finite(x), x, 0)) for x in changes
        ]
        return new, tf.stop_gradient(tf.reduce_max(settling))

    end, _ = tf.while_loop(
        unsettled,
        improve,
        (
            _advance(state, dt, time_derivative(hamiltonian, state)),
            tf.constant(np.inf, dtype),
        ),
        maximum_iterations=_MOST_ROUNDS,
    )
    return end


# An implicit step is solved to so many roundings, in so many rounds at most.
_ROUNDING, _MOST_ROUNDS = 8.0, 50
_OUTER = 1.0 / (2.0 - 2.0 ** (1.0 / 3.0))

INTEGRATORS = {
    "euler": Integrator(euler, order=1, symplectic=False),
    "leapfrog": compose(
        "leapfrog",
        (1.0,),
        order=2,
        source="Hairer, Lubich, Wanner, Geometric Numerical Integration, I.1.4",
    ),
    "rk4": Integrator(rk4, order=4, symplectic=False),
    "implicit_midpoint": Integrator(
        implicit_midpoint, order=2, symplectic=True, any_energy=True
    ),
    "yoshida4": compose(
        "yoshida4",
        (_OUTER, 1.0 - 2.0 * _OUTER, _OUTER),
        order=4,
        source="Yoshida, Construction of higher order symplectic integrators, "
        "Physics Letters A 150 (1990), equation 2.11",
    ),
}


def check_dt(dt: float) -> float:
    """Gives `dt` back; a step of 0, NaN or infinity is refused."""
    if not np.isfinite(dt) or dt == 0:
        raise ValueError(
            "`dt` must be a finite number of seconds other than 0 (negative "
            f"goes back in time). Received: {dt!r}."
        )
    return dt


def check_num_steps(num_steps: Any) -> Any:
    """Gives `num_steps` back as an int; less than 0 or a part is refused.

    A tensor of a graph is given back as it is.
    """
    if tf.is_tensor(num_steps):
        if not tf.executing_eagerly():
            return num_steps  # It is known when the graph runs.
        num_steps = num_steps.numpy()
    return check_count("num_steps", num_steps, least=0)


def check_count(name: str, count: int, least: int = 1) -> int:
    """A number of things, as Python's int.

    Args:
      name: Name of the argument.
      count: The number.
      least: The least that it may be.
    Raises: ValueError: if it is less, or not whole.
    """
    try:
        number = operator.index(count)
    except TypeError:
        number = least - 1
    if number < least:
        raise ValueError(
            f"`{name}` must be a whole number of at least {least}. "
            f"Received: {count}."
        )
    return number


def get_integrator(name: str) -> Integrator:
    """The entry of INTEGRATORS called `name`, or a ValueError with its keys."""
    if name not in INTEGRATORS:
        raise ValueError(
            f"`integrator` must be one of {sorted(INTEGRATORS)}. "
            f"Received: {name!r}."
        )
    return INTEGRATORS[name]


def rollout(
    hamiltonian: Hamiltonian,
    state: PhaseState,
    dt: float,
    num_steps: int | tf.Tensor,
    integrator: str = "leapfrog",
    unroll: bool = False,
) -> PhaseState:
    """The states at times 0, dt, ..., num_steps * dt.

    For a separable H, leapfrog and its compositions carry the force from the
    end of a step to the start of the next, which merges the two half kicks: a
    leapfrog step costs one gradient of V and one of K.

    Args:
      hamiltonian: Callable (q, p) -> energy of shape [batch].
      state: PhaseState at time 0, q and p of shape [batch, ...].
      dt: Step in seconds, a number or a scalar tensor, which is not checked;
        negative steps go back in time.
      num_steps: Number of steps, 0 or more; or a scalar tensor, which is not
        checked and takes the loop.
      integrator: Name in INTEGRATORS.
      unroll: Whether the steps are written out in the graph instead of looped.
        A loop traces faster, and keeps nothing of a step when no gradient is
        asked. The gradient of a looped convolutional energy needs XLA (TF
        2.20-2.21: grappler's memory optimiser breaks it otherwise).
    Returns: PhaseState, q and p of shape [batch, num_steps + 1, ...].
    Raises:
      ValueError: if the shapes of q and p differ.
      ValueError: if dt is 0 or num_steps is negative.
      ValueError: if there is no such integrator.
    """
    num_steps = check_num_steps(num_steps)
    state = PhaseState(*map(tf.convert_to_tensor, state))
    step, carried = _stepper(hamiltonian, state, dt, integrator)
    if not tf.is_tensor(num_steps) and (unroll or num_steps == 0):
        states = [state]
        for _ in range(num_steps):
            state, carried = step(state, carried)
            states.append(state)
        return PhaseState(*(tf.stack(part, axis=1) for part in zip(*states)))
    return _loop(step, state, carried, num_steps)


def last_state(
    hamiltonian: Hamiltonian,
    state: PhaseState,
    dt: float,
    num_steps: int,
    integrator: str = "leapfrog",
) -> PhaseState:
    """The state at num_steps * dt: the end of an unrolled `rollout`.

    Args:
      hamiltonian: Callable (q, p) -> energy of shape [batch].
      state: PhaseState at time 0, q and p of shape [batch, ...].
      dt: Step in seconds, as in `rollout`.
      num_steps: Number of steps, 0 or more.
      integrator: Name in INTEGRATORS.
    Returns: PhaseState of the same shapes.
    Raises: ValueError: as `rollout`.
    """
    num_steps = check_num_steps(num_steps)
    state = PhaseState(*map(tf.convert_to_tensor, state))
    step, carried = _stepper(hamiltonian, state, dt, integrator)
    for _ in range(num_steps):
        state, carried = step(state, carried)
    return state


def _stepper(hamiltonian, state, dt, integrator):
    """Checks; gives step(state, carried) and what the first step carries."""
    method = get_integrator(integrator)
    if not tf.is_tensor(dt):
        check_dt(dt)
    if not state.q.shape.is_compatible_with(state.p.shape):
        raise ValueError(
            "q and p must have equal shapes. Received: "
            f"{state.q.shape} and {state.p.shape}."
        )
    merged = bool(method.lengths) and is_separable(hamiltonian)

    def step(state, carried):
        if merged:
            return _compose(hamiltonian, state, carried, dt, method.lengths)
        return method.step(hamiltonian, state, dt), carried

    # Unmerged methods carry nothing; an empty tensor keeps the loop's shape.
    return step, force(hamiltonian, state) if merged else tf.zeros([0])


def _loop(step, state, carried, num_steps):
    def arrays(part):
        array = tf.TensorArray(
            part.dtype, size=num_steps + 1, element_shape=part.shape
        )
        return array.write(0, part)

    def body(index, state, carried, qs, ps):
        state, carried = step(state, carried)
        return (
            index + 1,
            state,
            carried,
            qs.write(index, state.q),
            ps.write(index, state.p),
        )

    *_, qs, ps = tf.while_loop(
        lambda index, *_: index <= num_steps,
        body,
        (1, state, carried, arrays(state.q), arrays(state.p)),
        maximum_iterations=num_steps,
    )
    return PhaseState(_batch_first(qs.stack()), _batch_first(ps.stack()))


def _compose(hamiltonian, state, carried, dt, lengths):
    """Leapfrog steps of `lengths` * dt; `carried` is the force at `state`."""
    q, p = state
    separable = is_separable(hamiltonian)
    for index, length in enumerate(lengths):
        if index > 0 and not separable:
            # The kick that ended the last step moved p, on which the force
            # of a joint H depends.
            carried = force(hamiltonian, PhaseState(q, p))
        p = p + 0.5 * length * dt * carried
        q = q + length * dt * velocity(hamiltonian, PhaseState(q, p))
        carried = force(hamiltonian, PhaseState(q, p))
        p = p + 0.5 * length * dt * carried
    return PhaseState(q, p), carried


def _advance(state, dt, slope):
    return PhaseState(state.q + dt * slope.q, state.p + dt * slope.p)


def _batch_first(stacked):
    rank = stacked.shape.rank
    return tf.transpose(stacked, [1, 0, *range(2, rank)])
