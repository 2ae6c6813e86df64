"""q to a frame."""

import math
from collections.abc import Sequence

import keras
import tensorflow as tf

from hgn_tf.networks.layers import (
    WholeOutput,
    build_in_turn,
    make_layer,
    serializable,
)

# TF 2.20-2.21 with oneDNN fuses Conv2D + Add + LeakyReLU in graph mode with
# the slope lost: it applies 0.2, whatever was asked. So 0.2 it is, which is
# also the slope of the progressive decoder that the paper follows.
_LEAKY_SLOPE = 0.2


@serializable
class UpsampleConv2D(keras.layers.Layer):
    """Nearest-neighbour x2, then a 3x3 convolution, at 4/9 of the arithmetic.

    After the upsampling each output sees only 2x2 distinct inputs. So the
    whole is one transposed convolution of stride 2, whose 4x4 kernel is the
    3x3 kernel summed over the two places of each input. The result equals
    UpSampling2D(2) followed by Conv2D(filters, 3, padding="same").

    Args:
      filters: Number of output channels.
    Call: [batch, height, width, channels] ->
      [batch, 2 * height, 2 * width, filters].
    """

    def __init__(self, filters: int, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters

    def build(self, shape):
        self.kernel = self.add_weight(
            name="kernel",
            shape=(3, 3, shape[-1], self.filters),
            initializer="he_normal",
        )
        self.bias = self.add_weight(
            name="bias", shape=(self.filters,), initializer="zeros"
        )

    def call(self, x):
        # A transposed convolution turns its kernel round.
        kernel = tf.reverse(tf.convert_to_tensor(self.kernel), [0, 1])
        kernel = sum(
            tf.pad(kernel, [[i, 1 - i], [j, 1 - j], [0, 0], [0, 0]])
            for i in (0, 1)
            for j in (0, 1)
        )
        x = tf.nn.conv2d_transpose(
            x,
            tf.transpose(kernel, [0, 1, 3, 2]),
            [tf.shape(x)[0], 2 * x.shape[1], 2 * x.shape[2], self.filters],
            strides=2,
        )
        return tf.nn.bias_add(x, self.bias)

    def compute_output_shape(self, shape):
        batch, height, width, _ = shape
        return (batch, 2 * height, 2 * width, self.filters)

    def get_config(self):
        return {**super().get_config(), "filters": self.filters}


@serializable
class Decoder(WholeOutput):
    """q -> frame: progressive residual blocks, each of twice the resolution.

    A block: nearest-neighbour x2 and a 3x3 convolution, further 3x3
    convolutions, leaky ReLU after each; the upsampled input, through a 1x1
    convolution, is added and the sum scaled by 1/sqrt(2) (He et al.'s residual
    block as in Karras et al., 2018). A flat q first goes through a dense layer
    to `seed_shape`.

    Paper: a sigmoid closes each block. Here: `block_activation`, a sigmoid by
    default. The frame is linear in the last layer, not squashed: a sigmoid
    there saturates on flat backgrounds and stops learning.

    Args:
      filters: Channels of each block; what the last one draws is
        2^len(filters) times the size of the latent.
      convolutions: Number of 3x3 convolutions per block.
      channels: Number of channels of the frame.
      seed_shape: Shape [height, width, channels] that a flat q is brought to.
      block_activation: Keras activation at the end of a block, or None.
      grey_start: bool. Whether the first frames are one grey, as those of
        `DenseDecoder` and for the same reason. Defaults to False.
      frame_size: Height and width of the frame, at most those of the last
        block: what is drawn over its lower and right edge is cut. None for
        all that is drawn. Defaults to None.
      depth_to_space: bool. Whether the frame has twice the height and width of
        the last block: four numbers per channel at a place become 2x2 pixels
        (Shi et al., 2016). Then one block less does, the dearest. Not in the
        paper. Defaults to False.
    Call: q [batch, *state_shape] -> [batch, height, width, channels].
    Raises: ValueError: if less than `frame_size` is drawn.
    """

    def __init__(
        self,
        filters: Sequence[int] = (64, 64, 64),
        convolutions: int = 2,
        channels: int = 3,
        seed_shape: Sequence[int] = (4, 4, 64),
        block_activation: str | None = "sigmoid",
        grey_start: bool = False,
        frame_size: Sequence[int] | None = None,
        depth_to_space: bool = False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.filters = tuple(filters)
        self.convolutions = convolutions
        self.channels = channels
        self.seed_shape = tuple(seed_shape)
        self.block_activation = block_activation
        self.grey_start = grey_start
        self.frame_size = frame_size and tuple(frame_size)
        self.depth_to_space = depth_to_space
        self._activation = keras.activations.get(block_activation)
        self._blocks = []
        for width in self.filters:
            stack = [UpsampleConv2D(width, dtype=self.dtype_policy)]
            for _ in range(convolutions - 1):
                stack.append(make_layer(True, width, dtype=self.dtype_policy))
            self._blocks.append(stack)
        self._skips = [
            keras.layers.Conv2D(
                width, 1, use_bias=False, dtype=self.dtype_policy
            )
            for width in self.filters
        ]
        # Frames, and so the loss, are never rounded to half precision.
        self._frame = make_layer(
            True,
            4 * channels if depth_to_space else channels,
            dtype=self.dtype_policy.variable_dtype,
            **_grey(grey_start),
        )
        self._seed: keras.Layer | None = None

    def build(self, q_shape):
        if len(q_shape) == 2:
            self._seed = keras.layers.Dense(
                math.prod(self.seed_shape), dtype=self.dtype_policy
            )
            self._seed.build(q_shape)
            q_shape = (None, *self.seed_shape)
        shape: tuple = tuple(q_shape)
        for stack, skip in zip(self._blocks, self._skips):
            skip.build(shape)
            stack[0].build(shape)
            shape = (None, 2 * shape[1], 2 * shape[2], stack[0].filters)
            build_in_turn(stack[1:], shape)
        drawn = [side * (1 + self.depth_to_space) for side in shape[1:3]]
        if self.frame_size and any(
            wanted > side for wanted, side in zip(self.frame_size, drawn)
        ):
            raise ValueError(
                "`frame_size` must be at most what the blocks draw of q, "
                f"{tuple(drawn)}. Received: {self.frame_size}."
            )
        self._frame.build(shape)

    def call(self, q):
        x = q
        if self._seed is not None:
            x = tf.reshape(self._seed(q), [-1, *self.seed_shape])
        for stack, skip in zip(self._blocks, self._skips):
            branch = x
            for layer in stack:
                branch = keras.ops.leaky_relu(layer(branch), _LEAKY_SLOPE)
            x = _upsample(skip(x))
            x = self._activation((x + branch) * 0.5**0.5)
        frame = self._frame(x)
        if self.depth_to_space:
            frame = tf.nn.depth_to_space(frame, 2)
        if self.frame_size:
            height, width = self.frame_size
            frame = frame[:, :height, :width]
        return frame

    def compute_output_shape(self, q_shape):
        start = self.seed_shape if len(q_shape) == 2 else q_shape[1:]
        factor = 2 ** (len(self.filters) + self.depth_to_space)
        size = self.frame_size or (factor * length for length in start[:2])
        return (q_shape[0], *size, self.channels)

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "convolutions": self.convolutions,
            "channels": self.channels,
            "seed_shape": self.seed_shape,
            "block_activation": self.block_activation,
            "grey_start": self.grey_start,
            "frame_size": self.frame_size,
            "depth_to_space": self.depth_to_space,
        }


@serializable
class DenseDecoder(WholeOutput):
    """q -> frame through an MLP with ReLU; the last layer is linear.

    Each pixel is learned by itself: places share nothing. So this decoder
    needs more examples than `Decoder`. An example costs a tenth on a CPU.

    Args:
      units: Width of each hidden layer.
      frame_shape: Shape (height, width, channels) of a frame.
      grey_start: Whether the first frames are one grey, whatever q is: the
        weights of the last layer start at 0, its biases at 0.5. Random frames
        are off by more than any motion. What lessens their error first is a q
        that hardly varies, and some seeds do not come back from there.
    Call: q [batch, features] -> [batch, *frame_shape].
    """

    def __init__(
        self,
        units: Sequence[int] = (256, 256),
        frame_shape: Sequence[int] = (32, 32, 3),
        grey_start: bool = True,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.units = tuple(units)
        self.frame_shape = tuple(frame_shape)
        self.grey_start = grey_start
        self._stack = [
            keras.layers.Dense(
                width,
                activation="relu",
                kernel_initializer="he_normal",
                # With zero biases every kink is at q = 0: of a q of few
                # dimensions the layer then sees little but its sign.
                bias_initializer=keras.initializers.RandomUniform(-1.0, 1.0),
                dtype=self.dtype_policy,
            )
            for width in self.units
        ]
        self._stack.append(
            keras.layers.Dense(
                math.prod(self.frame_shape),
                # Frames, and so the loss, are never rounded to half precision.
                dtype=self.dtype_policy.variable_dtype,
                **_grey(grey_start),
            )
        )

    def build(self, q_shape):
        build_in_turn(self._stack, q_shape)

    def call(self, q):
        for layer in self._stack:
            q = layer(q)
        return tf.reshape(q, [-1, *self.frame_shape])

    def compute_output_shape(self, q_shape):
        return (q_shape[0], *self.frame_shape)

    def get_config(self):
        return {
            **super().get_config(),
            "units": self.units,
            "frame_shape": self.frame_shape,
            "grey_start": self.grey_start,
        }


def _grey(start):
    """How a last layer begins that draws one grey frame, whatever its input."""
    if not start:
        return {}
    return {
        "kernel_initializer": "zeros",
        "bias_initializer": keras.initializers.Constant(0.5),
    }


def _upsample(x):
    """Nearest-neighbour x2. XLA has no gradient of TensorFlow's resize."""
    height, width, channels = x.shape[1:]
    columns = tf.reshape(
        tf.concat([x, x], axis=3), [-1, height, 1, 2 * width * channels]
    )
    rows = tf.concat([columns, columns], axis=2)
    return tf.reshape(rows, [-1, 2 * height, 2 * width, channels])
