"""Muon against the SVD, Keras's Muon and Adam; Adam against its paper."""

import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf

from hgn_tf import optimizers


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("shape", [(16, 128), (270, 32), (12, 1), (6, 6)])
def test_orthogonal_is_the_polar_factor_nearly(shape):
    matrix = random(*shape)
    found = optimizers.orthogonal(tf.constant(matrix)).numpy()
    left, _, right = np.linalg.svd(matrix, full_matrices=False)
    # In the bases of the matrix it is diagonal, with entries near 1.
    inner = left.T @ found @ right.T
    diagonal = np.diag(inner)
    assert 0.6 < diagonal.min() and diagonal.max() < 1.25
    np.testing.assert_allclose(inner - np.diag(diagonal), 0.0, atol=1e-4)
    scaled = optimizers.orthogonal(tf.constant(1e-6 * matrix)).numpy()
    np.testing.assert_allclose(scaled, found, atol=1e-5)


def test_orthogonal_of_zeros_is_zeros():
    assert not optimizers.orthogonal(tf.zeros((3, 4))).numpy().any()


def apply(optimizer, variables, steps=4):
    for step in range(steps):
        gradients = [
            tf.constant(random(*v.shape, seed=100 * step + i))
            for i, v in enumerate(variables)
        ]
        optimizer.apply(gradients, variables)
    return [v.numpy() for v in variables]


def make(*shapes):
    return [
        keras.Variable(random(*shape, seed=i)) for i, shape in enumerate(shapes)
    ]


@pytest.mark.skipif(
    "rms_rate" not in inspect.signature(keras.optimizers.Muon).parameters,
    reason="Keras 3.12 has another Muon",
)
def test_matrices_move_as_with_the_muon_of_keras():
    shapes = [(7, 40), (40, 9), (9,)]
    theirs = keras.optimizers.Muon(
        0.01, weight_decay=None, adam_weight_decay=None
    )
    ours = apply(optimizers.Muon(0.01), make(*shapes))
    for mine, its in zip(ours, apply(theirs, make(*shapes))):
        np.testing.assert_allclose(mine, its, atol=1e-5)


def test_a_kernel_of_a_convolution_is_a_matrix_with_a_column_per_output():
    kernel, matrix = make((3, 3, 4, 5))[0], make((36, 5))[0]
    matrix.assign(np.reshape(kernel.numpy(), (36, 5)))
    for variable in (kernel, matrix):
        gradient = np.reshape(random(36, 5, seed=8), variable.shape)
        optimizers.Muon(0.1).apply([tf.constant(gradient)], [variable])
    np.testing.assert_allclose(
        np.reshape(kernel.numpy(), (36, 5)), matrix.numpy(), atol=1e-6
    )


def test_vectors_and_numbers_move_as_with_adam():
    shapes = [(5,), ()]
    ours = apply(optimizers.Muon(0.01), make(*shapes))
    theirs = apply(keras.optimizers.Adam(0.01), make(*shapes))
    for mine, its in zip(ours, theirs):
        np.testing.assert_array_equal(mine, its)


def test_a_step_has_the_root_mean_square_that_was_asked_for():
    (start,), (variable,) = make((30, 50)), make((30, 50))
    optimizers.Muon(0.1, rms=0.3).apply(
        [tf.constant(random(30, 50, seed=3))], [variable]
    )
    moved = variable.numpy() - start.numpy()
    # All 30 singular values would be 1, of 50 columns: so 30 of 50 parts.
    expected = 0.1 * 0.3 * np.sqrt(50 * 30 / (30 * 50))
    assert np.sqrt(np.mean(moved**2)) == pytest.approx(expected, rel=0.2)


def test_it_is_saved_with_the_model_and_goes_on_as_it_was(tmp_path):
    x, y = random(32, 6), random(32, 2, seed=1)

    def train(model, epochs):
        model.fit(x, y, epochs=epochs, batch_size=8, shuffle=False, verbose=0)

    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(2)])
    model.compile(optimizers.Muon(0.02, momentum=0.9, rms=0.5), "mse")
    train(model, 1)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    config = again.optimizer.get_config()
    assert (config["momentum"], config["rms"]) == (0.9, 0.5)
    for one in (model, again):
        train(one, 1)
    for mine, its in zip(model.get_weights(), again.get_weights()):
        np.testing.assert_array_equal(mine, its)


def adam_of_the_paper(start, gradients, rate, epsilon):
    """Algorithm 1, in float64."""
    x, m, v = start.astype(np.float64), 0.0, 0.0
    for t, g in enumerate(gradients, 1):
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        mean, square = m / (1 - 0.9**t), v / (1 - 0.999**t)
        x = x - rate * mean / (np.sqrt(square) + epsilon)
    return x


@pytest.mark.parametrize("size", [1.0, 1e-8])
def test_adam_is_algorithm_1_also_where_gradients_are_as_small_as_epsilon(size):
    gradients = [size * random(5, 4, seed=i) for i in range(6)]
    expected = adam_of_the_paper(random(5, 4), gradients, 0.1, 1e-8)

    def moved(optimizer):
        (variable,) = make((5, 4))
        for gradient in gradients:
            optimizer.apply([tf.constant(gradient)], [variable])
        return variable.numpy()

    ours = moved(optimizers.PaperAdam(0.1))
    theirs = moved(keras.optimizers.Adam(0.1, epsilon=1e-8))
    np.testing.assert_allclose(ours, expected, atol=1e-5)
    apart = np.abs(theirs - expected).max()
    assert apart < 1e-5 if size == 1 else apart > 0.1


def test_adam_of_the_paper_is_saved_and_has_no_amsgrad():
    config = optimizers.PaperAdam(0.02, epsilon=1e-6).get_config()
    again = optimizers.PaperAdam.from_config(config)
    assert (again.epsilon, again.get_config()) == (1e-6, config)
    with pytest.raises(ValueError, match="`amsgrad` is not of Algorithm 1"):
        optimizers.PaperAdam(amsgrad=True)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"momentum": 1.0}, r"in \[0, 1\). Received: 1.0"),
        ({"momentum": -0.1}, r"in \[0, 1\)"),
        ({"rms": 0.0}, "above 0"),
        ({"rms": float("nan")}, "above 0"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        optimizers.Muon(**arguments)
