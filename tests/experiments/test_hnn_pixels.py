"""The pixel pendulum of the HNN table, on rows made here."""

import dataclasses
import shutil
import sys

import keras
import numpy as np
import PIL.Image
import pytest
import tensorflow as tf

from hgn_tf.cli import hgn, main
from hgn_tf.experiments.hnn import config as settings
from hgn_tf.experiments.hnn import figures, measures, table, train
from hgn_tf.experiments.hnn import truth as truths
from hgn_tf.experiments.hnn.config import PIXELS
from hgn_tf.phase import PhaseState

TINY = {"num_steps": 25, "batch_size": 8, "units": (8,)}
POINTS = settings.TASKS[PIXELS].num_points
STEP = 0.05


def make_rows(trajectories, seed):
    """A swing of small amplitude, seen as a bright spot on a line."""
    rng = np.random.default_rng(seed)
    omega, count = np.sqrt(15.0), POINTS + 2
    times = STEP * np.arange(count)
    amplitude = rng.uniform(0.1, 0.4, (trajectories, 1))
    phase = rng.uniform(0, 2 * np.pi, (trajectories, 1))
    angle = amplitude * np.cos(omega * times + phase)
    velocity = -omega * amplitude * np.sin(omega * times + phase)
    frames = np.exp(-((np.linspace(-1, 1, 6) - angle[..., None]) ** 2) / 0.1)
    x = np.concatenate([frames[:, :-1], frames[:, 1:]], axis=-1)
    rows = {
        "x": x[:, :-1].reshape(-1, 12),
        "dx_dt": np.diff(x, axis=1).reshape(-1, 12),
        "angle": angle[:, :-2].ravel(),
        "velocity": velocity[:, :-2].ravel(),
        "time": np.tile(times[:-2], trajectories),
    }
    rows = {name: value.astype(np.float32) for name, value in rows.items()}
    numbers = np.repeat(np.arange(trajectories), POINTS)
    return {**rows, "trajectory": numbers}


@pytest.fixture(scope="module")
def truth():
    rows = {"train": make_rows(6, 0), "test": make_rows(3, 1)}
    return truths._recorded_truth(rows, settings.TASKS[PIXELS])


class Swing:
    """Stands for a PixelHNN whose q is -2 angle + 1, p its change a row."""

    dt = STEP

    def __init__(self, rows):
        self.rows = rows
        self.dynamics = self

    def infer(self, x):
        """The row that is seen gives the state away."""
        index = [int(np.abs(self.rows["x"] - row).sum(1).argmin()) for row in x]
        angle, velocity = self.rows["angle"], self.rows["velocity"]
        return PhaseState(
            tf.constant(1 - 2 * angle[index, None]),
            tf.constant(-2 * STEP * velocity[index, None]),
        )

    def integrate(self, z0, t_span, t_eval, rtol):
        """A turn of the latent plane about (1, 0), in rows."""
        turn = np.sqrt(15.0) * STEP
        cos, sin = (f(turn * np.asarray(t_eval)) for f in (np.cos, np.sin))
        q, p = z0[:, :1] - 1.0, z0[:, 1:] / turn
        return np.stack(
            [1.0 + q * cos + p * sin, turn * (p * cos - q * sin)], axis=-1
        )


def test_truth_is_that_of_the_test_trajectories(truth):
    rows = truth.rows["test"]
    assert truth.path.shape == (3, POINTS, 2)
    np.testing.assert_array_equal(
        truth.path[1, 7],
        [
            rows["angle"][POINTS + 7],
            rows["velocity"][POINTS + 7],
        ],
    )
    np.testing.assert_array_equal(truth.start[2], rows["x"][2 * POINTS])
    np.testing.assert_allclose(truth.times, STEP * np.arange(POINTS), atol=1e-6)


def test_energy_is_that_of_gymnasium_s_rod(truth):
    """d/dt (5 (1 - cos a) + v^2 / 6) = 0 where dv/dt = -15 sin a."""
    angle, velocity, step = 0.4, 1.3, 1e-6
    moved = [angle + step * velocity, velocity - step * 15 * np.sin(angle)]
    ends = truths.energy(PIXELS, truth, np.array([[angle, velocity], moved]))
    assert abs(ends[1] - ends[0]) / step < 1e-4
    hanging = truths.energy(PIXELS, truth, np.array([[0.0, 0.0]]))
    assert hanging == 0.0


def test_right_latent_motion_is_read_as_the_true_one(truth):
    rows = truth.rows
    both = {
        name: np.concatenate([rows["train"][name], rows["test"][name]])
        for name in rows["train"]
    }
    reader = measures.StateReader(Swing(both), rows["train"])
    path = reader.integrate(truth.start, truth.times[[0, -1]], truth.times)
    np.testing.assert_allclose(path, truth.path, atol=1e-4)


@pytest.fixture(
    scope="module",
    params=[pytest.param("baseline", marks=pytest.mark.slow), "hnn"],
)
def any_run(request, truth, tmp_path_factory):
    """The folder of a run, and its result."""
    name = request.param
    folder = tmp_path_factory.mktemp("runs") / f"{PIXELS}-{name}-0"
    config = settings.make_config(PIXELS, name, 0, **TINY)
    return folder, train.train_and_score(config, truth, folder)


@pytest.fixture
def run(any_run):
    if any_run[1].model != "hnn":
        pytest.skip("has no energy")
    return any_run


def test_run_has_the_measures_of_pixels(any_run, truth, tmp_path, monkeypatch):
    folder, result = any_run
    name, found = result.model, result.metrics
    assert all(np.isfinite(value) for value in found.values())
    frames = truth.rows["test"]["x"][:, :6].reshape(3, POINTS, 6)
    frozen = np.square(frames - frames[:, :1]).mean()
    assert found["frozen_frame_pixel_mse"] == pytest.approx(frozen, rel=1e-5)
    mean = truth.rows["train"]["x"][:, :6].mean(axis=0)
    expected = np.square(frames - mean).mean()
    assert found["mean_image_pixel_mse"] == pytest.approx(expected, rel=1e-5)
    text = table.format_tables([result])
    assert "## On pixels" in text
    assert f"({table.PAPER[PIXELS][name][2]:.2e})" in text
    monkeypatch.setattr(figures.truths, "load_truth", lambda *args: truth)
    files = figures.write_figures(
        PIXELS, folder.parent, tmp_path, models=[name]
    )
    assert tmp_path / f"{PIXELS}-phase-{name}.png" in files


def test_measured_loss_is_that_of_all_rows(truth):
    config = settings.make_config(PIXELS, "hnn", 0, **TINY)
    keras.utils.set_random_seed(0)
    model = settings.make_model(config, truth.rows["train"])
    x, change = (truth.rows["test"][name] for name in ("x", "dx_dt"))
    image, canonical, field = (
        term.numpy().mean() for term in model._terms(x, x + change)
    )
    found = measures.score_model(model, PIXELS, truth)
    expected = image + canonical + 0.1 * field
    assert found["test_loss"] == pytest.approx(expected, rel=1e-4)
    assert found["energy_mse"] == found["true_energy_mse"]


def test_without_gymnasium_the_task_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "gymnasium", None)
    with pytest.raises(ImportError, match=r"pip install 'hgn-tf\[gym\]'"):
        truths.load_truth(PIXELS, str(tmp_path))


def test_published_decay_is_on_every_weight(truth):
    """Coupled into the gradient: it grows by weight_decay * w."""
    config = settings.make_config(PIXELS, "hnn", 0, **TINY, weight_decay=0.5)
    model = settings.make_model(config, truth.rows["train"])
    field = sum(tf.nn.l2_loss(w.value) for w in model.dynamics.weights)
    np.testing.assert_allclose(sum(model.losses), 0.5 * field, rtol=1e-5)
    assert model.weight_decay == 0.5


def test_other_x_is_a_task_of_its_own(run):
    task = "pixel_pendulum_change"
    assert settings.dataset_of(task) == "hnn_pixel_pendulum/change"
    assert settings.make_config(task, "hnn", 0).num_steps == 10_000
    assert not settings.TASKS[task].field_decay
    _, result = run
    other = dataclasses.replace(result, config={**result.config, "task": task})
    text = table.format_tables([other])
    published, rest = text.split("## Corrected")
    assert task not in published and rest.count(f"| {task} | hnn") == 3


def test_rollouts_of_a_run_are_drawn(run, truth, tmp_path, monkeypatch, capsys):
    folder, _ = run
    monkeypatch.setattr(hgn, "load_truth", lambda *args: truth)
    monkeypatch.setattr(hgn, "as_video", _as_line)
    gif = tmp_path / "x.gif"
    command = ["rollout", str(folder), "--add-energy", "--out", str(gif)]
    assert main([*command, "--examples=2", "--steps=5"]) == 0
    assert "the recorded frames above" in capsys.readouterr().out
    with PIL.Image.open(gif) as image:
        assert image.size == (4 * (2 * 6 + 2), 4 * (2 * 1 + 2))


def _as_line(x):
    """Frames of 6 pixels in a row, as videos of height 1."""
    return np.clip(np.asarray(x)[..., None, :6, None], 0.0, 1.0)


def test_frames_of_observations():
    x = np.random.default_rng(0).random((2, 3, 2 * 784))
    video = measures.as_video(x)
    assert video.shape == (2, 3, 28, 28, 1)
    np.testing.assert_array_equal(video[1, 2, 0, :, 0], x[1, 2, :28])


def test_a_run_of_states_has_no_video(run, tmp_path, capsys):
    folder, _ = run
    shutil.copytree(folder, tmp_path / "run")
    settings_file = tmp_path / "run/config.json"
    text = settings_file.read_text("utf-8")
    settings_file.write_text(text.replace(PIXELS, "mass_spring"), "utf-8")
    out = ["--out", str(tmp_path / "x.gif")]
    assert main(["rollout", str(tmp_path / "run"), *out]) == 2
    assert "`rollout` draws videos" in capsys.readouterr().err


def test_rollouts_have_no_row_on_pixels():
    with pytest.raises(ValueError, match="pixel_pendulum must be one of"):
        settings.make_config(PIXELS, "hnn_rollout", 0)
