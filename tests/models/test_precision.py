"""Policies of precision: half in the pictures, whole in states and losses."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from hgn_tf import HGN, HNN, DerivativeNet, PixelHNN, networks
from hgn_tf.models.nhf import NHF, nhf_networks

FRAMES, SIZE, ROWS = 4, 8, 4
FRAME = (SIZE, SIZE, 1)
POLICIES = {
    "float64": "float64",
    "mixed_float16": "float32",
    "mixed_bfloat16": "float32",
}


@pytest.fixture
def policy(request):
    """Sets Keras's policy, and its precision of numbers where it is whole."""
    name, before = request.param, keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    if name == "float64":
        keras.config.set_floatx(name)
    yield name
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy(before)


every_policy = pytest.mark.parametrize("policy", POLICIES, indirect=True)
slow = pytest.mark.slow


def flat_hgn(**changes):
    parts = networks.flat_networks(
        SIZE,
        channels=1,
        latent_size=2,
        encoder_filters=(4,),
        state_units=(8,),
        potential_units=(8,),
        decoder_units=(8,),
        position_net=bool(changes.get("positions")),
    )
    return HGN(**parts | changes, num_inference_frames=3, dt=0.5)


def law_hgn():
    return flat_hgn(
        agreement=1.0,
        positions=1.0,
        isometry=1.0,
        low_rank=1.0,
        reversible=True,
        anchor="random",
        agreement_ramp=(0, 1),
        num_decoded_frames=2,
        curriculum_steps=4,
    )


MODELS = {
    "hgn_of_one_law": law_hgn,
    "hgn_paper": lambda: HGN(
        **networks.paper_networks(SIZE, 1, 4, 2), num_inference_frames=3
    ),
    "pixel_hnn": lambda: PixelHNN(
        **networks.dense_pair_networks((2, *FRAME), 2, (8,))
    ),
}


def make_videos():
    rng = np.random.default_rng(0)
    return rng.random((ROWS, FRAMES, *FRAME)).astype(np.float32)


def train(model, optimizer=None):
    model.compile(optimizer or keras.optimizers.Adam(1e-3), run_eagerly=True)
    return model.fit(make_videos(), batch_size=4, verbose=0).history


# The rest is slow: more of the same at some seconds each.
TRAINED = [
    ("hgn_of_one_law", "float64"),
    ("pixel_hnn", "mixed_float16"),
    ("pixel_hnn", "mixed_bfloat16"),
]


@pytest.mark.parametrize(
    "name, policy",
    [
        pytest.param(
            name, policy, marks=[] if (name, policy) in TRAINED else slow
        )
        for name in MODELS
        for policy in POLICIES
    ],
    indirect=["policy"],
)
def test_video_models_train_with_whole_states(name, policy, tmp_path):
    whole, videos = POLICIES[policy], make_videos()
    model = MODELS[name]()
    history = train(model)
    assert all(np.isfinite(values).all() for values in history.values())
    assert history["dropped_steps"] == [0]
    assert {w.dtype for w in model.weights} == {whole, "int64"}
    state = model.infer(videos)
    path = model.rollout(state, 2)
    found = (*state, *path, model.energy(state), model.decode(path))
    assert {x.dtype for x in found} == {tf.as_dtype(whole)}
    half = isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert half == (policy == "mixed_float16")
    scores = model.evaluate(videos, verbose=0)
    assert np.isfinite(scores).all()

    model.save(tmp_path / "model.keras")
    # As in a session of its own, which knows of no policy.
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.dtype_policy.name == policy
    for ours, theirs in zip(model.infer(videos), loaded.infer(videos)):
        np.testing.assert_array_equal(ours, theirs)
        assert theirs.dtype == whole
    assert type(loaded.optimizer) is type(model.optimizer)


@pytest.mark.parametrize(
    "policy",
    [
        "mixed_float16",
        pytest.param("float64", marks=slow),
        pytest.param("mixed_bfloat16", marks=slow),
    ],
    indirect=True,
)
def test_half_precision_is_that_of_the_pictures(policy):
    """What encoder and decoder compute has the digits of the policy alone."""
    digits = {"float64": 1e-12, "mixed_float16": 1e-3, "mixed_bfloat16": 1e-2}
    keras.utils.set_random_seed(0)
    model = MODELS["hgn_paper"]()
    model.build((None, FRAMES, *FRAME))
    keras.config.set_dtype_policy("float64")
    exact = MODELS["hgn_paper"]()
    exact.build((None, FRAMES, *FRAME))
    for ours, theirs in zip(model.part_weights, exact.part_weights):
        theirs.assign(ours.numpy())
    state = model.infer(make_videos())
    off = np.abs(state.q - exact.infer(make_videos()).q.numpy()).max()
    assert digits[policy] * 1e-2 < off < digits[policy] or off < 1e-12
    # And a rollout from the very same state is right to the last digits.
    state = type(state)(*(tf.cast(x, POLICIES[policy]) for x in state))
    ours = model.rollout(state, 5)
    state = type(state)(*(tf.cast(x, "float64") for x in state))
    theirs = exact.rollout(state, 5)
    np.testing.assert_allclose(ours.q, theirs.q, atol=1e-5)


@every_policy
def test_densities_and_fields_train_in_whole_precision_alone(policy):
    x = np.random.default_rng(0).normal(size=(ROWS, 4))
    sets = {"units": (8,), "posterior_units": (8,)}
    makes = [
        lambda: NHF(**nhf_networks(**sets)),
        lambda: HNN((8,), start_iterations=1),
        lambda: DerivativeNet((8,)),
    ]
    if policy != "float64":
        for make in makes:
            with pytest.raises(ValueError, match=r'give the\s+model dtype="fl'):
                make()
        return
    flow, hnn, net = (make() for make in makes)
    flow.compile("adam", run_eagerly=True)
    flow.fit(x, verbose=0)
    assert flow.log_prob(x, 2).dtype == "float64"
    for field in (hnn, net):
        field.compile("adam", "mse", run_eagerly=True)
        field.fit(x, x, verbose=0)
    hnn.fit(x, np.stack([x, x], axis=1), verbose=0)
    assert hnn.rollout(x, 0.1, 2).dtype == hnn.energy(x).dtype == "float64"
    for model in (flow, hnn, net):
        assert {w.dtype for w in model.weights} <= {"float64", "int64"}


def test_an_hnn_of_64_bits_is_one():
    """Energy along a rollout, to digits that float32 does not have."""
    x = np.random.default_rng(0).normal(size=(2, 2))
    keras.utils.set_random_seed(0)
    model = HNN((8,), dtype="float64", integrator="rk4")
    path = model.rollout(x, 1e-3, 4).numpy()
    assert {w.dtype for w in model.weights} == {"float64"}
    energies = [model.energy(path[:, step]).numpy() for step in (0, 4)]
    np.testing.assert_allclose(*energies, rtol=1e-13)
    assert model.time_derivative(x).dtype == "float64"
    ends = model.integrate(x, (0.0, 4e-3), rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(ends[:, -1], path[:, -1], rtol=1e-11)


@pytest.mark.parametrize("policy", ["float64"], indirect=True)
def test_a_preset_keeps_all_digits(policy, tmp_path):
    model = flat_hgn()
    model.build((None, FRAMES, *FRAME))
    loaded = HGN.from_preset(model.save_to_preset(tmp_path / "mine"))
    for ours, theirs in zip(model.part_weights, loaded.part_weights):
        np.testing.assert_array_equal(ours, theirs)


def half_dense(units, dtype="mixed_float16"):
    return keras.layers.Dense(units, dtype=dtype)


REFUSED = {
    "variables in half": (
        lambda: flat_hgn(dtype="float16"),
        "`dtype` must be 'float32'.*Received: 'float16'",
    ),
    "parts of another precision": (
        lambda: flat_hgn(dtype="float64"),
        "weights of every part must be float64.*`encoder` with",
    ),
    "no part of that policy": (
        lambda: flat_hgn(dtype="mixed_float16"),
        "`dtype` must be that of the parts.*mixed_float16.*float32",
    ),
    "an energy in half": (
        lambda: flat_hgn(hamiltonian=HalfBowl()),
        "`hamiltonian` must compute in float32.*float16",
    ),
    "states in half": (
        lambda: flat_hgn(state_net=HalfStates()),
        "`state_net` must compute in float32.*float16",
    ),
    "pairs of another precision": (
        lambda: PixelHNN(
            **networks.dense_pair_networks((2, *FRAME), 2, (8,)),
            dtype="float64",
        ),
        "weights of every part must be float64.*`encoder` with",
    ),
}


class HalfBowl(keras.layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = half_dense(3)

    def call(self, q, p):
        return tf.reduce_sum(self.dense(tf.concat([q, p], -1)) ** 2, axis=-1)


class HalfStates(keras.layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = half_dense(4)

    def call(self, z):
        return tf.split(self.dense(z), 2, axis=-1)


@pytest.mark.parametrize("case", REFUSED)
def test_precision_that_would_not_hold_is_refused(case):
    make, message = REFUSED[case]
    with pytest.raises(ValueError, match=message) as error:
        make().build((None, FRAMES, *FRAME))
    assert "\n" not in str(error.value)


SCALING = {
    "hgn": lambda: (flat_hgn(), make_videos()),
    "pixel_hnn": lambda: (MODELS["pixel_hnn"](), make_videos()),
    "nhf": lambda: (
        NHF(**nhf_networks(units=(8,), posterior_units=(8,))),
        np.random.default_rng(0).normal(size=(ROWS, 2)),
    ),
}


def scaled(rate=1e-2, **kwargs):
    inner = keras.optimizers.SGD(rate)
    return keras.optimizers.LossScaleOptimizer(inner, **kwargs)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("hgn", marks=slow),
        pytest.param("nhf", marks=slow),
        "pixel_hnn",
    ],
)
def test_a_scaled_loss_trains_alike(name):
    """A power of 2 rounds nothing: the weights are the same to the bit."""
    found = []
    for optimizer in (
        keras.optimizers.SGD(1e-2),
        scaled(initial_scale=2.0**12),
        keras.optimizers.SGD(1e-2, loss_scale_factor=2.0**12),
    ):
        keras.utils.set_random_seed(0)
        model, data = SCALING[name]()
        model.compile(optimizer, run_eagerly=True)
        model.fit(data, batch_size=4, shuffle=False, verbose=0)
        found.append([weight.numpy() for weight in model.part_weights])
    plain, *others = found
    for other in others:
        for ours, theirs in zip(plain, other):
            np.testing.assert_allclose(theirs, ours, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("eagerly", [pytest.param(True, marks=slow), False])
def test_overflow_lowers_the_scale_and_is_counted_apart(eagerly, tmp_path):
    keras.utils.set_random_seed(0)
    model, videos = MODELS["pixel_hnn"](), make_videos()
    optimizer = scaled(initial_scale=2.0**127)
    model.compile(optimizer, run_eagerly=eagerly)
    model.build((None, FRAMES, *FRAME))
    # Far off, the gradients are above 2: float32 does not hold 2^128.
    model.decoder.weights[-1].assign_add(1e3 * np.ones(2 * SIZE**2))
    start = [weight.numpy() for weight in model.part_weights]
    spoilt = np.concatenate([videos, videos.copy()])
    spoilt[ROWS:] = np.nan
    data = tf.data.Dataset.from_tensor_slices(spoilt).batch(ROWS)
    # Rows that are good, then rows that are not.
    with pytest.warns(UserWarning, match="1 of 2"):
        logs = model.fit(data, verbose=0).history
    assert (logs["dropped_steps"], logs["overflowed_steps"]) == ([1], [1])
    assert float(optimizer.dynamic_scale) == 2.0**126
    logs = model.fit(data.take(1).repeat(39), verbose=0).history
    lowered = 127 - int(np.log2(float(optimizer.dynamic_scale)))
    assert logs["overflowed_steps"] == [lowered] and 0 < lowered < 40
    assert logs["dropped_steps"] == [1] and np.isfinite(logs["loss"]).all()
    assert int(optimizer.iterations) == 40 - lowered
    assert any(
        not np.array_equal(weight, old)
        for weight, old in zip(model.part_weights, start)
    )
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert int(loaded.overflowed_steps) == lowered
    assert loaded.optimizer.dynamic_scale == optimizer.dynamic_scale
