"""The files of a run's folder: written whole, and checked when read."""

import concurrent.futures
import dataclasses
import json
import multiprocessing
import os
import pathlib
import subprocess
from collections.abc import Callable

import keras
import numpy as np

from hgn_tf import files
from hgn_tf.files import write_whole


def read_config(run_dir: pathlib.Path, kind: type):
    """The settings that a run's folder was made with, a `kind` of Config.

    Raises: ValueError: if the folder is not a run's.
    """
    path = run_dir / "config.json"
    try:
        return kind(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, TypeError, ValueError) as error:
        raise ValueError(
            "A run's folder must have the config.json that `hgn-tf train` "
            f"wrote. Received: {run_dir} ({error})."
        ) from error


def check_settings(changes: dict, kind: type) -> None:
    """Settings that are changed are settings of a `kind` of Config.

    Raises: ValueError: if one is not.
    """
    names = [field.name for field in dataclasses.fields(kind)]
    unknown = sorted(set(changes) - set(names))
    if unknown:
        raise ValueError(
            f"A setting must be one of {names}. Received: {unknown}."
        )


def check_folder(config, run_dir: pathlib.Path) -> None:
    """A run's folder is new, empty, or of the same run.

    Raises: ValueError: if it holds another run or other things.
    """
    if not run_dir.exists():
        return
    # A start that was killed may leave the half of a file, and no more.
    if all(files.is_partial(path) for path in run_dir.iterdir()):
        return
    there = read_config(run_dir, type(config))
    if there != config:
        ours, theirs = dataclasses.asdict(config), dataclasses.asdict(there)
        differing = [name for name in ours if ours[name] != theirs[name]]
        raise ValueError(
            "A folder holds one run. Received: "
            f"{run_dir}, where another is: {differing} differ. Choose another "
            "folder (--out, of a table --runs), or remove this one."
        )


def read_result(path: pathlib.Path, config) -> dict | None:
    """The result in a run's JSON, if it is there and of the same settings.

    A setting that is younger than the result is read as its default.
    """
    if not path.exists():
        return None
    result = json.loads(path.read_text(encoding="utf-8"))
    try:
        there = type(config)(**result["config"])
    except TypeError:  # a setting that there is no longer
        return None
    return result if _plain(there) == _plain(config) else None


def read_results(folder: pathlib.Path) -> list[dict]:
    """The results in a folder, in the order of their names."""
    return [
        json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(folder.glob("*.json"))
    ]


def write_json(path: pathlib.Path, value: dict) -> None:
    """Writes a dictionary as JSON; numbers that are not finite become null."""
    text = json.dumps(_without_nan(value), indent=2, allow_nan=False) + "\n"
    write_whole(path, text.encode("utf-8"))


def write_arrays(path: pathlib.Path, arrays: dict[str, np.ndarray]) -> None:
    """Writes arrays as a compressed .npz."""
    partial = path.with_name(f"partial-{path.name}")
    np.savez_compressed(partial, **arrays)
    os.replace(partial, path)


def read_arrays(path: pathlib.Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz."""
    with np.load(path) as arrays:
        return dict(arrays)


def save_model(model: keras.Model, run_dir: pathlib.Path) -> None:
    """Writes model.keras into a run's folder."""
    partial = run_dir / "partial-model.keras"
    model.save(partial)
    os.replace(partial, run_dir / "model.keras")


def in_own_process(function: Callable, *arguments):
    """What `function` returns when a new process calls it.

    TensorFlow keeps what XLA compiled until its process ends: 0.4 GB a run of
    a small flow. Costs the seconds of another start.

    Args:
      function: Of a module, so that it can be named to the process.
      *arguments: Its arguments, which are pickled.
    Raises: whatever `function` raises.
    """
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, context) as executor:
        return executor.submit(function, *arguments).result()


def commit() -> str | None:
    """Commit of the source tree, or None outside of one."""
    try:
        return subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=pathlib.Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _plain(config):
    return json.loads(json.dumps(dataclasses.asdict(config)))


def _without_nan(value):
    if isinstance(value, dict):
        return {name: _without_nan(each) for name, each in value.items()}
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
