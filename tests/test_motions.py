"""Measures of drawn motions: the data pass, and what is no motion fails."""

import numpy as np
import pytest

from hgn_tf import data, motions

NUM, FRAMES = 3, 30


@pytest.fixture(scope="module", params=["pendulum", "two_body"])
def truth(request):
    """A recipe, true videos as best drawn, energies of the data."""
    recipe = data.get_builder(f"physics_{request.param}/small").recipe
    part = data.make_trajectories(recipe, "test", range(NUM))
    times = part.dt * np.arange(FRAMES)
    q, _ = recipe.system.simulate(part.q[:, 0], part.p[:, 0], times)
    video = data.expected_frames_of(recipe, q, 32)[0]
    more = data.make_trajectories(recipe, "train", range(40))
    return recipe, video, part.energy, more.energy


def judged(truth, video):
    recipe, _, _, energy = truth
    return motions.judge(recipe, video, energy, recipe.dt)


def test_the_data_pass(truth):
    found = judged(truth, truth[1])
    assert found["frames"] == 1.0 and found["motions"] == 1.0
    assert found["motion_distance"] < 0.2


def test_a_constant_image_has_no_frame_and_no_motion(truth):
    video = truth[1]
    image = np.broadcast_to(video.mean(axis=(0, 1)), video.shape)
    found = judged(truth, image)
    assert found["frames"] == 0.0 and found["motions"] == 0.0


@pytest.mark.parametrize("kind", ["frozen", "shuffled"])
def test_a_memory_of_frames_has_no_motion(truth, kind):
    video = truth[1]
    if kind == "frozen":
        other = np.broadcast_to(video[:, :1], video.shape)
    else:
        other = video[:, np.random.default_rng(0).permutation(video.shape[1])]
    found = judged(truth, other)
    assert found["frames"] == 1.0 and found["motions"] == 0.0


def test_lost_frames_fail_and_end_nothing(truth):
    recipe, video, energy, of_data = truth
    broken = video.copy()
    broken[0, 20:] = np.nan
    found, whole = judged(truth, broken), judged(truth, video)
    assert found["frames"] == pytest.approx(1 - 10 / (NUM * FRAMES))
    assert found["motions"] == pytest.approx(1 - 1 / NUM)
    assert found["energy_distance"] > whole["energy_distance"]
    lost = judged(truth, motions.shown(np.full_like(video, np.inf)))
    assert lost["frames"] == lost["motions"] == 0.0
    assert lost["motion_distance"] == lost["frame_error_e4"] == np.inf
    spread = np.std(of_data)
    drift, passed = motions.energy_drift(
        recipe, np.full_like(video, np.nan), energy, spread, recipe.dt
    )
    assert (drift, passed) == (np.inf, 0.0)


def test_energy_of_true_frames_does_not_drift(truth):
    recipe, video, energy, more = truth
    spread = np.std(more)
    drift, frames = motions.energy_drift(
        recipe, video, energy, spread, recipe.dt
    )
    # What the noise of 32 samples leaves.
    assert drift < 0.25 and frames == 1.0
    faster, _ = motions.energy_drift(
        recipe, video, energy, spread, recipe.dt / 2
    )
    assert faster > 4 * drift


def test_distance_of_energies_is_in_spreads_of_the_data(monkeypatch):
    recipe = data.get_builder("physics_pendulum/small").recipe
    energy = np.random.default_rng(0).normal(size=2000)
    found = {}

    def read_motions(recipe, q, dt):
        return np.zeros(len(q)), np.ones(len(q)), found["energy"]

    def read_frames(recipe, video):
        return np.zeros((*video.shape[:2], 1)), np.zeros(video.shape[:2])

    monkeypatch.setattr(data, "read_motions", read_motions)
    monkeypatch.setattr(data, "read_frames", read_frames)
    video = np.zeros((2000, 1, 2, 2, 3))
    for shift in (0.0, 2.0):
        found["energy"] = energy + shift * energy.std()
        judged = motions.judge(recipe, video, energy, 0.1)
        assert judged["energy_distance"] == pytest.approx(shift, abs=0.02)
    found["energy"] = np.array([np.nan, -np.inf])
    judged = motions.judge(recipe, video[:2], energy, 0.1)
    assert 4.0 < judged["energy_distance"] < 6.0
