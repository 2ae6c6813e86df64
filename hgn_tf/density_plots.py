"""Figures of densities in the plane, and of flows that make them."""

from collections.abc import Mapping

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from hgn_tf.plotting import PALETTE, STYLE

_PIXELS = 80  # of a panel's side
_PANEL = 2.1  # inches


def kernel_density(
    points: np.ndarray, at: np.ndarray, bandwidth: float
) -> np.ndarray:
    """Mean of round Gaussians of standard deviation `bandwidth`.

    Args:
      points: Their centres, [n, 2].
      at: Where the density is wanted, [m, 2].
      bandwidth: Standard deviation.
    Returns: [m].
    """
    axes = [
        np.exp(-((at[:, None, i] - points[None, :, i]) ** 2) / 2 / bandwidth**2)
        for i in range(2)
    ]
    area = 2 * np.pi * bandwidth**2 * len(points)
    return np.einsum("mn,mn->m", *axes) / area


@matplotlib.rc_context(STYLE)
def density_panels(
    samples: Mapping[str, np.ndarray],
    energies: Mapping[str, np.ndarray],
    motions: Mapping[str, np.ndarray],
    half_width: float,
    marks: np.ndarray | None = None,
    bandwidth: float = 0.3,
) -> Figure:
    """Panels as in figure 9 of the HGN paper, three in a row.

    Args:
      samples: Title -> points [n, 2], shown as their kernel density; all on
        one scale of colours.
      energies: Title -> values on a square lattice [m, m] over the panel, the
        first axis upward; each on a scale of its own, bright where low.
      motions: Title -> paths [n, steps, 2], from a blue to a red dot.
      half_width: The panels are [-half_width, half_width]^2.
      marks: Points [k, 2] to mark in the panel of the last energy.
      bandwidth: Of the kernel density.
    Returns: Figure.
    """
    count = len(samples) + len(energies) + len(motions)
    rows = -(-count // 3)
    figure = Figure(figsize=(min(count, 3) * _PANEL, rows * (_PANEL + 0.25)))
    axes = figure.subplots(rows, min(count, 3), squeeze=False).ravel()
    images = {
        title: kernel_density(points, _lattice(half_width), bandwidth)
        for title, points in samples.items()
    }
    top = max(image.max() for image in images.values())
    box = [-half_width, half_width] * 2
    look = {"origin": "lower", "extent": box, "cmap": "viridis"}
    panels = iter(axes)
    for title, image in images.items():
        image = image.reshape(_PIXELS, _PIXELS)
        axis = _panel(next(panels), title, half_width)
        axis.imshow(image, vmin=0, vmax=top, **look)
    for index, (title, values) in enumerate(energies.items()):
        axis = _panel(next(panels), title, half_width)
        # Far from the data an energy only grows: those colours are not spent.
        ceiling = np.quantile(values, 0.8)
        axis.imshow(-np.minimum(values, ceiling), **look)
        if marks is not None and index == len(energies) - 1:
            axis.plot(*np.reshape(marks, (-1, 2)).T, "x", color=PALETTE[1])
    for title, paths in motions.items():
        _draw_paths(_panel(next(panels), title, half_width), paths)
    for axis in panels:
        axis.set_visible(False)
    return figure


def _lattice(half_width):
    """Points [_PIXELS^2, 2] over the square, row by row upward."""
    line = np.linspace(-half_width, half_width, _PIXELS)
    return np.stack(np.meshgrid(line, line), -1).reshape(-1, 2)


def _panel(axis, title, half_width):
    axis.set(
        title=title,
        xlim=(-half_width, half_width),
        ylim=(-half_width, half_width),
        xticks=[-2, 0, 2],
        yticks=[-2, 0, 2],
        aspect="equal",
    )
    return axis


def _draw_paths(axis, paths):
    # Paths of many steps would hide each other.
    alpha = min(0.6, 6 / paths.shape[1])
    axis.plot(*paths.T, color=PALETTE[0], lw=0.5, alpha=alpha)
    axis.plot(*paths[:, 0].T, ".", color=PALETTE[5], ms=2)
    axis.plot(*paths[:, -1].T, ".", color=PALETTE[1], ms=2.5)
