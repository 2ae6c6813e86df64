"""Table 1 as text, from the results of its runs."""

import dataclasses
import pathlib
from collections.abc import Callable

from hgn_tf.animation import write_whole
from hgn_tf.experiments import hgn_table1, run_folder
from hgn_tf.experiments import hgn_table1_sections as sections
from hgn_tf.experiments.hgn_figures import check_folders, write_figures
from hgn_tf.experiments.hgn_models import Config
from hgn_tf.experiments.hgn_table1 import SYSTEMS, VARIANTS


def make_tables(
    budget: str,
    systems: list[str] | None,
    num_seeds: int,
    models: list[str] | None,
    results_dir: pathlib.Path,
    data_dir: str | None = None,
    runs_dir: pathlib.Path = pathlib.Path("runs"),
    verbose: int | str = 0,
    figures: bool = False,
    progress: Callable[[str], None] = lambda line: None,
    **changes,
) -> str:
    """Runs what is not done yet of both tables; writes table1.md and JSON.

    The text is made of all results of the budget that are there, whichever
    runs were asked for.

    Args:
      budget: A key of hgn_table1.DATASETS.
      systems: Names in SYSTEMS; None for all.
      num_seeds: Seeds 0 .. num_seeds - 1.
      models: Rows; None for all. A table without such a row is left out.
      results_dir: Where table1.md, table1/ and table1_forecast/ go; with
        another budget than cpu table1_paper.md and so on.
      data_dir: TFDS's folder; None for its default.
      runs_dir: Where the runs' folders go, under the same names.
      verbose: As in `model.fit`.
      figures: Whether to draw figures 6, 7 and 8 into table1/ too.
      progress: Told a line a run.
      **changes: Settings of the budget, for all runs.
    Returns: the tables as Markdown.
    Raises: ValueError: for an unknown budget, system, model or table, no
      seed, a run's folder of other settings, results of one model with
      several, or figures of a run whose result alone is there.
    """
    name = in_budget("table1", budget)
    if figures:
        # Said before hours of training; runs that are to come leave folders.
        done = results_dir / name
        runs = hgn_table1.configs(budget, systems, 1, models, **changes)
        check_folders(
            runs_dir / name / run
            for run, _, config in runs
            if run_folder.read_result(done / f"{run}.json", config)
        )
    for table, rows in hgn_table1.TABLES.items():
        wanted = [model for model in models or rows if model in rows]
        if table != "table1" and not wanted:
            continue
        for result in hgn_table1.run(
            budget,
            systems,
            num_seeds,
            wanted if table != "table1" else models,
            table,
            results_dir / in_budget(table, budget),
            runs_dir / in_budget(table, budget),
            data_dir,
            verbose,
            **changes,
        ):
            metrics = result["metrics"]
            progress(
                f"{table} {result['dataset']} {result['model']} seed "
                f"{result['seed']}: test MSE {metrics['test_mse_e4']:.2f}e-4, "
                f"excess {metrics['excess_mse_e4']:.2f}e-4"
            )
    results = read_results(results_dir, budget)
    text = format_tables(results["table1"], results["table1_forecast"])
    write_whole(results_dir / f"{name}.md", text.encode("utf-8"))
    for system in (systems or SYSTEMS) if figures else ():
        paths = write_figures(
            system, runs_dir / name, results_dir / name, models, data_dir
        )
        progress(f"wrote {', '.join(map(str, paths))}")
    return text


def in_budget(table: str, budget: str) -> str:
    """The name of a table's files and folders; the budget cpu is not named."""
    return table if budget == "cpu" else f"{table}_{budget}"


def read_results(results_dir: pathlib.Path, budget: str) -> dict[str, list]:
    """Table -> results of a budget in its folder, in the order of names.

    A setting that is younger than a result is there as its default.

    Raises: ValueError: if those of one model have several settings.
    """
    known = {field.name: field.default for field in dataclasses.fields(Config)}
    tables = {
        table: run_folder.read_results(results_dir / in_budget(table, budget))
        for table in hgn_table1.TABLES
    }
    for table, results in tables.items():
        settings = {}
        for result in results:
            result["config"] = known | result["config"]
            first = settings.setdefault(result["model"], result)
            if _settings(first) != _settings(result):
                raise ValueError(
                    "The results of a model must have the same settings. "
                    f"Received: {result['model']} of {first['dataset']}, seed "
                    f"{first['seed']}, and of {result['dataset']}, seed "
                    f"{result['seed']}, in {results_dir / table}. Remove one."
                )
    return tables


def _settings(result):
    """All but what the runs of a row differ in."""
    return result["config"] | {"seed": None, "dataset": None}


def format_tables(results: list[dict], forecasts: list[dict]) -> str:
    """Markdown of both tables.

    Args:
      results: Of the runs of table 1, as their JSON files have them.
      forecasts: Of those of the forecast table.
    """
    groups = sections.by_model(results)
    parts = [
        "# Table 1: six models on four systems",
        "Made by `hgn-tf table1`. Mean squared errors a pixel, times 1e4, "
        "over 30 frames inferred from all of them; in brackets the paper's, "
        "from pictures of its own. FVU, in the first table, is the test "
        "error over the mean image's, in brackets the paper's over that of "
        "its HNN row, which drew little but the mean. The noise floor is the "
        "error of the expected frame given the true state, the best guess of "
        "a frame not seen; the two numbers a degree of freedom that are "
        "inferred from 30 frames fit some of their noise, so that 0.93 of "
        "it can be reached. Means over trajectories +- their standard error"
        + (
            "; where a model has several seeds, means of seeds +- the "
            "standard deviation over them."
            if any(len(group) > 1 for group in groups.values())
            else "."
        ),
    ]
    if results:
        parts.append(sections.summary(groups))
    for system in SYSTEMS:
        rows = {m: groups[system, m] for m in VARIANTS if (system, m) in groups}
        if rows:
            parts += [
                f"## {system}",
                sections.errors(system, rows),
                sections.latent(rows),
            ]
    parts += sections.forecast(sections.by_model(forecasts), groups)
    parts += sections.extrapolation(groups)
    if results:
        parts += ["## What the runs were", sections.settings(results)]
    return "\n\n".join(parts) + "\n"
