"""Parts of models may be any Keras layers: built, trained, saved, counted."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from hgn_tf import HGN, PhaseState, PixelHNN, networks
from hgn_tf.networks import serializable

FRAMES, SIZE, LATENT, BATCH = 4, 8, 2, 4
FRAME = (SIZE, SIZE, 1)
STEPS = FRAMES - 1


@serializable
class Bowl(keras.layers.Layer):
    """Half the squared norm of a dense layer's output, as an energy.

    No `build`, no `compute_output_shape`: as a user would write it.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = keras.layers.Dense(8, activation="softplus")

    def call(self, q, p):
        bent = self.dense(tf.concat([q, p], axis=-1))
        return 0.5 * tf.reduce_sum(bent**2, axis=-1)


class Witness(keras.layers.Layer):
    """A part that notes whether it is in training, and may add a loss."""

    def __init__(self, part, added=None, **kwargs):
        super().__init__(**kwargs)
        self.part, self.added = part, added
        self.seen = []

    def build(self, *shapes, **named):
        """Its part builds itself."""

    def call(self, *inputs, training=False):
        self.seen.append(training)
        if self.added is not None:
            self.add_loss(tf.constant(self.added))
        return self.part(*inputs)


def functional_encoder(frames=FRAMES, *between):
    video = keras.Input((frames, *FRAME))
    trunk = keras.Sequential(
        [keras.layers.Flatten(), keras.layers.Dense(16, "relu"), *between]
    )
    hidden = trunk(video)
    outputs = [keras.layers.Dense(2 * LATENT)(hidden) for _ in range(2)]
    return keras.Model(video, outputs)


def functional_state_net():
    z = keras.Input((2 * LATENT,))
    return keras.Model(z, [keras.layers.Dense(LATENT)(z) for _ in range(2)])


def functional_decoder(inputs=LATENT, shape=FRAME):
    return keras.Sequential(
        [
            keras.Input((inputs,)),
            keras.layers.Dense(math.prod(shape)),
            keras.layers.Reshape(shape),
        ]
    )


def make_videos(seed=0):
    rng = np.random.default_rng(seed)
    return rng.random((BATCH, FRAMES, *FRAME)).astype(np.float32)


def make_hgn(graph=False, **changes):
    keras.utils.set_random_seed(0)
    parts = {
        "encoder": functional_encoder(),
        "state_net": functional_state_net(),
        "hamiltonian": Bowl(),
        "decoder": functional_decoder(),
    }
    model = HGN(
        **parts | changes, num_inference_frames=FRAMES, stochastic=False
    )
    model.compile(keras.optimizers.SGD(0.0), run_eagerly=not graph)
    return model


def make_pixel_hnn(*between):
    keras.utils.set_random_seed(0)
    pair = keras.Input((2, *FRAME))
    hidden = keras.layers.Dense(16, "relu")(keras.layers.Flatten()(pair))
    for layer in between:
        hidden = layer(hidden)
    encoder = keras.Model(pair, keras.layers.Dense(2 * LATENT)(hidden))
    model = PixelHNN(encoder, functional_decoder(2 * LATENT, (2, *FRAME)))
    model.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
    return model


MODELS = {"hgn": make_hgn, "pixel_hnn": make_pixel_hnn}


def loss_of_a_step(model):
    model.fit(make_videos(), batch_size=BATCH, verbose=0)
    return model.history.history["loss"][0]


@pytest.mark.parametrize("name", MODELS)
def test_functional_models_and_plain_layers_serve_as_parts(name, tmp_path):
    videos, model = make_videos(), MODELS[name]()
    model.compile(keras.optimizers.Adam(1e-2))
    model.fit(videos, batch_size=BATCH, epochs=2, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    ours, theirs = (m.predict(videos, verbose=0) for m in (model, loaded))
    for mine, other in zip(tf.nest.flatten(ours), tf.nest.flatten(theirs)):
        np.testing.assert_array_equal(mine, other)
    assert ours[0].shape[0] == BATCH


def test_every_weight_of_such_parts_is_trained():
    model = make_hgn()
    model.build((None, FRAMES, *FRAME))
    before = [weight.numpy() for weight in model.trainable_weights]
    model.compile(keras.optimizers.Adam(1e-2), run_eagerly=True)
    model.fit(make_videos(), batch_size=BATCH, verbose=0)
    still = [
        weight.path
        for weight, old in zip(model.trainable_weights, before)
        if np.array_equal(weight, old)
    ]
    # What a deterministic model does without: the spread of the posterior.
    unused = [w.path for w in model.encoder.layers[-1].trainable_weights]
    assert still == unused


PARTS = {
    "encoder": functional_encoder,
    "state_net": functional_state_net,
    "hamiltonian": Bowl,
    "decoder": functional_decoder,
}


@pytest.mark.parametrize("name", PARTS)
def test_training_reaches_every_part(name):
    part = Witness(PARTS[name]())
    model, videos = make_hgn(**{name: part}), make_videos()
    model.build(videos.shape)
    for act, training in (
        (lambda: model.train_on_batch(videos), True),
        (lambda: model.evaluate(videos, verbose=0), False),
        (lambda: model(videos, training=True), True),
        (lambda: model.predict(videos, verbose=0), False),
    ):
        part.seen.clear()
        act()
        assert part.seen and set(part.seen) == {training}


@pytest.mark.parametrize("name", MODELS)
def test_dropout_acts_in_training_alone(name):
    make = {
        "hgn": lambda layer: make_hgn(
            encoder=functional_encoder(FRAMES, layer)
        ),
        "pixel_hnn": make_pixel_hnn,
    }[name]
    model, videos = make(keras.layers.Dropout(0.5, seed=1)), make_videos()
    logs = [
        model.evaluate(videos, verbose=0, return_dict=True)["reconstruction"]
        for _ in range(2)
    ]
    assert logs[0] == logs[1]
    for _ in range(2):
        model.reset_metrics()
        found = model.train_on_batch(videos, return_dict=True)
        logs.append(found["reconstruction"])
    assert len({float(value) for value in logs}) == 3


@pytest.mark.parametrize("name", PARTS)
@pytest.mark.parametrize("graph", [False, True])
def test_losses_that_parts_add_count(name, graph):
    def loss(added):
        keras.utils.set_random_seed(1)
        part = Witness(PARTS[name](), added)
        return loss_of_a_step(make_hgn(graph, **{name: part}))

    # Leapfrog asks an energy that is not separable three times per step.
    calls = 3 * STEPS if name == "hamiltonian" else 1
    assert loss(0.5) == pytest.approx(loss(None) + 0.5 * calls, rel=1e-4)


def test_regularisers_of_parts_count():
    def model(regulariser):
        decoder = keras.Sequential(
            [
                keras.layers.Dense(SIZE**2, kernel_regularizer=regulariser),
                keras.layers.Reshape(FRAME),
            ]
        )
        return make_hgn(decoder=decoder)

    free, bound = model(None), model(keras.regularizers.L2(0.1))
    free_loss, bound_loss = loss_of_a_step(free), loss_of_a_step(bound)
    kernel = bound.decoder.layers[0].kernel.numpy()
    expected = free_loss + 0.1 * (kernel**2).sum()
    assert bound_loss == pytest.approx(expected, rel=1e-4)
    scores = bound.evaluate(make_videos(), verbose=0, return_dict=True)
    assert scores["loss"] == pytest.approx(bound_loss, rel=0.02)


def test_activity_regularisers_of_parts_count():
    def model(regulariser):
        layer = keras.layers.Dense(5, activity_regularizer=regulariser)
        return make_hgn(encoder=functional_encoder(FRAMES, layer))

    free = loss_of_a_step(model(None))
    assert loss_of_a_step(model(keras.regularizers.L2(0.1))) > free + 1e-3


class CountedBowl(Bowl):
    """Adds 1 + |q|^2 to the loss whenever it is asked for an energy."""

    def call(self, q, p):
        self.add_loss(1.0 + tf.reduce_mean(tf.square(q)))
        return super().call(q, p)


@pytest.mark.parametrize("state_frame", [0, 2])
@pytest.mark.parametrize("graph", [False, True])
def test_what_the_hamiltonian_adds_counts_in_evaluation(graph, state_frame):
    videos = make_videos()
    free, counted = (
        make_hgn(graph, hamiltonian=each(), state_frame=state_frame)
        for each in (Bowl, CountedBowl)
    )
    scores = [
        model.evaluate(videos, verbose=0, return_dict=True)["loss"]
        for model in (free, counted)
    ]
    assert scores[1] > scores[0] + 1e-3
    counted.fit(videos, validation_data=videos, verbose=0)


def test_moving_averages_move_in_training_and_not_in_a_dropped_step():
    norm = keras.layers.BatchNormalization()
    model = make_hgn(encoder=functional_encoder(FRAMES, norm))
    model.build((None, FRAMES, *FRAME))
    start = norm.moving_mean.numpy()
    model.evaluate(make_videos(), verbose=0)
    np.testing.assert_array_equal(norm.moving_mean, start)
    model.train_on_batch(make_videos())
    moved = norm.moving_mean.numpy()
    assert np.abs(moved - start).max() > 1e-4
    model.train_on_batch(np.full_like(make_videos(), np.nan))
    assert int(model.dropped_steps) == 1
    np.testing.assert_array_equal(norm.moving_mean, moved)


@pytest.mark.parametrize("name", MODELS)
def test_model_built_from_a_dictionary_knows_its_frames(name, tmp_path):
    model, shape = MODELS[name](), (None, FRAMES, *FRAME)
    model.build({"video": shape, "energy": (None, FRAMES)})
    wrong = np.zeros((2, FRAMES, 9, 9, 1), np.uint8)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for each in (model, loaded):
        with pytest.raises(ValueError, match=r"built for frames \(8, 8, 1\)"):
            each.infer(wrong)
        assert each.infer(make_videos()).q.shape == (BATCH, LATENT)


@pytest.mark.parametrize("name", MODELS)
def test_losses_and_metrics_of_others_are_refused(name):
    model = MODELS[name]()
    for given in ({"loss": "mse"}, {"metrics": ["mae"]}):
        with pytest.raises(ValueError, match=f"objective.*{[*given]}"):
            model.compile("adam", **given)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (
            {
                "encoder": keras.Sequential(
                    [
                        keras.layers.Flatten(),
                        keras.layers.Dense(2),
                        keras.layers.Lambda(lambda x: [x, x[:, :1]]),
                    ]
                )
            },
            "must give mean and log_scale of one shape",
        ),
        (
            {"hamiltonian": networks.JointHamiltonian(keras.layers.Dense(1))},
            r"one number per example.*\(1, 1\)",
        ),
    ],
)
def test_parts_that_do_not_fit_get_a_clear_error(part, message):
    with pytest.raises(ValueError, match=message):
        make_hgn(**part).build((None, FRAMES, *FRAME))


def test_what_needs_a_built_model_says_so():
    model = make_hgn()
    state = PhaseState(*tf.zeros([2, BATCH, LATENT]))
    with pytest.raises(
        ValueError, match="`energy` needs a model that is built"
    ):
        model.energy(state)
    model.infer(make_videos())
    assert model.energy(state).shape == (BATCH,)
