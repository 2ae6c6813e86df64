"""The networks of HGN, in the order of the path: frames, z, state, energy, q.

Every network has a convolutional form, on latents [batch, 4, 4, channels] as
in the paper, and a flat form, on latents [batch, features] as in HGN++ (Higgins
et al., 2021). The flat form costs far less on a CPU. `paper_networks` and
`flat_networks` give matching sets, to be passed on as `HGN(**networks, ...)`.
The object form, in `objects`, is told the number of bodies.
The networks of the pixel HNN, from pairs of frames to z and back, are in
`pairs`.
"""

from hgn_tf.networks.decoder import Decoder, DenseDecoder, UpsampleConv2D
from hgn_tf.networks.encoder import (
    Encoder,
    KeypointNet,
    PositionNet,
    StateNet,
    split_state,
)
from hgn_tf.networks.energy import (
    EnergyNet,
    JointHamiltonian,
    QuadraticEnergy,
    SeparableHamiltonian,
)
from hgn_tf.networks.forms import (
    flat_networks,
    has_bfloat16_units,
    paper_networks,
)
from hgn_tf.networks.layers import MLP, build_once, layer_from, serializable
from hgn_tf.networks.objects import (
    PairPotential,
    TemplateDecoder,
    object_networks,
)
from hgn_tf.networks.pairs import (
    PairDecoder,
    PairEncoder,
    conv_pair_networks,
    dense_pair_networks,
)

__all__ = [
    "MLP",
    "Decoder",
    "DenseDecoder",
    "Encoder",
    "EnergyNet",
    "JointHamiltonian",
    "KeypointNet",
    "PairDecoder",
    "PairEncoder",
    "PairPotential",
    "PositionNet",
    "QuadraticEnergy",
    "SeparableHamiltonian",
    "StateNet",
    "TemplateDecoder",
    "UpsampleConv2D",
    "build_once",
    "conv_pair_networks",
    "dense_pair_networks",
    "flat_networks",
    "has_bfloat16_units",
    "layer_from",
    "object_networks",
    "paper_networks",
    "serializable",
    "split_state",
]
