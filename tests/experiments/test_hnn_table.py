"""The HNN table: tiny runs end to end, resumed, and printed."""

import dataclasses

import numpy as np
import pytest

from hgn_tf import optimizers
from hgn_tf.cli import main
from hgn_tf.experiments.hnn import config as settings
from hgn_tf.experiments.hnn import measures, table, train
from hgn_tf.experiments.hnn import truth as truths
from hgn_tf.experiments.hnn.table import PAPER

TINY = {"num_steps": 25, "batch_size": 8, "units": (8,)}


@pytest.fixture(scope="module")
def truth():
    return truths.load_truth("mass_spring")


class ExactField:
    """Stands for a model that has learned the truth."""

    def __init__(self, truth):
        self.truth = truth

    def time_derivative(self, x):
        return np.asarray(truths.field(self.truth, x)).view(_Tensor)

    def integrate(self, x0, t_span, t_eval, rtol):
        system, half = self.truth.system, x0.shape[1] // 2
        path = system.simulate(x0[:, :half], x0[:, half:], t_eval)
        return np.concatenate(path, axis=-1)


class _Tensor(np.ndarray):
    def numpy(self):
        return np.asarray(self)


def test_exact_field_has_no_error_but_the_floor(truth):
    found = measures.score_model(ExactField(truth), "mass_spring", truth)
    found |= measures.score_long(ExactField(truth), "mass_spring", truth)
    for split in ("train", "test"):
        floor = found.pop(f"{split}_loss_floor")
        assert found.pop(f"{split}_loss") == pytest.approx(floor)
        assert 3.7e-2 < floor < 4.0e-2  # four times the variance 0.01
    # Rows are stored as float32.
    assert max(found.values()) < 1e-9


def test_spring_horizon_is_stretched_in_the_published_measure_only(truth):
    ends = truth.published_times[:, -1]
    np.testing.assert_allclose(ends[1:] / ends[:-1], 1.09)
    assert truth.times[-1] == 20.0
    q, p = np.split(truth.published_path, 2, axis=-1)
    np.testing.assert_allclose(
        (q**2 + p**2)[..., 0], np.sum(truth.start**2, 1)[:, None].repeat(100, 1)
    )
    start, time = truth.start, truth.published_times[3, 7]
    expected = start[3, 0] * np.cos(2 * time) + start[3, 1] * np.sin(2 * time)
    assert q[3, 7, 0] == pytest.approx(expected, abs=1e-8)


def test_published_pendulum_energy_is_not_the_true_one():
    pendulum = truths.load_truth("pendulum")
    x = np.array([[1.0, 2.0]])
    published = truths.published_energy("pendulum", pendulum, x)
    assert published == pytest.approx(5.0)
    true = truths.energy("pendulum", pendulum, x)
    assert true == pytest.approx(3 * (1 - np.cos(1)) + 4)


def test_paths_are_stretches_of_the_trajectories(truth):
    rows = truth.rows["train"]
    x0, path = truths.make_paths(rows, 20)
    assert x0.shape == (25 * 10, 2) and path.shape == (25 * 10, 20, 2)
    first = rows["x"][:30]
    np.testing.assert_array_equal(x0[0], first[0])
    np.testing.assert_array_equal(path[0], first[1:21])


def test_window_longer_than_a_trajectory_is_refused(truth):
    with pytest.raises(ValueError, match="below 30"):
        truths.make_paths(truth.rows["train"], 30)


@pytest.mark.parametrize("model", ["baseline", "hnn"])
def test_run_goes_end_to_end_and_is_not_done_again(
    model, truth, tmp_path, monkeypatch
):
    make_config = settings.make_config
    monkeypatch.setattr(
        table, "make_config", lambda *row: make_config(*row, **TINY)
    )
    row = (["mass_spring"], 1, [model], tmp_path)
    folder, lines = tmp_path / "runs", []
    first = table.make_tables(
        *row, runs_dir=folder, figures=True, progress=lines.append
    )
    assert (folder / f"mass_spring-{model}-0/model.keras").exists()
    assert (tmp_path / f"hnn_table/mass_spring-phase-{model}.png").exists()
    assert (tmp_path / "hnn_table/mass_spring-energy.png").exists()
    assert f"| mass_spring | {model} |" in first and len(lines) == 1
    assert f"({PAPER['mass_spring'][model][2]:.2e})" in first
    monkeypatch.setattr(train, "train_and_score", None)  # would fail if called
    again = table.make_tables(*row, runs_dir=folder)
    assert again == first == (tmp_path / "hnn_table.md").read_text("utf-8")
    picture = tmp_path / "hnn_table/mass_spring-energy.png"
    drawn = picture.read_bytes()
    for runs_dir in (tmp_path / "nowhere", folder):  # the second is damaged
        (folder / f"mass_spring-{model}-0/config.json").write_text("{}")
        with pytest.raises(ValueError, match="which must be there.*Missing"):
            table.make_tables(*row, runs_dir=runs_dir, figures=True)
    assert picture.read_bytes() == drawn


def test_a_new_training_takes_the_old_model_away(truth, tmp_path, monkeypatch):
    def stop(*args, **options):
        raise KeyboardInterrupt

    def config(seed):
        return settings.make_config("mass_spring", "baseline", seed, **TINY)

    train.train_and_score(config(0), truth, tmp_path)
    assert train.load(tmp_path)[0].seed == 0
    monkeypatch.setattr(train.runs, "save_model", stop)
    with pytest.raises(KeyboardInterrupt):
        train.train_and_score(config(1), truth, tmp_path)
    with pytest.raises(ValueError, match="trained to its end"):
        train.load(tmp_path)


def test_every_measure_is_a_number_and_has_a_title(truth, tmp_path):
    config = settings.make_config("mass_spring", "baseline", 0, **TINY)
    result = train.train_and_score(config, truth, tmp_path)
    assert all(np.isfinite(value) for value in result.metrics.values())
    assert set(result.metrics) <= set(measures.METRICS)


def test_command_names_a_wrong_task(capsys):
    assert main(["table", "hnn", "--tasks", "mass_sprung"]) == 2
    assert "mass_sprung" in capsys.readouterr().err


def test_same_seed_gives_the_same_batches(truth):
    config = settings.make_config("mass_spring", "hnn", 1, **TINY)
    other = dataclasses.replace(config, seed=2)
    batches = [
        next(iter(train.training_batches(each, truth.rows["train"])))
        for each in (config, config, other)
    ]
    np.testing.assert_array_equal(batches[0][0], batches[1][0])
    assert not np.array_equal(batches[0][0], batches[2][0])


@pytest.mark.parametrize("task", PAPER)
def test_every_row_has_a_published_one(task):
    assert set(PAPER[task]) == set(settings.models_of(task)) - {"hnn_rollout"}


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="mass_sprung"):
        next(table.run(tasks=["mass_sprung"]))
    with pytest.raises(ValueError, match="`models` must be of.*'hmm'"):
        next(table.run(models=["hmm"]))
    with pytest.raises(ValueError, match=r"models of \['two_body'\]` must be"):
        next(table.run(["two_body"], models=["hnn_rollout"]))
    with pytest.raises(ValueError, match="two_body must be one of"):
        settings.make_config("two_body", "hnn_rollout", 0)


def test_published_rows_have_the_adam_that_was_published(truth):
    found = {
        task: settings.make_config(task, "hnn", 0).optimizer
        for task in settings.TASKS
    }
    assert found.pop("pixel_pendulum_change") == "adam"
    assert set(found.values()) == {"paper_adam"}
    config = settings.make_config("mass_spring", "hnn", 0, **TINY)
    model = settings.make_model(config, truth.rows["train"])
    assert isinstance(model.optimizer, optimizers.PaperAdam)
    assert model.optimizer.epsilon == 1e-8
