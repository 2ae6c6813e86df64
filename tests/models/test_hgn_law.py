"""What asks for one law: agreement of windows, anchors, rollouts both ways.

Here the right answer is known: pictures of one pixel that is a function of q,
an encoder that finds the state in two of them exactly, and the true energy.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf

from hgn_tf import HGN, PhaseState, integrators, losses, networks
from hgn_tf.models.steps import Rows

DT, LENGTH = 0.25, 12


@keras.saving.register_keras_serializable("test")
class TwoFrames(keras.layers.Layer):
    """The state at one of two frames, on a leapfrog path under `Well`.

    q1 = q0 + dt (p0 - dt / 2 * k q0 + drift), solved for p0. The two frames
    are `at` and the next; others are not looked at.
    """

    def __init__(self, stiffness=1.0, drift=0.0, at=0, **kwargs):
        super().__init__(**kwargs)
        self.stiffness, self.drift, self.at = stiffness, drift, at
        self.latent_shape = (2,)

    def call(self, video):
        q, after = (2.0 * video[:, self.at + i, 0, 0] - 1.0 for i in (0, 1))
        p = (after - q) / DT + DT / 2 * self.stiffness * q - self.drift
        mean = tf.concat([q, p], axis=-1)
        return mean, -20.0 * tf.ones_like(mean)

    def compute_output_shape(self, shape):
        return (shape[0], 2), (shape[0], 2)


@keras.saving.register_keras_serializable("test")
class Well(keras.layers.Layer):
    """K = p^2 / 2 + drift p, V = stiffness q^2 / 2."""

    def __init__(self, stiffness=1.0, drift=0.0, **kwargs):
        super().__init__(**kwargs)
        self.stiffness, self.drift = stiffness, drift

    def build(self, q_shape, p_shape=None):
        pass

    def kinetic(self, p):
        return tf.reduce_sum(0.5 * p**2 + self.drift * p, axis=-1)

    def potential(self, q):
        return tf.reduce_sum(0.5 * self.stiffness * q**2, axis=-1)

    def call(self, q, p):
        return self.kinetic(p) + self.potential(q)


@keras.saving.register_keras_serializable("test")
class OnePixel(keras.layers.Layer):
    """q -> a picture of one pixel, (q + 1) / 2, with a weight to train."""

    def build(self, shape):
        self.scale = self.add_weight(shape=(), initializer="ones")

    def call(self, q):
        return 0.5 * (self.scale * q[:, tf.newaxis, tf.newaxis] + 1.0)

    def compute_output_shape(self, shape):
        return (shape[0], 1, 1, 1)


@keras.saving.register_keras_serializable("test")
class ReadOff(keras.layers.Layer):
    """A picture of one pixel -> q."""

    def call(self, frame):
        return 2.0 * frame[:, 0, 0] - 1.0

    def compute_output_shape(self, shape):
        return (shape[0], 1)


def make_videos(stiffness=1.0, drift=0.0, batch=64):
    rng = np.random.default_rng(0)
    q, p = rng.uniform(-0.5, 0.5, (2, batch, 1)).astype(np.float32)
    path = integrators.rollout(
        Well(stiffness, drift),
        PhaseState(tf.constant(q), tf.constant(p)),
        DT,
        LENGTH - 1,
    )
    return 0.5 * (path.q[..., None, None] + 1.0).numpy()


def make_model(stiffness=1.0, drift=0.0, **kwargs):
    """A model that knows the law, of this stiffness."""
    model = HGN(
        TwoFrames(stiffness, drift, kwargs.get("state_frame", 0)),
        Well(stiffness, drift),
        OnePixel(),
        **{"num_inference_frames": 2, "dt": DT, "agreement": 1.0, **kwargs},
    )
    model.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
    return model


def terms(model, videos):
    """Mean terms of the objective over a few steps."""
    model.build((None, *videos.shape[1:]))
    model.reset_metrics()
    for _ in range(3):
        logs = model.train_on_batch(videos, return_dict=True)
    return logs


ARGUMENTS = [
    {},
    {"anchor": "random"},
    {"anchor": "random", "rollout_steps": 4, "num_decoded_frames": 3},
    {"anchor": "random", "rollout_steps": 4, "num_decoded_frames": LENGTH},
    {
        "anchor": "random",
        "rollout_steps": 9,
        "initial_rollout_steps": 3,
        "rollout_ramp": (0, 2),
        "num_decoded_frames": 3,
    },
    {"initial_rollout_steps": 3, "num_decoded_frames": LENGTH},
    {"reversible": True},
    {"anchor": "random", "reversible": True, "num_windows": 4},
    {"num_inference_frames": 12, "shortest_window": 2},
    {
        "num_inference_frames": 12,
        "shortest_window": 2,
        "anchor": "random",
        "reversible": True,
    },
]


@pytest.mark.parametrize("arguments", ARGUMENTS)
def test_who_knows_the_law_is_asked_for_nothing(arguments):
    found = terms(make_model(**arguments), make_videos())
    # float32, and a posterior with a standard deviation of exp(-20).
    assert found["reconstruction"] < 1e-10
    assert found["agreement"] < 1e-9


@pytest.mark.parametrize("arguments", ARGUMENTS)
def test_who_has_another_law_disagrees(arguments):
    found = terms(make_model(2.0, **arguments), make_videos(1.0))
    assert found["agreement"] > 0.01


def test_disagreement_is_that_of_the_rollout_and_the_window():
    """In numpy, window by window, with the time that was drawn."""
    videos = make_videos(1.0)
    model = make_model(2.0, num_windows=1)
    model.build((None, *videos.shape[1:]))
    video = tf.constant(videos)
    found = model._objective(video, Rows.of(video))["agreement"]
    path = model._training_path(video, Rows.of(video))
    rolled = model.rollout(model.infer(videos), LENGTH - 1)
    # A window alone: what it infers at each time.
    inferred = [model.infer(videos[:, at : at + 2]) for at in range(LENGTH - 1)]
    matches = []
    for at, state in enumerate(inferred):
        ours = PhaseState(rolled.q[:, at], rolled.p[:, at])
        matches.append((ours, state))
    # The drawn times differ by example, so the spreads are of mixed times;
    # the numerators do not mix.
    times = model._drawn_window_times(path, LENGTH, Rows.of(video))[0]
    q = np.array([matches[t][0].q[row] for row, t in enumerate(times)])
    p = np.array([matches[t][0].p[row] for row, t in enumerate(times)])
    q2 = np.array([matches[t][1].q[row] for row, t in enumerate(times)])
    p2 = np.array([matches[t][1].p[row] for row, t in enumerate(times)])
    expected = losses.disagreement(q, q2) + losses.disagreement(p, p2)
    np.testing.assert_allclose(found, expected / 2, rtol=1e-3, atol=1e-6)


def test_a_law_that_cannot_be_run_backward_disagrees_with_reversed_windows():
    videos = make_videos(1.0, drift=0.3)
    arguments = {"num_windows": 2, "shortest_window": None}
    ahead = terms(make_model(1.0, 0.3, **arguments), videos)
    both = terms(make_model(1.0, 0.3, reversible=True, **arguments), videos)
    assert ahead["agreement"] < 1e-9
    assert both["agreement"] > 0.01


@pytest.mark.parametrize(
    "arguments", [{}, {"anchor": "random"}, {"agreement": 0.0}]
)
def test_position_that_a_frame_shows_is_in_its_place(arguments):
    arguments = {"positions": 1.0, "position_net": ReadOff(), **arguments}
    right = terms(make_model(**arguments), make_videos())
    assert right["positions"] < 1e-9
    wrong = terms(make_model(2.0, **arguments), make_videos())
    assert wrong["positions"] > 0.01


def test_position_that_holds_momentum_is_out_of_place():
    """The same motion, in coordinates turned by 45 degrees in phase space."""

    class Turned(TwoFrames):
        def call(self, video):
            mean, log_scale = super().call(video)
            q, p = tf.split(mean, 2, axis=-1)
            turned = tf.concat([q + p, p - q], axis=-1) / 2**0.5
            return turned, log_scale

    model = HGN(
        Turned(),
        Well(),
        OnePixel(),
        position_net=ReadOff(),
        positions=1.0,
        num_inference_frames=2,
        dt=DT,
    )
    model.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
    assert terms(model, make_videos())["positions"] > 0.1


def test_steps_that_change_the_picture_evenly_are_even():
    """A pixel that is linear in q, and one that bends; |q| is at most 1."""

    class Bent(OnePixel):
        def call(self, q):
            return super().call(q + 0.5 * q**3)

    def unevenness(decoder, **arguments):
        model = HGN(
            TwoFrames(),
            Well(),
            decoder,
            isometry=1.0,
            num_inference_frames=2,
            dt=DT,
            **arguments,
        )
        model.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
        return terms(model, make_videos())["isometry"]

    for arguments in ({}, {"anchor": "random"}):
        assert unevenness(OnePixel(), **arguments) < 1e-4
        assert unevenness(Bent(), **arguments) > 0.01


def test_unevenness_is_the_weighed_spread_over_the_mean():
    sizes = np.array([[1.0, 3.0], [2.0, 6.0]], np.float32)
    weights = np.array([[2.0, 1.0], [4.0, 1.0]], np.float32)
    # Weights 2 in the mean, weighed sizes (2 + 3 + 8 + 6) / 8 / 2 = 19 / 16.
    mean = 19 / 16 * 2
    apart = (sizes / mean - 1.0) ** 2
    expected = (weights / 2.0 * apart).mean(axis=1)
    for size, weight in ((1.0, 1.0), (7.0, 1.0), (1.0, 5.0)):
        found = losses.unevenness(
            tf.constant(size * sizes), tf.constant(weight * weights)
        )
        np.testing.assert_allclose(found, expected, rtol=1e-5)
    nothing = losses.unevenness(tf.constant(sizes), tf.zeros([2, 2]))
    np.testing.assert_array_equal(nothing, [0.0, 0.0])


@pytest.mark.parametrize("width", [0.0, 0.05, 1.0])
def test_a_label_in_a_spare_direction_costs_by_its_width(width):
    """q_2 is a constant of each motion that moves nothing and is not drawn."""

    class Labelled(TwoFrames):
        def call(self, video):
            mean, _ = super().call(video)
            q, p = mean[:, :1], mean[:, 1:]
            label = width * tf.where(q**2 + p**2 > 0.15, 1.0, -1.0)
            mean = tf.concat([q, label, p, 0.0 * p], axis=-1)
            return mean, -20.0 * tf.ones_like(mean)

        def compute_output_shape(self, shape):
            return (shape[0], 4), (shape[0], 4)

    class FirstOnly(OnePixel):
        def call(self, q):
            return super().call(q[:, :1])

    model = HGN(
        Labelled(),
        Well(stiffness=np.array([1.0, 0.0], np.float32)),
        FirstOnly(),
        low_rank=1.0,
        num_inference_frames=2,
        dt=DT,
    )
    model.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
    found = terms(model, make_videos())["low_rank"]
    q = np.array(model(make_videos()).states.q).reshape([-1, 2])
    spreads = np.sqrt(np.linalg.eigvalsh(np.cov(q.T)).clip(0))
    expected = spreads.sum() ** 2 / (spreads**2).sum() - 1.0
    np.testing.assert_allclose(found, expected, rtol=0.01, atol=1e-4)


def test_directions_are_counted_whatever_the_scale():
    rng = np.random.default_rng(1)
    points = rng.normal(size=[64, 8, 4]).astype(np.float32)
    points[..., 2] = 3.0 * points[..., 1]  # Two coordinates of one direction.
    points = np.concatenate([points, np.ones_like(points)], axis=-1)
    flat = points.reshape([-1, 8])
    sizes = np.linalg.svd(flat - flat.mean(axis=0), compute_uv=False)
    expected = sizes.sum() ** 2 / (sizes**2).sum() - 1.0
    for scale in (1e-2, 1.0, 1e2):
        found = losses.spare_directions(tf.constant(scale * points))
        np.testing.assert_allclose(found, expected, rtol=0.01)
    found = losses.spare_directions(tf.reshape(points, [64, 8, 2, 2, 2]))
    np.testing.assert_allclose(found, expected, rtol=0.01)


def test_points_in_a_line_and_still_ones_have_no_spare_direction():
    line = np.random.default_rng(1).normal(size=[64, 8, 1])
    line = (line * np.array([3.0, 4.0])).astype(np.float32)
    for points in (line, 1e-4 * line, 0.0 * line, line[:1, :1]):
        points = tf.constant(points)
        with tf.GradientTape() as tape:
            tape.watch(points)
            found = losses.spare_directions(points)
        np.testing.assert_allclose(found, 0.0, atol=1e-3)
        assert np.isfinite(tape.gradient(found, points)).all()


def test_a_narrow_direction_is_not_free():
    """What it costs is 2 r / (1 + r^2), r its width over the other's."""
    rng = np.random.default_rng(2)
    wide, narrow = np.linalg.qr(rng.normal(size=[400, 2]))[0].T
    wide, narrow = wide - wide.mean(), narrow - narrow.mean()
    narrow -= wide * (wide @ narrow) / (wide @ wide)
    narrow *= np.linalg.norm(wide) / np.linalg.norm(narrow)
    for ratio in (0.01, 0.05, 0.5):
        factor = tf.constant(ratio, tf.float64)
        with tf.GradientTape() as tape:
            tape.watch(factor)
            points = tf.stack([wide, factor * narrow], axis=-1)
            found = losses.spare_directions(tf.reshape(points, [100, 4, 2]))
        slope = tape.gradient(found, factor)
        expected = 2.0 * (1.0 - ratio**2) / (1.0 + ratio**2) ** 2
        np.testing.assert_allclose(slope, expected, rtol=0.02)


@pytest.mark.parametrize("number", [np.nan, np.inf, 1e25])
@pytest.mark.parametrize("compiled", [False, True])
def test_directions_of_numbers_that_are_not_finite_are_nan(number, compiled):
    """So the step is dropped, as any other of a NaN loss."""
    points = np.random.default_rng(3).normal(size=[8, 4, 16])
    points = points.astype(np.float32)
    points[0, 0] = number
    count = losses.spare_directions
    count = tf.function(count) if compiled else count
    assert np.isnan(count(tf.constant(points)))


def test_isometry_needs_a_step():
    model = HGN(
        TwoFrames(), Well(), OnePixel(), isometry=1.0, num_inference_frames=1
    )
    model.compile("sgd")
    with pytest.raises(ValueError, match="2 frames at least"):
        model.fit(make_videos()[:, :1], verbose=0)


def test_agreement_grows_in_over_its_ramp():
    videos = make_videos(1.0)
    model = make_model(2.0, agreement=5.0, agreement_ramp=(10, 20))
    model.build((None, *videos.shape[1:]))
    weights = []
    for step in (0, 10, 15, 20, 1000):
        model.steps.assign(step)
        model.reset_metrics()
        logs = model.train_on_batch(videos, return_dict=True)
        rest = model.geco.objective(logs["reconstruction"], logs["kl"], 1)
        weights.append((logs["loss"] - float(rest)) / logs["agreement"])
        # Only the weight is looked at.
        model.geco.log_multiplier.assign(0.0)
    np.testing.assert_allclose(weights, [0, 0, 2.5, 5, 5], atol=0.02)


@pytest.mark.parametrize("batch", [1, 3, 4])
def test_few_videos_have_no_say_in_the_law(batch):
    """Of one video the spread is 0: any difference would be a huge one."""
    videos = make_videos(1.0, batch=batch)
    model = make_model(2.0, agreement=5.0, agreement_ramp=(0, 0))
    found = terms(model, videos)
    rest = model.geco.objective(found["reconstruction"], found["kl"], 1)
    asked = found["loss"] - float(rest)
    # The rest is some hundreds, in float32.
    assert (abs(asked) > 0.01) == (batch >= 4)


def test_evaluation_has_no_number_for_what_it_does_not_measure():
    arguments = {"positions": 1.0, "position_net": ReadOff()}
    model = make_model(2.0, **arguments)
    history = model.fit(
        make_videos(), validation_data=make_videos(), verbose=0
    ).history
    assert {"agreement", "positions"} <= set(history)
    assert not {"val_agreement", "val_positions"} & set(history)


@pytest.mark.parametrize(
    "arguments",
    [
        {"anchor": "random", "rollout_steps": 4, "num_decoded_frames": 3},
        {
            "anchor": "random",
            "rollout_steps": 7,
            "initial_rollout_steps": 3,
            "rollout_ramp": (1, 3),
            "num_decoded_frames": 3,
        },
        {"stochastic": False, "reversible": True},
    ],
)
def test_graphs_train_what_asks_for_a_law(arguments):
    """And the gradient reaches every part that has weights."""
    keras.utils.set_random_seed(0)
    parts = networks.flat_networks(
        8,
        channels=1,
        latent_size=3,
        encoder_filters=(4,),
        state_units=(8,),
        potential_units=(8,),
        decoder_units=(8,),
        position_net=True,
    )
    model = HGN(
        **parts,
        num_inference_frames=3,
        agreement=1.0,
        positions=1.0,
        agreement_ramp=(0, 0),
        **arguments,
    )
    model.compile(keras.optimizers.Adam(1e-2))
    videos = np.random.default_rng(0).uniform(size=(8, 9, 8, 8, 1))
    videos = videos.astype(np.float32)
    model.build((None, *videos.shape[1:]))
    before = [weight.numpy() for weight in model.trainable_weights]
    history = model.fit(videos, batch_size=4, epochs=2, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert history["dropped_steps"][-1] == 0
    moved = [
        bool(np.any(weight.numpy() != start))
        for weight, start in zip(model.trainable_weights, before)
    ]
    # A deterministic model has no use for the posterior's two widths.
    assert moved.count(False) == (0 if model.stochastic else 2)


def test_path_from_a_random_anchor_is_the_path_from_the_first_frame():
    videos = make_videos()
    first, other = make_model(), make_model(anchor="random")
    for model in (first, other):
        model.build((None, *videos.shape[1:]))
    times = tf.tile(tf.range(LENGTH)[None], [len(videos), 1])
    ours = first._training_path(tf.constant(videos), Rows.of(videos)).at(times)
    path = other._training_path(tf.constant(videos), Rows.of(videos))
    assert len(np.unique(path.anchor)) > 3
    for mine, theirs in zip(ours, path.at(times)):
        np.testing.assert_allclose(mine, theirs, atol=1e-5)


@pytest.mark.parametrize("arguments", [{}, {"stochastic": False}])
def test_a_state_amid_its_window_leads_back_to_the_first_frame(arguments):
    videos = make_videos()
    first = make_model(num_inference_frames=4, **arguments)
    amid = make_model(num_inference_frames=4, state_frame=2, **arguments)
    for model in (first, amid):
        model.build((None, *videos.shape[1:]))
    ours, theirs = amid(videos), first(videos)
    np.testing.assert_allclose(ours.video, theirs.video, atol=1e-5)
    np.testing.assert_allclose(ours.states.p, theirs.states.p, atol=1e-5)
    for mine, its in zip(amid.infer(videos), first.infer(videos)):
        np.testing.assert_allclose(mine, its, atol=1e-5)
    # The posterior is that of the other frame.
    q = amid._to_state(ours.posterior.mean).q
    np.testing.assert_allclose(q, theirs.states.q[:, 2], atol=1e-5)


def test_sampled_motions_have_the_prior_at_the_state_frame():
    model = make_model(num_inference_frames=5, state_frame=3)
    model.build((None, LENGTH, 1, 1, 1))
    states = model.sample(2000, 3, seed=1).states
    assert abs(float(tf.math.reduce_std(states.q[:, 3])) - 1.0) < 0.05
    drawn = make_model(num_inference_frames=4)
    drawn.build((None, LENGTH, 1, 1, 1))
    start = drawn.sample(2000, 0, seed=1).states
    np.testing.assert_allclose(states.q[:, 3], start.q[:, 0], atol=1e-5)


@pytest.mark.parametrize("anchor", ["first", "random"])
def test_windows_around_a_state_agree_under_the_true_law(anchor):
    # The two frames looked at are amid the window: all are in short ones too.
    model = make_model(
        anchor=anchor,
        state_frame=1,
        num_inference_frames=4,
        shortest_window=3,
        reversible=True,
    )
    assert terms(model, make_videos())["agreement"] < 1e-8
    wrong = make_model(
        stiffness=1.5,
        anchor=anchor,
        state_frame=1,
        num_inference_frames=4,
        shortest_window=3,
        reversible=True,
    )
    assert terms(wrong, make_videos())["agreement"] > 1e-3


def test_windows_stand_wherever_they_have_frames_enough():
    model = make_model(
        anchor="random",
        state_frame=4,
        num_inference_frames=6,
        shortest_window=5,
        rollout_steps=4,
        num_decoded_frames=2,
        reversible=True,
    )
    videos = tf.constant(make_videos(batch=1000))
    model.build((None, *videos.shape[1:]))
    rows = Rows.of(videos)
    path = model._training_path(videos, rows)
    # Frame 3 has the window -1 to 4, frame 11 has 7 to 12: five are inside.
    assert sorted(np.unique(path.anchor)) == list(range(3, 12))
    forward, backward = model._drawn_window_times(path, LENGTH, rows)
    assert set(forward.numpy()) <= set(range(3, 12))
    assert set(backward.numpy()) <= set(range(0, 9))
    for times in (forward, backward):
        assert (times >= path.low).numpy().all()
        assert (times <= path.high).numpy().all()


def test_frames_further_off_than_the_rollout_are_not_drawn():
    videos = make_videos()
    model = make_model(
        anchor="random", rollout_steps=3, num_decoded_frames=4, agreement=0.0
    )
    model.build((None, *videos.shape[1:]))
    path = model._training_path(tf.constant(videos), Rows.of(videos))
    times = model._decoded_times(path, LENGTH, Rows.of(videos)).numpy()
    off = np.abs(times - path.anchor.numpy()[:, None])
    assert off.max() == 3
    assert times.min() == 0 and times.max() == LENGTH - 1


@pytest.mark.parametrize("anchor", ["first", "random"])
@pytest.mark.parametrize(
    "step, reach", [(0, 3), (10, 3), (15, 6), (20, 9), (99, 9)]
)
def test_rollouts_grow_along_their_ramp(anchor, step, reach):
    """What is drawn, and where second windows stand, is in their reach."""
    videos = make_videos(batch=1000)
    model = make_model(
        anchor=anchor,
        rollout_steps=9,
        initial_rollout_steps=3,
        rollout_ramp=(10, 20),
        num_decoded_frames=4,
    )
    model.build((None, *videos.shape[1:]))
    model.steps.assign(step)
    path = model._training_path(tf.constant(videos), Rows.of(videos))
    drawn = model._decoded_times(path, LENGTH, Rows.of(videos)).numpy()
    seen = model._drawn_window_times(path, LENGTH, Rows.of(videos))[0].numpy()
    anchors = path.anchor.numpy()
    for off in (np.abs(drawn - anchors[:, None]), np.abs(seen - anchors)):
        assert off.max() == reach
    states = path.at(tf.constant(drawn))
    expected = 2.0 * videos[np.arange(1000)[:, None], drawn, 0, 0] - 1.0
    np.testing.assert_allclose(states.q, expected, atol=1e-4)


def test_steps_that_are_written_out_reach_as_far():
    """Those of a convolutional energy are as many each time."""
    videos = make_videos()
    model = make_model(
        anchor="random",
        rollout_steps=9,
        initial_rollout_steps=3,
        rollout_ramp=(10, 20),
        num_decoded_frames=4,
    )
    model.build((None, *videos.shape[1:]))
    model._unrolled = True
    path = model._training_path(tf.constant(videos), Rows.of(videos))
    assert path.states.q.shape[1] == 19
    assert (path.high - path.low).numpy().max() == 6
    drawn = tf.stack([path.low, path.high], axis=1)
    expected = 2.0 * tf.gather(videos[..., 0, 0], drawn, batch_dims=1) - 1.0
    np.testing.assert_allclose(path.at(drawn).q, expected, atol=1e-4)


def test_fewer_frames_do_where_windows_may_be_short():
    videos = make_videos()
    model = make_model(num_inference_frames=8, shortest_window=2)
    model.build((None, *videos.shape[1:]))
    ours, theirs = model.infer(videos[:, :3]), model.infer(videos)
    np.testing.assert_allclose(ours.p, theirs.p, atol=1e-5)
    with pytest.raises(ValueError, match="infers from 2 frames"):
        model.infer(videos[:, :1])


def test_elbo_does_not_move_with_the_multiplier():
    videos = make_videos(1.0)
    model = make_model(2.0, agreement=0.0)
    model.build((None, *videos.shape[1:]))
    found = []
    for log_multiplier in (0.0, 3.0):
        model.geco.log_multiplier.assign(log_multiplier)
        found.append(model.evaluate(videos, verbose=0, return_dict=True))
    assert found[0]["elbo"] == found[1]["elbo"]
    assert found[0]["loss"] != found[1]["loss"]
    expected = losses.gaussian_elbo(
        found[0]["reconstruction"], found[0]["kl"], 1, model.geco.tolerance
    )
    assert found[0]["elbo"] == pytest.approx(float(expected), rel=1e-4)


def test_configuration_keeps_what_asks_for_a_law(tmp_path):
    arguments = {
        "state_frame": 1,
        "anchor": "random",
        "rollout_steps": 4,
        "initial_rollout_steps": 3,
        "rollout_ramp": (2, 4),
        "num_decoded_frames": 3,
        "shortest_window": 2,
        "num_inference_frames": 3,
        "agreement": 2.0,
        "agreement_ramp": (3, 5),
        "num_windows": 3,
        "reversible": True,
        "positions": 0.5,
        "isometry": 0.25,
        "low_rank": 0.125,
    }
    model = make_model(**arguments, position_net=ReadOff())
    model.build((None, LENGTH, 1, 1, 1))
    model.save(tmp_path / "model.keras")
    config = keras.saving.load_model(tmp_path / "model.keras").get_config()
    assert {name: config[name] for name in arguments} == arguments


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"anchor": "last"}, "'first' or 'random'"),
        ({"shortest_window": 3}, "from 1 to `num_inference_frames`"),
        ({"shortest_window": 0}, "from 1 to `num_inference_frames`"),
        ({"rollout_steps": 1}, "reach over a window"),
        (
            {"initial_rollout_steps": 1, "num_decoded_frames": 3},
            "`initial_rollout_steps` must reach over a window",
        ),
        ({"initial_rollout_steps": 4}, "needs `num_decoded_frames`"),
        (
            {
                "rollout_steps": 4,
                "initial_rollout_steps": 5,
                "num_decoded_frames": 3,
            },
            "at most `rollout_steps`. Received: 5 and 4",
        ),
        ({"rollout_ramp": (5, 3)}, "`rollout_ramp` must be two steps"),
        ({"rollout_ramp": (3, 5)}, "needs `initial_rollout_steps`"),
        ({"state_frame": 2}, "from 0 to 1. Received: 2"),
        ({"state_frame": -1}, "`state_frame` must be a whole number of"),
        ({"state_frame": 1, "rollout_steps": 4}, "num_decoded_frames"),
        ({"anchor": "random", "rollout_steps": 4}, "num_decoded_frames"),
        ({"agreement": -1.0}, "0 or more"),
        ({"agreement": float("nan")}, "0 or more"),
        ({"agreement_ramp": (5, 3)}, "0 <= first"),
        ({"num_windows": 0}, "from 1 to 8"),
        ({"reversible": True, "num_windows": 1}, "two `num_windows`"),
        ({"reversible": True, "agreement": 0.0}, "`agreement` above 0"),
        ({"positions": -1.0}, "0 or more"),
        ({"isometry": -1.0}, "0 or more"),
        ({"low_rank": -1.0}, "0 or more"),
        ({"positions": 1.0}, "go together"),
        ({"position_net": ReadOff()}, "go together"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_model(**arguments)


def test_position_net_of_another_shape_is_refused():
    class Two(ReadOff):
        def call(self, frame):
            return tf.concat([super().call(frame)] * 2, axis=-1)

    model = make_model(positions=1.0, position_net=Two())
    with pytest.raises(ValueError, match="`position_net` must give a q"):
        model.build((None, LENGTH, 1, 1, 1))


@pytest.mark.parametrize("arguments", [{}, {"anchor": "random"}])
def test_second_windows_need_longer_videos(arguments):
    model = make_model(num_inference_frames=LENGTH, **arguments)
    with pytest.raises(ValueError, match="a lower `shortest_window`"):
        model.fit(make_videos(), verbose=0)
    with pytest.raises(ValueError, match=f"of more than {LENGTH} frames"):
        model.check_length(LENGTH)
    model.check_length(LENGTH + 1)


def test_videos_must_be_as_long_as_a_window():
    model = make_model(num_inference_frames=LENGTH, agreement=0.0)
    with pytest.raises(ValueError, match=f"infers from {LENGTH} frames"):
        model.check_length(LENGTH - 1)
    model.check_length(LENGTH)
