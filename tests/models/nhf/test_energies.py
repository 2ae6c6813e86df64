"""Bump energies and stacked Hamiltonians: slopes, weights, errors."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from hgn_tf import networks, phase
from hgn_tf.models.nhf import BumpEnergy, StackedHamiltonian


def points(rows=6, dim=2, seed=0):
    return np.random.default_rng(seed).normal(size=(rows, dim))


OVAL = pytest.mark.parametrize("oval", [False, True])


def built(layer, dim=2):
    layer.build((None, dim))
    for variable in layer.trainable_variables:  # none of them at 0 or 1
        drawn = np.random.default_rng(1).normal(size=variable.shape)
        variable.assign_add(0.3 * drawn)
    return layer


@OVAL
def test_energy_is_the_sum_over_bumps(oval, seed):
    layer, x = built(BumpEnergy(5, oval=oval, dtype="float64")), points()
    centers, widths = layer.centers.numpy(), np.exp(layer.log_widths)
    weights = layer.scale * layer.weights_of_bumps.numpy() * widths
    away = x[:, None] - centers
    for bends in layer.bends:
        away = np.einsum("kij,nkj->nki", np.eye(2) + bends.numpy(), away)
    far = np.square(away).sum(-1)
    expected = (weights * np.exp(-far / (2 * widths**2))).sum(-1)
    expected += x @ layer.tilt.numpy() + x**2 @ layer.stiffness.numpy() / 2
    np.testing.assert_allclose(layer(x), expected, rtol=1e-10)


@OVAL
@pytest.mark.parametrize("dim", [1, 2, 5])
def test_slope_is_the_central_difference_of_the_energy(dim, oval, seed):
    layer, x = BumpEnergy(7, oval=oval, dtype="float64"), points(dim=dim)
    built(layer, dim)
    tensor = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(tensor)
        energy = layer(tensor)
    slope, step = tape.gradient(energy, tensor), 1e-5
    for index, shift in enumerate(step * np.eye(dim)):
        difference = (layer(x + shift) - layer(x - shift)) / (2 * step)
        # Truncation 1e-8 at widths of 0.1, rounding 1e-11.
        np.testing.assert_allclose(slope[:, index], difference, atol=1e-6)


@OVAL
@pytest.mark.parametrize("of", ["energy", "slope"])
def test_weights_get_the_gradient_of_a_central_difference(of, oval, seed):
    layer, x = built(BumpEnergy(3, oval=oval, dtype="float64")), points()
    state, direction = tf.constant(x), points(seed=2)

    def loss():
        if of == "energy":
            return tf.reduce_sum(tf.square(layer(state)))
        with tf.GradientTape() as tape:
            tape.watch(state)
            energy = layer(state)
        return tf.reduce_sum(tape.gradient(energy, state) * direction)

    with tf.GradientTape() as tape:
        value = loss()
    variables = [each.value for each in layer.trainable_variables]
    for variable, gradient in zip(variables, tape.gradient(value, variables)):
        step = np.zeros(variable.shape)
        step.flat[-1] = 1e-5
        variable.assign_add(step)
        above = loss()
        variable.assign_sub(2 * step)
        difference = (above - loss()) / 2e-5
        variable.assign_add(step)
        found = np.ravel(gradient)[-1]
        np.testing.assert_allclose(found, difference, rtol=1e-5, atol=1e-7)


def test_oval_bumps_start_round_and_as_wide_as_distances_are(seed):
    round_ones, oval = BumpEnergy(50), BumpEnergy(50, oval=True)
    for layer in (round_ones, oval):
        layer.build((None, 32))
        assert 4 * 0.2 <= np.exp(layer.log_widths).min()
        assert np.exp(layer.log_widths).max() <= 4 * 0.8
    for one, other in zip(round_ones.weights, oval.weights):
        other.assign(one)
    x = points(dim=32).astype("f4")
    np.testing.assert_allclose(oval(x), round_ones(x), atol=1e-5)


@pytest.mark.parametrize(
    "settings,match",
    [
        ({"units": 0}, "`units` must be a whole number of at least 1"),
        ({"radius": -1.0}, "must be positive"),
        ({"widths": (0.0, 1.0)}, "must be positive"),
        ({"scale": float("nan")}, "must be positive and finite"),
    ],
)
def test_settings_that_are_not_positive_are_refused(settings, match):
    with pytest.raises(ValueError, match=match):
        BumpEnergy(**settings)


def make_stack(count=3):
    unit = networks.SeparableHamiltonian(
        networks.EnergyNet((8,), convolutional=False), BumpEnergy(4)
    )
    stack = StackedHamiltonian(unit, count)
    stack.build((None, 2), (None, 2))
    return stack


def test_stack_lists_each_weight_once_and_draws_each_on_its_own(seed):
    stack = make_stack()
    assert len(stack.trainable_variables) == len(stack.stacks) == 8
    for weight in stack.stacks:
        assert weight.shape[0] == 3
    kernel = stack.stacks[0].numpy()
    assert not np.allclose(kernel[0], kernel[1])


def test_view_is_the_template_with_the_weights_of_its_index(seed):
    stack, q = make_stack(), points().astype("float32")
    alone = networks.SeparableHamiltonian(
        networks.EnergyNet((8,), convolutional=False), BumpEnergy(4)
    )
    alone.build((None, 2), (None, 2))
    for weight, values in zip(alone.trainable_variables, stack.stacks):
        weight.assign(values[1])
    view, p = stack.at(1), q[::-1]
    np.testing.assert_allclose(view(q, p), alone(q, p), rtol=1e-6)
    assert phase.is_separable(view)


def test_template_that_a_stack_would_cut_is_refused():
    net = networks.EnergyNet((8,), convolutional=False)
    net._stack[0].kernel_regularizer = keras.regularizers.L2(1.0)
    unit = networks.SeparableHamiltonian(networks.QuadraticEnergy(), net)
    with pytest.raises(ValueError, match="without regularisers"):
        StackedHamiltonian(unit, 2).build((None, 2))
    with pytest.raises(
        ValueError, match="`count` must be a whole number of at least 1"
    ):
        StackedHamiltonian(unit, 0)


def test_gradient_reaches_only_the_row_of_the_view(seed):
    stack, q = make_stack(), tf.constant(points(), tf.float32)
    with tf.GradientTape() as tape:
        energy = stack.at(2)(q, q)
    weight = stack.stacks[0].value
    rows = tf.convert_to_tensor(tape.gradient(energy, weight))
    assert np.abs(rows[2]).max() > 0 and np.abs(rows[:2]).max() == 0


def test_stack_comes_back_from_its_configuration(seed):
    stack = make_stack()
    config = keras.saving.serialize_keras_object(stack)
    again = keras.saving.deserialize_keras_object(config)
    networks.build_once(again, (None, 2), (None, 2))
    for one, other in zip(again.stacks, stack.stacks):
        one.assign(other)
    q = points().astype("float32")
    np.testing.assert_allclose(again.at(0)(q, q), stack.at(0)(q, q))
