"""The tables of Neural Hamiltonian Flows: every density, model and seed.

A finished run leaves its JSON and is not done again, and a run that was
stopped goes on from its checkpoint.
"""

import pathlib
from collections.abc import Iterator

from hgn_tf.animation import write_whole
from hgn_tf.densities import get_density
from hgn_tf.experiments import nhf_fit, run_folder
from hgn_tf.experiments.nhf_models import TABLES

DENSITIES = (
    "two_gaussians",
    "four_gaussians",
    "nine_gaussians",
    "two_moons",
    "rings",
    "checkerboard",
)


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
      table: A key of `nhf_models.TABLES`.
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
        if run_folder.read_result(path, config) is None:
            result = run_folder.in_own_process(
                nhf_fit.fit_density,
                *(config, runs_dir / name, table, 0, shown),
            )
            results_dir.mkdir(parents=True, exist_ok=True)
            if shown and config.kind == "nhf":
                figure = (runs_dir / name / "figure9.png").read_bytes()
                write_whole(results_dir / f"{name}-figure9.png", figure)
            run_folder.write_json(path, result)
        yield run_folder.read_result(path, config)


def configs(
    densities: list[str] | None,
    num_seeds: int,
    models: list[str] | None,
    table: str,
) -> list[nhf_fit.Config]:
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
        nhf_fit.make_config(density, model, seed)
        for seed in range(num_seeds)
        for density in densities or DENSITIES
        for model, row in rows.items()
        if model in (models or rows)
        and (row.densities is None or density in row.densities)
    ]
