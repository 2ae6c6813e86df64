"""Table 1: runs resumed and printed; tiny ones end to end if slow."""

import dataclasses
import pathlib
import shlex

import numpy as np
import pytest

import hgn_tf
from hgn_tf import data, files
from hgn_tf.cli import main
from hgn_tf.evaluation import METRICS
from hgn_tf.experiments import runs
from hgn_tf.experiments.hgn import config as settings
from hgn_tf.experiments.hgn import table, train
from hgn_tf.experiments.hgn.config import FORECAST, SYSTEMS, VARIANTS
from hgn_tf.experiments.hgn.table import PAPER

ROOT = pathlib.Path(__file__).parent.parent.parent
TINY = {
    "num_steps": 2,
    "steps_per_epoch": 1,
    "batch_size": 4,
    "warmup_steps": 1,
    "curriculum_steps": 0,
    "filters": 8,
}


FORECASTS = tuple(name for name in METRICS if name.startswith("forecast"))
# Of recorded videos, whose truth is not known.
RECORDED = ("recorded_backward_mse_e4",)
PRINTED = tuple(name for name in METRICS if name not in (*FORECASTS, *RECORDED))


def make_tables(folder, models=None, budget="cpu", num_seeds=1, **changes):
    return table.make_tables(
        budget,
        ["mass_spring"],
        num_seeds,
        models,
        folder,
        **{"runs_dir": folder / "runs", **changes},
    )


def results_of(folder, name="table1"):
    return {
        path.stem: runs.read_result(path)
        for path in (folder / name).glob("*.json")
    }


@pytest.fixture
def trained(monkeypatch):
    """Names of runs, as they are trained; measures are made up."""
    names = []

    def evaluate(run_dir, data_dir, experiment, model_name):
        few = "pixel" in model_name or experiment == "table1_forecast"
        metrics = {
            name: float(index)
            for index, name in enumerate(PRINTED + FORECASTS * few)
        }
        config = runs.read_config(run_dir, settings.Config)
        metrics["collapsed"] = float(
            model_name == "pixel_hnn" and config.seed != 1
        )
        if metrics["collapsed"]:
            metrics["energy_r2"] = None
        # Errors over trajectories, which no table shows.
        metrics |= {f"{name}_stderr": 77.0 for name in PRINTED}
        return runs.Result(
            experiment=experiment,
            model=model_name,
            dataset="physics_mass_spring/small",
            seed=config.seed,
            budget=config.budget,
            metrics=metrics,
            config=dataclasses.asdict(config),
            commit=None,
            wall_seconds=9.0,
            cpu_seconds=7.0,
            peak_memory_mb=1.0,
        )

    def run(config, run_dir, *_, **options):
        runs.check_folder(config, run_dir)
        run_dir.mkdir(parents=True)
        files.write_json(run_dir / "config.json", dataclasses.asdict(config))
        names.append(run_dir.name)

    monkeypatch.setattr(train, "train", run)
    monkeypatch.setattr(train, "evaluate", evaluate)
    return names


def test_runs_that_are_there_are_not_done_again(trained, tmp_path):
    first = make_tables(tmp_path)
    assert len(trained) == len(VARIANTS) + len(FORECAST)
    assert make_tables(tmp_path) == first
    assert len(trained) == len(VARIANTS) + len(FORECAST)
    assert (tmp_path / "table1.md").read_text("utf-8") == first


def test_a_run_of_other_settings_needs_a_folder_of_its_own(trained, tmp_path):
    make_tables(tmp_path, ["pixel_hnn"])
    with pytest.raises(ValueError, match="num_steps.*--runs"):
        make_tables(tmp_path, ["pixel_hnn"], num_steps=16_000)
    other = tmp_path / "others"
    make_tables(tmp_path, ["pixel_hnn"], num_steps=16_000, runs_dir=other)
    assert trained == ["mass_spring-pixel_hnn-0"] * 2


def test_results_of_several_settings_are_no_row(trained, tmp_path):
    make_tables(tmp_path, ["pixel_hnn"], num_seeds=2)
    path = tmp_path / "table1" / "mass_spring-pixel_hnn-1.json"
    result = files.read_json(path)
    # A result that is older than a setting is read as its default.
    del result["config"]["grey_start"]
    files.write_json(path, result)
    table.read_results(tmp_path, "cpu")
    result["config"]["learning_rate"] = 1.0
    files.write_json(path, result)
    with pytest.raises(ValueError, match="same settings.*hnn-0 and .*hnn-1"):
        table.read_results(tmp_path, "cpu")


def test_what_differs_from_system_to_system_differs_within_none(
    trained, tmp_path
):
    """Three bodies of far have other energies; seeds of one system have not."""
    make_tables(tmp_path, ["hgn_leapfrog"], "far", num_seeds=2)
    folder = tmp_path / "table1_far"
    path = folder / "mass_spring-hgn_leapfrog-1.json"
    result = files.read_json(path)
    result["config"]["energy_activation"] = "softplus"
    other = result | {"dataset": "physics_three_body/long"}
    path.unlink()
    files.write_json(folder / "three_body-hgn_leapfrog-1.json", other)
    table.read_results(tmp_path, "far")
    files.write_json(path, result)
    with pytest.raises(
        ValueError, match="same settings.*leapfrog-0 and .*leapfrog-1"
    ):
        table.read_results(tmp_path, "far")


def test_another_budget_has_files_of_its_own(trained, tmp_path):
    ours = make_tables(tmp_path, ["hgn_euler"])
    theirs = make_tables(tmp_path, ["hgn_euler"], "paper")
    assert trained == ["mass_spring-hgn_euler-0"] * 2
    assert (tmp_path / "table1.md").read_text("utf-8") == ours
    assert (tmp_path / "table1_paper.md").read_text("utf-8") == theirs
    assert "500,000 steps" in theirs and "500,000 steps" not in ours


def test_a_row_is_of_one_table(trained, tmp_path):
    make_tables(tmp_path, ["hgn_leapfrog"], num_seeds=2)
    assert trained == [f"mass_spring-hgn_leapfrog-{seed}" for seed in (0, 1)]
    make_tables(tmp_path, ["hgn_forecast"])
    assert trained[2:] == ["mass_spring-hgn_forecast-0"]
    assert not {*VARIANTS} & {*FORECAST}
    with pytest.raises(ValueError, match="'hgn_forecast'.*'hgn_forecasts'"):
        make_tables(tmp_path, ["hgn_forecasts"])


def test_seeds_that_differ_are_counted(trained, tmp_path):
    text = make_tables(tmp_path, ["pixel_hnn"], num_seeds=3)
    assert "| pixel_hnn, 2 of 3 collapsed |" in text
    # One of three has an energy to correlate.
    r2 = PRINTED.index("energy_r2")
    assert f"| pixel_hnn | {r2:.3f}, 2 without |" in text
    assert " +- 77" not in text


def test_figures_need_the_folders_of_their_runs(trained, tmp_path):
    # The stand-in of a run leaves no folder, which is seen after it ...
    with pytest.raises(ValueError, match="trained to its end first"):
        make_tables(tmp_path, ["hgn_euler"], figures=True)
    assert trained == ["mass_spring-hgn_euler-0"]
    # ... but where its result is there, before any other run.
    with pytest.raises(ValueError, match="Missing.*mass_spring-hgn_euler-0"):
        make_tables(tmp_path, ["hgn_determ", "hgn_euler"], figures=True)
    with pytest.raises(ValueError, match="Figures are of rows of table 1"):
        make_tables(tmp_path, ["hgn_forecast"], figures=True)
    assert trained == ["mass_spring-hgn_euler-0"]


def test_the_text_is_of_all_results_there_are(trained, tmp_path):
    make_tables(tmp_path, ["hgn_euler"])
    text = make_tables(tmp_path, ["hgn_determ"])
    assert "| hgn_euler |" in text and "| hgn_determ |" in text
    assert "hgn_leapfrog" not in text


def test_the_tables_say_what_was_measured(trained, tmp_path):
    text = make_tables(tmp_path)
    assert " +- " not in text.partition("\n|")[2]  # one seed has no spread
    rows = {
        line.split(" | ")[0].strip("| "): line.split(" | ")
        for line in text.splitlines()
        if line.startswith("| ")
    }
    index = PRINTED.index("test_mse_e4")
    for model in set(VARIANTS) - {"pixel_hnn"}:
        assert f"| {model} | " in text
        assert f"{index:.2f} ({PAPER[model][0][1]})" in text
    # A collapsed model is labelled, and has no energies to correlate.
    assert "pixel_hnn, collapsed" in rows and rows["pixel_hnn"][1] == ""
    assert (
        rows["noise floor"][2] == f"{PRINTED.index('noise_floor_mse_e4'):.2f}"
    )
    forecast = text.partition("## 25 frames")[2].partition("## ")[0]
    assert forecast.count("hgn_forecast") == 1 and "hgn_euler" not in forecast
    assert forecast.count("pixel_hnn") == 2
    assert "| mass_spring | frozen last seen frame |" in forecast


@pytest.mark.slow
def test_tiny_runs_go_end_to_end(tmp_path, monkeypatch):
    monkeypatch.setitem(settings.DATASETS, "cpu", "physics_{}/tiny")
    models = [*VARIANTS, *FORECAST]
    make_tables(tmp_path, models, figures=True, **TINY)
    results = results_of(tmp_path)
    assert len(results) == len(VARIANTS)
    for name, result in results.items():
        metrics = result.metrics
        assert all(np.isfinite(metrics[each]) for each in PRINTED)
        assert ("forecast_mse_e4" in metrics) == ("pixel" in name)
    errors = {
        name: result.metrics["reversibility_error"]
        for name, result in results.items()
    }
    assert errors["mass_spring-hgn_leapfrog-0"] < 1e-5
    assert errors["mass_spring-hgn_euler-0"] > 1e-3
    (forecast,) = results_of(tmp_path, "table1_forecast").values()
    metrics = forecast.metrics
    assert forecast.config["num_inference_frames"] == 5
    # The frozen frame of a forecast is the last one seen, not the first.
    assert metrics["forecast_frozen_frame_mse_e4"] != pytest.approx(
        metrics["frozen_frame_mse_e4"]
    )
    for figure in ("figure6", "figure7", "figure8"):
        assert (tmp_path / f"table1/mass_spring-{figure}.png").exists()


@pytest.mark.parametrize("model", VARIANTS)
def test_every_row_is_the_model_that_it_says(model, data_dir):
    builder = data.get_builder("physics_pendulum/tiny")
    builder.download_and_prepare()
    ((_, _, config),) = table.list_runs("cpu", ["pendulum"], 1, [model])
    made = settings.make_model(config, builder)
    found = {
        "pixel_hnn": isinstance(made, hgn_tf.PixelHNN),
        "euler": getattr(made, "integrator", "") == "euler",
        "determ": isinstance(made, hgn_tf.HGN) and not made.stochastic,
        "no_fpsi": isinstance(made, hgn_tf.HGN) and made.state_net is None,
        "conv": config.form == "conv",
    }
    assert found == {part: part in model for part in found}


def test_models_get_equal_steps_and_videos():
    rows = table.list_runs("cpu", None, 2, None)
    assert len(rows) == 2 * len(SYSTEMS) * len(VARIANTS)
    same = {
        (config.num_steps, config.batch_size, config.steps_per_epoch)
        for _, _, config in rows
    }
    assert len(same) == 1


def test_a_setting_goes_to_the_rows_that_read_it():
    models = ["hgn_leapfrog", "pixel_hnn", "pixel_hnn_conv"]
    rows = table.list_runs(
        "cpu", ["pendulum"], 1, models, integrator="euler", filters=8
    )
    found = {
        row.model: (row.config.integrator, row.config.filters) for row in rows
    }
    assert found == {
        "hgn_leapfrog": ("euler", 16),
        "pixel_hnn": ("leapfrog", 16),
        "pixel_hnn_conv": ("leapfrog", 8),
    }


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"positions": 1.0}, "`positions` must be left to .*'objects'.*dense"),
        ({"filtes": 8}, "A setting must be one of .*'filters'"),
    ],
)
def test_a_setting_of_no_row_is_refused_before_training(
    changes, message, tmp_path, trained
):
    with pytest.raises(ValueError, match=message):
        make_tables(tmp_path, ["pixel_hnn"], **changes)
    assert not trained


def test_a_setting_of_one_table_alone_is_taken(tmp_path, trained):
    models = ["pixel_hnn", "hgn_forecast"]
    make_tables(tmp_path, models, integrator="euler")
    (forecast,) = results_of(tmp_path, "table1_forecast").values()
    (pixels,) = results_of(tmp_path).values()
    assert forecast.config["integrator"] == "euler"
    assert pixels.config["integrator"] == "leapfrog"


def test_every_setting_says_which_forms_read_it():
    names = [field.name for field in dataclasses.fields(settings.Config)]
    assert sorted(settings.READ_BY) == sorted(names)
    assert set(settings._READ_WITH) <= set(names)


FINISHED = sorted(
    path
    for folder in (
        "table1",
        "table1_flat",
        "table1_far",
        "table1_conv",
        "ablation",
        "clean",
        "trials",
    )
    for path in (ROOT / "results" / folder).glob("*.json")
)


@pytest.mark.parametrize("path", FINISHED, ids=lambda path: path.stem)
def test_the_command_of_a_run_makes_its_settings(path, tmp_path):
    # A setting that is younger than the run has its default.
    config = settings.Config(**runs.read_result(path).config)
    words = shlex.split(settings.train_command(config, tmp_path))
    pairs = [word for flag, word in zip(words, words[1:]) if flag == "--set"]
    made = settings.make_config(
        words[2],
        words[4],
        seed=int(words[6]),
        **runs.parse_settings(pairs, settings.Config),
    )
    assert settings.train_command(made, tmp_path) == shlex.join(words)


def test_what_a_form_does_not_read_is_in_no_command(tmp_path):
    config = settings.make_config("physics_pendulum/small", "flat")
    odd = dataclasses.replace(config, filters=64, depth_to_space=True)
    ours, theirs = (
        settings.train_command(each, tmp_path) for each in (config, odd)
    )
    assert ours == theirs and "--set" not in ours


def test_three_bodies_have_shorter_rollouts_and_are_rows_of_one_table():
    rows = table.list_runs("far", None, 1, ["hgn_leapfrog"])
    steps = {row.group: row.config.rollout_steps for row in rows}
    assert steps == {**dict.fromkeys(SYSTEMS, 59), "three_body": 35}
    frames = {row.group: row.config.num_frames for row in rows}
    assert frames == {**dict.fromkeys(SYSTEMS, 0), "three_body": 60}
    config = settings.make_config(
        "physics_three_body/long", "far", rollout_steps=40
    )
    assert config.rollout_steps == 40


def test_one_degree_of_freedom_has_no_learned_kinetic_energy():
    rows = table.list_runs("conv", None, 1, ["hgn_leapfrog"])
    found = {
        row.group: (row.config.learned_kinetic, row.config.isometry)
        for row in rows
    }
    one, more = (False, 3.0), (True, 0.0)
    assert found == {
        "mass_spring": one,
        "pendulum": one,
        "two_body": more,
        "three_body": more,
    }


@pytest.mark.parametrize(
    "system, changes, message",
    [
        ("pendulum", {}, "two bodies or more.*Received: 1 numbers"),
        ("two_body", {"latent_size": 5}, "Received: 5 numbers"),
        ("two_body", {"learned_kinetic": True}, "set it to false"),
    ],
)
def test_objects_of_no_bodies_are_refused(system, changes, message, data_dir):
    dataset = f"physics_{system}/tiny"
    config = settings.make_config(
        dataset, "objects", **{"batch_size": 4, **changes}
    )
    with pytest.raises(ValueError, match=message):
        settings.check_config(config, data.get_builder(dataset))


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
    assert main(["table", "hgn", *arguments]) == 2
    assert arguments[1] in capsys.readouterr().err
