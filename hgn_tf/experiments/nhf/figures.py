"""Figure 9 of the paper: a learned density and the flow that makes it."""

import pathlib

import keras
import numpy as np
import tensorflow as tf

from hgn_tf.densities import Density
from hgn_tf.experiments.nhf.measures import find_minima
from hgn_tf.viz import figures as plots

_SAMPLES = 1000  # as in the paper, with a bandwidth of 0.3
_PATHS = 150
_LATTICE = 80


def write_figure(
    model: keras.Model, density: Density, path: pathlib.Path
) -> None:
    """Draws target and learned density; of an NHF also energies and flow.

    K(p), V(q) and the single leapfrog step are those of the last Hamiltonian.
    Crosses mark the minima of V. Nothing is drawn outside of the plane.

    Args:
      model: NHF or NormalizingFlow, trained.
      density: True density.
      path: Path of the PNG.
    """
    if density.dim != 2 or density.half_width is None:
        return
    half_width = density.half_width + 0.5
    samples = {
        "target": density.sample(_SAMPLES, [2**31, 0, 2]),
        "learned": model.sample(_SAMPLES, seed=0).numpy(),
    }
    energies, motions, minima = {}, {}, None
    if hasattr(model, "hamiltonians"):
        energies = _energies(model, half_width)
        motions = _motions(model)
        minima = find_minima(model, density.half_width)
    figure = plots.density_panels(
        samples, energies, motions, half_width, minima
    )
    plots.write_figure(path, figure, dpi=150)


def _energies(model, half_width):
    """K and V [m, m] on the lattice of the panel."""
    line = np.linspace(-half_width, half_width, _LATTICE)
    lattice = np.stack(np.meshgrid(line, line), -1).reshape(-1, 2)
    points = tf.constant(lattice, tf.float32)
    at = points
    if model.affine:
        # V is a function of the flow's own coordinates.
        state = model.affine.inverse(tf.concat([points, 0 * points], -1))
        at = state[:, :2]
    values = {
        "K(p)": model.kinetic(points, -1),
        "V(q)": model.potential(at, -1),
    }
    shape = (_LATTICE, _LATTICE)
    return {name: x.numpy().reshape(shape) for name, x in values.items()}


def _motions(model):
    """Positions along the flow: in its last step, and in all of it."""
    path = model.trajectory(_PATHS, seed=0).q.numpy()
    return {"a single step": path[:, -2:], "the whole flow": path}
