"""Model.fit in a run folder: checkpoints, exact resume, logs, clear stops."""

import csv
import io
import pathlib
import resource
import time
from collections.abc import Callable

import keras
import tensorflow as tf

from hgn_tf import files

CHECKPOINT_SUFFIX = ".weights.h5"
_KEPT_CHECKPOINTS = 2


def fit(
    model: keras.Model,
    batches: Callable[[int], tf.data.Dataset],
    run_dir: pathlib.Path,
    num_steps: int,
    steps_per_epoch: int,
    callbacks: tuple[keras.callbacks.Callback, ...] = (),
    max_dropped_steps: int = 100,
    verbose: int | str = "auto",
    **kwargs,
) -> None:
    """`model.fit` up to `num_steps`, from wherever the run folder stands.

    A checkpoint holds the weights, the optimiser and all counters in one file
    that is written whole and renamed. With batches that depend on the step
    alone, a run that was killed at any moment and started again ends at the
    weights of the uninterrupted run, on the same machine.

    Args:
      model: Model, compiled and built.
      batches: Callable first_step -> endless dataset from that step on.
      run_dir: Folder for checkpoints, `log.csv` and TensorBoard's logs.
      num_steps: Total number of steps, a multiple of `steps_per_epoch`.
      steps_per_epoch: Steps between two checkpoints.
      callbacks: Further Keras callbacks.
      max_dropped_steps: Largest number of steps with non-finite gradients.
      verbose: Verbosity of `model.fit`.
      **kwargs: Further arguments of `model.fit`, such as `validation_data`.
    Raises:
      ValueError: if `num_steps` is not a positive multiple of
        `steps_per_epoch`, or a checkpoint cannot be read.
      ArithmeticError: if more than `max_dropped_steps` steps were dropped.
    """
    if steps_per_epoch < 1 or num_steps < 1 or num_steps % steps_per_epoch:
        raise ValueError(
            "`num_steps` must be a positive multiple of `steps_per_epoch`. "
            f"Received: {num_steps} and {steps_per_epoch}."
        )
    run_dir.mkdir(parents=True, exist_ok=True)
    # The optimiser's slots must exist before weights are loaded into them.
    model.optimizer.build(model.trainable_variables)
    epoch = restore(model, run_dir)
    log = run_dir / "log.csv"
    _trim_log(log, epoch)
    model.fit(
        batches(epoch * steps_per_epoch),
        epochs=num_steps // steps_per_epoch,
        initial_epoch=epoch,
        steps_per_epoch=steps_per_epoch,
        verbose=verbose,
        callbacks=[
            DroppedSteps(max_dropped_steps),
            *callbacks,
            Cost(),
            keras.callbacks.CSVLogger(log, append=True),
            *_tensorboard(run_dir),
            Checkpoint(run_dir),
        ],
        **kwargs,
    )


def checkpoints(run_dir: pathlib.Path) -> list[pathlib.Path]:
    """The run's checkpoints, oldest first; none that is still being written."""
    folder = run_dir / "checkpoints"
    return sorted(folder.glob(f"[0-9]*{CHECKPOINT_SUFFIX}"))


def restore(model: keras.Model, run_dir: pathlib.Path) -> int:
    """Loads the newest checkpoint, if there is one.

    Returns: Number of epochs trained up to the checkpoint; 0 without one.
    Raises: ValueError: if it cannot be read, naming the file and the remedy.
    """
    paths = checkpoints(run_dir)
    if not paths:
        return 0
    try:
        model.load_weights(paths[-1])
    except (OSError, KeyError, ValueError) as error:
        older = "the one before it" if len(paths) > 1 else "the start"
        raise ValueError(
            "A checkpoint must be whole and of this model. Received: "
            f"{paths[-1]}, which cannot be read ({error}). Remove it to go on "
            f"from {older}."
        ) from error
    return _epoch(paths[-1])


def _epoch(checkpoint):
    return int(checkpoint.name.removesuffix(CHECKPOINT_SUFFIX))


class Checkpoint(keras.callbacks.Callback):
    """Saves model and optimiser at the end of each epoch, in one file.

    Keras's BackupAndRestore keeps the weights and the epoch in two files: a
    kill between the two writes would resume at the wrong step.
    """

    def __init__(self, run_dir: pathlib.Path):
        super().__init__()
        self._folder = run_dir / "checkpoints"

    def on_epoch_end(self, epoch, logs=None):
        self._folder.mkdir(exist_ok=True)
        for path in self._folder.iterdir():
            if files.is_partial(path):
                path.unlink()
        path = self._folder / f"{epoch + 1:06d}{CHECKPOINT_SUFFIX}"
        with files.replacing(path) as partial:
            self.model.save_weights(partial)
        for old in checkpoints(self._folder.parent)[:-_KEPT_CHECKPOINTS]:
            old.unlink()


class DroppedSteps(keras.callbacks.Callback):
    """Stops a run after an epoch if too many steps were dropped so far."""

    def __init__(self, limit: int):
        super().__init__()
        self._limit = limit

    def on_epoch_end(self, epoch, logs=None):
        dropped, steps = (
            int(keras.ops.convert_to_numpy(count))
            for count in (self.model.dropped_steps, self.model.steps)
        )
        if dropped > self._limit:
            raise ArithmeticError(
                f"At most {self._limit} steps may have gradients that are not "
                f"finite. Received: {dropped} of {steps}; "
                "look for NaN frames, or lower the learning rate."
            )


class Cost(keras.callbacks.Callback):
    """Adds the cost to the logs, so that a resumed run can add it up.

    The columns are wall_seconds and cpu_seconds of the epoch, and
    peak_memory_mb of the process.
    """

    def on_epoch_begin(self, epoch, logs=None):
        self._wall, self._cpu = time.time(), time.process_time()

    def on_epoch_end(self, epoch, logs=None):
        logs["wall_seconds"] = time.time() - self._wall
        logs["cpu_seconds"] = time.process_time() - self._cpu
        logs["peak_memory_mb"] = peak_memory_mb()


def peak_memory_mb() -> float:
    """Largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def read_log(path: pathlib.Path) -> list[dict[str, str]]:
    """The rows of a log.csv."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _trim_log(path, epoch):
    """Drops rows of epochs that the checkpoint does not hold."""
    if not path.exists():
        return
    rows = [
        row
        for row in read_log(path)
        if (row["epoch"] or "").isdigit() and int(row["epoch"]) < epoch
    ]
    if not rows:
        path.unlink()
        return
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, rows[0])
    writer.writeheader()
    writer.writerows(rows)
    files.write_whole(path, text.getvalue().encode("utf-8"))


def _tensorboard(run_dir):
    try:
        import tensorboard  # noqa: F401  # tf.summary raises without it
    except ImportError:
        return []
    return [keras.callbacks.TensorBoard(run_dir / "tensorboard")]
