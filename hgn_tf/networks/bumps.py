"""Energies as sums of local bumps, for densities with fine structure."""

import keras
import tensorflow as tf

from hgn_tf.networks.layers import serializable


@serializable
class BumpEnergy(keras.layers.Layer):
    """x -> sum_k w_k s_k exp(-|x - c_k|^2 / (2 s_k^2)) + l.x + h.x^2 / 2.

    A radial basis of learned centres c, widths s and weights w around a
    harmonic well with learned h and tilt l. The force of a bump is of the
    size of w whatever its width, and reaches no further than that width: a
    leapfrog step can then move one part of phase space and leave the rest,
    which the ridges of an MLP of this size cannot. At first h is 1, so that
    steps of dt 1 turn phase space by 60 degrees, with small kicks.

    Args:
      units: Number of bumps.
      radius: Their centres start uniform in +- this, in each coordinate.
      widths: Pair; their widths start log-uniform between the two.
      scale: Of the weights: w is `scale` times a variable that starts
        N(0, 1), so that one step of Adam changes w by a fraction of itself.
    Call: x [batch, dim] -> [batch].
    Raises: ValueError: if units, radius, a width or scale is not positive.
    Source: Broomhead and Lowe 1988, Multivariable functional interpolation
      and adaptive networks, for the basis.
    """

    def __init__(
        self, units=64, radius=2.0, widths=(0.1, 0.5), scale=0.05, **kwargs
    ):
        super().__init__(**kwargs)
        if min(units, radius, *widths, scale) <= 0:
            raise ValueError(
                "`units`, `radius`, `widths` and `scale` must be positive. "
                f"Received: {units}, {radius}, {tuple(widths)}, {scale}."
            )
        self.units = units
        self.radius = radius
        self.widths = tuple(widths)
        self.scale = scale

    def build(self, shape):
        dim, uniform = shape[-1], keras.initializers.RandomUniform
        low, high = (float(tf.math.log(each)) for each in self.widths)
        self.centers = self.add_weight(
            (self.units, dim), uniform(-self.radius, self.radius), name="center"
        )
        self.log_widths = self.add_weight(
            (self.units,), uniform(low, high), name="log_width"
        )
        self.weights_of_bumps = self.add_weight(
            (self.units,), keras.initializers.RandomNormal(0.0, 1.0), name="w"
        )
        self.tilt = self.add_weight((dim,), "zeros", name="tilt")
        self.stiffness = self.add_weight((dim,), "ones", name="stiffness")

    def call(self, x):
        width = tf.exp(self.log_widths)
        precision = tf.exp(-2.0 * self.log_widths)
        # |x - c|^2 / (2 s^2) multiplied out: a product with (x, |x|^2).
        square = tf.reduce_sum(tf.square(x), axis=-1, keepdims=True)
        factors = tf.concat(
            [self.centers * precision[:, None], -0.5 * precision[:, None]], -1
        )
        constant = 0.5 * precision * tf.reduce_sum(tf.square(self.centers), -1)
        exponent = tf.linalg.matmul(
            tf.concat([x, square], axis=-1), factors, transpose_b=True
        )
        weights = self.scale * self.weights_of_bumps * width
        bumps = tf.reduce_sum(tf.exp(exponent - constant) * weights, axis=-1)
        harmonic = 0.5 * self.stiffness * tf.square(x) + self.tilt * x
        return bumps + tf.reduce_sum(harmonic, axis=-1)

    def get_config(self):
        return {
            **super().get_config(),
            "units": self.units,
            "radius": self.radius,
            "widths": self.widths,
            "scale": self.scale,
        }
