"""What TFP asks of a bijector, asked of every one of ours."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from hgn_tf.models.nhf import NHF, baselines, nhf_networks
from hgn_tf.models.nhf.leapfrog import FlowChain, LeapfrogFlow, ScaleShift

tfd = tfp.distributions
DIM = 4


class Well:
    """Two unequal masses in a well that is neither round nor quadratic."""

    def kinetic(self, p):
        return tf.reduce_sum(p**2 * tf.constant([1.0, 0.3], p.dtype), axis=-1)

    def potential(self, q):
        return tf.reduce_sum(q**4, axis=-1) / 4 + tf.sin(q[..., 0] * q[..., 1])


def affine():
    shift = tf.Variable([0.0, 1, 2, 3], dtype=tf.float64)
    log_scale = tf.Variable([0.1, -0.2, 0.3, 0.5], dtype=tf.float64)
    return ScaleShift(shift, log_scale)


def layer_of(kind):
    """A layer of a flow, with weights that move points by some tenths."""
    keras.utils.set_random_seed(0)
    flow = baselines.FLOWS[kind]
    network = flow.network(DIM, (6,), 4, "float64")
    for weight in network.trainable_weights:
        weight.assign_add(
            0.3 * np.random.default_rng(0).normal(size=weight.shape)
        )
    return flow.bijector(network, DIM, 1, 5.0)


def whole_flow():
    keras.utils.set_random_seed(0)
    parts = nhf_networks(
        num_hamiltonians=3, units=(4,), posterior_units=(4,), dtype="float64"
    )
    model = NHF(**parts, scaling=True, dtype="float64")
    model.build((None, DIM // 2))
    model.log_scale.assign([0.1, -0.2, 0.3, 0.5])
    return model.bijector


BIJECTORS = {
    "leapfrog": lambda: LeapfrogFlow(Well(), 2, 0.3),
    "scale_shift": affine,
    "flow_chain": lambda: FlowChain([LeapfrogFlow(Well(), 1, 0.3)], affine()),
    "nhf": whole_flow,
    **{
        kind: lambda kind=kind: layer_of(kind)
        for kind in ("realnvp", "maf", "spline")
    },
}


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(name, marks=pytest.mark.slow) if name == "nhf" else name
        for name in BIJECTORS
    ],
)
def bijector(request):
    return BIJECTORS[request.param]()


def points(*shape):
    numbers = np.random.default_rng(1).normal(size=(*shape, DIM))
    return tf.constant(numbers, tf.float64)


@pytest.mark.parametrize("shape", [(), (3,), (2, 1, 3)])
def test_it_goes_there_and_back_in_any_batch(bijector, shape):
    x = points(*shape)
    y = bijector.forward(x)
    assert y.shape == x.shape and y.dtype == x.dtype
    assert np.isfinite(y).all() and np.abs(y - x).max() > 1e-2
    # Of a new tensor: TFP's cache would give x itself.
    back = bijector.inverse(tf.identity(y))
    np.testing.assert_allclose(back, x, atol=1e-9)
    log_det = bijector.forward_log_det_jacobian(x, 1)
    inverse = bijector.inverse_log_det_jacobian(tf.identity(y), 1)
    np.testing.assert_allclose(inverse, -log_det, atol=1e-9)
    assert log_det.shape in ([], x.shape[:-1])


def test_log_det_is_that_of_the_jacobian(bijector):
    step, rows = 1e-5, points(2)
    for x in rows:
        moves = step * tf.eye(DIM, dtype=tf.float64)
        ends = bijector.forward(x + moves) - bijector.forward(x - moves)
        found = np.linalg.slogdet(ends.numpy().T / (2 * step))[1]
        said = bijector.forward_log_det_jacobian(x[tf.newaxis], 1)
        np.testing.assert_allclose(np.ravel(said), [found], atol=1e-7)


def test_log_det_of_more_event_axes_is_their_sum(bijector):
    x = points(2, 3)
    rows = tf.broadcast_to(bijector.forward_log_det_jacobian(x, 1), [2, 3])
    found = bijector.forward_log_det_jacobian(tf.identity(x), 2)
    expected = tf.reduce_sum(rows, axis=1)
    np.testing.assert_allclose(tf.broadcast_to(found, [2]), expected, atol=1e-9)


def test_shapes_are_said_before_anything_is_computed(bijector):
    assert bijector.forward_min_event_ndims == 1
    assert bijector.experimental_batch_shape() == []
    assert bijector.forward_event_shape([DIM]) == [DIM]
    assert bijector.inverse_event_shape([DIM]) == [DIM]
    assert [*bijector.forward_event_shape_tensor([DIM])] == [DIM]
    assert bijector.forward_dtype(tf.float64) in (tf.float64, None)


@pytest.mark.parametrize("batch", [[], [5], [2, 1]])
def test_density_has_the_batch_of_its_base(bijector, batch):
    """One bijector, a base for each member of a batch; samples broadcast."""
    scale = 1.0 + np.arange(max(1, np.prod(batch, dtype=int)))
    scale = scale.reshape([*batch, 1]) * np.ones(DIM)
    base = tfd.MultivariateNormalDiag(np.zeros(DIM), scale)
    flow = tfd.TransformedDistribution(base, bijector)
    assert flow.batch_shape == batch and flow.event_shape == [DIM]
    x = flow.sample(3, seed=(0, 1))
    assert x.shape == [3, *batch, DIM]
    found = flow.log_prob(tf.identity(x))
    assert found.shape == [3, *batch]
    member = (0,) * len(batch)
    alone = tfd.TransformedDistribution(
        tfd.MultivariateNormalDiag(np.zeros(DIM), scale[member]), bijector
    )
    expected = alone.log_prob(x[(slice(None), *member)])
    np.testing.assert_allclose(
        found.numpy()[(slice(None), *member)], expected, atol=1e-9
    )


def test_graph_takes_batches_of_unknown_size(bijector):
    x = points(3)
    spec = tf.TensorSpec([None, DIM], tf.float64)
    there = tf.function(bijector.forward, input_signature=[spec])
    np.testing.assert_allclose(there(x), bijector.forward(x), atol=1e-9)
    assert there.get_concrete_function().structured_outputs.shape[1] == DIM


def test_gradients_pass_both_ways(bijector):
    x = points(3)
    for move in (bijector.forward, bijector.inverse):
        with tf.GradientTape() as tape:
            tape.watch(x)
            total = tf.reduce_sum(move(x) ** 2)
        slope = tape.gradient(total, x)
        assert np.isfinite(slope).all() and np.abs(slope).max() > 0
