"""The tables of Neural Hamiltonian Flows: every density, model and seed.

A finished run leaves its JSON and is not done again, and a run that was
stopped goes on from its checkpoint.
"""

import pathlib
from collections.abc import Callable, Iterator

import numpy as np

from hgn_tf.densities import get_density
from hgn_tf.experiments import runs, tables
from hgn_tf.experiments.nhf import train
from hgn_tf.experiments.nhf.config import TABLES, Config, make_config
from hgn_tf.files import write_whole

DENSITIES = (
    "two_gaussians",
    "four_gaussians",
    "nine_gaussians",
    "two_moons",
    "rings",
    "checkerboard",
)


_COSTS = (
    ("parameters", "parameters", "{:.0f}"),
    ("cpu_ms_per_step", "CPU ms a step", "{:.2f}"),
    ("sample_seconds", "10,000 samples (CPU s)", "{:.3f}"),
    ("log_prob_seconds", "ln p of 10,000 (CPU s)", "{:.3g}"),
    ("effective_samples", "effective samples", "{:.0f}"),
    ("grid_mass", "mass on the grid", "{:.4f}"),
)


_COUNTS = (
    ("dropped_steps", "dropped steps"),
    ("nonfinite_losses", "losses not finite"),
    ("nonfinite", "ln p not finite"),
)


_MINIMA = (
    ("minima", "minima", "{:.1f}"),
    ("modes", "modes", "{:.0f}"),
    ("mode_distance", "farthest mode from its minimum", "{:.3f}"),
    ("minimum_distance", "farthest minimum from its mode", "{:.3f}"),
)


_CHOICES = {
    "nhf_table": (
        "Sizes and learning rates were chosen on rings: of RealNVP among 12 "
        "settings, of MAF among 4, of nhf_best among some 20, by seed 0 or 1; "
        "prior and learning rate of nhf_paper among 4, on nine Gaussians; step "
        "and prior of nhf_fixed_kinetic among some 6, by where the minima of "
        "its V lay. All else is of the first try.",
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
    """Runs what is not done yet; writes <table>.md and <table>/*.json.

    The text is made of all results that are there, whichever were asked for.

    Args:
      densities: Keys of `densities.DENSITIES`; None for all of the table.
      num_seeds: Seeds 0 .. num_seeds - 1.
      models: Rows of the table; None for all.
      results_dir: Where the results go.
      runs_dir: Where the models and their figures go, in <table>.
      table: "nhf_table", or "nhf_study" for the study of what matters.
      progress: Told a line a run.
    Returns: the tables as Markdown.
    """
    for result in run(
        densities,
        num_seeds,
        models,
        table,
        results_dir / table,
        runs_dir / table,
    ):
        metrics = result["metrics"]
        progress(
            f"{result['dataset']} {result['model']} seed {result['seed']}: "
            f"gap {metrics['gap_nats']:.4f} +- "
            f"{metrics['gap_nats_stderr']:.4f} nats, "
            f"{metrics['cpu_ms_per_step']:.2f} CPU ms a step"
        )
    results = runs.read_results(results_dir / table)
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
) -> Iterator[dict]:
    """Yields the result of each run of a table, done now or before.

    Args:
      densities: Keys of `densities.DENSITIES`; None for all of the table.
      num_seeds: Seeds 0 .. num_seeds - 1.
      models: Rows of the table; None for all.
      table: A key of `config.TABLES`.
      results_dir: One JSON a run, <density>-<model>-<seed>.json, and of
        nhf_table figure 9 of the NHF of seed 0.
      runs_dir: One folder a run, with its model.keras; those of seed 0 of
        nhf_table with their figure9.png too.
    Raises: ValueError: for an unknown density, model or table, or no seed.
    """
    for config in configs(densities, num_seeds, models, table):
        name = f"{config.density}-{config.model}-{config.seed}"
        path = results_dir / f"{name}.json"
        shown = table == "nhf_table" and config.seed == 0
        if runs.read_result(path, config) is None:
            result = runs.in_own_process(
                train.fit_density,
                *(config, runs_dir / name, table, 0, shown),
            )
            results_dir.mkdir(parents=True, exist_ok=True)
            if shown and config.kind == "nhf":
                figure = (runs_dir / name / "figure9.png").read_bytes()
                write_whole(results_dir / f"{name}-figure9.png", figure)
            runs.write_json(path, result)
        yield runs.read_result(path, config)


def configs(
    densities: list[str] | None,
    num_seeds: int,
    models: list[str] | None,
    table: str,
) -> list[Config]:
    """The runs of a table in their order: all of a seed before the next.

    Arguments and errors as in `run`.
    """
    if table not in TABLES:
        raise ValueError(
            f"`table` must be one of {list(TABLES)}. Received: {table!r}."
        )
    rows = TABLES[table]
    unknown = sorted(set(models or ()) - set(rows))
    if unknown or num_seeds < 1:
        raise ValueError(
            f"A model must be one of {list(rows)}, and there must be a "
            f"seed. Received: {unknown} and {num_seeds} seeds."
        )
    for density in densities or ():
        get_density(density)
    return [
        make_config(density, model, seed)
        for seed in range(num_seeds)
        for density in densities or DENSITIES
        for model, row in rows.items()
        if model in (models or rows)
        and (row.densities is None or density in row.densities)
    ]


def format_tables(results: list[dict], table: str = "nhf_table") -> str:
    """Markdown: gaps to the entropy, costs, and minima of the potential.

    Args:
      results: Of runs, as their JSON files have them.
      table: A key of `config.TABLES`.
    """
    rows, columns = list(TABLES[table]), list(DENSITIES)
    results = sorted(
        (result for result in results if result["model"] in rows),
        key=lambda each: (
            columns.index(each["dataset"]),
            rows.index(each["model"]),
            each["seed"],
        ),
    )
    config = results[0]["config"]
    seeds = len({result["seed"] for result in results})
    parts = [
        f"# {_TITLES[table]}",
        "Made by `hgn-tf nhf-table"
        f"{' --study' if table == 'nhf_study' else ''}`: "
        f"{config['num_steps']:,} steps of {config['batch_size']} fresh "
        f"points. Means over {seeds} seed{'s' if seeds > 1 else ''}, +- the "
        f"standard error over them; JSON of each run in `{table}/`. A number "
        "without +- is of one seed.",
        *_CHOICES.get(table, ()),
        "## Gap to the entropy, in nats",
        "E[ln p - ln p_model] on "
        f"{config['num_points']:,} test points; 0 is perfect. Of an NHF by "
        f"importance sampling, {config['num_samples']:,} momenta a point, on "
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
            "is learned the samples are right without such minima.",
            _minima(with_minima),
        ]
    return "\n\n".join(parts)


def _having(results, name):
    return [result for result in results if name in result["metrics"]]


def _matrix(results, name):
    """A row a model, a column a density."""
    densities = _unique(results, "dataset")
    rows = []
    for model in _unique(results, "model"):
        cells = [
            _cell(_of(results, model, density), name) for density in densities
        ]
        rows.append([model, *cells])
    return tables.markdown_table(["model", *densities], rows)


def _costs(results):
    reference = _of(results, "realnvp")
    titles = ["model", *(title for _, title, _ in _COSTS)]
    titles += [title for _, title in _COUNTS]
    if reference:
        titles.append("a step, over RealNVP's")
    rows = []
    for model in _unique(results, "model"):
        of_model = _of(results, model)
        cells = [
            _mean_text(of_model, name, text) for name, _, text in _COSTS
        ] + [f"{sum(_values(of_model, name)):.0f}" for name, _ in _COUNTS]
        if reference:
            step, theirs = (
                np.mean(_values(runs, "cpu_ms_per_step"))
                for runs in (of_model, reference)
            )
            cells.append(f"{step / theirs:.2f}")
        rows.append([model, *cells])
    return tables.markdown_table(titles, rows)


def _minima(results):
    rows = []
    for density in _unique(results, "dataset"):
        for model in _unique(results, "model"):
            seeds = _of(results, model, density)
            if seeds:
                cells = [
                    _mean_text(seeds, name, text) for name, _, text in _MINIMA
                ]
                rows.append([density, model, *cells])
    return tables.markdown_table(
        ["density", "model", *(t for _, t, _ in _MINIMA)], rows
    )


def _of(results, model, density=None):
    return [
        result
        for result in results
        if result["model"] == model and density in (None, result["dataset"])
    ]


def _unique(results, name):
    return list(dict.fromkeys(result[name] for result in results))


def _values(results, name):
    """Of the runs that have it; null in the JSON is none."""
    values = [result["metrics"].get(name) for result in results]
    return [value for value in values if value is not None]


def _mean_text(results, name, text):
    values = _values(results, name)
    return text.format(np.mean(values)) if values else ""


def _cell(results, name):
    values = _values(results, name)
    if not values:
        return ""
    text = f"{np.mean(values):.3f}"
    if len(values) > 1:
        error = np.std(values, ddof=1) / np.sqrt(len(values))
        text += f" +- {error:.3f}"
    return text
