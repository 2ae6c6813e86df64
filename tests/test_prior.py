"""A learned prior: it holds on thin sets, and draws what it was fitted to."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import hgn_tf
from hgn_tf import networks, presets, prior

SIZE, FRAMES = 8, 5


def thin_ring(count, seed=0):
    """A ring with a little width in 32 numbers, most of them idle."""
    rng = np.random.default_rng(seed)
    angle = rng.uniform(0, 2 * np.pi, count)
    radius = rng.uniform(0.9, 1.1, count)
    plane = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    basis = np.linalg.qr(np.random.default_rng(7).normal(size=(32, 2)))[0]
    return 3.0 + plane @ basis.T, basis


def test_samples_lie_on_the_thin_set():
    states, basis = thin_ring(1500)
    learned = prior.fit_prior(states)
    assert len(learned.basis) == 2
    samples = learned.sample(400, seed=1) - 3.0
    plane = samples @ basis
    np.testing.assert_allclose(samples, plane @ basis.T, atol=1e-5)
    radius = np.linalg.norm(plane, axis=1)
    # N(0, 1) along the two directions would have a spread of 0.46.
    assert abs(radius.mean() - 1.0) < 0.02 and radius.std() < 0.1
    angle = np.arctan2(plane[:, 1], plane[:, 0])
    counts = np.histogram(angle, 8, (-np.pi, np.pi))[0]
    assert counts.min() > 400 / 8 / 2.5


def test_held_out_states_are_likelier_than_under_one_gaussian():
    states, _ = thin_ring(1500)
    other, _ = thin_ring(300, seed=2)
    many, one = prior.fit_prior(states), prior.fit_prior(states, 1)
    assert many.log_prob(other).mean() > one.log_prob(other).mean() + 0.5


def test_log_density_of_one_component_is_the_gaussian():
    rng = np.random.default_rng(0)
    states = rng.normal(size=(5000, 2)) * [1.0, 3.0] + 2.0
    found = prior.fit_prior(states, 1).log_prob(np.array([[2.0, 2.0]]))
    assert found[0] == pytest.approx(-np.log(2 * np.pi * 3.0), abs=0.05)


def test_a_fit_and_its_draws_are_those_of_a_seed():
    states, _ = thin_ring(200)
    one, same = prior.fit_prior(states, seed=3), prior.fit_prior(states, seed=3)
    np.testing.assert_array_equal(one.sample(4, 5), same.sample(4, 5))
    assert not np.array_equal(one.sample(4, 5), one.sample(4, 6))


@pytest.mark.parametrize(
    "states",
    [np.zeros((1, 2)), np.ones((5, 2)), np.array([[0.0, np.nan]] * 3)],
)
def test_states_that_fill_nothing_are_refused(states):
    with pytest.raises(ValueError, match="two different, finite states"):
        prior.fit_prior(states)


def test_a_prior_has_a_component():
    with pytest.raises(ValueError, match="at least 1. Received: 0"):
        prior.fit_prior(thin_ring(20)[0], 0)


def test_no_videos_are_refused():
    empty = tf.data.Dataset.from_tensor_slices(make_videos(0)).batch(2)
    for video in (make_videos(0), empty):
        with pytest.raises(ValueError, match="two different, finite states"):
            make_model().fit_prior(video)


def test_arrays_give_the_prior_back_and_others_do_not():
    learned = prior.fit_prior(thin_ring(60)[0])
    arrays = learned.arrays()
    again = prior.StatePrior.from_arrays(arrays)
    np.testing.assert_array_equal(again.sample(3), learned.sample(3))
    for wrong in (
        {"mean": arrays["mean"]},
        arrays | {"shares": arrays["shares"][1:]},
        arrays | {"other": arrays["mean"]},
    ):
        with pytest.raises(ValueError, match="A learned prior must have"):
            prior.StatePrior.from_arrays(wrong)


def make_model(**kwargs):
    keras.utils.set_random_seed(0)
    model = hgn_tf.HGN(
        **networks.flat_networks(
            SIZE,
            latent_size=3,
            encoder_filters=(4,),
            state_units=(8,),
            potential_units=(8,),
            decoder_units=(8,),
            grey_start=False,
        ),
        num_inference_frames=3,
        **kwargs,
    )
    model.compile("adam", run_eagerly=True)
    model.build((None, FRAMES, SIZE, SIZE, 3))
    return model


def make_videos(count=40):
    rng = np.random.default_rng(0)
    return rng.random((count, FRAMES, SIZE, SIZE, 3), np.float32)


@pytest.fixture(scope="module")
def fitted():
    model = make_model()
    model.fit_prior(make_videos())
    return model


def drawn(model):
    return model.sample(4, 2, seed=1, prior="learned").video.numpy()


def test_learned_samples_are_where_the_videos_are(fitted):
    motion = fitted.sample(200, 2, seed=1, prior="learned")
    first = [part.numpy()[:, 0] for part in motion.states]
    states = fitted.infer(make_videos())
    for sampled, inferred in zip(first, states):
        inferred = inferred.numpy()
        spread = inferred.std(axis=0)
        apart = np.abs(sampled.mean(axis=0) - inferred.mean(axis=0))
        assert (apart < 0.5 * spread + 1e-6).all()
        assert (sampled.std(axis=0) < 1.5 * spread + 1e-6).all()
    assert motion.video.shape == (200, 3, SIZE, SIZE, 3)
    assert not np.array_equal(drawn(fitted), fitted.sample(4, 2, seed=1).video)


def test_a_saved_model_keeps_its_prior(fitted, tmp_path):
    fitted.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(drawn(loaded), drawn(fitted))
    fitted.save_to_preset(tmp_path / "preset")
    kept = presets.load(tmp_path / "preset")
    np.testing.assert_array_equal(drawn(kept), drawn(fitted))


def test_weights_without_a_prior_take_it_away(fitted, tmp_path):
    other = make_model()
    assert other.prior is None
    other.save_weights(tmp_path / "other.weights.h5")
    fitted.save_weights(tmp_path / "fitted.weights.h5")
    other.load_weights(tmp_path / "fitted.weights.h5")
    np.testing.assert_array_equal(drawn(other), drawn(fitted))
    other.load_weights(tmp_path / "other.weights.h5")
    assert other.prior is None


def test_training_on_forgets_the_prior():
    model = make_model()
    model.fit_prior({"video": make_videos(4)})
    model.fit(make_videos(4), epochs=1, verbose=0)
    assert model.prior is None


def test_a_dataset_and_an_array_give_the_same_prior():
    videos, one, other = make_videos(8), make_model(), make_model()
    one.fit_prior(videos)
    other.fit_prior(tf.data.Dataset.from_tensor_slices(videos).batch(8))
    np.testing.assert_allclose(drawn(one), drawn(other), atol=1e-5)


def test_what_cannot_be_sampled_is_refused(fitted):
    with pytest.raises(ValueError, match="must be one of.*Received: 'best'"):
        fitted.sample(1, 1, prior="best")
    with pytest.raises(ValueError, match="fit_prior.*a model without"):
        make_model().sample(1, 1, prior="learned")


def test_a_deterministic_model_has_a_learned_prior():
    model = make_model(stochastic=False)
    with pytest.raises(ValueError, match="fit_prior"):
        model.sample(1, 1)
    model.fit_prior(make_videos(4))
    assert drawn(model).shape == (4, 3, SIZE, SIZE, 3)


def misfit(model, video, refine):
    state = model.infer(video, refine)
    path = model.rollout(state, 2)
    error = np.square(video[:, :3] - model.decode(path).numpy())
    return error.mean(axis=(1, 2, 3, 4))


def test_refinement_draws_each_video_better_and_the_model_stays(fitted):
    video = make_videos(6)
    before = [weight.numpy() for weight in fitted.weights]
    errors = [misfit(fitted, video, refine) for refine in (0, 2, 10)]
    assert (errors[1] <= errors[0]).all() and (errors[2] <= errors[1]).all()
    assert errors[2].mean() < errors[0].mean()
    for old, weight in zip(before, fitted.weights):
        np.testing.assert_array_equal(old, weight)


def test_refinement_of_a_video_does_not_depend_on_its_batch(fitted):
    video = make_videos(3)
    together, alone = fitted.infer(video, 4), fitted.infer(video[1:2], 4)
    np.testing.assert_allclose(together.q[1], alone.q[0], atol=1e-5)


def test_negative_refinement_is_refused(fitted):
    with pytest.raises(
        ValueError, match="`refine` must be a whole number of at least 0"
    ):
        fitted.infer(make_videos(1), refine=-1)
