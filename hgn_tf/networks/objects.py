"""The object form: a position per body, one potential of all pairs, templates.

It is told what the other forms must find: how many bodies there are, that each
is a picture which moves in the plane without turning, and that they act on each
other by their distances alone. `object_networks` gives a matching set, to be
passed on as `HGN(**networks, ...)`.
"""

import itertools
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from hgn_tf.networks.encoder import StateNet
from hgn_tf.networks.energy import (
    EnergyNet,
    QuadraticEnergy,
    SeparableHamiltonian,
)
from hgn_tf.networks.forms import (
    count_halvings,
    flat_encoder,
    height_and_width,
    keypoint_net,
)
from hgn_tf.networks.layers import (
    WholeOutput,
    WholePrecision,
    build_once,
    deserialize_parts,
    serializable,
    serialize_parts,
)

_AXES = 2  # A body's q is its row and its column.
_CLOSEST = 1e-3  # added to distances, whose gradient has no value at 0


@serializable
class PairPotential(WholePrecision):
    """V(q) = sum over pairs i < j of f(|q_i - q_j|), with one f for all pairs.

    So V does not change when all bodies are moved, turned or exchanged: total
    momentum and angular momentum are kept.

    Args:
      network: Layer [rows, 1] -> [rows], f of a distance.
      num_bodies: Number of bodies.
    Call: q [batch, 2 * num_bodies], row and column of each body in turn ->
      [batch].
    Raises: ValueError: if there are fewer than two bodies.
    Source: Battaglia et al. 2016, Interaction networks, for a function shared
      by all pairs.
    """

    def __init__(self, network: keras.Layer, num_bodies: int, **kwargs):
        super().__init__(**kwargs)
        if num_bodies < 2:
            raise ValueError(
                "`num_bodies` must be 2 or more, for forces act between "
                f"bodies. Received: {num_bodies}."
            )
        self.network = network
        self.num_bodies = num_bodies
        pairs = itertools.combinations(range(num_bodies), 2)
        self._first, self._second = (list(x) for x in zip(*pairs))

    def build(self, q_shape):
        if q_shape[-1] != _AXES * self.num_bodies:
            raise ValueError(
                f"q must have {_AXES} numbers for each of {self.num_bodies} "
                f"bodies. Received: shape {tuple(q_shape)}."
            )
        build_once(self.network, (None, 1))

    def call(self, q):
        places = tf.reshape(q, [-1, self.num_bodies, _AXES])
        apart = tf.gather(places, self._first, axis=1) - tf.gather(
            places, self._second, axis=1
        )
        squares = tf.reduce_sum(tf.square(apart), axis=-1, keepdims=True)
        distance = tf.sqrt(squares + _CLOSEST**2)
        energy = self.network(tf.reshape(distance, [-1, 1]))
        return tf.reduce_sum(tf.reshape(energy, [-1, len(self._first)]), axis=1)

    def get_config(self):
        return {
            **super().get_config(),
            **serialize_parts(self, "network"),
            "num_bodies": self.num_bodies,
        }

    @classmethod
    def from_config(cls, config):
        return cls(**deserialize_parts(config, "network"))


@serializable
class TemplateDecoder(WholeOutput):
    """q -> frame: a background, and a picture of each body at its place.

    A template has colours c and an opacity a from 0 to 1. Placed by bilinear
    interpolation with its centre at q, it covers what is there:

        frame <- (1 - a) frame + a c        for one body after the other

    Rows and columns of a frame go from -1 to 1. The first templates are soft
    and large, so that a body is felt from afar, and of hues that differ, so
    that they find different bodies.

    Args:
      num_bodies: Number of bodies.
      frame_shape: Shape (height, width, channels) of a frame.
    Call: q [batch, 2 * num_bodies] -> [batch, *frame_shape].
    """

    def __init__(
        self,
        num_bodies: int,
        frame_shape: Sequence[int] = (32, 32, 3),
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.num_bodies = num_bodies
        self.frame_shape = tuple(frame_shape)

    def build(self, q_shape):
        height, width, channels = self.frame_shape
        disc = _soft_disc(height, width)
        tints = _hues(self.num_bodies, channels)[:, np.newaxis]
        starts = {
            "background": np.full(self.frame_shape, 0.5),
            "colours": np.tile(tints, (1, height * width, 1)),
            "opacity_logits": np.tile(disc, (self.num_bodies, 1, 1)),
        }
        # Vectors, for these are no kernels, which some optimisers treat apart.
        # A frame is never rounded to half precision.
        for name, start in starts.items():
            weight = self.add_weight(
                shape=(start.size,),
                initializer=keras.initializers.Constant(start.ravel()),
                dtype=self.variable_dtype,
                autocast=False,
                name=name,
            )
            setattr(self, name, weight)

    def call(self, q):
        height, width, channels = self.frame_shape
        q = tf.cast(q, self.variable_dtype)
        places = tf.reshape(q, [-1, self.num_bodies, _AXES])
        rows = _interpolation(places[..., 0], height)
        columns = _interpolation(places[..., 1], width)
        size = [self.num_bodies, height, width]
        opacity = tf.sigmoid(tf.reshape(self.opacity_logits, [*size, 1]))
        colours = tf.reshape(self.colours, [*size, channels])
        template = tf.concat([opacity * colours, opacity], axis=-1)
        # [batch, bodies, height, width, channels + 1]
        placed = tf.einsum("bnhr,nrsc->bnhsc", rows, template)
        placed = tf.einsum("bnws,bnhsc->bnhwc", columns, placed)
        frame = tf.reshape(self.background, self.frame_shape)
        for body in range(self.num_bodies):
            drawn, covered = (
                placed[:, body, ..., :-1],
                placed[:, body, ..., -1:],
            )
            frame = (1.0 - covered) * frame + drawn
        return frame

    def compute_output_shape(self, q_shape):
        return (q_shape[0], *self.frame_shape)

    def get_config(self):
        return {
            **super().get_config(),
            "num_bodies": self.num_bodies,
            "frame_shape": self.frame_shape,
        }


def object_networks(
    num_bodies: int,
    image_size: int | Sequence[int] = 32,
    channels: int = 3,
    encoder_filters: tuple[int, ...] = (32, 32, 32, 32),
    state_units: tuple[int, ...] = (128, 128),
    pair_units: tuple[int, ...] = (64, 64),
    position_net: bool = False,
    rate: float = 1.0,
) -> dict:
    """Networks that are told the number of bodies, and how they act.

    Not in the paper, whose model is told nothing. q is the place of each body
    in the frame, row and column from -1 to 1, and p its momentum at unit mass:
    K(p) = |p|^2 / 2. V(q) is the sum of one learned function of the distance
    of each pair, d^2 / 2 + net(d). There are no other forces.

    Args:
      num_bodies: Number of bodies, two or more.
      image_size: Height and width in pixels, a number for both or two; each
        from 8 to 256.
      channels: Number of channels of a frame.
      encoder_filters: Channels of each convolution of the encoder.
      state_units: Hidden widths of f_psi.
      pair_units: Hidden widths of the network of a pair.
      position_net: bool. Whether there is a `KeypointNet`, for
        `HGN(positions=...)`. Defaults to False.
      rate: float. Factor of both energies, see `EnergyNet`: 0.125 / dt suits
        any dt, in any unit. Defaults to 1.0, for a dt of about 0.125.
    Returns: dict of the arguments encoder, state_net, hamiltonian, decoder, and
      position_net if there is one.
    Raises: ValueError: for another image size, or fewer than two bodies.
    Source: Jaques et al. 2020, Physics-as-inverse-graphics, for a decoder that
      places templates.
    """
    size = height_and_width(image_size)
    state_size = _AXES * num_bodies
    pair = EnergyNet(pair_units, convolutional=False, quadratic=True, rate=rate)
    parts = {
        "encoder": flat_encoder(encoder_filters, size, state_size),
        "state_net": StateNet(state_units, (state_size,)),
        "hamiltonian": SeparableHamiltonian(
            kinetic=QuadraticEnergy(rate),
            potential=PairPotential(pair, num_bodies),
        ),
        "decoder": TemplateDecoder(num_bodies, (*size, channels)),
    }
    if position_net:
        parts["position_net"] = keypoint_net(
            count_halvings(min(size)), (state_size,)
        )
    return parts


def _interpolation(centre, length):
    """Weights that place a template's line on the frame's.

    Args:
      centre: Places of its middle, -1 to 1, [batch, bodies].
      length: Pixels of the line, of both.
    Returns: [batch, bodies, length, length]; those of a pixel are at most two.
    """
    pixels = tf.range(length, dtype=centre.dtype)
    shift = 0.5 * centre * (length - 1)
    off = pixels[:, tf.newaxis] - pixels - shift[..., tf.newaxis, tf.newaxis]
    return tf.nn.relu(1.0 - tf.abs(off))


def _hues(count, channels):
    """Colours [count, channels] far from each other, from a random hue on.

    Templates of one colour would all find the same body.
    """
    first = float(keras.random.uniform(()))
    turns = np.arange(count) / count + first
    shift = np.arange(channels) / channels
    return 0.5 + 0.3 * np.cos(2 * np.pi * (turns[:, np.newaxis] + shift))


def _soft_disc(height, width):
    """Logits of an opacity of 0.5 in the middle, a Gaussian in the frame."""
    rows, columns = (np.linspace(-1.0, 1.0, side) for side in (height, width))
    squares = rows[:, np.newaxis] ** 2 + columns**2
    opacity = 0.5 * np.exp(-squares / (2 * 0.3**2)) + 1e-3
    return np.log(opacity / (1.0 - opacity))
