"""(q, p) to energy: learned Hamiltonians."""

from collections.abc import Sequence

import keras
import tensorflow as tf

from hgn_tf.networks.layers import (
    WholePrecision,
    activation_of,
    build_in_turn,
    build_once,
    check_smooth,
    deserialize_parts,
    make_layer,
    serializable,
    serialize_parts,
)


@serializable
class EnergyNet(WholePrecision):
    """x -> energy [batch]; each row depends on its own example only.

    The convolutional form has 3x3 layers, the last one with one channel that
    is summed over positions. The flat form is an MLP. The last layer has no
    bias, because no gradient of an energy would reach it.

    Args:
      units: Width of each hidden layer.
      activation: Activation of the hidden layers, by Keras's name or "sin". It
        must be smooth, since training takes second derivatives. Sines find a
        bent energy from its forces in far fewer steps than "softplus", which
        is the paper's (Sitzmann et al., Implicit neural representations with
        periodic activation functions, 2020).
      convolutional: Whether x is [batch, height, width, channels].
      first_scale: Factor on the initial weights of the first layer.
      first_bias: Largest initial bias of a flat first layer; biases start
        uniform between its negative and it. With both at 3, say, the units
        bend at more places of narrow data.
      quadratic: Whether |x|^2 / 2 is added. Paper: the network alone. Here an
        option: such a K(p) moves q from the first step on, and such a V(q)
        keeps the motion bounded where there are no data.
      rate: float. Factor of the energy. With one rate for K and V the motion
        is that of rate 1, on a clock that runs `rate` times as fast: so dt can
        be in any unit. Defaults to 1.0.
    Call: x [batch, ...] -> [batch].
    Raises: ValueError: if the activation is bent from straight pieces, as relu.
    """

    def __init__(
        self,
        units: Sequence[int] = (64, 64, 64, 64, 64),
        activation: str | None = "softplus",
        convolutional: bool = True,
        quadratic: bool = False,
        first_scale: float = 1.0,
        first_bias: float = 1.0,
        rate: float = 1.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_smooth(activation)
        self.units = tuple(units)
        self.activation = activation
        self.convolutional = convolutional
        self.quadratic = quadratic
        self.first_scale = first_scale
        self.first_bias = first_bias
        self.rate = rate
        self._stack = [
            self._hidden_layer(
                width,
                first_scale if index == 0 else 1.0,
                first_bias if index == 0 else 1.0,
            )
            for index, width in enumerate(self.units)
        ]
        self._stack.append(
            make_layer(
                convolutional,
                1,
                use_bias=False,
                kernel_initializer="lecun_normal",
                dtype=self.dtype_policy,
            )
        )

    def _hidden_layer(self, width, scale, bias):
        return make_layer(
            self.convolutional,
            width,
            activation=activation_of(self.activation),
            # At scale 1 this is LeCun's.
            kernel_initializer=keras.initializers.VarianceScaling(scale**2),
            # Units that all bend at x = 0 are nearly one unit where x has
            # few dimensions.
            bias_initializer="zeros"
            if self.convolutional
            else keras.initializers.RandomUniform(-bias, bias),
            dtype=self.dtype_policy,
        )

    def build(self, shape):
        build_in_turn(self._stack, shape)

    def call(self, x):
        axes = list(range(1, len(x.shape)))
        *hidden, last = self._stack
        energy = x
        for layer in hidden:
            energy = layer(energy)
        if self.convolutional:
            energy = last(energy)
        else:
            # As the layer, but the gradient needs no product with one column,
            # which on a CPU takes as long as all else.
            energy *= last.kernel[:, 0]
        energy = tf.reduce_sum(energy, axis=axes)
        if self.quadratic:
            energy += 0.5 * tf.reduce_sum(tf.square(x), axis=axes)
        return energy if self.rate == 1.0 else self.rate * energy

    def get_config(self):
        return {
            **super().get_config(),
            "units": self.units,
            "activation": self.activation,
            "convolutional": self.convolutional,
            "quadratic": self.quadratic,
            "first_scale": self.first_scale,
            "first_bias": self.first_bias,
            "rate": self.rate,
        }


@serializable
class QuadraticEnergy(WholePrecision):
    """|x|^2 / 2, without weights: the kinetic energy of unit masses.

    With a learned K(p), video alone fixes the learned energy only up to a
    monotone function of the true one: any canonical change of scale along the
    orbits draws the same frames. With K = |p|^2 / 2, one degree of freedom,
    and q a function of the true position, as the decoder makes it, that
    function must be linear. Otherwise |dq/dt|^2 / 2 + V(q) would not be
    constant on every orbit.

    Args:
      rate: float. Factor of the energy, as that of `EnergyNet`. Defaults to
        1.0.
    Call: x [batch, ...] -> [batch].
    """

    def __init__(self, rate: float = 1.0, **kwargs):
        super().__init__(**kwargs)
        self.rate = rate

    def call(self, x):
        return (0.5 * self.rate) * tf.reduce_sum(
            tf.square(x), axis=list(range(1, len(x.shape)))
        )

    def get_config(self):
        return {**super().get_config(), "rate": self.rate}


@serializable
class SeparableHamiltonian(WholePrecision):
    """H(q, p) = K(p) + V(q), the form for which leapfrog is symplectic.

    Args:
      kinetic: Layer p -> [batch].
      potential: Layer q -> [batch].
    Call: q, p [batch, ...] -> [batch].
    Source: the HGN paper, section 3.2 ("we assume a separable Hamiltonian").
    """

    def __init__(self, kinetic: keras.Layer, potential: keras.Layer, **kwargs):
        super().__init__(**kwargs)
        self.kinetic = kinetic
        self.potential = potential

    def build(self, q_shape, p_shape=None):
        build_once(self.potential, q_shape)
        build_once(self.kinetic, q_shape)

    def call(self, q, p):
        return self.kinetic(p) + self.potential(q)

    def get_config(self):
        return {
            **super().get_config(),
            **serialize_parts(self, "kinetic", "potential"),
        }

    @classmethod
    def from_config(cls, config):
        return cls(**deserialize_parts(config, "kinetic", "potential"))


@serializable
class JointHamiltonian(WholePrecision):
    """H(q, p) from one network on both, for systems that do not separate.

    Explicit leapfrog on such an H is first order and not symplectic (measured:
    order 0.9, det J - 1 of -9e-3 at dt 0.1). So neither volume nor energy is
    kept as with SeparableHamiltonian, and backward rollouts do not retrace
    forward ones exactly. "rk4" keeps its order, "implicit_midpoint" its order
    and the two-form.

    Args:
      network: Layer on (q, p) joined on the last axis -> [batch].
    Call: q, p [batch, ...] -> [batch].
    """

    def __init__(self, network: keras.Layer, **kwargs):
        super().__init__(**kwargs)
        self.network = network

    def build(self, q_shape, p_shape=None):
        build_once(self.network, (*q_shape[:-1], 2 * q_shape[-1]))

    def call(self, q, p):
        return self.network(tf.concat([q, p], axis=-1))

    def get_config(self):
        return {**super().get_config(), **serialize_parts(self, "network")}

    @classmethod
    def from_config(cls, config):
        return cls(**deserialize_parts(config, "network"))
