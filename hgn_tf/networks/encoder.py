"""Frames to z, the posterior over the latent variable, and z to a state."""

import functools
import math
from collections.abc import Sequence

import keras
import tensorflow as tf

from hgn_tf.networks.layers import (
    WholeOutput,
    WholePrecision,
    build_in_turn,
    make_layer,
    serializable,
)
from hgn_tf.phase import PhaseState

_NARROW = {
    "kernel_initializer": "zeros",
    "bias_initializer": keras.initializers.Constant(-3.0),
}


@serializable
class Encoder(WholeOutput):
    """q(z | frames): a diagonal Gaussian from frames stacked on channels.

    Convolutions with ReLU, then one linear layer for the mean and one for the
    logarithm of the standard deviation of z.

    Paper: initialisation not given. Here: the standard deviation of z starts
    at exp(-3), because at 1 the noise drowns the mean and learning stays at
    the mean image.

    Args:
      filters: Channels of each convolution.
      strides: Stride of each convolution.
      latent_shape: Shape of z without the batch axis; with three numbers the
        strides must bring the frames to its height and width.
    Call: video [batch, frames, height, width, channels] -> (mean, log_scale),
      each [batch, *latent_shape].
    """

    def __init__(
        self,
        filters: Sequence[int] = (32, 64, 64, 64, 64, 64, 64, 48),
        strides: Sequence[int] = (2, 1, 2, 1, 2, 1, 1, 1),
        latent_shape: Sequence[int] = (4, 4, 32),
        **kwargs,
    ):
        super().__init__(**kwargs)
        if len(filters) != len(strides):
            raise ValueError(
                "`filters` and `strides` need one number a layer each. "
                f"Received: {filters} and {strides}."
            )
        self.filters = tuple(filters)
        self.strides = tuple(strides)
        self.latent_shape = tuple(latent_shape)
        self._stack = _strided(self.filters, self.strides, self.dtype_policy)
        self._convolutional = len(self.latent_shape) == 3
        size = self.latent_shape[-1]
        if self._convolutional:
            make = functools.partial(keras.layers.Conv2D, kernel_size=1)
        else:
            make = keras.layers.Dense
        # What the state is made of is never rounded to half precision.
        whole = self.dtype_policy.variable_dtype
        self._mean = make(size, dtype=whole)
        self._log_scale = make(size, dtype=whole, **_NARROW)

    def build(self, video_shape):
        _, frames, height, width, channels = video_shape
        shape = build_in_turn(
            self._stack, (None, height, width, frames * channels)
        )
        if not self._convolutional:
            shape = (None, shape[1] * shape[2] * shape[3])
        elif tuple(shape[1:3]) != self.latent_shape[:2]:
            raise ValueError(
                f"`strides` bring frames of {height}x{width} to "
                f"{shape[1]}x{shape[2]}, but `latent_shape` is "
                f"{self.latent_shape}: choose strides that divide by "
                f"{height // self.latent_shape[0]}."
            )
        self._mean.build(shape)
        self._log_scale.build(shape)

    def call(self, video):
        x = _frames_on_channels(video)
        for layer in self._stack:
            x = layer(x)
        if not self._convolutional:
            x = tf.reshape(x, [-1, x.shape[1] * x.shape[2] * x.shape[3]])
        return self._mean(x), self._log_scale(x)

    def compute_output_shape(self, video_shape):
        shape = (video_shape[0], *self.latent_shape)
        return shape, shape

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "strides": self.strides,
            "latent_shape": self.latent_shape,
        }


@serializable
class StateNet(WholePrecision):
    """f_psi: z -> initial state (q, p); the last layer is linear.

    Args:
      units: Width of each hidden layer, with ReLU.
      state_shape: Shape of q, and of p, without the batch axis.
    Call: z [batch, *latent_shape] -> PhaseState of [batch, *state_shape].
    """

    def __init__(
        self,
        units: Sequence[int] = (64, 64),
        state_shape: Sequence[int] = (4, 4, 16),
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.units = tuple(units)
        self.state_shape = tuple(state_shape)
        convolutional = len(self.state_shape) == 3
        self._stack = [
            make_layer(
                convolutional, width, activation="relu", dtype=self.dtype_policy
            )
            for width in self.units
        ]
        self._stack.append(
            make_layer(
                convolutional,
                2 * self.state_shape[-1],
                dtype=self.dtype_policy,
            )
        )

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


@serializable
class PositionNet(WholeOutput):
    """A single frame -> q: what one picture shows of a state.

    Convolutions with ReLU, then one linear layer.

    Args:
      filters: Number of channels of each convolution.
      strides: Stride of each convolution.
      state_shape: Shape of q without the batch axis; with three numbers the
        strides must bring the frame to its height and width.
    Call: frame [batch, height, width, channels] -> [batch, *state_shape].
    """

    def __init__(
        self,
        filters: Sequence[int] = (32, 32, 32, 32),
        strides: Sequence[int] = (2, 2, 2, 1),
        state_shape: Sequence[int] = (4, 4, 16),
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.filters = tuple(filters)
        self.strides = tuple(strides)
        self.state_shape = tuple(state_shape)
        self._convolutional = len(self.state_shape) == 3
        self._stack = _strided(self.filters, self.strides, self.dtype_policy)
        size = self.state_shape[-1]
        whole = self.dtype_policy.variable_dtype
        self._last = (
            keras.layers.Conv2D(size, 1, dtype=whole)
            if self._convolutional
            else keras.layers.Dense(size, dtype=whole)
        )

    def build(self, frame_shape):
        shape = build_in_turn(self._stack, tuple(frame_shape))
        if not self._convolutional:
            shape = (None, shape[1] * shape[2] * shape[3])
        elif tuple(shape[1:3]) != self.state_shape[:2]:
            raise ValueError(
                f"`strides` must bring frames to {self.state_shape[:2]}. "
                f"Received: {self.strides}, which bring "
                f"{tuple(frame_shape[1:3])} to {tuple(shape[1:3])}."
            )
        self._last.build(shape)

    def call(self, frame):
        x = frame
        for layer in self._stack:
            x = layer(x)
        if not self._convolutional:
            x = tf.reshape(x, [-1, x.shape[1] * x.shape[2] * x.shape[3]])
        return self._last(x)

    def compute_output_shape(self, frame_shape):
        return (frame_shape[0], *self.state_shape)

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "strides": self.strides,
            "state_shape": self.state_shape,
        }


@serializable
class KeypointNet(WholeOutput):
    """A single frame -> q, linear in places within the frame.

    Convolutions with ReLU, the last one linear, give maps of the frame. Each
    map's softmax over the frame is a weight, and the mean of the coordinates
    under it a place: rows and columns from -1 to 1. One linear layer makes q
    of all places.

    So the q of a body that moves is most easily linear in where it is, and
    K = |p|^2 / 2 is then the kinetic energy but for a factor. `PositionNet`
    can bend q at will, and the learned energy with it.

    Args:
      filters: Number of channels of each convolution, the last of the maps.
      strides: Stride of each convolution.
      state_shape: Shape of q without the batch axis.
    Call: frame [batch, height, width, channels] -> [batch, *state_shape].
    Source: Finn et al., Deep spatial autoencoders for visuomotor learning
      (2016), for the mean under a softmax.
    """

    def __init__(
        self,
        filters: Sequence[int] = (32, 32, 16),
        strides: Sequence[int] = (2, 1, 1),
        state_shape: Sequence[int] = (16,),
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.filters = tuple(filters)
        self.strides = tuple(strides)
        self.state_shape = tuple(state_shape)
        self._stack = _strided(self.filters, self.strides, self.dtype_policy)
        self._stack[-1].activation = None
        whole = self.dtype_policy.variable_dtype
        size = math.prod(self.state_shape)
        self._last = keras.layers.Dense(size, dtype=whole)

    def build(self, frame_shape):
        shape = build_in_turn(self._stack, tuple(frame_shape))
        self._last.build((None, 2 * shape[-1]))

    def call(self, frame):
        x = frame
        for layer in self._stack:
            x = layer(x)
        _, height, width, maps = x.shape
        x = tf.cast(x, self.variable_dtype)
        weight = tf.nn.softmax(tf.reshape(x, [-1, height * width, maps]), 1)
        places = tf.einsum(
            "bcm,cd->bmd", weight, _cells(height, width, x.dtype)
        )
        q = self._last(tf.reshape(places, [-1, 2 * maps]))
        return tf.reshape(q, [-1, *self.state_shape])

    def compute_output_shape(self, frame_shape):
        return (frame_shape[0], *self.state_shape)

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "strides": self.strides,
            "state_shape": self.state_shape,
        }


def split_state(x: tf.Tensor) -> PhaseState:
    """Splits the last axis: its first half is q, the second p."""
    return PhaseState(*tf.split(x, 2, axis=-1))


def _strided(filters, strides, dtype):
    """3x3 convolutions with ReLU."""
    return [
        keras.layers.Conv2D(
            width,
            3,
            stride,
            padding="same",
            activation="relu",
            kernel_initializer="he_normal",
            dtype=dtype,
        )
        for width, stride in zip(filters, strides)
    ]


def _frames_on_channels(video):
    """[B, T, H, W, C] -> [B, H, W, T * C]."""
    _, frames, height, width, channels = video.shape
    x = tf.transpose(video, [0, 2, 3, 1, 4])
    return tf.reshape(x, [-1, height, width, frames * channels])


def _cells(height, width, dtype):
    """Row and column of each cell of a frame, -1 to 1, [cells, 2]."""
    sides = (tf.linspace(-1.0, 1.0, length) for length in (height, width))
    rows_and_columns = tf.stack(tf.meshgrid(*sides, indexing="ij"), axis=-1)
    return tf.cast(tf.reshape(rows_and_columns, [-1, 2]), dtype)
