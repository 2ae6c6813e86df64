"""Measures of the law: known answers, and a memory that fails at each."""

from typing import NamedTuple

import numpy as np
import pytest

from hgn_tf import PhaseState, data, validation

BATCH, FRAMES, DT = 6, 36, 0.1


class Swing(NamedTuple):
    """A pixel cos(a + t), drawn from the state (a + t, 1); all in closed form.

    rule: what the model makes of the frame it should draw, at times [time].
    """

    phases: np.ndarray
    rule: object = staticmethod(lambda times: times)
    scale: object = staticmethod(lambda phases: phases)
    dt: float = DT

    def infer(self, video):
        return PhaseState(self.phases[:, None], np.ones((BATCH, 1)))

    def rollout(self, state, num_steps, dt):
        times = self.rule(dt * np.arange(num_steps + 1))
        q = state.q[:, None] + times[None, :, None]
        return PhaseState(q, np.ones_like(q))

    def decode(self, states):
        return Array(0.5 + 0.5 * np.cos(states.q)[..., None, None])

    def energy(self, state):
        return Array(self.scale(state.q[:, 0]))


class Array(np.ndarray):
    """A numpy array that also answers as a tensor does."""

    def __new__(cls, values):
        return np.asarray(values).view(cls)

    def numpy(self):
        return np.asarray(self)


@pytest.fixture
def phases():
    return np.linspace(0.1, 2.9, BATCH)


@pytest.fixture
def truth(phases):
    def video(times):
        exact = Swing(phases).decode(
            PhaseState(phases[:, None, None] + times[None, :, None], None)
        )
        return np.round(255 * exact.numpy()).astype(np.uint8)

    times = DT * np.arange(FRAMES)
    return validation.LawTruth(video(times), phases, video(-times[:30]))


def test_true_law_has_no_error(phases, truth):
    found = validation.law_measures(Swing(phases), truth)
    assert found["energy_r2"] == pytest.approx(1.0)
    assert found["energy_rank"] == pytest.approx(1.0)
    # Half a grey level at most.
    limit = 1e4 * (0.5 / 255) ** 2
    assert found["backward_mse_e4"] < limit
    assert found["far_mse_e4"] < limit
    assert found["directions"] == pytest.approx(1.0)


def test_memory_of_the_trained_frames_is_seen(phases, truth):
    """It has every frame of the horizon, and stands still before and after."""
    memory = Swing(phases, lambda times: np.clip(times, 0.0, 29 * DT))
    found = validation.law_measures(memory, truth)
    assert found["backward_mse_e4"] > 100.0
    assert found["far_mse_e4"] > 10.0


def test_wrong_sign_of_time_is_seen(phases, truth):
    found = validation.law_measures(Swing(phases, lambda times: -times), truth)
    assert min(found["backward_mse_e4"], found["far_mse_e4"]) > 100.0


def test_bent_scale_of_energy_keeps_its_ranks(phases, truth):
    bent = Swing(phases, scale=lambda phases: -np.exp(3.0 * phases))
    found = validation.law_measures(bent, truth)
    assert found["energy_rank"] == pytest.approx(1.0)
    assert found["energy_r2"] < 0.7


def test_what_is_not_known_is_left_out(phases, truth):
    found = validation.law_measures(
        Swing(phases), validation.LawTruth(truth.video)
    )
    assert list(found) == ["far_mse_e4", "directions"]
    short = validation.LawTruth(truth.video[:, :30])
    assert validation.law_measures(Swing(phases), short) == {}


def test_frames_that_were_seen_are_not_far(phases, truth):
    """A long window of recorded videos has a 31st frame too."""
    recorded = validation.recorded_truth(truth.video, 34)
    assert recorded.video.shape[1] == 34
    found = validation.law_measures(Swing(phases), recorded)
    assert list(found) == ["backward_mse_e4", "directions"]
    image = np.full((1, 1, 1), 0.25)
    assert list(validation.yardsticks(recorded, image)) == ["backward_mse_e4"]


def test_yardsticks_are_of_the_same_frames(phases, truth):
    image = np.full((1, 1, 1), 0.25)
    found = validation.yardsticks(truth, image)
    far = np.square(truth.video[:, 30::3] / 255.0 - 0.25).mean()
    back = np.square(truth.backward[:, 1::3] / 255.0 - 0.25).mean()
    assert found["far_mse_e4"] == pytest.approx(1e4 * far)
    assert found["backward_mse_e4"] == pytest.approx(1e4 * back)


def test_truth_of_a_dataset_starts_where_its_videos_do(data_dir):
    builder = data.get_builder("physics_pendulum/tiny")
    builder.download_and_prepare()
    truth = validation.load_truth(builder)
    assert truth.video.shape[1] == 60
    assert truth.backward.shape[1] == 30
    # The first frame is the same but for the noise of the recording.
    first = np.abs(truth.backward[:, 0].astype(int) - truth.video[:, 0])
    other = np.abs(truth.backward[:, 0].astype(int) - truth.video[:, 8])
    assert first.mean() < 0.5 * other.mean()


def test_measures_stand_in_the_logs_of_an_epoch(phases, truth):
    callback = validation.LawValidation(truth)
    callback.set_model(Swing(phases))
    logs = {"loss": 1.0}
    callback.on_epoch_end(0, logs)
    measures = validation.law_measures(Swing(phases), truth)
    assert logs == {"loss": 1.0} | {
        f"val_{name}": x for name, x in measures.items()
    }


def test_a_training_that_stays_at_the_mean_image_is_told_once():
    video = np.random.default_rng(0).integers(0, 256, (4, 5, 2, 2, 1), np.uint8)
    image = video.mean(axis=(0, 1)) / 255
    constant = float(np.square(video / 255 - image).mean())
    lines = []
    watch = validation.StuckWatch(video, image, lines.append, "Wait.")

    def epochs(*errors):
        for epoch, error in enumerate(errors):
            watch.on_epoch_end(epoch, {"val_reconstruction": error * constant})

    epochs(1.2, 0.96, 0.9, 0.99, 1.0)
    assert not lines
    epochs(0.97, 1.0)
    (line,) = lines
    assert f"image's {1e4 * constant:.1f}e-4. Wait. Another seed" in line
