"""Matching sets of networks: the paper's convolutional form and a flat one."""

import math
import numbers
import pathlib
from collections.abc import Sequence
from typing import Any

from hgn_tf.networks.decoder import Decoder, DenseDecoder
from hgn_tf.networks.encoder import (
    Encoder,
    KeypointNet,
    PositionNet,
    StateNet,
)
from hgn_tf.networks.energy import (
    EnergyNet,
    JointHamiltonian,
    QuadraticEnergy,
    SeparableHamiltonian,
)


def paper_networks(
    image_size: int | Sequence[int] = 32,
    channels: int = 3,
    filters: int = 64,
    latent_channels: int = 16,
    block_activation: str | None = None,
    grey_start: bool = True,
    quadratic: bool = True,
    learned_kinetic: bool = True,
    depth_to_space: bool = False,
    picture_dtype: str | None = None,
    position_net: bool = False,
    keypoints: bool = True,
    rate: float = 1.0,
    energy_activation: str = "softplus",
) -> dict:
    """Encoder, f_psi, energies and decoder as in the paper, on 4x4 latents.

    The encoder has 8 convolutions of 32, 64, ..., 64, 48 filters. Paper:
    strides not given. Here: stride 2 until the shorter side is 4, or up to 7
    for sides that are no power of two. f_psi has 3 convolutions, each energy
    K(p) and V(q) has 6. The decoder has one progressive residual
    block per factor of two, and cuts what is drawn over the frame's edge.
    Frames of 48x64 have latents of 6x8.

    Paper: a sigmoid closes each block, the weights start at random, and the
    energies are networks alone. With all three the model stays at the mean
    image on a budget of two CPU cores, so here each has another default:
    `block_activation`, `grey_start` and `quadratic`.

    Args:
      image_size: Height and width in pixels, a number for both or two; each
        from 8 to 256.
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
      depth_to_space: bool. Whether the decoder has one block less, see
        `Decoder`; not in the paper. Defaults to False.
      picture_dtype: str. Keras dtype policy of encoder, decoder and
        `PositionNet`, but for their last layers; "mixed_bfloat16" where
        `has_bfloat16_units`. States, places and energies are never in half
        precision. Defaults to Keras's policy.
      position_net: bool. Whether there is one, for `HGN(positions=...)`; not
        in the paper. Defaults to False.
      keypoints: bool. Whether it is a `KeypointNet`, else a `PositionNet`.
        Defaults to True.
      rate: float. Factor of both energies, see `EnergyNet`: 0.125 / dt suits
        any dt, in any unit. Defaults to 1.0, for a dt of about 0.125.
      energy_activation: str. Activation of the energies, see `EnergyNet`.
        Defaults to "softplus", as in the paper.
    Returns: dict of the arguments encoder, state_net, hamiltonian, decoder, and
      position_net if there is one.
    Raises: ValueError: for another image size.
    Source: the HGN paper, A.1.
    """
    size = height_and_width(image_size)
    halvings = count_halvings(min(size))
    energy: dict[str, Any] = {
        "activation": energy_activation,
        "quadratic": quadratic,
        "rate": rate,
    }
    latent = tuple(math.ceil(length / 2**halvings) for length in size)
    drawn = tuple(length * 2**halvings for length in latent)
    widths = (filters // 2, *[filters] * 6, 3 * filters // 4)
    strides = [1] * len(widths)
    for layer in (0, 2, 4, 6, 1, 3)[:halvings]:
        strides[layer] = 2
    return {
        "encoder": Encoder(
            widths,
            strides,
            (*latent, 2 * latent_channels),
            dtype=picture_dtype,
        ),
        "state_net": StateNet((filters, filters), (*latent, latent_channels)),
        "hamiltonian": SeparableHamiltonian(
            kinetic=EnergyNet([filters] * 5, **energy)
            if learned_kinetic
            else QuadraticEnergy(rate),
            potential=EnergyNet([filters] * 5, **energy),
        ),
        "decoder": Decoder(
            [filters] * (halvings - depth_to_space),
            channels=channels,
            block_activation=block_activation,
            grey_start=grey_start,
            frame_size=None if drawn == size else size,
            depth_to_space=depth_to_space,
            dtype=picture_dtype,
        ),
        **_position_net(
            position_net,
            keypoints,
            filters,
            halvings,
            (*latent, latent_channels),
            dtype=picture_dtype,
        ),
    }


def flat_networks(
    image_size: int | Sequence[int] = 32,
    channels: int = 3,
    latent_size: int = 16,
    encoder_filters: tuple[int, ...] = (32, 32, 32, 32),
    state_units: tuple[int, ...] = (128, 128),
    kinetic_units: tuple[int, ...] = (),
    potential_units: tuple[int, ...] = (128, 128),
    decoder_units: tuple[int, ...] = (256, 256),
    grey_start: bool = True,
    position_net: bool = False,
    keypoints: bool = True,
    rate: float = 1.0,
    separable: bool = True,
    energy_activation: str = "softplus",
) -> dict:
    """The same path on a flat latent, with MLPs: much cheaper on a CPU.

    Paper: convolutional energies and decoder, both energies learned. Here: the
    energies are MLPs, as in HGN++. The decoder is an MLP too, because small
    convolutions at the frame's resolution cost ten times its CPU time. The
    kinetic energy is |p|^2 / 2, see QuadraticEnergy, and the potential is
    |q|^2 / 2 + net.

    Args:
      image_size: Height and width in pixels, a number for both or two; each
        from 8 to 256. The last layer of the decoder has 256 weights per number
        of a frame: 50 million at 256x256x3.
      channels: Number of channels of a frame.
      latent_size: Length of q, and of p.
      encoder_filters: Channels of each convolution of the encoder.
      state_units: Hidden widths of f_psi.
      kinetic_units: Hidden widths of a network that is added to |p|^2 / 2;
        empty for none.
      potential_units: Hidden widths of the network of V, or of a joint H.
      decoder_units: Hidden widths of the decoder.
      grey_start: Whether the first frames are one grey, see `DenseDecoder`.
      position_net: bool. Whether there is one, for `HGN(positions=...)`.
        Defaults to False.
      keypoints: bool. Whether it is a `KeypointNet`, else a `PositionNet`.
        Defaults to True.
      rate: float. Factor of both energies, see `EnergyNet`: 0.125 / dt suits
        any dt, in any unit. Defaults to 1.0, for a dt of about 0.125.
      separable: bool. Whether H is K(p) + V(q). Otherwise it is one network
        on both, |q|^2 / 2 + |p|^2 / 2 + an MLP of `potential_units`: for
        systems that do not separate, by "implicit_midpoint". Defaults to True.
      energy_activation: str. Activation of the energies, see `EnergyNet`.
        Defaults to "softplus".
    Returns: dict of the arguments encoder, state_net, hamiltonian, decoder, and
      position_net if there is one.
    Raises: ValueError: for another image size, or `kinetic_units` without a
      kinetic energy.
    Source: Higgins et al., SyMetric (2021), appendix, for the flat form.
    """
    if kinetic_units and not separable:
        raise ValueError(
            "`kinetic_units` are of a separable energy. Received: "
            f"{kinetic_units} and separable=False."
        )
    size = height_and_width(image_size)
    halvings = count_halvings(min(size))
    flat: dict[str, Any] = {
        "convolutional": False,
        "activation": energy_activation,
        "quadratic": True,
        "rate": rate,
    }
    return {
        "encoder": flat_encoder(encoder_filters, size, latent_size),
        "state_net": StateNet(state_units, (latent_size,)),
        "hamiltonian": SeparableHamiltonian(
            kinetic=EnergyNet(kinetic_units, **flat)
            if kinetic_units
            else QuadraticEnergy(rate),
            potential=EnergyNet(potential_units, **flat),
        )
        if separable
        else JointHamiltonian(EnergyNet(potential_units, **flat)),
        "decoder": DenseDecoder(decoder_units, (*size, channels), grey_start),
        **_position_net(
            position_net,
            keypoints,
            encoder_filters[0],
            halvings,
            (latent_size,),
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


def _position_net(wanted, keypoints, filters, halvings, state_shape, **kwargs):
    """The part of that name, if it is wanted."""
    if not wanted:
        return {}
    if keypoints:
        return {"position_net": keypoint_net(halvings, state_shape)}
    # A halving per convolution.
    widths, strides = [filters] * (halvings + 1), [*[2] * halvings, 1]
    return {"position_net": PositionNet(widths, strides, state_shape, **kwargs)}


def flat_encoder(
    filters: Sequence[int], size: tuple[int, int], latent_size: int
) -> Encoder:
    """Convolutions that halve frames to 4 to 7 pixels, to a flat latent."""
    halvings = count_halvings(min(size))
    strides = [2] * halvings + [1] * (len(filters) - halvings)
    return Encoder(filters, strides[: len(filters)], (2 * latent_size,))


def keypoint_net(halvings: int, state_shape: tuple[int, ...]) -> KeypointNet:
    """A `KeypointNet` with maps of about 16x16, where a softmax finds a place.

    It is never in half precision: q is read here, and q is a state.
    """
    strides = [*[2] * max(halvings - 2, 1), 1, 1]
    widths = [*[32] * (len(strides) - 1), 16]
    return KeypointNet(widths, strides, state_shape)


def height_and_width(image_size: int | Sequence[int]) -> tuple[int, int]:
    """Height and width in pixels; others than 8 to 256 are refused."""
    sides: Any = image_size
    if isinstance(image_size, numbers.Integral):
        sides = (image_size, image_size)
    fits = isinstance(sides, Sequence) and len(sides) == 2
    if not fits or not all(
        isinstance(side, numbers.Integral) and 8 <= int(side) <= 256
        for side in sides
    ):
        raise ValueError(
            "`image_size` must be a whole number from 8 to 256, or two of "
            "them, height and width; for other frames give the model an "
            f"encoder and a decoder of your own. Received: {image_size}."
        )
    height, width = sides
    return int(height), int(width)


def count_halvings(length: int) -> int:
    """How often a side of 8 to 256 halves until it is 4 to 7."""
    return int(math.log2(length // 4))
