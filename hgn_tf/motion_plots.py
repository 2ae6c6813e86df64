"""The HGN paper's figures of motions: errors, energies and frames in time."""

import os
import pathlib
from collections.abc import Mapping

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from hgn_tf.animation import to_uint8, write_gif
from hgn_tf.plotting import (
    FIGURE_SIZE,
    LINES,
    OUTSIDE,
    PALETTE,
    STYLE,
    film_strip,
)


@matplotlib.rc_context(STYLE)
def rollout_errors(
    errors: Mapping[str, Mapping[str, np.ndarray]],
    energies: Mapping[str, Mapping[str, np.ndarray]],
    dt: float,
) -> Figure:
    """Figure 6: errors of single rollouts and the energies inferred in them.

    Args:
      errors: Split -> model -> pixel MSE of each frame, [time].
      energies: Split -> model -> learned energy along it, [time], in units
        that compare, such as spreads of the energy over trajectories.
      dt: Seconds between frames.
    Returns: Figure, a column a split.
    """
    width, height = FIGURE_SIZE
    figure = Figure(figsize=(1.9 * width, 1.9 * height))
    panels = figure.subplots(
        2, len(errors), squeeze=False, sharex=True, sharey="row"
    )
    for column, split in zip(panels.T, errors):
        for axis, curves in zip(column, (errors[split], energies[split])):
            for index, (model, curve) in enumerate(curves.items()):
                axis.plot(
                    np.arange(len(curve)) * dt,
                    curve,
                    LINES[index % len(LINES)],
                    color=PALETTE[index % len(PALETTE)],
                    label=model,
                )
        column[0].set_title(f"a rollout of the split {split}")
        column[0].set_yscale("log")
        column[1].set_xlabel("time (s)")
    panels[0, 0].set_ylabel("pixel MSE")
    panels[1, 0].set_ylabel("learned energy, less its mean\n(spreads)")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, ncols=3, loc=OUTSIDE)
    return figure


def rollout_speeds(
    truth: Mapping[str, np.ndarray],
    model: Mapping[str, np.ndarray],
    every: int = 3,
    dt: float | None = None,
) -> Figure:
    """Figure 7: forward, backward, double and half speed, truth above model.

    Args:
      truth: Name of a way to roll out -> video [time, height, width, 3].
      model: The same of the model.
      every: Shows each `every`-th frame.
      dt: Seconds between frames, of the clock of the one who looks on.
    Returns: Figure.
    """
    rows = {}
    for name, video in truth.items():
        rows[f"{name}, true"] = video
        rows[f"{name}, model"] = model[name]
    return film_strip(rows, every, dt)


def samples(
    videos: np.ndarray, every: int = 3, dt: float | None = None
) -> Figure:
    """Figure 8: motions from the prior.

    Args:
      videos: [samples, time, height, width, 3].
      every: Shows each `every`-th frame.
      dt: Seconds between frames.
    Returns: Figure, a row a sample.
    """
    rows = {f"sample {index + 1}": each for index, each in enumerate(videos)}
    return film_strip(rows, every, dt)


@matplotlib.rc_context(STYLE)
def showcase(
    truth: Mapping[str, np.ndarray],
    model: Mapping[str, np.ndarray],
    path: str | os.PathLike,
    fps: float = 10.0,
) -> pathlib.Path:
    """GIF of several ways to roll out, truth above model.

    Args:
      truth: Name of a way -> videos [n, time, height, width, 3].
      model: The same of the model.
      path: Where the GIF goes; whole or not at all.
      fps: Frames a second.
    Returns: the path.
    """
    count = len(next(iter(truth.values())))
    figure = Figure(figsize=(1.15 * count * len(truth) + 0.9, 2.7), dpi=100)
    canvas = FigureCanvasAgg(figure)
    columns = figure.subfigures(1, len(truth))
    shown = []
    for index, (column, way) in enumerate(zip(np.ravel(columns), truth)):
        column.suptitle(way)
        axes = column.subplots(2, count, squeeze=False)
        for row, videos in zip(axes, (truth[way], model[way])):
            for axis, video in zip(row, to_uint8(videos)):
                axis.set(xticks=[], yticks=[])
                axis.spines[:].set_visible(False)
                shown.append((axis.imshow(video[0]), video))
        if index == 0:
            axes[0, 0].set_ylabel("true")
            axes[1, 0].set_ylabel("model")
    frames = []
    for time in range(len(shown[0][1])):
        for image, video in shown:
            image.set_data(video[time])
        canvas.draw()
        frames.append(np.array(canvas.buffer_rgba())[..., :3])
    return write_gif(path, np.stack(frames), fps=fps, scale=1)


@matplotlib.rc_context(STYLE)
def patch_volumes(paths: Mapping[str, np.ndarray], every: int) -> Figure:
    """Figure 10: what becomes of a patch of phase space, and of its area.

    A symplectic integrator keeps the area (Liouville's theorem).

    Args:
      paths: Integrator -> the rim of the patch, a closed polygon in the plane
        of q and p, over time, [time, points, 2].
      every: Draws the patch at each `every`-th step.
    Returns: Figure, a panel an integrator and one of the areas.
    """
    width, height = FIGURE_SIZE
    figure = Figure(figsize=(width * 0.8 * (len(paths) + 1), height))
    *panels, areas = figure.subplots(1, len(paths) + 1)
    reach = 1.05 * max(np.abs(path).max() for path in paths.values())
    for index, (axis, (name, path)) in enumerate(zip(panels, paths.items())):
        for rim in path[::every]:
            axis.fill(*rim.T, color=PALETTE[index], alpha=0.45, lw=0)
        axis.set(title=name, xlabel="q", ylabel="p", aspect="equal")
        axis.set(xlim=(-reach, reach), ylim=(-reach, reach))
        area = polygon_area(path)
        look = {"color": PALETTE[index], "label": name}
        areas.plot(area / area[0], LINES[index % len(LINES)], **look)
    areas.set(xlabel="steps", ylabel="area, of the first", ylim=(0, None))
    areas.set_title("area of the patch")
    areas.legend()
    return figure


def polygon_area(rim: np.ndarray) -> np.ndarray:
    """Areas [...] of polygons [..., points, 2], by the shoelace formula."""
    x, y = rim[..., 0], rim[..., 1]
    crossed = x * np.roll(y, -1, axis=-1) - np.roll(x, -1, axis=-1) * y
    return np.abs(crossed.sum(axis=-1)) / 2
