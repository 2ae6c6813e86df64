"""What a density model is worth: gap, costs, and minima of its potential."""

import time

import keras
import numpy as np
import tensorflow as tf
from scipy.optimize import minimize

from hgn_tf.densities import Density
from hgn_tf.evaluation import Metric

# What the measures are called in the tables; what they are is said where they
# are taken.
METRICS = {
    "gap_nats": Metric("gap", "nats", ".3f"),
    "gap_elbo_nats": Metric("gap of the ELBO", "nats", ".3f"),
    "parameters": Metric("parameters", form=".0f"),
    "cpu_ms_per_step": Metric("CPU ms per step", form=".2f"),
    "sample_seconds": Metric("10,000 samples (CPU s)", form=".3f"),
    "log_prob_seconds": Metric("ln p of 10,000 (CPU s)", form=".3g"),
    "effective_samples": Metric("effective samples", form=".0f"),
    "grid_mass": Metric("mass on the grid", form=".4f"),
    "dropped_steps": Metric("dropped steps", form=".0f"),
    "nonfinite_losses": Metric("losses not finite", form=".0f"),
    "nonfinite": Metric("ln p not finite", form=".0f"),
    "minima": Metric("minima", form=".1f"),
    "modes": Metric("modes", form=".0f", yardstick=True),
    "mode_distance": Metric("farthest mode from its minimum", form=".3f"),
    "minimum_distance": Metric("farthest minimum from its mode", form=".3f"),
}

# Of the test points; training points come from pairs (seed, number).
_TEST_SEED = [2**31, 0, 1]
_HALF_WIDTH = 5.5  # of the grid
# A sharp ridge of a flow between coarse points costs the sum 1e-2: 0.125 gave
# 0.989 where 0.03 gave 1.0002. An NHF pays for each point with many momenta.
_STEP, _BOUND_STEP = 1 / 32, 1 / 8
_GRID_SAMPLES = 64
_GRID_ROWS = 20_000  # at once
_DRAWN = 10_000
_STARTS = 9  # on each side of the square
_APART = 0.1  # minima closer than this are one
_CURVED = 0.05  # V must be higher this far around a minimum


def score_model(
    model: keras.Model,
    density: Density,
    num_points: int,
    num_bound_points: int,
    num_samples: int,
) -> dict[str, float]:
    """The measures of a trained model, in nats unless said.

      gap_nats: Mean of ln p - ln p_model over test points, by importance
        sampling for an NHF: 0 is perfect. gap_nats_stderr: over points.
      gap_elbo_nats: The same of the ELBO, of an NHF, and its _stderr.
      log_likelihood: Mean of ln p_model. elbo: Likewise of the ELBO.
      entropy_nats: Entropy of the density.
      effective_samples: Mean over points, out of num_samples, of an NHF.
      nonfinite: Test points whose ln p_model is not finite.
      grid_mass: Integral of p_model over [-5.5, 5.5]^2; a density has 1 less
        what lies outside. Of an NHF estimated with 64 momenta per point.
      parameters: That are trained.
      sample_seconds: CPU-seconds to draw 10,000 points.
      log_prob_seconds: CPU-seconds for ln p of 10,000 points, from the time
        a test point took.
      minima, mode_distance: See `score_minima`; where the density has
        modes and the model a potential.

    Args:
      model: NHF or NormalizingFlow.
      density: True density.
      num_points: Number of test points.
      num_bound_points: Number of the first test points that an NHF is measured
        on.
      num_samples: Momenta per point, of an NHF.
    Returns: Name -> number.
    """
    bound = hasattr(model, "importance")
    points = density.sample(num_points, _TEST_SEED)
    points = points[:num_bound_points] if bound else points
    truth = density.log_prob(points)
    evaluate = _log_prob_of(model, num_samples)
    for rows in (2, 3):  # Traces, the second time for any number of rows.
        evaluate(points[:rows])
    seconds = time.process_time()
    log_prob, more = evaluate(points)
    seconds = time.process_time() - seconds
    results = {
        **_gap("gap_nats", truth - log_prob),
        "log_likelihood": float(log_prob.mean()),
        "entropy_nats": density.entropy(),
        "nonfinite": int(np.sum(~np.isfinite(log_prob))),
        "log_prob_seconds": seconds * _DRAWN / len(points),
        "sample_seconds": _time_sampling(model),
        "parameters": sum(w.shape.num_elements() for w in _trained(model)),
    }
    if bound:
        results |= {
            **_gap("gap_elbo_nats", truth - more["elbo"]),
            "elbo": float(more["elbo"].mean()),
            "effective_samples": float(more["effective_samples"].mean()),
        }
    if density.dim == 2:
        results["grid_mass"] = _grid_mass(
            model, _BOUND_STEP if bound else _STEP
        )
    if bound and density.modes is not None:
        results |= score_minima(model, density)
    return results


def score_training(
    model: keras.Model, rows: list[dict[str, str]], steps_per_epoch: int
) -> dict[str, float]:
    """What training cost and whether it was sound.

      cpu_ms_per_step: Median over the epochs; so the first one, which
        compiles, and others on the machine count little.
      steps, dropped_steps: That the model has counted.
      nonfinite_losses: Epochs whose mean loss is not finite.

    Args:
      model: Trained model.
      rows: Rows of log.csv.
      steps_per_epoch: Optimiser steps of an epoch.
    Returns: Name -> number.
    """
    cpu = [float(row["cpu_seconds"]) / steps_per_epoch for row in rows]
    losses = np.array([float(row["loss"]) for row in rows])
    return {
        "cpu_ms_per_step": 1e3 * float(np.median(cpu)),
        "steps": int(model.steps),
        "dropped_steps": int(model.dropped_steps),
        "nonfinite_losses": int(np.sum(~np.isfinite(losses))),
    }


def score_minima(model: keras.Model, density: Density) -> dict[str, float]:
    """How the minima of V lie to the modes of the density.

      minima: Number of minima of V, of the last Hamiltonian.
      modes: Number of modes of the density.
      mode_distance: Largest distance from a mode to its nearest minimum.
      minimum_distance: Largest distance from a minimum to its nearest mode.

    Without minima both distances are NaN.

    Args:
      model: NHF.
      density: With modes.
    Returns: Name -> number.
    """
    half_width, modes = density.half_width, density.modes
    assert half_width is not None and modes is not None
    minima = find_minima(model, half_width)
    distances = np.linalg.norm(minima[:, None] - modes, axis=-1)
    found = len(minima) > 0
    return {
        "minima": len(minima),
        "modes": len(modes),
        "mode_distance": float(distances.min(0).max()) if found else np.nan,
        "minimum_distance": float(distances.min(1).max()) if found else np.nan,
    }


def find_minima(model: keras.Model, half_width: float) -> np.ndarray:
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
    found: list[np.ndarray] = []
    for end in sorted(ends, key=lambda end: end.fun):
        inside = np.abs(end.x).max() < half_width - 1e-3
        apart = all(np.linalg.norm(end.x - x) > _APART for x in found)
        if inside and apart and _rises(value_and_slope, end.x):
            found.append(end.x)
    return _as_data(model, np.reshape(found, (-1, 2)))


def _log_prob_of(model, num_samples):
    """Callable, points -> ln p_model and what else is known of them."""
    if not hasattr(model, "importance"):
        return lambda points: (model.log_prob(points).numpy(), {})

    def evaluate(points):
        found = model.importance(points, num_samples)
        arrays = {name: x.numpy() for name, x in found._asdict().items()}
        return arrays.pop("log_prob"), arrays

    return evaluate


def _gap(name, difference):
    error = difference.std(ddof=1) / np.sqrt(len(difference))
    return {name: float(difference.mean()), f"{name}_stderr": float(error)}


def _time_sampling(model):
    model.sample(_DRAWN, seed=0)  # traces
    start = time.process_time()
    model.sample(_DRAWN, seed=1)
    return time.process_time() - start


def _grid_mass(model, step):
    line = np.arange(-_HALF_WIDTH, _HALF_WIDTH, step) + step / 2
    grid = np.stack(np.meshgrid(line, line), -1).reshape(-1, 2)
    evaluate = _log_prob_of(model, _GRID_SAMPLES)
    mass = 0.0
    for first in range(0, len(grid), _GRID_ROWS):
        log_prob, _ = evaluate(grid[first : first + _GRID_ROWS])
        mass += np.exp(log_prob.astype(np.float64)).sum()
    return float(step**2 * mass)


def _trained(model):
    return [variable.value for variable in model.trainable_variables]


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
