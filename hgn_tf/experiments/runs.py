"""Runs: their settings, folders and results, and what a table runs."""

import concurrent.futures
import dataclasses
import dis
import json
import math
import multiprocessing
import pathlib
import subprocess
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import keras

from hgn_tf import files

_T = TypeVar("_T")

# What a setting may be, by its type.
_KINDS = {
    bool: "true or false",
    int: "a whole number, such as 8000 or 8e3",
    float: "a finite number, such as 0.002 or 2e-3",
}
_BOOLS = {"true": True, "1": True, "false": False, "0": False}
# Errors that our checks raise, and where.
_MISTAKES = (ValueError, TypeError, ArithmeticError, ImportError)
_PACKAGES = ("hgn_tf", "tfds_physics")
_MISSING = object()  # no setting equals it


@dataclasses.dataclass(frozen=True)
class Result:
    """What the JSON of a run has, in every experiment.

    Attributes:
      experiment: Name of the table or command that the run belongs to.
      model: Row of the table.
      dataset: Name of the dataset or density.
      seed: Seed of the run.
      budget: Name of the settings.
      metrics: Measures by name. A number that is not finite is None once it
        has been written and read.
      config: All settings.
      commit: Commit of the source tree, None outside of one.
      wall_seconds: Seconds of training.
      cpu_seconds: CPU-seconds of training.
      peak_memory_mb: Largest resident memory of the process.
      picture_dtype: Dtype policy of encoder and decoder, of those that have
        some; None where it was not recorded.
    """

    experiment: str
    model: str
    dataset: str
    seed: int
    budget: str
    metrics: Mapping[str, float | None]
    config: dict[str, Any]
    commit: str | None
    wall_seconds: float
    cpu_seconds: float
    peak_memory_mb: float
    picture_dtype: str | None = None

    def write(self, path: pathlib.Path) -> None:
        """Writes the JSON."""
        files.write_json(path, dataclasses.asdict(self))


class Run(NamedTuple):
    """A run of a table.

    Attributes:
      group: System, task or density of the run.
      model: Row of the table.
      config: Settings, a frozen dataclass with a seed.
    """

    group: str
    model: str
    config: Any

    @property
    def name(self) -> str:
        """The name of the run's files: <group>-<model>-<seed>."""
        return f"{self.group}-{self.model}-{self.config.seed}"


def list_runs(
    rows: Mapping[str, Sequence[str]],
    num_seeds: int,
    make_config: Callable[[str, str, int], Any],
    asked: Iterable[str] | None = None,
) -> list[Run]:
    """The runs of a table, all runs of a seed before those of the next.

    Args:
      rows: Group -> models that it has.
      num_seeds: Seeds 0 .. num_seeds - 1.
      make_config: Callable (group, model, seed) -> settings.
      asked: Models to run, in any order; None for all.
    Raises: ValueError: if there is no seed, or no group has a model asked for.
    """
    if num_seeds < 1:
        raise ValueError(
            f"There must be a seed at least. Received: {num_seeds} seeds."
        )
    known = dict.fromkeys(model for models in rows.values() for model in models)
    asked = known if asked is None else list(asked)
    check_names(f"models of {list(rows)}", asked, known)
    return [
        Run(group, model, make_config(group, model, seed))
        for seed in range(num_seeds)
        for group, models in rows.items()
        for model in models
        if model in asked
    ]


def run_table(
    runs: Iterable[Run],
    make: Callable[[Run, pathlib.Path], Result],
    results_dir: pathlib.Path,
    runs_dir: pathlib.Path,
    varying: Sequence[str] = ("seed",),
    by_dataset: Sequence[str] = (),
) -> Iterator[Result]:
    """Yields the result of each run, made now or found.

    A finished run leaves <name>.json and is not made again. So a table that
    was stopped goes on with the run that was not finished.

    Args:
      runs: The runs, in their order.
      make: Callable (run, its folder) -> its result.
      results_dir: Folder of the JSON files.
      runs_dir: Folder of the runs' folders.
      varying: As in `read_results`.
      by_dataset: As in `read_results`.
    Raises: ValueError: as `check_results`, before the first run is made.
    """
    runs = list(runs)
    check_results(runs, results_dir, varying, by_dataset)
    for run in runs:
        path = results_dir / f"{run.name}.json"
        if find_result(path, run.config) is None:
            result = make(run, runs_dir / run.name)
            results_dir.mkdir(parents=True, exist_ok=True)
            result.write(path)
        yield read_result(path)


def check_results(
    runs: Sequence[Run],
    results_dir: pathlib.Path,
    varying: Sequence[str] = ("seed",),
    by_dataset: Sequence[str] = (),
) -> None:
    """Results can be written, and will be of the settings of those that stay.

    Args:
      runs: The runs that are to be made or found.
      results_dir: Folder of the JSON files.
      varying: As in `read_results`.
      by_dataset: As in `read_results`.
    Raises:
      ValueError: if a result that no run replaces has other settings.
      NotADirectoryError, PermissionError: if the folder cannot be used.
    """
    files.check_folder(results_dir)
    if not runs:
        return
    rows = {run.name: (run.model, as_json(run.config)) for run in runs}
    others = _read_folder(results_dir, type(runs[0].config), set(rows))
    rows |= {name: (each.model, each.config) for name, each in others.items()}
    _check_rows(rows, results_dir, varying, by_dataset)


def check_drawable(
    runs: Iterable[Run],
    results_dir: pathlib.Path,
    runs_dir: pathlib.Path,
    last: str,
) -> None:
    """Figures can be drawn from the folders of runs: to be asked before work.

    A run without a result is made, and leaves its folder.

    Args:
      runs: The runs that are drawn.
      results_dir: Folder of the JSON files.
      runs_dir: Folder of the runs' folders.
      last: The last file that a run writes into its folder.
    Raises: ValueError: if a result is there and the folder is not, as where
      the result alone was copied, or if the folder is of other settings.
    """

    def is_whole(run):
        folder = runs_dir / run.name
        try:
            there = read_config(folder, type(run.config))
        except ValueError:
            return False
        same = as_json(there) == as_json(run.config)
        return same and (folder / last).exists()

    missing = [
        str(runs_dir / run.name)
        for run in runs
        if find_result(results_dir / f"{run.name}.json", run.config)
        and not is_whole(run)
    ]
    if missing:
        raise ValueError(
            "Figures are drawn from the folders of runs, which must be there "
            f"and of the results' settings. Missing: {missing}. Name the "
            "models that are there, or remove the results of the others, and "
            "they are trained again."
        )


def read_result(path: pathlib.Path) -> Result:
    """The result in a JSON file.

    Raises: ValueError: if it is not that of a run.
    """
    try:
        result = Result(**files.read_json(path))
        if not all(
            isinstance(x, dict) for x in (result.metrics, result.config)
        ):
            raise TypeError("its metrics and config must be dictionaries")
        return result
    except (TypeError, ValueError) as error:
        raise ValueError(
            "A result must be the JSON that a run wrote. Received: "
            f"{path} ({error}). Remove it, and the run is made again."
        ) from error


def read_results(
    folder: pathlib.Path,
    kind: type,
    varying: Sequence[str],
    by_dataset: Sequence[str] = (),
) -> list[Result]:
    """The results in a table's folder, in the order of their names.

    A setting that is younger than a result is there as its default.

    Args:
      folder: Folder of the JSON files.
      kind: Dataclass of the settings.
      varying: Settings that the runs of a row differ in.
      by_dataset: Settings that differ from dataset to dataset, and within none.
    Raises: ValueError: if the runs of a row differ in another one.
    """
    found = _read_folder(folder, kind)
    rows = {name: (each.model, each.config) for name, each in found.items()}
    _check_rows(rows, folder, varying, by_dataset)
    return list(found.values())


def _read_folder(folder, kind, left_out=()):
    """Name -> result, with settings younger than it as their defaults."""
    defaults = {
        field.name: field.default
        for field in dataclasses.fields(kind)
        if field.default is not dataclasses.MISSING
    }
    known = json.loads(json.dumps(defaults))  # as results hold them
    found = {}
    for path in sorted(folder.glob("*.json")):
        if path.stem not in left_out:
            result = read_result(path)
            config = known | result.config
            found[path.stem] = dataclasses.replace(result, config=config)
    return found


def _check_rows(rows, folder, varying, by_dataset):
    """Results of a row have the same settings; name -> (model, settings)."""
    within = dict.fromkeys(varying)
    across = within | dict.fromkeys(by_dataset)
    firsts: dict[str, str] = {}
    for name, (model, config) in rows.items():
        row, _, _ = name.rpartition("-")
        kinds = [(row, within)]
        if "dataset" in within:
            kinds.append((f"all of {model}", across))
        for kind, free in kinds:
            first = firsts.setdefault(kind, name)
            there = rows[first][1]
            differing = sorted(
                setting
                for setting in config.keys() | there.keys()
                if setting not in free
                and config.get(setting, _MISSING)
                != there.get(setting, _MISSING)
            )
            if differing:
                raise ValueError(
                    "The results of a model must have the same settings. "
                    f"Received: {first} and {name} in {folder}, whose "
                    f"{differing} differ. Remove one, or choose another folder "
                    "(--results)."
                )


def find_result(path: pathlib.Path, config: Any) -> Result | None:
    """The result in a file, if it is there and of the same settings.

    A setting that is younger than the result is read as its default.

    Args:
      path: The JSON file.
      config: The settings, a dataclass.
    """
    if not path.exists():
        return None
    result = read_result(path)
    try:
        there = type(config)(**result.config)
    except TypeError:  # a setting that there is no longer
        return None
    return result if as_json(there) == as_json(config) else None


def as_json(config: Any) -> dict[str, Any]:
    """The settings as JSON holds them: tuples become lists."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def check_seed(seed: int) -> None:
    """A seed is one that numpy takes.

    Raises: ValueError: if it is not.
    """
    if not 0 <= seed < 2**32:
        raise ValueError(
            f"`seed` must be from 0 to 2^32 - 1. Received: {seed}."
        )


def check_names(what: str, names: Iterable[str], known: Iterable[str]) -> None:
    """Names are known ones.

    Args:
      what: Kind of the names.
      names: Names to check.
      known: Known names.
    Raises: ValueError: if one is unknown.
    """
    known = list(known)
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f"`{what}` must be of {known}. Received: {unknown}.")


def parse_settings(
    pairs: Sequence[str], kind: type, fixed: Sequence[str] = ()
) -> dict[str, Any]:
    """Settings from NAME=VALUE, each parsed by the type of its field.

    bool takes true, false, 1 and 0 in any case; int takes whole numbers, in
    exponents too; float takes finite numbers; str takes all.

    Args:
      pairs: Pairs such as "num_steps=2e3".
      kind: Dataclass of the settings.
      fixed: Fields that are not set this way.
    Returns: Name -> value.
    Raises: ValueError: if a pair, name or value does not fit.
    """
    types = {
        name: type_
        for name, type_ in typing.get_type_hints(kind).items()
        if name not in fixed
    }
    settings = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            raise ValueError(
                "A setting must be given as NAME=VALUE, such as "
                f"num_steps=2000. Received: {pair!r}."
            )
        if name not in types:
            raise ValueError(
                f"A setting must be one of {list(types)}. Received: {name!r}."
            )
        settings[name] = _parse(name, text, types[name])
    return settings


def _parse(name, text, kind):
    if kind is str:
        return text
    try:
        if kind is bool:
            return _BOOLS[text.lower()]
        number = float(text)
        if math.isfinite(number) and (kind is float or number.is_integer()):
            return kind(number)
    except (KeyError, ValueError):
        pass
    raise ValueError(f"`{name}` must be {_KINDS[kind]}. Received: {text!r}.")


def read_config(run_dir: pathlib.Path, kind: type[_T]) -> _T:
    """The settings that a run's folder was made with, a `kind` of Config.

    Raises: ValueError: if the folder is not a run's.
    """
    path = run_dir / "config.json"
    try:
        return kind(**files.read_json(path))
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


def check_folder(config: Any, run_dir: pathlib.Path) -> None:
    """A run's folder is new, empty, or of the same run.

    Raises:
      ValueError: if it holds another run or other things.
      BlockingIOError: if another process trains in it.
      OSError: if it cannot be made.
    """
    files.check_folder(run_dir)
    if not run_dir.exists():
        return
    # A start that was killed may leave the half of a file, and no more.
    if all(files.is_partial(path) for path in run_dir.iterdir()):
        return
    with files.sole_user(run_dir):
        there = read_config(run_dir, type(config))
    if there != config:
        ours, theirs = dataclasses.asdict(config), dataclasses.asdict(there)
        differing = [name for name in ours if ours[name] != theirs[name]]
        raise ValueError(
            "A folder holds one run. Received: "
            f"{run_dir}, where another is: {differing} differ. Choose another "
            "folder (--out, of a table --runs), or remove this one."
        )


def save_model(model: keras.Model, run_dir: pathlib.Path) -> None:
    """Writes model.keras into a run's folder."""
    with files.replacing(run_dir / "model.keras") as partial:
        model.save(partial)


def load_model(run_dir: pathlib.Path, command: str = "") -> keras.Model:
    """The trained model of a run's folder.

    Args:
      run_dir: Folder of the run.
      command: Command that trains it, if there is one of its own.
    Raises: ValueError: if the model is not trained yet, or its file is not
      whole.
    """
    path = run_dir / "model.keras"
    if not path.exists():
        remedy = f"; go on with `{command}`" if command else ""
        raise ValueError(
            f"A run must be trained to its end first. Received: {run_dir}, "
            f"without {path.name}{remedy}."
        )
    try:
        files.check_archive(path)
        return keras.saving.load_model(path, safe_mode=True)
    except Exception as error:  # whatever altered bytes lead to
        raise files.not_whole(
            path,
            error,
            "Remove it and train again: the checkpoints are kept, so that "
            "takes no time.",
            "A model file must be whole",
        ) from error


def in_own_process(function: Callable[..., _T], *arguments: Any) -> _T:
    """What `function` returns when a new process calls it.

    TensorFlow keeps what XLA compiled until its process ends: 0.4 GB for a run
    of a small flow. Costs the seconds of another start.

    Args:
      function: Function of a module, so that it can be named to the process.
      *arguments: Its arguments, which are pickled.
    Raises: whatever `function` raises.
    """
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, context) as executor:
        result, mistake = executor.submit(_call, function, arguments).result()
    if mistake is not None:
        raise mistake
    return result


def _call(function, arguments):
    """What a function returns, and its caller's mistake if there was one."""
    try:
        return function(*arguments), None
    except Exception as error:
        # A traceback does not survive the way back: it is looked at here.
        if is_mistake(error):
            return None, error
        raise


def is_mistake(error: BaseException) -> bool:
    """Whether an error is a caller's mistake, and not a bug.

    Our public functions check what a caller can get wrong, and raise an error
    that says so. An error is a mistake if a `raise` statement of ours made it,
    or if the operating system refused a file or a connection. An error that
    arose in any other way is a bug, of whatever class.

    Args:
      error: A caught exception, with its traceback.
    """
    if isinstance(error, OSError):
        return True
    if not isinstance(error, _MISTAKES) or error.__traceback__ is None:
        return False
    last = error.__traceback__
    while last.tb_next is not None:
        last = last.tb_next
    package, _, _ = last.tb_frame.f_globals["__name__"].partition(".")
    instruction = last.tb_frame.f_code.co_code[last.tb_lasti]
    return package in _PACKAGES and instruction == dis.opmap["RAISE_VARARGS"]


class Costs(typing.TypedDict):
    """The cost of training, as fields of a Result."""

    wall_seconds: float
    cpu_seconds: float
    peak_memory_mb: float


def costs(log: Sequence[Mapping[str, str]]) -> Costs:
    """The cost of training, as fields of a Result.

    Args:
      log: Rows of log.csv, one per epoch.
    Raises: ValueError: if one has no such numbers.
    """
    found: dict[str, list[float]] = {}
    for name in ("wall_seconds", "cpu_seconds", "peak_memory_mb"):
        try:
            found[name] = [float(row[name]) for row in log]
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"Each row of a log.csv must have a number of `{name}`. "
                f"Received: {type(error).__name__}: {error}; train again, in "
                "another folder."
            ) from error
    return {
        "wall_seconds": sum(found["wall_seconds"]),
        "cpu_seconds": sum(found["cpu_seconds"]),
        "peak_memory_mb": max(found["peak_memory_mb"]),
    }


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
