"""Adaptive Runge-Kutta of order 8 with steps of its own per trajectory."""

from collections.abc import Callable

import numpy as np

# The tableau of Dormand and Prince, taken from scipy instead of retyped.
from scipy.integrate import DOP853

Field = Callable[[np.ndarray], np.ndarray]

# Tight enough for a relative energy drift below 1e-6 through the close
# encounters of three bodies; smooth systems need one or two steps a frame.
_TOLERANCE = 1e-12
_FIRST_STEP = 1e-2  # seconds; a rejected step costs one evaluation round
_SMALLEST_STEP = 1e-13  # as a fraction of the whole time span
_SAFETY, _SHRINK, _GROW = 0.9, 0.2, 5.0
_STAGES = 12


def integrate(field: Field, start: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Solves dy/dt = field(y) for a batch, y(times[0]) = start.

    The steps of a trajectory follow from its own error alone and end exactly
    on the wanted times, so nothing is interpolated.

    Args:
      field: Elementwise in the batch, [components, batch] to the same shape.
      start: State at times[0], float64, [components, batch].
      times: Strictly increasing or strictly decreasing, [time].

    Returns:
      The states at the times, [time, components, batch].

    Raises:
      ArithmeticError: If the steps become too small to go on.

    Source: Hairer, Norsett, Wanner, Solving Ordinary Differential Equations
      I, II.5 (method, error estimate) and II.4 (step size).
    """
    path = np.empty((len(times), *start.shape))
    path[0] = start
    if len(times) == 1:
        return path
    smallest = _SMALLEST_STEP * abs(times[-1] - times[0])
    batch = start.shape[1]
    # All arrays below hold the trajectories that still run, in order.
    trajectory = np.arange(batch)
    target = np.ones(batch, np.int64)  # index of the next wanted time
    time = np.full(batch, times[0])
    size = np.full(batch, _FIRST_STEP)  # largest step that the error allows
    state = np.ascontiguousarray(start)
    slope = field(state)
    while trajectory.size:
        remaining = times[target] - time
        # Even steps to the wanted time: no sliver is left for the last one.
        count = np.ceil(np.abs(remaining) / size)
        step = remaining / count
        # A step that is far too long may overflow; it is then rejected.
        with np.errstate(all="ignore"):
            new_state, new_slope, error = _step(field, state, slope, step)
        accepted = error <= 1.0
        factor = _SAFETY * np.maximum(error, 1e-16) ** (-1 / 8)
        size = np.abs(step) * np.clip(factor, _SHRINK, _GROW)
        if (size < smallest).any():
            raise ArithmeticError(
                "The motion must stay regular over `times`. Received: a state "
                f"whose steps fall below {smallest:.1e} s, as in a collision; "
                "start further apart or simulate less time."
            )
        arrived = accepted & (count <= 1)
        state = np.where(accepted, new_state, state)
        slope = np.where(accepted, new_slope, slope)
        time = np.where(accepted, time + step, time)
        time = np.where(arrived, times[target], time)
        path[target[arrived], :, trajectory[arrived]] = state[:, arrived].T
        target = target + arrived
        running = target < len(times)
        if not running.all():
            trajectory, target, time, size = (
                array[running] for array in (trajectory, target, time, size)
            )
            # compress, unlike state[:, running], keeps the memory order.
            state = np.compress(running, state, axis=1)
            slope = np.compress(running, slope, axis=1)
    return path


def _step(
    field: Field, state: np.ndarray, slope: np.ndarray, step: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One step: the state after it, its slope, error over tolerance."""
    slopes = [slope]
    for stage in range(1, _STAGES):
        rise = _combine(DOP853.A[stage, :stage], slopes)
        slopes.append(field(state + step * rise))
    new_state = state + step * _combine(DOP853.B, slopes)
    slopes.append(field(new_state))
    largest = np.maximum(np.abs(state), np.abs(new_state))
    scale = _TOLERANCE * (1.0 + largest)
    # Largest component instead of the usual mean square: a maximum is the
    # same in whatever order it is taken, so batches agree bit for bit.
    fifth = np.max(np.abs(_combine(DOP853.E5, slopes) / scale), axis=0)
    third = np.max(np.abs(_combine(DOP853.E3, slopes) / scale), axis=0)
    norm = np.sqrt(fifth**2 + 0.01 * third**2)
    error = np.abs(step) * fifth**2 / np.where(norm == 0, 1.0, norm)
    return new_state, slopes[-1], np.where(np.isfinite(error), error, np.inf)


def _combine(weights: np.ndarray, slopes: list[np.ndarray]) -> np.ndarray:
    """Sum of weight * slope, in order; BLAS would depend on the batch."""
    total = np.zeros(slopes[0].shape)
    for weight, slope in zip(weights, slopes, strict=True):
        if weight != 0:
            total += weight * slope
    return total
