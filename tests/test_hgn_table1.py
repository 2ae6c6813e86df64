"""Table 1: tiny runs end to end, resumed, and printed."""

import json

import numpy as np
import pytest

from hgn_tf.__main__ import main
from hgn_tf.experiments import hgn_table1, hgn_table1_report, train_hgn
from hgn_tf.experiments.hgn_table1 import FORECAST, PAPER, SYSTEMS, VARIANTS

TINY = {
    "num_steps": 2,
    "steps_per_epoch": 1,
    "batch_size": 4,
    "warmup_steps": 1,
    "curriculum_steps": 0,
    "filters": 8,
}


# The other two are arguments of the same HGN.
RUN = ("hgn_leapfrog", "hgn_euler", "pixel_hnn", "pixel_hnn_conv")


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """Folder, text and lines of a run of all models on one system."""
    folder, lines = tmp_path_factory.mktemp("table1"), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(hgn_table1.DATASETS, "cpu", "physics_{}/tiny")
        text = make_tables(folder, lines)
        patch.setattr(train_hgn, "train", None)  # would fail if called
        assert make_tables(folder, []) == text
    return folder, text, lines


def make_tables(folder, lines):
    return hgn_table1_report.make_tables(
        "cpu",
        ["mass_spring"],
        1,
        list(RUN),
        folder,
        runs_dir=folder / "runs",
        figures=True,
        progress=lines.append,
        **TINY,
    )


def results_of(folder, table="table1"):
    return {
        path.stem: json.loads(path.read_text("utf-8"))
        for path in (folder / table).glob("*.json")
    }


def test_every_model_leaves_its_result_and_a_row(tables):
    folder, text, lines = tables
    results = results_of(folder)
    assert set(results) == {f"mass_spring-{model}-0" for model in RUN}
    assert set(results_of(folder, "table1_forecast")) == {
        f"mass_spring-{model}-0" for model in FORECAST
    }
    assert len(lines) == len(RUN) + len(FORECAST)
    assert (folder / "table1.md").read_text("utf-8") == text
    runs = folder / "runs" / "table1"
    for figure in ("figure6", "figure7", "figure8"):
        assert (folder / "table1" / f"mass_spring-{figure}.png").exists()
    for model in RUN:
        assert (runs / f"mass_spring-{model}-0" / "report.html").exists()
        assert f"| {model}" in text
        assert f"({PAPER[model][0][1]})" in text


@pytest.mark.parametrize("model", RUN)
def test_results_have_what_the_table_prints(tables, model, result_fields):
    result = results_of(tables[0])[f"mass_spring-{model}-0"]
    assert list(result) == result_fields
    assert result["experiment"] == "table1" and result["model"] == model
    metrics = result["metrics"]
    for name in (
        "train_mse_e4",
        "test_fvu",
        "excess_mse_e4",
        "energy_r2",
        "energy_drift",
        "energy_variance_share",
        "reversibility_error",
        "gradient_norm",
        "collapsed",
        "long_mse_e4_at_240",
    ):
        assert np.isfinite(metrics[name]), name


def test_only_models_that_see_few_frames_forecast(tables):
    sees_few = {
        name
        for name, result in results_of(tables[0]).items()
        if "forecast_mse_e4" in result["metrics"]
    }
    assert sees_few == {
        "mass_spring-pixel_hnn-0",
        "mass_spring-pixel_hnn_conv-0",
    }
    (forecast,) = results_of(tables[0], "table1_forecast").values()
    metrics = forecast["metrics"]
    assert forecast["config"]["num_inference_frames"] == 5
    # The frozen frame of a forecast is the last one seen, not the first.
    assert metrics["forecast_frozen_frame_mse_e4"] != pytest.approx(
        metrics["frozen_frame_mse_e4"]
    )
    assert "last seen frame" in tables[1]


def test_leapfrog_runs_back_to_its_start_and_euler_does_not(tables):
    errors = {
        name: result["metrics"]["reversibility_error"]
        for name, result in results_of(tables[0]).items()
    }
    assert errors["mass_spring-hgn_leapfrog-0"] < 1e-5
    assert errors["mass_spring-hgn_euler-0"] > 1e-3


def test_models_get_equal_steps_and_videos():
    runs = hgn_table1.configs("cpu", None, 2, None)
    assert len(runs) == 2 * len(SYSTEMS) * len(VARIANTS)
    same = {
        (config.num_steps, config.batch_size, config.steps_per_epoch)
        for _, _, config in runs
    }
    assert len(same) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["--systems", "springs"],
        ["--models", "hnn"],
        ["--budget", "gpu"],
        ["--seeds", "0"],
    ],
)
def test_command_names_what_it_does_not_know(arguments, capsys):
    assert main(["table1", *arguments]) == 2
    assert arguments[1] in capsys.readouterr().err
