"""SavedModels: the models' numbers without the models, inputs by name."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from hgn_tf import HGN, HNN, DerivativeNet, PhaseState, PixelHNN, networks
from hgn_tf.models.nhf import NHF, NormalizingFlow, nhf_networks

FRAMES, SIZE = 5, 8
FRAME = (SIZE, SIZE, 1)


def hgn():
    parts = networks.flat_networks(
        SIZE,
        channels=1,
        latent_size=2,
        encoder_filters=(4,),
        state_units=(8,),
        potential_units=(8,),
        decoder_units=(8,),
        grey_start=False,
    )
    return HGN(**parts, num_inference_frames=3, dt=0.5)


def pixel_hnn(dynamics=None):
    parts = networks.dense_pair_networks((2, *FRAME), 2, (8,))
    return PixelHNN(**parts, dynamics=dynamics, dt=0.25)


def make_videos(rows=4):
    rng = np.random.default_rng(0)
    return rng.random((rows, FRAMES, *FRAME)).astype(np.float32)


def make_states(rows=4, dim=2):
    rng = np.random.default_rng(1)
    return rng.normal(size=(rows, dim)).astype(np.float32)


MODELS = {
    "hgn": (hgn, make_videos),
    "hgn_convolutional": (
        lambda: HGN(
            **networks.paper_networks(SIZE, 1, 4, 2, grey_start=False),
            num_inference_frames=3,
        ),
        make_videos,
    ),
    "pixel_hnn": (pixel_hnn, make_videos),
    "pixel_hnn_of_vectors": (
        lambda: PixelHNN(**networks.dense_pair_networks((5,), 2, (8,))),
        lambda: make_states(dim=5),
    ),
    "baseline": (lambda: pixel_hnn(DerivativeNet((8,))), make_videos),
    "hnn": (lambda: HNN((8,)), make_states),
    "derivative_net": (lambda: DerivativeNet((8,)), make_states),
    "nhf": (
        lambda: NHF(
            **nhf_networks(num_hamiltonians=1, units=(8,), posterior_units=(8,))
        ),
        make_states,
    ),
    "flow": (lambda: NormalizingFlow("realnvp", 2, (8,)), make_states),
}


def of_video_model(model, served, videos):
    """What the endpoints of an HGN or a PixelHNN give, and what it gives."""
    state = model.infer(videos)
    path = model.rollout(state, 3, -0.125)
    start = state._asdict()
    drawn = {"q": path.q} if isinstance(model, HGN) else path._asdict()
    steps = {"num_steps": tf.constant(3), "dt": tf.constant(-0.125)}
    yield served["infer"](video=tf.constant(videos)), start
    yield served["decode"](**drawn), {"video": model.decode(path)}
    yield served["energy"](**start), {"energy": model.energy(state)}
    yield served["rollout"](**start, **steps), path._asdict()


def test_hgn_is_served_without_a_call(tmp_path):
    keras.utils.set_random_seed(0)
    videos, model = make_videos(), hgn()
    model.build((None, *videos.shape[1:]))
    model.save(tmp_path / "model.keras")
    model = keras.saving.load_model(tmp_path / "model.keras")
    model.export(tmp_path / "served", verbose=False)
    served = tf.saved_model.load(tmp_path / "served").signatures
    for rows in (4, 1):
        for found, expected in of_video_model(model, served, videos[:rows]):
            assert_same(found, expected)
    output = model(videos)
    for name in ("serve", "serving_default"):
        found = served[name](video=tf.constant(videos))
        expected = {"video": output.video, **output.states._asdict()}
        assert_same(found, {**expected, **output.posterior._asdict()})
    motion = model.sample(2, 3, 0.25, seed=1)
    numbers = {"num_samples": 2, "num_steps": 3, "seed": 1}
    found = served["sample"](
        **{name: tf.constant(value) for name, value in numbers.items()},
        dt=tf.constant(0.25),
    )
    assert_same(found, {"video": motion.video, **motion.states._asdict()})


@pytest.mark.slow
def test_pixel_hnn_is_served_after_fit(tmp_path):
    keras.utils.set_random_seed(0)
    videos, model = make_videos(), pixel_hnn()
    model.compile("adam", run_eagerly=True)
    model.fit(videos, verbose=0)
    model.export(tmp_path / "served", verbose=False)
    served = tf.saved_model.load(tmp_path / "served").signatures
    for found, expected in of_video_model(model, served, videos):
        assert_same(found, expected)
    output = model(videos)
    found = served["serve"](video=tf.constant(videos))
    expected = {"observation": output.observation, **output.state._asdict()}
    assert_same(found, expected)
    slope = model.dynamics.time_derivative(tf.concat(output.state, -1))
    found = served["field"](**output.state._asdict())
    assert_same(found, {"dq": slope[:, :1], "dp": slope[:, 1:]})


@pytest.mark.slow
def test_densities_are_served(tmp_path):
    keras.utils.set_random_seed(0)
    x, model = make_states(), MODELS["nhf"][0]()
    model.build((None, 2))
    model.export(tmp_path / "served", verbose=False)
    served = tf.saved_model.load(tmp_path / "served").signatures
    found = served["serve"](q=tf.constant(x))
    assert_same(found, model.importance(x)._asdict())
    numbers = {"num_samples": tf.constant(3), "seed": tf.constant(5)}
    assert_same(served["sample"](**numbers), {"q": model.sample(3, seed=5)})


def test_hnn_is_served(tmp_path):
    keras.utils.set_random_seed(0)
    x, model = make_states(), HNN((8,), integrator="rk4")
    model.build((None, 2))
    model.export(tmp_path / "served", verbose=False)
    served = tf.saved_model.load(tmp_path / "served").signatures
    x = tf.constant(x)
    assert_same(served["serve"](x=x), {"dx_dt": model.time_derivative(x)})
    assert_same(served["energy"](x=x), {"energy": model.energy(x)})
    steps = {"num_steps": tf.constant(3), "dt": tf.constant(0.1)}
    path = model.rollout(x, 0.1, 3)
    assert_same(served["rollout"](x=x, **steps), {"x": path})


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("baseline", marks=pytest.mark.slow),
        pytest.param("flow", marks=pytest.mark.slow),
        "derivative_net",
    ],
)
def test_every_model_is_exported_with_named_outputs(name, tmp_path):
    make, data = MODELS[name]
    model = make()
    model.build((None, *data().shape[1:]))
    model.export(tmp_path / "served", verbose=False)
    served = tf.saved_model.load(tmp_path / "served").signatures
    assert {"serve", "serving_default"} <= {*served}
    for function in served.values():
        assert isinstance(function.structured_outputs, dict)
        for output in function.structured_outputs.values():
            assert output.shape[0] is None


def test_what_cannot_be_exported_is_refused(tmp_path):
    model = hgn()
    with pytest.raises(ValueError, match="`export` needs a model that is bui"):
        model.export(tmp_path / "served")
    model.build((None, FRAMES, *FRAME))
    for given in ({"format": "onnx"}, {"input_signature": []}):
        with pytest.raises(ValueError, match="no signature.*Received"):
            model.export(tmp_path / "served", **given)
    assert not (tmp_path / "served").exists()


@pytest.mark.slow
def test_states_of_convolutions_are_served(tmp_path):
    make, data = MODELS["hgn_convolutional"]
    model = make()
    model.build((None, FRAMES, *FRAME))
    model.export(tmp_path / "served", verbose=False)
    served = tf.saved_model.load(tmp_path / "served").signatures
    state = PhaseState(
        *np.float32(np.random.default_rng(0).normal(size=(2, 3, 4, 4, 2)))
    )
    steps = {"num_steps": tf.constant(2), "dt": tf.constant(0.125)}
    start = {name: tf.constant(part) for name, part in state._asdict().items()}
    found = served["rollout"](**start, **steps)
    assert_same(found, model.rollout(PhaseState(**start), 2)._asdict())


def assert_same(found, expected):
    assert {*found} == {*expected}
    for name, value in expected.items():
        # float32; the rk4 of a SavedModel is off by 1e-5 of a rollout.
        np.testing.assert_allclose(found[name], value, rtol=1e-3, atol=1e-4)
