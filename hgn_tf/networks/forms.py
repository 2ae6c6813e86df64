"""Matching sets of networks: the paper's convolutional form and a flat one."""

import math
import pathlib
from typing import Any

from hgn_tf.networks.decoder import Decoder, DenseDecoder
from hgn_tf.networks.encoder import Encoder, PositionNet, StateNet
from hgn_tf.networks.energy import (
    EnergyNet,
    QuadraticEnergy,
    SeparableHamiltonian,
)


def paper_networks(
    image_size: int = 32,
    channels: int = 3,
    filters: int = 64,
    latent_channels: int = 16,
    block_activation: str | None = None,
    grey_start: bool = True,
    quadratic: bool = True,
    learned_kinetic: bool = True,
    picture_dtype: str | None = None,
    position_net: bool = False,
) -> dict:
    """Encoder, f_psi, energies and decoder as in the paper, on 4x4 latents.

    The encoder has 8 convolutions of 32, 64, ..., 64, 48 filters. Paper:
    strides not given. Here: stride 2 until the size is 4. f_psi has 3
    convolutions, each energy K(p) and V(q) has 6 with softplus. The decoder
    has one progressive residual block per factor of two.

    Paper: a sigmoid closes each block, the weights start at random, and the
    energies are networks alone. With all three the model stays at the mean
    image on a budget of two CPU cores, so here each has another default:
    `block_activation`, `grey_start` and `quadratic`.

    Args:
      image_size: Height and width in pixels: 8, 16, 32, 64 or 128.
      channels: Number of channels of a frame.
      filters: Number of filters, 64 in the paper; fewer cost less.
      latent_channels: Number of channels of q, and of p.
      block_activation: str or None. Activation after each block of the
        decoder, "sigmoid" in the paper. Defaults to None.
      grey_start: bool. Whether the decoder draws a grey frame at first, see
        `Decoder`. Defaults to True.
      quadratic: bool. Whether K is |p|^2 / 2 + net and V is |q|^2 / 2 + net,
        see `EnergyNet`. Defaults to True.
      learned_kinetic: bool. Whether K has a network; without one it is
        |p|^2 / 2, see `QuadraticEnergy`. Defaults to True, as in the paper.
      picture_dtype: str. Keras dtype policy of encoder and decoder, but for
        their last layers; "mixed_bfloat16" where `has_bfloat16_units`. States
        and energies are never in half precision. Defaults to Keras's policy.
      position_net: bool. Whether there is one, for `HGN(positions=...)`; not
        in the paper. Defaults to False.
    Returns: dict of the arguments encoder, state_net, hamiltonian, decoder, and
      position_net if there is one.
    Raises: ValueError: for another image size.
    Source: the HGN paper, A.1.
    """
    halvings = _halvings(image_size)
    widths = (filters // 2, *[filters] * 6, 3 * filters // 4)
    strides = [1] * len(widths)
    strides[: 2 * halvings : 2] = [2] * min(halvings, 4)
    if halvings == 5:
        strides[1] = 2
    return {
        "encoder": Encoder(
            widths,
            strides,
            (4, 4, 2 * latent_channels),
            dtype=picture_dtype,
        ),
        "state_net": StateNet((filters, filters), (4, 4, latent_channels)),
        "hamiltonian": SeparableHamiltonian(
            kinetic=EnergyNet([filters] * 5, quadratic=quadratic)
            if learned_kinetic
            else QuadraticEnergy(),
            potential=EnergyNet([filters] * 5, quadratic=quadratic),
        ),
        "decoder": Decoder(
            [filters] * halvings,
            channels=channels,
            block_activation=block_activation,
            grey_start=grey_start,
            dtype=picture_dtype,
        ),
        **_position_net(
            position_net,
            filters,
            halvings,
            (4, 4, latent_channels),
            dtype=picture_dtype,
        ),
    }


def flat_networks(
    image_size: int = 32,
    channels: int = 3,
    latent_size: int = 16,
    encoder_filters: tuple[int, ...] = (32, 32, 32, 32),
    state_units: tuple[int, ...] = (128, 128),
    kinetic_units: tuple[int, ...] = (),
    potential_units: tuple[int, ...] = (128, 128),
    decoder_units: tuple[int, ...] = (256, 256),
    grey_start: bool = True,
    position_net: bool = False,
) -> dict:
    """The same path on a flat latent, with MLPs: much cheaper on a CPU.

    Paper: convolutional energies and decoder, both energies learned. Here: the
    energies are MLPs, as in HGN++. The decoder is an MLP too, because small
    convolutions at the frame's resolution cost ten times its CPU time. The
    kinetic energy is |p|^2 / 2, see QuadraticEnergy, and the potential is
    |q|^2 / 2 + net.

    Args:
      image_size: Height and width in pixels: 8, 16, 32, 64 or 128.
      channels: Number of channels of a frame.
      latent_size: Length of q, and of p.
      encoder_filters: Channels of each convolution of the encoder.
      state_units: Hidden widths of f_psi.
      kinetic_units: Hidden widths of a network that is added to |p|^2 / 2;
        empty for none.
      potential_units: Hidden widths of the network of V.
      decoder_units: Hidden widths of the decoder.
      grey_start: Whether the first frames are one grey, see `DenseDecoder`.
      position_net: bool. Whether there is one, for `HGN(positions=...)`.
        Defaults to False.
    Returns: dict of the arguments encoder, state_net, hamiltonian, decoder, and
      position_net if there is one.
    Raises: ValueError: for another image size.
    Source: Higgins et al., SyMetric (2021), appendix, for the flat form.
    """
    halvings = _halvings(image_size)
    strides = [2] * halvings + [1] * (len(encoder_filters) - halvings)
    strides = strides[: len(encoder_filters)]
    flat: dict[str, Any] = {"convolutional": False, "quadratic": True}
    return {
        "encoder": Encoder(encoder_filters, strides, (2 * latent_size,)),
        "state_net": StateNet(state_units, (latent_size,)),
        "hamiltonian": SeparableHamiltonian(
            kinetic=EnergyNet(kinetic_units, **flat)
            if kinetic_units
            else QuadraticEnergy(),
            potential=EnergyNet(potential_units, **flat),
        ),
        "decoder": DenseDecoder(
            decoder_units, (image_size, image_size, channels), grey_start
        ),
        **_position_net(
            position_net, encoder_filters[0], halvings, (latent_size,)
        ),
    }


def has_bfloat16_units() -> bool:
    """Whether the processor has units for bfloat16: AMX or AVX512-BF16.

    Without them a convolution in half precision is far slower than in float32.
    Known on Linux only; elsewhere the answer is no.
    """
    try:
        flags = pathlib.Path("/proc/cpuinfo").read_text("utf-8").split()
    except OSError:
        return False
    return not {"amx_bf16", "avx512_bf16"}.isdisjoint(flags)


def _position_net(wanted, filters, halvings, state_shape, **kwargs):
    """The part of that name, if it is wanted: a halving per convolution."""
    if not wanted:
        return {}
    widths, strides = [filters] * (halvings + 1), [*[2] * halvings, 1]
    return {"position_net": PositionNet(widths, strides, state_shape, **kwargs)}


def _halvings(image_size):
    """How often the size halves down to 4."""
    if image_size not in (8, 16, 32, 64, 128):
        raise ValueError(
            "`image_size` must be 8, 16, 32, 64 or 128, one number for height "
            "and width; for other frames give the model an encoder and a "
            f"decoder of your own. Received: {image_size}."
        )
    return int(math.log2(image_size // 4))
