"""What the networks share: dense or convolutional layers, built in a row."""

import keras
import numpy as np

serializable = keras.saving.register_keras_serializable("hgn_tf")


def layer_from(value):
    """A layer as given, or from its configuration when a model is loaded."""
    if isinstance(value, dict):
        return keras.saving.deserialize_keras_object(value)
    return value


def make_layer(convolutional: bool, width: int, **kwargs):
    """A 3x3 convolution that keeps the size, or a dense layer."""
    if convolutional:
        return keras.layers.Conv2D(width, 3, padding="same", **kwargs)
    return keras.layers.Dense(width, **kwargs)


def build_once(layer, *shapes):
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
class MaskedDense(keras.layers.Layer):
    """Dense layer in which a unit sees only inputs of lower or equal degree.

    The kernel is multiplied by the mask in each call. TFP's own
    AutoregressiveNetwork masks by a constraint of tf_keras, which Keras 3
    optimisers do not apply: what it then learns is no density.

    Args:
      inputs: Degree of each input.
      outputs: Degree of each unit.
      strict: Whether a unit sees only inputs of lower degree.
      activation: Of the units.
      kernel_initializer: As Keras's.
      bias_initializer: As Keras's.
    Call: x [batch, inputs] -> [batch, outputs].
    Source: Germain et al. 2015, MADE, section 4.
    """

    def __init__(
        self,
        inputs,
        outputs,
        strict=False,
        activation=None,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
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
        return self._activation(x @ (self.kernel * self._mask) + self.bias)

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
