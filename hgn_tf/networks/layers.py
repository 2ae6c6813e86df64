"""What the networks share: layers made, built and applied in a row."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

serializable = keras.saving.register_keras_serializable("hgn_tf")


def layer_from(value: Any) -> Any:
    """A layer as given, or from its configuration when a model is loaded."""
    if isinstance(value, dict):
        return keras.saving.deserialize_keras_object(value)
    return value


def serialize_parts(layer: keras.Layer, *names: str) -> dict:
    """The configurations of a layer's parts, for its `get_config`.

    Args:
      layer: Layer that has the parts as attributes.
      *names: Names of the attributes.
    """
    serialize = keras.saving.serialize_keras_object
    return {name: serialize(getattr(layer, name)) for name in names}


def deserialize_parts(config: dict, *names: str) -> dict:
    """A configuration with its parts as layers, for `from_config`.

    Args:
      config: Configuration of `get_config`; it is not changed.
      *names: Names of the parts. One that is missing, or None, stays so.
    """
    parts = {
        name: keras.saving.deserialize_keras_object(config[name])
        for name in names
        if config.get(name) is not None
    }
    return {**config, **parts}


class WholePrecision(keras.layers.Layer):
    """A layer of states or of energies, which half precision would spoil.

    Under a policy that computes in half precision, such as "mixed_float16", it
    computes in the precision of its variables.
    """

    def __init__(
        self,
        *,
        dtype: str | dict | keras.DTypePolicy | None = None,
        **kwargs,
    ):
        policy = keras.dtype_policies.get(dtype or keras.config.dtype_policy())
        super().__init__(dtype=policy.variable_dtype, **kwargs)


class WholeOutput(keras.layers.Layer):
    """A layer of pictures, whose outputs have the precision of its weights.

    Inside it may compute in half precision.
    """

    def compute_output_spec(self, x: keras.KerasTensor) -> Any:
        """What a call gives, which Keras would say in half precision."""
        shape = self.compute_output_shape(x.shape)
        several = isinstance(shape[-1], tuple)
        found = [
            keras.KerasTensor(part, self.variable_dtype)
            for part in (shape if several else [shape])
        ]
        return tuple(found) if several else found[0]


def added_losses(layer: keras.Layer) -> list:
    """What the last call of a layer added to the loss, without its weights'."""
    regularised = [w for w in layer.trainable_weights if w.regularizer]
    # Keras lists those of the weights last.
    return layer.losses[: len(layer.losses) - len(regularised)]


def make_layer(convolutional: bool, width: int, **kwargs) -> keras.Layer:
    """A 3x3 convolution that keeps the size, or a dense layer."""
    if convolutional:
        return keras.layers.Conv2D(width, 3, padding="same", **kwargs)
    return keras.layers.Dense(width, **kwargs)


def activation_of(name: str | Callable | None) -> Callable:
    """An activation by Keras's name, or by "sin", which Keras has no name for.

    Raises: ValueError: if there is none of that name.
    """
    if name == "sin":
        return keras.ops.sin
    try:
        return keras.activations.get(name)
    except ValueError as error:
        raise ValueError(
            "`activation` must be 'sin' or a name of Keras's, such as "
            f"'softplus'. Received: {name!r}."
        ) from error


def check_smooth(activation: Any) -> None:
    """Refuses an activation whose slope jumps between constants, as relu's.

    An energy of such pieces has a force that is constant within each, and no
    second derivatives to train it by.

    Raises: ValueError: if it is of that kind.
    """
    step = 1e-3
    # Three points each, which a kink rarely comes between.
    places = np.linspace(-5.0, 5.0, 101)[:, np.newaxis] + 0.1234
    with tf.init_scope():
        function = activation_of(activation)
        y = np.asarray(function(tf.constant(places + step * np.arange(3))))
    bent = np.abs(np.diff(y, 2)) > 1e-6 * step**2
    slopes = np.diff(y) / step
    if bent.mean() < 0.1 and np.ptp(slopes) > 1e-6:
        raise ValueError(
            "`activation` of an energy must be smooth, such as 'softplus' or "
            f"'sin': it is differentiated twice. Received: {activation!r}."
        )


def build_once(layer: keras.Layer, *shapes) -> None:
    """Builds a layer unless loading its configuration has done so already."""
    if not layer.built:
        layer.build(*shapes)


def build_in_turn(layers: list, shape: tuple) -> tuple:
    """Builds each layer on the output shape of the one before; the last's."""
    for layer in layers:
        build_once(layer, shape)
        shape = layer.compute_output_shape(shape)
    return shape


@serializable
class MLP(keras.layers.Layer):
    """Dense layers between arrays of any shape; the last one is linear.

    Weights are orthogonal, biases uniform in +-1/sqrt(inputs). With biases of
    0 every unit would bend at x = 0, and an x of few dimensions would show
    little but its signs.

    Args:
      units: Width of each hidden layer.
      target_shape: Shape of the output, without the batch axis; () for one
        number per row.
      activation: Activation of the hidden layers. That of an energy must be
        smooth.
      residual: Whether the input of each hidden layer but the first is added
        to its output; those layers then need equal widths.
      last_bias: Whether the last layer has a bias. No gradient of an energy
        would reach it.
      weight_decay: Factor of the L2 decay that is coupled into the gradient,
        which grows by weight_decay * w (not the decoupled decay of AdamW).
    Call: [batch, ...] -> [batch, *target_shape].
    Source: Greydanus et al. 2019, Hamiltonian Neural Networks, appendix A, for
      the orthogonal weights.
    """

    def __init__(
        self,
        units: Sequence[int] = (200, 200, 200),
        target_shape: Sequence[int] = (2,),
        activation: str | None = "relu",
        residual: bool = False,
        last_bias: bool = True,
        weight_decay: float = 0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.units = tuple(units)
        self.target_shape = tuple(target_shape)
        self.activation = activation
        self.residual = residual
        self.last_bias = last_bias
        self.weight_decay = weight_decay
        self._stack: list[keras.Layer] = []

    def build(self, shape):
        size = math.prod(shape[1:])
        # The gradient of weight_decay / 2 * w^2 is weight_decay * w.
        decay = keras.regularizers.L2(self.weight_decay / 2)
        widths = (*self.units, math.prod(self.target_shape))
        for index, width in enumerate(widths):
            last = index == len(self.units)
            limit = size**-0.5
            layer = keras.layers.Dense(
                width,
                activation=None if last else activation_of(self.activation),
                use_bias=self.last_bias or not last,
                kernel_initializer=keras.initializers.Orthogonal(),
                bias_initializer=keras.initializers.RandomUniform(
                    -limit, limit
                ),
                kernel_regularizer=decay if self.weight_decay else None,
                bias_regularizer=decay if self.weight_decay else None,
                dtype=self.dtype_policy,
            )
            layer.build((None, size))
            self._stack.append(layer)
            size = width

    def call(self, x):
        x = tf.reshape(x, [-1, math.prod(x.shape[1:])])
        *hidden, last = self._stack
        for index, layer in enumerate(hidden):
            x = x + layer(x) if self.residual and index else layer(x)
        return tf.reshape(last(x), [-1, *self.target_shape])

    def compute_output_shape(self, shape):
        return (shape[0], *self.target_shape)

    def get_config(self):
        return {
            **super().get_config(),
            "units": self.units,
            "target_shape": self.target_shape,
            "activation": self.activation,
            "residual": self.residual,
            "last_bias": self.last_bias,
            "weight_decay": self.weight_decay,
        }


# Its name in the files that version 0.1 saved.
keras.saving.get_custom_objects()["hgn_tf>DenseMap"] = MLP


@serializable
class MaskedDense(keras.layers.Layer):
    """Dense layer in which a unit sees only inputs of lower or equal degree.

    The kernel is multiplied by the mask in each call. TFP's own
    AutoregressiveNetwork masks by a constraint of tf_keras, which Keras 3
    optimisers do not apply: what it then learns is no density.

    Args:
      inputs: Degree of each input.
      outputs: Degree of each unit.
      strict: Whether a unit sees only inputs of lower degree.
      activation: Activation of the units.
      kernel_initializer: Keras initialiser of the kernel.
      bias_initializer: Keras initialiser of the bias.
    Call: x [batch, inputs] -> [batch, outputs].
    Source: Germain et al. 2015, MADE, section 4.
    """

    def __init__(
        self,
        inputs: Sequence[int],
        outputs: Sequence[int],
        strict: bool = False,
        activation: str | None = None,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.inputs, self.outputs = list(inputs), list(outputs)
        self.strict = strict
        self.activation = activation
        self._activation = keras.activations.get(activation)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        lower, higher = np.array(inputs)[:, None], np.array(outputs)
        mask = lower < higher if strict else lower <= higher
        self._mask = mask.astype(np.float32)

    def build(self, shape):
        self.kernel = self.add_weight(
            shape=self._mask.shape,
            initializer=self.kernel_initializer,
            name="kernel",
        )
        self.bias = self.add_weight(
            shape=(len(self.outputs),),
            initializer=self.bias_initializer,
            name="bias",
        )

    def call(self, x):
        mask = tf.constant(self._mask, self.compute_dtype)
        return self._activation(x @ (self.kernel * mask) + self.bias)

    def compute_output_shape(self, shape):
        return (*shape[:-1], len(self.outputs))

    def get_config(self):
        serialize = keras.initializers.serialize
        return {
            **super().get_config(),
            "inputs": self.inputs,
            "outputs": self.outputs,
            "strict": self.strict,
            "activation": self.activation,
            "kernel_initializer": serialize(self.kernel_initializer),
            "bias_initializer": serialize(self.bias_initializer),
        }
