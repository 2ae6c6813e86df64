"""The object form: pair forces and templates, against what is known of them."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from hgn_tf import HGN, PhaseState, integrators
from hgn_tf.networks import (
    EnergyNet,
    PairPotential,
    TemplateDecoder,
    object_networks,
)
from hgn_tf.phase import force

BODIES, HEIGHT, WIDTH = 3, 9, 13


def potential(bodies=BODIES):
    keras.utils.set_random_seed(0)
    pair = EnergyNet((8,), convolutional=False, quadratic=True)
    made = PairPotential(pair, bodies)
    made.build((None, 2 * bodies))
    return made


def places(batch=5, bodies=BODIES, seed=0):
    rng = np.random.default_rng(seed)
    return rng.uniform(-1, 1, (batch, bodies, 2)).astype(np.float32)


def flat(q):
    return tf.constant(q.reshape(len(q), -1))


def test_potential_is_the_sum_over_pairs():
    made, q = potential(), places()
    expected = sum(
        made.network(
            tf.constant(np.linalg.norm(q[:, i] - q[:, j], axis=1)[:, None])
        )
        for i, j in itertools.combinations(range(BODIES), 2)
    )
    np.testing.assert_allclose(made(flat(q)), expected, rtol=1e-4)


def test_potential_does_not_change_with_the_frame_of_reference():
    """Bodies are moved, turned by 40 degrees, mirrored and exchanged."""
    made, q = potential(), places()
    angle = np.deg2rad(40)
    turn = [[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]
    for other in (
        q + [0.3, -0.5],
        q @ np.array(turn),
        q * [1, -1],
        q[:, [2, 0, 1]],
    ):
        found = made(flat(other.astype(np.float32)))
        np.testing.assert_allclose(found, made(flat(q)), rtol=1e-4)


def test_forces_keep_momentum_and_angular_momentum():
    parts = object_networks(BODIES, 8)
    hamiltonian = parts["hamiltonian"]
    hamiltonian.build((None, 2 * BODIES))
    start = PhaseState(flat(places()), flat(places(seed=1)))
    path = integrators.rollout(hamiltonian, start, 0.1, 20)
    q, p = (np.reshape(part, (5, 21, BODIES, 2)) for part in path)
    total = p.sum(axis=2)
    np.testing.assert_allclose(total, total[:, :1].repeat(21, 1), atol=1e-4)
    turning = (q[..., 0] * p[..., 1] - q[..., 1] * p[..., 0]).sum(axis=2)
    np.testing.assert_allclose(turning, turning[:, :1].repeat(21, 1), atol=1e-4)
    assert np.abs(p - p[:, :1]).max() > 0.1


def test_force_of_bodies_at_one_place_is_finite():
    made = potential()
    q = flat(np.zeros((1, BODIES, 2), np.float32))
    found = force(lambda q, p: made(q), PhaseState(q, q))
    np.testing.assert_array_equal(found, np.zeros((1, 2 * BODIES)))


def decoder(bodies=1, seed=0):
    """With random templates that leave a margin at the edge of a frame.

    Returns: the decoder, background, colours and opacities.
    """
    keras.utils.set_random_seed(seed)
    made = TemplateDecoder(bodies, (HEIGHT, WIDTH, 3))
    made.build((None, 2 * bodies))
    rng = np.random.default_rng(seed)
    size = (bodies, HEIGHT, WIDTH)
    background = rng.uniform(size=(HEIGHT, WIDTH, 3))
    colours = rng.uniform(size=(*size, 3))
    logits = np.full(size, -30.0)
    logits[:, 3:-3, 3:-3] = rng.normal(size=logits[:, 3:-3, 3:-3].shape)
    logits[:, 4, 6] = 30.0
    made.background.assign(background.ravel())
    made.colours.assign(colours.ravel())
    made.opacity_logits.assign(logits.ravel())
    return made, background, colours, 1 / (1 + np.exp(-logits[..., None]))


def at(rows, columns):
    """The q of a body that is moved so many pixels from the middle."""
    return np.array(
        [[2 * rows / (HEIGHT - 1), 2 * columns / (WIDTH - 1)]], np.float32
    )


def test_a_template_covers_the_background_where_it_is_placed():
    made, background, colours, opacities = decoder()
    for shift in ((0, 0), (2, -3), (-3, 1)):
        moved, tinted = (
            np.roll(part[0], shift, (0, 1)) for part in (opacities, colours)
        )
        expected = (1 - moved) * background + moved * tinted
        found = made(at(*shift))[0]
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_between_pixels_a_template_is_interpolated():
    made, *_ = decoder()
    made.background.assign(tf.zeros_like(made.background))
    whole = [made(at(rows, 1))[0] for rows in (1, 2)]
    found = made(at(1.25, 1))[0]
    expected = 0.75 * whole[0] + 0.25 * whole[1]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_later_bodies_cover_earlier_ones():
    made, _, colours, _ = decoder(2)
    drawn = made(np.zeros((1, 4), np.float32))[0, 4, 6]
    np.testing.assert_allclose(drawn, colours[1, 4, 6], atol=1e-5)


def test_the_first_templates_differ_and_feel_bodies_from_afar():
    keras.utils.set_random_seed(0)
    made = TemplateDecoder(2)
    q = tf.Variable([[-0.5, 0.5, 0.8, -0.8]])
    made.build(q.shape)
    with tf.GradientTape() as tape:
        frame = made(q)
        # What is bright in the middle, half a frame away.
        loss = tf.reduce_sum(frame[:, 14:18, 14:18])
    tints = np.reshape(made.colours, (2, -1, 3))[:, 0]
    assert np.abs(tints[0] - tints[1]).max() > 0.3
    assert (np.abs(tape.gradient(loss, q)) > 0).all()


@pytest.mark.parametrize("size, channels", [(8, 1), ((9, 12), 3)])
def test_hgn_of_objects_trains_and_is_saved(tmp_path, size, channels):
    keras.utils.set_random_seed(0)
    parts = object_networks(
        2, size, channels, (4,), (8,), (8,), position_net=True
    )
    model = HGN(
        **parts,
        num_inference_frames=3,
        agreement=1.0,
        positions=1.0,
        agreement_ramp=(0, 0),
    )
    model.compile(keras.optimizers.Adam(1e-2))
    sides = (size, size) if isinstance(size, int) else size
    rng = np.random.default_rng(0)
    video = rng.uniform(size=(8, 5, *sides, channels)).astype(np.float32)
    history = model.fit(video, batch_size=4, epochs=2, verbose=0).history
    assert history["dropped_steps"][-1] == 0
    assert np.isfinite(history["loss"]).all()
    state = model.infer(video)
    assert state.q.shape == (8, 4)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    path = again.rollout(again.infer(video), 3)
    np.testing.assert_allclose(
        again.decode(path), model.decode(model.rollout(state, 3)), atol=1e-6
    )


def test_what_fits_no_objects_is_refused():
    with pytest.raises(ValueError, match="`num_bodies` must be 2 or more"):
        object_networks(1)
    with pytest.raises(ValueError, match="8 to 256"):
        object_networks(2, 4)
    with pytest.raises(ValueError, match="2 numbers for each of 3 bodies"):
        potential().build((None, 4))
