"""Studies: their rows, their resume, their text."""

import dataclasses

import numpy as np
import pytest

from hgn_tf import data
from hgn_tf.cli import main
from hgn_tf.evaluation import METRICS
from hgn_tf.experiments import runs
from hgn_tf.experiments.hgn import beyond, study
from hgn_tf.experiments.hgn import config as settings
from hgn_tf.experiments.hgn.study import STUDIES

SOME = {"ablation": ["random_start", "flat"], "clean": ["law", "published"]}


def make_study(folder, rows=None, name="ablation", num_seeds=1):
    return study.make_study(
        name, ["pendulum"], num_seeds, rows, folder, runs_dir=folder / "runs"
    )


@pytest.fixture
def trained(monkeypatch):
    """Names of runs, as they are trained; measures are made up."""
    names = []

    def evaluate(run_dir, data_dir, experiment, model_name):
        config = runs.read_config(run_dir, settings.Config)
        metrics = {name: float(index) for index, name in enumerate(METRICS)}
        metrics["collapsed"] = float(model_name in ("random_start", "law"))
        metrics["energy_r2"] = 0.5 + 0.25 * config.seed
        return runs.Result(
            experiment=experiment,
            model=model_name,
            dataset=config.dataset,
            seed=config.seed,
            budget=config.budget,
            metrics=metrics,
            config=dataclasses.asdict(config),
            commit=None,
            wall_seconds=9.0,
            cpu_seconds=7.0,
            peak_memory_mb=1.0,
        )

    def train(config, run_dir, *_, **options):
        names.append(run_dir.name)
        run_dir.mkdir(parents=True)
        runs.files.write_json(
            run_dir / "config.json", dataclasses.asdict(config)
        )

    monkeypatch.setattr(study.train, "train", train)
    monkeypatch.setattr(study.train, "evaluate", evaluate)
    monkeypatch.setattr(
        study,
        "_symetric",
        lambda *_: dict.fromkeys([*beyond.SYMETRIC, *beyond.TWO_FORM], 0.25),
    )
    return names


def test_a_model_of_one_energy_stops_no_study(trained, tmp_path, monkeypatch):
    """Its R^2 is not a number, and None once it is read again."""
    evaluate = study.train.evaluate

    def still(*args, **options):
        result = evaluate(*args, **options)
        metrics = {**result.metrics, "energy_r2": float("nan")}
        return dataclasses.replace(result, metrics=metrics)

    monkeypatch.setattr(study.train, "evaluate", still)
    lines = []
    for _ in range(2):
        study.make_study(
            "ablation",
            ["pendulum"],
            1,
            ["flat"],
            tmp_path,
            runs_dir=tmp_path / "runs",
            progress=lines.append,
        )
    assert all("R^2 none, backward" in line for line in lines)
    assert trained == ["pendulum-flat-0"]


@pytest.mark.parametrize(
    "name, system",
    [(name, system) for name in STUDIES for system in STUDIES[name].rows],
)
def test_a_row_changes_its_budget_as_it_says(name, system):
    found = study.list_study(name, [system], 1, None)
    assert [run.model for run in found] == list(STUDIES[name].rows[system])
    for run in found:
        budget, changes = STUDIES[name].settings[run.model]
        changes = {"dataset": settings.DATASETS.get(budget), **changes}
        base = settings.make_config(f"physics_{system}/tiny", budget)
        ours = dataclasses.asdict(run.config)
        differing = {
            name: value
            for name, value in ours.items()
            if value != getattr(base, name)
        }
        changes["dataset"] = changes["dataset"].format(system)
        expected = {
            name: value
            for name, value in changes.items()
            if value != getattr(base, name)
        }
        assert differing == expected, run.model


def test_the_clean_study_sees_five_frames_without_noise(data_dir):
    for run in study.list_study("clean", None, 1, None):
        assert run.config.num_inference_frames == 5
        builder = data.get_builder(run.config.dataset)
        assert builder.recipe.noise == 0
        settings.check_config(run.config, builder)


@pytest.mark.parametrize("name", STUDIES)
def test_rows_differ_from_each_other(name):
    for system, rows in STUDIES[name].rows.items():
        found = study.list_study(name, [system], 1, None)
        assert len({run.config for run in found}) == len(rows)


@pytest.mark.parametrize("name", STUDIES)
def test_columns_are_there_once(name):
    columns = STUDIES[name].columns
    assert len(set(columns)) == len(columns)


def test_runs_that_are_there_are_not_done_again(trained, tmp_path):
    make_study(tmp_path, ["flat"])
    assert trained == ["pendulum-flat-0"]
    make_study(tmp_path, ["flat", "neither"])
    assert trained == ["pendulum-flat-0", "pendulum-neither-0"]


@pytest.mark.parametrize("name", STUDIES)
def test_text_has_every_row_and_the_mean_image(name, trained, tmp_path):
    collapsed, sound = SOME[name]
    text = make_study(tmp_path, SOME[name], name, num_seeds=2)
    lines = text.splitlines()
    assert (tmp_path / f"{name}.md").read_text() == text
    (row,) = [line for line in lines if line.startswith(f"| {sound} |")]
    # Seeds 0 and 1: 0.5 and 0.75.
    assert "| 0.625 +- 0.2 |" in row
    assert row.count("| 0.250 +- 0 ") == (3 if name == "clean" else 0)
    assert any(line.startswith(f"| {collapsed}, coll") for line in lines)
    (image,) = [line for line in lines if line.startswith("| mean image |")]
    place = list(METRICS).index("long_mean_image_mse_e4_at_60")
    assert f"| {place:.1f} |" in image
    assert "two_body" not in text


@pytest.mark.slow
def test_symetric_of_a_run_is_measured(tmp_path, data_dir):
    config = settings.make_config(
        "physics_pendulum/tiny",
        "clean",
        num_steps=2,
        steps_per_epoch=2,
        warmup_steps=1,
        batch_size=4,
        rollout_steps=10,
    )
    study.train.train(config, tmp_path, verbose=0)
    found = study._symetric(config, tmp_path, None)
    assert set(found) == {*beyond.SYMETRIC, "two_form_r2", "two_form_defect"}
    assert all(np.isfinite(value) for value in found.values())


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--study", "--models", "fat"], "`models` must be of"),
        (["--study", "clean", "--systems", "three_body"], "`systems` must be"),
        (
            ["--study", "clean", "--systems", "pendulum", "--models", "joint"],
            "`models of ['pendulum']` must be of",
        ),
        (["--study", "--systems", "mass_spring"], "`systems` must be of"),
        (["--study", "--figures"], "no figures"),
        (["--study", "--budget", "flat"], "budgets of its own"),
    ],
)
def test_mistakes_get_one_line(arguments, message, capsys):
    assert main(["table", "hgn", *arguments]) == 2
    assert message in capsys.readouterr().err
