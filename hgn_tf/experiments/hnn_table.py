"""The table of Hamiltonian Neural Networks: every task, model and seed.

A finished run leaves its JSON and is not done again; so a table that was
stopped goes on with the run that it was at.
"""

import dataclasses
import json
import pathlib
import time
from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf

from hgn_tf.experiments import hnn_pixels, hnn_tasks, run_folder
from hgn_tf.experiments.hnn_measures import measure, measure_long
from hgn_tf.experiments.hnn_tasks import TASKS, Truth
from hgn_tf.models.hnn import HNN, DerivativeNet
from hgn_tf.models.inner_steps import most_inner_steps
from hgn_tf.models.pixel_hnn import PixelHNN
from hgn_tf.models.state_field import StateField
from hgn_tf.training import peak_memory_mb

MODELS = ("baseline", "hnn", "hnn_rollout")
_EPOCHS = 25
# The loss of Adam at a constant rate jumps from step to step, so measures are
# medians over the weights after each of the last epochs.
_TAIL = 5
# Two narrower networks, and batches of short paths whose starts are fitted.
_ROLLOUT = {
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
      task: A key of hnn_tasks.TASKS.
      model: A name in MODELS.
      seed: Of weights and of the order of the rows; the data stay the same.
      num_steps: Optimiser steps, a multiple of 25.
      batch_size: Rows, or paths, a step; 0 for all.
      weight_decay: L2 coupled into the gradient.
      units: Width of each hidden layer.
      learning_rate: Adam's, at the first step.
      final_rate: At the last, as a fraction of that, on half a cosine; 1
        keeps it constant, as published.
      window: Steps of a training path; 0 matches derivatives.
      substeps: Leapfrog steps between two states of a path.
      start_iterations: See `HNN`.
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


def make_config(task: str, model: str, seed: int, **changes) -> Config:
    """The Config of a row of the table, with some settings changed.

    Raises: ValueError: if the task or the model is unknown, or the task has
      no row of this model.
    """
    hnn_tasks.check_tasks([task])
    if model not in models_of(task):
        raise ValueError(
            f"`model` on {task} must be one of {models_of(task)}. "
            f"Received: {model!r}."
        )
    settings = TASKS[task]
    row = {
        "num_steps": settings.num_steps,
        "batch_size": settings.batch_size,
        "weight_decay": settings.weight_decay,
    }
    if model == "hnn_rollout":
        row |= {**_ROLLOUT, "window": settings.window}
    return Config(task, model, seed, **{**row, **changes})


def models_of(task: str) -> tuple[str, ...]:
    """The models that have a row on a task."""
    return MODELS if TASKS[task].window else MODELS[:2]


def make_model(config: Config, truth: Truth) -> StateField | PixelHNN:
    """The compiled model of a run."""
    rows = truth.rows["train"]
    on_pixels = config.task == hnn_tasks.PIXELS
    decay = 0.0 if on_pixels else config.weight_decay
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
        model = hnn_pixels.make_model(
            model, rows["x"].shape[1], config.weight_decay, _spacing(rows)
        )
    rate = config.learning_rate
    if config.final_rate != 1.0:
        rate = keras.optimizers.schedules.CosineDecay(
            rate, config.num_steps, alpha=config.final_rate
        )
    model.compile(
        keras.optimizers.Adam(rate, epsilon=1e-8),
        loss="mse",
        jit_compile=model.supports_jit,  # pays for the small networks
    )
    model.inner_steps = _inner_steps(config)
    model.build((None, rows["x"].shape[1]))
    model.optimizer.build(model.trainable_variables)  # not within the loop
    return model


def run(
    tasks: list[str] | None = None,
    num_seeds: int = 3,
    models: list[str] | None = None,
    results_dir: pathlib.Path = pathlib.Path("results/hnn_table"),
    runs_dir: pathlib.Path = pathlib.Path("runs/hnn_table"),
    data_dir: str | None = None,
) -> Iterator[dict]:
    """Yields the result of each run of the table, done now or before.

    Args:
      tasks: Keys of TASKS; None for all.
      num_seeds: Seeds 0 .. num_seeds - 1.
      models: Names in MODELS; None for all that a task has.
      results_dir: One JSON a run.
      runs_dir: One folder a run, with its model.keras.
      data_dir: TFDS's folder; None for its default.
    Raises: ValueError: for an unknown task or model, or no seed.
    """
    tasks = list(TASKS) if tasks is None else list(tasks)
    hnn_tasks.check_tasks(tasks)
    unknown = sorted(set(models or ()) - set(MODELS))
    if unknown or num_seeds < 1:
        raise ValueError(
            f"A model must be one of {list(MODELS)}, and there must be a "
            f"seed. Received: {unknown} and {num_seeds} seeds."
        )
    truths = {}
    wanted = [
        make_config(task, model, seed)
        for seed in range(num_seeds)  # a whole table first, then its spread
        for task in tasks
        for model in models_of(task)
        if model in (models or MODELS)
    ]
    for config in wanted:
        name = f"{config.task}-{config.model}-{config.seed}"
        path = results_dir / f"{name}.json"
        result = run_folder.read_result(path, config)
        if result is None:
            if config.task not in truths:
                truths[config.task] = hnn_tasks.load_truth(
                    config.task, data_dir
                )
            result = run_one(config, truths[config.task], runs_dir / name)
            results_dir.mkdir(parents=True, exist_ok=True)
            run_folder.write_json(path, result)
        yield result


def run_one(config: Config, truth: Truth, run_dir: pathlib.Path) -> dict:
    """Trains and measures one model; leaves it in `run_dir`.

    Returns: what goes into the run's JSON.
    """
    keras.utils.set_random_seed(config.seed)
    model = make_model(config, truth)
    tail = _Tail()
    wall, cpu = time.time(), time.process_time()
    model.fit(
        training_batches(config, truth.rows["train"]),
        epochs=_EPOCHS,
        steps_per_epoch=config.num_steps // _EPOCHS // model.inner_steps,
        verbose=0,
        callbacks=[tail],
    )
    wall, cpu = time.time() - wall, time.process_time() - cpu
    measured = []
    for weights in tail.weights:
        model.set_weights(weights)
        measured.append(measure(model, config.task, truth))
    run_dir.mkdir(parents=True, exist_ok=True)
    run_folder.save_model(model, run_dir)
    return {
        "experiment": "hnn_table",
        "model": config.model,
        "dataset": f"hnn_{config.task}",
        "seed": config.seed,
        "budget": "paper",
        "metrics": {
            name: float(np.median([each[name] for each in measured]))
            for name in measured[0]
        }
        | measure_long(model, config.task, truth),
        "config": _as_json(config),
        "commit": run_folder.commit(),
        "wall_seconds": wall,
        "cpu_seconds": cpu,
        "peak_memory_mb": peak_memory_mb(),
    }


def training_batches(
    config: Config, rows: dict[str, np.ndarray]
) -> tf.data.Dataset:
    """Batches (x, dx_dt), or (x0, path) if the config has a window.

    Each holds those of `inner_steps` steps, one after another. They are drawn
    with replacement from the seed and their number alone. Paper: a new
    permutation a step; here that costs more than the step.
    """
    if config.window:
        x, y = hnn_tasks.make_paths(rows, config.window)
    else:
        x, y = rows["x"], rows["dx_dt"]
    count = _inner_steps(config)
    if not config.batch_size:
        x, y = (np.concatenate([part] * count) for part in (x, y))
        return tf.data.Dataset.from_tensors((x, y)).repeat()
    size = count * config.batch_size
    x, y = tf.constant(x), tf.constant(y)

    def batch(number):
        index = tf.random.stateless_uniform(
            [size], [config.seed, number], 0, len(x), tf.int32
        )
        return tf.gather(x, index), tf.gather(y, index)

    return tf.data.Dataset.counter().map(batch).prefetch(2)


class _Tail(keras.callbacks.Callback):
    """Keeps the weights after each of the last epochs."""

    def __init__(self):
        super().__init__()
        self.weights = []

    def on_epoch_end(self, epoch, logs=None):
        if epoch >= _EPOCHS - _TAIL:
            self.weights.append(self.model.get_weights())


def _inner_steps(config):
    """Steps a compiled call: what divides an epoch, within the limit."""
    return most_inner_steps(
        config.num_steps // _EPOCHS, TASKS[config.task].inner_steps
    )


def _spacing(rows):
    """Seconds between the rows of a trajectory."""
    return float(rows["time"][1] - rows["time"][0])


def _as_json(config):
    return json.loads(json.dumps(dataclasses.asdict(config)))
