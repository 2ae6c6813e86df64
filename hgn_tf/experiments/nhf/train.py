"""One density model on one density: what `hgn-tf fit` runs."""

import dataclasses
import pathlib

import keras
import tensorflow as tf

from hgn_tf import files, training
from hgn_tf.densities import get_density
from hgn_tf.experiments import runs
from hgn_tf.experiments.nhf import figures, measures
from hgn_tf.experiments.nhf.config import EPOCHS, Config, make_model
from hgn_tf.models.steps import most_inner_steps


def train_and_score(
    config: Config,
    run_dir: pathlib.Path,
    experiment: str = "nhf_fit",
    verbose: int | str = 0,
    figure: bool = True,
) -> runs.Result:
    """Trains, or goes on where it was, and measures a density model.

    Leaves model.keras, metrics.json and figure9.png in the folder, beside
    what `training.fit` does.

    Args:
      config: Settings of the run.
      run_dir: Folder of the run. In a folder of the same run training goes on.
      experiment: Name of the experiment that the run belongs to.
      verbose: Verbosity of `model.fit`.
      figure: Whether to draw figure9.png.
    Returns: The result, as in metrics.json.
    Raises: ValueError: if the folder holds another run or other things.
    """
    runs.check_folder(config, run_dir)
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
    steps_per_epoch = config.num_steps // EPOCHS
    model.inner_steps = most_inner_steps(steps_per_epoch)
    # Only now: settings that make no model must not take the folder.
    run_dir.mkdir(parents=True, exist_ok=True)
    files.write_json(run_dir / "config.json", dataclasses.asdict(config))
    training.fit(
        model,
        lambda first: training_batches(config, model.inner_steps, first),
        run_dir,
        config.num_steps // model.inner_steps,
        steps_per_epoch // model.inner_steps,
        verbose=verbose,
    )
    runs.save_model(model, run_dir)
    rows = training.read_log(run_dir / "log.csv")
    result = runs.Result(
        experiment=experiment,
        model=config.model,
        dataset=config.density,
        seed=config.seed,
        budget="paper",
        metrics=measures.score_model(
            model,
            density,
            config.num_points,
            config.num_bound_points,
            config.num_samples,
        )
        | measures.score_training(model, rows, steps_per_epoch),
        config=runs.as_json(config),
        commit=runs.commit(),
        **runs.costs(rows),
    )
    result.write(run_dir / "metrics.json")
    if figure:
        figures.write_figure(model, density, run_dir / "figure9.png")
    return result


def training_batches(
    config: Config, inner_steps: int, first: int = 0
) -> tf.data.Dataset:
    """Endless fresh points of `inner_steps` steps at a time.

    The points depend on the seed and their number alone. So a resumed run sees
    the points that the uninterrupted run would have seen. Numpy draws them
    while the step before runs, at about 0.02 ms per step.

    Args:
      config: Settings of the run.
      inner_steps: Number of steps whose points lie one after another.
      first: Number of elements to leave out.
    Returns: Dataset of float32 [inner_steps * batch_size, dim].
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

    Raises: ValueError: if the folder is no run's, the run not at its end, or
      the model's file not whole.
    """
    return runs.read_config(run_dir, Config), runs.load_model(run_dir)
