"""One density model on one density: what `hgn-tf nhf fit` runs."""

import dataclasses
import json
import pathlib

import keras
import numpy as np
import tensorflow as tf

from hgn_tf import training
from hgn_tf.densities import get_density
from hgn_tf.experiments import nhf_figures, nhf_measures, run_folder
from hgn_tf.experiments.nhf_models import TABLES, Variant, make_model
from hgn_tf.models.inner_steps import most_inner_steps

_EPOCHS = 20


@dataclasses.dataclass(frozen=True)
class Config:
    """A run.

    Attributes:
      density: A key of `densities.DENSITIES`.
      model: Name of a row of a table.
      kind: "nhf" or a name in `baselines.FLOWS`.
      settings: Arguments of the model.
      seed: Of weights, noise and training points; test points stay the same.
      num_steps: Optimiser steps, a multiple of 20 (paper: unknown).
      batch_size: Fresh points a step.
      learning_rate: Adam's at the start of its cosine decay.
      num_points: Test points.
      num_bound_points: The first of them, for an NHF: its density costs
        `num_samples` times a flow's.
      num_samples: Momenta a test point.
    """

    density: str
    model: str
    kind: str
    settings: dict
    seed: int = 0
    num_steps: int = 8000
    batch_size: int = 128
    learning_rate: float = 1e-3
    num_points: int = 10_000
    num_bound_points: int = 1000
    num_samples: int = 1000


def make_config(density: str, model: str, seed: int = 0, **changes) -> Config:
    """The Config of a row of the tables, with some settings changed.

    Args:
      density: A key of `densities.DENSITIES`.
      model: A row of a table in `nhf_models.TABLES`.
      seed: Of the run.
      **changes: Attributes of Config; what `settings` has is added to the
        row's.
    Raises: ValueError: if the density, the model or a setting is unknown, or
      num_steps no positive multiple of 20.
    """
    get_density(density)
    variant = _variant(model)
    run_folder.check_settings(changes, Config)
    settings = variant.settings_for(density) | changes.pop("settings", {})
    row = {
        "kind": variant.kind,
        "settings": json.loads(json.dumps(settings)),
        "learning_rate": variant.learning_rate,
    }
    config = Config(density, model, seed=seed, **{**row, **changes})
    if config.num_steps < 1 or config.num_steps % _EPOCHS:
        raise ValueError(
            f"`num_steps` must be a positive multiple of {_EPOCHS}. "
            f"Received: {config.num_steps}."
        )
    return config


def fit_density(
    config: Config,
    run_dir: pathlib.Path,
    experiment: str = "nhf_fit",
    verbose: int | str = 0,
    figure: bool = True,
) -> dict:
    """Trains, or goes on where it was, and measures a density model.

    Leaves model.keras, metrics.json and figure9.png in the folder, beside
    what `training.fit` does.

    Args:
      config: The run.
      run_dir: Its folder; a folder of the same run is gone on with.
      experiment: What the run belongs to.
      verbose: As in `model.fit`.
      figure: Whether to draw figure9.png.
    Returns: what is in metrics.json.
    Raises: ValueError: if the folder holds another run or other things.
    """
    run_folder.check_folder(config, run_dir)
    density = get_density(config.density)
    keras.utils.set_random_seed(config.seed)
    model = make_model(
        config.kind,
        config.settings,
        density,
        config.learning_rate,
        config.num_steps,
        config.seed,
    )
    steps_per_epoch = config.num_steps // _EPOCHS
    model.inner_steps = most_inner_steps(steps_per_epoch)
    # Only now: settings that make no model must not take the folder.
    run_dir.mkdir(parents=True, exist_ok=True)
    run_folder.write_json(run_dir / "config.json", dataclasses.asdict(config))
    training.fit(
        model,
        lambda first: training_batches(config, model.inner_steps, first),
        run_dir,
        config.num_steps // model.inner_steps,
        steps_per_epoch // model.inner_steps,
        verbose=verbose,
    )
    run_folder.save_model(model, run_dir)
    rows = training.read_log(run_dir / "log.csv")
    result = {
        "experiment": experiment,
        "model": config.model,
        "dataset": config.density,
        "seed": config.seed,
        "budget": "paper",
        "metrics": nhf_measures.measure(
            model,
            density,
            config.num_points,
            config.num_bound_points,
            config.num_samples,
        )
        | nhf_measures.measure_training(model, rows, steps_per_epoch),
        "config": dataclasses.asdict(config),
        "commit": run_folder.commit(),
        "wall_seconds": _total(rows, "wall_seconds"),
        "cpu_seconds": _total(rows, "cpu_seconds"),
        "peak_memory_mb": max(float(row["peak_memory_mb"]) for row in rows),
    }
    run_folder.write_json(run_dir / "metrics.json", result)
    if figure:
        nhf_figures.write_figure(model, density, run_dir / "figure9.png")
    return result


def training_batches(
    config: Config, inner_steps: int, first: int = 0
) -> tf.data.Dataset:
    """Endless fresh points of `inner_steps` steps at a time.

    They depend on the seed and their number alone, so a run that goes on sees
    what it would have seen. Numpy draws them while the step before runs, at
    some 0.02 ms a step.

    Args:
      config: Of the run.
      inner_steps: Steps whose points lie one after another.
      first: How many to leave out.
    Returns: dataset of float32 [inner_steps * batch_size, dim].
    """
    density = get_density(config.density)
    size = inner_steps * config.batch_size

    def draw(number):
        return density.sample(size, [config.seed, int(number)])

    def batch(number):
        points = tf.numpy_function(draw, [number], tf.float32, stateful=False)
        return tf.ensure_shape(points, [size, density.dim])

    return tf.data.Dataset.counter(first).map(batch).prefetch(2)


def load(run_dir: pathlib.Path) -> tuple[Config, keras.Model]:
    """The settings and the trained model of a run's folder.

    Raises: ValueError: if the folder is no run's, or the run not at its end.
    """
    config = run_folder.read_config(run_dir, Config)
    path = run_dir / "model.keras"
    if not path.exists():
        raise ValueError(
            f"A run must be trained to its end first. Received: {run_dir}, "
            f"without {path.name}."
        )
    return config, keras.saving.load_model(path)


def _variant(name) -> Variant:
    rows = {key: row for table in TABLES.values() for key, row in table.items()}
    if name not in rows:
        raise ValueError(
            f"`model` must be one of {list(rows)}. Received: {name!r}."
        )
    return rows[name]


def _total(rows, name):
    return float(np.sum([float(row[name]) for row in rows]))
