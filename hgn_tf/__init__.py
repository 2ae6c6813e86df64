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

What is in `__all__` is public, and what `docs/api` names below it. Modules that
the models do without are imported when they are first asked for: `data` brings
TensorFlow Datasets, `viz` matplotlib, `NHF` TensorFlow Probability.
"""

import importlib
from typing import TYPE_CHECKING

# Before anything else: under another backend the models import, and fail in
# the middle of their use.
try:
    import keras

    _backend = keras.config.backend()
except (ImportError, ValueError) as error:  # one that is not there
    _backend = " ".join(str(error).split())
if _backend != "tensorflow":
    raise ImportError(
        "hgn_tf needs Keras on its backend tensorflow: set "
        "KERAS_BACKEND=tensorflow, or the `backend` of ~/.keras/keras.json. "
        f"Received: {_backend}",
        name="keras",
    )

from hgn_tf import (
    integrators,
    losses,
    models,
    networks,
    optimizers,
    phase,
    presets,
    prior,
    replicas,
)
from hgn_tf.integrators import rollout
from hgn_tf.models.hgn import HGN
from hgn_tf.models.hnn import HNN, DerivativeNet
from hgn_tf.models.pixel_hnn import PixelHNN
from hgn_tf.models.video import VideoModel
from hgn_tf.phase import PhaseState
from hgn_tf.presets import list_presets

if TYPE_CHECKING:
    from hgn_tf import (
        data,
        densities,
        evaluation,
        experiments,
        inspection,
        metrics,
        motions,
        training,
        validation,
        viz,
    )
    from hgn_tf.models.nhf import NHF, LeapfrogFlow, nhf_networks

__all__ = [
    "HGN",
    "HNN",
    "NHF",
    "DerivativeNet",
    "LeapfrogFlow",
    "PhaseState",
    "PixelHNN",
    "VideoModel",
    "data",
    "densities",
    "evaluation",
    "experiments",
    "inspection",
    "integrators",
    "list_presets",
    "losses",
    "metrics",
    "models",
    "motions",
    "networks",
    "nhf_networks",
    "optimizers",
    "phase",
    "presets",
    "prior",
    "replicas",
    "rollout",
    "training",
    "validation",
    "viz",
]
__version__ = "0.1.0"


# They need TensorFlow Probability, which is an extra.
_OF_NHF = ("NHF", "LeapfrogFlow", "nhf_networks")


def __getattr__(name: str):
    if name in _OF_NHF:
        return _of_nhf(name)
    if name in __all__:
        return importlib.import_module(f"hgn_tf.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _of_nhf(name):
    try:
        from hgn_tf.models import nhf
    except ModuleNotFoundError as error:
        raise ImportError(
            f"`hgn_tf.{name}` needs TensorFlow Probability: "
            f"pip install 'hgn-tf[nhf]'. Received: {error}."
        ) from error
    return getattr(nhf, name)
