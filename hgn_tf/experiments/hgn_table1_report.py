"""Table 1 as text, from the results of its runs."""

import pathlib
from collections.abc import Callable

import numpy as np

from hgn_tf.animation import write_whole
from hgn_tf.experiments import hgn_table1, markdown, run_folder
from hgn_tf.experiments.hgn_figures import write_figures
from hgn_tf.experiments.hgn_table1 import PAPER, SYSTEMS, VARIANTS

_YARDSTICKS = {
    "mean_image": "mean image",
    "frozen_frame": "frozen first frame",
    "noise_floor": "noise floor",
}
_COLUMNS = ("model", "train", "test", "FVU", "excess over the floor", "CPU-s")
_LATENT = (
    ("energy_r2", "R^2 with the true energy", "{:.3f}"),
    ("energy_drift", "drift", "{:.3f}"),
    ("energy_variance_share", "variance along / across", "{:.1e}"),
    ("reversibility_error", "reversibility error", "{:.1e}"),
    ("gradient_norm_share", "grad H a frame / spread", "{:.3f}"),
)
_SPEEDS = (
    ("backward_mse_e4", "backward"),
    ("double_speed_mse_e4", "double speed"),
    ("half_speed_mse_e4", "half speed"),
)
_LONG = (
    ("long_mse_e4_at_60", "60 frames"),
    ("long_mse_e4_at_120", "120"),
    ("long_mse_e4_at_240", "240"),
    ("valid_prediction_time", "valid prediction time"),
)


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
      results_dir: Where table1.md, table1/ and table1_forecast/ go.
      data_dir: TFDS's folder; None for its default.
      runs_dir: Where the runs' folders go.
      verbose: As in `model.fit`.
      figures: Whether to draw figures 6, 7 and 8 into table1/ too.
      progress: Told a line a run.
      **changes: Settings of the budget, for all runs.
    Returns: the tables as Markdown.
    """
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
            results_dir / table,
            runs_dir / table,
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
    write_whole(results_dir / "table1.md", text.encode("utf-8"))
    for system in (systems or SYSTEMS) if figures else ():
        write_figures(
            system, runs_dir / "table1", results_dir / "table1", data_dir
        )
    return text


def read_results(results_dir: pathlib.Path, budget: str) -> dict[str, list]:
    """Table -> results of a budget in its folder, in the order of names."""
    return {
        table: [
            result
            for result in run_folder.read_results(results_dir / table)
            if result["budget"] == budget
        ]
        for table in hgn_table1.TABLES
    }


def format_tables(results: list[dict], forecasts: list[dict]) -> str:
    """Markdown of both tables.

    Args:
      results: Of the runs of table 1, as their JSON files have them.
      forecasts: Of those of the forecast table.
    """
    groups = _groups(results)
    parts = [
        "# Table 1: six models on four systems",
        "Made by `hgn-tf table1`. Mean squared errors a pixel, times 1e4, "
        "over 30 frames inferred from all of them; in brackets the paper's, "
        "from pictures of its own. FVU is the test error over the mean "
        "image's, in brackets the paper's over that of its HNN row, which "
        "drew little but the mean. No model can get below the noise floor, "
        "the error of the expected frame given the true state. Means over "
        "trajectories +- their standard error"
        + (
            "; where a model has several seeds, means of seeds +- the "
            "standard deviation over them."
            if any(len(group) > 1 for group in groups.values())
            else "."
        ),
    ]
    for system in SYSTEMS:
        rows = {m: groups[system, m] for m in VARIANTS if (system, m) in groups}
        if rows:
            parts += [f"## {system}", _errors(system, rows), _latent(rows)]
    parts += _forecast(_groups(forecasts), groups)
    parts += _extrapolation(groups)
    if results:
        parts += ["## What the runs were", *_settings(results)]
    return "\n\n".join(parts) + "\n"


def _groups(results):
    groups = {}
    for result in results:
        system = result["dataset"].partition("/")[0].removeprefix("physics_")
        groups.setdefault((system, result["model"]), []).append(result)
    return groups


def _errors(system, rows):
    lines = []
    for model, results in rows.items():
        train, test = PAPER[model][SYSTEMS.index(system)]
        of_mean = test / PAPER["pixel_hnn"][SYSTEMS.index(system)][1]
        lines.append(
            [
                model + _mark(results),
                f"{_cell(results, 'train_mse_e4')} ({train})",
                f"{_cell(results, 'test_mse_e4')} ({test})",
                f"{_cell(results, 'test_fvu', '{:.3f}')} ({of_mean:.2f})",
                _cell(results, "excess_mse_e4"),
                f"{np.mean([each['cpu_seconds'] for each in results]):.0f}",
            ]
        )
    first = next(iter(rows.values()))
    for name, title in _YARDSTICKS.items():
        test = _cell(first, f"{name}_mse_e4")
        lines.append([title, "", test, "", "", ""])
    return markdown.table(_COLUMNS, lines)


def _mark(results):
    collapsed = any(each["metrics"]["collapsed"] for each in results)
    return ", collapsed" if collapsed else ""


def _latent(rows):
    lines = [
        [
            model,
            *(_cell(results, name, form) for name, _, form in _LATENT),
            *(_cell(results, name) for name, _ in _SPEEDS),
        ]
        for model, results in rows.items()
    ]
    titles = [title for _, title, *_ in _LATENT + _SPEEDS]
    return markdown.table(["model", *titles], lines)


def _forecast(forecasts, groups):
    """25 frames from the first 5: rows of both tables that see no more."""
    lines = []
    for system in SYSTEMS:
        rows = {
            model: group
            for (of, model), group in {**groups, **forecasts}.items()
            if of == system
            and all("forecast_mse_e4" in each["metrics"] for each in group)
        }
        for model, group in rows.items():
            lines.append(
                [system, model + _mark(group), _cell(group, "forecast_mse_e4")]
            )
        for name, title in _YARDSTICKS.items() if rows else ():
            group = next(iter(rows.values()))
            title = title.replace("first", "last seen")
            metric = f"forecast_{name}_mse_e4"
            lines.append([system, title, _cell(group, metric)])
    if not lines:
        return []
    return [
        "## 25 frames from the first 5",
        "An HGN that infers from 5 frames, and the pixel HNNs, which see two; "
        "errors of the 25 frames after them.",
        markdown.table(["system", "model", "test MSE x 1e4"], lines),
    ]


def _extrapolation(groups):
    lines = []
    for system in SYSTEMS:
        results = groups.get((system, "hgn_leapfrog"))
        if results is None:
            continue
        lines.append(
            [
                system,
                "hgn_leapfrog",
                *(_cell(results, name, "{:.1f}") for name, _ in _LONG),
            ]
        )
        for name in ("mean_image", "frozen_frame"):
            whole = _cell(results, f"long_{name}_mse_e4", "{:.1f}")
            time = _cell(results, f"valid_prediction_time_{name}", "{:.0f}")
            lines.append([system, _YARDSTICKS[name], "", "", whole, time])
    if not lines:
        return []
    return [
        "## Far past the training horizon",
        "Split test_long: errors over the first 60, 120 and 240 frames, and "
        "the first frame after the thirtieth whose error passes 0.025 of the "
        "picture's square, as a median; 30 is at once.",
        markdown.table(
            ["system", "model", *(title for _, title in _LONG)], lines
        ),
    ]


def _settings(results):
    config = results[0]["config"]
    lines = [
        f"- Budget `{results[0]['budget']}`, every run: "
        f"{config['num_steps']:,} steps of {config['batch_size']} videos, the "
        "same ones in the same order"
        + (", half of them last frame first" * config["reversed_videos"])
        + "; Adam with a warm-up of "
        f"{config['warmup_steps']} steps and a cosine to "
        f"{config['final_learning_rate']} of its rate. Paper: 1.5e-4, kept.",
    ]
    by_model = {each["model"]: each["config"] for each in results}
    for model in VARIANTS:
        if model in by_model:
            lines.append(f"- {model}: {_line(by_model[model])}")
    return ["\n".join(lines)]


def _line(config):
    text = (
        f"networks `{config['form']}`, learning rate {config['learning_rate']}"
    )
    if config["model"] == "pixel_hnn":
        return f"{text}; a step takes one pair of pairs from each video."
    decoded = config["num_decoded_frames"] or "all"
    return (
        f"{text}, {config['integrator']}, f_psi {config['state_net']}, "
        f"sampling {config['sample']}; a step decodes {decoded} frames, from "
        f"a horizon that grows over {config['curriculum_steps']} steps."
    )


def _cell(results, name, form="{:.2f}"):
    values = [each["metrics"].get(name) for each in results]
    if None in values:
        return ""
    text = form.format(np.mean(values))
    if len(values) > 1:
        return f"{text} +- {np.std(values, ddof=1):.1g}"
    error = results[0]["metrics"].get(f"{name}_stderr")
    return text if error is None else f"{text} +- {error:.1g}"
