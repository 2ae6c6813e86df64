"""Pictures of the HNN table: energies and phase portraits of each task."""

import pathlib

import numpy as np

from hgn_tf.experiments import runs
from hgn_tf.experiments.hnn import truth as truths
from hgn_tf.experiments.hnn.config import models_of
from hgn_tf.experiments.hnn.measures import as_states
from hgn_tf.viz import figures as plots

_SHOWN = 4  # trials


def write_figures(
    task: str,
    runs_dir: pathlib.Path,
    out_dir: pathlib.Path,
    data_dir: str | None = None,
) -> list[pathlib.Path]:
    """Draws the models of seed 0 that are there, beside the truth.

    Args:
      task: Key of TASKS.
      runs_dir: Folder of the table's runs.
      out_dir: Folder of the PNG files: <task>-energy.png with the true H along
        the paths of each model, and <task>-phase-<model>.png.
      data_dir: TFDS's folder; None for its default.
    Returns: Paths of the files.
    """
    truth = truths.load_truth(task, data_dir)
    times = truth.times
    paths = {"true": truth.path[:_SHOWN]}
    for name in models_of(task):
        folder = runs_dir / f"{task}-{name}-0"
        if (folder / "model.keras").exists():
            model = as_states(runs.load_model(folder), task, truth)
            paths[name] = model.integrate(
                truth.start[:_SHOWN], times[[0, -1]], times
            )
    out_dir.mkdir(parents=True, exist_ok=True)
    energies = {
        name: truths.energy(task, truth, path) for name, path in paths.items()
    }
    figures = {
        f"{task}-energy.png": plots.energy_curves(
            energies, float(times[1] - times[0]), "J"
        )
    }
    states = {name: np.split(path, 2, axis=-1) for name, path in paths.items()}
    for name, (q, p) in states.items():
        figures[f"{task}-phase-{name}.png"] = plots.phase_portrait(
            q, p, like=states["true"]
        )
    for name, figure in figures.items():
        plots.write_figure(out_dir / name, figure)
    return [out_dir / name for name in figures]
