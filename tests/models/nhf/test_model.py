"""Neural Hamiltonian Flows: exact cases, bounds, training, saving, errors."""

import inspect
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from scipy import stats

import hgn_tf
from hgn_tf.models.nhf import (
    NHF,
    FlowMomentum,
    SoftUniform,
    leapfrog,
    nhf_networks,
)
from hgn_tf.models.nhf import model as nhf_model
from hgn_tf.networks import (
    EnergyNet,
    QuadraticEnergy,
    SeparableHamiltonian,
    serializable,
)

tfd = tfp.distributions
SMALL = {"units": (16,), "posterior_units": (16,)}
EVERYTHING = {
    "num_hamiltonians": 2,
    "num_steps": 2,
    "dt": 0.3,
    "learn_dt": True,
    "first_scale": 3.0,
    "first_bias": 3.0,
    "prior": (SoftUniform(6.0, 8.0), "normal"),
    "scaling": True,
    "posterior": "flow",
    "kl_tolerance": 1.0,
    "drift_tolerance": 0.5,
    "num_samples": 2,
    "seed": 3,
}
CASES = {
    "paper": {},
    "wide": {"first_scale": 3.0, "first_bias": 3.0},
    "fixed_kinetic": {"form": "fixed_kinetic", "num_steps": 2},
    "bumps": {
        "form": "bumps",
        "num_hamiltonians": 3,  # enough to run in a loop
        "units": (8,),
        "scaling": True,
    },
    "everything": EVERYTHING,
}


def points(rows=256, dim=2, seed=0, dtype="f4"):
    """Two Gaussians of width 0.5 at +-1 in each coordinate."""
    rng = np.random.default_rng(seed)
    centre = np.sign(rng.normal(size=(rows, 1)))
    return (centre + 0.5 * rng.normal(size=(rows, dim))).astype(dtype)


def batches(rows=128):
    data = tf.data.Dataset.from_tensor_slices(points(512))
    return data.batch(rows, drop_remainder=True)


def make(form="paper", **settings):
    """An NHF of small networks, from settings of those and its own."""
    settings = {**SMALL, **settings}
    own = inspect.signature(nhf_networks).parameters.keys() - {"dtype"}
    networks = {name: settings.pop(name) for name in own & settings.keys()}
    networks["dtype"] = settings.get("dtype")
    return NHF(**nhf_networks(form, **networks), **settings)


def compiled(dim=2, rate=1e-2, **settings):
    keras.utils.set_random_seed(0)
    model = make(**{"num_hamiltonians": 1, **settings})
    model.build((None, dim))
    model.compile(keras.optimizers.Adam(rate), jit_compile=False)
    return model


@pytest.fixture(scope="module")
def trained():
    model = compiled(units=(32,), num_hamiltonians=3)
    model.fit(batches().repeat(), steps_per_epoch=500, verbose=0)
    return model


@serializable
class Linear(keras.layers.Layer):
    """p = slope * q + scale * noise, a momentum posterior."""

    def __init__(self, slope=0.0, scale=1.0, **kwargs):
        super().__init__(**kwargs)
        self.slope, self.scale = slope, scale

    def call(self, q, noise):
        log_density = tfd.Normal(tf.zeros([], noise.dtype), self.scale)
        log_density = log_density.log_prob(self.scale * noise)
        p = self.slope * q + self.scale * noise
        return p, tf.reduce_sum(log_density, axis=-1)

    def get_config(self):
        own = {"slope": self.slope, "scale": self.scale}
        return {**super().get_config(), **own}


def spring(steps=3, dt=0.4, posterior=None, **settings):
    """An NHF of a harmonic oscillator, and its 2x2 matrix in (q, p)."""
    energy = SeparableHamiltonian(
        QuadraticEnergy(dtype="float64"), QuadraticEnergy(dtype="float64")
    )
    prior = tfd.MultivariateNormalDiag(scale_diag=np.array([2, 2, 0.5, 0.5]))
    model = NHF(
        energy,
        posterior or Linear(dtype="float64"),
        num_steps=steps,
        dt=dt,
        prior=prior,
        dtype="float64",
        **settings,
    )
    kick, drift = np.array([[1, 0], [-dt / 2, 1]]), np.array([[1, dt], [0, 1]])
    return model, np.linalg.matrix_power(kick @ drift @ kick, steps)


def test_quadratic_energy_gives_the_exact_gaussian():
    q = points(5, dtype="f8")
    matrix = spring()[1]
    cov = matrix @ np.diag([4, 0.25]) @ matrix.T
    exact = stats.norm.logpdf(q, scale=cov[0, 0] ** 0.5).sum(1)
    # With the true p(p | q) each weight is the density.
    slope = cov[0, 1] / cov[0, 0]
    scale = (cov[1, 1] - slope * cov[0, 1]) ** 0.5
    model, _ = spring(posterior=Linear(slope, scale, dtype="float64"))
    found = model.importance(q, num_samples=7)
    np.testing.assert_allclose(found.log_prob, exact, atol=1e-10)
    np.testing.assert_allclose(found.elbo, exact, atol=1e-10)
    np.testing.assert_allclose(found.effective_samples, 7, atol=1e-10)
    # With another, each is unbiased: 7 standard errors at 300 effective.
    model, _ = spring(posterior=Linear(slope, 2 * scale, dtype="float64"))
    found = model.importance(q, num_samples=4000)
    np.testing.assert_allclose(found.log_prob, exact, atol=0.15)
    assert (found.elbo.numpy() < exact).all()


def test_samples_and_joint_of_the_quadratic_case_are_gaussian():
    model, matrix = spring()
    model.build((None, 2))
    whole = np.kron(matrix, np.eye(2))
    cov = whole @ np.diag([4, 4, 0.25, 0.25]) @ whole.T
    q = model.sample(20_000, seed=1)
    # Standard error of a variance: cov * sqrt(2 / 20,000) = 0.04.
    np.testing.assert_allclose(np.cov(q.numpy().T), cov[:2, :2], atol=0.15)
    x = np.random.default_rng(0).normal(size=(5, 4))
    exact = stats.multivariate_normal(cov=cov).logpdf(x)
    np.testing.assert_allclose(model.joint.log_prob(x), exact, atol=1e-10)


def test_objective_without_the_momentums_prior_has_no_bound():
    q, bounded, unbounded = points(50, dtype="f8"), [], []
    for scale in (1.0, 1e3, 1e6):
        model, _ = spring(
            1, 1e-9, posterior=Linear(0.0, scale, dtype="float64")
        )
        bounded.append(np.mean(model.elbo(q, 10)))
        noise = np.random.default_rng(0).normal(size=(10, 50, 2))
        weighed = model._weigh(tf.constant(q), tf.constant(noise))
        momentum = stats.norm.logpdf(weighed.start[..., 2:], scale=0.5)
        without = weighed.log_weight.numpy() - momentum.sum(-1)
        unbounded.append(without.mean())
    # Two momenta, each a factor of 1000 wider: 2 ln 1000 a step.
    np.testing.assert_allclose(np.diff(unbounded), 2 * np.log(1e3), atol=0.01)
    exact = stats.norm.logpdf(q, scale=2).sum(1).mean()
    assert max(bounded) < exact < max(unbounded)
    with pytest.raises(ValueError, match="must cover q and p"):
        half = tfd.MultivariateNormalDiag([0.0, 0.0])
        make(prior=half).build((None, 2))


def test_trained_flow_is_symplectic(trained):
    omega = np.block(
        [[np.zeros((2, 2)), np.eye(2)], [-np.eye(2), np.zeros((2, 2))]]
    )
    step = 1e-2  # float32: rounding 1e-5, truncation 1e-4.
    x, moves = points(1, 4), step * np.eye(4, dtype="f4")
    push = trained.bijector.forward
    found = (push(x + moves) - push(x - moves)).numpy().T / (2 * step)
    np.testing.assert_allclose(found.T @ omega @ found, omega, atol=2e-3)
    assert abs(np.linalg.slogdet(found)[1]) < 2e-3
    assert trained.bijector.forward_log_det_jacobian(x, 1) == 0


def test_trained_density_integrates_to_1(trained):
    axis = np.linspace(-4, 4, 41)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    density = np.exp(trained.log_prob(grid, num_samples=200))
    # IWAE-200 is a little low, by half of 1 / (effective samples).
    assert abs(density.sum() * (axis[1] - axis[0]) ** 2 - 1) < 0.03


def test_training_learns_the_density(trained):
    q = points(1000, seed=9)
    parts = [
        stats.norm.logpdf(q, loc=centre, scale=0.5).sum(1)
        for centre in (-1.0, 1.0)
    ]
    exact = np.logaddexp(*parts) - np.log(2)
    gap = np.mean(exact - trained.log_prob(q, 100))
    assert -0.05 < gap < 0.2  # A Gaussian of the same moments: 0.35.
    samples = trained.sample(2000).numpy()
    both = np.mean((samples > 0).all(1) | (samples < 0).all(1))
    assert both > 0.85  # Of the data: 0.96.


def test_bound_rises_with_the_number_of_samples(trained):
    q = points(500, seed=9)
    bounds = [np.mean(trained.elbo(q, 64))]
    for count in (2, 8, 64):
        found = trained.importance(q, count)
        bounds.append(np.mean(found.log_prob))
        assert (found.log_prob >= found.elbo - 1e-5).numpy().all()
        inside = found.effective_samples.numpy()
        assert (inside > 0.999).all() and (inside < count * 1.001).all()
    assert (np.diff(bounds) > 0).all()


def test_chunks_change_the_noise_only(trained, monkeypatch):
    q = points(20, seed=9)
    whole = trained.log_prob(q, 2000)
    # Blocks of 700 samples, of a row each.
    monkeypatch.setattr(nhf_model, "_STATES_AT_ONCE", 700)
    parts = trained.importance(q, 2000)
    np.testing.assert_allclose(parts.log_prob, whole, atol=0.2)
    assert (parts.effective_samples > 100).numpy().all()


def test_trajectory_goes_from_the_prior_to_the_samples():
    model = make(**EVERYTHING)
    model.build((None, 2))
    path = model.trajectory(3000, seed=5)
    assert path.q.shape == path.p.shape == (3000, 1 + 2 * 2, 2)
    samples = model.sample(3000, seed=5)
    np.testing.assert_allclose(path.q[:, -1], samples, atol=1e-4)
    cdf = SoftUniform(6.0, 8.0).cdf
    first = path.q[:, 0, 0].numpy()
    assert stats.kstest(first, lambda s: cdf(s).numpy()).pvalue > 0.01


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow)
        if name == "everything"
        else name
        for name in CASES
    ],
)
def test_every_variable_moves_in_a_step(name):
    model = compiled(**CASES[name])
    before = [variable.numpy() for variable in model.trainable_variables]
    model.fit(points(64), batch_size=64, verbose=0)
    for old, variable in zip(before, model.trainable_variables):
        assert np.abs(variable.numpy() - old).max() > 0, variable.path
    assert model.dropped_steps == 0 and model.steps == 1


@pytest.mark.parametrize("name", CASES)
def test_saved_model_is_the_same_density(name, tmp_path):
    model = make(**CASES[name])
    model.build((None, 2))
    model.save(tmp_path / "flow.keras")
    again = keras.models.load_model(tmp_path / "flow.keras")
    q = points(5)
    np.testing.assert_array_equal(again.elbo(q, 3), model.elbo(q, 3))
    np.testing.assert_array_equal(again.sample(5), model.sample(5))


@pytest.mark.parametrize("direction", [1, -1])
def test_loop_through_stacked_flows_is_their_chain(direction):
    model = make(**CASES["bumps"])
    model.build((None, 2))
    states = tf.constant(points(7, 4))
    looped = leapfrog.advance_through(model.flows, states, direction)
    chain = tfp.bijectors.Chain(model.flows[::-1])
    chained = chain.forward if direction == 1 else chain.inverse
    np.testing.assert_allclose(looped, chained(states), atol=1e-5)


def test_adapted_scaling_is_that_of_the_points():
    model, data = make(**CASES["bumps"]), 3.0 * points() + [5.0, -1.0]
    model.adapt(data)
    q, p = np.split(model.affine.inverse(np.hstack([data, data])), 2, axis=1)
    np.testing.assert_allclose(q.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(q.std(axis=0), 1, atol=1e-5)
    np.testing.assert_allclose(p, data, atol=1e-5)
    with pytest.raises(ValueError, match="needs a data scaling"):
        make().adapt(data)


def test_resumed_run_is_the_same_run(tmp_path):
    whole, half = compiled(), compiled()
    whole.fit(batches(), epochs=2, verbose=0)
    half.fit(batches(), verbose=0)
    half.save(tmp_path / "half.keras")
    half = keras.models.load_model(tmp_path / "half.keras")
    half.fit(batches(), verbose=0)
    for one, other in zip(whole.weights, half.weights):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_inner_steps_are_steps():
    one, many = compiled(), compiled()
    one.fit(batches(128), verbose=0)
    many.inner_steps = 4
    many.fit(batches(512), verbose=0)
    assert many.steps == one.steps == 4
    for a, b in zip(one.trainable_variables, many.trainable_variables):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_xla_gives_the_same_weights_and_gradients():
    model = compiled(kinetic_energy="quadratic")
    noise = np.random.default_rng(0).normal(size=(2, 9, 2)).astype("f4")

    def found(q):
        with tf.GradientTape() as tape:
            weight = model._weigh(q, noise).log_weight
        first = model.trainable_variables[0].value
        return weight, tape.gradient(weight, first)

    plain, xla = (
        tf.function(found, jit_compile=jit)(points(9)) for jit in (False, True)
    )
    for one, other in zip(plain, xla):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_xla_trains_in_inner_steps():
    model = compiled(**EVERYTHING)
    model.compile(keras.optimizers.Adam(1e-2), jit_compile=True)
    model.inner_steps = 4
    history = model.fit(batches(512), epochs=40, verbose=0).history
    assert model.steps == 160 and model.dropped_steps == 0
    assert history["elbo"][-1] > history["elbo"][0] + 0.5


def test_seed_decides_training_and_samples():
    one, other = compiled(seed=0), compiled(seed=1)
    np.testing.assert_array_equal(one.elbo(points(9)), other.elbo(points(9)))
    for model in (one, other):
        model.fit(batches(), verbose=0)
    change = one.elbo(points(9)) - other.elbo(points(9))
    assert np.abs(change).max() > 1e-4
    np.testing.assert_array_equal(one.sample(4, seed=1), one.sample(4, 1))
    assert np.abs(one.sample(4, seed=1) - one.sample(4, seed=2)).max() > 0.1


def test_nan_drops_a_step_and_nothing_else():
    model = compiled()
    model.fit(batches(), verbose=0)
    before = [variable.numpy() for variable in model.trainable_variables]
    bad = tf.data.Dataset.from_tensors(np.full((128, 2), np.nan, "f4"))
    history = model.fit(bad, verbose=0).history
    # An epoch of bad steps alone has no loss, least of all 0.
    assert model.dropped_steps == 1 and np.isnan(history["loss"]).all()
    for old, variable in zip(before, model.trainable_variables):
        np.testing.assert_array_equal(old, variable)


def test_float64_agrees_with_float32():
    small = make(**SMALL)
    large = make(**SMALL, dtype="float64")
    small.build((None, 2)), large.build((None, 2))
    large.set_weights(small.get_weights())
    noise = np.random.default_rng(0).normal(size=(3, 9, 2))
    q = points(9, dtype="f8")
    found = large._weigh(q, noise)
    assert found.log_weight.dtype == tf.float64
    rough = small._weigh(q.astype("f4"), noise.astype("f4"))
    np.testing.assert_allclose(found.log_weight, rough.log_weight, atol=1e-4)
    large.compile("adam", jit_compile=False)
    large.fit(points(64, dtype="f8"), verbose=0)
    assert large.sample(3).dtype == tf.float64 and large.dropped_steps == 0


@pytest.mark.parametrize("dim", [1, 2, 5])
def test_call_and_predict_give_a_state_for_each_point(dim):
    model = compiled(dim, posterior="flow", num_hamiltonians=2)
    output = model.predict(points(6, dim), verbose=0)
    assert output.start.q.shape == output.end.p.shape == (6, dim)
    np.testing.assert_allclose(output.end.q, points(6, dim), atol=1e-6)
    assert output.log_weight.shape == (6,)
    assert model.kinetic(points(6, dim)).shape == (6,)
    assert model.potential(points(6, dim), index=1).shape == (6,)


def test_constraints_act_and_leave_the_elbo_alone():
    free = compiled()
    bound = compiled(kl_tolerance=0.01, drift_tolerance=1e-3)
    found, alone = (
        model.evaluate(points(), batch_size=256, return_dict=True, verbose=0)
        for model in (bound, free)
    )
    assert found["loss"] > alone["loss"]
    assert found["elbo"] == alone["elbo"] == -alone["loss"]
    history = bound.fit(batches(), epochs=40, verbose=0).history
    assert history["kl"][-1] < 0.3 * history["kl"][0]
    assert history["drift"][-1] < 0.3 * history["drift"][0]
    assert bound.kl_geco.multiplier > 1


@pytest.mark.parametrize("bins", [0, 8])
def test_flow_posterior_is_a_density(bins):
    layer = FlowMomentum((16,), bins=bins, dtype="float64")
    q, step = tf.constant([[0.3, -1.0]], tf.float64), 1e-5
    noise = np.random.default_rng(0).normal(size=(4, 1, 2))
    _, log_density = layer(q, noise)
    moves = step * np.eye(2)[:, None, None]  # Along the first axis: noise i.
    ends = [
        layer(q, noise + move)[0] - layer(q, noise - move)[0] for move in moves
    ]
    slopes = np.stack(ends, axis=-1)[:, 0] / (2 * step)
    assert np.abs(slopes[:, 0, 1]).max() < 1e-9  # Autoregressive.
    assert np.abs(slopes[:, 1, 0]).min() > 1e-6
    exact = stats.norm.logpdf(noise).sum(-1)[:, 0]
    exact -= np.linalg.slogdet(slopes)[1]
    np.testing.assert_allclose(log_density[:, 0], exact, atol=1e-6)


def bad(column):
    data = points(8)
    data[3, 1] = np.nan
    if column == "constant":
        data[:, 1] = 2.0
    return data


@pytest.mark.parametrize(
    "data,match",
    [
        (points(8, 3), "must be points \\[rows, 2\\]. Received: shape \\(8, 3"),
        (points(8)[0], "must be points \\[rows, 2\\]"),
        (bad("nan"), "finite. Received: NaN or infinity in 1 of 8 rows"),
        (bad("constant"), "Each column of `x` must vary.*column 1 is 2.0"),
        (tf.data.Dataset.from_tensors(points(8, 3)), "must be points"),
    ],
)
def test_data_that_cannot_be_learned_are_refused(data, match):
    model = compiled()
    with pytest.raises(ValueError, match=match):
        model.fit(data, verbose=0)


def test_questions_that_cannot_be_answered_are_refused():
    model = make(**SMALL)
    for ask in (
        lambda: model.sample(3),
        lambda: model.joint,
        lambda: model.bijector,
    ):
        with pytest.raises(ValueError, match="must know the dimension"):
            ask()
    assert not hasattr(model, "joint")
    assert make(**SMALL).potential(points(3)).shape == (3,)
    model.build((None, 2))
    with pytest.raises(
        ValueError, match="`n` must be a whole number of at least 1"
    ):
        model.trajectory(0)
    with pytest.raises(
        ValueError, match="`num_samples` must be a whole number of at least 1"
    ):
        model.log_prob(points(3), num_samples=0)
    with pytest.raises(ValueError, match="a whole number.*Received: 2.5"):
        model.sample(2.5)
    with pytest.raises(ValueError, match="known before a graph runs"):
        tf.function(lambda n: model.elbo(points(3), n))(tf.constant(2))
    with pytest.raises(ValueError, match="`q` must be finite"):
        model.elbo(bad("nan"))
    with pytest.raises(ValueError, match="`p` must be points"):
        model.kinetic(points(3, 4))


@pytest.mark.parametrize(
    "settings,match",
    [
        (
            {"num_hamiltonians": 0},
            "`num_hamiltonians` must be a whole number of at least 1",
        ),
        ({"form": "bumps", "activation": "tanh"}, "Bumps have no activation"),
        ({"form": "bumps", "first_scale": 2.0}, "Received: \\['first_scale'"),
        ({"num_steps": 1.5}, "`num_steps` must be a whole number"),
        ({"num_samples": 1.5}, "`num_samples` must be a whole number"),
        ({"kl_tolerance": 0.0}, "`kl_tolerance` must be positive"),
        ({"drift_tolerance": np.inf}, "`drift_tolerance` must be positive"),
        ({"form": "papers"}, "`form` must be one of \\['paper', 'fixed_"),
        ({"energy": "rbf"}, "\\['bumps', 'mlp', 'ovals'\\]. Received: 'rbf'"),
        ({"form": "bumps", "units": (8, 8)}, "their number alone"),
        ({"num_steps": 0}, "`num_steps` must be a whole number of at least 1"),
        (
            {"num_samples": 0},
            "`num_samples` must be a whole number of at least 1",
        ),
        ({"dt": 0.0}, "`dt` must be a finite number"),
        ({"kinetic_energy": "p^2"}, "\\['learned', 'quadratic'\\]"),
        ({"posterior": "spline"}, "\\['affine', 'flow', 'gaussian'\\]"),
        ({"dtype": "mixed_float16"}, "in float32 or float64"),
        ({"kl_tolerance": -1.0}, "`kl_tolerance` must be positive"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, match):
    with pytest.raises(ValueError, match=match):
        make(**settings)


@pytest.mark.parametrize(
    "prior",
    [
        tfd.MultivariateNormalDiag(tf.zeros(4)),
        tfd.Blockwise(4 * [tfd.Normal(0.0, 1.0)]),
        tfd.Blockwise(
            [
                tfd.MultivariateNormalDiag(tf.zeros(3)),
                tfd.MultivariateNormalDiag(tf.zeros(1)),
            ]
        ),
    ],
)
def test_a_joint_prior_has_no_prior_of_p_to_compare_with(prior):
    with pytest.raises(ValueError, match="needs a prior of p apart"):
        make(prior=prior, kl_tolerance=1.0).build((None, 2))


def test_the_package_offers_nhf_and_says_what_it_needs(monkeypatch):
    assert hgn_tf.NHF is NHF
    monkeypatch.delattr("hgn_tf.models.nhf")
    for name in list(sys.modules):
        if name.startswith("hgn_tf.models.nhf"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorflow_probability", None)
    with pytest.raises(ImportError, match="pip install 'hgn-tf\\[nhf\\]'"):
        hgn_tf.NHF  # noqa: B018


@pytest.mark.parametrize("count", [1, 2])
def test_own_layers_make_the_flow(count, tmp_path):
    quadratic = SeparableHamiltonian(QuadraticEnergy(), QuadraticEnergy())
    net = SeparableHamiltonian(
        QuadraticEnergy(), EnergyNet((8,), convolutional=False)
    )
    given = quadratic if count == 1 else [quadratic, net]
    model = NHF(given, Linear(0.5, 2.0), dt=0.1)
    model.build((None, 2))
    assert len(model.flows) == count
    model.save(tmp_path / "flow.keras")
    again = keras.models.load_model(tmp_path / "flow.keras")
    np.testing.assert_array_equal(again.elbo(points(5)), model.elbo(points(5)))


@serializable
class Penalised(Linear):
    """A posterior that costs 0.5 in training and 0.25 else."""

    def call(self, q, noise, training=False):
        self.add_loss(tf.constant(0.5 if training else 0.25))
        return super().call(q, noise)


def test_losses_of_layers_count_and_training_reaches_them():
    energy = SeparableHamiltonian(
        QuadraticEnergy(), EnergyNet((8,), convolutional=False)
    )
    model = NHF(energy, Penalised())
    model.compile(keras.optimizers.SGD(0.0))
    trained = model.fit(points(64), batch_size=64, verbose=0).history
    assert trained["loss"][0] + trained["elbo"][0] == pytest.approx(0.5)
    found = model.evaluate(points(64), return_dict=True, verbose=0)
    assert found["loss"] + found["elbo"] == pytest.approx(0.25)


def test_layers_that_do_not_fit_are_refused():
    posterior = Linear()
    with pytest.raises(ValueError, match="`hamiltonian` must be a Stacked"):
        NHF(keras.layers.Dense(1), posterior)
    with pytest.raises(ValueError, match="float64 as the model. Received"):
        NHF(**nhf_networks(**SMALL), dtype="float64").build((None, 2))
    energy = nhf_networks(**SMALL)["hamiltonian"]
    posterior.call = lambda q, noise: (noise, noise)
    with pytest.raises(ValueError, match=r"ln f\(p \| q\).*must be \[1, 1\]"):
        NHF(energy, posterior).build((None, 2))


def test_graphs_take_any_number_of_points(trained, monkeypatch):
    # Parts of 4 rows, and for the third of 3.
    monkeypatch.setattr(nhf_model, "_STATES_AT_ONCE", 40)
    spec = [tf.TensorSpec([None, 2], tf.float32)]

    @tf.function(input_signature=spec)
    def log_prob(q):
        return trained.log_prob(q, 10)

    for rows in (3, 11):
        q = points(rows)
        expected = trained.log_prob(q, 10)
        np.testing.assert_allclose(log_prob(q), expected, atol=1e-5)


def test_slope_of_log_prob_is_a_central_difference():
    # The momenta of a seed are the same at every point: it is a function.
    model = make(scaling=True, dtype="float64")
    model.build((None, 2))

    def slope(q):
        with tf.GradientTape() as tape:
            tape.watch(q)
            log_prob = model.log_prob(q, 7)
        return tape.gradient(log_prob, q)

    spec = [tf.TensorSpec([None, 2], tf.float64)]
    q, step = tf.constant(points(3, dtype="f8")), 1e-5
    in_graph = tf.function(slope, input_signature=spec)(q)
    expected = [
        (model.log_prob(q + move, 7) - model.log_prob(q - move, 7)) / (2 * step)
        for move in step * np.eye(2)
    ]
    for found in (slope(q), in_graph):
        np.testing.assert_allclose(found, np.stack(expected, 1), atol=1e-6)


def test_graphs_draw_as_many_points_as_a_tensor_says(trained):
    spec = [tf.TensorSpec([None, 2]), tf.TensorSpec([], tf.int32)]

    @tf.function(input_signature=spec)
    def draw(q, seed):
        n = tf.shape(q)[0]
        path = trained.trajectory(n, seed).q
        return trained.sample(n, seed), path, trained.log_prob(q, 5, seed)

    found = draw(points(4), 3)
    expected = [trained.sample(4, 3), trained.trajectory(4, 3).q]
    expected.append(trained.log_prob(points(4), 5, 3))
    for one, other in zip(found, expected):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_density_of_no_points_is_no_number(trained):
    assert trained.log_prob(points(0), 5).shape == (0,)


def test_bijector_and_joint_follow_the_weights():
    model = make(scaling=True)
    model.build((None, 2))
    joint, bijector, x = model.joint, model.bijector, tf.constant(points(3, 4))
    uses = joint.log_prob, bijector.forward, bijector.inverse
    before = [use(x) for use in uses]  # held, as is x
    for variable in model.trainable_variables:
        variable.assign_add(tf.fill(variable.shape, 0.1))
    for use, old in zip(uses, before):
        np.testing.assert_array_equal(use(x), use(tf.identity(x)))
        assert np.abs(use(x) - old).max() > 0.1


def test_evaluation_weighs_rows_alike(monkeypatch):
    model, q = compiled(), points(5)
    q[4] = 100.0
    # Without noise every evaluation sees the same momenta.
    monkeypatch.setattr(
        model, "_noise", lambda shape, *_: tf.ones(shape, model.compute_dtype)
    )
    by = [
        model.evaluate(q, batch_size=size, return_dict=True, verbose=0)
        for size in (4, 5)
    ]
    assert by[0] == pytest.approx(by[1], rel=1e-5)
    weights = np.array([1, 1, 1, 1, 0.0])
    weighed = model.evaluate(
        q, sample_weight=weights, batch_size=4, return_dict=True, verbose=0
    )
    alone = model.evaluate(q[:4], return_dict=True, verbose=0)
    assert weighed["elbo"] == pytest.approx(alone["elbo"], rel=1e-5)
    assert weighed["loss"] == pytest.approx(0.8 * alone["loss"], rel=1e-5)


def test_broken_model_is_not_evaluated_as_perfect():
    model = compiled()
    model.trainable_variables[0].assign(
        np.nan * model.trainable_variables[0].numpy()
    )
    assert np.isnan(model.evaluate(points(8), verbose=0)).all()


@pytest.mark.parametrize("inner_steps", [1, 2])
def test_sample_weights_count_in_training(inner_steps):
    # A row of weight 2 moves the weights as two such rows of weight 1 do.
    models = [compiled(), compiled()]
    q = points(8)
    twice = np.concatenate([q[:4], q[:4]] * inner_steps)
    halved = np.concatenate([q] * inner_steps)
    weights = np.tile([2.0] * 4 + [0.0] * 4, inner_steps)
    for model, rows, weight in zip(models, (twice, halved), (None, weights)):
        model.inner_steps = inner_steps
        model._draw_noise = lambda shape, *_: tf.ones(shape)
        model.fit(
            rows,
            sample_weight=weight,
            batch_size=8 * inner_steps,
            shuffle=False,
            verbose=0,
        )
        assert model.steps == inner_steps
    for one, other in zip(*(model.trainable_variables for model in models)):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_targets_are_refused():
    model = compiled()
    with pytest.raises(ValueError, match="without targets `y`"):
        model.fit(points(8), points(8), verbose=0)
    pairs = tf.data.Dataset.from_tensors((points(8), points(8)))
    with pytest.raises(ValueError, match="without targets `y`"):
        model.fit(pairs, verbose=0)
