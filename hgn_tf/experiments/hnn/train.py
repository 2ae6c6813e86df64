"""One model on one task of the HNN table."""

import dataclasses
import pathlib
import time

import keras
import numpy as np
import tensorflow as tf

from hgn_tf import files
from hgn_tf.experiments import runs
from hgn_tf.experiments.hnn.config import (
    EPOCHS,
    Config,
    dataset_of,
    inner_steps,
    make_model,
)
from hgn_tf.experiments.hnn.measures import score_long, score_model
from hgn_tf.experiments.hnn.truth import Truth, make_paths
from hgn_tf.models.hnn import StateField
from hgn_tf.models.pixel_hnn import PixelHNN
from hgn_tf.training import peak_memory_mb

# The loss of Adam at a constant rate jumps from step to step, so measures are
# medians over the weights after each of the last epochs.
_TAIL = 5


def train_and_score(
    config: Config, truth: Truth, run_dir: pathlib.Path
) -> runs.Result:
    """Trains and measures a model; leaves it in `run_dir` with its settings.

    The losses of each epoch go to log.csv there.

    Args:
      config: Settings of the run.
      truth: Truth of the task, to measure against.
      run_dir: Folder of the run.
    Raises: BlockingIOError: if another process trains in the folder.
    """
    keras.utils.set_random_seed(config.seed)
    model = make_model(config, truth.rows["train"])
    tail = _Tail()
    wall, cpu = time.monotonic(), time.process_time()
    run_dir.mkdir(parents=True, exist_ok=True)
    with files.sole_user(run_dir):
        # A model of other settings must not stand beside these.
        (run_dir / "model.keras").unlink(missing_ok=True)
        files.write_json(run_dir / "config.json", dataclasses.asdict(config))
        model.fit(
            training_batches(config, truth.rows["train"]),
            epochs=EPOCHS,
            steps_per_epoch=config.num_steps // EPOCHS // model.inner_steps,
            shuffle=False,  # the batches come in an order of their own
            verbose=0,
            callbacks=[tail, keras.callbacks.CSVLogger(run_dir / "log.csv")],
        )
    wall, cpu = time.monotonic() - wall, time.process_time() - cpu
    scores = []
    for weights in tail.weights:
        model.set_weights(weights)
        scores.append(score_model(model, config.task, truth))
    runs.save_model(model, run_dir)
    medians = {
        name: float(np.median([score[name] for score in scores]))
        for name in scores[0]
    }
    return runs.Result(
        experiment="hnn_table",
        model=config.model,
        dataset=dataset_of(config.task),
        seed=config.seed,
        budget="paper",
        metrics=medians | score_long(model, config.task, truth),
        config=runs.as_json(config),
        commit=runs.commit(),
        wall_seconds=wall,
        cpu_seconds=cpu,
        peak_memory_mb=peak_memory_mb(),
    )


def is_run(run_dir: pathlib.Path) -> bool:
    """Whether a folder is that of a run of this table."""
    try:
        settings = files.read_json(run_dir / "config.json")
    except (OSError, ValueError):
        return False
    return "task" in settings


def load(run_dir: pathlib.Path) -> tuple[Config, StateField | PixelHNN]:
    """The settings and the trained model of a run's folder.

    Raises: ValueError: if the folder is not a run, it is not trained yet, or
      its model's file is not whole.
    """
    config = runs.read_config(run_dir, Config)
    return config, runs.load_model(run_dir, "hgn-tf table hnn")


def training_batches(
    config: Config, rows: dict[str, np.ndarray]
) -> tf.data.Dataset:
    """Batches (x, dx_dt), or (x0, path) if the config has a window.

    Each holds the batches of `inner_steps` steps, one after another. They are
    drawn with replacement from the seed and their number alone. Paper: a new
    permutation per step; here that costs more than the step.
    """
    if config.window:
        x, y = make_paths(rows, config.window)
    else:
        x, y = rows["x"], rows["dx_dt"]
    count = inner_steps(config)
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
        if epoch >= EPOCHS - _TAIL:
            self.weights.append(self.model.get_weights())
