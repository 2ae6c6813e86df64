"""HNN and its baseline: fields, training, paths in time, clear errors."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.integrate import solve_ivp

from hgn_tf import networks
from hgn_tf.models.hnn import HNN, DerivativeNet

MODELS = {
    "hnn": HNN,
    "separable": lambda **settings: HNN(separable=True, **settings),
    "baseline": DerivativeNet,
}
# Mass 0.5 and stiffness 2: a unit mass would hide a swap of q and p.
OMEGA = 2.0


@pytest.fixture(params=MODELS)
def make_model(request, seed):
    return MODELS[request.param]


def states(rows=64, dim=2, seed=0):
    return np.random.default_rng(seed).normal(size=(rows, dim)).astype("f4")


def spring_field(x):
    """H = q^2 + p^2 / 4, so dq/dt = p / 2 and dp/dt = -2 q."""
    return np.stack([x[:, 1] / 2, -2 * x[:, 0]], axis=1)


def trained(model, steps=800):
    x = states(256)
    model.compile(
        keras.optimizers.Adam(3e-3),
        "mse",
        steps_per_execution=100,
        jit_compile=False,
    )
    data = tf.data.Dataset.from_tensors((x, spring_field(x))).repeat()
    model.fit(data, steps_per_epoch=steps, verbose=0)
    return model


@pytest.fixture(scope="module")
def spring():
    keras.utils.set_random_seed(0)
    return trained(HNN(units=(64, 64)))


@pytest.mark.parametrize("dim", [2, 6])
def test_field_is_the_symplectic_gradient_of_the_energy(dim, seed):
    for separable in (False, True):
        model = HNN(units=(16, 16), separable=separable)
        x = states(5, dim)
        slope = np.empty(x.shape)
        step = 1e-2  # float32: rounding 1e-5, truncation 1e-4
        for index in range(dim):
            moved = np.zeros(dim, "f4")
            moved[index] = step
            ends = model.energy(x + moved) - model.energy(x - moved)
            slope[:, index] = ends / (2 * step)
        half = dim // 2
        expected = np.hstack([slope[:, half:], -slope[:, :half]])
        found = model.time_derivative(x)
        np.testing.assert_allclose(found, expected, atol=1e-3)


@pytest.mark.parametrize("dim", [2, 3])
def test_baseline_takes_any_dimension(dim):
    assert DerivativeNet().time_derivative(states(4, dim)).shape == (4, dim)


def test_field_of_an_hnn_has_no_divergence(seed):
    model, x = HNN(units=(16, 16)), tf.constant(states(8, 4))
    model.build((None, 4))
    with tf.GradientTape() as tape:
        tape.watch(x)
        slope = model(x)
    divergence = tf.linalg.trace(tape.batch_jacobian(slope, x))
    np.testing.assert_allclose(divergence, 0, atol=1e-6)


def test_weights_start_orthogonal_and_last_layer_has_no_bias(make_model):
    model = make_model(units=(32, 32))
    model.build((None, 2))
    kernels = [w.numpy() for w in model.weights if w.path.endswith("kernel")]
    biases = [w for w in model.weights if w.path.endswith("bias")]
    for kernel in kernels:
        short = kernel if kernel.shape[0] <= kernel.shape[1] else kernel.T
        np.testing.assert_allclose(
            short @ short.T, np.eye(len(short)), atol=1e-5
        )
    nets = len(kernels) // 3
    assert len(biases) == 2 * nets


def test_weight_decay_is_coupled_into_the_gradient(seed):
    """One SGD step on a loss without gradient leaves w (1 - rate * decay)."""
    model = DerivativeNet(units=(4,), weight_decay=0.5)
    x = states(8)
    target = model.time_derivative(x).numpy()
    before = [weight.numpy() for weight in model.weights]
    model.compile(keras.optimizers.SGD(0.1), "mse")
    model.fit(x, target, batch_size=8, verbose=0)
    for old, new in zip(before, model.weights):
        np.testing.assert_allclose(new, 0.95 * old, rtol=1e-4, atol=1e-7)


def test_training_finds_the_field_of_a_spring(spring):
    x = states(100, seed=1)
    error = spring.time_derivative(x) - spring_field(x)
    assert np.mean(np.square(error)) < 5e-3  # of a mean square of 2


def test_energy_is_conserved_along_its_own_field(spring):
    x0 = np.array([[1.0, 0.5], [0.3, -0.8]])
    path = spring.integrate(x0, (0, 10), np.linspace(0, 10, 50))
    energy = spring.energy(path.reshape(-1, 2)).numpy().reshape(2, 50)
    spread = abs(energy[0, 0] - energy[1, 0])
    drift = np.abs(energy - energy[:, :1]).max()
    assert drift < 1e-3 * spread  # atol 1e-6 over 60 steps, float32 energies


def test_integrate_agrees_with_scipy_on_one_state(spring):
    x0, times = np.array([1.0, 0.5]), np.linspace(0, 2, 5)
    expected = solve_ivp(
        lambda _, x: spring.time_derivative(x[None]).numpy()[0],
        (0, 2),
        x0,
        t_eval=times,
        rtol=1e-6,
    )
    path = spring.integrate(x0, (0, 2), times)
    np.testing.assert_allclose(path, expected.y.T, atol=1e-5)


def test_integrate_goes_back_in_time(spring):
    x0 = states(3)
    there = spring.integrate(x0, (0, 2))[:, -1]
    back = spring.integrate(there, (2, 0))[:, -1]
    np.testing.assert_allclose(back, x0, atol=1e-4)


def test_rollout_follows_integrate(spring):
    x0 = states(3)
    path = spring.rollout(x0, 0.05, 20, "rk4").numpy()
    times = 0.05 * np.arange(21)
    expected = spring.integrate(x0, (0, times[-1]), times)
    np.testing.assert_allclose(path, expected, atol=1e-4)


def test_rollouts_of_any_length_share_a_graph(seed):
    model = HNN(units=(8, 8))
    for num_steps, dt in ((3, 0.1), (4, 0.1), (2, -0.2), (0, 0.1)):
        path = model.rollout(states(4), dt, num_steps)
        assert path.shape == (4, num_steps + 1, 2)
    assert model._compiled_rollout.experimental_get_tracing_count() == 1


def test_saved_model_gives_the_same_field(make_model, tmp_path):
    model, x = make_model(units=(8, 8)), states(4)
    expected = model.time_derivative(x)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.time_derivative(x), expected)
    assert loaded.get_config() == model.get_config()


def exact_paths(rows, steps, dt, noise=0.0):
    """Circles of H = q^2 + p^2 / 4: omega 1, p = 2 dq/dt."""
    rng = np.random.default_rng(0)
    q0, v0 = rng.normal(size=(2, rows, 1))
    times = dt * np.arange(steps + 1)
    q = q0 * np.cos(times) + v0 * np.sin(times)
    p = 2 * (v0 * np.cos(times) - q0 * np.sin(times))
    path = np.stack([q, p], axis=-1)
    path = path + noise * rng.normal(size=path.shape)
    return path[:, 0].astype("f4"), path[:, 1:].astype("f4")


def test_training_on_noisy_paths_finds_the_field_without_derivatives(seed):
    model = HNN((32, 32), separable=True, dt=0.3)
    model.compile(
        keras.optimizers.Adam(1e-2),
        "mse",
        steps_per_execution=50,
        jit_compile=False,
    )
    data = tf.data.Dataset.from_tensors(exact_paths(64, 4, 0.3, 0.1)).repeat()
    model.fit(data, steps_per_epoch=150, verbose=0)
    x = states(100, seed=1)
    error = model.time_derivative(x) - spring_field(x)
    # Unseen corners are extrapolated; a field of zeros has 2.
    assert np.mean(np.square(error)) < 0.1


def test_loss_on_paths_is_that_of_the_rollout(seed):
    model = HNN((8, 8), separable=True, dt=0.2, substeps=2)
    x0, path = exact_paths(4, 3, 0.2)
    model.compile(loss="mse")
    loss = model.evaluate(x0, path, verbose=0)
    expected = model.rollout(x0, 0.1, 6).numpy()[:, 2::2] - path
    np.testing.assert_allclose(loss, np.mean(expected**2), rtol=1e-5)


class Spring(HNN):
    """H = (q^2 + p^2) / 2, without weights."""

    def build(self, shape):
        self.dim, unit = 2, networks.QuadraticEnergy()
        self.hamiltonian = networks.SeparableHamiltonian(unit, unit)


def test_fitted_start_is_the_least_squares_one_of_a_linear_flow(seed):
    model = Spring(dt=0.1, start_iterations=1)
    # Each column of `flow` is the path of a unit state, so a path is linear.
    flow = model.rollout(np.eye(2), 0.1, 12).numpy()  # [2, time, 2]
    noisy = states(1, 2) @ flow.transpose(1, 0, 2)  # [time, 1, 2]
    noisy = noisy[:, 0] + 0.1 * states(13)
    expected, *_ = np.linalg.lstsq(
        flow.reshape(2, -1).T, noisy.ravel(), rcond=None
    )
    start = model.fit_start(noisy[:1], noisy[None, 1:])
    np.testing.assert_allclose(start[0], expected, atol=1e-4)


def test_start_is_taken_as_given_without_iterations():
    model = HNN(units=(8,))
    x0, path = states(3), states(12).reshape(3, 4, 2)
    np.testing.assert_array_equal(model.fit_start(x0, path), x0)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"substeps": 0}, "`substeps` must be a whole number of at least 1"),
        ({"substeps": 1.5}, "`substeps` must be a whole number"),
        (
            {"start_iterations": -1},
            "`start_iterations` must be a whole number of at least 0",
        ),
        ({"weight_decay": -1.0}, "`weight_decay` must be 0 or more"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, match):
    with pytest.raises(ValueError, match=match):
        HNN(**settings)


def test_odd_dimension_is_refused():
    with pytest.raises(ValueError, match="must be even. Received: 3"):
        HNN().time_derivative(states(4, 3))


@pytest.mark.parametrize(
    ("x", "y", "match"),
    [
        (states(4, 2), states(4, 4), "Received: .4, 2. and .4, 4."),
        (states(4, 2), states(3, 2), "Received"),
        (states(4, 2), np.full((4, 2), np.nan), "row 0"),
        (states(4, 2), np.zeros((4, 3, 4)), "rows, steps, dim"),
    ],
)
def test_rows_that_do_not_fit_are_refused(x, y, match):
    model = HNN(units=(8,))
    model.compile(loss="mse")
    with pytest.raises(ValueError, match=match):
        model.fit(x, y)


@pytest.mark.parametrize("kind", ["dataset", "generator", "batch"])
@pytest.mark.parametrize("target", [False, True])
@pytest.mark.parametrize("row", [0, 5])
def test_nan_of_a_stream_does_not_reach_the_weights(kind, target, row, seed):
    model = DerivativeNet(units=(8,))
    model.compile("sgd", loss="mse")
    x, y = states(8), states(8)
    (y if target else x)[row, 1] = np.nan
    batches = [(x[start : start + 4], y[start : start + 4]) for start in (0, 4)]
    signature = (tf.TensorSpec([None, 2], tf.float32),) * 2
    errors = (ValueError, tf.errors.InvalidArgumentError)
    with pytest.raises(
        errors, match=f"`{'y' if target else 'x'}` must be fini"
    ):
        if kind == "batch":
            for batch in batches:
                model.train_on_batch(*batch)
        elif kind == "generator":
            model.fit((batch for batch in batches), verbose=0)
        else:
            stream = tf.data.Dataset.from_generator(
                lambda: batches, output_signature=signature
            )
            model.fit(stream, verbose=0)
    assert all(np.isfinite(weight).all() for weight in model.get_weights())


@pytest.mark.parametrize("dtypes", [("f4", "i8"), ("i8", "f4"), ("i8", "i8")])
def test_whole_numbers_are_states_too(dtypes, seed):
    x, y = (np.arange(8).reshape(4, 2).astype(dtype) for dtype in dtypes)
    model = DerivativeNet(units=(8,))
    model.compile("sgd", loss="mse")
    model.fit(tf.data.Dataset.from_tensor_slices((x, y)).batch(2), verbose=0)
    assert all(np.isfinite(weight).all() for weight in model.get_weights())


def test_weights_in_a_column_are_those_in_a_row(seed):
    model = DerivativeNet(units=(8,))
    model.compile("sgd", loss="mse")
    x, y, weight = states(4), states(4)[::-1], np.float32([[1], [0], [2], [3]])
    unknown = tf.data.Dataset.from_generator(
        lambda: [(x, y, weight)],
        output_signature=(
            tf.TensorSpec([None, 2]),
            tf.TensorSpec(None),
            tf.TensorSpec([None, 1]),
        ),
    )
    found = model.evaluate(unknown, verbose=0)
    row = model.evaluate(x, y, sample_weight=weight[:, 0], verbose=0)
    assert found == pytest.approx(row, rel=1e-5)


def test_weights_of_derivatives_are_one_per_row():
    model = DerivativeNet(units=(8,))
    model.compile("sgd", loss="mse")
    with pytest.raises(
        ValueError, match="`sample_weight` must be a number per"
    ):
        model.evaluate(states(2), states(2), sample_weight=np.eye(2), verbose=0)


def test_a_path_to_fit_a_start_to_is_looked_at():
    model = HNN(units=(8,))
    with pytest.raises(ValueError, match="`path` must be states .batch, steps"):
        model.fit_start(states(3), states(3))
    path = np.full((3, 4, 2), np.nan)
    with pytest.raises(ValueError, match="`path` must be finite"):
        model.fit_start(states(3), path)


def test_rollouts_of_any_number_of_rows_share_a_graph():
    model = HNN(units=(8,))
    for rows in range(1, 6):
        model.rollout(states(rows), 0.1, 2)
    # One of the first number of rows, and one of any.
    assert model._compiled_rollout.experimental_get_tracing_count() <= 2


def test_nan_row_is_named():
    x = states(5)
    x[3, 1] = np.nan
    with pytest.raises(ValueError, match="1 of 5 rows, the first is row 3"):
        HNN(units=(8,)).time_derivative(x)


@pytest.mark.parametrize("t_eval", [[0, 3], [-1, 1], [1, 0.5]])
def test_times_outside_the_span_are_refused(t_eval):
    with pytest.raises(ValueError, match="within `t_span`"):
        HNN(units=(8,)).integrate([1.0, 0.0], (0, 2), t_eval)


@pytest.mark.parametrize("x", [np.zeros(2), np.zeros((2, 2, 2)), states(2, 4)])
def test_other_shapes_are_refused(x):
    model = HNN(units=(8,))
    model.build((None, 2))
    with pytest.raises(ValueError, match="`x` must"):
        model.time_derivative(x)


def test_unknown_integrator_is_refused():
    with pytest.raises(ValueError, match="leapforg"):
        HNN(integrator="leapforg")


def test_activation_of_straight_pieces_is_for_the_baseline_alone():
    with pytest.raises(ValueError, match="must be smooth.*'relu'"):
        HNN(activation="relu")
    assert DerivativeNet(activation="relu").activation == "relu"
