"""One HGN on one dataset: what `hgn-tf train` and `hgn-tf evaluate` run."""

import dataclasses
import pathlib

import keras
import numpy as np

from hgn_tf import data, evaluation, losses, networks, training
from hgn_tf.experiments import run_folder
from hgn_tf.models.hgn import HGN
from hgn_tf.report import write_report


@dataclasses.dataclass(frozen=True)
class Config:
    """A run. Defaults are the paper's (Toth et al., 2019) unless said.

    Attributes:
      dataset: Name of a dataset and config.
      budget: Name in BUDGETS that the settings came from.
      seed: Of weights, order of the data and noise.
      form: "paper" for convolutional networks (A.1), "flat" for MLPs.
      latent_size: Channels of q and of p (A.1: 16), or their length if flat;
        0 for the system's degrees of freedom.
      state_net: Whether there is an f_psi.
      integrator: Name of the integrator.
      sample: Whether z is sampled.
      num_inference_frames: Frames the state is inferred from (A.1: all).
      num_decoded_frames: Frames decoded a step; 0 for all (A.1).
      curriculum_steps: Steps until all frames are decoded; not in the paper.
      initial_horizon: First frames that are decoded.
      tolerance: GECO's mean squared error a pixel, above the noise floor of
        the data. Not in the paper; DeepMind's later configuration: 0.001 in
        all, on other pictures.
      geco_limit: Highest multiplier of GECO.
      num_steps: Optimiser steps; DeepMind's later configuration: 500,000.
      steps_per_epoch: Steps between checkpoints.
      batch_size: Videos a step; DeepMind's later configuration: 128.
      learning_rate: Adam's, after `warmup_steps` (A.1: 1.5e-4).
      warmup_steps: Steps of a linear warm-up; not in the paper.
      final_learning_rate: Fraction left at the end of a cosine decay; 1 for a
        constant rate, as in the paper.
    """

    dataset: str
    budget: str
    seed: int = 0
    form: str = "paper"
    latent_size: int = 16
    state_net: bool = True
    integrator: str = "leapfrog"
    sample: bool = True
    num_inference_frames: int = 30
    num_decoded_frames: int = 0
    curriculum_steps: int = 0
    initial_horizon: int = 5
    tolerance: float = 1e-4
    geco_limit: float = 100.0
    num_steps: int = 500_000
    steps_per_epoch: int = 500
    batch_size: int = 128
    learning_rate: float = 1.5e-4
    warmup_steps: int = 0
    final_learning_rate: float = 1.0


# What a budget changes. Times are on two CPU cores, see results/.
_CPU = {
    "form": "flat",
    "latent_size": 0,
    "num_decoded_frames": 8,
    "curriculum_steps": 1500,
    "tolerance": 2.5e-4,
    "geco_limit": 1.0,
    "steps_per_epoch": 250,
    "batch_size": 32,
    "learning_rate": 2e-3,
    "warmup_steps": 50,
    "final_learning_rate": 0.02,
}
BUDGETS = {
    "demo": {**_CPU, "num_inference_frames": 5, "num_steps": 5000},
    "cpu": {**_CPU, "num_steps": 8000},
    "paper": {},
}


def make_config(dataset: str, budget: str, **changes) -> Config:
    """The Config of a budget, with some settings changed.

    Raises: ValueError: if the budget or a setting is unknown.
    """
    if budget not in BUDGETS:
        raise ValueError(
            f"`budget` must be one of {list(BUDGETS)}. Received: {budget!r}."
        )
    names = [field.name for field in dataclasses.fields(Config)]
    unknown = sorted(set(changes) - set(names))
    if unknown:
        raise ValueError(
            f"A setting must be one of {names}. Received: {unknown}."
        )
    return Config(dataset, budget, **{**BUDGETS[budget], **changes})


def make_model(config: Config, builder) -> HGN:
    """The compiled and built model of a run.

    Raises: ValueError: if the tolerance is one that a constant image meets.
    """
    recipe = builder.recipe
    form = {"paper": networks.paper_networks, "flat": networks.flat_networks}
    if config.form not in form:
        raise ValueError(
            f"`form` must be one of {list(form)}. Received: {config.form!r}."
        )
    name = "latent_channels" if config.form == "paper" else "latent_size"
    size = config.latent_size or recipe.system.dof
    parts = form[config.form](recipe.image_size, **{name: size})
    if not config.state_net:
        parts["state_net"] = None
    model = HGN(
        **parts,
        num_inference_frames=config.num_inference_frames,
        num_decoded_frames=config.num_decoded_frames or None,
        curriculum_steps=config.curriculum_steps,
        initial_horizon=config.initial_horizon,
        integrator=config.integrator,
        dt=recipe.dt,
        sample=config.sample,
        geco=losses.Geco(
            geco_tolerance(builder, config.tolerance),
            limits=(0.01, config.geco_limit),
        ),
        seed=config.seed,
    )
    model.compile(keras.optimizers.Adam(_learning_rate(config)))
    size = recipe.image_size
    model.build((None, recipe.num_frames, size, size, 3))
    return model


def _learning_rate(config):
    """A linear warm-up, then a cosine down to a fraction of the rate."""
    if not 0 <= config.warmup_steps < config.num_steps:
        raise ValueError(
            "`warmup_steps` must be at least 0 and below `num_steps`. "
            f"Received: {config.warmup_steps} and {config.num_steps}."
        )
    warm = config.warmup_steps > 0
    return keras.optimizers.schedules.CosineDecay(
        0.0 if warm else config.learning_rate,
        config.num_steps - config.warmup_steps,
        alpha=config.final_learning_rate,
        warmup_target=config.learning_rate if warm else None,
        warmup_steps=config.warmup_steps,
    )


def geco_tolerance(builder, above_floor: float) -> float:
    """GECO's tolerance for a dataset: its noise floor and a margin.

    Raises: ValueError: if the mean image meets it, for then a model that
      draws nothing but that image satisfies the constraint.
    """
    some = data.load_split(builder, "train", 200)
    video = some.video / np.float32(255.0)
    mean_image = float(np.square(video - video.mean(axis=(0, 1))).mean())
    floor = 0.0
    if builder.recipe.noise:
        floor = float(data.expected_frames(builder, some, 16)[1].mean())
    if not 0 < above_floor < mean_image - floor:
        raise ValueError(
            "`tolerance` must be above 0 and below "
            f"{mean_image - floor:.2e}, or the mean image meets the "
            f"constraint (its error is {mean_image:.2e}, the noise floor "
            f"{floor:.2e}). Received: {above_floor:.2e}."
        )
    return floor + above_floor


def train(
    config: Config,
    run_dir: pathlib.Path,
    data_dir: str | None = None,
    num_workers: int = 1,
    verbose: int | str = "auto",
) -> HGN:
    """Makes the dataset if needed, then trains, or goes on where it was.

    Args:
      config: The run.
      run_dir: Its folder; a folder of the same run is gone on with.
      data_dir: TFDS's folder; None for its default.
      num_workers: Processes that generate the dataset.
      verbose: As in `model.fit`.
    Returns: the trained model, which is also in `model.keras`.
    Raises: ValueError: if the folder holds another run or other things.
    """
    builder = data.get_builder(config.dataset, data_dir, num_workers)
    run_folder.check_folder(config, run_dir)
    builder.download_and_prepare()
    keras.utils.set_random_seed(config.seed)
    model = make_model(config, builder)
    # Only now: settings that make no model must not take the folder.
    run_dir.mkdir(parents=True, exist_ok=True)
    run_folder.write_json(run_dir / "config.json", dataclasses.asdict(config))
    held_out = (
        data.load_split(builder, "validation", 64).video
        if "validation" in builder.info.splits
        else None
    )
    training.fit(
        model,
        lambda first_step: data.training_batches(
            builder, config.batch_size, config.seed, first_step
        ),
        run_dir,
        config.num_steps,
        min(config.steps_per_epoch, config.num_steps),
        verbose=verbose,
        validation_data=held_out,
    )
    run_folder.save_model(model, run_dir)
    return model


def evaluate(
    run_dir: pathlib.Path,
    data_dir: str | None = None,
    num_examples: int | None = None,
) -> dict:
    """Scores a trained run; writes metrics.json, evaluation.npz, report.html.

    Args:
      run_dir: Folder of the run.
      data_dir: TFDS's folder; None for its default.
      num_examples: Of the split test; None for all.
    Returns: what is in metrics.json.
    Raises: ValueError: if the folder holds no trained run.
    """
    config, model = load(run_dir)
    builder = data.get_builder(config.dataset, data_dir)
    builder.download_and_prepare()
    metrics, arrays = evaluation.evaluate(model, builder, num_examples)
    rows = training.read_log(run_dir / "log.csv")
    result = {
        "experiment": "train_hgn",
        "model": f"hgn_{config.integrator}",
        "dataset": config.dataset,
        "seed": config.seed,
        "budget": config.budget,
        "metrics": metrics,
        "config": dataclasses.asdict(config),
        "commit": run_folder.commit(),
        "wall_seconds": sum(float(row["wall_seconds"]) for row in rows),
        "cpu_seconds": sum(float(row["cpu_seconds"]) for row in rows),
        "peak_memory_mb": max(float(row["peak_memory_mb"]) for row in rows),
    }
    run_folder.write_arrays(run_dir / "evaluation.npz", arrays)
    run_folder.write_json(run_dir / "metrics.json", result)
    write_report(run_dir)
    return result


def load(run_dir: pathlib.Path) -> tuple[Config, HGN]:
    """The settings and the trained model of a run's folder.

    Raises: ValueError: if the folder is not a run, or it is not trained yet.
    """
    config = read_config(run_dir)
    path = run_dir / "model.keras"
    if not path.exists():
        raise ValueError(
            f"A run must be trained to its end first. Received: {run_dir}, "
            f"without {path.name}; go on with `hgn-tf train {config.dataset} "
            f"--budget {config.budget} --out {run_dir}`."
        )
    try:
        return config, keras.saving.load_model(path)
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise ValueError(
            f"A model file must be whole. Received: {path}, which cannot be "
            f"read ({error}). Remove it and train again: the checkpoints are "
            "kept, so that takes no time."
        ) from error


def read_config(run_dir: pathlib.Path) -> Config:
    """The settings in a run's folder.

    Raises: ValueError: if the folder is not a run's.
    """
    return run_folder.read_config(run_dir, Config)
