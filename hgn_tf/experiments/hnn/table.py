"""The table of Hamiltonian Neural Networks: every task, model and seed.

A finished run leaves its JSON and is not done again; so a table that was
stopped goes on with the run that it was at.
"""

import pathlib
from collections.abc import Callable, Iterator

import numpy as np

from hgn_tf.experiments import runs, tables
from hgn_tf.experiments.hnn import train
from hgn_tf.experiments.hnn.config import (
    MODELS,
    PIXELS,
    TASKS,
    check_tasks,
    make_config,
    models_of,
)
from hgn_tf.experiments.hnn.figures import write_figures
from hgn_tf.experiments.hnn.truth import load_truth
from hgn_tf.files import write_whole

# Greydanus et al. 2019, the table of their repository: train loss, test loss,
# energy MSE; and the CPU-seconds of training with their code, run on two
# shared cores to compare costs.
METRICS = ("train_loss", "test_loss", "energy_mse")


PAPER = {
    "mass_spring": {
        "baseline": (3.7134e-2, 3.6656e-2, 1.7077e-1),
        "hnn": (3.6933e-2, 3.5928e-2, 3.8416e-4),
    },
    "pendulum": {
        "baseline": (3.2606e-2, 3.5273e-2, 4.1519e-2),
        "hnn": (3.2787e-2, 3.5586e-2, 2.4852e-2),
    },
    "real_pendulum": {
        "baseline": (2.7455e-3, 2.1864e-3, 3.8564e-1),
        "hnn": (9.2376e-3, 5.9584e-3, 1.4477e-2),
    },
    "two_body": {
        "baseline": (3.2682e-5, 2.9575e-5, 6.3276e-2),
        "hnn": (2.9959e-6, 2.8218e-6, 3.8751e-5),
    },
    "three_body": {
        "baseline": (9.5573e-2, 3.8000e-1, 1.0906e2),
        "hnn": (8.0346e-2, 4.8809e-1, 4.1926e-2),
    },
    PIXELS: {
        "baseline": (1.7731e-4, 1.7306e-4, 9.2748e-3),
        "hnn": (1.8683e-4, 1.8451e-4, 1.5315e-4),
    },
}


THEIR_CPU_SECONDS = {
    "mass_spring": {"baseline": 20, "hnn": 32},
    "pendulum": {"baseline": 30, "hnn": 45},
    "two_body": {"baseline": 52, "hnn": 65},
    "three_body": {"baseline": 132, "hnn": 140},
}


_PUBLISHED = (
    "task",
    "model",
    "train loss",
    "floor",
    "test loss",
    "floor",
    "energy MSE",
)


_CORRECTED = (
    ("true_energy_mse", "energy MSE"),
    ("true_energy_mse_median", "median over trials"),
    ("coordinate_mse", "coordinate MSE"),
    ("field_mse", "field error"),
    ("field_fvu", "of its variance"),
    ("energy_drift", "drift, 10 horizons"),
)


_ON_PIXELS = (
    ("pixel_mse", "pixel MSE of rollouts"),
    ("encoded_pixel_mse", "without dynamics"),
    ("frozen_frame_pixel_mse", "frozen frame"),
    ("mean_image_pixel_mse", "mean image"),
    ("encoded_mse", "coordinate MSE without dynamics"),
    ("gradient_norm", "grad H"),
    ("gradient_norm_share", "of the spread of z"),
    ("collapsed", "collapsed"),
)


_FLOORS = {"train_loss": "train_loss_floor", "test_loss": "test_loss_floor"}


def make_tables(
    tasks: list[str] | None,
    num_seeds: int,
    models: list[str] | None,
    results_dir: pathlib.Path,
    data_dir: str | None = None,
    runs_dir: pathlib.Path = pathlib.Path("runs/hnn_table"),
    figures: bool = False,
    progress: Callable[[str], None] = lambda line: None,
) -> str:
    """Runs what is not done yet; writes hnn_table.md and hnn_table/*.json.

    The text is made of all results that are there, whichever were asked for.

    Args:
      tasks: Keys of TASKS; None for all.
      num_seeds: Seeds 0 .. num_seeds - 1.
      models: Names in config.MODELS; None for all that a task has.
      results_dir: Where the results go.
      data_dir: TFDS's folder; None for its default.
      runs_dir: Where the models go.
      figures: Whether to draw energies and phase portraits too.
      progress: Told a line a run.
    Returns: the tables as Markdown.
    """
    folder = results_dir / "hnn_table"
    for result in run(tasks, num_seeds, models, folder, runs_dir, data_dir):
        progress(
            f"{result['dataset']} {result['model']} seed {result['seed']}: "
            + ", ".join(f"{m} {result['metrics'][m]:.2e}" for m in METRICS)
        )
    text = format_tables(runs.read_results(folder)) + "\n"
    write_whole(results_dir / "hnn_table.md", text.encode("utf-8"))
    for task in (tasks or TASKS) if figures else ():
        write_figures(task, runs_dir, folder, data_dir)
    return text


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
    check_tasks(tasks)
    unknown = sorted(set(models or ()) - set(MODELS))
    if unknown or num_seeds < 1:
        raise ValueError(
            f"A model must be one of {list(MODELS)}, and there must be a "
            f"seed. Received: {unknown} and {num_seeds} seeds."
        )
    loaded = {}
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
        result = runs.read_result(path, config)
        if result is None:
            if config.task not in loaded:
                loaded[config.task] = load_truth(config.task, data_dir)
            result = train.run_one(config, loaded[config.task], runs_dir / name)
            results_dir.mkdir(parents=True, exist_ok=True)
            runs.write_json(path, result)
        yield result


def format_tables(results: list[dict]) -> str:
    """Markdown: the published table, the corrected one, and the costs.

    Args:
      results: Of runs, as their JSON files have them.
    """
    groups = {}
    for result in results:
        config = result["config"]
        key = config["task"], config["model"]
        groups.setdefault(key, []).append(result)
    tasks = [task for task in TASKS if any(task == key[0] for key in groups)]
    groups = {
        key: groups[key]
        for task in tasks
        for key in sorted(groups)
        if key[0] == task
    }
    return "\n\n".join(
        [
            "# Hamiltonian Neural Networks from states",
            "Made by `hgn-tf hnn-table`. Each number is the mean over "
            f"{_seeds(results)} of the median over the last five epochs, "
            "+- the standard deviation over seeds; JSON of each run in "
            "`hnn_table/`.",
            "## As published, oversights included",
            "Published figures in brackets. A loss near its floor, that of "
            "the exact field at the noisy states, cannot rank models. The "
            "pendulum's energy here is q^2 + p^2, and the spring's horizon "
            "grows from trial to trial.",
            _published(groups),
            "## Corrected",
            "True H, one horizon for all trials; the field's error is taken "
            "at states without noise; drift is the largest change of H in "
            "10 horizons, over the spread of H among the starts. The real "
            "pendulum loses energy and has no known field. `hnn_rollout` is "
            "trained on the noisy paths alone, without dx/dt.",
            _corrected(groups),
            *_pixels(groups),
            "## CPU-seconds of training",
            "Theirs: the authors' code on two shared cores.",
            _costs(groups),
        ]
    )


def _published(groups):
    rows = []
    for (task, model), results in groups.items():
        paper = PAPER[task].get(model)
        if paper is None:
            continue
        cells = [task, model]
        for name, figure in zip(METRICS, paper):
            cells.append(f"{_cell(results, name)} ({figure:.2e})")
            if name in _FLOORS:
                cells.append(_cell(results, _FLOORS[name], spread=False))
        rows.append(cells)
    return tables.markdown_table(_PUBLISHED, rows)


def _corrected(groups):
    return _measured(groups, _CORRECTED)


def _pixels(groups):
    seen = {key: each for key, each in groups.items() if key[0] == PIXELS}
    if not seen:
        return []
    return [
        "## On pixels",
        "Losses are L_AE + L_CC + 0.1 L_HNN. Angle and velocity, in radians "
        "and radians a second, are read from the latent state by a linear "
        "map fitted on the split train; energies are in joules, those of "
        "Gymnasium's rod, whose own steps of first order let them swing by "
        "some per cent. How the published energies were read and scaled is "
        "nowhere said, so those figures need not compare. Rollouts are those "
        "of the test trajectories from their first row. grad H is a mean "
        "over the test rows, of the baseline |dz/dt|, per row; collapsed is 1 "
        "where it moves the state, or the picture, next to nothing.",
        _measured(seen, _ON_PIXELS),
    ]


def _measured(groups, columns):
    rows = [
        [*key, *(_cell(results, name) for name, _ in columns)]
        for key, results in groups.items()
    ]
    titles = [title for _, title in columns]
    return tables.markdown_table(["task", "model", *titles], rows)


def _costs(groups):
    rows = []
    for (task, model), results in groups.items():
        seconds = np.mean([result["cpu_seconds"] for result in results])
        theirs = THEIR_CPU_SECONDS.get(task, {}).get(model)
        rows.append(
            [
                task,
                model,
                f"{seconds:.0f}",
                "" if theirs is None else f"{theirs}",
                "" if theirs is None else f"{seconds / theirs:.2f}",
            ]
        )
    return tables.markdown_table(
        ["task", "model", "ours", "theirs", "ratio"], rows
    )


def _cell(results, name, spread=True):
    values = [result["metrics"].get(name) for result in results]
    if None in values:
        return ""
    text = f"{np.mean(values):.2e}"
    if spread and len(values) > 1:
        text += f" +- {np.std(values, ddof=1):.0e}"
    return text


def _seeds(results):
    count = len({result["seed"] for result in results})
    return f"{count} seed{'s' if count > 1 else ''}"
