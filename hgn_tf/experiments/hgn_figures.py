"""Figures 6, 7 and 8 of the paper, from the finished runs of table 1."""

import pathlib
from collections.abc import Iterable

import numpy as np

from hgn_tf import data, metrics, motion_plots
from hgn_tf.experiments import run_folder, train_hgn
from hgn_tf.experiments.hgn_table1 import VARIANTS

_WAYS = {
    "forward": "forward",
    "backward": "backward",
    "double": "double speed",
    "half": "half speed",
}


def write_figures(
    system: str,
    runs_dir: pathlib.Path,
    out_dir: pathlib.Path,
    models: list[str] | None = None,
    data_dir: str | None = None,
) -> list[pathlib.Path]:
    """Draws the runs of seed 0 of a system.

    Args:
      system: A name in hgn_table1.SYSTEMS.
      runs_dir: Where `hgn_table1.run` left its folders.
      out_dir: Where <system>-figure6.png, -figure7.png and -figure8.png go;
        the last two are those of hgn_leapfrog.
      models: Rows of the table; None for all.
      data_dir: TFDS's folder; None for its default.
    Returns: paths of the files.
    Raises: ValueError: if the folder of a run is not there.
    """
    runs = {
        model: runs_dir / f"{system}-{model}-0" for model in models or VARIANTS
    }
    check_folders(runs.values())
    figures = {"figure6": _errors(runs, data_dir)}
    if "hgn_leapfrog" in runs:
        arrays = run_folder.read_arrays(runs["hgn_leapfrog"] / "evaluation.npz")
        dt = float(arrays["dt"])
        truth, model = (
            {way: arrays[f"{who}_{name}"][0] for name, way in _WAYS.items()}
            for who in ("truth", "model")
        )
        figures["figure7"] = motion_plots.rollout_speeds(truth, model, 3, dt)
        figures["figure8"] = motion_plots.samples(arrays["samples"][:6], 3, dt)
    out_dir.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, figure in figures.items():
        paths.append(out_dir / f"{system}-{name}.png")
        figure.savefig(paths[-1], dpi=100)
    return paths


def check_folders(folders: Iterable[pathlib.Path]) -> None:
    """The folders of runs that figures are drawn from are there, and finished.

    Raises: ValueError: if one is not, as where only its result was copied.
    """
    missing = [
        str(folder)
        for folder in folders
        if not (folder / "evaluation.npz").exists()
    ]
    if missing:
        raise ValueError(
            "Figures are drawn from the folders of runs, which must be there. "
            f"Missing: {missing}. Name the models that are there, or remove "
            "the results of the others, and they are trained again."
        )


def _errors(runs, data_dir):
    """Errors and energies of the first trajectory of train and of test."""
    errors, energies = {}, {}
    for name, folder in runs.items():
        config, model = train_hgn.load(folder)
        builder = data.get_builder(config.dataset, data_dir)
        # All energies of the test trajectories, to have their spread.
        learned = run_folder.read_arrays(folder / "evaluation.npz")[
            "energy_learned"
        ].astype(np.float64)
        # A model with one energy for all has no unit to draw it in.
        spread = learned.std() or np.nan
        for split in ("train", "test"):
            video = data.load_split(builder, split, 1).video
            path = model.rollout(model.infer(video), video.shape[1] - 1)
            error = metrics.pixel_mse_per_frame(
                video / np.float32(255.0), model.draw(path).numpy()
            )
            energy = model.energy(path).numpy()[0]
            errors.setdefault(split, {})[name] = error[0]
            energies.setdefault(split, {})[name] = (
                energy - energy.mean()
            ) / spread
    return motion_plots.rollout_errors(errors, energies, builder.recipe.dt)
