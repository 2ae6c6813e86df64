"""The study of what brings a law: its rows, its resume, its text."""

import dataclasses

import pytest

from hgn_tf import data
from hgn_tf.cli import main
from hgn_tf.evaluation import METRICS
from hgn_tf.experiments import runs
from hgn_tf.experiments.hgn import config as settings
from hgn_tf.experiments.hgn import study
from hgn_tf.experiments.hgn.config import STUDY
from hgn_tf.experiments.hgn.study import STUDIES


def make_study(folder, rows=None, systems=("pendulum",), num_seeds=1):
    return study.make_study(
        "ablation", systems, num_seeds, rows, folder, runs_dir=folder / "runs"
    )


@pytest.fixture
def trained(monkeypatch):
    """Names of runs, as they are trained; measures are made up."""
    names = []

    def evaluate(run_dir, data_dir, experiment, model_name):
        config = runs.read_config(run_dir, settings.Config)
        metrics = {name: float(index) for index, name in enumerate(METRICS)}
        metrics["collapsed"] = float(model_name == "random_start")
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
    return names


@pytest.mark.parametrize(
    "name, system",
    [(name, system) for name in STUDIES for system in STUDIES[name].rows],
)
def test_a_row_changes_its_budget_as_it_says(name, system):
    found = study.list_study(name, [system], 1, None)
    assert [run.model for run in found] == list(STUDIES[name].rows[system])
    for run in found:
        budget, changes = STUDIES[name].settings[run.model]
        changes = {"dataset": settings.DATASETS[budget], **changes}
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


def test_rows_differ_from_each_other():
    configs = [
        run.config
        for run in study.list_study("ablation", ["pendulum"], 1, None)
    ]
    assert len(set(configs)) == len(STUDY)


def test_runs_that_are_there_are_not_done_again(trained, tmp_path):
    make_study(tmp_path, ["flat"])
    assert trained == ["pendulum-flat-0"]
    make_study(tmp_path, ["flat", "neither"])
    assert trained == ["pendulum-flat-0", "pendulum-neither-0"]


def test_text_has_every_row_and_the_mean_image(trained, tmp_path):
    text = make_study(tmp_path, ["random_start", "flat"], num_seeds=2)
    lines = text.splitlines()
    assert (tmp_path / "ablation.md").read_text() == text
    (flat,) = [line for line in lines if line.startswith("| flat |")]
    # Seeds 0 and 1: 0.5 and 0.75.
    assert "| 0.625 +- 0.2 |" in flat
    assert any(line.startswith("| random_start, collapsed |") for line in lines)
    (image,) = [line for line in lines if line.startswith("| mean image |")]
    place = list(METRICS).index("long_mean_image_mse_e4_at_60")
    assert f"| {place:.1f} |" in image
    assert "two_body" not in text


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--study", "--models", "fat"], "`models` must be of"),
        (["--study", "clean", "--systems", "three_body"], "`systems` must be"),
        (["--study", "--systems", "mass_spring"], "`systems` must be of"),
        (["--study", "--figures"], "no figures"),
        (["--study", "--budget", "flat"], "budgets of its own"),
    ],
)
def test_mistakes_get_one_line(arguments, message, capsys):
    assert main(["table", "hgn", *arguments]) == 2
    assert message in capsys.readouterr().err
