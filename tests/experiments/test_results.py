"""The results of the project: complete, and the tables are made of them."""

import pathlib
import runpy

import pytest

from hgn_tf.experiments import runs
from hgn_tf.experiments.hgn import beyond
from hgn_tf.experiments.hgn import config as hgn_config
from hgn_tf.experiments.hgn import study as hgn_study
from hgn_tf.experiments.hgn import table as hgn_table
from hgn_tf.experiments.hnn import config as hnn_config
from hgn_tf.experiments.hnn import table as hnn_table
from hgn_tf.experiments.nhf import config as nhf_config
from hgn_tf.experiments.nhf import real as nhf_real
from hgn_tf.experiments.nhf import table as nhf_table

ROOT = pathlib.Path(__file__).parent.parent.parent
RESULTS = ROOT / "results"


def table_1(budget):
    return hgn_table.format_tables(
        *hgn_table.read_results(RESULTS, budget).values()
    )


def study(name):
    return hgn_study.format_study(name, hgn_study.read_study(name, RESULTS))


def far_and_new():
    folder = RESULTS / "beyond"
    return beyond.format_beyond(beyond.read_results(folder))


def hnn():
    results = runs.read_results(
        RESULTS / "hnn_table", hnn_config.Config, ("seed",)
    )
    return hnn_table.format_tables(results) + "\n"


def nhf(name):
    results = runs.read_results(RESULTS / name, nhf_config.Config, ("seed",))
    return nhf_table.format_tables(results, name) + "\n"


def real():
    return nhf_real.format_tables(nhf_real.read_results(RESULTS)) + "\n"


@pytest.fixture(scope="module")
def faults():
    """What the script of `make faults` defines."""
    return runpy.run_path(str(ROOT / "benchmarks" / "faults.py"))


@pytest.mark.parametrize(
    "name, text",
    [
        ("table1", lambda: table_1("cpu")),
        ("table1_flat", lambda: table_1("flat")),
        ("table1_far", lambda: table_1("far")),
        ("table1_conv", lambda: table_1("conv")),
        ("ablation", lambda: study("ablation")),
        ("clean", lambda: study("clean")),
        ("beyond", far_and_new),
        ("hnn_table", hnn),
        ("nhf_table", lambda: nhf("nhf_table")),
        ("nhf_study", lambda: nhf("nhf_study")),
        ("nhf_real", real),
    ],
)
def test_tables_are_what_the_results_give(name, text):
    assert (RESULTS / f"{name}.md").read_text("utf-8") == text()


def hgn_runs(name):
    return hgn_table.list_runs("cpu", None, 1, None, name)


def hnn_runs():
    rows = {task: hnn_config.models_of(task) for task in hnn_config.TASKS}
    return runs.list_runs(rows, 3, hnn_config.make_config)


def real_runs():
    """Those that are done: of the others the table has empty cells."""
    found = runs.read_results(RESULTS / "nhf_real", nhf_real.Config, ("seed",))
    return [
        runs.Run(
            result.dataset,
            result.model,
            nhf_real.make_config(result.dataset, result.model, result.seed),
        )
        for result in found
    ]


@pytest.mark.parametrize(
    "name, rows",
    [
        ("table1", lambda: hgn_runs("table1")),
        ("table1_forecast", lambda: hgn_runs("table1_forecast")),
        ("hnn_table", hnn_runs),
        ("nhf_table", lambda: nhf_table.list_runs(None, 3, None, "nhf_table")),
        ("nhf_study", lambda: nhf_table.list_runs(None, 1, None, "nhf_study")),
        ("nhf_real", real_runs),
    ],
)
def test_a_table_has_nothing_left_to_run(name, rows):
    """A setting that changes would have the table trained again."""
    missing = [
        run.name
        for run in rows()
        if runs.find_result(RESULTS / name / f"{run.name}.json", run.config)
        is None
    ]
    assert not missing


def test_pictures_that_move_are_small():
    sizes = {path.name: path.stat().st_size for path in RESULTS.rglob("*.gif")}
    assert sizes and max(sizes.values()) < 500_000, sizes


def test_no_fault_lost_anything(faults):
    folder = RESULTS / "faults"
    found = runs.read_results(folder, faults["Config"], ("count", "seed"))
    assert not [x for x in found if x.metrics["lost"] != 0]
    rows = {(run.group, run.model): run.config for run in faults["list_rows"]()}
    assert len(found) == len(rows)
    for each in found:
        count = rows[each.dataset, each.model].count
        assert each.config["count"] == count <= each.metrics["faults"]
    text = (RESULTS / "faults.md").read_text("utf-8")
    assert text == faults["format_table"](found)


@pytest.mark.parametrize(
    "path",
    sorted((RESULTS / "train_hgn").glob("*.json")),
    ids=lambda path: path.stem,
)
def test_a_run_that_is_shown_has_the_settings_of_its_budget(path):
    result = runs.read_result(path)
    config = hgn_config.make_config(
        result.dataset, result.budget, seed=result.seed
    )
    assert runs.find_result(path, config) is not None
