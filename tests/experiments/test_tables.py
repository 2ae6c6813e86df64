"""Tables as Markdown: what a cell says of the seeds of a model."""

import dataclasses

import pytest

from hgn_tf.evaluation import Metric
from hgn_tf.experiments import tables
from hgn_tf.experiments.runs import Result


def test_a_measure_that_was_not_finite_is_spelt():
    assert tables.spell(0.1234, ".2f") == "0.12"
    assert tables.spell(None, ".2f") == "none"


def results(*values, name="error"):
    return [
        Result(
            experiment="table",
            model="row",
            dataset="data",
            seed=seed,
            budget="cpu",
            metrics={name: value, f"{name}_stderr": 7.0},
            config={},
            commit=None,
            wall_seconds=0.0,
            cpu_seconds=0.0,
            peak_memory_mb=0.0,
        )
        for seed, value in enumerate(values)
    ]


@pytest.mark.parametrize(
    "values, form, text",
    [
        # The sample's standard deviation: 0.1, not 0.1 / sqrt(3).
        ((0.1, 0.2, 0.3), ".3f", "0.200 +- 0.1"),
        ((10.0, 50.0), ".1f", "30.0 +- 30"),
        ((1.0e-5, 1.1e-5), ".1e", "1.1e-05 +- 7e-07"),
        ((0.5, 0.5001), ".3f", "0.500 +- 0.00007"),
        ((1.0, 1.0), ".2f", "1.00 +- 0"),
        # Of one seed there is none, whatever its error over trajectories is.
        ((0.25,), ".2f", "0.25"),
        ((0.25, None, None), ".2f", "0.25, 2 without"),
        ((1.0, 3.0, None), ".0f", "2 +- 1, 1 without"),
        ((None, None), ".2f", ""),
    ],
)
def test_spread_is_the_standard_deviation_over_seeds(values, form, text):
    assert tables.cell(results(*values), "error", Metric("", "", form)) == text


def test_what_the_data_decide_has_no_spread():
    floor = Metric("floor", form=".2f", yardstick=True)
    assert tables.cell(results(1.0, 1.0), "error", floor) == "1.00"
    means = Metric("", form=".2f")
    assert tables.cell(results(1.0, 2.0), "error", means, False) == "1.50"
    assert tables.cell(results(1.0), "unknown", means) == ""


@pytest.mark.parametrize(
    "values, text",
    [
        ((0.0, 0.0), ""),
        ((1.0, 1.0), ", collapsed"),
        ((1.0, 0.0, 0.0), ", 1 of 3 collapsed"),
        ((None,), ""),
    ],
)
def test_still_images_are_marked(values, text):
    assert tables.mark_collapsed(results(*values, name="collapsed")) == text


def test_table_has_a_row_of_titles():
    text = tables.markdown_table(["a", "b"], [["1", "2"]])
    assert text == "| a | b |\n| --- | --- |\n| 1 | 2 |"
    assert tables.describe_seeds(results(1, 2)) == "2 seeds"
    assert tables.describe_seeds(results(1)) == "1 seed"
    other = [dataclasses.replace(each, model="b") for each in results(1, 2, 3)]
    assert tables.describe_seeds(results(1) + other) == "1 to 3 seeds"
