"""Table 1 of the HGN paper: six models on four systems.

All models of a table get the same number of steps, batches of the same videos,
and a budget's schedule. A table that was stopped goes on where it was.
"""

import pathlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from hgn_tf.evaluation import (
    LONG_FRAMES,
    METRICS,
    SPEEDS,
    YARDSTICKS,
    error_key,
)
from hgn_tf.experiments import runs, tables
from hgn_tf.experiments.hgn import train
from hgn_tf.experiments.hgn.config import (
    BUDGETS,
    DATASETS,
    FORECAST,
    SYSTEMS,
    TABLES,
    VARIANTS,
    Config,
    check_forms,
    make_config,
    of_form,
    of_systems,
)
from hgn_tf.experiments.hgn.figures import write_figures
from hgn_tf.experiments.runs import Result
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

# What the runs of a row differ in.
VARYING = ("seed", "dataset")

# The results of the seeds of each system and model.
Groups = dict[tuple[str, str], list[Result]]

_ERRORS = ("train_mse_e4", "test_mse_e4", "test_fvu", "excess_mse_e4")
_LATENT = (
    "energy_r2",
    "energy_rank",
    "energy_drift",
    "energy_variance_share",
    "reversibility_error",
    "gradient_norm_share",
    "drawn_change",
    *(speed.metric for name, speed in SPEEDS.items() if name != "forward"),
)
# What a budget does not do as the paper says, and is not said by the settings.
# The steps of the paper's HGN are not published.
_PAPER_RUNS = (
    "- The paper trains on 50,000 videos, here on 20,000; HGN with Adam at a "
    "constant 1.5e-4 on all 30 frames, the pixel HNN at 1e-3 for 15,000 steps "
    "of 64 pairs."
)
_PIXEL_HNN = (
    "- The pixel HNN's weight decay leaves out H, which it took to 0. The conv "
    "form has 64 filters in the paper, and a sigmoid after each block, with "
    "which it stayed at the mean image."
)
_FLAT = (
    "- The paper's HGN is convolutional, 64 filters on q and p of 4x4x16, with "
    "a learned K(p). `flat` is MLPs on {}, K(p) = |p|^2 / 2, V(q) = |q|^2 / 2 "
    "+ net."
)
_DEPARTURES = {
    "cpu": (
        _PAPER_RUNS,
        _FLAT.format("as many numbers as the system has degrees of freedom"),
    ),
    "flat": (
        _PAPER_RUNS,
        _FLAT.format("16 numbers, whatever the system"),
        "- Agreement between windows, positions that a frame shows, a state "
        "amid its window, energies of sines and Muon are not in the paper.",
    ),
    "far": (
        "- The paper trains on 50,000 videos of 30 frames, here on 5,000 of "
        "120. The train errors are those of all 120 frames.",
        "- Rollouts of three bodies, which part exponentially, have 35 steps. "
        "Three bodies leave the picture, so their first 60 frames alone are "
        "trained on. Their tolerance is above the floor of all 120 frames, "
        "which is below that of the first 60. No isometry is asked of them, "
        "and their energies have softplus.",
        _FLAT.format("16 numbers, whatever the system"),
        "- Agreement between windows, positions that a frame shows, a state "
        "amid its window, steps that change the picture evenly, rollouts that "
        "grow, energies of sines and Muon are not in the paper.",
    ),
    "conv": (
        _PAPER_RUNS,
        "- The paper's HGN has 64 filters, a sigmoid after each block of the "
        "decoder, energies without |x|^2 / 2, and no grey start.",
        "- The mass-spring and the pendulum have K = |p|^2 / 2, energies of "
        "sines and isometry 3. With one degree of freedom a learned K leaves "
        "the energy open. The others have a learned K, softplus and no "
        "isometry.",
        "- Of three bodies the weights of agreement and positions grow in "
        "between steps 1,000 and 2,000. Those of the others, and of isometry, "
        "grow between 200 and 800.",
        "- Agreement between windows, positions that a frame shows, a state "
        "amid its window, steps that change the picture evenly and energies "
        "of sines are not in the paper.",
    ),
}


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
    """Makes the missing runs of both tables; writes table1.md and JSON.

    The text shows all results of the budget that are there, whichever runs
    were asked for.

    Args:
      budget: A key of DATASETS.
      systems: Names in SYSTEMS; None for all.
      num_seeds: Number of seeds, 0 .. num_seeds - 1.
      models: Rows of VARIANTS and FORECAST; None for all. A table without such
        a row is left out.
      results_dir: Folder of table1.md, table1/ and table1_forecast/; of a
        budget other than cpu, table1_paper.md and so on.
      data_dir: TFDS's folder; None for its default.
      runs_dir: Folder of the runs' folders, under the same names.
      verbose: Verbosity of `model.fit`.
      figures: Whether to draw figures 6, 7 and 8 into table1/ too.
      progress: Callable that gets a line after each run.
      **changes: Settings of the budget, for the rows that read them.
    Returns: the tables as Markdown.
    Raises: ValueError: for an unknown budget, system, model or table, no
      seed, a run's folder of other settings, results of one model with
      several, figures of a run whose result alone is there, or figures of no
      row of table 1.
    """
    name = in_budget("table1", budget)
    runs.check_names("models", models or (), [*VARIANTS, *FORECAST])
    wanted = {
        table: [model for model in rows if model in (models or rows)]
        for table, rows in TABLES.items()
    }
    # Said before hours of training.
    _check_changes(budget, wanted, changes)
    for table, rows in wanted.items():
        runs.check_results(
            list_runs(budget, systems, num_seeds, rows, table, **changes),
            results_dir / in_budget(table, budget),
            VARYING,
            of_systems(budget),
        )
    if figures and not wanted["table1"]:
        raise ValueError(
            "Figures are of rows of table 1. Received: --figures and the "
            f"models {models}."
        )
    if figures:
        runs.check_drawable(
            list_runs(budget, systems, 1, wanted["table1"], **changes),
            results_dir / name,
            runs_dir / name,
            "evaluation.npz",
        )
    for table, rows in wanted.items():
        for result in run(
            budget,
            systems,
            num_seeds,
            rows,
            table,
            results_dir / in_budget(table, budget),
            runs_dir / in_budget(table, budget),
            data_dir,
            verbose,
            **changes,
        ):
            error, excess = (
                tables.spell(result.metrics[name], ".2f")
                for name in ("test_mse_e4", "excess_mse_e4")
            )
            progress(
                f"{table} {result.dataset} {result.model} seed {result.seed}: "
                f"test MSE {error}e-4, excess {excess}e-4"
            )
    results = read_results(results_dir, budget)
    text = format_tables(results["table1"], results["table1_forecast"])
    write_whole(results_dir / f"{name}.md", text.encode("utf-8"))
    for system in (systems or SYSTEMS) if figures else ():
        paths = write_figures(
            system,
            runs_dir / name,
            results_dir / name,
            wanted["table1"],
            data_dir,
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
) -> Iterator[Result]:
    """Yields the result of each run of a table, done now or before.

    Args:
      budget: A key of DATASETS.
      systems: Names in SYSTEMS; None for all.
      num_seeds: Number of seeds, 0 .. num_seeds - 1.
      models: Rows of the table; None for all.
      table: A key of TABLES.
      results_dir: Folder of the JSON of each run.
      runs_dir: Folder of the runs' folders, with model.keras and report.html.
      data_dir: TFDS's folder; None for its default.
      verbose: Verbosity of `model.fit`.
      **changes: Settings of the budget, for the rows that read them.
    Raises: ValueError: for an unknown budget, system, model or table, or no
      seed.
    """

    def make(row, folder):
        train.train(row.config, folder, data_dir, verbose=verbose)
        return train.evaluate(
            folder, data_dir, experiment=table, model_name=row.model
        )

    rows = list_runs(budget, systems, num_seeds, models, table, **changes)
    return runs.run_table(
        rows, make, results_dir, runs_dir, VARYING, of_systems(budget)
    )


def list_runs(
    budget: str,
    systems: list[str] | None,
    num_seeds: int,
    models: list[str] | None,
    table: str = "table1",
    **changes,
) -> list[runs.Run]:
    """The runs of a table; arguments and errors as in `run`."""
    runs.check_names("budget", [budget], DATASETS)
    runs.check_names("table", [table], TABLES)
    runs.check_names("systems", systems or (), SYSTEMS)
    rows = TABLES[table]
    models = list(rows) if models is None else models
    runs.check_names("models", models, rows)
    runs.check_settings(changes, Config)
    return runs.list_runs(
        {system: models for system in systems or SYSTEMS},
        num_seeds,
        lambda system, model, seed: make_config(
            DATASETS[budget].format(system),
            budget,
            **{
                "seed": seed,
                **rows[model],
                **of_form(changes, _form(budget, rows[model], changes)),
            },
        ),
    )


def _form(budget, row, changes):
    settings = BUDGETS[budget] | row | changes
    return settings.get("form", Config.form)


def _check_changes(budget, wanted, changes):
    """Some row reads each setting: said before hours of training."""
    runs.check_names("budget", [budget], DATASETS)
    runs.check_settings(changes, Config)
    forms = [
        _form(budget, TABLES[table][model], changes)
        for table, models in wanted.items()
        for model in models
    ]
    check_forms(changes, forms)


def in_budget(table: str, budget: str) -> str:
    """The name of a table's files and folders; the budget cpu is not named."""
    return table if budget == "cpu" else f"{table}_{budget}"


def read_results(
    results_dir: pathlib.Path, budget: str
) -> dict[str, list[Result]]:
    """Table -> results of a budget in its folder, in the order of names."""
    return {
        table: runs.read_results(
            results_dir / in_budget(table, budget),
            Config,
            VARYING,
            of_systems(budget),
        )
        for table in TABLES
    }


def format_tables(results: list[Result], forecasts: list[Result]) -> str:
    """Markdown of both tables.

    Args:
      results: Results of table 1.
      forecasts: Results of the forecast table.
    """
    groups = by_model(results)
    parts = [
        f"# Table 1, budget `{_budget(results)}`",
        f"Made by `{_command(results)}`. MSE is the mean squared error per "
        "pixel, times 1e4, over 30 frames inferred from all of them. FVU, the "
        "fraction of variance unexplained, is the test error over the mean "
        "image's. The paper's values are in brackets. Its videos differ from "
        "ours: compare rows, not digits. It gives no mean-image error, so its "
        "FVU is its test error over that of its HNN row, which drew little "
        "but the mean.",
        "The noise floor is the error of the expected frame given the true "
        "state, the best guess of a frame not seen. A model infers two numbers "
        "per degree of freedom from 30 noisy frames and fits some of their "
        "noise, so 0.93 of the floor can be reached. With more coordinates it "
        "can fit a little more.",
        'Each number is a mean over seeds. "+-" is the standard deviation '
        "over seeds; a number without it is of one seed, or of the data "
        "alone.",
    ]
    if results:
        parts.append(_summary(groups))
    for system in SYSTEMS:
        rows = {m: groups[system, m] for m in VARIANTS if (system, m) in groups}
        if rows:
            parts += [f"## {system}", _errors(system, rows), _latent(rows)]
    parts += _forecast(by_model(forecasts), groups)
    parts += _extrapolation(groups)
    if results:
        parts += ["## What the runs were", _describe_runs(results)]
    return "\n\n".join(parts) + "\n"


def _budget(results):
    return results[0].budget if results else "cpu"


def _command(results):
    budget = _budget(results)
    return "hgn-tf table hgn" + f" --budget {budget}" * (budget != "cpu")


def by_model(results: Sequence[Result]) -> Groups:
    """The results of each system and model, in their order."""
    groups: Groups = {}
    for result in results:
        system = result.dataset.partition("/")[0].removeprefix("physics_")
        groups.setdefault((system, result.model), []).append(result)
    return groups


def _cell(results, name):
    return tables.cell(results, name, METRICS[name])


def _summary(groups):
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
            _cell(of_system[0], "noise_floor_fvu") if of_system else ""
        )
    lines += [["mean image", *["1"] * len(SYSTEMS)], ["noise floor", *floors]]
    return tables.markdown_table(["model", *SYSTEMS], lines)


def _errors(system, rows):
    """Errors of a system's models, and of the yardsticks."""
    lines = []
    for model, results in rows.items():
        in_train, in_test = PAPER[model][SYSTEMS.index(system)]
        lines.append(
            [
                model + tables.mark_collapsed(results),
                f"{_cell(results, 'train_mse_e4')} ({in_train})",
                f"{_cell(results, 'test_mse_e4')} ({in_test})",
                _fvu(system, model, results),
                _cell(results, "excess_mse_e4"),
                f"{np.mean([result.cpu_seconds for result in results]):.0f}",
            ]
        )
    first = next(iter(rows.values()))
    for name, title in YARDSTICKS.items():
        lines.append([title, "", _cell(first, error_key(name)), "", "", ""])
    titles = ["model", *tables.titles(_ERRORS, METRICS), "CPU-s"]
    return tables.markdown_table(titles, lines)


def _fvu(system, model, results):
    """Ours, and the paper's error over that of its HNN row."""
    column = SYSTEMS.index(system)
    paper = PAPER[model][column][1] / PAPER["pixel_hnn"][column][1]
    return f"{_cell(results, 'test_fvu')} ({paper:.2f})"


def _latent(rows):
    """What a system's models make of energy, time and its direction."""
    # A measure that is younger than all of the results has no column.
    names = [
        name
        for name in _LATENT
        if any(
            name in each.metrics for group in rows.values() for each in group
        )
    ]
    lines = [
        [model, *tables.cells(results, names, METRICS)]
        for model, results in rows.items()
    ]
    titles = ["model", *tables.titles(names, METRICS)]
    return tables.markdown_table(titles, lines)


def _forecast(forecasts, groups):
    """25 frames from the first 5: rows of both tables that see no more."""
    lines = []
    for system in SYSTEMS:
        rows = {
            model: group
            for (of, model), group in {**forecasts, **groups}.items()
            if of == system
            and all("forecast_mse_e4" in result.metrics for result in group)
        }
        for model, group in rows.items():
            lines.append(
                [
                    system,
                    model + tables.mark_collapsed(group),
                    _cell(group, "forecast_mse_e4"),
                ]
            )
        for name, title in YARDSTICKS.items() if rows else ():
            group = next(iter(rows.values()))
            title = title.replace("first", "last seen")
            key = error_key(name, "forecast")
            lines.append([system, title, _cell(group, key)])
    if not lines:
        return []
    return [
        "## 25 frames from the first 5",
        "An HGN that infers from 5 frames, and the pixel HNNs, which see two; "
        "errors of the 25 frames after them.",
        tables.markdown_table(
            ["system", "model", METRICS["forecast_mse_e4"].title], lines
        ),
    ]


def _extrapolation(groups):
    """What the models draw of the split test_long, and the yardsticks."""
    lines = []
    for system in SYSTEMS:
        rows = {m: groups[system, m] for m in VARIANTS if (system, m) in groups}
        for model, results in rows.items():
            keys = far_keys("model")
            lines.append([system, model, *tables.cells(results, keys, METRICS)])
        for name, title in YARDSTICKS.items() if rows else ():
            results = next(iter(rows.values()))
            keys = far_keys(name)
            lines.append([system, title, *tables.cells(results, keys, METRICS)])
    if not lines:
        return []
    return [
        "## Far past the training horizon",
        "Split test_long: errors over the first 60, 120 and 240 frames, and "
        "the valid time, as a median: the first frame after the thirtieth "
        "whose error passes 0.025 of the picture's square; 30 is at once. "
        "Where noise alone passes the threshold, the valid time tells nothing. "
        "The noise floor is that of somebody who knows the true state. What "
        "the true law reaches from noisy frames, which hide the state, is in "
        "the table of `hgn-tf table beyond`.",
        tables.markdown_table(
            [
                "system",
                "model",
                *(f"MSE x 1e4, {frames} frames" for frames in LONG_FRAMES),
                "valid time",
            ],
            lines,
        ),
    ]


def far_keys(predictor: str) -> list[str]:
    """Keys in METRICS of errors past the horizon, and of the valid time.

    Args:
      predictor: "model" or a key of YARDSTICKS.
    """
    key = error_key(predictor, "long")
    suffix = "" if predictor == "model" else f"_{predictor}"
    return [
        *(f"{key}_at_{frames}" for frames in LONG_FRAMES),
        f"valid_prediction_time{suffix}",
    ]


def _describe_runs(results):
    """A line on what all runs share, and one on each model."""
    config = results[0].config
    lines = [
        f"- Budget `{results[0].budget}`, every run: "
        f"{config['num_steps']:,} steps of {config['batch_size']} videos, the "
        "same ones in the same order"
        + (", half of them last frame first" * config["reversed_videos"])
        + "; a warm-up of "
        f"{config['warmup_steps']} steps and a cosine to "
        f"{config['final_learning_rate']} of its rate.",
    ]
    configs = {result.model: result.config for result in results}
    for model in VARIANTS:
        if model in configs:
            lines.append(f"- {model}: {_describe(configs[model])}")
    lines += _DEPARTURES.get(results[0].budget, ())
    if any(config["model"] == "pixel_hnn" for config in configs.values()):
        lines.append(_PIXEL_HNN)
    return "\n".join(lines)


def _describe(config):
    # Results of earlier versions have not all settings.
    optimizer = config.get("optimizer", "adam").capitalize()
    places = " of places" if config.get("keypoints") else ""
    text = f"networks `{config['form']}`, {optimizer} at a learning rate of "
    text += str(config["learning_rate"])
    if config["form"] in ("conv", "paper"):
        text += f", {config['filters']} filters"
    if config.get("num_frames"):
        text += f", the first {config['num_frames']} frames of a video"
    if config["model"] == "pixel_hnn":
        return f"{text}; a step takes one pair of pairs from each video."
    decoded = config["num_decoded_frames"] or "all"
    start = "grey" if config["grey_start"] else "random"
    text += f", from {start} frames, latent size "
    text += str(config["latent_size"] or "that of the system")
    if config["agreement"] or config["positions"]:
        text += (
            f", agreement {config['agreement']:g}, positions "
            f"{config['positions']:g}{places}, z at frame "
            f"{config.get('state_frame', 0)}, windows of at least "
            f"{config['shortest_window'] or config['num_inference_frames']} "
            f"frames, reversible {config['reversible']}, anchor "
            f"{config['anchor']}"
            + f", {config['rollout_steps']} steps from it"
            * bool(config["rollout_steps"])
            + (
                f" ({config['initial_rollout_steps']} until step "
                f"{config['rollout_from']}, and growing until step "
                f"{config['rollout_to']})"
            )
            * bool(config.get("initial_rollout_steps"))
        )
    if config.get("isometry"):
        text += f", isometry {config['isometry']:g}"
    if config.get("low_rank"):
        text += f", low rank {config['low_rank']:g}"
    bends = config.get("energy_activation", "softplus")
    if bends != "softplus" and config["form"] != "objects":
        text += f", energies of {bends}"
    return (
        f"{text}, GECO's tolerance {config['tolerance']} above the noise floor "
        f"and its multiplier at most {config['geco_limit']:g}, "
        f"{config['integrator']}, f_psi "
        f"{config['state_net']}, "
        f"sampling {config['sample']}; a step decodes {decoded} frames, from "
        f"a horizon that grows over {config['curriculum_steps']} steps."
    )
