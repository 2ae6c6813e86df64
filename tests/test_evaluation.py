"""Evaluation: the truth scores perfectly, and what is made of energies."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

import tfds_physics
from hgn_tf import data
from hgn_tf.evaluation import (
    METRICS,
    SPEEDS,
    energy_scores,
    evaluate,
    format_scores,
)
from hgn_tf.models.collapse import check_collapse
from hgn_tf.models.video import VideoModel
from hgn_tf.phase import PhaseState

COMPARED = ("energy_r2", "energy_drift", "energy_variance_share")
SPLITS = ("train", "test", "test_long")
# A grey level off in every pixel, as a mean squared error times 1e4.
GREY_LEVEL = 1e4 / 255**2
SIZES = {"num_train": 8, "num_validation": 0, "num_test": 8}


class Oracle:
    """A video model that infers the true state and moves it by the true H.

    Args:
      builder: Dataset without noise, whose videos it knows by heart.
      clock: Callable, dt that is asked for -> dt that it takes.
    """

    num_inference_frames = 5
    stochastic = False

    def __init__(self, builder, clock=lambda dt: dt):
        self.recipe, self.clock = builder.recipe, clock
        self.dt = builder.recipe.dt
        self.states = {}
        for split in SPLITS:
            part = data.load_split(builder, split)
            for video, q, p in zip(part.video, part.q, part.p):
                self.states[self.seen(video)] = q[0], p[0]

    def seen(self, video):
        return video[: self.num_inference_frames].tobytes()

    def infer(self, video):
        rows = [self.states[self.seen(each)] for each in video]
        return PhaseState(*(tf.constant(np.stack(x)) for x in zip(*rows)))

    def rollout(self, state, num_steps, dt=None):
        dt = self.clock(self.dt if dt is None else dt)
        start = (np.asarray(x, np.float64) for x in state)
        path = self.recipe.system.simulate(
            *start, dt * np.arange(num_steps + 1)
        )
        return PhaseState(*map(tf.constant, path))

    def decode(self, path):
        video = tfds_physics.render_video(
            self.recipe.system, path.q.numpy(), self.recipe.image_size
        )
        return tf.constant(video / np.float32(255.0))

    def energy(self, path):
        q, p = (x.numpy() for x in path)
        return tf.constant(self.recipe.system.hamiltonian(q, p))

    def sample(self, num_samples, num_steps, dt=None, seed=0):
        raise ValueError("The truth has no prior.")

    def check_collapse(self, video):
        start = self.infer(video)
        path = self.rollout(start, 1)
        states = np.concatenate([x.numpy()[:, 0] for x in path], axis=-1)
        after = np.concatenate([x.numpy()[:, 1] for x in path], axis=-1)
        drawn = self.decode(path).numpy()
        recorded = video[:, :2] / np.float32(255.0)
        return check_collapse(
            states, after - states, drawn[:, :1], drawn[:, 1:], recorded
        )


@pytest.fixture(scope="module", params=["pendulum", "two_body"])
def builder(request, data_dir):
    config = tfds_physics.PhysicsConfig(
        name="true",
        noise=0.0,
        num_frames=12,
        num_long_frames=60,
        num_test_long=3,
        **SIZES,
    )
    builder = tfds.builder(
        f"physics_{request.param}", config=config, data_dir=str(data_dir)
    )
    builder.download_and_prepare()
    return builder


def test_the_truth_scores_perfectly(builder):
    oracle = Oracle(builder)
    assert isinstance(oracle, VideoModel)
    scores, arrays = evaluate(oracle, builder)
    errors = [speed.metric for speed in SPEEDS.values()]
    errors += ["train_mse_e4", "forecast_mse_e4", "long_mse_e4_at_60"]
    for name in errors:
        assert 0 <= scores[name] < GREY_LEVEL, name
    assert scores["test_fvu"] < 1e-3 < scores["mean_image_mse_e4"]
    assert scores["noise_floor_mse_e4"] == 0
    assert scores["energy_r2"] == pytest.approx(1, abs=1e-9)
    # States are kept as float32, in which a trajectory starts.
    assert scores["energy_drift"] < 1e-5
    assert scores["reversibility_error"] < 1e-5
    assert scores["collapsed"] == 0
    # No frame passes the threshold: all frames are valid.
    assert scores["valid_prediction_time"] == 60
    for name in SPEEDS:
        truth, model = (arrays[f"{who}_{name}"] for who in ("truth", "model"))
        assert np.abs(truth.astype(int) - model).max() <= 1
    known = set(METRICS) | {f"{name}_stderr" for name in METRICS}
    assert set(scores) <= known


@pytest.mark.parametrize(
    "clock, wrong",
    [
        (lambda dt: abs(dt), {"backward"}),
        (lambda dt: -dt, set(SPEEDS)),
        (lambda dt: dt if dt < 0 else 0.125, {"double", "half"}),
        (lambda dt: dt if abs(dt) == 0.125 else 0.25, {"half"}),
    ],
)
def test_a_wrong_sign_or_speed_is_seen(builder, clock, wrong):
    scores, _ = evaluate(Oracle(builder, clock), builder)
    found = {
        name
        for name, speed in SPEEDS.items()
        if scores[speed.metric] > 10 * GREY_LEVEL
    }
    assert found == wrong


def test_truth_that_runs_the_wrong_way_is_seen(builder, monkeypatch):
    true_video = data.true_video
    monkeypatch.setattr(
        data, "true_video", lambda b, part, times: true_video(b, part, -times)
    )
    scores, _ = evaluate(Oracle(builder), builder)
    for name, speed in SPEEDS.items():
        # The forward motion is compared with the recorded frames.
        wrong = scores[speed.metric] > 10 * GREY_LEVEL
        assert wrong == (name != "forward")


def test_a_kept_energy_that_follows_the_true_one():
    truth = np.linspace(1.0, 3.0, 50)
    along = np.repeat(-2.0 * truth[:, None] + 5.0, 30, axis=1)
    along[:, 10] += 0.5
    scores = energy_scores(along.astype(np.float32), truth)
    spread = 2.0 * truth.std()
    np.testing.assert_allclose(scores["energy_r2"], 1.0, rtol=1e-6)
    np.testing.assert_allclose(scores["energy_drift"], 0.5 / spread, rtol=1e-5)
    variance = 0.25 * (1 / 30) * (29 / 30)
    np.testing.assert_allclose(scores["energy_variance"], variance, rtol=1e-5)
    np.testing.assert_allclose(
        scores["energy_variance_share"], variance / spread**2, rtol=1e-5
    )


def test_one_energy_for_all_has_no_spread_to_compare_with():
    along = np.full([2000, 30], 0.1, np.float32)
    assert along[:, 0].std() > 0  # in float32
    scores = energy_scores(along, np.linspace(1.0, 3.0, 2000))
    assert scores["energy_variance"] == 0
    assert all(np.isnan(scores[name]) for name in COMPARED)


def test_text_names_standard_errors_and_leaves_out_what_is_not_there():
    text = format_scores(
        {"test_mse_e4": 1.0, "test_mse_e4_stderr": 0.125, "energy_r2": None}
    )
    (line,) = text.splitlines()
    assert line.startswith("test MSE x 1e4") and "1  (s.e. 0.125)" in line
    assert "+-" not in text
    alone = {"test_mse_e4": 1.0, "test_mse_e4_stderr": np.nan}
    assert "s.e." not in format_scores(alone)


def test_titles_are_told_apart_and_end_no_table_cell():
    brief = [metric for metric in METRICS.values() if metric.brief]
    own = [metric.title for metric in brief if not metric.yardstick]
    assert len(set(own)) == len(own)
    for metric in METRICS.values():
        assert metric.title and "|" not in metric.title
        assert format(1.0, metric.form)
