"""What a model of the HNN table is worth: published and corrected measures."""

import numpy as np

from hgn_tf import metrics
from hgn_tf.experiments import hnn_pixels, hnn_tasks
from hgn_tf.experiments.hnn_tasks import Truth


def measure(model, name: str, truth: Truth) -> dict[str, float]:
    """The measures of one set of weights.

    As published, oversights included:
      train_loss, test_loss: Mean squared error of dx/dt at the noisy states.
      energy_mse: Mean over trials and times of the squared difference of the
        energies along the predicted and the true path.
    Corrected:
      true_energy_mse: The same with the true H and one horizon for all.
      true_energy_mse_median: Median over trials of it.
      coordinate_mse: Mean squared error of a coordinate along the path.
      field_mse: As test_loss, but at the states without noise.
      field_fvu: The same over the mean square of dx/dt.
      train_loss_floor, test_loss_floor: Losses of the exact field at the
        noisy states; no field can be judged by a loss near them.

    Args:
      model: With `time_derivative` and `integrate`; on the pixel pendulum a
        PixelHNN, which has the measures of `hnn_pixels.measure` too.
      name: A key of TASKS.
      truth: Of that task.
    Returns: Name -> number; what the real and the pixel pendulum have no
      truth for is left out.
    """
    results = {}
    if name == hnn_tasks.PIXELS:
        model = as_states(model, name, truth)
        results |= hnn_pixels.measure(model, truth)
    else:
        for split, rows in truth.rows.items():
            error = model.time_derivative(rows["x"]).numpy() - rows["dx_dt"]
            results[f"{split}_loss"] = _mean_square(error)
    path, published_path = _predict(model, name, truth)
    error = hnn_tasks.published_energy(
        name, truth, published_path
    ) - hnn_tasks.published_energy(name, truth, truth.published_path)
    results["energy_mse"] = _mean_square(error)
    error = hnn_tasks.energy(name, truth, path) - hnn_tasks.energy(
        name, truth, truth.path
    )
    results["true_energy_mse"] = _mean_square(error)
    results["coordinate_mse"] = _mean_square(path - truth.path)
    if len(truth.start) > 1:
        results["true_energy_mse_median"] = float(
            np.median(np.square(error).mean(axis=1))
        )
    if truth.system is None:
        return results
    test = truth.rows["test"]
    exact = hnn_tasks.field(truth, test["x_true"])
    error = model.time_derivative(test["x_true"]).numpy() - exact
    results["field_mse"] = _mean_square(error)
    results["field_fvu"] = _mean_square(error) / _mean_square(exact)
    for split, rows in truth.rows.items():
        error = hnn_tasks.field(truth, rows["x"]) - rows["dx_dt"]
        results[f"{split}_loss_floor"] = _mean_square(error)
    return results


def measure_long(model, name: str, truth: Truth) -> dict[str, float]:
    """What shows itself in 10 times the horizon only, at more cost.

      energy_drift: Median over trials of the largest change of the true H in
        10 times the horizon, over the spread of H among the starts.

    Args:
      model: With `integrate`, or a PixelHNN.
      name: A key of TASKS.
      truth: Of that task.
    Returns: Name -> number.
    """
    times = truth.long_times
    model = as_states(model, name, truth)
    path = model.integrate(
        truth.start, times[[0, -1]], times, hnn_tasks.TASKS[name].rtol
    )
    energy = hnn_tasks.energy(name, truth, path)
    # One recording has no spread among its starts.
    scale = None if len(energy) > 1 else float(energy[0, 0])
    drift = metrics.energy_drift(energy, scale)
    return {"energy_drift": float(np.median(drift))}


def as_states(model, name: str, truth: Truth):
    """The model, or what reads its states, with `integrate`."""
    if name == hnn_tasks.PIXELS:
        return hnn_pixels.StateReader(model, truth.rows["train"])
    return model


def _predict(model, name, truth):
    """Predicted states at the times of the truth, by one integration."""
    every = np.unique(
        np.concatenate([truth.times, truth.published_times.ravel()])
    )
    path = model.integrate(
        truth.start, every[[0, -1]], every, hnn_tasks.TASKS[name].rtol
    )
    times = np.tile(truth.times, (len(truth.start), 1))
    return (
        hnn_tasks.pick(path, every, times),
        hnn_tasks.pick(path, every, truth.published_times),
    )


def _mean_square(x):
    return float(np.square(x, dtype=np.float64).mean())
