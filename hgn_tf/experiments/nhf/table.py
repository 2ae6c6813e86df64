"""The tables of Neural Hamiltonian Flows: every density, model and seed."""

import pathlib
from collections.abc import Callable, Iterator

import numpy as np

from hgn_tf.densities import DENSITIES as ALL_DENSITIES
from hgn_tf.experiments import runs, tables
from hgn_tf.experiments.nhf import train
from hgn_tf.experiments.nhf.config import TABLES, Config, make_config
from hgn_tf.experiments.nhf.measures import METRICS
from hgn_tf.experiments.runs import Result
from hgn_tf.files import write_whole

DENSITIES = (
    "two_gaussians",
    "four_gaussians",
    "nine_gaussians",
    "two_moons",
    "rings",
    "checkerboard",
)
# Those of the table first.
_ORDER = list(dict.fromkeys([*DENSITIES, *ALL_DENSITIES]))
_COSTS = (
    "parameters",
    "cpu_ms_per_step",
    "sample_seconds",
    "log_prob_seconds",
    "effective_samples",
    "grid_mass",
)
_COUNTS = ("dropped_steps", "nonfinite_losses", "nonfinite")
_MINIMA = ("minima", "modes", "mode_distance", "minimum_distance")
_CHOICES = {
    "nhf_table": (
        "Sizes and learning rates were chosen on rings: of RealNVP among 12 "
        "settings, of MAF among 4, of nhf_best among some 20, by seed 0 or 1; "
        "prior and learning rate of nhf_paper among 4, on nine Gaussians; step "
        "and prior of nhf_fixed_kinetic among some 6, by where the minima of "
        "its V lay. On the checkerboard nhf_best has oval bumps and a spline "
        "posterior, chosen there among 6 by half the steps. All else is of "
        "the first try.",
    ),
    "nhf_study": (
        "The paper's form, with N(0, 1) as the prior and a learning rate of "
        "1e-3, of which one thing at a time is changed.",
    ),
}
_TITLES = {
    "nhf_table": "Neural Hamiltonian Flows beside the usual flows",
    "nhf_study": "What the gap of a Neural Hamiltonian Flow depends on",
}


def make_tables(
    densities: list[str] | None = None,
    num_seeds: int = 3,
    models: list[str] | None = None,
    results_dir: pathlib.Path = pathlib.Path("results"),
    runs_dir: pathlib.Path = pathlib.Path("runs"),
    table: str = "nhf_table",
    progress: Callable[[str], None] = lambda line: None,
) -> str:
    """Makes the missing runs; writes <table>.md and <table>/*.json.

    The text shows all results that are there, whichever were asked for.

    Args:
      densities: Keys of `densities.DENSITIES`; None for all of the table.
      num_seeds: Number of seeds, 0 .. num_seeds - 1.
      models: Rows of the table; None for all.
      results_dir: Folder of the results.
      runs_dir: Folder of the models and their figures, in <table>.
      table: "nhf_table", or "nhf_study" for the study of what matters.
      progress: Callable that gets a line after each run.
    Returns: The tables as Markdown.
    """
    for result in run(
        densities,
        num_seeds,
        models,
        table,
        results_dir / table,
        runs_dir / table,
    ):
        gap, error = (
            tables.spell(result.metrics[name], ".4f")
            for name in ("gap_nats", "gap_nats_stderr")
        )
        progress(
            f"{result.dataset} {result.model} seed {result.seed}: gap {gap} "
            f"(s.e. {error}) nats, "
            f"{result.metrics['cpu_ms_per_step']:.2f} CPU ms a step"
        )
    results = runs.read_results(results_dir / table, Config, ("seed",))
    text = format_tables(results, table) + "\n"
    write_whole(results_dir / f"{table}.md", text.encode("utf-8"))
    return text


def run(
    densities: list[str] | None = None,
    num_seeds: int = 3,
    models: list[str] | None = None,
    table: str = "nhf_table",
    results_dir: pathlib.Path = pathlib.Path("results/nhf_table"),
    runs_dir: pathlib.Path = pathlib.Path("runs/nhf_table"),
) -> Iterator[Result]:
    """Yields the result of each run of a table, done now or before.

    Args:
      densities: Keys of `densities.DENSITIES`; None for all of the table.
      num_seeds: Number of seeds, 0 .. num_seeds - 1.
      models: Rows of the table; None for all.
      table: A key of `config.TABLES`.
      results_dir: Where the JSON of each run goes, and for nhf_table figure 9
        of the NHF of seed 0.
      runs_dir: Where the folder of each run goes, with its model.keras; those
        of seed 0 of nhf_table have their figure9.png too.
    Raises: ValueError: for an unknown density, model or table, or no seed.
    """

    def make(row, folder):
        shown = table == "nhf_table" and row.config.seed == 0
        result = runs.in_own_process(
            train.train_and_score, row.config, folder, table, 0, shown
        )
        if shown and row.config.kind == "nhf":
            results_dir.mkdir(parents=True, exist_ok=True)
            figure = (folder / "figure9.png").read_bytes()
            write_whole(results_dir / f"{row.name}-figure9.png", figure)
        return result

    rows = list_runs(densities, num_seeds, models, table)
    return runs.run_table(rows, make, results_dir, runs_dir)


def list_runs(
    densities: list[str] | None,
    num_seeds: int,
    models: list[str] | None,
    table: str,
) -> list[runs.Run]:
    """The runs of a table; arguments and errors as in `run`."""
    runs.check_names("table", [table], TABLES)
    rows = TABLES[table]
    known = [
        density
        for density in _ORDER
        if any(density in (row.densities or _ORDER) for row in rows.values())
    ]
    runs.check_names("densities", densities or (), known)
    runs.check_names("models", models or (), rows)
    return runs.list_runs(
        {
            density: [
                model
                for model in rows
                if density in (rows[model].densities or [density])
            ]
            for density in densities or DENSITIES
        },
        num_seeds,
        make_config,
        models,
    )


def format_tables(results: list[Result], table: str = "nhf_table") -> str:
    """Markdown: gaps to the entropy, costs, and minima of the potential.

    Args:
      results: Results of runs.
      table: A key of `config.TABLES`.
    """
    rows, columns = list(TABLES[table]), _ORDER
    results = sorted(
        (result for result in results if result.model in rows),
        key=lambda result: (
            columns.index(result.dataset),
            rows.index(result.model),
            result.seed,
        ),
    )
    config = results[0].config
    parts = [
        f"# {_TITLES[table]}",
        "Made by `hgn-tf table nhf"
        f"{' --study' if table == 'nhf_study' else ''}`: "
        f"{config['num_steps']:,} steps of {config['batch_size']} fresh "
        f"points. Each number is a mean over {tables.describe_seeds(results)}. "
        '"+-" is the standard deviation over seeds; a number without it is of '
        f"one seed. The JSON of each run is in `{table}/`.",
        *_CHOICES.get(table, ()),
        "## Gap to the entropy, in nats",
        "E[ln p - ln p_model] on "
        f"{config['num_points']:,} test points; 0 is perfect. The density of "
        "an NHF is taken by importance sampling, "
        f"{config['num_samples']:,} momenta per point, on "
        f"{config['num_bound_points']:,} of the points, since that costs so "
        "many times more.",
        _matrix(results, "gap_nats"),
    ]
    bounds = _having(results, "gap_elbo_nats")
    if bounds:
        parts += [
            "The same of the evidence lower bound, which is what an NHF is "
            "trained on:",
            _matrix(bounds, "gap_elbo_nats"),
        ]
    parts += ["## Costs", "Means over densities and seeds.", _costs(results)]
    with_minima = _having(results, "minima")
    if with_minima:
        parts += [
            "## Minima of the learned potential",
            "V(q) of the last Hamiltonian, minimised from a lattice of "
            "starts; a mode is found if a minimum is within 0.1. Where K(p) "
            "is learned the samples are right without such minima. Seeds "
            "without a minimum have no distances, and are counted as "
            '"without".',
            _minima(with_minima),
        ]
    return "\n\n".join(parts)


def _having(results, name):
    return [result for result in results if name in result.metrics]


def _matrix(results, name):
    """One row per model, one column per density."""
    densities = _unique(result.dataset for result in results)
    rows = []
    for model in _unique(result.model for result in results):
        cells = [
            tables.cell(_of(results, model, density), name, METRICS[name])
            for density in densities
        ]
        rows.append([model, *cells])
    return tables.markdown_table(["model", *densities], rows)


def _costs(results):
    reference = _of(results, "realnvp")
    titles = ["model", *tables.titles(_COSTS + _COUNTS, METRICS)]
    if reference:
        titles.append("CPU per step / RealNVP's")
    rows = []
    for model in _unique(result.model for result in results):
        of_model = _of(results, model)
        cells = tables.cells(of_model, _COSTS, METRICS, spread=False)
        cells += [f"{sum(_values(of_model, name)):.0f}" for name in _COUNTS]
        if reference:
            step, theirs = (
                np.mean(_values(group, "cpu_ms_per_step"))
                for group in (of_model, reference)
            )
            cells.append(f"{step / theirs:.2f}")
        rows.append([model, *cells])
    return tables.markdown_table(titles, rows)


def _minima(results):
    rows = []
    for density in _unique(result.dataset for result in results):
        for model in _unique(result.model for result in results):
            seeds = _of(results, model, density)
            if seeds:
                cells = tables.cells(seeds, _MINIMA, METRICS)
                rows.append([density, model, *cells])
    titles = ["density", "model", *tables.titles(_MINIMA, METRICS)]
    return tables.markdown_table(titles, rows)


def _of(results, model, density=None):
    return [
        result
        for result in results
        if result.model == model and density in (None, result.dataset)
    ]


def _unique(names):
    return list(dict.fromkeys(names))


def _values(results, name):
    """The values of the runs that have one."""
    values = [result.metrics.get(name) for result in results]
    return [value for value in values if value is not None]
