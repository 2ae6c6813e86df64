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

from hgn_tf import integrators, losses, networks
from hgn_tf.integrators import rollout
from hgn_tf.models.hgn import HGN
from hgn_tf.models.hnn import HNN, DerivativeNet
from hgn_tf.phase import PhaseState

__all__ = [
    "HGN",
    "HNN",
    "DerivativeNet",
    "PhaseState",
    "integrators",
    "losses",
    "networks",
    "rollout",
]
__version__ = "0.1.0"
