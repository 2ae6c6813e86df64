"""Hamiltonian Generative Networks for TensorFlow and Keras 3.

    tfds_physics ==TFDS==> hgn_tf.data
        video [B,T,H,W,C]          |
                                   v
    networks.Encoder ---> networks.StateNet ---> phase.PhaseState(q, p)
    posterior over z      z -> first state (f_psi)        |
                                                          v
    networks.*Hamiltonian <--- integrators.rollout ---> states [B,T,...]
    (q, p) -> energy [B]                                  |
                                                          v
    networks.*Decoder(q) -> video [B,T,H,W,C] -> losses -> metrics

`models.hgn.HGN.call` says the same in the same order.
"""

from hgn_tf import integrators, losses, networks, presets
from hgn_tf.integrators import rollout
from hgn_tf.models.hgn import HGN
from hgn_tf.models.hnn import HNN, DerivativeNet
from hgn_tf.models.pixel_hnn import PixelHNN
from hgn_tf.phase import PhaseState
from hgn_tf.presets import list_presets

__all__ = [
    "HGN",
    "HNN",
    "DerivativeNet",
    "PhaseState",
    "PixelHNN",
    "integrators",
    "list_presets",
    "losses",
    "networks",
    "presets",
    "rollout",
]
__version__ = "0.1.0"


# They need TensorFlow Probability, which is an extra: not in __all__.
_OF_NHF = ("NHF", "LeapfrogFlow", "nhf_networks")


def __getattr__(name):
    if name not in _OF_NHF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from hgn_tf.models import nhf
    except ModuleNotFoundError as error:
        raise ImportError(
            f"`hgn_tf.{name}` needs TensorFlow Probability: "
            f"pip install 'hgn-tf[nhf]'. Received: {error}."
        ) from error
    return getattr(nhf, name)
