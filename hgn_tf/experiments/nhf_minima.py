"""Where the learned potential of a Neural Hamiltonian Flow is lowest."""

import numpy as np
import tensorflow as tf
from scipy.optimize import minimize

from hgn_tf.densities import Density

_STARTS = 9  # on each side of the square
_APART = 0.1  # minima closer than this are one
_CURVED = 0.05  # V must be higher this far around a minimum


def find_minima(model, half_width: float) -> np.ndarray:
    """Local minima of V(q) of the last Hamiltonian within a square.

    Minimised by scipy's L-BFGS-B from a lattice of starts; what ends at the
    square's edge, or where V does not rise all around, is no minimum.

    Args:
      model: NHF on points of the plane.
      half_width: The square is [-half_width, half_width]^2 in the flow's own
        coordinates, those of the data unless a scaling layer follows.
    Returns: Minima in the coordinates of the data, lowest V first, [k, 2].
    """
    line = np.linspace(-half_width, half_width, _STARTS + 2)[1:-1]
    starts = np.stack(np.meshgrid(line, line), -1).reshape(-1, 2)
    value_and_slope = _potential(model)
    box = [(-half_width, half_width)] * 2
    ends = [
        minimize(_at_point(value_and_slope), start, jac=True, bounds=box)
        for start in starts
    ]
    found = []
    for end in sorted(ends, key=lambda end: end.fun):
        inside = np.abs(end.x).max() < half_width - 1e-3
        apart = all(np.linalg.norm(end.x - x) > _APART for x in found)
        if inside and apart and _rises(value_and_slope, end.x):
            found.append(end.x)
    return _as_data(model, np.reshape(found, (-1, 2)))


def measure(model, density: Density) -> dict[str, float]:
    """How the minima of V lie to the modes of the density.

      minima: How many V has, of the last Hamiltonian.
      modes: How many the density has.
      mode_distance: From the mode that is farthest from a minimum to it.
      minimum_distance: From the minimum that is farthest from a mode to it.

    Without minima both distances are NaN.

    Args:
      model: NHF.
      density: With modes.
    Returns: Name -> number.
    """
    minima, modes = find_minima(model, density.half_width), density.modes
    distances = np.linalg.norm(minima[:, None] - modes, axis=-1)
    found = len(minima) > 0
    return {
        "minima": len(minima),
        "modes": len(modes),
        "mode_distance": float(distances.min(0).max()) if found else np.nan,
        "minimum_distance": float(distances.min(1).max()) if found else np.nan,
    }


def _potential(model):
    """Compiled q [n, 2] -> V and dV/dq."""
    potential = model.hamiltonians[-1].potential

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32)])
    def value_and_slope(q):
        with tf.GradientTape() as tape:
            tape.watch(q)
            value = potential(q)
        return value, tape.gradient(value, q)

    return value_and_slope


def _at_point(value_and_slope):
    def evaluate(q):
        q = tf.constant(q[None], tf.float32)
        value, slope = (x.numpy()[0] for x in value_and_slope(q))
        return float(value), slope.astype(np.float64)

    return evaluate


def _rises(value_and_slope, q):
    angle = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    circle = q + _CURVED * np.stack([np.cos(angle), np.sin(angle)], -1)
    values, _ = value_and_slope(
        tf.constant(np.concatenate([q[None], circle]), tf.float32)
    )
    return np.all(values[1:] > values[0])


def _as_data(model, q):
    """Through the scaling layer, if the flow ends with one."""
    if model.affine is None or not len(q):
        return q
    state = tf.constant(np.concatenate([q, 0 * q], axis=-1), tf.float32)
    return model.affine.forward(state).numpy()[:, :2]
