"""Steps that trained models share: what is broken shows, every row counts."""

import contextlib
import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from hgn_tf import HGN, PixelHNN, networks
from hgn_tf.models.nhf import NHF, NormalizingFlow, nhf_networks
from hgn_tf.models.steps import run_steps

FRAMES, SIZE = 5, 8
FRAME = (SIZE, SIZE, 1)


def hgn(**changes):
    parts = networks.flat_networks(
        SIZE,
        channels=1,
        latent_size=2,
        encoder_filters=(4,),
        state_units=(8,),
        potential_units=(8,),
        decoder_units=(8,),
    )
    return HGN(**parts, **{"num_inference_frames": 3, "dt": 0.5, **changes})


def pixel_hnn():
    return PixelHNN(**networks.dense_pair_networks((2, *FRAME), 2, (16,)))


VIDEO_MODELS = {"hgn": hgn, "pixel_hnn": pixel_hnn}
# Each with a part without which no loss is left.
MODELS = {
    "hgn": (hgn, "decoder"),
    "pixel_hnn": (pixel_hnn, "decoder"),
    "nhf": (
        lambda: NHF(**nhf_networks(units=(8,), posterior_units=(8,))),
        "posterior",
    ),
    "flow": (lambda: NormalizingFlow("realnvp", 2, (8,)), "networks"),
}


def make_videos(rows=8):
    rng = np.random.default_rng(0)
    return rng.random((rows, FRAMES, *FRAME)).astype(np.float32)


@pytest.mark.parametrize("strategy", [None, "one_device"])
@pytest.mark.parametrize("name", MODELS)
def test_the_end_of_a_stream_is_no_step(name, strategy):
    """Keras asks a stream of unknown length for one batch too many."""
    scope = contextlib.nullcontext()
    if strategy:
        scope = tf.distribute.OneDeviceStrategy("/cpu:0").scope()
    with scope:
        model = MODELS[name][0]()
        model.compile(keras.optimizers.SGD(1e-3))
    data = make_data(name)
    batches = tf.data.Dataset.from_tensor_slices(data).batch(4)
    stream = batches.filter(lambda *_: True)
    for epochs in (1, 2):
        before = int(model.steps)
        model.fit(stream, epochs=epochs, verbose=0)
        assert int(model.steps) - before == 2 * epochs
        assert int(model.optimizer.iterations) == int(model.steps)


@pytest.mark.parametrize("known", [False, True])
def test_a_batch_holds_equal_steps(known):
    """As the batches of the tables, several steps lie in one batch."""
    total = tf.Variable(0.0)
    spec = tf.TensorSpec([8 if known else None, 2], tf.float32)

    @tf.function(input_signature=[spec])
    def run(data):
        run_steps(lambda part: total.assign_add(part[0, 0]), data, 3)

    with pytest.raises(
        (ValueError, tf.errors.InvalidArgumentError),
        match="must hold `inner_steps` batches of one size",
    ):
        run(tf.zeros([8, 2]))


def make_data(name, rows=8):
    if name in VIDEO_MODELS:
        return make_videos(rows)
    return np.random.default_rng(0).normal(size=(rows, 2)).astype(np.float32)


def compiled(model, rate=1e-3, **kwargs):
    keras.utils.set_random_seed(0)
    model.compile(keras.optimizers.SGD(rate), **kwargs)
    return model


def spoil(part):
    """Makes every weight of a layer, or of a list of layers, NaN."""
    for layer in part if isinstance(part, list) else [part]:
        for weight in layer.weights:
            weight.assign(tf.fill(weight.shape, np.nan))


def broken(name, **kwargs):
    make, part = MODELS[name]
    model = compiled(make(), **kwargs)
    model.evaluate(make_data(name), verbose=0)  # builds it
    spoil(getattr(model, part))
    return model


def as_tfds_gives_them(*batches):
    """Batches whose length in time is unknown."""
    spec = tf.TensorSpec((None, None, *FRAME), tf.float32)
    data = tf.data.Dataset.from_generator(
        lambda: iter(batches), output_signature=spec
    )
    data = data.map(lambda video: {"video": video, "id": tf.shape(video)[0]})
    return data.apply(tf.data.experimental.assert_cardinality(len(batches)))


@pytest.mark.parametrize("name", MODELS)
def test_broken_model_is_not_evaluated_as_perfect(name):
    model = broken(name, run_eagerly=True)
    scores = model.evaluate(make_data(name), verbose=0, return_dict=True)
    assert np.isnan(scores["loss"])
    if name in VIDEO_MODELS:
        assert np.isnan(scores["reconstruction"])


@pytest.mark.parametrize("name", MODELS)
def test_epoch_without_a_finite_step_has_no_loss(name):
    model = broken(name, run_eagerly=True)
    history = model.fit(
        make_data(name), batch_size=4, epochs=2, verbose=0
    ).history
    assert np.isnan(history["loss"]).all() and len(history["loss"]) == 2
    assert history["dropped_steps"] == [2, 4]


@pytest.mark.parametrize("steps_per_execution", [1, 2])
@pytest.mark.parametrize("name", VIDEO_MODELS)
def test_keras_stops_at_a_broken_model(name, steps_per_execution):
    model = broken(name, steps_per_execution=steps_per_execution)
    history = model.fit(
        make_videos(),
        batch_size=4,
        epochs=3,
        callbacks=[keras.callbacks.TerminateOnNaN()],
        verbose=0,
    ).history
    assert len(history["loss"]) == 1


@pytest.mark.parametrize("steps_per_execution", [1, 3])
@pytest.mark.parametrize("name", VIDEO_MODELS)
def test_dropped_step_leaves_the_mean_of_the_others(name, steps_per_execution):
    """Without learning the epoch's loss is the mean of the good steps."""
    videos = make_videos(12)
    videos[4:8] = np.nan
    make = VIDEO_MODELS[name]
    ours = compiled(make(), 0.0, steps_per_execution=steps_per_execution)
    data = tf.data.Dataset.from_tensor_slices(videos).batch(4)
    history = ours.fit(data, verbose=0).history
    losses, alone = [], compiled(make(), 0.0, run_eagerly=True)
    for step in (0, 2):
        alone.build((None, *videos.shape[1:]))
        alone.set_weights(ours.get_weights())
        alone.steps.assign(step)
        alone.reset_metrics()
        batch = videos[4 * step : 4 * step + 4]
        losses.append(alone.train_on_batch(batch, return_dict=True)["loss"])
    assert history["dropped_steps"] == [1]
    # HGN's multiplier moves by 0.01 in a step.
    assert history["loss"][0] == pytest.approx(np.mean(losses), rel=0.02)


@pytest.mark.parametrize("name", VIDEO_MODELS)
def test_one_row_that_is_not_finite_shows_in_evaluation(name):
    model, videos = compiled(VIDEO_MODELS[name]()), make_videos()
    spoilt = videos.copy()
    spoilt[0] = np.nan
    data = [tf.data.Dataset.from_tensor_slices(x) for x in (videos, spoilt)]
    data = data[0].concatenate(data[1]).batch(4)
    scores = model.evaluate(data, verbose=0, return_dict=True)
    assert np.isnan(scores["loss"]) and np.isnan(scores["reconstruction"])


@pytest.mark.parametrize("name", VIDEO_MODELS)
def test_callbacks_keep_the_last_model_that_worked(name, tmp_path):
    model, videos = VIDEO_MODELS[name](), make_videos()
    compiled(model, run_eagerly=True).build((None, *videos.shape[1:]))
    path, good = tmp_path / "best.weights.h5", []
    note = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda *_: good.append(model.decoder.get_weights())
    )
    breaking = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, _: epoch == 1 and spoil(model.decoder)
    )
    keep = keras.callbacks.ModelCheckpoint(
        path, save_best_only=True, save_weights_only=True
    )
    stop = keras.callbacks.EarlyStopping(patience=2, restore_best_weights=True)
    history = model.fit(
        videos,
        validation_data=videos,
        epochs=5,
        callbacks=[note, breaking, keep, stop],
        verbose=0,
    ).history
    assert np.isfinite(history["val_loss"][0]) and stop.stopped_epoch == 2
    assert np.isnan(history["val_loss"][1:]).all()
    assert stop.best == history["val_loss"][0]
    for _ in range(2):
        for ours, expected in zip(model.decoder.get_weights(), good[0]):
            np.testing.assert_array_equal(ours, expected)
        model.load_weights(path)


def test_too_long_a_step_shows():
    """Leapfrog is unstable, and its states overflow."""
    model = compiled(hgn(), run_eagerly=True)
    videos = np.repeat(make_videos(), 8, axis=1)
    model.build((None, *videos.shape[1:]))
    model.dt = 500.0  # At the start such a step is refused.
    history = model.fit(videos, batch_size=4, verbose=0).history
    assert not np.isfinite(history["loss"]).any()
    assert history["dropped_steps"] == [2]
    loss = model.evaluate(videos, verbose=0, return_dict=True)["loss"]
    assert not np.isfinite(loss)


@pytest.mark.parametrize("name", VIDEO_MODELS)
def test_evaluation_weighs_rows_alike(name):
    videos, model = make_videos(5), compiled(VIDEO_MODELS[name]())
    videos[4] = 1.0
    scores = [
        model.evaluate(videos, batch_size=size, verbose=0, return_dict=True)
        for size in (1, 4, 5)
    ]
    assert scores[0] == pytest.approx(scores[2], rel=1e-5)
    assert scores[1] == pytest.approx(scores[2], rel=1e-5)


@pytest.mark.parametrize("name", VIDEO_MODELS)
def test_epoch_weighs_rows_alike(name):
    """The last, smaller batch counts by its one row in the mean of losses."""
    videos, make = make_videos(5), VIDEO_MODELS[name]
    videos[4] = 1.0
    model = compiled(make(), 0.0, run_eagerly=True)
    losses = []
    note = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda _, logs: losses.append(logs["loss"])
    )
    model.fit(videos, batch_size=4, shuffle=False, callbacks=[note], verbose=0)
    alone = compiled(make(), 0.0, run_eagerly=True)
    alone.build((None, *videos.shape[1:]))
    alone.set_weights(model.get_weights())
    alone.steps.assign(1)
    last = alone.train_on_batch(videos[4:], return_dict=True)["loss"]
    expected = (4 * losses[0] + last) / 5
    # HGN's multiplier moves by 0.01 in a step.
    assert losses[1] == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("name", VIDEO_MODELS)
def test_validation_data_may_be_batches_of_unknown_length(name):
    videos, model = make_videos(8), compiled(VIDEO_MODELS[name]())
    halves = as_tfds_gives_them(videos[:4], videos[4:])
    history = model.fit(
        halves, validation_data=halves, epochs=2, verbose=0
    ).history
    assert int(model.steps) == 4
    scores = model.evaluate(halves, verbose=0, return_dict=True)
    assert history["val_loss"][-1] == pytest.approx(scores["loss"], rel=1e-5)
    scores = model.evaluate(videos, verbose=0, return_dict=True)
    assert history["val_loss"][-1] == pytest.approx(scores["loss"], rel=1e-5)


WRAPS = {
    "array": lambda videos: videos,
    "tuple": lambda videos: (videos, None),
    "dictionary": lambda videos: {"video": videos},
    "dataset": lambda videos: tf.data.Dataset.from_tensors(videos),
    "tfds": as_tfds_gives_them,
}


@pytest.mark.parametrize("by_name", [True, False])
@pytest.mark.parametrize("wrap", WRAPS)
@pytest.mark.parametrize("name", VIDEO_MODELS)
def test_wrong_validation_data_are_refused_before_training(name, wrap, by_name):
    videos, model = make_videos(), compiled(VIDEO_MODELS[name]())
    wrong = WRAPS[wrap](255.0 * videos)
    with pytest.raises(ValueError, match="divide by 255"):
        if by_name:
            model.fit(videos, validation_data=wrong, verbose=0)
        else:
            model.fit(videos, None, 4, 1, 0, None, 0.0, wrong)
    assert int(model.steps) == 0


def test_vectors_and_their_change_serve_as_validation_data():
    x, change = np.random.default_rng(1).normal(size=(2, 6, 5))
    model = compiled(
        PixelHNN(**networks.dense_pair_networks((5,), 2, (8,))),
        run_eagerly=True,
    )
    history = model.fit(x, change, validation_data=(x, change), verbose=0)
    scores = model.evaluate(x, change, verbose=0, return_dict=True)
    assert history.history["val_loss"] == pytest.approx([scores["loss"]])
    with pytest.raises(ValueError, match="change to the next"):
        model.fit(x, change, validation_data=x, verbose=0)
    assert int(model.steps) == 1


@pytest.mark.parametrize("name", MODELS)
def test_xla_is_refused_on_several_devices(name):
    model = MODELS[name][0]()
    model.compile("adam", jit_compile=True)
    model._distribute_strategy = types.SimpleNamespace(num_replicas_in_sync=2)
    for make in (model.make_train_function, model.make_test_function):
        with pytest.raises(ValueError, match="`jit_compile` must be False"):
            make()


@pytest.mark.parametrize("name", VIDEO_MODELS)
@pytest.mark.parametrize("jit_compile", [None, "auto", False])
def test_xla_is_off_on_videos_unless_it_is_asked_for(name, jit_compile):
    model = VIDEO_MODELS[name]()
    assert not model.jit_compile
    model.compile("adam", jit_compile=jit_compile)
    assert not model.jit_compile


def test_a_strategy_of_one_device_trains_as_none():
    videos = np.random.default_rng(0).uniform(size=(4, FRAMES, *FRAME))
    weights = []
    for strategy in (
        tf.distribute.get_strategy(),
        tf.distribute.MirroredStrategy(["CPU:0"]),
    ):
        keras.utils.set_random_seed(0)
        with strategy.scope():
            model = hgn()
            model.compile("adam")
            model.build((None, FRAMES, *FRAME))
        model.fit(np.float32(videos), batch_size=2, shuffle=False, verbose=0)
        weights.append(model.get_weights())
    assert int(keras.ops.convert_to_numpy(model.steps)) == 2
    for one, other in zip(*weights):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)
