"""Pairs of frames to z and back: the networks of the pixel HNN.

A pair is [batch, 2, height, width, channels]; the dense form takes
observations of any shape. `dense_pair_networks` and `conv_pair_networks` give
matching sets, to be passed on as `PixelHNN(**networks, ...)`.
"""

from collections.abc import Sequence

import keras
import tensorflow as tf

from hgn_tf.networks.decoder import Decoder
from hgn_tf.networks.encoder import Encoder
from hgn_tf.networks.forms import paper_networks
from hgn_tf.networks.layers import (
    MLP,
    build_once,
    deserialize_parts,
    serializable,
    serialize_parts,
)


@serializable
class PairEncoder(keras.layers.Layer):
    """The mean that HGN's encoder gives, as z.

    With a flat latent `Encoder` ends in one linear layer from its
    convolutions to z.

    Args:
      encoder: Layer, frames -> (mean, log_scale), both [batch, size].
    Call: pair [batch, 2, height, width, channels] -> z [batch, size].
    """

    def __init__(self, encoder: keras.Layer, **kwargs):
        super().__init__(**kwargs)
        self.encoder = encoder

    def build(self, shape):
        build_once(self.encoder, shape)

    def call(self, pair):
        mean, _ = self.encoder(pair)
        return mean

    def compute_output_shape(self, shape):
        mean_shape, _ = self.encoder.compute_output_shape(shape)
        return mean_shape

    def compute_output_spec(self, pair):
        return self.encoder.compute_output_spec(pair)[0]

    def get_config(self):
        return {**super().get_config(), **serialize_parts(self, "encoder")}

    @classmethod
    def from_config(cls, config):
        return cls(**deserialize_parts(config, "encoder"))


@serializable
class PairDecoder(keras.layers.Layer):
    """z -> pair: HGN's decoder, with the two frames on its channels.

    For a flat z, `Decoder` begins with one linear layer.

    Args:
      decoder: Layer, z -> [batch, height, width, 2 * channels].
    Call: z [batch, size] -> pair [batch, 2, height, width, channels].
    """

    def __init__(self, decoder: keras.Layer, **kwargs):
        super().__init__(**kwargs)
        self.decoder = decoder

    def build(self, shape):
        build_once(self.decoder, shape)

    def call(self, z):
        return tf.stack(tf.split(self.decoder(z), 2, axis=-1), axis=1)

    def compute_output_shape(self, shape):
        *size, channels = self.decoder.compute_output_shape(shape)[1:]
        return (shape[0], 2, *size, channels // 2)

    def compute_output_spec(self, z):
        dtype = self.decoder.compute_output_spec(z).dtype
        return keras.KerasTensor(self.compute_output_shape(z.shape), dtype)

    def get_config(self):
        return {**super().get_config(), **serialize_parts(self, "decoder")}

    @classmethod
    def from_config(cls, config):
        return cls(**deserialize_parts(config, "decoder"))


def dense_pair_networks(
    observation_shape: tuple[int, ...] = (2, 32, 32, 3),
    latent_size: int = 2,
    units: tuple[int, ...] = (200, 200, 200),
    residual: bool = False,
) -> dict:
    """MLPs of 4 layers each, the HNN paper's form.

    Args:
      observation_shape: Shape of an observation, without the batch axis: a
        pair (2, height, width, channels), or any other.
      latent_size: Length of z, twice the degrees of freedom.
      units: Hidden widths of the encoder, and reversed of the decoder.
      residual: Whether hidden layers are residual, see `MLP`. Not in the
        paper.
    Returns: dict of the arguments encoder and decoder.
    Source: the HGN paper, A.3.
    """
    return {
        "encoder": MLP(units, (latent_size,), residual=residual),
        "decoder": MLP(units[::-1], observation_shape, residual=residual),
    }


def conv_pair_networks(
    image_size: int | Sequence[int] = 32,
    channels: int = 3,
    filters: int = 64,
    latent_size: int = 2,
    block_activation: str | None = "sigmoid",
) -> dict:
    """HGN's encoder and decoder with one linear layer each, "HNN (conv)".

    Args:
      image_size: Height and width in pixels, a number for both or two; each
        from 8 to 256.
      channels: Number of channels of a frame.
      filters: Number of filters, 64 in the paper; fewer cost less.
      latent_size: Length of z, twice the degrees of freedom.
      block_activation: Activation at the end of a block, see `Decoder`.
    Returns: dict of the arguments encoder and decoder.
    Raises: ValueError: for another image size.
    Source: the HGN paper, A.3.
    """
    paper = paper_networks(image_size, channels, filters)
    encoder, decoder = paper["encoder"], paper["decoder"]
    return {
        "encoder": PairEncoder(
            Encoder(encoder.filters, encoder.strides, (latent_size,))
        ),
        "decoder": PairDecoder(
            Decoder(
                decoder.filters,
                channels=2 * channels,
                seed_shape=paper["state_net"].state_shape,
                block_activation=block_activation,
                frame_size=decoder.frame_size,
            )
        ),
    }
