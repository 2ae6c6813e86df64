"""One model on one dataset: what `hgn-tf train` and `hgn-tf evaluate` run."""

import dataclasses
import pathlib
from collections.abc import Callable

import keras
import tensorflow as tf

from hgn_tf import (
    data,
    evaluation,
    files,
    presets,
    replicas,
    training,
    validation,
)
from hgn_tf.experiments import runs
from hgn_tf.experiments.hgn.config import (
    Config,
    check_config,
    make_model,
    train_command,
)
from hgn_tf.models.hgn import HGN
from hgn_tf.models.pixel_hnn import PixelHNN
from hgn_tf.viz.report import write_report

# Videos that a learned prior is fitted to.
_FITTED = 3000


def train(
    config: Config,
    run_dir: pathlib.Path,
    data_dir: str | None = None,
    beam_options: str | None = None,
    verbose: int | str = "auto",
    progress: Callable[[str], None] = lambda line: None,
    strategy: tf.distribute.Strategy | None = None,
) -> HGN | PixelHNN:
    """Makes the dataset if needed, then trains, or goes on where it was.

    Of several workers the chief alone has the folder, measures the law, learns
    the prior and saves the model. The others make the steps with it, and
    return when the training has ended.

    Args:
      config: Settings of the run.
      run_dir: Folder of the run. In a folder of the same run training goes on.
      data_dir: TFDS's folder; None for its default.
      beam_options: Options of Apache Beam, as of `data.prepare`; None for one
        process that makes the dataset.
      verbose: Verbosity of `model.fit`.
      progress: Callable that gets lines on what validation compares with, and
        on frames that stay the mean image.
      strategy: Strategy of the devices, see `replicas.make_strategy`; None for
        one device. It is no part of the run: a run may go on with another.
    Returns: The trained model, which is also in `model.keras`.
    Raises:
      ValueError: if the folder holds another run or other things, or the
        settings fit no model or not the dataset.
      BlockingIOError: if another process trains in the folder.
      ConnectionError: if another worker is gone.
    """
    strategy = strategy or tf.distribute.get_strategy()
    chief = replicas.is_chief(strategy)
    builder = data.get_builder(config.dataset, data_dir)
    if chief:
        runs.check_folder(config, run_dir)
    check_config(config, builder)
    replicas.check_batch(strategy, config.batch_size)
    data.prepare(builder, beam_options)
    with replicas.heeding_workers(strategy):
        replicas.check_alike(strategy, config)
        keras.utils.set_random_seed(config.seed)
        with strategy.scope():
            model = make_model(config, builder)
    dtype = _picture_dtype(model)
    if config.half_precision != "off":
        progress(f"encoder and decoder compute in {dtype}")
    if chief:
        # Only now: settings that make no model must not take the folder.
        run_dir.mkdir(parents=True, exist_ok=True)
        files.write_json(run_dir / "config.json", dataclasses.asdict(config))
    held_out = (
        data.load_split(builder, "validation", 64).video
        if "validation" in builder.info.splits
        else None
    )
    truth = None
    if "validation_long" in builder.info.splits:
        truth = validation.load_truth(builder)
    elif held_out is not None and not data.has_truth(builder):
        truth = validation.recorded_truth(held_out, model.num_inference_frames)
    watches = (
        _watches(model, builder, held_out, truth, progress) if chief else ()
    )
    with data.intact(builder):
        training.fit(
            model,
            lambda first_step: data.training_batches(
                builder,
                config.batch_size,
                config.seed,
                first_step,
                config.reversed_videos,
                config.num_frames or None,
            ),
            run_dir,
            config.num_steps,
            min(config.steps_per_epoch, config.num_steps),
            callbacks=watches,
            verbose=verbose,
            notes={"picture_dtype": dtype},
            validation_data=held_out,
        )
        if chief and isinstance(model, HGN):
            _learn_prior(model, builder, progress)
    if chief:
        runs.save_model(model, run_dir)
    return model


def _watches(model, builder, held_out, truth, progress):
    """Callbacks on how a training goes; a line on what they compare with."""
    drawn = held_out is not None and isinstance(model, HGN)
    if truth is None and not drawn:
        return ()
    image = data.mean_image(builder)
    watches = []
    if truth is not None:
        watches.append(validation.LawValidation(truth))
        yardsticks = validation.yardsticks(truth, image)
        progress(
            "val_ measures of the mean image: "
            + ", ".join(f"{name} {x:.1f}" for name, x in yardsticks.items())
        )
    if drawn:
        # Terms that a constant image satisfies.
        remedy = (
            "Higher `agreement_from` and `agreement_to` let frames be drawn "
            "first."
            if model.agreement or model.positions
            else ""
        )
        watches.append(validation.StuckWatch(held_out, image, progress, remedy))
    return tuple(watches)


def _learn_prior(model, builder, progress):
    """Fits the prior that `sample(prior="learned")` draws from."""
    videos = data.split_batches(builder, "train", _FITTED)
    try:
        model.fit_prior(videos)
    except ValueError as error:  # All states of a collapsed model are equal.
        progress(f"no learned prior: {error}")


def evaluate(
    run_dir: pathlib.Path,
    data_dir: str | None = None,
    num_examples: int | None = None,
    experiment: str = "train_hgn",
    model_name: str | None = None,
) -> runs.Result:
    """Scores a trained run; writes metrics.json, evaluation.npz, report.html.

    The scores of a part of the split are returned, and nothing is written:
    the files are of the whole split.

    Args:
      run_dir: Folder of the run.
      data_dir: TFDS's folder; None for its default.
      num_examples: Number of examples of the split test; None for all.
      experiment: Name of the experiment that the run belongs to.
      model_name: Name of the model in the result; None for a name made of the
        settings.
    Returns: The result, as in metrics.json.
    Raises: ValueError: if the folder holds no trained run.
    """
    config, model = load(run_dir)
    costs = runs.costs(training.read_log(run_dir / "log.csv"))
    builder = data.get_builder(config.dataset, data_dir)
    data.prepare(builder)
    metrics, arrays = evaluation.evaluate(model, builder, num_examples)
    result = runs.Result(
        experiment=experiment,
        model=model_name or _name(config),
        dataset=config.dataset,
        seed=config.seed,
        budget=config.budget,
        metrics=metrics,
        config=runs.as_json(config),
        commit=runs.commit(),
        picture_dtype=_picture_dtype(model),
        **costs,
    )
    if num_examples is not None:
        return result
    files.write_arrays(run_dir / "evaluation.npz", arrays)
    result.write(run_dir / "metrics.json")
    write_report(run_dir, train_command(config, run_dir))
    return result


def make_preset(
    run_dir: pathlib.Path,
    name: str,
    data_dir: str | None = None,
    num_examples: int | None = None,
    folder: pathlib.Path = presets.FOLDER,
) -> dict:
    """Writes a trained and evaluated HGN as a preset.

    Args:
      run_dir: Folder of the run.
      name: Name of the preset.
      data_dir: TFDS's folder; None for its default.
      num_examples: Number of examples of the split test; None for all.
      folder: Folder of the presets.
    Returns: The card: metrics.json of the run, with the measures of the
      rounded weights.
    Raises: ValueError: if the folder holds no HGN that is both, or the name
      is not that of a folder.
    """
    presets.check_name(name)
    config, model = load(run_dir)
    path = run_dir / "metrics.json"
    if config.model != "hgn" or not path.exists():
        raise ValueError(
            "A preset is made of an HGN that was evaluated. Received: "
            f"{run_dir}, a {config.model}, "
            f"{'with' if path.exists() else 'without'} {path.name}."
        )
    builder = data.get_builder(config.dataset, data_dir)
    data.prepare(builder)
    if model.prior is None:  # Of a run of version 0.1.
        _learn_prior(model, builder, lambda line: None)
    presets.round_weights(model)
    metrics, _ = evaluation.evaluate(model, builder, num_examples)
    result = dataclasses.replace(runs.read_result(path), metrics=metrics)
    card = dataclasses.asdict(result)
    presets.save(model, folder / name, card)
    return card


def load(run_dir: pathlib.Path) -> tuple[Config, HGN | PixelHNN]:
    """The settings and the trained model of a run's folder.

    Raises: ValueError: if the folder is not a run, it is not trained yet, or
      its model's file is not whole.
    """
    config = runs.read_config(run_dir, Config)
    return config, runs.load_model(run_dir, train_command(config, run_dir))


def _picture_dtype(model):
    """What `half_precision` became on the machine that trained."""
    return model.encoder.dtype_policy.name


def _name(config):
    return f"hgn_{config.integrator}" if config.model == "hgn" else config.model
