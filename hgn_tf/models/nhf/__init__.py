"""Neural Hamiltonian Flows, and the usual flows they are compared with.

The only package that needs TensorFlow Probability.
"""

from hgn_tf.models.nhf.baselines import FLOWS, NormalizingFlow
from hgn_tf.models.nhf.energies import BumpEnergy
from hgn_tf.models.nhf.forms import FORMS, nhf_networks
from hgn_tf.models.nhf.leapfrog import (
    HamiltonianView,
    LeapfrogFlow,
    StackedHamiltonian,
)
from hgn_tf.models.nhf.model import NHF, Importance, NHFOutput
from hgn_tf.models.nhf.posteriors import FlowMomentum, GaussianMomentum
from hgn_tf.models.nhf.priors import SoftUniform

__all__ = [
    "FLOWS",
    "FORMS",
    "NHF",
    "BumpEnergy",
    "FlowMomentum",
    "GaussianMomentum",
    "HamiltonianView",
    "Importance",
    "LeapfrogFlow",
    "NHFOutput",
    "NormalizingFlow",
    "SoftUniform",
    "StackedHamiltonian",
    "nhf_networks",
]
