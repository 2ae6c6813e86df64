"""The HNN table as text, from the results of its runs."""

import pathlib
from collections.abc import Callable

import numpy as np

from hgn_tf.animation import write_whole
from hgn_tf.experiments import hnn_table, markdown, run_folder
from hgn_tf.experiments.hnn_figures import write_figures
from hgn_tf.experiments.hnn_tasks import (
    METRICS,
    PAPER,
    PIXELS,
    TASKS,
    THEIR_CPU_SECONDS,
)

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
      models: Names in hnn_table.MODELS; None for all that a task has.
      results_dir: Where the results go.
      data_dir: TFDS's folder; None for its default.
      runs_dir: Where the models go.
      figures: Whether to draw energies and phase portraits too.
      progress: Told a line a run.
    Returns: the tables as Markdown.
    """
    folder = results_dir / "hnn_table"
    for result in hnn_table.run(
        tasks, num_seeds, models, folder, runs_dir, data_dir
    ):
        progress(
            f"{result['dataset']} {result['model']} seed {result['seed']}: "
            + ", ".join(f"{m} {result['metrics'][m]:.2e}" for m in METRICS)
        )
    text = format_tables(run_folder.read_results(folder)) + "\n"
    write_whole(results_dir / "hnn_table.md", text.encode("utf-8"))
    for task in (tasks or TASKS) if figures else ():
        write_figures(task, runs_dir, folder, data_dir)
    return text


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
    return markdown.table(_PUBLISHED, rows)


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
    return markdown.table(["task", "model", *titles], rows)


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
    return markdown.table(["task", "model", "ours", "theirs", "ratio"], rows)


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
