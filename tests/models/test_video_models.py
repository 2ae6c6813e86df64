"""What evaluation, pages and the command line ask of every video model."""

import keras
import numpy as np
import pytest

from hgn_tf import HGN, PhaseState, PixelHNN, networks
from hgn_tf.models.collapse import Collapse
from hgn_tf.models.video import VideoModel

BATCH, FRAMES, SIZE = 3, 5, 8
FRAME = (SIZE, SIZE, 1)
SHAPE = (BATCH, FRAMES, *FRAME)


def flat_parts():
    return networks.flat_networks(
        SIZE,
        channels=1,
        latent_size=2,
        encoder_filters=(4,),
        state_units=(8,),
        potential_units=(8,),
        decoder_units=(8,),
        # A grey frame would be the same from any state.
        grey_start=False,
    )


MODELS = {
    "hgn": lambda: HGN(**flat_parts(), num_inference_frames=3, dt=0.5),
    "hgn_determ": lambda: HGN(
        **flat_parts(), num_inference_frames=3, stochastic=False
    ),
    "pixel_hnn": lambda: PixelHNN(
        **networks.dense_pair_networks((2, *FRAME), 4, (16,)), dt=0.25
    ),
}


@pytest.fixture(scope="module", params=MODELS)
def model(request):
    keras.utils.set_random_seed(0)
    model = MODELS[request.param]()
    model.build((None, *SHAPE[1:]))
    return model


@pytest.fixture(scope="module")
def video():
    return np.random.default_rng(0).integers(0, 256, SHAPE, np.uint8)


def test_it_has_what_is_asked(model):
    assert isinstance(model, VideoModel)
    assert model.dt > 0 and 1 <= model.num_inference_frames <= FRAMES
    assert isinstance(model.stochastic, bool)


def test_bytes_floats_and_the_first_frames_alone_give_one_state(model, video):
    state = model.infer(video)
    assert state.q.shape == state.p.shape and state.q.shape[0] == BATCH
    first = video[:, : model.num_inference_frames]
    for same in (first, (video / np.float32(255)).astype(np.float32)):
        for ours, theirs in zip(model.infer(same), state):
            np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_rollout_starts_at_the_state_in_every_direction(model, video):
    state = model.infer(video)
    for num_steps, dt in ((4, None), (4, -model.dt), (3, model.dt / 2)):
        path = model.rollout(state, num_steps, dt)
        shape = (BATCH, num_steps + 1, *state.q.shape[1:])
        assert path.q.shape == path.p.shape == shape
        np.testing.assert_allclose(path.q[:, 0], state.q, rtol=1e-6)
    assert model.rollout(state, 0).q.shape[1] == 1


def test_rollout_of_twice_half_the_step_is_the_same_motion(model, video):
    state = model.infer(video)
    whole = model.rollout(state, 2, 0.01)
    half = model.rollout(state, 4, 0.005)
    np.testing.assert_allclose(half.q[:, ::2], whole.q, atol=1e-4)


def test_rollout_back_returns(model, video):
    state = model.infer(video)
    path = model.rollout(state, 3)
    end = PhaseState(path.q[:, -1], path.p[:, -1])
    back = model.rollout(end, 3, -model.dt)
    for ours, start in zip(back, state):
        np.testing.assert_allclose(ours[:, -1], start, atol=1e-3)


def test_states_are_drawn_as_videos(model, video):
    path = model.rollout(model.infer(video), FRAMES - 1)
    drawn = model.decode(path)
    assert drawn.shape == SHAPE and drawn.dtype == "float32"
    later = PhaseState(path.q[:, 2:], path.p[:, 2:])
    np.testing.assert_allclose(model.decode(later), drawn[:, 2:], atol=1e-5)


def test_energy_is_one_number_per_state(model, video):
    state = model.infer(video)
    path = model.rollout(state, 3)
    along = model.energy(path)
    assert along.shape == (BATCH, 4)
    assert model.energy(state).shape == (BATCH,)
    np.testing.assert_allclose(model.energy(state), along[:, 0], rtol=1e-4)


def test_collapse_is_told(model, video):
    found = model.check_collapse(video)
    assert isinstance(found, Collapse) and np.isfinite(found.spread)
    assert set(found.metrics()) >= {"gradient_norm_share", "collapsed"}


def test_what_is_stochastic_can_be_sampled(model):
    if model.stochastic:
        motion = model.sample(2, 3, seed=1)
        assert motion.video.shape == (2, 4, *FRAME)
        assert motion.states.q.shape[:2] == (2, 4)
    else:
        with pytest.raises(ValueError, match="no prior"):
            model.sample(2, 3)


def test_what_does_not_fit_is_refused(model, video):
    state = model.infer(video)
    with pytest.raises(ValueError, match="built for frames"):
        model.infer(np.zeros((2, FRAMES, 9, 9, 1), np.uint8))
    with pytest.raises(ValueError, match="Received: videos of 1|2 frames"):
        model.infer(video[:, :1])
    with pytest.raises(ValueError, match="`dt`"):
        model.rollout(state, 3, 0.0)
    with pytest.raises(ValueError, match="`num_steps`"):
        model.rollout(state, -1)
