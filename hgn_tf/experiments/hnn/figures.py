"""Pictures of the HNN table: energies, portraits, fields and orbits."""

import pathlib
from collections.abc import Sequence

import numpy as np

from hgn_tf.experiments import runs
from hgn_tf.experiments.hnn import truth as truths
from hgn_tf.experiments.hnn.config import MODELS, PIXEL_TASKS, models_of
from hgn_tf.experiments.hnn.measures import as_states
from hgn_tf.viz import figures as plots

_SHOWN = 4  # trials
_ARROWS = 15  # per side of a field
_ROOM = 1.2  # of the field's frame around the true trials
_ORBIT_FRAMES = 80


def write_figures(
    task: str,
    runs_dir: pathlib.Path,
    out_dir: pathlib.Path,
    data_dir: str | None = None,
    models: Sequence[str] | None = None,
) -> list[pathlib.Path]:
    """Draws the models of seed 0 of a task, beside the truth.

    Args:
      task: Key of TASKS.
      runs_dir: Folder of the table's runs, where theirs must be.
      out_dir: Folder of the files: <task>-energy.png with the true H along the
        paths of each model, <task>-phase-<model>.png; with one degree of
        freedom <task>-field.png, with bodies in a plane <task>-orbits.gif.
      data_dir: TFDS's folder; None for its default.
      models: Names in MODELS; None for all that the task has.
    Returns: Paths of the files.
    Raises: ValueError: if the folder of a run has no model.
    """
    truth = truths.load_truth(task, data_dir)
    times = truth.times
    paths, fields = {"true": truth.path[:_SHOWN]}, {}
    for name in models_of(task):
        if name in (models or MODELS):
            model = runs.load_model(runs_dir / f"{task}-{name}-0")
            fields[name] = as_states(model, task, truth)
            paths[name] = fields[name].integrate(
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
    if truth.path.shape[-1] == 2:
        figures[f"{task}-field.png"] = _draw_fields(task, truth, fields, states)
    for name, figure in figures.items():
        plots.write_figure(out_dir / name, figure)
    written = [out_dir / name for name in figures]
    if truth.path.shape[-1] > 2:
        place = out_dir / f"{task}-orbits.gif"
        written.append(_draw_orbits(paths, place))
    return written


def _draw_fields(task, truth, models, states):
    """Fields over the part of the plane that the true trials fill."""
    reach = _ROOM * np.abs(truth.path).max(axis=(0, 1))
    q, p = np.meshgrid(*(np.linspace(-x, x, _ARROWS) for x in reach))
    lattice = np.stack([q.ravel(), p.ravel()], axis=-1)
    exact = _true_field(task, truth, lattice)
    fields = {} if exact is None else {"true": exact}
    for name, model in models.items():
        fields[name] = np.asarray(model.time_derivative(lattice))
    if exact is None:  # where nobody knows it, the recording is shown
        fields = {f"{name}, the recording": x for name, x in fields.items()}
        over = {name: states["true"] for name in fields}
    else:
        over = states
    return plots.vector_fields(
        q,
        p,
        {name: tuple(x.T.reshape(2, *q.shape)) for name, x in fields.items()},
        {name: [part[..., 0] for part in x] for name, x in over.items()},
    )


def _true_field(task, truth, x):
    if truth.system is not None:
        return truths.field(truth, x)
    if task in PIXEL_TASKS:  # of Gymnasium's rod, 3 g / (2 l) = 15
        return np.stack([x[:, 1], -15.0 * np.sin(x[:, 0])], axis=-1)
    return None


def _draw_orbits(paths, place):
    """The first trial: the truth, the HNN and the baseline."""
    names = [name for name in ("true", "hnn", "baseline") if name in paths]
    every = -(-len(paths["true"][0]) // _ORBIT_FRAMES)
    bodies = {}
    for name in names:
        q, _ = np.split(paths[name][0, ::every], 2, axis=-1)
        bodies[name] = q.reshape(len(q), -1, 2)
    return plots.orbits(bodies, place)
