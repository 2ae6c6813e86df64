"""Matching sets of layers for NHF: the paper's, and what the tables use."""

import inspect
from typing import Any

import keras

from hgn_tf import integrators
from hgn_tf.models.nhf.energies import BumpEnergy
from hgn_tf.models.nhf.leapfrog import StackedHamiltonian
from hgn_tf.models.nhf.posteriors import FlowMomentum, GaussianMomentum
from hgn_tf.models.nhf.priors import distribution_from
from hgn_tf.networks import (
    EnergyNet,
    QuadraticEnergy,
    SeparableHamiltonian,
)

# What each form chooses, as keywords of `nhf_networks`.
FORMS: dict[str, dict[str, Any]] = {
    "paper": {
        "num_hamiltonians": 2,
        "energy": "mlp",
        "units": (128, 128),
        "kinetic_energy": "learned",
        "posterior": "gaussian",
        "posterior_units": (128, 128),
    },
    "fixed_kinetic": {"num_hamiltonians": 1, "kinetic_energy": "quadratic"},
    "bumps": {
        "num_hamiltonians": 28,
        "energy": "bumps",
        "units": (64,),
        "posterior": "affine",
    },
}
_ENERGIES = ("bumps", "mlp", "ovals")
_KINETIC_ENERGIES = ("learned", "quadratic")
_POSTERIORS = ("affine", "flow", "gaussian")
# What MLPs alone read, with the default of each.
_OF_MLPS: dict[str, Any] = {
    "activation": "softplus",
    "first_scale": 1.0,
    "first_bias": 1.0,
}


def nhf_networks(
    form: str = "paper",
    *,
    num_hamiltonians: int | None = None,
    energy: str | None = None,
    units: tuple[int, ...] | None = None,
    kinetic_energy: str | None = None,
    activation: str = "softplus",
    first_scale: float = 1.0,
    first_bias: float = 1.0,
    posterior: str | None = None,
    posterior_units: tuple[int, ...] | None = None,
    dtype: str | keras.DTypePolicy | None = None,
) -> dict[str, keras.layers.Layer]:
    """The Hamiltonians of a flow and the posterior of its momenta.

    "paper": two Hamiltonians, K(p) and V(q) softplus MLPs of two layers of
    128, and a Gaussian posterior of ReLU MLPs of two layers of 128.
    "fixed_kinetic": one Hamiltonian with K = |p|^2 / 2, whose V gets its
    minima at the modes of the density. "bumps": 28 Hamiltonians of 64 local
    bumps each for K and V, and an autoregressive Gaussian posterior.

    Args:
      form: str. A key of `FORMS`. Defaults to "paper".
      num_hamiltonians: int. Hamiltonians that the flow passes through; None
        for the number of the form, as with all that follows.
      energy: str. "mlp"; "bumps" for `BumpEnergy`, "ovals" for the same with
        `oval`.
      units: Hidden widths of each MLP; (width,) is a G-SympNet layer. With
        bumps, their number alone.
      kinetic_energy: str. "learned", or "quadratic" for |p|^2 / 2.
      activation: str. Activation of the MLPs, smooth. Defaults to "softplus".
      first_scale: float. Factor on the first weights, see
        `networks.EnergyNet`. Defaults to 1.
      first_bias: float. Largest first bias, see `networks.EnergyNet`.
        Defaults to 1.
      posterior: str. "gaussian" for `GaussianMomentum`; "flow" for
        `FlowMomentum`; "affine" for the same without its splines.
      posterior_units: Hidden widths of the networks of the posterior.
      dtype: Precision of the layers, that of the model. Defaults to Keras's.
    Returns: dict of the arguments `hamiltonian` and `posterior` of `NHF`.
    Raises: ValueError: for an unknown name, several widths of bumps, a number
      out of its range, or a setting that bumps do not read.
    Source: the HGN paper (Toth et al., 2019), A.2, for "paper".
    """
    _check_choice("form", form, FORMS)
    chosen = {
        "num_hamiltonians": num_hamiltonians,
        "energy": energy,
        "units": units,
        "kinetic_energy": kinetic_energy,
        "posterior": posterior,
        "posterior_units": posterior_units,
    }
    settings = FORMS["paper"] | FORMS[form]
    settings |= {key: x for key, x in chosen.items() if x is not None}
    units = tuple(settings["units"])
    _check_choice("energy", settings["energy"], _ENERGIES)
    _check_choice(
        "kinetic_energy", settings["kinetic_energy"], _KINETIC_ENERGIES
    )
    _check_choice("posterior", settings["posterior"], _POSTERIORS)
    bumps = settings["energy"] != "mlp"
    if bumps and len(units) != 1:
        raise ValueError(
            "`units` of bumps must be their number alone, such as (64,). "
            f"Received: {units}."
        )
    of_mlps: dict[str, Any] = {
        "activation": activation,
        "first_scale": first_scale,
        "first_bias": first_bias,
    }
    unread = [key for key, x in of_mlps.items() if x != _OF_MLPS[key]]
    if bumps and unread:
        raise ValueError(
            "Bumps have no activation, and first weights of their own. "
            f"Received: {unread}; leave them out, or take energy='mlp'."
        )
    num_hamiltonians = integrators.check_count(
        "num_hamiltonians", settings["num_hamiltonians"]
    )

    def make_energy():
        if bumps:
            oval = settings["energy"] == "ovals"
            return BumpEnergy(units[0], oval=oval, dtype=dtype)
        return EnergyNet(
            units,
            convolutional=False,
            dtype=dtype,
            **of_mlps,
        )

    if settings["kinetic_energy"] == "quadratic":
        kinetic = QuadraticEnergy(dtype=dtype)
    else:
        kinetic = make_energy()
    template = SeparableHamiltonian(kinetic, make_energy(), dtype=dtype)
    widths = settings["posterior_units"]
    momentum = {
        "gaussian": lambda: GaussianMomentum(widths, dtype=dtype),
        "affine": lambda: FlowMomentum(widths, "silu", bins=0, dtype=dtype),
        "flow": lambda: FlowMomentum(widths, dtype=dtype),
    }
    return {
        "hamiltonian": StackedHamiltonian(
            template, num_hamiltonians, dtype=dtype
        ),
        "posterior": momentum[settings["posterior"]](),
    }


def arguments_from(
    settings: dict, dtype: str | dict | keras.DTypePolicy | None = None
) -> dict:
    """Arguments of `NHF` from plain settings, numbers and names alone.

    They are what version 0.1 called the arguments of `NHF`. Its files hold
    them, and so do the results of the tables.

    Args:
      settings: Keywords of `nhf_networks` and of `NHF`; `shared`, whether all
        `num_hamiltonians` are one and the same, which the flow passes through
        so many times; `hamiltonians`, the configurations of own layers. A
        prior is as `priors.distribution_config` writes it.
      dtype: Precision of the layers that are made.
    Returns: dict of the arguments of `NHF`, with layers in them.
    """
    settings = dict(settings)
    names = inspect.signature(nhf_networks).parameters.keys() - {"dtype"}
    own = {key: settings.pop(key) for key in names & settings.keys()}
    form = FORMS["paper"] | FORMS.get(own.get("form", "paper"), {})
    if own.get("energy", form["energy"]) != "mlp":
        # Written then, and read by MLPs alone.
        own = {key: x for key, x in own.items() if key not in _OF_MLPS}
    if settings.pop("shared", False):
        # As one long flow, the steps merge their half kicks.
        count = own.get("num_hamiltonians", FORMS["paper"]["num_hamiltonians"])
        settings["num_steps"] = count * settings.get("num_steps", 1)
        own["num_hamiltonians"] = 1
    if "prior" in settings:
        settings["prior"] = distribution_from(settings["prior"])
    layers = {"hamiltonian": settings.pop("hamiltonians", None)}
    if not isinstance(own.get("posterior", ""), str):
        layers["posterior"] = own.pop("posterior")
    layers = {key: layer for key, layer in layers.items() if layer is not None}
    return {**nhf_networks(**own, dtype=dtype), **layers, **settings}


def _check_choice(name, value, choices):
    if value not in choices:
        raise ValueError(
            f"`{name}` must be one of {list(choices)}. Received: {value!r}."
        )
