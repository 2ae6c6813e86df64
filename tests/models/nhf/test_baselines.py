"""RealNVP, MAF and spline flows: densities that are densities."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from hgn_tf.densities import DENSITIES
from hgn_tf.models.nhf.baselines import (
    FLOWS,
    NormalizingFlow,
    autoregressive_network,
)
from hgn_tf.networks.layers import MaskedDense

SMALL = {"num_layers": 2, "units": (24, 24), "num_bins": 8}
MOONS = DENSITIES["two_moons"]
STEP = 0.075


def make_flow(kind, steps=0, dim=2, **kwargs):
    keras.utils.set_random_seed(1)
    flow = NormalizingFlow(kind, **{**SMALL, **kwargs})
    flow.build((None, dim))
    # XLA takes longer to compile than these runs take.
    flow.compile(keras.optimizers.Adam(1e-2), jit_compile=False)
    if steps:
        points = MOONS.sample(64 * steps, 0)
        flow.fit(points, batch_size=64, epochs=1, verbose=0)
    return flow


def on_grid(flow):
    line = np.arange(-9, 9, STEP) + STEP / 2
    grid = np.stack(np.meshgrid(line, line), -1).reshape(-1, 2)
    return flow.log_prob(grid).numpy().astype(np.float64)


@pytest.fixture(scope="module", params=FLOWS)
def trained(request):
    return make_flow(request.param, steps=150)


def test_trained_density_integrates_to_one(trained):
    log_prob = on_grid(trained)
    mass = STEP**2 * np.exp(log_prob).sum()
    # Less than 1e-3 lies outside of the grid.
    assert mass == pytest.approx(1, abs=1e-3)


def test_training_learns_the_density(trained):
    points = MOONS.sample(4000, 3)
    gap = np.mean(MOONS.log_prob(points) - trained.log_prob(points).numpy())
    assert -0.05 < gap < 0.85  # the best Gaussian has 0.90
    assert int(trained.steps) == 150 and int(trained.dropped_steps) == 0


def test_samples_follow_the_density_that_log_prob_states(trained):
    points = trained.sample(4000, seed=4).numpy()
    log_prob = trained.log_prob(points).numpy()
    exact = on_grid(trained)
    expected = STEP**2 * np.sum(np.exp(exact) * exact)
    error = log_prob.std() / np.sqrt(len(points))
    assert abs(log_prob.mean() - expected) < 4 * error + 5e-3


@pytest.mark.parametrize("dim", [2, 5])
@pytest.mark.parametrize("kind", FLOWS)
def test_inverse_undoes_forward_with_the_opposite_jacobian(kind, dim):
    bijector = make_flow(kind, dim=dim).distribution().bijector
    start = tf.random.stateless_normal([32, dim], [5, 6])
    # TFP's cache would give `start` back for the tensor it came from.
    end = tf.identity(bijector.forward(start))
    np.testing.assert_allclose(bijector.inverse(end), start, atol=2e-4)
    there = bijector.forward_log_det_jacobian(start, 1)
    back = bijector.inverse_log_det_jacobian(end, 1)
    np.testing.assert_allclose(there, -back, atol=2e-4)


def test_log_det_is_that_of_the_jacobian(trained):
    x = tf.constant(MOONS.sample(16, 1))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        z = tf.unstack(trained.distribution().bijector.inverse(x), axis=1)
    # Rows are apart, so the gradient of a sum over them is that of each.
    jacobian = np.stack([tape.gradient(part, x) for part in z], axis=1)
    expected = np.linalg.slogdet(jacobian)[1]
    bijector = trained.distribution().bijector
    found = bijector.inverse_log_det_jacobian(x, 1)
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
@pytest.mark.parametrize("kind", FLOWS)
def test_bijectors_take_any_axes_before_the_last(kind, shape):
    flow = make_flow(kind)
    x = tf.random.stateless_normal([6, 2], [5, 6])
    rows = x[: int(np.prod(shape))]
    expected = flow.distribution().log_prob(rows)
    spec = tf.TensorSpec([None] * len(shape) + [2])
    for log_prob in (
        flow.distribution().log_prob,
        tf.function(flow.distribution().log_prob, input_signature=[spec]),
    ):
        found = log_prob(tf.reshape(rows, (*shape, 2)))
        assert found.shape == shape
        np.testing.assert_allclose(tf.reshape(found, [-1]), expected, rtol=1e-5)


# Tracing a step of the spline takes 12 s.
@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=pytest.mark.slow if kind == "spline" else ())
        for kind in FLOWS
    ],
)
def test_float64_is_float64(kind):
    single, double = make_flow(kind), make_flow(kind, dtype="float64")
    double.set_weights(single.get_weights())
    points = MOONS.sample(16, 0)
    found = double.log_prob(points)
    assert found.dtype == tf.float64 and double.sample(2).dtype == tf.float64
    np.testing.assert_allclose(found, single.log_prob(points), atol=1e-4)
    double.fit(points, verbose=0)
    assert int(double.dropped_steps) == 0
    with pytest.raises(ValueError, match="in float32 or float64"):
        NormalizingFlow(kind, dtype="mixed_bfloat16")


def test_density_has_a_slope_and_samples_in_graphs():
    flow = make_flow("realnvp", dtype="float64")
    spec = [tf.TensorSpec([None, 2], tf.float64), tf.TensorSpec([], tf.int32)]

    @tf.function(input_signature=spec)
    def slope(x, seed):
        with tf.GradientTape() as tape:
            tape.watch(x)
            log_prob = flow.log_prob(x)
        drawn = flow.sample(tf.shape(x)[0], seed)
        return tape.gradient(log_prob, x), drawn

    x, step = tf.constant(MOONS.sample(3, 0), tf.float64), 1e-5
    found, drawn = slope(x, 2)
    for index, move in enumerate(step * np.eye(2)):
        change = flow.log_prob(x + move) - flow.log_prob(x - move)
        np.testing.assert_allclose(
            found[:, index], change / (2 * step), atol=1e-6
        )
    np.testing.assert_allclose(drawn, flow.sample(3, 2))
    assert flow.log_prob(x[:0]).shape == (0,)


def test_spline_starts_as_the_identity():
    flow = make_flow("spline", dtype="float64")
    for network in flow.networks:  # without the small random weights
        network.layers[-2].kernel.assign(0.0 * network.layers[-2].kernel)
    bijector = flow.distribution().bijector
    x = tf.random.stateless_uniform([64, 2], [1, 2], -7, 7, tf.float64)
    np.testing.assert_allclose(bijector.forward(x), x, atol=1e-12)
    stretch = bijector.forward_log_det_jacobian(x, 1)
    np.testing.assert_allclose(stretch, 0.0, atol=1e-12)


def test_evaluation_and_weights_count_rows():
    flow, points = make_flow("realnvp"), MOONS.sample(5, 0)
    points[4] = 9.0
    by_4, by_5 = (
        flow.evaluate(points, batch_size=size, verbose=0) for size in (4, 5)
    )
    assert by_4 == pytest.approx(by_5, rel=1e-5)
    weights = np.array([1, 1, 1, 1, 0.0])
    weighed = flow.evaluate(points, sample_weight=weights, verbose=0)
    alone = flow.evaluate(points[:4], verbose=0)
    assert weighed == pytest.approx(0.8 * alone, rel=1e-5)
    with pytest.raises(ValueError, match="without targets"):
        flow.fit(points, points, verbose=0)


@pytest.mark.parametrize("kind", FLOWS)
def test_every_variable_gets_a_gradient(kind):
    flow = make_flow(kind)
    variables = [variable.value for variable in flow.trainable_variables]
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(flow(tf.constant(MOONS.sample(64, 0))))
    for variable, slope in zip(variables, tape.gradient(loss, variables)):
        assert np.any(slope), variable.name


@pytest.mark.parametrize("kind", FLOWS)
def test_sizes_in_the_plane_are_those_of_the_table(kind):
    flow = NormalizingFlow(kind)
    flow.build((None, 2))
    expected = {"realnvp": 91_136, "maf": 88_240, "spline": 97_516}
    # Two of them are counters.
    assert flow.count_params() == expected[kind] + 2


def test_inner_steps_in_xla_are_the_steps_of_fit():
    points, weights = MOONS.sample(64 * 6, 0), []
    for inner_steps in (1, 3):
        flow = make_flow("realnvp", units=(8,))
        flow.compile(keras.optimizers.Adam(1e-2), jit_compile=inner_steps > 1)
        flow.inner_steps = inner_steps
        batches = tf.data.Dataset.from_tensor_slices(points)
        flow.fit(batches.batch(64 * inner_steps), verbose=0)
        assert int(flow.steps) == 6
        weights.append(np.concatenate([w.ravel() for w in flow.get_weights()]))
    np.testing.assert_allclose(*weights, atol=2e-5)


def test_step_that_is_not_finite_is_dropped():
    flow = make_flow("realnvp")
    before = flow.networks[0].get_weights()[0]
    points = MOONS.sample(64, 0)
    points[3, 1] = np.nan
    flow.fit(tf.data.Dataset.from_tensors(points), verbose=0)
    assert int(flow.dropped_steps) == 1 and int(flow.steps) == 1
    np.testing.assert_array_equal(flow.networks[0].get_weights()[0], before)


def test_saved_model_gives_the_same(trained, tmp_path):
    trained.save(tmp_path / "flow.keras")
    again = keras.saving.load_model(tmp_path / "flow.keras")
    points = MOONS.sample(50, 2)
    expected = trained.log_prob(points)
    np.testing.assert_allclose(again.log_prob(points), expected, rtol=1e-6)
    np.testing.assert_allclose(
        again.sample(9, 1), trained.sample(9, 1), rtol=1e-5
    )


def test_autoregressive_output_sees_only_what_is_before_it():
    keras.utils.set_random_seed(2)
    network = autoregressive_network(4, (16, 16))
    x = tf.random.stateless_normal([3, 4], [1, 2])
    with tf.GradientTape() as tape:
        tape.watch(x)
        shift = network(x)[..., 0]
    slopes = np.abs(tape.batch_jacobian(shift, x)).max(axis=0)
    np.testing.assert_array_equal(slopes > 0, np.tri(4, k=-1) > 0)


def test_mask_outlives_an_optimiser_that_knows_none():
    keras.utils.set_random_seed(2)
    layer = MaskedDense([1, 2], [1, 2], strict=True)
    layer.build((None, 2))
    layer.kernel.assign(np.ones((2, 2)))
    np.testing.assert_array_equal(layer(np.ones((1, 2))), [[0, 1]])


def test_errors_name_the_rule():
    with pytest.raises(ValueError, match="'spline'.*Received: 'glow'"):
        NormalizingFlow("glow")
    with pytest.raises(
        ValueError, match="`num_bins` must be a whole number of at least 2"
    ):
        NormalizingFlow("spline", num_bins=1)
    with pytest.raises(
        ValueError, match="`num_layers` must be a whole number of at least 1"
    ):
        NormalizingFlow(num_layers=0)
    with pytest.raises(ValueError, match="`half_width` must be positive"):
        NormalizingFlow("spline", half_width=float("nan"))
    assert NormalizingFlow(units=()).units == ()
    flow = NormalizingFlow("maf")
    for ask in (lambda: flow.sample(3, 0), flow.distribution):
        with pytest.raises(ValueError, match="not yet built"):
            ask()
    with pytest.raises(ValueError, match="two coordinates or more"):
        flow.build((None, 1))
    flow = make_flow("maf")
    with pytest.raises(ValueError, match=r"\[rows, 2\]"):
        flow.log_prob(np.zeros((3, 3)))
    with pytest.raises(ValueError, match="first is row 1"):
        flow.fit(np.array([[0, 1], [np.inf, 2.0]]))
    with pytest.raises(ValueError, match="must vary"):
        flow.fit(np.ones((4, 2)))
