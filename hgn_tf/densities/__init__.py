"""Densities with known entropy, to measure density models against.

All but the last are in the plane. Where FFJORD (Grathwohl et al. 2019, its
toy_data.py) has them they are FFJORD's, with independent draws in place of
equal counts; other departures are said where they are. Numpy alone.
"""

import numpy as np

from hgn_tf.densities.base import Density
from hgn_tf.densities.mixtures import (
    GaussianMixture,
    NoisyCurves,
    moons,
    spirals,
)
from hgn_tf.densities.shapes import Checkerboard, Funnel, Pinwheel, Rings

__all__ = ["DENSITIES", "Density", "get_density"]

_CORNERS = [(x, y) for x in (-1.5, 1.5) for y in (-1.5, 1.5)]
_LATTICE = [(x, y) for x in (-1.5, 0, 1.5) for y in (-1.5, 0, 1.5)]

DENSITIES = {
    "two_gaussians": GaussianMixture([(-1.5, 0), (1.5, 0)], 0.3),
    "four_gaussians": GaussianMixture(_CORNERS, 0.3),
    "nine_gaussians": GaussianMixture(_LATTICE, 0.2),
    # Noise 0.1 before the factor 2, as in FFJORD.
    "two_moons": NoisyCurves(moons, 0.0, np.pi, 0, 0.2, 4.2, 128),
    "rings": Rings(),
    "checkerboard": Checkerboard(),
    "pinwheel": Pinwheel(),
    # Departure: without FFJORD's uniform noise of 0.5 / 3 on the curve.
    "two_spirals": NoisyCurves(spirals, 0.0, 3 * np.pi, 1, 0.1, 3.8, 768),
    "funnel_8d": Funnel(),
}


def get_density(name: str) -> Density:
    """The entry of DENSITIES called `name`, or a ValueError with its keys."""
    if name not in DENSITIES:
        raise ValueError(
            f"`density` must be one of {list(DENSITIES)}. Received: {name!r}."
        )
    return DENSITIES[name]
