"""The energies of a Neural Hamiltonian Flow: MLPs as in the paper, bumps."""

import keras
import tensorflow as tf

from hgn_tf.models.nhf.leapfrog import StackedHamiltonian
from hgn_tf.networks import (
    EnergyNet,
    QuadraticEnergy,
    SeparableHamiltonian,
    layer_from,
    serializable,
)


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
        self, units=64, radius=2.0, widths=(0.2, 0.8), scale=0.05, **kwargs
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
        return _energy(
            x,
            *map(
                tf.convert_to_tensor,
                (
                    self.centers,
                    self.log_widths,
                    self.scale * self.weights_of_bumps,
                    self.tilt,
                    self.stiffness,
                ),
            ),
        )

    def get_config(self):
        return {
            **super().get_config(),
            "units": self.units,
            "radius": self.radius,
            "widths": self.widths,
            "scale": self.scale,
        }


@tf.custom_gradient
def _energy(x, *parameters):
    """The energy, with its slope in closed form.

    Flows are made of slopes. Differentiated by a tape, and again in training,
    the sum over bumps took 2.7 times the CPU time of the closed form with the
    batch as the last axis (20 steps, 64 bumps, 128 states, XLA).
    """

    def gradient(upstream):
        slope = tf.transpose(_slope(tf.transpose(x), *parameters))
        with tf.GradientTape() as tape:
            tape.watch(parameters)
            value = _value(x, *parameters)
        rest = tape.gradient(value, parameters, upstream)
        return upstream[:, tf.newaxis] * slope, *rest

    return _value(x, *parameters), gradient


def _value(x, centers, log_widths, weights, tilt, stiffness):
    bumps = _bumps(tf.transpose(x), centers, log_widths)
    weights = weights * tf.exp(log_widths)
    harmonic = 0.5 * stiffness * tf.square(x) + tilt * x
    return tf.linalg.matvec(bumps, weights, transpose_a=True) + tf.reduce_sum(
        harmonic, axis=-1
    )


def _slope(x, centers, log_widths, weights, tilt, stiffness):
    """dE/dx of x [dim, batch]: sum_k w_k / s_k (c_k - x) exp(...) + ..."""
    bumps = _bumps(x, centers, log_widths)
    pull = (weights * tf.exp(-log_widths))[:, tf.newaxis]
    both = tf.concat([centers * pull, pull], axis=-1)
    both = tf.linalg.matmul(both, bumps, transpose_a=True)
    linear = stiffness[:, tf.newaxis] * x + tilt[:, tf.newaxis]
    return both[:-1] - x * both[-1:] + linear


def _bumps(x, centers, log_widths):
    """exp(-|x - c_k|^2 / (2 s_k^2)), [units, batch], of x [dim, batch]."""
    precision = tf.exp(-2.0 * log_widths)[:, tf.newaxis]
    # Multiplied out it is one product, with (x, |x|^2).
    square = tf.reduce_sum(tf.square(x), axis=0, keepdims=True)
    factors = tf.concat([centers * precision, -0.5 * precision], axis=-1)
    constant = tf.reduce_sum(tf.square(centers), axis=-1, keepdims=True)
    exponent = tf.linalg.matmul(factors, tf.concat([x, square], axis=0))
    return tf.exp(exponent - 0.5 * precision * constant)


def make_hamiltonians(
    given, count: int, kinetic_energy: str, energy: str, units, dtype, **mlp
) -> list | StackedHamiltonian:
    """The Hamiltonians of the flow, in its order: as given, or in one stack.

    Args:
      given: Layers or their configurations, taken as they are; None to make
        them.
      count: How many there must be.
      kinetic_energy: "learned", or "quadratic" for |p|^2 / 2.
      energy: "mlp", or "bumps".
      units: Hidden widths of an MLP; of bumps, (their number,).
      dtype: Policy of the layers.
      **mlp: Further arguments of `networks.EnergyNet`.
    Raises: ValueError: for an unknown name, or another number of layers.
    """
    for name, value, choices in (
        ("kinetic_energy", kinetic_energy, ["learned", "quadratic"]),
        ("energy", energy, ["bumps", "mlp"]),
    ):
        if value not in choices:
            raise ValueError(
                f"`{name}` must be one of {choices}. Received: {value!r}."
            )
    if energy == "bumps" and len(units) != 1:
        raise ValueError(
            "`units` of bumps must be their number alone, such as (64,). "
            f"Received: {tuple(units)}."
        )
    if given is not None:
        if len(given) != count:
            raise ValueError(
                f"`hamiltonians` must be {count}, one for each of "
                "`num_hamiltonians` or one that is shared. Received: "
                f"{len(given)}."
            )
        return [layer_from(layer) for layer in given]

    def make():
        if energy == "bumps":
            return BumpEnergy(*units, dtype=dtype)
        return EnergyNet(units, convolutional=False, dtype=dtype, **mlp)

    def make_kinetic():
        if kinetic_energy == "quadratic":
            return QuadraticEnergy(dtype=dtype.name)
        return make()

    template = SeparableHamiltonian(make_kinetic(), make(), dtype=dtype)
    return StackedHamiltonian(template, count, dtype=dtype)
