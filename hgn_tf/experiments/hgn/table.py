"""Table 1 of the HGN paper: six models on four systems.

A finished run leaves its JSON and is not done again, and a run that was
stopped goes on from its checkpoint. All models of a table get the same number
of steps, batches of the same videos, and a budget's schedule.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Iterator

import numpy as np

from hgn_tf.experiments import runs, tables
from hgn_tf.experiments.hgn import train
from hgn_tf.experiments.hgn.config import (
    DATASETS,
    SYSTEMS,
    TABLES,
    VARIANTS,
    Config,
    make_config,
)
from hgn_tf.experiments.hgn.figures import check_folders, write_figures
from hgn_tf.files import write_whole

# Pixel MSE x 1e4 over 30 steps, (train, test), in the order of SYSTEMS.
PAPER = {
    "hgn_leapfrog": ((3.84, 6.23), (4.9, 11.72), (6.36, 16.47), (7.88, 9.8)),
    "hgn_euler": ((3.67, 6.2), (5.43, 10.93), (6.62, 15.06), (7.51, 9.4)),
    "hgn_determ": ((0.23, 3.07), (0.79, 10.68), (2.34, 14.47), (4.1, 5.17)),
    "hgn_no_fpsi": ((4.95, 7.04), (6.83, 13.98), (6.35, 16.49), (8.37, 10.41)),
    "pixel_hnn": (
        (50.38, 104.37),
        (69.39, 64.62),
        (80.52, 78.9),
        (61.63, 57.54),
    ),
    "pixel_hnn_conv": (
        (18.97, 119.09),
        (13.14, 106.07),
        (7.3, 120.71),
        (15.22, 62.77),
    ),
}

# The results of the seeds of each system and model.
Groups = dict[tuple[str, str], list[dict]]

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
    ("drawn_change", "picture a frame / spread", "{:.1e}"),
)
_SPEEDS = (
    ("backward_mse_e4", "backward"),
    ("double_speed_mse_e4", "double speed"),
    ("half_speed_mse_e4", "half speed"),
)
_LONG_FRAMES = (60, 120, 240)
# What the budget cpu does not do as the paper says, and is not said by the
# settings. The steps of its HGN are not published.
_DEPARTURES = (
    "- The paper trains on 50,000 videos, here on 20,000; HGN with Adam at a "
    "constant 1.5e-4 on all 30 frames, the pixel HNN at 1e-3 for 15,000 steps "
    "of 64 pairs.",
    "- The paper's HGN is convolutional, 64 filters on q and p of 4x4x16, with "
    "a learned K(p). `flat` is MLPs on as many numbers as the system has "
    "degrees of freedom, K(p) = |p|^2 / 2, V(q) = |q|^2 / 2 + net.",
    "- The pixel HNN's weight decay leaves out H, which it took to 0. The conv "
    "form has 64 filters in the paper, and a sigmoid after each block, with "
    "which it stayed at the mean image.",
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
      budget: A key of DATASETS.
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
        check_folders(
            runs_dir / name / run
            for run, _, config in configs(budget, systems, 1, models, **changes)
            if runs.read_result(done / f"{run}.json", config)
        )
    for table, rows in TABLES.items():
        wanted = [model for model in models or rows if model in rows]
        if table != "table1" and not wanted:
            continue
        for result in run(
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


def run(
    budget: str = "cpu",
    systems: list[str] | None = None,
    num_seeds: int = 1,
    models: list[str] | None = None,
    table: str = "table1",
    results_dir: pathlib.Path = pathlib.Path("results/table1"),
    runs_dir: pathlib.Path = pathlib.Path("runs/table1"),
    data_dir: str | None = None,
    verbose: int | str = 0,
    **changes,
) -> Iterator[dict]:
    """Yields the result of each run of a table, done now or before.

    Args:
      budget: A key of DATASETS.
      systems: Names in SYSTEMS; None for all.
      num_seeds: Seeds 0 .. num_seeds - 1.
      models: Rows of the table; None for all.
      table: A key of TABLES.
      results_dir: One JSON a run, <system>-<model>-<seed>.json.
      runs_dir: One folder a run, with its model.keras and report.html.
      data_dir: TFDS's folder; None for its default.
      verbose: As in `model.fit`.
      **changes: Settings of the budget, for all runs.
    Raises: ValueError: for an unknown budget, system, model or table, or no
      seed.
    """
    for name, model, config in configs(
        budget, systems, num_seeds, models, table, **changes
    ):
        path = results_dir / f"{name}.json"
        if runs.read_result(path, config) is None:
            train.train(config, runs_dir / name, data_dir, 1, verbose)
            result = train.evaluate(
                runs_dir / name, data_dir, experiment=table, model_name=model
            )
            results_dir.mkdir(parents=True, exist_ok=True)
            runs.write_json(path, result)
        yield runs.read_result(path, config)


def configs(
    budget: str,
    systems: list[str] | None,
    num_seeds: int,
    models: list[str] | None,
    table: str = "table1",
    **changes,
) -> list[tuple[str, str, Config]]:
    """Name, model and settings of each run: all of a seed before the next.

    Arguments and errors as in `run`.
    """
    for name, value, known in (
        ("budget", [budget], DATASETS),
        ("table", [table], TABLES),
        ("systems", systems or (), SYSTEMS),
        ("models", models or (), TABLES.get(table, ())),
    ):
        unknown = sorted(set(value) - set(known))
        if unknown:
            raise ValueError(
                f"`{name}` must be of {list(known)}. Received: {unknown}."
            )
    if num_seeds < 1:
        raise ValueError(
            f"There must be a seed at least. Received: {num_seeds}."
        )
    rows = TABLES[table]
    return [
        (
            f"{system}-{model}-{seed}",
            model,
            make_config(
                DATASETS[budget].format(system),
                budget,
                **{"seed": seed, **rows[model], **changes},
            ),
        )
        for seed in range(num_seeds)
        for system in systems or SYSTEMS
        for model in models or rows
    ]


def in_budget(table: str, budget: str) -> str:
    """The name of a table's files and folders; the budget cpu is not named."""
    return table if budget == "cpu" else f"{table}_{budget}"


def read_results(results_dir: pathlib.Path, budget: str) -> dict[str, list]:
    """Table -> results of a budget in its folder, in the order of names.

    A setting that is younger than a result is there as its default.

    Raises: ValueError: if those of one model have several settings.
    """
    known = {field.name: field.default for field in dataclasses.fields(Config)}
    found = {
        table: runs.read_results(results_dir / in_budget(table, budget))
        for table in TABLES
    }
    for table, results in found.items():
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
    return found


def _settings(result):
    """All but what the runs of a row differ in."""
    return result["config"] | {"seed": None, "dataset": None}


def format_tables(results: list[dict], forecasts: list[dict]) -> str:
    """Markdown of both tables.

    Args:
      results: Of the runs of table 1, as their JSON files have them.
      forecasts: Of those of the forecast table.
    """
    groups = by_model(results)
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
        parts.append(summary(groups))
    for system in SYSTEMS:
        rows = {m: groups[system, m] for m in VARIANTS if (system, m) in groups}
        if rows:
            parts += [
                f"## {system}",
                errors(system, rows),
                latent(rows),
            ]
    parts += forecast(by_model(forecasts), groups)
    parts += extrapolation(groups)
    if results:
        parts += ["## What the runs were", settings(results)]
    return "\n\n".join(parts) + "\n"


def by_model(results: list[dict]) -> Groups:
    """The results of each system and model."""
    groups = {}
    for result in results:
        system = result["dataset"].partition("/")[0].removeprefix("physics_")
        groups.setdefault((system, result["model"]), []).append(result)
    return groups


def summary(groups: Groups) -> str:
    """Test FVU of every model on every system, the paper's in brackets."""
    lines = []
    for model in VARIANTS:
        cells = [
            _fvu(system, model, groups[system, model])
            if (system, model) in groups
            else ""
            for system in SYSTEMS
        ]
        if any(cells):
            lines.append([model, *cells])
    floors = []
    for system in SYSTEMS:
        of_system = [group for (of, _), group in groups.items() if of == system]
        floors.append(
            _yardstick(of_system[0], "noise_floor_fvu", "{:.3f}")
            if of_system
            else ""
        )
    lines += [["mean image", *["1"] * len(SYSTEMS)], ["noise floor", *floors]]
    return tables.markdown_table(["model", *SYSTEMS], lines)


def errors(system: str, rows: dict[str, list[dict]]) -> str:
    """Errors of a system's models, and of the yardsticks."""
    lines = []
    for model, results in rows.items():
        train, test = PAPER[model][SYSTEMS.index(system)]
        lines.append(
            [
                model + _mark(results),
                f"{_cell(results, 'train_mse_e4')} ({train})",
                f"{_cell(results, 'test_mse_e4')} ({test})",
                _fvu(system, model, results),
                _cell(results, "excess_mse_e4"),
                f"{np.mean([each['cpu_seconds'] for each in results]):.0f}",
            ]
        )
    first = next(iter(rows.values()))
    for name, title in _YARDSTICKS.items():
        test = _yardstick(first, f"{name}_mse_e4")
        lines.append([title, "", test, "", "", ""])
    return tables.markdown_table(_COLUMNS, lines)


def _fvu(system, model, results):
    """Ours, and the paper's error over that of its HNN row."""
    column = SYSTEMS.index(system)
    paper = PAPER[model][column][1] / PAPER["pixel_hnn"][column][1]
    return f"{_cell(results, 'test_fvu', '{:.3f}')} ({paper:.2f})"


def _mark(results):
    collapsed = sum(bool(each["metrics"]["collapsed"]) for each in results)
    if collapsed in (0, len(results)):
        return ", collapsed" if collapsed else ""
    return f", {collapsed} of {len(results)} collapsed"


def latent(rows: dict[str, list[dict]]) -> str:
    """What a system's models make of energy, time and its direction."""
    lines = [
        [
            model,
            *(_cell(results, name, form) for name, _, form in _LATENT),
            *(_cell(results, name) for name, _ in _SPEEDS),
        ]
        for model, results in rows.items()
    ]
    titles = [title for _, title, *_ in _LATENT + _SPEEDS]
    return tables.markdown_table(["model", *titles], lines)


def forecast(forecasts: Groups, groups: Groups) -> list[str]:
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
            lines.append([system, title, _yardstick(group, metric)])
    if not lines:
        return []
    return [
        "## 25 frames from the first 5",
        "An HGN that infers from 5 frames, and the pixel HNNs, which see two; "
        "errors of the 25 frames after them.",
        tables.markdown_table(["system", "model", "test MSE x 1e4"], lines),
    ]


def extrapolation(groups: Groups) -> list[str]:
    """What hgn_leapfrog draws of the split test_long, and the yardsticks."""
    lines = []
    for system in SYSTEMS:
        results = groups.get((system, "hgn_leapfrog"))
        if results is None:
            continue
        for name in ("model", *_YARDSTICKS):
            infix = "" if name == "model" else f"{name}_"
            cell = _cell if name == "model" else _yardstick
            cells = [
                cell(results, f"long_{infix}mse_e4_at_{frames}", "{:.1f}")
                for frames in _LONG_FRAMES
            ]
            suffix = "" if name == "model" else f"_{name}"
            time = f"valid_prediction_time{suffix}"
            title = _YARDSTICKS.get(name, "hgn_leapfrog")
            cells.append(cell(results, time, "{:.0f}"))
            lines.append([system, title, *cells])
    if not lines:
        return []
    return [
        "## Far past the training horizon",
        "Split test_long: errors over the first 60, 120 and 240 frames, and "
        "the first frame after the thirtieth whose error passes 0.025 of the "
        "picture's square, the valid time, as a median; 30 is at once. The "
        "noise floor's is the most to hope for: where noise alone passes the "
        "threshold, the valid time tells nothing.",
        tables.markdown_table(
            ["system", "model", "60 frames", "120", "240", "valid time"], lines
        ),
    ]


def settings(results: list[dict]) -> str:
    """A line on what all runs share, and one on each model."""
    config = results[0]["config"]
    lines = [
        f"- Budget `{results[0]['budget']}`, every run: "
        f"{config['num_steps']:,} steps of {config['batch_size']} videos, the "
        "same ones in the same order"
        + (", half of them last frame first" * config["reversed_videos"])
        + "; Adam with a warm-up of "
        f"{config['warmup_steps']} steps and a cosine to "
        f"{config['final_learning_rate']} of its rate.",
    ]
    configs = {each["model"]: each["config"] for each in results}
    for model in VARIANTS:
        if model in configs:
            lines.append(f"- {model}: {_line(configs[model])}")
    if results[0]["budget"] == "cpu":
        lines += _DEPARTURES
    return "\n".join(lines)


def _line(config):
    text = (
        f"networks `{config['form']}`, learning rate {config['learning_rate']}"
    )
    if config["form"] == "conv":
        text += f", {config['filters']} filters"
    if config["model"] == "pixel_hnn":
        return f"{text}; a step takes one pair of pairs from each video."
    decoded = config["num_decoded_frames"] or "all"
    if config["form"] == "flat":
        start = "grey" if config["grey_start"] else "random"
        text += f", from {start} frames"
    return (
        f"{text}, GECO's tolerance {config['tolerance']} above the noise floor "
        f"and its multiplier at most {config['geco_limit']:g}, "
        f"{config['integrator']}, f_psi "
        f"{config['state_net']}, "
        f"sampling {config['sample']}; a step decodes {decoded} frames, from "
        f"a horizon that grows over {config['curriculum_steps']} steps."
    )


def _cell(results, name, form="{:.2f}"):
    values = [each["metrics"].get(name) for each in results]
    finite = [value for value in values if value is not None]
    if not finite:
        return ""
    text = form.format(np.mean(finite))
    if len(values) == 1:
        error = results[0]["metrics"].get(f"{name}_stderr")
        return text if error is None else f"{text} +- {error:.1g}"
    if len(finite) > 1:
        text += f" +- {np.std(finite, ddof=1):.1g}"
    missing = len(values) - len(finite)
    return f"{text}, {missing} without" if missing else text


def _yardstick(results, name, form="{:.2f}"):
    """A cell of what is the same for every seed of a model."""
    return _cell(results[:1], name, form)
