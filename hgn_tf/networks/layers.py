"""What the networks share: dense or convolutional layers, built in a row."""

import keras

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
