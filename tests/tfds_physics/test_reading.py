"""Reading states off pictures: what was drawn is found, nothing else."""

import numpy as np
import pytest

from tfds_physics import (
    SYSTEMS,
    expected_video,
    read_frames,
    read_momenta,
    read_motion,
    render_video,
    unwrap,
)

DT = 0.125


def make_motions(name, batch=2, num_frames=12, dt=DT):
    """A system, and q and p of true motions of it."""
    system, rng = SYSTEMS[name], np.random.default_rng(0)
    starts = [system.sample_state(rng) for _ in range(batch)]
    q0, p0 = (np.stack(part) for part in zip(*starts))
    return system, *system.simulate(q0, p0, dt * np.arange(num_frames))


def distance(system, q, other):
    apart = system.positions(q) - system.positions(other)
    return np.sqrt(np.square(apart).sum(axis=-1))


@pytest.mark.parametrize("name", SYSTEMS)
def test_positions_of_clean_frames_are_found(name):
    system, q, _ = make_motions(name)
    reading = read_frames(system, render_video(system, q) / 255.0)
    # Grey levels are whole: 1/12 of a level squared is 1.3e-6.
    assert reading.error.max() < 3e-6
    assert distance(system, reading.q, q).max() < 0.003


@pytest.mark.parametrize("name", ["mass_spring", "pendulum", "three_body"])
def test_positions_of_expected_frames_are_found(name):
    system, q, _ = make_motions(name, batch=1, num_frames=4)
    frames, variance = expected_video(
        system, q, system.noise, num_samples=400, seed=1
    )
    reading = read_frames(system, frames, system.noise)
    # What 400 samples leave, and 1e-6 for the nodes of the noise.
    assert reading.error.max() < variance.mean() / 400 + 2e-5
    assert distance(system, reading.q, q).max() < 4 * system.noise / 20
    sharp = read_frames(system, frames)
    assert sharp.error.min() > 3 * reading.error.max()


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_mean_image_is_no_frame(name):
    system, q, _ = make_motions(name, batch=8)
    frames = render_video(system, q) / 255.0
    image = frames.mean(axis=(0, 1))
    assert read_frames(system, image).error > 5e-4


@pytest.mark.parametrize("name", SYSTEMS)
def test_true_motions_are_found_and_others_are_not(name):
    system, q, p = make_motions(name)
    true = read_motion(system, q, DT)
    assert true.distance.max() < 1e-3
    energy = system.hamiltonian(true.q0, true.p0)
    np.testing.assert_allclose(
        energy, system.hamiltonian(q[:, 0], p[:, 0]), rtol=2e-3, atol=1e-3
    )
    still = np.broadcast_to(q[:, :1], q.shape)
    order = np.random.default_rng(0).permutation(q.shape[1])
    for other in (still, q[:, order]):
        assert read_motion(system, other, DT).distance.min() > 0.01


@pytest.mark.parametrize("name", SYSTEMS)
def test_momenta_are_those_of_the_motion(name):
    system, q, p = make_motions(name, dt=0.05)
    # A quartic through seven frames errs by the fifth power of dt.
    found = read_momenta(system, q, 0.05)
    limit = 0.02 * np.abs(p).max()
    np.testing.assert_allclose(found, p[:, 3:-3], atol=limit)


def test_a_pendulum_that_turns_over_is_unwrapped():
    system = SYSTEMS["pendulum"]
    q = np.linspace(0.0, 10.0, 30)[None, :, None]
    turned = (q + np.pi) % (2 * np.pi) - np.pi
    np.testing.assert_allclose(unwrap(turned, system), q, atol=1e-12)
    bodies = SYSTEMS["two_body"]
    places = 4.0 * np.arange(8.0).reshape(1, 2, 4)
    np.testing.assert_array_equal(unwrap(places, bodies), places)


def test_readings_do_not_depend_on_the_batch():
    system, q, _ = make_motions("two_body", batch=2, num_frames=3)
    frames = render_video(system, q) / 255.0
    together = read_frames(system, frames)
    alone = read_frames(system, frames[1])
    np.testing.assert_allclose(together.q[1], alone.q, atol=1e-6)


@pytest.mark.parametrize(
    "frames, noise, match",
    [
        (np.zeros((8, 9, 3)), 0.0, "must be of shape"),
        (np.zeros((8, 8, 1)), 0.0, "must be of shape"),
        (np.full((8, 8, 3), np.nan), 0.0, "must be finite"),
        (np.zeros((8, 8, 3)), -1.0, "must not be negative"),
    ],
)
def test_what_cannot_be_read_is_refused(frames, noise, match):
    with pytest.raises(ValueError, match=match):
        read_frames(SYSTEMS["pendulum"], frames, noise)


def test_too_few_frames_have_no_momenta():
    with pytest.raises(ValueError, match="7 times at least. Received: 6"):
        read_momenta(SYSTEMS["pendulum"], np.zeros((1, 6, 1)), DT)
