"""What Keras takes, every model takes: kinds of data, weights, lengths."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from hgn_tf import HGN, HNN, PixelHNN, networks
from hgn_tf.models.nhf import NHF, NormalizingFlow, nhf_networks

FRAMES, SIZE, ROWS = 5, 8, 6
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
    return HGN(
        **parts,
        **{
            "num_inference_frames": 3,
            "dt": 0.5,
            "stochastic": False,
            **changes,
        },
    )


def pixel_hnn(**changes):
    parts = networks.dense_pair_networks((2, *FRAME), 2, (16,))
    return PixelHNN(**parts, **{"dt": 0.5, **changes})


MODELS = {
    "hgn": hgn,
    "pixel_hnn": pixel_hnn,
    "nhf": lambda: NHF(**nhf_networks(units=(8,), posterior_units=(8,))),
    "flow": lambda: NormalizingFlow("realnvp", 2, (8,)),
    "hnn": lambda: HNN(units=(8,)),
}
VIDEO_MODELS = ("hgn", "pixel_hnn")


def compiled(model, rate=1e-3, **kwargs):
    keras.utils.set_random_seed(0)
    if isinstance(model, HNN):
        kwargs["loss"] = "mse"
    model.compile(keras.optimizers.SGD(rate), **{"run_eagerly": True, **kwargs})
    return model


def make_videos(rows=ROWS, frames=FRAMES):
    rng = np.random.default_rng(0)
    return rng.random((rows, frames, *FRAME)).astype(np.float32)


def make_data(name, rows=ROWS):
    """(x,), or (x, y) where there are targets."""
    if name in VIDEO_MODELS:
        return (make_videos(rows),)
    x, y = np.random.default_rng(0).normal(size=(2, rows, 2))
    x, y = x.astype(np.float32), y.astype(np.float32)
    return (x, y) if name == "hnn" else (x,)


class Loader(keras.utils.PyDataset):
    def __init__(self, batches, **kwargs):
        super().__init__(**kwargs)
        self.batches = batches
        self.ended = 0

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, index):
        return self.batches[index]

    def on_epoch_end(self):
        self.ended += 1


class Rows:
    """Can be gone through more than once, as `tfds.as_numpy` gives it."""

    def __init__(self, batches):
        self.batches = batches

    def __iter__(self):
        return iter(self.batches)


def as_dataset(batches):
    parts = [np.concatenate(parts) for parts in zip(*batches)]
    return tf.data.Dataset.from_tensor_slices(tuple(parts)).batch(4)


def in_dictionaries(batches):
    """Videos beside what TFDS gives with them; points stay as they are."""
    if batches[0][0].ndim != 5:
        return batches
    names = np.array([b"a"] * ROWS, dtype=object)
    return [
        {
            "video": batch[0],
            "id": names[: len(batch[0])],
            "dt": np.full(len(batch[0]), 0.5, np.float32),
        }
        for batch in batches
    ]


def of_dictionaries(batches):
    if batches[0][0].ndim != 5:
        return as_dataset(batches)
    video = np.concatenate([batch[0] for batch in batches])
    rows = {"video": video, "id": ["a"] * len(video), "dt": [0.5] * len(video)}
    return tf.data.Dataset.from_tensor_slices(rows).batch(4)


def of_types_alone(batches):
    types = tuple(tf.float32 for _ in batches[0])
    return tf.data.Dataset.from_generator(lambda: iter(batches), types)


KINDS = {
    "dataset": as_dataset,
    "dictionaries": of_dictionaries,
    "types alone": of_types_alone,
    "py_dataset": Loader,
    "py_dataset of dictionaries": lambda b: Loader(in_dictionaries(b)),
    "loader with threads": lambda b: Loader(b, workers=2),
    "generator": lambda b: (batch for batch in b),
    "generator of dictionaries": lambda b: (x for x in in_dictionaries(b)),
    "rows": lambda b: Rows(in_dictionaries(b)),
    "distributed": lambda b: (
        tf.distribute.get_strategy().experimental_distribute_dataset(
            as_dataset(b)
        )
    ),
}


@pytest.fixture(scope="module")
def models():
    """Models, and what arrays in batches of 4 give."""
    made = {}
    for name, make in MODELS.items():
        model = compiled(make(), 0.0)
        made[name] = model, evaluate(model, *make_data(name), batch_size=4)
    return made


def evaluate(model, *args, **kwargs):
    return model.evaluate(*args, verbose=0, return_dict=True, **kwargs)


# They share the door, so that not all need all kinds.
ALL_KINDS = [
    *(("hgn", kind) for kind in KINDS),
    *((name, "generator") for name in MODELS if name != "hgn"),
    *(
        pytest.param(name, kind, marks=pytest.mark.slow)
        for name in MODELS
        for kind in ("dataset", "py_dataset")
        if name != "hgn"
    ),
]


@pytest.mark.parametrize(("name", "kind"), ALL_KINDS)
def test_every_kind_of_data_is_the_same_data(name, kind, models):
    model, expected = models[name]
    data = make_data(name)
    batches = [tuple(part[at : at + 4] for part in data) for at in (0, 4)]
    steps = getattr(model, "steps", None)
    before = None if steps is None else int(steps)
    model.fit(
        KINDS[kind](batches), validation_data=KINDS[kind](batches), verbose=0
    )
    assert before is None or int(steps) == before + 2
    if steps is not None:
        steps.assign(0)
    scores = evaluate(model, KINDS[kind](batches))
    for key in expected:
        if key != "dropped_steps":
            assert scores[key] == pytest.approx(expected[key], rel=0.05), key
    found = model.predict(KINDS[kind](batches), verbose=0)
    whole = model.predict(data[0], verbose=0)
    for ours, theirs in zip(*map(keras.tree.flatten, (found, whole))):
        assert ours.shape == theirs.shape


@pytest.mark.parametrize("name", VIDEO_MODELS)
def test_one_model_learns_from_several_lengths_in_turn(name):
    """Given another shape Keras makes a step for any, which none can be."""
    model = compiled(MODELS[name](), run_eagerly=False)
    for frames in (FRAMES, FRAMES + 2, FRAMES):
        model.fit(make_videos(frames=frames), verbose=0)
    assert int(model.steps) == 3 and int(model.dropped_steps) == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", VIDEO_MODELS)
def test_every_door_takes_several_lengths_in_turn(name):
    model = compiled(MODELS[name](), run_eagerly=False)
    short, long = make_videos(), make_videos(frames=FRAMES + 2)
    model.fit(short, validation_data=long, verbose=0)
    model.fit(long, validation_data=short, verbose=0)
    model.train_on_batch(short)
    assert np.isfinite(model.test_on_batch(long)).all()
    assert evaluate(model, short) != evaluate(model, long)
    if name == "hgn":
        assert model.predict(long, verbose=0).video.shape == long.shape
        assert model.predict(short, verbose=0).video.shape == short.shape


def test_one_hnn_takes_paths_of_several_lengths_in_turn():
    model = compiled(HNN(units=(8,)), run_eagerly=False)
    x, _ = make_data("hnn")
    for steps in (2, 4):
        path = np.repeat(x[:, None], steps, axis=1)
        model.fit(x, path, verbose=0)
        assert np.isfinite(model.evaluate(x, path, verbose=0))


@pytest.mark.parametrize("name", VIDEO_MODELS)
def test_two_lengths_in_one_dataset_are_refused(name):
    batches = [make_videos(2), make_videos(2, FRAMES + 1)]
    spec = tf.TensorSpec((None, None, *FRAME), tf.float32)
    data = tf.data.Dataset.from_generator(
        lambda: iter(batches), output_signature=spec
    )
    for given in (data, iter(batches), Loader(batches)):
        with pytest.raises(Exception, match="must have one shape per row"):
            compiled(MODELS[name]()).fit(given, verbose=0)


WEIGHTS = np.array([2.0, 0.0, 1.0, 0.5, 0.0, 2.0], np.float32)


def weighed_cases():
    for name in MODELS:
        yield name, make_data(name)
    x, y = make_data("hnn")
    yield "hnn", (x, np.stack([x + y, x - y], axis=1))
    yield "vectors", (x, y)


def make_weighed(name, data):
    keras.utils.set_random_seed(0)
    if name == "vectors":
        model = PixelHNN(**networks.dense_pair_networks((2,), 2, (8,)))
    else:
        model = MODELS[name]()
    model = compiled(model, 0.1)
    model.build((None, *data[0].shape[1:]))
    # Without noise every evaluation sees the same momenta.
    if name == "nhf":
        model._draw_noise = lambda shape, *_: tf.ones(shape)
    return model


@pytest.mark.parametrize(("name", "data"), [*weighed_cases()])
def test_weights_of_rows_count_in_evaluation(name, data):
    """A loss is the sum over weighed rows by their number, as in Keras."""
    model = make_weighed(name, data)
    alone = [
        evaluate(model, *(part[i : i + 1] for part in data))
        for i in range(ROWS)
    ]
    for size in (4, ROWS):
        scores = evaluate(model, *data, sample_weight=WEIGHTS, batch_size=size)
        for key in set(scores) - {"dropped_steps"}:
            total = sum(w * s[key] for w, s in zip(WEIGHTS, alone))
            count = ROWS if key == "loss" else WEIGHTS.sum()
            assert scores[key] == pytest.approx(total / count, rel=1e-3), key


@pytest.mark.parametrize("column", [False, True])
@pytest.mark.parametrize("way", ["array", "batch", "dataset", "generator"])
def test_a_weight_below_0_is_refused(way, column):
    model, videos = compiled(hgn(), 0.1), make_videos()
    weight = -np.ones((ROWS, 1) if column else ROWS, np.float32)
    rule = "`sample_weight` must be 0 or more"
    with pytest.raises((ValueError, tf.errors.OpError), match=rule):
        if way == "array":
            model.fit(videos, sample_weight=weight, verbose=0)
        elif way == "batch":
            model.train_on_batch(videos, sample_weight=weight)
        elif way == "generator":
            rows = [np.ones_like(weight), weight]  # after the first
            model.fit(((videos, None, row) for row in rows), verbose=0)
        else:
            pixels = (255 * videos).astype(np.uint8)
            data = tf.data.Dataset.from_tensors((pixels, weight))
            data = data.map(lambda video, weight: (video, None, weight))
            model.fit(data, verbose=0)


@pytest.mark.parametrize("way", ["dataset", "generator"])
def test_infinity_costs_a_step_as_nan_does(way):
    videos = make_videos()
    batches = np.stack([videos, np.full_like(videos, np.inf)])
    data = iter(batches)
    if way == "dataset":
        data = tf.data.Dataset.from_tensor_slices(batches)
    with pytest.warns(UserWarning, match="not finite. Received: 1") as told:
        compiled(hgn()).fit(data, verbose=0)
    # Of the line above, and of none in the package.
    assert __file__ in {warning.filename for warning in told}


def test_the_dt_that_does_not_fit_is_named():
    video = make_videos()
    model = compiled(hgn())
    steps = np.full(ROWS, model.dt, np.float32)
    steps[-1] *= 2
    message = f"{model.dt:g} of the model, {2 * model.dt:g} of the data"
    with pytest.raises(ValueError, match=message):
        model.fit({"video": video, "dt": steps}, verbose=0)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("name", "data"), [*weighed_cases()])
def test_weights_of_rows_count_in_training(name, data, stream):
    """A row of weight 2 moves the weights as two such rows do."""
    half = [part[:3] for part in data]
    twice = [np.concatenate([part, part]) for part in half]
    weight = np.array([2, 2, 2, 0, 0, 0], np.float32)
    models = [make_weighed(name, data) for _ in range(2)]
    if name == "pixel_hnn":
        for model in models:  # The same pair of each video.
            model._noise_seed = lambda *_: tf.constant([0, 0])
            data = [part[:, :3] for part in data]
            twice = [part[:, :3] for part in twice]
    models[0].fit(*twice, shuffle=False, verbose=0)
    if stream:
        y = data[1] if len(data) > 1 else None
        batches = iter([(data[0], y, weight)])
        models[1].fit(batches, verbose=0)
    else:
        models[1].fit(*data, sample_weight=weight, shuffle=False, verbose=0)
    moved = 0.0
    for one, other, first in zip(
        *(x.get_weights() for x in (*models, make_weighed(name, data)))
    ):
        np.testing.assert_allclose(one, other, atol=1e-5)
        moved = max(moved, np.abs(one - first).max())
    assert moved > 1e-5


def bad_inputs():
    video, short = make_videos(), make_videos(frames=FRAMES - 1)
    ragged = tf.ragged.stack([video[0], short[0]])
    objects = np.empty(2, dtype=object)
    objects[:] = [video[0], short[0]]
    empty = tf.data.Dataset.from_tensor_slices(video[:0]).batch(4)
    yield "none", None, "must be an array, a dataset or a generator"
    yield "no rows", video[:0], "at least"
    yield "no batches", empty, "at least"
    yield "no batches known", empty.filter(lambda x: True), "at least"
    yield "empty generator", iter([]), "at least"
    yield "empty loader", Loader([]), "at least"
    yield "two lengths", [video[0], short[0]], "one length"
    yield "objects", objects, "one length"
    yield "ragged", ragged, "one length"
    yield (
        "ragged batches",
        tf.data.Dataset.from_tensors(ragged),
        "one length",
    )
    yield "no channels", video[..., 0], r"`video\[..., None\]`"
    yield "one video", video[0], "batch the videos"
    yield "two arrays", [video, video], "Received: shape"
    yield (
        "four parts",
        tf.data.Dataset.from_tensors((video,) * 4),
        "Received: 4 parts",
    )
    yield "other dt", {"video": video, "dt": [0.25] * ROWS}, "0.25 of the data"
    yield (
        "other dt in batches",
        tf.data.Dataset.from_tensors({"video": video, "dt": [0.25] * ROWS}),
        "0.25 of the data",
    )


@pytest.mark.parametrize(
    ("x", "match"),
    [pytest.param(x, match, id=name) for name, x, match in bad_inputs()],
)
@pytest.mark.parametrize("name", VIDEO_MODELS)
def test_videos_that_cannot_be_taken_get_one_line(name, x, match):
    model = compiled(MODELS[name]())
    for door in (model.fit, model.evaluate):
        with pytest.raises(ValueError, match=match) as error:
            door(x)
        assert "\n" not in str(error.value)
    if isinstance(x, (np.ndarray, list, dict)):
        with pytest.raises(ValueError, match=match):
            model.infer(x)


@pytest.mark.parametrize("name", MODELS)
def test_what_is_not_counted_is_refused(name):
    model, data = compiled(MODELS[name]()), make_data(name)
    x, *targets = data
    with pytest.raises(ValueError, match="`class_weight` must be None"):
        model.fit(*data, class_weight={0: 1.0}, verbose=0)
    with pytest.raises(ValueError, match="`class_weight` must be None"):
        model.train_on_batch(*data, class_weight={0: 1.0})
    for weight, match in (
        (np.ones(ROWS - 1), "as many rows"),
        (np.ones((ROWS, 2, 2)), "a number per row"),
        (-np.ones(ROWS), "0 or more"),
        (np.full(ROWS, np.nan), "must be finite"),
    ):
        with pytest.raises(ValueError, match=match):
            model.fit(*data, sample_weight=weight, verbose=0)
    with pytest.raises(ValueError, match="come with its batches"):
        model.fit(as_dataset([data]), sample_weight=np.ones(ROWS), verbose=0)
    if targets:
        with pytest.raises(ValueError, match="`y` must be"):
            model.fit(x, verbose=0)
        return
    for given in ((x, x), (as_dataset([(x, x)]),), (Loader([(x, x)]),)):
        with pytest.raises(ValueError, match="without targets `y`"):
            model.fit(*given, verbose=0)
        with pytest.raises(ValueError, match="without targets `y`"):
            model.evaluate(*given, verbose=0)
    with pytest.raises(ValueError, match="without targets `y`"):
        model.fit(iter([(x, x)]), verbose=0)
    with pytest.raises(ValueError, match="without targets `y`"):
        model.fit(x, validation_data=(x, x), verbose=0)
    assert not hasattr(model, "steps") or int(model.steps) == 0


@pytest.mark.parametrize("name", VIDEO_MODELS)
def test_every_door_looks_at_the_range_of_frames(name):
    model, wrong = compiled(MODELS[name]()), 255 * make_videos()
    doors = (
        model,
        model.infer,
        model.train_on_batch,
        model.test_on_batch,
        model.predict_on_batch,
        model.check_collapse,
    )
    for door in doors:
        with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
            door(wrong)
        with pytest.raises(ValueError, match="Received: videos of 1|1 frames"):
            door(make_videos()[:, :1])
    # After the first batch too.
    batches = [make_videos(), wrong]
    data = tf.data.Dataset.from_tensor_slices(np.stack(batches))
    for given in (data, iter(batches), Loader(batches)):
        with pytest.raises(Exception, match=r"must lie in \[0, 1\]"):
            model.fit(given, verbose=0)


@pytest.mark.parametrize("name", VIDEO_MODELS)
def test_dictionaries_are_taken_by_every_door(name):
    model, video = compiled(MODELS[name]()), make_videos()
    row = {"video": video, "id": np.array(["a"] * ROWS), "dt": [0.5] * ROWS}
    # The first call builds it.
    again, expected = model(row), model.infer(video)
    for state in (model.infer(row), model.infer([video])):
        np.testing.assert_array_equal(state.q, expected.q)
    # As `tfds.as_numpy` gives a whole split.
    row["id"] = np.array([b"a"] * ROWS, dtype=object)
    history = model.fit(row, validation_data=row, batch_size=4, verbose=0)
    loss = evaluate(model, [video])["loss"]
    assert history.history["val_loss"] == pytest.approx([loss], rel=1e-5)
    assert np.isfinite(model.fit([video], verbose=0).history["loss"])
    drawn = model.predict(row, verbose=0)
    for ours, theirs in zip(*map(keras.tree.flatten, (drawn, again))):
        assert ours.shape == theirs.shape
    for ours, theirs in zip(
        *map(keras.tree.flatten, (model(row), model(video)))
    ):
        np.testing.assert_array_equal(ours, theirs)
    assert model.check_collapse(row) == model.check_collapse(video)
    assert np.isfinite(model.train_on_batch(row)).all()
    assert np.isfinite(model.test_on_batch(row)).all()


@pytest.mark.parametrize("name", VIDEO_MODELS)
def test_states_are_inferred_in_graphs(name):
    model, video = MODELS[name](), make_videos()
    state = model.infer(video)
    spec = tf.TensorSpec((None, FRAMES, *FRAME), tf.float32)
    infer = tf.function(model.infer, input_signature=[spec])
    np.testing.assert_allclose(infer(video).q, state.q, atol=1e-5)
    with pytest.raises(tf.errors.InvalidArgumentError, match="must lie in"):
        infer(255 * video)


def test_too_long_a_step_is_named():
    """Leapfrog is unstable: states grow, and no step is left out."""
    model, videos = compiled(hgn(), 0.0), make_videos()
    model.build((None, *videos.shape[1:]))
    model.dt = 5.0  # At the start such a step is refused.
    for weight in model.decoder.trainable_weights:
        weight.assign(tf.random.stateless_normal(weight.shape, [0, 1]))
    with pytest.warns(UserWarning, match="squared error of 1.*dt=5"):
        model.fit(videos, verbose=0)
    assert int(model.dropped_steps) == 0


def test_steps_that_are_left_out_are_told():
    videos = make_videos()
    batches = [videos, np.full_like(videos, np.nan)]
    data = tf.data.Dataset.from_tensor_slices(np.stack(batches))
    with pytest.warns(UserWarning, match="not finite. Received: 1 of 2"):
        compiled(hgn()).fit(data, verbose=0)


def test_no_input_in_keras_s_options_is_lost():
    model, videos = compiled(hgn(stochastic=True)), make_videos()
    stop = keras.callbacks.EarlyStopping(
        "val_elbo", mode="max", patience=1, baseline=1e9
    )
    history = model.fit(
        videos,
        validation_split=0.5,
        validation_freq=2,
        validation_batch_size=2,
        batch_size=2,
        initial_epoch=1,
        epochs=7,
        callbacks=[stop],
        verbose=0,
    )
    # Epochs 1 to 3: validated after the second and the fourth of all.
    assert history.epoch == [1, 2, 3] and int(model.steps) == 3 * 2
    assert len(history.history["val_elbo"]) == 2
    scores = evaluate(model, videos[3:])
    for key in ("loss", "elbo", "kl"):
        assert history.history[f"val_{key}"][-1] == pytest.approx(
            scores[key], rel=1e-5
        )


def test_the_bound_does_not_move_with_the_multiplier():
    model, videos = compiled(hgn(stochastic=True)), make_videos()
    before = evaluate(model, videos)
    model.geco.log_multiplier.assign(-4.0)
    after = evaluate(model, videos)
    assert after["elbo"] == before["elbo"] and after["loss"] != before["loss"]


@pytest.mark.parametrize("name", ["nhf", "flow"])
def test_epoch_of_points_weighs_rows_alike(name):
    (points,) = make_data(name, 5)
    points[4] = 9.0
    model = make_weighed(name, (points,))
    model.optimizer.learning_rate = 0.0
    history = model.fit(points, batch_size=4, shuffle=False, verbose=0)
    for key, value in evaluate(model, points).items():
        assert history.history[key] == pytest.approx([value], rel=1e-5), key


def test_constraints_of_a_flow_count_weights():
    points = np.concatenate([make_data("nhf")[0][:3], np.full((3, 2), 9.0)])
    weight = np.array([1, 1, 1, 0, 0, 0.0])
    keras.utils.set_random_seed(0)
    parts = nhf_networks(units=(8,), posterior_units=(8,))
    # Long steps, whose drift is no rounding.
    model = compiled(
        NHF(**parts, dt=32.0, kl_tolerance=0.1, drift_tolerance=0.1)
    )
    model._draw_noise = lambda shape, *_: tf.ones(shape)
    weighed = evaluate(model, points, sample_weight=weight)
    alone = evaluate(model, points[:3])
    model.fit(points, sample_weight=weight, shuffle=False, verbose=0)
    assert model.kl_geco.average != 0.0
    parts = model._objective(points, weight, purpose=0)[2]
    found = {tracker.name: value for tracker, value in parts}
    parts = model._objective(points[:3], None, purpose=0)[2]
    for tracker, value in parts:
        if tracker.name in ("kl", "drift"):
            assert float(value) > 1e-3
            assert float(found[tracker.name]) == pytest.approx(float(value))
    assert weighed["elbo"] == pytest.approx(alone["elbo"], rel=1e-5)


@pytest.mark.parametrize("steps", [2, ROWS])
def test_metrics_compare_paths_with_paths(steps):
    x, y = make_data("hnn")
    path = np.stack([x + y * k for k in range(1, steps + 1)], axis=1)
    model = HNN(units=(8,))
    model.compile(
        keras.optimizers.SGD(0.0),
        loss="mse",
        metrics=["mae"],
        weighted_metrics=["mse"],
        run_eagerly=True,
    )
    found = model.rollout(x, model.dt, steps).numpy()[:, 1:]
    scores = evaluate(model, x, path, sample_weight=WEIGHTS, batch_size=4)
    history = model.fit(
        x, path, sample_weight=WEIGHTS, batch_size=4, verbose=0
    ).history
    error = np.square(found - path).mean((1, 2))
    expected = {
        "mae": np.abs(found - path).mean(),
        "mse": (WEIGHTS * error).sum() / WEIGHTS.sum(),
        "loss": (WEIGHTS * error).mean(),
    }
    assert scores == pytest.approx(expected, rel=1e-4)
    assert {k: v[0] for k, v in history.items()} == pytest.approx(
        expected, rel=1e-4
    )
    weights = np.repeat(WEIGHTS[:, None], steps, axis=1)
    assert evaluate(model, x, path, sample_weight=weights) == pytest.approx(
        expected, rel=1e-4
    )


def test_states_that_do_not_fit_are_refused_by_every_door():
    model, (x, y) = compiled(HNN(units=(8,))), make_data("hnn")
    model.build((None, 2))
    spoilt = x.copy()
    spoilt[3, 1] = np.nan
    for door in (model.fit, model.evaluate, lambda x, y: model.predict(x)):
        with pytest.raises(ValueError, match="the first is row 3"):
            door(spoilt, y)
        with pytest.raises(ValueError, match="the model's 2 coordinates"):
            door(np.ones((4, 4)), np.ones((4, 4)))
        with pytest.raises(ValueError, match=r"states \[rows, dim\]"):
            door(x[0], y[0])
    pairs = tf.data.Dataset.from_tensors((x, y[:, :1]))
    with pytest.raises(ValueError, match="their time derivatives"):
        model.fit(pairs)


@pytest.mark.parametrize("make", [hgn, pixel_hnn, lambda: HNN(units=(8,))])
@pytest.mark.parametrize("num_steps", [2.5, 2.0, -1, None])
def test_steps_of_a_rollout_are_a_whole_number(make, num_steps):
    model = make()
    with pytest.raises(
        ValueError, match="a whole number of at least 0"
    ) as error:
        if isinstance(model, HNN):
            model.rollout(np.ones((1, 2)), 0.1, num_steps)
        else:
            model.rollout(model.infer(make_videos(1)), num_steps)
    assert "\n" not in str(error.value)
