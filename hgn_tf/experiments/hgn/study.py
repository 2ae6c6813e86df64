"""What brings a law, and what does not: one change of a budget per row."""

import pathlib
from collections.abc import Callable, Sequence

import numpy as np

from hgn_tf.evaluation import METRICS, SPEEDS
from hgn_tf.experiments import runs, tables
from hgn_tf.experiments.hgn import train
from hgn_tf.experiments.hgn.config import (
    DATASETS,
    STUDY,
    STUDY_SYSTEMS,
    Config,
    make_config,
)
from hgn_tf.experiments.hgn.table import VARYING, by_model, far_keys
from hgn_tf.experiments.runs import Result
from hgn_tf.files import write_whole

_NAME = "ablation"
_COLUMNS = (
    "excess_mse_e4",
    "energy_r2",
    "energy_rank",
    *(speed.metric for name, speed in SPEEDS.items() if name != "forward"),
    *far_keys("model"),
)
_MEAN_IMAGE = dict(zip(far_keys("model"), far_keys("mean_image")))


def make_study(
    systems: Sequence[str] | None,
    num_seeds: int,
    rows: Sequence[str] | None,
    results_dir: pathlib.Path,
    data_dir: str | None = None,
    runs_dir: pathlib.Path = pathlib.Path("runs"),
    verbose: int | str = 0,
    progress: Callable[[str], None] = lambda line: None,
    **changes,
) -> str:
    """Runs what is not done yet of the study; writes ablation.md and JSON.

    Args:
      systems: Names in STUDY_SYSTEMS; None for all.
      num_seeds: Number of seeds, 0 .. num_seeds - 1.
      rows: Names in STUDY; None for all.
      results_dir: Folder of ablation.md and ablation/.
      data_dir: TFDS's folder; None for its default.
      runs_dir: Folder of the runs' folders, in ablation/.
      verbose: Verbosity of `model.fit`.
      progress: Called with a line after each run.
      **changes: Settings of all runs.
    Returns: the table as Markdown.
    Raises: ValueError: for an unknown system or row, no seed, or results of
      one row with several settings.
    """

    def make(run, folder):
        train.train(
            run.config, folder, data_dir, verbose=verbose, progress=progress
        )
        return train.evaluate(
            folder, data_dir, experiment=_NAME, model_name=run.model
        )

    for result in runs.run_table(
        list_study(systems, num_seeds, rows, **changes),
        make,
        results_dir / _NAME,
        runs_dir / _NAME,
    ):
        progress(
            f"{result.dataset} {result.model} seed {result.seed}: R^2 "
            f"{result.metrics['energy_r2']:.3f}, backward "
            f"{result.metrics['backward_mse_e4']:.1f}e-4"
        )
    results = runs.read_results(results_dir / _NAME, Config, VARYING)
    text = format_study(results)
    write_whole(results_dir / f"{_NAME}.md", text.encode("utf-8"))
    return text


def list_study(
    systems: Sequence[str] | None,
    num_seeds: int,
    rows: Sequence[str] | None,
    **changes,
) -> list[runs.Run]:
    """The runs of the study; arguments and errors as in `make_study`."""
    runs.check_names("systems", systems or (), STUDY_SYSTEMS)
    runs.check_names("models", rows or (), STUDY)
    return runs.list_runs(
        {system: rows or list(STUDY) for system in systems or STUDY_SYSTEMS},
        num_seeds,
        lambda system, row, seed: _config(system, row, seed, changes),
    )


def _config(system, row, seed, changes) -> Config:
    budget, own = STUDY[row]
    own = {"dataset": DATASETS[budget], **own}
    dataset = own.pop("dataset").format(system)
    return make_config(dataset, budget, **{**own, "seed": seed, **changes})


def format_study(results: Sequence[Result]) -> str:
    """Markdown of the results that are there.

    Args:
      results: Results of runs of the study.
    """
    parts = [
        "# What brings a law",
        "Made by `hgn-tf table hgn --study`. The rows `flat` and `conv` are "
        "the budgets of that name with fewer steps, `flat` from the first "
        "frame; each other row changes what it is named after. Errors are "
        "mean squared errors per pixel, times 1e4; those of 60, 120 and 240 "
        "frames are of the split test_long, all frames counted. A memory of "
        "the frames has a low excess and fails at all other columns.",
        "Each number is a mean over "
        f"{tables.describe_seeds(results)}. "
        '"+-" is the standard deviation over seeds; a number without it is of '
        "one seed.",
    ]
    groups = by_model(results)
    titles = ["row", *tables.titles(_COLUMNS, METRICS), "CPU-s"]
    for system in STUDY_SYSTEMS:
        rows = {m: groups[system, m] for m in STUDY if (system, m) in groups}
        if rows:
            lines = [_line(row, seeds) for row, seeds in rows.items()]
            lines.append(_mean_image(next(iter(rows.values()))))
            parts += [f"## {system}", tables.markdown_table(titles, lines)]
    return "\n\n".join(parts) + "\n"


def _line(row, results):
    cost = np.mean([result.cpu_seconds for result in results])
    return [
        row + tables.mark_collapsed(results),
        *tables.cells(results, _COLUMNS, METRICS),
        f"{cost:.0f}",
    ]


def _mean_image(results):
    """The mean image's errors in the columns where it has some."""
    cells = [
        tables.cell(results[:1], _MEAN_IMAGE[name], METRICS[_MEAN_IMAGE[name]])
        if name in _MEAN_IMAGE
        else ""
        for name in _COLUMNS
    ]
    return ["mean image", *cells, ""]
