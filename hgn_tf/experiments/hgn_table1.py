"""Table 1 of the HGN paper: six models on four systems.

A finished run leaves its JSON and is not done again, and a run that was
stopped goes on from its checkpoint. All models of a table get the same number
of steps, batches of the same videos, and a budget's schedule.
"""

import pathlib
from collections.abc import Iterator

from hgn_tf.experiments import run_folder, train_hgn
from hgn_tf.experiments.hgn_models import Config, make_config

SYSTEMS = ("mass_spring", "pendulum", "two_body", "three_body")
# Paper: 50,000 videos of a system. Here for the budget cpu: 20,000 of them.
DATASETS = {"cpu": "physics_{}/small", "paper": "physics_{}"}

# What a model changes in the budget.
VARIANTS = {
    "hgn_leapfrog": {},
    "hgn_euler": {"integrator": "euler"},
    "hgn_determ": {"sample": False},
    "hgn_no_fpsi": {"state_net": False},
    # A.3: HNN's own learning rate, and HGN's for the convolutional form.
    "pixel_hnn": {
        "model": "pixel_hnn",
        "form": "dense",
        "learning_rate": 1e-3,
    },
    "pixel_hnn_conv": {"model": "pixel_hnn", "form": "conv"},
}
# The second table: 25 frames from the first 5. A pixel HNN sees two in either.
FORECAST = {"hgn_leapfrog": {"num_inference_frames": 5}}
TABLES = {"table1": VARIANTS, "table1_forecast": FORECAST}

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
        if run_folder.read_result(path, config) is None:
            train_hgn.train(config, runs_dir / name, data_dir, 1, verbose)
            result = train_hgn.evaluate(
                runs_dir / name, data_dir, experiment=table, model_name=model
            )
            results_dir.mkdir(parents=True, exist_ok=True)
            run_folder.write_json(path, result)
        yield run_folder.read_result(path, config)


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
