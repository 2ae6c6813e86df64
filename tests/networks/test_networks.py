"""Shapes, independence of examples, and one output in every mode."""

import json
import pathlib
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from hgn_tf.integrators import rollout
from hgn_tf.networks import (
    Decoder,
    DenseDecoder,
    Encoder,
    EnergyNet,
    JointHamiltonian,
    KeypointNet,
    PairPotential,
    PositionNet,
    QuadraticEnergy,
    SeparableHamiltonian,
    StateNet,
    TemplateDecoder,
    UpsampleConv2D,
    flat_networks,
    has_bfloat16_units,
    paper_networks,
    split_state,
)
from hgn_tf.phase import PhaseState, force, is_separable

PICTURE, FLAT, VIDEO = (4, 4, 3), (6,), (2, 8, 8, 3)


def make_energy(convolutional, **kwargs):
    return EnergyNet((7, 5), convolutional=convolutional, **kwargs)


# Name: (layer, shapes of its inputs without the batch axis).
NETWORKS = {
    "encoder": lambda: (Encoder((8, 6), (2, 1), (4, 4, 6)), [VIDEO]),
    "flat_encoder": lambda: (Encoder((8, 6), (2, 2), (10,)), [VIDEO]),
    "position_net": lambda: (
        PositionNet((8, 6), (2, 1), PICTURE),
        [(8, 8, 3)],
    ),
    "flat_position_net": lambda: (
        PositionNet((8,), (2,), FLAT),
        [(8, 8, 3)],
    ),
    "keypoint_net": lambda: (
        KeypointNet((8, 6), (2, 1), PICTURE),
        [(8, 8, 3)],
    ),
    "flat_keypoint_net": lambda: (
        KeypointNet((6,), (1,), FLAT),
        [(8, 8, 3)],
    ),
    "state_net": lambda: (StateNet((8,), PICTURE), [(4, 4, 6)]),
    "flat_state_net": lambda: (StateNet((8,), FLAT), [(12,)]),
    "energy": lambda: (make_energy(True), [PICTURE]),
    "flat_energy": lambda: (make_energy(False, quadratic=True), [FLAT]),
    "quadratic_energy": lambda: (QuadraticEnergy(), [PICTURE]),
    "separable": lambda: (
        SeparableHamiltonian(make_energy(True), make_energy(True)),
        [PICTURE, PICTURE],
    ),
    "flat_separable": lambda: (
        SeparableHamiltonian(QuadraticEnergy(), make_energy(False)),
        [FLAT, FLAT],
    ),
    "joint": lambda: (
        JointHamiltonian(make_energy(True)),
        [PICTURE, PICTURE],
    ),
    "flat_joint": lambda: (JointHamiltonian(make_energy(False)), [FLAT, FLAT]),
    "upsampling": lambda: (UpsampleConv2D(5), [PICTURE]),
    "decoder": lambda: (Decoder((8, 6)), [PICTURE]),
    "swish_decoder": lambda: (
        Decoder((8,), convolutions=3, block_activation="swish"),
        [PICTURE],
    ),
    "small_decoder": lambda: (
        Decoder((8,), depth_to_space=True),
        [PICTURE],
    ),
    "decoder_of_flat": lambda: (Decoder((8, 6), seed_shape=(2, 2, 8)), [FLAT]),
    "template_decoder": lambda: (TemplateDecoder(3, (8, 8, 3)), [FLAT]),
    "pair_energy": lambda: (PairPotential(make_energy(False), 3), [FLAT]),
    "dense_decoder": lambda: (DenseDecoder((8,), (8, 8, 3)), [FLAT]),
    "random_start": lambda: (
        DenseDecoder((8,), (8, 8, 3), grey_start=False),
        [FLAT],
    ),
}
ENERGIES = [name for name in NETWORKS if name.endswith(("energy", "separable"))]
ENERGIES += ["joint", "flat_joint"]


def make_network(name, batch=4):
    """The layer, built and with no weight at 0, and inputs for it."""
    keras.utils.set_random_seed(0)
    layer, shapes = NETWORKS[name]()
    layer.build(*((None, *shape) for shape in shapes))
    rng = np.random.default_rng(0)
    for weight in layer.weights:
        weight.assign_add(0.3 * rng.normal(size=weight.shape))
    inputs = [
        rng.normal(size=(batch, *shape)).astype(np.float32) for shape in shapes
    ]
    return layer, inputs


def as_model(layer, inputs):
    symbols = [keras.Input(x.shape[1:]) for x in inputs]
    return keras.Model(symbols, layer(*symbols))


def assert_close(ours, theirs):
    ours, theirs = tf.nest.flatten(ours), tf.nest.flatten(theirs)
    assert len(ours) == len(theirs)
    for mine, other in zip(ours, theirs):
        # float32, sums in another order; the fusion fault is above 1e-2.
        np.testing.assert_allclose(mine, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NETWORKS)
def test_output_is_the_same_eagerly_in_a_graph_and_in_predict(name):
    """TF with oneDNN fuses some layers in graphs, and wrongly."""
    layer, inputs = make_network(name)
    eager = layer(*inputs)
    assert_close(tf.function(layer)(*inputs), eager)
    assert_close(as_model(layer, inputs).predict(inputs, verbose=0), eager)


@pytest.mark.parametrize("name", NETWORKS)
def test_each_row_depends_on_its_own_example_only(name):
    layer, inputs = make_network(name)
    together = tf.nest.flatten(layer(*inputs))
    alone = tf.nest.flatten(layer(*(x[2:3] for x in inputs)))
    for whole, row in zip(together, alone):
        assert whole.shape[0] == 4
        np.testing.assert_allclose(whole[2:3], row, rtol=1e-4, atol=1e-4)


def as_json(config):
    return json.loads(json.dumps(config))


@pytest.mark.parametrize("name", NETWORKS)
def test_configuration_makes_the_same_network(name):
    layer, inputs = make_network(name)
    config = keras.saving.serialize_keras_object(layer)
    again = keras.saving.deserialize_keras_object(as_json(config))
    assert as_json(again.get_config()) == as_json(layer.get_config())
    if not again.built:
        again.build(*((None, *x.shape[1:]) for x in inputs))
    again.set_weights(layer.get_weights())
    assert_close(again(*inputs), layer(*inputs))


@pytest.mark.parametrize("name", NETWORKS)
def test_saved_network_gives_the_same_output(name, tmp_path):
    layer, inputs = make_network(name)
    as_model(layer, inputs).save(tmp_path / "network.keras")
    loaded = keras.saving.load_model(tmp_path / "network.keras")
    assert_close(loaded(inputs), layer(*inputs))


@pytest.mark.parametrize("name", ENERGIES)
def test_energy_is_one_number_an_example(name):
    layer, inputs = make_network(name)
    assert layer(*inputs).shape == (4,)


@pytest.mark.parametrize("convolutional", [False, True])
def test_force_reaches_every_weight_of_an_energy(convolutional):
    layer, (q,) = make_network("energy" if convolutional else "flat_energy")
    state = PhaseState(tf.constant(q), tf.constant(q))
    with tf.GradientTape() as tape:
        squared = tf.reduce_sum(force(lambda q, p: layer(q), state) ** 2)
    for gradient in tape.gradient(squared, layer.trainable_variables):
        assert np.abs(gradient).max() > 0


def test_quadratic_energy_adds_half_the_square():
    keras.utils.set_random_seed(0)
    net = make_energy(False)
    quadratic = make_energy(False, quadratic=True)
    x = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
    net.build(x.shape)
    quadratic.build(x.shape)
    quadratic.set_weights(net.get_weights())
    half_square = 0.5 * (x**2).sum(axis=1)
    np.testing.assert_allclose(quadratic(x), net(x) + half_square, rtol=1e-5)
    np.testing.assert_allclose(QuadraticEnergy()(x), half_square, rtol=1e-5)


def test_separable_energy_is_the_sum_of_its_parts():
    layer, (q, p) = make_network("separable")
    assert is_separable(layer)
    expected = layer.kinetic(p) + layer.potential(q)
    np.testing.assert_allclose(layer(q, p), expected, rtol=1e-6)


def test_joint_energy_couples_q_and_p():
    layer, (q, p) = make_network("flat_joint")
    assert not is_separable(layer)
    mixed = layer(q, p) - layer(0 * q, p) - layer(q, 0 * p)
    assert np.ptp(mixed) > 1e-2


@pytest.mark.parametrize("name", ["joint", "flat_joint"])
def test_joint_energy_rolls_out(name):
    layer, (q, p) = make_network(name)
    state = PhaseState(tf.constant(q), tf.constant(p))
    path = rollout(layer, state, 0.1, 3, "rk4")
    assert path.q.shape == (4, 4, *q.shape[1:])
    assert np.all(np.isfinite(path.q))


@pytest.mark.parametrize("size", [(4, 4), (3, 5), (1, 1)])
def test_upsampling_convolution_equals_the_two_keras_layers(size):
    keras.utils.set_random_seed(0)
    x = tf.random.normal([2, *size, 3], seed=0)
    layer = UpsampleConv2D(5)
    layer.build(x.shape)
    layer.bias.assign(np.arange(5.0))
    upsample = keras.layers.UpSampling2D(2, interpolation="nearest")
    convolution = keras.layers.Conv2D(5, 3, padding="same")
    convolution.build(upsample(x).shape)
    convolution.set_weights(layer.get_weights())

    def outcome(function, layer):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = function(x)
            loss = tf.reduce_sum(tf.sin(y))
        return y, tape.gradient(loss, [x, layer.kernel, layer.bias])

    ours = outcome(layer, layer)
    theirs = outcome(lambda x: convolution(upsample(x)), convolution)
    assert_close(ours, theirs)


@pytest.mark.parametrize("size", [8, 32, 64, 128])
def test_paper_networks_fit_together(size):
    parts = paper_networks(size, channels=2, filters=4, latent_channels=3)
    video = tf.zeros([1, 2, size, size, 2])
    mean, log_scale = parts["encoder"](video)
    assert mean.shape == log_scale.shape == (1, 4, 4, 6)
    state = parts["state_net"](mean)
    assert state.q.shape == state.p.shape == (1, 4, 4, 3)
    assert parts["hamiltonian"](*state).shape == (1,)
    assert parts["decoder"](state.q).shape == (1, size, size, 2)
    assert parts["decoder"].compute_output_shape(state.q.shape) == (
        1,
        size,
        size,
        2,
    )


@pytest.mark.parametrize("kinetic_units", [(), (5,)])
@pytest.mark.parametrize("size", [8, 32, 64, 128])
def test_flat_networks_fit_together(size, kinetic_units):
    parts = flat_networks(
        size,
        channels=2,
        latent_size=3,
        encoder_filters=(4, 4, 4, 4),
        kinetic_units=kinetic_units,
        decoder_units=(8,),
    )
    mean, log_scale = parts["encoder"](tf.zeros([2, 2, size, size, 2]))
    assert mean.shape == log_scale.shape == (2, 6)
    state = parts["state_net"](mean)
    assert state.q.shape == state.p.shape == (2, 3)
    assert parts["hamiltonian"](*state).shape == (2,)
    assert parts["decoder"](state.q).shape == (2, size, size, 2)


def test_flat_energy_may_be_joint():
    joint = flat_networks(8, latent_size=2, separable=False)["hamiltonian"]
    assert isinstance(joint, JointHamiltonian)
    assert not is_separable(joint)
    rng = np.random.default_rng(0)
    q, p = rng.normal(size=(2, 5, 2)).astype(np.float32)
    found = joint(q, p)
    # In a separable energy this mixed difference is 0.
    mixed = found - joint(q, 0 * p) - joint(0 * q, p) + joint(0 * q, 0 * p)
    assert np.abs(mixed).max() > 1e-3
    # Without its network it is |s|^2 / 2.
    last = joint.network._stack[-1]
    last.kernel.assign(tf.zeros_like(last.kernel))
    expected = 0.5 * np.square([q, p]).sum(axis=(0, 2))
    np.testing.assert_allclose(joint(q, p), expected, rtol=1e-5)
    with pytest.raises(ValueError, match="of a separable energy"):
        flat_networks(8, kinetic_units=(4,), separable=False)


@pytest.mark.parametrize("size", [8, 32])
@pytest.mark.parametrize("form", [paper_networks, flat_networks])
def test_position_nets_give_the_q_of_their_form(form, size):
    parts = form(size, position_net=True)
    frame = tf.zeros([2, size, size, 3])
    state = parts["state_net"](parts["encoder"](frame[:, None])[0])
    assert parts["position_net"](frame).shape == state.q.shape
    assert "position_net" not in form(size)


def test_position_net_whose_strides_miss_the_state_is_refused():
    with pytest.raises(ValueError, match="bring frames to .4, 4.*8, 8"):
        PositionNet((8,), (1,), (4, 4, 2)).build((None, 8, 8, 3))


def test_places_are_linear_in_where_a_spot_is():
    """A map that is the picture itself, steep enough to find a lone spot."""
    net = KeypointNet((1,), (1,), (2,))
    net.build((None, 9, 7, 1))
    kernel = np.zeros((3, 3, 1, 1), np.float32)
    kernel[1, 1] = 50.0
    net._stack[0].kernel.assign(kernel)
    net._last.kernel.assign(np.eye(2))
    rows, columns = np.meshgrid(range(9), range(7), indexing="ij")
    spots = np.zeros((63, 9, 7, 1), np.float32)
    spots[range(63), rows.ravel(), columns.ravel()] = 1.0
    found = net(spots).numpy()
    expected = np.stack([rows.ravel() / 4 - 1, columns.ravel() / 3 - 1], 1)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    # Of an empty picture it is the middle.
    np.testing.assert_allclose(net(0 * spots[:1]), 0.0, atol=1e-6)


def test_paper_sizes_are_the_defaults():
    """A.1: 8 convolutions to 48, f_psi of 3, energies of 6, 3 blocks of 64."""
    parts = paper_networks()
    assert parts["encoder"].filters == (32, *[64] * 6, 48)
    assert parts["state_net"].units == (64, 64)  # and the linear one
    assert parts["hamiltonian"].kinetic.units == (64,) * 5  # and the last
    assert parts["hamiltonian"].kinetic.activation == "softplus"
    assert parts["decoder"].filters == (64, 64, 64)
    assert parts["state_net"].state_shape == (4, 4, 16)


def test_posterior_starts_narrow_whatever_the_frames():
    for form in (paper_networks, flat_networks):
        video = tf.random.uniform([2, 3, 8, 8, 3], seed=0)
        _, log_scale = form(8)["encoder"](video)
        np.testing.assert_array_equal(log_scale, np.full_like(log_scale, -3.0))


@pytest.mark.parametrize(
    "make, q_shape",
    [
        (lambda **kwargs: DenseDecoder((8,), (8, 8, 3), **kwargs), [5, 3]),
        (lambda **kwargs: Decoder((8,), **kwargs), [5, 4, 4, 2]),
    ],
)
def test_decoders_start_with_the_same_grey_frame_for_any_q(make, q_shape):
    q = tf.random.stateless_normal(q_shape, [0, 0])
    drawn = make(grey_start=True)(q)
    np.testing.assert_array_equal(drawn, np.full([5, 8, 8, 3], 0.5))
    assert np.std(make(grey_start=False)(q), axis=0).min() > 0


def test_paper_form_can_start_as_the_paper_or_as_what_trains():
    ours = paper_networks(8, filters=4)
    assert ours["decoder"].block_activation is None
    assert ours["decoder"].grey_start
    assert ours["hamiltonian"].kinetic.quadratic
    theirs = paper_networks(
        8,
        filters=4,
        block_activation="sigmoid",
        grey_start=False,
        quadratic=False,
    )
    assert theirs["decoder"].block_activation == "sigmoid"
    assert not theirs["hamiltonian"].potential.quadratic
    fixed = paper_networks(8, filters=4, learned_kinetic=False)
    assert not fixed["hamiltonian"].kinetic.weights


@pytest.mark.parametrize("name", ["encoder", "decoder"])
def test_half_precision_rounds_the_inside_only(name):
    outputs = []
    for dtype in ("float32", "mixed_bfloat16"):
        keras.utils.set_random_seed(0)
        parts = paper_networks(
            8, filters=8, grey_start=False, picture_dtype=dtype
        )
        part = parts[name]
        shape = [6, 4, 4, 16] if name == "decoder" else [6, 2, 8, 8, 3]
        outputs.append(tf.nest.flatten(part(tf.random.normal(shape)))[0])
        assert {weight.dtype for weight in part.weights} == {"float32"}
    whole, half = outputs
    assert half.dtype == tf.float32
    off = tf.math.reduce_std(half - whole) / tf.math.reduce_std(whole)
    # bfloat16 keeps 8 bits: rounded to 0.4 % in each of the layers.
    assert 1e-4 < off < 0.03


def test_units_for_bfloat16_are_read_from_the_processor(monkeypatch):
    for flags, there in (
        ("flags : sse avx512_bf16 avx2", True),
        ("flags : amx_bf16", True),
        ("flags : avx512f avx512_bf16x", False),
    ):
        monkeypatch.setattr(pathlib.Path, "read_text", lambda *_, f=flags: f)
        assert has_bfloat16_units() is there

    def refuse(*_):
        raise FileNotFoundError

    monkeypatch.setattr(pathlib.Path, "read_text", refuse)
    assert has_bfloat16_units() is False


def test_encoder_sees_the_order_of_the_frames():
    layer, (video,) = make_network("encoder")
    mean, _ = layer(video)
    reversed_mean, _ = layer(video[:, ::-1])
    assert np.abs(mean - reversed_mean).max() > 1e-2


def test_state_net_reaches_negative_states():
    for name in ("state_net", "flat_state_net"):
        layer, (z,) = make_network(name)
        state = layer(z)
        assert min(np.min(state.q), np.min(state.p)) < 0


def test_split_state_gives_the_first_half_to_q():
    state = split_state(tf.constant([[1.0, 2.0, 3.0, 4.0]]))
    np.testing.assert_array_equal(state.q, [[1.0, 2.0]])
    np.testing.assert_array_equal(state.p, [[3.0, 4.0]])


def test_frames_are_not_squashed():
    for name in ("decoder", "dense_decoder"):
        layer, (q,) = make_network(name)
        last = layer.weights[-1]  # The bias of the frame.
        drawn = np.array(layer(q))
        last.assign_add(np.full(last.shape, 7.0))
        np.testing.assert_allclose(layer(q), drawn + 7, atol=1e-4)


@pytest.mark.parametrize("form", [paper_networks, flat_networks])
@pytest.mark.parametrize("size", [7, 257, 32.0, (32, 4), (32, 32, 3), "32"])
def test_other_image_sizes_are_refused_with_the_way_out(form, size):
    rule = "`image_size` must be a whole number from 8 to 256.*of your own"
    with pytest.raises(ValueError, match=f"{rule}.*{re.escape(str(size))}"):
        form(size)


@pytest.mark.parametrize("form", [paper_networks, flat_networks])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(48, 64), (8, 40), (33, 9), (11, 250)])
def test_frames_of_any_height_and_width_go_in_and_come_out(
    form, channels, size
):
    slim = {"filters": 2} if form is paper_networks else {"decoder_units": (4,)}
    parts = form(size, channels, position_net=True, **slim)
    mean, _ = parts["encoder"](tf.zeros((2, 3, *size, channels)))
    state = parts["state_net"](mean)
    assert parts["decoder"](state.q).shape == (2, *size, channels)
    shape = parts["decoder"].compute_output_shape(state.q.shape)
    assert tuple(shape) == (2, *size, channels)
    shown = parts["position_net"](tf.zeros((2, *size, channels)))
    assert shown.shape == state.q.shape
    again = type(parts["decoder"]).from_config(parts["decoder"].get_config())
    assert again(state.q).shape == (2, *size, channels)


def test_depth_to_space_draws_two_by_two_pixels_of_each_place():
    small = Decoder((4,), channels=3, depth_to_space=True)
    plain = Decoder((4,), channels=12)
    q = np.random.default_rng(0).normal(size=(2, 4, 4, 2)).astype(np.float32)
    frame = small(q)
    plain.build(q.shape)
    plain.set_weights(small.get_weights())
    numbers = plain(q).numpy().reshape(2, 8, 8, 2, 2, 3)
    expected = np.swapaxes(numbers, 2, 3).reshape(2, 16, 16, 3)
    np.testing.assert_allclose(frame, expected, atol=1e-5)
    cut = Decoder((4,), frame_size=(15, 9), depth_to_space=True)
    assert cut(q).shape == (2, 15, 9, 3) == cut.compute_output_shape(q.shape)
    with pytest.raises(ValueError, match=r"`frame_size` must be.*\(16, 16\)"):
        Decoder((4,), frame_size=(17, 9), depth_to_space=True).build(
            (None, 4, 4, 2)
        )


def test_depth_to_space_leaves_the_frame_as_large_with_a_block_less():
    whole, small = (
        paper_networks((16, 24), filters=4, depth_to_space=choice)["decoder"]
        for choice in (False, True)
    )
    q = tf.zeros((1, 4, 6, 16))
    assert small(q).shape == whole(q).shape == (1, 16, 24, 3)
    assert len(small.filters) == len(whole.filters) - 1


def test_a_decoder_cuts_what_is_drawn_over_the_edge():
    whole, cut = Decoder((4,)), Decoder((4,), frame_size=(7, 5))
    q = tf.random.stateless_normal([2, 4, 4, 2], [0, 0])
    drawn = whole(q)
    assert cut(q).shape == (2, 7, 5, 3)
    cut.set_weights(whole.get_weights())
    np.testing.assert_array_equal(cut(q), drawn[:, :7, :5])
    with pytest.raises(ValueError, match=r"`frame_size` must be.*\(8, 8\)"):
        Decoder((4,), frame_size=(9, 5)).build((None, 4, 4, 2))


def test_a_rate_is_a_faster_clock():
    states = PhaseState(
        *(tf.random.stateless_normal([3, 2], [0, half]) for half in range(2))
    )
    paths = []
    for rate in (1.0, 4.0):
        keras.utils.set_random_seed(0)
        hamiltonian = flat_networks(
            8, latent_size=2, kinetic_units=(8,), rate=rate
        )["hamiltonian"]
        hamiltonian(*states)
        paths.append(rollout(hamiltonian, states, 0.5 / rate, 10))
    slow, fast = paths
    assert_close(fast, slow)
    again = QuadraticEnergy.from_config(QuadraticEnergy(3.0).get_config())
    np.testing.assert_allclose(again(tf.ones([1, 2])), [3.0])


def test_encoder_needs_a_stride_for_each_layer():
    with pytest.raises(ValueError, match="`filters` and `strides` need one"):
        Encoder((8, 8), (2,))


def test_encoder_whose_strides_miss_the_latent_is_refused():
    encoder = Encoder((8, 8), (2, 2), (4, 4, 6))
    with pytest.raises(ValueError, match="8x8 to 2x2.*divide by 2"):
        encoder.build((None, *VIDEO))


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", keras.ops.abs])
def test_energy_of_straight_pieces_is_refused(activation):
    """Its second derivatives, which training takes, are 0."""
    with pytest.raises(ValueError, match="must be smooth"):
        EnergyNet(activation=activation)


@pytest.mark.parametrize("activation", ["elu", "silu", "softsign", "sin", None])
def test_energy_of_smooth_pieces_is_taken(activation):
    assert EnergyNet(activation=activation).activation == activation


def test_energy_of_sines_is_what_it_says():
    keras.utils.set_random_seed(0)
    net = EnergyNet((5, 4), activation="sin", convolutional=False)
    x = np.random.default_rng(0).normal(size=(3, 6)).astype(np.float32)
    found = net(x)
    first, first_bias, second, second_bias, last = net.get_weights()
    hidden = np.sin(np.sin(x @ first + first_bias) @ second + second_bias)
    np.testing.assert_allclose(found, (hidden @ last)[:, 0], rtol=1e-4)
    again = EnergyNet.from_config(net.get_config())
    again.build(x.shape)
    again.set_weights(net.get_weights())
    np.testing.assert_array_equal(again(x), found)
