"""What a run of the HNN table is: its task, settings and compiled model."""

import dataclasses
import math
from typing import Any

import keras
import numpy as np

from hgn_tf import networks, optimizers
from hgn_tf.experiments import runs
from hgn_tf.models.hnn import HNN, DerivativeNet, StateField
from hgn_tf.models.pixel_hnn import PixelHNN
from hgn_tf.models.steps import most_inner_steps

PIXELS = "pixel_pendulum"
# The tasks whose states are inferred: x as published, and another x.
PIXEL_TASKS = (PIXELS, "pixel_pendulum_change")

MODELS = ("baseline", "hnn", "hnn_rollout")
EPOCHS = 25
_LATENT_SIZE = 2


@dataclasses.dataclass(frozen=True)
class Task:
    """How a task is trained and measured, as published unless said.

    Attributes:
      num_steps: Steps of Adam at 1e-3.
      batch_size: Rows per step; 0 for all.
      weight_decay: Factor of the L2 decay coupled into the gradient.
      horizon: Seconds of a trial.
      num_points: Points of a trial.
      rtol: Relative tolerance of RK45.
      stretch: Factor on the horizon from each trial to the next in the
        published energy figure, where it grows by an oversight.
      inner_steps: Largest number of steps in one compiled call, whose batches
        are gathered at once.
      window: Steps of the paths that `hnn_rollout` is trained on; 0 where
        that model has no row. Not in the paper.
      dataset: Name of the dataset, if it is not hnn_<task>.
      field_decay: Whether the decay is on the weights of the field as well, as
        published. Around an autoencoder it may hold H down.
      optimizer: Key of _OPTIMIZERS. The published code has PyTorch's Adam,
        which is that of its paper and not Keras's.
    """

    num_steps: int
    batch_size: int
    weight_decay: float
    horizon: float
    num_points: int
    rtol: float
    stretch: float = 1.0
    inner_steps: int = 100
    window: int = 0
    dataset: str = ""
    field_decay: bool = True
    optimizer: str = "paper_adam"


_OPTIMIZERS = {
    "adam": keras.optimizers.Adam,
    "paper_adam": optimizers.PaperAdam,
}
_ON_PIXELS = Task(10_000, 200, 1e-5, 4.95, 100, 1e-9, inner_steps=10)
TASKS = {
    "mass_spring": Task(2000, 0, 1e-4, 20.0, 100, 1e-10, 1.09, window=20),
    "pendulum": Task(2000, 0, 1e-4, 20.0, 100, 1e-10, window=20),
    "real_pendulum": Task(2000, 0, 1e-5, math.nan, 110, 1e-10),
    "two_body": Task(10_000, 200, 0.0, 25.0, 500, 1e-9),
    "three_body": Task(10_000, 600, 1e-4, 3.0, 500, 1e-9),
    PIXELS: _ON_PIXELS,
    "pixel_pendulum_change": dataclasses.replace(
        _ON_PIXELS,
        dataset="hnn_pixel_pendulum/change",
        field_decay=False,
        optimizer="adam",
    ),
}


# Two narrower networks, and batches of short paths whose starts are fitted.
_ROLLOUT: dict[str, Any] = {
    "batch_size": 64,
    "units": (64, 64),
    "learning_rate": 2e-3,
    "final_rate": 0.0,
    "substeps": 2,
    "start_iterations": 2,
    "weight_decay": 0.0,
}


@dataclasses.dataclass(frozen=True)
class Config:
    """A run. Defaults of `hnn_rollout` are of this project, others published.

    Attributes:
      task: Key of TASKS.
      model: Name in MODELS.
      seed: Seed of weights and of the order of the rows; the data stay the
        same.
      num_steps: Optimiser steps, a multiple of 25.
      batch_size: Rows, or paths, per step; 0 for all.
      weight_decay: Factor of the L2 decay coupled into the gradient.
      units: Width of each hidden layer.
      learning_rate: Learning rate of Adam at the first step.
      final_rate: Learning rate at the last step as a fraction of the first, on
        half a cosine; 1 keeps it constant, as published.
      window: Steps of a training path; 0 matches derivatives.
      substeps: Leapfrog steps between two states of a path.
      start_iterations: Number of iterations that fit a start, see `HNN`.
      optimizer: "paper_adam", as published, or "adam", Keras's.
    """

    task: str
    model: str
    seed: int
    num_steps: int
    batch_size: int
    weight_decay: float
    units: tuple[int, ...] = (200, 200)
    learning_rate: float = 1e-3
    final_rate: float = 1.0
    window: int = 0
    substeps: int = 1
    start_iterations: int = 0
    optimizer: str = "adam"  # what results of before had


def make_config(task: str, model: str, seed: int, **changes) -> Config:
    """The Config of a row of the table, with some settings changed.

    Raises: ValueError: if the task or the model is unknown, or the task has
      no row of this model.
    """
    runs.check_names("task", [task], TASKS)
    if model not in models_of(task):
        raise ValueError(
            f"`model` on {task} must be one of {models_of(task)}. "
            f"Received: {model!r}."
        )
    settings = TASKS[task]
    row: dict[str, Any] = {
        "num_steps": settings.num_steps,
        "batch_size": settings.batch_size,
        "weight_decay": settings.weight_decay,
        "optimizer": settings.optimizer,
    }
    if model == "hnn_rollout":
        row |= {**_ROLLOUT, "window": settings.window}
    return Config(task, model, seed, **{**row, **changes})


def dataset_of(task: str) -> str:
    """The TFDS name of a task's dataset."""
    return TASKS[task].dataset or f"hnn_{task}"


def models_of(task: str) -> tuple[str, ...]:
    """The models that have a row on a task."""
    return MODELS if TASKS[task].window else MODELS[:2]


def make_model(
    config: Config, rows: dict[str, np.ndarray]
) -> StateField | PixelHNN:
    """The compiled model of a run on the rows of the split train."""
    on_pixels = config.task in PIXEL_TASKS
    field_decay = TASKS[config.task].field_decay
    decay = config.weight_decay if field_decay else 0.0
    if config.model == "baseline":
        model = DerivativeNet(config.units, weight_decay=decay)
    else:
        model = HNN(
            config.units,
            weight_decay=decay,
            separable=config.window > 0,
            dt=_spacing(rows),
            substeps=config.substeps,
            start_iterations=config.start_iterations,
        )
    if on_pixels:
        model = _make_pixel_hnn(
            model, rows["x"].shape[1], config.weight_decay, _spacing(rows)
        )
    rate = config.learning_rate
    if config.final_rate != 1.0:
        rate = keras.optimizers.schedules.CosineDecay(
            rate, config.num_steps, alpha=config.final_rate
        )
    # A pixel HNN has a loss of its own.
    loss = {} if on_pixels else {"loss": "mse"}
    model.compile(
        _OPTIMIZERS[config.optimizer](rate, epsilon=1e-8),
        **loss,
        jit_compile=not on_pixels,  # pays for the small networks
    )
    model.inner_steps = inner_steps(config)
    model.build((None, rows["x"].shape[1]))
    model.optimizer.build(model.trainable_variables)  # not within the loop
    return model


def _make_pixel_hnn(
    dynamics: StateField, observation_size: int, weight_decay: float, dt: float
) -> PixelHNN:
    """The published form around a field: autoencoder of width 200, latent 2.

    Its hidden layers are residual, which the authors' code has and the paper
    leaves out.

    Args:
      dynamics: The field of the latent state, with its own weight decay.
      observation_size: Numbers per row of the dataset.
      weight_decay: Factor of the L2 decay of the autoencoder.
      dt: Seconds between rows.
    """
    parts = networks.dense_pair_networks(
        (observation_size,), _LATENT_SIZE, residual=True
    )
    return PixelHNN(
        **parts, dynamics=dynamics, dt=dt, weight_decay=weight_decay
    )


def inner_steps(config: Config) -> int:
    """Steps per compiled call: what divides an epoch, within the limit."""
    return most_inner_steps(
        config.num_steps // EPOCHS, TASKS[config.task].inner_steps
    )


def _spacing(rows):
    """Seconds between the rows of a trajectory."""
    return float(rows["time"][1] - rows["time"][0])
