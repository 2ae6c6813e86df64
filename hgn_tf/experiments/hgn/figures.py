"""Figures 5 to 8 and 10 of the HGN paper.

Figures 5 and 10 need no trained model; 6, 7 and 8 are drawn from the finished
runs of table 1.
"""

import pathlib

import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

import tfds_physics
from hgn_tf import data, files, integrators, metrics
from hgn_tf.evaluation import SPEEDS
from hgn_tf.experiments.hgn import train
from hgn_tf.experiments.hgn.config import VARIANTS
from hgn_tf.phase import PhaseState
from hgn_tf.viz import figures as plots

_CENTRE, _RADIUS = (1.2, 0.0), 0.35  # of the patch
_RIM = 400
_STEPS, _DT, _EVERY = 24, 0.25, 6


def datasets() -> Figure:
    """Figure 5: the first training video of each dataset, in time."""
    rows = {}
    for name in data.DATASETS:
        recipe = data.get_builder(name).recipe
        (example,) = tfds_physics.make_examples(recipe, "train", [0])
        rows[name.removeprefix("physics_")] = example["video"]
    return plots.film_strip(rows, 3, recipe.dt)


def volumes() -> Figure:
    """Figure 10: a patch of a pendulum's phase space, leapfrog and Euler."""
    angle = np.linspace(0, 2 * np.pi, _RIM, endpoint=False)
    rim = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    q, p = np.split(_CENTRE + _RADIUS * rim, 2, axis=1)
    paths = {}
    for name in ("leapfrog", "euler"):
        states = integrators.rollout(
            _Pendulum(),
            PhaseState(*map(tf.constant, (q, p))),
            _DT,
            _STEPS,
            name,
        )
        path = np.concatenate([part.numpy() for part in states], axis=-1)
        paths[name] = path.transpose(1, 0, 2)
    return plots.patch_volumes(paths, _EVERY)


FIGURES = {5: datasets, 10: volumes}


class _Pendulum:
    """H = p^2 / 2 + 1 - cos q."""

    def kinetic(self, p):
        return tf.reduce_sum(tf.square(p), axis=-1) / 2

    def potential(self, q):
        return tf.reduce_sum(1 - tf.cos(q), axis=-1)

    def __call__(self, q, p):
        return self.kinetic(p) + self.potential(q)


def write_figures(
    system: str,
    runs_dir: pathlib.Path,
    out_dir: pathlib.Path,
    models: list[str] | None = None,
    data_dir: str | None = None,
) -> list[pathlib.Path]:
    """Draws the runs of seed 0 of a system, whose folders must be there.

    Args:
      system: Name in config.SYSTEMS.
      runs_dir: Folder of the table's runs.
      out_dir: Folder of <system>-figure6.png, -figure7.png and -figure8.png.
        The last two are drawn from hgn_leapfrog.
      models: Rows of the table; None for all.
      data_dir: TFDS's folder; None for its default.
    Returns: paths of the files.
    """
    folders = {
        model: runs_dir / f"{system}-{model}-0" for model in models or VARIANTS
    }
    figures = {"figure6": _errors(folders, data_dir)}
    if "hgn_leapfrog" in folders:
        arrays = files.read_arrays(folders["hgn_leapfrog"] / "evaluation.npz")
        dt = float(arrays["dt"])
        truth, model = (
            {
                speed.title: arrays[f"{who}_{name}"][0]
                for name, speed in SPEEDS.items()
            }
            for who in ("truth", "model")
        )
        figures["figure7"] = plots.rollout_speeds(truth, model, 3, dt)
        figures["figure8"] = plots.samples(arrays["samples"][:6], 3, dt)
    out_dir.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, figure in figures.items():
        path = out_dir / f"{system}-{name}.png"
        paths.append(plots.write_figure(path, figure))
    return paths


def _errors(folders, data_dir):
    """Errors and energies of the first trajectory of train and of test."""
    errors: dict[str, dict[str, np.ndarray]] = {}
    energies: dict[str, dict[str, np.ndarray]] = {}
    for name, folder in folders.items():
        config, model = train.load(folder)
        builder = data.get_builder(config.dataset, data_dir)
        # All energies of the test trajectories, to have their spread.
        learned = files.read_arrays(folder / "evaluation.npz")[
            "energy_learned"
        ].astype(np.float64)
        # A model with one energy for all has no unit to draw it in.
        spread = learned.std() or np.nan
        for split in ("train", "test"):
            video = data.load_split(builder, split, 1).video
            path = model.rollout(model.infer(video), video.shape[1] - 1)
            error = metrics.pixel_mse_per_frame(
                video / np.float32(255.0), model.decode(path).numpy()
            )
            energy = model.energy(path).numpy()[0]
            errors.setdefault(split, {})[name] = error[0]
            energies.setdefault(split, {})[name] = (
                energy - energy.mean()
            ) / spread
    return plots.rollout_errors(errors, energies, builder.recipe.dt)
