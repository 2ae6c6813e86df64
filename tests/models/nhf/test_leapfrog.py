"""The leapfrog flow: a bijector that is symplectic, in TFP's company."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from scipy import stats

from hgn_tf.models.nhf.leapfrog import FlowChain, LeapfrogFlow, ScaleShift

tfb, tfd = tfp.bijectors, tfp.distributions
DTYPES = {tf.float32: 1e-5, tf.float64: 1e-13}  # 20 roundings of numbers of 1.
OMEGA = np.block(
    [[np.zeros((2, 2)), np.eye(2)], [-np.eye(2), np.zeros((2, 2))]]
)


class Coupled:
    """Two unequal masses in a well that is neither round nor quadratic."""

    def kinetic(self, p):
        return tf.reduce_sum(p**2 * tf.constant([1.0, 0.3], p.dtype), axis=-1)

    def potential(self, q):
        return tf.reduce_sum(q**4, axis=-1) / 4 + tf.sin(q[..., 0] * q[..., 1])


class Spring:
    """Mass 0.5, stiffness 2: period pi."""

    def kinetic(self, p):
        return tf.reduce_sum(p**2, axis=-1)

    def potential(self, q):
        return tf.reduce_sum(q**2, axis=-1)


def states(*shape, dtype=tf.float64):
    numbers = np.random.default_rng(0).normal(size=(*shape, 4))
    return tf.constant(numbers, dtype)


def jacobian(bijector, x, step=1e-5):
    """By central differences: rounding 1e-11, truncation 1e-10."""
    moves = step * np.eye(4)
    ends = bijector.forward(x + moves) - bijector.forward(x - moves)
    return ends.numpy().T / (2 * step)


@pytest.mark.parametrize(
    "dtype,shape", list(itertools.product(DTYPES, [(), (3,), (2, 1, 3)]))
)
def test_inverse_undoes_forward(dtype, shape):
    flow, x = LeapfrogFlow(Coupled(), 5, dt=0.1), states(*shape, dtype=dtype)
    y = flow.forward(x)
    assert y.shape == x.shape and y.dtype == dtype
    assert np.abs(y - x).max() > 0.1
    # As a new tensor, since TFP's cache would give x itself back.
    back = flow.inverse(tf.identity(y))
    np.testing.assert_allclose(back, x, atol=DTYPES[dtype])
    again = LeapfrogFlow(Coupled(), 5, dt=-0.1).forward(tf.identity(y))
    np.testing.assert_allclose(again, x, atol=DTYPES[dtype])


def test_many_small_steps_follow_the_closed_form_of_a_spring():
    x, time = states(6), 0.7
    y = LeapfrogFlow(Spring(), 200, dt=time / 200).forward(x)
    q, p = np.split(x.numpy(), 2, axis=-1)
    cos, sin = np.cos(2 * time), np.sin(2 * time)
    exact = np.hstack([q * cos + p * sin, p * cos - q * sin])
    # Error of phase (omega dt)^2 / 24 * omega t = 3e-6.
    np.testing.assert_allclose(y, exact, atol=1e-5)


def test_steps_are_the_composition_of_single_ones():
    x = y = states(3)
    for _ in range(4):
        y = LeapfrogFlow(Coupled(), 1, dt=0.2).forward(y)
    whole = LeapfrogFlow(Coupled(), 4, dt=0.2).forward(x)
    np.testing.assert_allclose(whole, y, atol=1e-13)


@pytest.mark.parametrize("num_steps", [1, 3])
def test_flow_is_symplectic_and_keeps_volume(num_steps):
    flow = LeapfrogFlow(Coupled(), num_steps, dt=0.4)
    for x in states(3):
        found = jacobian(flow, x)
        np.testing.assert_allclose(found.T @ OMEGA @ found, OMEGA, atol=1e-8)
        assert abs(np.linalg.slogdet(found)[1]) < 1e-8


@pytest.mark.parametrize("event_ndims", [1, 2])
def test_log_det_is_a_constant_zero(event_ndims):
    flow, x = LeapfrogFlow(Coupled(), 2, dt=0.4), states(2, 3)
    assert flow.is_constant_jacobian and flow.forward_min_event_ndims == 1
    assert flow.forward_log_det_jacobian(x, event_ndims) == 0
    assert flow.inverse_log_det_jacobian(x, event_ndims) == 0


def test_chain_applies_the_last_first_and_inverts():
    first, last = LeapfrogFlow(Coupled(), dt=0.3), LeapfrogFlow(Spring(), 2)
    chain, x = tfb.Chain([last, first]), states(3)
    y = last.forward(tf.identity(first.forward(x)))
    np.testing.assert_allclose(chain.forward(x), y, atol=1e-13)
    back = tfb.Invert(chain).forward(tf.identity(y))
    np.testing.assert_allclose(back, x, atol=1e-12)
    assert chain.inverse_log_det_jacobian(y, 1) == 0


def test_flows_of_one_name_share_no_cache():
    one, other = LeapfrogFlow(Coupled(), 1), LeapfrogFlow(Coupled(), 2)
    x = states(3)
    assert np.abs(one.forward(x) - other.forward(x)).max() > 0.01
    assert one == one and one != other


def test_density_of_a_transformed_gaussian_is_the_gaussian():
    flow = LeapfrogFlow(Spring(), 2, dt=0.4)
    prior = tfd.MultivariateNormalDiag(tf.zeros(4, tf.float64), [1, 2, 3, 4.0])
    model = tfd.TransformedDistribution(prior, flow)
    matrix = flow.forward(tf.eye(4, dtype=tf.float64)).numpy().T
    cov = matrix @ np.diag([1.0, 4, 9, 16]) @ matrix.T
    x = states(2, 5)
    exact = stats.multivariate_normal(cov=cov).logpdf(x.numpy())
    np.testing.assert_allclose(model.log_prob(x), exact, atol=1e-10)
    samples = model.sample(20_000, seed=(0, 1))
    # Standard error of a covariance: 16 / sqrt(10,000).
    np.testing.assert_allclose(np.cov(samples.numpy().T), cov, atol=0.8)


def test_xla_gives_the_same_states_and_gradients():
    dt = tf.Variable(0.3, dtype=tf.float64)
    flow = LeapfrogFlow(Coupled(), 3, dt)

    def ends(x):
        with tf.GradientTape() as tape:
            y = flow.inverse(x)
            total = tf.reduce_sum(y**2)
        return y, tape.gradient(total, dt)

    x = states(3)
    plain = tf.function(ends)(x)
    compiled = tf.function(ends, jit_compile=True)(x)
    for one, other in zip(plain, compiled):
        np.testing.assert_allclose(one, other, rtol=1e-10)
    ahead, behind = (
        tf.reduce_sum(LeapfrogFlow(Coupled(), 3, 0.3 + e).inverse(x) ** 2)
        for e in (1e-5, -1e-5)
    )
    np.testing.assert_allclose(plain[1], (ahead - behind) / 2e-5, rtol=1e-6)


@pytest.mark.parametrize("axes", [[None], [None, None]])
def test_graph_takes_batches_of_any_size(axes):
    flow, x = LeapfrogFlow(Coupled(), 2), states(*range(2, 2 + len(axes)))
    spec = tf.TensorSpec([*axes, 4], tf.float64)
    forward = tf.function(flow.forward, input_signature=[spec])
    np.testing.assert_allclose(forward(x), flow.forward(x), atol=1e-13)
    shape = forward.get_concrete_function().structured_outputs.shape
    assert shape.as_list() == [*axes, 4]


def test_one_bijector_has_no_batch_and_keeps_event_shapes():
    flow = LeapfrogFlow(Coupled())
    assert flow.experimental_batch_shape() == []
    assert flow.forward_event_shape([4]) == flow.inverse_event_shape([4]) == [4]


def test_step_of_another_precision_is_taken():
    dt = tf.Variable(0.25)
    flow, x = LeapfrogFlow(Coupled(), 2, dt), states(3)
    exact = LeapfrogFlow(Coupled(), 2, 0.25).forward(x)
    np.testing.assert_array_equal(flow.forward(x), exact)
    back = flow.inverse(tf.identity(flow.forward(x)))
    np.testing.assert_allclose(back, x, atol=1e-13)


def test_nothing_is_remembered_when_the_weights_change():
    dt = tf.Variable(0.3, dtype=tf.float64)
    flow, x = LeapfrogFlow(Coupled(), 2, dt), states(3)
    before = flow.forward(x), flow.inverse(x)
    dt.assign(0.1)
    for old, move in zip(before, (flow.forward, flow.inverse)):
        np.testing.assert_array_equal(move(x), move(tf.identity(x)))
        assert np.abs(move(x) - old).max() > 0.01


def test_scale_and_shift_are_the_affine_map():
    shift = tf.Variable([0.0, 1, 2, 3], dtype=tf.float64)
    log_scale = tf.Variable([0.1, -0.2, 0.3, 0.5], dtype=tf.float64)
    last, x = ScaleShift(shift, log_scale), states(5)
    exact = tfb.Shift(shift)(tfb.Scale(log_scale=log_scale))
    np.testing.assert_allclose(last.forward(x), exact.forward(x))
    np.testing.assert_allclose(last.inverse(x), exact.inverse(x))
    both = FlowChain([LeapfrogFlow(Coupled())], last)
    for name in ("forward", "inverse"):
        found, expected = (
            getattr(bijector, f"{name}_log_det_jacobian")(x, 1)
            for bijector in (both, exact)
        )
        np.testing.assert_allclose(found, expected)
    np.testing.assert_allclose(both.inverse(both.forward(x)), x, atol=1e-12)


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="even size. Received: shape \\(2, 3"):
        LeapfrogFlow(Spring()).forward(tf.zeros([2, 3]))
    with pytest.raises(
        ValueError, match="`num_steps` must be a whole number of at least 1"
    ):
        LeapfrogFlow(Spring(), num_steps=0)
    with pytest.raises(ValueError, match="`hamiltonian` must be separable"):
        LeapfrogFlow(lambda q, p: q * p)
    for dt in (0, float("nan")):
        with pytest.raises(ValueError, match="`dt` must be a finite number"):
            LeapfrogFlow(Spring(), dt=dt)
