"""f(p | q) of Neural Hamiltonian Flows: where the momentum of a point may be.

A posterior is a layer on points q [batch, dim] and standard normal noise
[samples, batch, dim] that gives samples p of the noise's shape and the
logarithm of their density, [samples, batch].
"""

import math

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from hgn_tf.integrators import check_count
from hgn_tf.networks.layers import (
    MaskedDense,
    build_in_turn,
    serializable,
)


@serializable
class GaussianMomentum(keras.layers.Layer):
    """p = mu(q) + sigma(q) * noise, mu and log sigma two MLPs.

    Args:
      units: Width of each hidden layer. Defaults to (128, 128).
      activation: str. Activation of the hidden layers. Defaults to "relu".
    Call: q [batch, dim], noise [samples, batch, dim] -> p and ln f(p | q).
    Source: the HGN paper (Toth et al., 2019), A.2.
    """

    def __init__(
        self,
        units: tuple[int, ...] = (128, 128),
        activation: str = "relu",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.units = tuple(units)
        self.activation = activation

    def build(self, q_shape: tuple, noise_shape: tuple | None = None) -> None:
        self._mean, self._log_scale = (
            [
                *(self._dense(width, self.activation) for width in self.units),
                self._dense(q_shape[-1], None),
            ]
            for _ in range(2)
        )
        build_in_turn(self._mean, q_shape)
        build_in_turn(self._log_scale, q_shape)

    def call(
        self, q: tf.Tensor, noise: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        mean = log_scale = q
        for layer in self._mean:
            mean = layer(mean)
        for layer in self._log_scale:
            log_scale = layer(log_scale)
        log_density = _log_normal(noise) - tf.reduce_sum(log_scale, axis=-1)
        return mean + tf.exp(log_scale) * noise, log_density

    def _dense(self, width, activation):
        return keras.layers.Dense(
            width,
            activation=activation,
            kernel_initializer="lecun_normal",
            dtype=self.dtype_policy,
        )

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "units": self.units,
            "activation": self.activation,
        }


@serializable
class FlowMomentum(keras.layers.Layer):
    """An inverse autoregressive flow on the noise, conditioned on q.

    p_i = shift + scale * spline(noise_i), where shift, scale and the knots
    are functions of q and of the noise before i, by one masked MLP. It bends
    and correlates the momenta, in one pass whatever their number.

    Args:
      units: Width of each hidden layer. Defaults to (128, 128).
      activation: str. Activation of the hidden layers. Defaults to "relu".
      bins: int. Bins of each rational quadratic spline; 0 for shift and scale
        only. Defaults to 8.
    Call: q [batch, dim], noise [samples, batch, dim] -> p and ln f(p | q).
    Source: Kingma et al. 2016, Improving variational inference with inverse
      autoregressive flow; Germain et al. 2015, MADE, for the masks; Durkan et
      al. 2019, Neural spline flows.
    Raises: ValueError: if bins is negative or 1.
    """

    # Beyond +- this the splines are the identity.
    _RANGE = 4.0

    def __init__(
        self,
        units: tuple[int, ...] = (128, 128),
        activation: str = "relu",
        bins: int = 8,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if check_count("bins", bins, least=0) == 1:
            raise ValueError(
                f"`bins` must be 0 or more than 1. Received: {bins}."
            )
        self.units = tuple(units)
        self.activation = activation
        self.bins = bins

    def build(self, q_shape: tuple, noise_shape: tuple | None = None) -> None:
        dim = q_shape[-1]
        self._outputs = 2 + (3 * self.bins - 1 if self.bins else 0)
        # Inputs: q, seen by all, then noise 1, ..., dim. A unit of degree k
        # sees noise 1, ..., k, and output i has degree i - 1.
        degrees = [0] * dim + list(range(1, dim + 1))
        self._stack = []
        for width in self.units:
            seen, degrees = degrees, [unit % dim for unit in range(width)]
            self._stack.append(self._masked(seen, degrees, self.activation))
        outputs = np.repeat(range(dim), self._outputs).tolist()
        self._stack.append(self._masked(degrees, outputs, None))

    def _masked(self, inputs, outputs, activation):
        layer = MaskedDense(
            inputs, outputs, activation=activation, dtype=self.dtype_policy
        )
        layer.build((None, len(inputs)))
        return layer

    def call(
        self, q: tf.Tensor, noise: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        hidden = tf.concat([tf.broadcast_to(q, tf.shape(noise)), noise], -1)
        dim = noise.shape[-1]
        hidden = tf.reshape(hidden, [-1, 2 * dim])
        for layer in self._stack:
            hidden = layer(hidden)
        shape = tf.concat([tf.shape(noise), [self._outputs]], axis=0)
        numbers = tf.reshape(hidden, shape)
        shift, log_scale = numbers[..., 0], numbers[..., 1]
        log_density = _log_normal(noise) - tf.reduce_sum(log_scale, axis=-1)
        if self.bins:
            spline = self._spline(numbers[..., 2:])
            stretch = spline.forward_log_det_jacobian(noise, event_ndims=0)
            log_density -= tf.reduce_sum(stretch, axis=-1)
            noise = spline.forward(noise)
        return shift + tf.exp(log_scale) * noise, log_density

    def _spline(self, numbers):
        widths, heights, slopes = tf.split(
            numbers, [self.bins, self.bins, self.bins - 1], axis=-1
        )
        least = 0.01  # A bin's width and height, and a slope, at least.
        free = 2 * self._RANGE - self.bins * least
        # At outputs of 0 every slope is 1, and the spline the identity.
        return tfp.bijectors.RationalQuadraticSpline(
            bin_widths=least + free * tf.nn.softmax(widths),
            bin_heights=least + free * tf.nn.softmax(heights),
            knot_slopes=least
            + tf.nn.softplus(slopes + math.log(math.expm1(1 - least))),
            range_min=-self._RANGE,
        )

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "units": self.units,
            "activation": self.activation,
            "bins": self.bins,
        }


def _log_normal(noise):
    terms = 0.5 * (tf.square(noise) + math.log(2 * math.pi))
    return -tf.reduce_sum(terms, axis=-1)
