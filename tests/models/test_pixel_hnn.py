"""The pixel HNN: its losses by hand, its motions by scipy, its collapse."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.integrate import solve_ivp

from hgn_tf import networks
from hgn_tf.models.collapse import check_collapse
from hgn_tf.models.hnn import HNN, DerivativeNet
from hgn_tf.models.pixel_hnn import PixelHNN
from hgn_tf.models.steps import Noise
from hgn_tf.models.video import consecutive_pairs
from hgn_tf.phase import PhaseState

FRAMES, SIZE = 6, 8
PAIR = (2, SIZE, SIZE, 1)
FORMS = {
    "dense": lambda: networks.dense_pair_networks(PAIR, 2, (32,)),
    "convolutional": lambda: {
        "encoder": networks.PairEncoder(networks.Encoder((8,), (2,), (2,))),
        # Sigmoids would want more steps than a test has.
        "decoder": networks.PairDecoder(
            networks.Decoder(
                (8,), channels=2, seed_shape=(4, 4, 4), block_activation=None
            )
        ),
    },
}
DYNAMICS = {"hnn": HNN, "baseline": DerivativeNet}


def make_videos(batch=8):
    """A bright disc that swings to and fro; float32 in [0, 1]."""
    rng = np.random.default_rng(0)
    phase = rng.uniform(0, 2 * np.pi, (batch, 1, 1, 1))
    times = 0.5 * np.arange(FRAMES)[:, None, None]
    row, column = np.mgrid[:SIZE, :SIZE]
    centre = SIZE / 2 + 2 * np.cos(phase + times)
    squared = (column - centre) ** 2 + (row - SIZE / 2) ** 2
    return np.exp(-squared / 4).astype(np.float32)[..., None]


def make_vectors(rows=32, size=5):
    rng = np.random.default_rng(1)
    return rng.normal(size=(2, rows, size)).astype(np.float32)


@pytest.mark.filterwarnings("error::UserWarning")
def test_vectors_may_be_any_floats():
    """No picture: an error above 1 says nothing of them."""
    x, dx = make_vectors()
    model = vector_model()
    model.compile("adam")
    model.fit(100 * x, dx, verbose=0)
    for numbers in ((100 * x).astype(np.uint8), x.astype(int)):
        with pytest.raises(TypeError, match="Vectors must be floats"):
            model.fit(numbers, dx, verbose=0)


def test_vectors_of_a_stream_tell_their_size_with_the_first_batch():
    x, dx = make_vectors()
    spec = tf.TensorSpec([None, None], tf.float32)
    batches = tf.data.Dataset.from_generator(
        lambda: iter([(x[:16], dx[:16]), (x[16:], dx[16:])]),
        output_signature=(spec, spec),
    )
    model = vector_model()
    model.compile("adam")
    for _ in range(2):  # the second time the model is built
        model.fit(batches, verbose=0)
    assert int(model.steps) == 4


@pytest.mark.parametrize("value", [-1.0, np.nan, np.inf])
@pytest.mark.parametrize("name", ["hnn_weight", "weight_decay"])
def test_a_weight_is_finite_and_no_less_than_0(name, value):
    with pytest.raises(ValueError, match=f"`{name}` must be 0 or more, and"):
        make_model(**{name: value})


def make_model(
    form="dense",
    dynamics="hnn",
    graph=False,
    rate=1e-2,
    jit_compile="auto",
    **kwargs,
):
    """Small and compiled; eager, unless a graph is worth tracing."""
    keras.utils.set_random_seed(0)
    model = PixelHNN(
        **FORMS[form](),
        **{"dynamics": DYNAMICS[dynamics]((16, 16)), **kwargs},
    )
    optimizer = keras.optimizers.Adam(rate)
    model.compile(optimizer, run_eagerly=not graph, jit_compile=jit_compile)
    return model


def vector_model(dynamics="hnn", size=5, latent_size=4):
    keras.utils.set_random_seed(0)
    model = PixelHNN(
        **networks.dense_pair_networks((size,), latent_size, (16,)),
        dynamics=DYNAMICS[dynamics]((16, 16)),
    )
    model.build((None, size))
    return model


def losses_by_hand(model, x, after):
    """The three terms in numpy; grad H by differences."""

    def encode(rows):
        return model.encoder(tf.constant(rows)).numpy().astype(np.float64)

    z, then = encode(x), encode(after)
    half, step = z.shape[1] // 2, 1e-2
    slope = np.empty(z.shape)
    for index in range(z.shape[1]):
        move = step * np.eye(z.shape[1])[index]
        ends = [model.dynamics.energy(z + sign * move) for sign in (1, -1)]
        slope[:, index] = (ends[0] - ends[1]) / (2 * step)
    field = np.hstack([slope[:, half:], -slope[:, :half]])
    again = model.decoder(model.encoder(tf.constant(x))).numpy()
    return (
        np.mean((x - again) ** 2),
        np.mean((z[:, half:] - (then - z)[:, :half]) ** 2),
        np.mean((then - z - field) ** 2),
    )


def assert_losses(scores, expected):
    names = ("reconstruction", "canonical", "field")
    for name, value in zip(names, expected):
        # Differences of float32 energies are good to 1e-3.
        assert scores[name] == pytest.approx(value, rel=5e-3)
    image, canonical, field = expected
    total = image + canonical + 0.1 * field
    assert scores["loss"] == pytest.approx(total, rel=5e-3)


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_xla_makes_the_same_steps_where_it_is_asked_for(form):
    found = {}
    for jit, honoured in ("auto", False), (True, True):
        model = make_model(form, graph=True, jit_compile=jit)
        assert model.jit_compile == honoured
        model.fit(
            make_videos(), batch_size=4, epochs=2, shuffle=False, verbose=0
        )
        found[honoured] = model.get_weights()
    for plain, xla in zip(found[False], found[True]):
        np.testing.assert_allclose(plain, xla, rtol=0, atol=1e-4)


def test_losses_of_vectors_are_those_by_hand():
    x, change = make_vectors()
    model = vector_model()
    model.compile(run_eagerly=True)
    scores = model.evaluate(x, change, verbose=0, return_dict=True)
    assert_losses(scores, losses_by_hand(model, x, x + change))


def test_losses_of_videos_are_those_of_all_their_pairs():
    video, model = make_videos(), make_model()
    scores = model.evaluate(video, verbose=0, return_dict=True)
    pairs = np.stack([video[:, :-1], video[:, 1:]], axis=2)
    rows = [pairs[:, now].reshape(-1, *PAIR) for now in (range(4), range(1, 5))]
    assert_losses(scores, losses_by_hand(model, *rows))


@pytest.mark.parametrize("part", ["encoder", "dynamics"])
def test_each_loss_trains_the_encoder_and_the_field(part):
    model = make_model("convolutional")
    model.build((None, *make_videos().shape[1:]))
    x, after = consecutive_pairs(make_videos(2))
    weights = getattr(model, part).trainable_variables
    with tf.GradientTape() as tape:
        field = tf.reduce_mean(model._terms(x, after)[2])
    slopes = tape.gradient(field, [weight.value for weight in weights])
    assert sum(float(tf.norm(each)) for each in slopes if each is not None) > 0


def test_training_pairs_are_consecutive_and_drawn_anew():
    video = np.broadcast_to(
        np.arange(FRAMES)[:, None, None, None], (50, FRAMES, 2, 2, 1)
    ).astype(np.float32)
    x, after = (
        each.numpy() for each in consecutive_pairs(video, Noise([0, 1]))
    )
    assert x.shape == (50, 2, 2, 2, 1)
    np.testing.assert_array_equal(x[:, 1], x[:, 0] + 1)
    np.testing.assert_array_equal(after, x + 1)
    starts = x[:, 0, 0, 0, 0]
    assert set(starts) == set(range(FRAMES - 2))
    other, _ = consecutive_pairs(video, Noise([0, 2]))
    assert np.any(other[:, 0, 0, 0, 0] != starts)


@pytest.mark.parametrize(
    "form",
    ["dense", pytest.param("convolutional", marks=pytest.mark.slow)],
)
def test_one_batch_is_learned(form):
    video = make_videos(4)
    model = make_model(form, graph=True)
    dataset = tf.data.Dataset.from_tensors(video).repeat()
    model.fit(dataset, steps_per_epoch=300, verbose=0)
    scores = model.evaluate(video, verbose=0, return_dict=True)
    constant = np.square(video - video.mean(axis=(0, 1))).mean()
    assert scores["reconstruction"] < 0.1 * constant
    assert not model.check_collapse(video).collapsed


@pytest.mark.parametrize(
    "make", [networks.dense_pair_networks, networks.conv_pair_networks]
)
def test_paper_s_networks_see_and_draw_pairs(make):
    parts = make(latent_size=8)
    pair = tf.zeros([3, 2, 32, 32, 3])
    z = parts["encoder"](pair)
    assert z.shape == (3, 8)
    assert parts["decoder"](z).shape == pair.shape
    assert parts["encoder"].compute_output_shape(pair.shape) == z.shape
    assert parts["decoder"].compute_output_shape(z.shape) == pair.shape


def test_swing_is_found_from_vectors():
    """Rows on circles: the field learned is the turn of the latent state."""
    rng = np.random.default_rng(0)
    start = rng.normal(size=(256, 2)).astype(np.float32)
    turn = np.array([[np.cos(0.3), -np.sin(0.3)], [np.sin(0.3), np.cos(0.3)]])
    change = (start @ turn.T - start).astype(np.float32)
    model = vector_model(size=2, latent_size=2)
    model.compile(keras.optimizers.Adam(3e-3))
    model.inner_steps = 50
    data = tf.data.Dataset.from_tensors(
        (np.tile(start, (50, 1)), np.tile(change, (50, 1)))
    ).repeat()
    model.fit(data, steps_per_epoch=10, verbose=0)
    path = model.rollout(model.infer(start[:20]), 5)
    drawn = model.decode(path).numpy()
    expected = start[:20] @ np.linalg.matrix_power(turn, 5).T
    error = np.square(drawn[:, 5] - expected).mean()
    assert error < 0.1 * np.square(start[:20] - expected).mean()


@pytest.mark.parametrize("dynamics", DYNAMICS)
def test_rollout_is_scipy_s_on_the_model_s_field(dynamics):
    model = make_model(dynamics=dynamics, dt=0.5)
    state = model.infer(make_videos(1))
    path = model.rollout(state, 4, dt=0.25)
    start = np.concatenate(state, axis=-1)[0]
    times = 0.5 * np.arange(5)  # in frames, a frame being 0.5 s
    expected = solve_ivp(
        lambda _, z: model.dynamics.time_derivative(z[None]).numpy()[0],
        (0, 2),
        start,
        t_eval=times,
        rtol=1e-6,
    )
    found = np.concatenate(path, axis=-1)[0]
    np.testing.assert_allclose(found, expected.y.T, atol=1e-5)


def test_rollout_goes_back_and_keeps_its_energy():
    model = make_model()
    state = model.infer(make_videos(3))
    path = model.rollout(state, 10)
    energy = model.energy(path).numpy()
    assert energy.shape == (3, 11)
    np.testing.assert_allclose(energy, energy[:, :1].repeat(11, 1), atol=1e-4)
    np.testing.assert_allclose(model.energy(state), energy[:, 0], atol=1e-6)
    end = PhaseState(path.q[:, -1], path.p[:, -1])
    back = model.rollout(end, 10, dt=-1.0)
    np.testing.assert_allclose(back.q[:, -1], state.q, atol=1e-4)


@pytest.mark.parametrize("form", FORMS)
def test_path_from_video_to_frames(form):
    video, model = make_videos(), make_model(form)
    state = model.infer(video)
    assert state.q.shape == state.p.shape == (8, 1)
    path = model.rollout(state, 3)
    frames = model.decode(path)
    assert frames.shape == (8, 4, SIZE, SIZE, 1)
    output = model.predict(video, verbose=0)
    np.testing.assert_allclose(
        output.observation[:, 0], frames[:, 0], atol=1e-5
    )
    np.testing.assert_allclose(output.state.q, state.q, atol=1e-6)
    assert model.rollout(state, 0).q.shape == (8, 1, 1)


def test_collapse_is_told_by_the_gradient_of_the_energy():
    video, model = make_videos(), make_model()
    lively = model.check_collapse(video)
    assert not lively.collapsed
    z = np.concatenate(
        [np.concatenate(model.infer(video[:, t:]), -1) for t in range(5)]
    )
    slope = model.dynamics.time_derivative(z).numpy()
    expected = np.hypot(*slope.T).mean()
    assert lively.gradient_norm == pytest.approx(expected, rel=1e-5)
    for weight in model.dynamics.trainable_variables:
        weight.assign(1e-3 * weight)
    still = model.check_collapse(video)
    assert still.collapsed and still.gradient_norm < 1e-6


def test_decoder_of_one_picture_is_a_collapse():
    video, model = make_videos(), make_model()
    model.infer(video)
    for weight in model.decoder.trainable_variables:
        weight.assign(1e-3 * weight)
    found = model.check_collapse(video)
    assert found.collapsed and found.gradient_norm > 0.1 * found.spread


def test_encoder_of_one_point_is_a_collapse():
    video, model = make_videos(), make_model()
    model.infer(video)
    for weight in model.encoder.trainable_variables:
        weight.assign(tf.zeros_like(weight))
    assert model.check_collapse(video).collapsed


def test_weight_decay_is_coupled_into_the_gradient():
    """Without data's pull SGD leaves each weight w (1 - rate * decay)."""
    x = np.zeros((4, 5), np.float32)
    model = vector_model()
    model = PixelHNN(
        model.encoder,
        networks.MLP((16,), (5,)),
        DerivativeNet((8,), weight_decay=0.5),
        weight_decay=0.5,
        hnn_weight=0.0,
    )
    model.build((None, 5))
    for layer in (model.encoder, model.decoder):
        for weight in layer.trainable_variables:
            if weight.path.endswith("bias"):
                weight.assign(tf.zeros_like(weight))
    before = [weight.numpy() for weight in model.trainable_variables]
    model.compile(keras.optimizers.SGD(0.1))
    history = model.fit(x, x, verbose=0).history
    assert history["loss"][0] == 0.0  # the decay is not in it
    for old, new in zip(before, model.trainable_variables):
        np.testing.assert_allclose(new, 0.95 * old, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("dynamics", DYNAMICS)
@pytest.mark.parametrize("form", FORMS)
def test_saved_model_goes_on_alike(form, dynamics, tmp_path):
    video, model = make_videos(), make_model(form, dynamics)
    model.fit(video, batch_size=4, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert int(loaded.steps) == 2
    ours, theirs = (json.dumps(each.get_config()) for each in (model, loaded))
    assert ours == theirs
    path = model.rollout(model.infer(video), 2)
    again = loaded.rollout(loaded.infer(video), 2)
    np.testing.assert_array_equal(loaded.decode(again), model.decode(path))
    for each in (model, loaded):
        each.fit(video, batch_size=4, shuffle=False, verbose=0)
    for ours, theirs in zip(model.get_weights(), loaded.get_weights()):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_model_of_vectors_is_saved_too(tmp_path):
    x, _ = make_vectors()
    model = vector_model("baseline")
    expected = model.infer(x)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.infer(x).q, expected.q)


def test_step_that_is_not_finite_is_dropped():
    x, change = make_vectors()
    change[3] = np.nan
    model = vector_model()
    model.compile(keras.optimizers.Adam(1e-2), run_eagerly=True)
    before = model.get_weights()
    data = tf.data.Dataset.from_tensors((x, change))
    history = model.fit(data, verbose=0).history
    assert history["dropped_steps"] == [1] and int(model.steps) == 1
    names = [weight.path for weight in model.weights]
    for name, old, new in zip(names, before, model.get_weights()):
        assert "steps" in name or np.array_equal(old, new), name


def test_steps_in_one_call_are_those_one_by_one():
    x, change = make_vectors(24)
    models = [vector_model(), vector_model()]
    for model, count in zip(models, (1, 3)):
        model.compile(keras.optimizers.SGD(1e-2), run_eagerly=True)
        model.inner_steps = count
        data = tf.data.Dataset.from_tensor_slices((x, change))
        model.fit(data.batch(8 * count), verbose=0)
        assert int(model.steps) == 3
    for ours, theirs in zip(*(model.get_weights() for model in models)):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_baseline_has_no_energy():
    model = make_model(dynamics="baseline")
    with pytest.raises(ValueError, match="Received: dynamics DerivativeNet"):
        model.energy(model.infer(make_videos()))


def test_networks_that_do_not_fit_are_refused():
    parts = networks.dense_pair_networks((5,), 3, (8,))
    with pytest.raises(ValueError, match="2 dof.*Received: shape .1, 3."):
        PixelHNN(**parts).build((None, 5))
    parts = networks.dense_pair_networks((6,), 2, (8,))
    with pytest.raises(ValueError, match="must draw what `encoder` sees"):
        PixelHNN(**parts).build((None, 5))
    with pytest.raises(ValueError, match="`dt`"):
        PixelHNN(**parts, dt=0.0)


@pytest.mark.parametrize(
    ("x", "y", "match"),
    [
        (make_videos()[:, :2], None, "take 3 frames. Received: videos of 2"),
        (make_videos()[0], None, "batch the videos"),
        (2 * make_videos(), None, "must lie in"),
        (make_vectors()[0], None, "change to the next"),
        (make_vectors()[0], make_vectors()[1][:4], "Received: .32, 5. and .4"),
    ],
)
def test_data_that_do_not_fit_are_refused(x, y, match):
    with pytest.raises(ValueError, match=match):
        make_model().fit(x, y)


def test_other_observations_than_it_was_built_for_are_refused():
    x, change = make_vectors()
    model = make_model()
    model.infer(make_videos())
    with pytest.raises(ValueError, match="built for observations .2, 8, 8, 1."):
        model.fit(x, change)
    with pytest.raises(ValueError, match="built for frames"):
        model.infer(make_videos()[:, :, 1:])
    vectors = vector_model()
    vectors.infer(x)
    with pytest.raises(ValueError, match="built for vectors of 5"):
        vectors.infer(make_videos())
    x[3, 1] = np.nan
    with pytest.raises(ValueError, match="the first is row 3"):
        vectors.infer(x)
    with pytest.raises(ValueError, match="`num_steps`"):
        model.rollout(model.infer(make_videos()), -1)


def look_at(states, change, drawn_change=1.0):
    """Motion of states drawn as zeros, and as `drawn_change` when moved."""
    drawn = np.zeros((len(states), 3))
    recorded = np.array([[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]])
    return check_collapse(states, change, drawn, drawn + drawn_change, recorded)


def test_states_that_are_all_one_are_collapsed_and_have_no_share():
    found = look_at(np.zeros((4, 2)), np.ones((4, 2)))
    assert found.collapsed and np.isnan(found.metrics()["gradient_norm_share"])
    moving = look_at(np.eye(2), np.eye(2))
    share = moving.metrics()["gradient_norm_share"]
    assert share == pytest.approx(1 / moving.spread) and not moving.collapsed


def test_what_is_not_finite_does_not_move():
    assert look_at(np.eye(2), np.full((2, 2), np.nan)).collapsed
    assert look_at(np.eye(2), np.eye(2), np.nan).collapsed


def test_states_that_move_in_pictures_that_do_not_are_collapsed():
    moving = look_at(np.eye(2), np.eye(2), 0.1)
    # Pictures vary by 1 in one of three pixels.
    assert moving.drawn_change == pytest.approx(0.1 * 3**0.5)
    assert not moving.collapsed
    assert look_at(np.eye(2), np.eye(2), 1e-3).collapsed
