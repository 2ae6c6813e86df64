"""A page to play with a trained HGN: its motions over a grid of first states.

Everything is computed beforehand and lies in one HTML file, which needs no
server and loads nothing.
"""

import io
import os
import pathlib
from typing import Any

import jinja2
import matplotlib
import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

from hgn_tf.files import write_whole
from hgn_tf.phase import PhaseState
from hgn_tf.viz.figures import STYLE, principal_line
from hgn_tf.viz.gif import data_uri, frame_sheet, to_uint8

_SAMPLES = 256  # from the prior, to see where states are
_REACH = 2.5  # spreads of the states, that the landscape shows
_LATTICE = 61  # of the landscape
_SIDE = 400  # pixels of the landscape
_BOX = (0.13, 0.11, 0.84, 0.84)  # of its axes: left, bottom, width, height


def write_page(
    model: Any,
    path: str | os.PathLike,
    title: str,
    grid: int = 5,
    num_steps: int = 40,
    seed: int = 0,
) -> pathlib.Path:
    """Writes the page of a model.

    States lie in the plane of the first principal directions of q and of p
    over motions from the learned prior, or N(0, 1) of a model without: for a
    latent of one dimension that is all of phase space. The page shows H on it,
    rollouts from a grid of states within two spreads of their mean, forward
    and backward, and the decoded frames.

    Args:
      model: HGN with a learned prior, or one that samples its latent variable.
      path: Place of the HTML file, which is written whole or not at all.
      title: Name of the model on the page.
      grid: States per side of the grid.
      num_steps: Steps of a rollout, each way.
      seed: Seed of the samples.
    Returns: The path.
    Raises: ValueError: for a deterministic model without a learned prior, or
      numbers below 1.
    """
    if grid < 1 or num_steps < 1:
        raise ValueError(
            "`grid` and `num_steps` must be at least 1. "
            f"Received: {grid} and {num_steps}."
        )
    prior = "normal" if model.prior is None else "learned"
    motion = model.sample(_SAMPLES, num_steps, seed=seed, prior=prior)
    lines = [principal_line(part.numpy()) for part in motion.states]
    side = np.linspace(-2, 2, grid) if grid > 1 else np.zeros(1)
    starts = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    states = _both_ways(model, _states(lines, starts), num_steps)
    video = model.decode(states).numpy()
    sheets = [frame_sheet(to_uint8(each)) for each in video]
    paths = [line.read(part) / line.spread for line, part in zip(lines, states)]
    page = {
        "dt": float(model.dt),
        "frames": video.shape[1],
        "first": num_steps,
        "columns": sheets[0][1],
        "height": video.shape[2],
        "width": video.shape[3],
        "box": _BOX,
        "reach": _REACH,
        "starts": starts.tolist(),
        "paths": np.stack(paths, axis=-1).astype(float).round(4).tolist(),
        "energies": model.energy(states).numpy().astype(float).tolist(),
    }
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("hgn_tf.viz"),
        autoescape=True,
        trim_blocks=True,
    )
    text = environment.get_template("explore.html.jinja").render(
        title=title,
        page=page,
        dof=lines[0].direction.size,
        sheets=[data_uri(png) for png, _ in sheets],
        landscape=data_uri(_landscape(model, lines)),
        side=_SIDE,
    )
    return write_whole(pathlib.Path(path), text.encode("utf-8"))


def _states(lines, places):
    """PhaseState of places [n, 2], in spreads, in the plane of the lines."""
    parts = (line.at(line.spread * x) for line, x in zip(lines, places.T))
    return PhaseState(*(tf.constant(part, tf.float32) for part in parts))


def _both_ways(model, state, num_steps):
    """States from num_steps before `state` to num_steps after it."""
    back, on = (
        model.rollout(state, num_steps, dt) for dt in (-model.dt, model.dt)
    )
    return PhaseState(
        *(tf.concat([b[:, :0:-1], f], axis=1) for b, f in zip(back, on))
    )


@matplotlib.rc_context(STYLE)
def _landscape(model, lines):
    """A PNG of H on the plane, bright where low, with its axes at _BOX."""
    side = np.linspace(-_REACH, _REACH, _LATTICE)
    places = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    energy = model.energy(_states(lines, places)).numpy()
    energy = energy.reshape(_LATTICE, _LATTICE)
    # At twice the size that it is shown, for sharp letters.
    inches = _SIDE / 100
    figure = Figure(figsize=(inches, inches), dpi=200, layout="none")
    axis = figure.add_axes(_BOX)
    box = [-_REACH, _REACH] * 2
    axis.imshow(-energy, origin="lower", extent=box, cmap="viridis")
    look = {"linewidths": 0.5, "alpha": 0.6, "negative_linestyles": "solid"}
    axis.contour(side, side, energy, 12, colors="white", **look)
    axis.set_xlabel("q, first direction (spreads)")
    axis.set_ylabel("p, first direction (spreads)")
    png = io.BytesIO()
    figure.savefig(png, format="png")
    return png.getvalue()
