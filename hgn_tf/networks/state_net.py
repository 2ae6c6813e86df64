"""z to the initial phase state: the paper's f_psi."""

import keras
import tensorflow as tf

from hgn_tf.networks.layers import build_in_turn, make_layer, serializable
from hgn_tf.phase import PhaseState


@serializable
class StateNet(keras.layers.Layer):
    """f_psi: z -> initial state (q, p); the last layer is linear.

    Args:
      units: Width of each hidden layer, ReLU.
      state_shape: Shape of q, and of p, without the batch axis.
    Call: z [batch, *latent_shape] -> PhaseState of [batch, *state_shape].
    """

    def __init__(self, units=(64, 64), state_shape=(4, 4, 16), **kwargs):
        super().__init__(**kwargs)
        self.units = tuple(units)
        self.state_shape = tuple(state_shape)
        convolutional = len(self.state_shape) == 3
        self._stack = [
            make_layer(convolutional, width, activation="relu")
            for width in self.units
        ]
        self._stack.append(make_layer(convolutional, 2 * self.state_shape[-1]))

    def build(self, latent_shape):
        build_in_turn(self._stack, latent_shape)

    def call(self, z):
        for layer in self._stack:
            z = layer(z)
        return split_state(z)

    def get_config(self):
        return {
            **super().get_config(),
            "units": self.units,
            "state_shape": self.state_shape,
        }


def split_state(x) -> PhaseState:
    """The first half of the last axis is q, the second p."""
    return PhaseState(*tf.split(x, 2, axis=-1))
