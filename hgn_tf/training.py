"""Model.fit in a run folder: checkpoints, exact resume, logs, clear stops."""

import contextlib
import csv
import io
import pathlib
import re
import shutil
import sys
import time
import zipfile
from collections.abc import Callable, Mapping

import keras
import tensorflow as tf

from hgn_tf import files, replicas

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

CHECKPOINT_SUFFIX = ".keras"
# Those of earlier versions are read too: weights alone, without checksums.
_CHECKPOINT = re.compile(r"\d+\.(keras|weights\.h5)")
_WEIGHTS = "model.weights.h5"  # what Keras calls them in its archive
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
    notes: Mapping[str, str] | None = None,
    **kwargs,
) -> None:
    """`model.fit` up to `num_steps`, from wherever the run folder stands.

    A checkpoint is the model as `model.save` writes it, with the optimiser and
    all counters, in one file with checksums that is written whole and renamed.
    With batches that depend on the step alone, a run that was killed at any
    moment and started again ends at the weights of the uninterrupted run, on
    the same machine.

    A model of a `tf.distribute.MultiWorkerMirroredStrategy` is trained by all
    workers, each of which calls this. The chief alone has the folder, and
    tells the others where it stands. Callbacks and validation are those of all
    workers: give a callback that looks at the model or writes files to the
    chief alone.

    Args:
      model: Model, compiled and built, that Keras can save.
      batches: Callable first_step -> endless dataset from that step on.
      run_dir: Folder for checkpoints, `log.csv` and TensorBoard's logs. Of
        several workers the chief's.
      num_steps: Total number of steps, a multiple of `steps_per_epoch`.
      steps_per_epoch: Steps between two checkpoints.
      callbacks: Further Keras callbacks.
      max_dropped_steps: Largest number of steps with non-finite gradients,
        of a model that drops them and counts: all but the HNN of this package.
      verbose: Verbosity of `model.fit`.
      notes: Columns of `log.csv` with the same text in every row: what the
        machine decided, for one.
      **kwargs: Further arguments of `model.fit`, such as `validation_data`.
    Raises:
      ValueError: if `num_steps` is not a positive multiple of
        `steps_per_epoch`, Keras cannot save the model, or a checkpoint or
        the log cannot be read.
      BlockingIOError: if another process trains in the folder.
      ArithmeticError: if more than `max_dropped_steps` steps were dropped.
      ConnectionError: if another worker is gone.
    """
    if steps_per_epoch < 1 or num_steps < 1 or num_steps % steps_per_epoch:
        raise ValueError(
            "`num_steps` must be a positive multiple of `steps_per_epoch`. "
            f"Received: {num_steps} and {steps_per_epoch}."
        )
    _check_saveable(model)
    strategy = model.distribute_strategy
    with contextlib.ExitStack() as stack:
        stack.enter_context(replicas.heeding_workers(strategy))
        if replicas.is_chief(strategy):
            run_dir.mkdir(parents=True, exist_ok=True)
            stack.enter_context(files.sole_user(run_dir))
        # The optimiser's slots must exist before weights are loaded into them.
        if not model.optimizer.built:
            with strategy.scope():
                model.optimizer.build(model.trainable_variables)
        epoch, writers = 0, []
        if replicas.is_chief(strategy):
            epoch = restore(model, run_dir)
            writers = [
                Cost(),
                Log(run_dir / "log.csv", notes),
                *_tensorboard(run_dir),
                Checkpoint(run_dir),
            ]
        if replicas.is_multi_worker(strategy):
            variables = [*model.weights, *model.optimizer.variables]
            epoch = replicas.follow_chief(strategy, variables, epoch)
        guards = (
            [DroppedSteps(max_dropped_steps)]
            if hasattr(model, "dropped_steps")
            else []
        )
        data = batches(epoch * steps_per_epoch)
        if replicas.is_multi_worker(strategy):
            # Else the workers ask each other before each step.
            data = data.apply(
                tf.data.experimental.assert_cardinality(
                    tf.data.INFINITE_CARDINALITY
                )
            )
        model.fit(
            data,
            epochs=num_steps // steps_per_epoch,
            initial_epoch=epoch,
            steps_per_epoch=steps_per_epoch,
            verbose=verbose if replicas.is_chief(strategy) else 0,
            callbacks=[*guards, *callbacks, *writers],
            **kwargs,
        )


def _check_saveable(model):
    """Before the first epoch is trained, not after it."""
    try:
        keras.saving.serialize_keras_object(model)
    except Exception as error:  # of an own part
        why = " ".join(str(error).split())
        raise ValueError(
            "The model must be one that Keras can save, for its checkpoints: "
            "own parts need a `get_config`. Received: "
            f"{type(error).__name__}: {why}"
        ) from error


def checkpoints(run_dir: pathlib.Path) -> list[pathlib.Path]:
    """The run's checkpoints, oldest first; none that is still being written."""
    folder = run_dir / "checkpoints"
    paths = folder.iterdir() if folder.is_dir() else ()
    return sorted(
        (path for path in paths if _CHECKPOINT.fullmatch(path.name)),
        key=_epoch,
    )


def restore(model: keras.Model, run_dir: pathlib.Path) -> int:
    """Loads the newest checkpoint, if there is one.

    Returns: Number of epochs trained up to the checkpoint; 0 without one.
    Raises: ValueError: if it cannot be read, naming the file and the remedy.
    """
    paths = checkpoints(run_dir)
    if not paths:
        return 0
    try:
        _load_weights(model, paths[-1])
    except Exception as error:  # whatever altered bytes lead to
        older = "the one before it" if len(paths) > 1 else "the start"
        raise files.not_whole(
            paths[-1],
            error,
            f"Remove it to go on from {older}.",
            "A checkpoint must be whole and of this model",
        ) from error
    return _epoch(paths[-1])


def _load_weights(model, path):
    if path.suffix != CHECKPOINT_SUFFIX:
        model.load_weights(path)
        return
    # Keras reads pieces of the archive, and so compares no checksum. Not in
    # the system's folder of temporary files: what a kill leaves stays there.
    with (
        zipfile.ZipFile(path) as archive,
        archive.open(_WEIGHTS) as stored,
        files.beside(path.with_name(_WEIGHTS)) as weights,
    ):
        with weights.open("wb") as file:
            shutil.copyfileobj(stored, file)
        model.load_weights(weights)


def _epoch(checkpoint):
    return int(checkpoint.name.partition(".")[0])


class Checkpoint(keras.callbacks.Callback):
    """Saves model and optimiser at the end of each epoch, in one file.

    Keras's BackupAndRestore keeps the weights and the epoch in two files: a
    kill between the two writes would resume at the wrong step. Weights alone,
    as `save_weights` writes them, have no checksum, and on a full disk HDF5
    takes the process down; an archive is put together in memory.
    """

    def __init__(self, run_dir: pathlib.Path):
        super().__init__()
        self._folder = run_dir / "checkpoints"

    def on_epoch_end(self, epoch, logs=None):
        self._folder.mkdir(exist_ok=True)
        path = self._folder / f"{epoch + 1:06d}{CHECKPOINT_SUFFIX}"
        with files.replacing(path) as partial:
            self.model.save(partial)
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


class Log(keras.callbacks.Callback):
    """Writes log.csv anew after each epoch: a row per epoch, by name of column.

    Keras's CSVLogger appends. What a kill left of a row would stay there, and
    columns of another version would stand under the wrong titles.
    """

    def __init__(
        self, path: pathlib.Path, notes: Mapping[str, str] | None = None
    ):
        super().__init__()
        self._path = path
        self._notes = dict(notes or {})
        self._rows = _rows(path) if path.exists() else []

    def on_epoch_end(self, epoch, logs=None):
        # Rows of epochs that the checkpoint does not hold are made again.
        self._rows = [
            row
            for row in self._rows
            if (row["epoch"] or "").isdigit() and int(row["epoch"]) < epoch
        ]
        row = {**dict(sorted((logs or {}).items())), **self._notes}
        self._rows.append({"epoch": str(epoch), **row})
        names = dict.fromkeys(name for row in self._rows for name in row)
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, names)
        writer.writeheader()
        writer.writerows(self._rows)
        files.write_whole(self._path, text.getvalue().encode("utf-8"))


class Cost(keras.callbacks.Callback):
    """Adds the cost to the logs, so that a resumed run can add it up.

    The columns are wall_seconds and cpu_seconds of the epoch, and
    peak_memory_mb of the process.
    """

    def on_epoch_begin(self, epoch, logs=None):
        # Not the machine's clock, which may be set back.
        self._wall, self._cpu = time.monotonic(), time.process_time()

    def on_epoch_end(self, epoch, logs=None):
        logs["wall_seconds"] = time.monotonic() - self._wall
        logs["cpu_seconds"] = time.process_time() - self._cpu
        logs["peak_memory_mb"] = peak_memory_mb()


def peak_memory_mb() -> float:
    """Largest resident memory of this process so far."""
    if resource is None:
        import psutil  # of TFDS

        return psutil.Process().memory_info().peak_wset / 2**20
    unit = 1 if sys.platform == "darwin" else 2**10  # bytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def read_log(path: pathlib.Path) -> list[dict[str, str]]:
    """The rows of a log.csv.

    Raises: ValueError: if it has none, or cannot be read.
    """
    rows = _rows(path)
    if not rows:
        raise ValueError(
            "A log must have a row per epoch. Received: "
            f"{path}, which has none; train again, in another folder."
        )
    return rows


def _rows(path):
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        if any("epoch" not in row for row in rows):
            raise ValueError("no column of epochs")
    except (ValueError, csv.Error) as error:  # of UTF-8 too
        raise files.not_whole(
            path, error, "Remove it, and only its rows are lost."
        ) from error
    # What stands behind the last title has no name.
    return [{k: v for k, v in row.items() if k is not None} for row in rows]


def _tensorboard(run_dir):
    try:
        import tensorboard  # noqa: F401  # tf.summary raises without it
    except ImportError:
        return []
    return [keras.callbacks.TensorBoard(run_dir / "tensorboard")]
