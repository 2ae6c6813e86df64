"""Figures of runs: film strips, curves, energies, phase portraits.

Figures are matplotlib Figures that belong to no global state, so they draw
the same in a script, a test and a notebook. Colours are those of Okabe and
Ito, which colour-blind readers tell apart; lines differ in dashes as well.
Videos are [time, height, width, 3], uint8 or floats in [0, 1].
"""

import os
import pathlib
from collections.abc import Mapping

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from hgn_tf.animation import side_by_side, to_uint8, write_gif
from hgn_tf.principal import project

# Blue, vermilion, green, purple, orange, sky blue.
PALETTE = "#0072B2 #D55E00 #009E73 #CC79A7 #E69F00 #56B4E9".split()
INK = "#3b4046"
PANELS = {
    "loss": "loss",
    "reconstruction": "reconstruction",
    "kl": "KL (nats)",
    "geco_multiplier": "multiplier",
}
OUTSIDE = "outside upper center"
LINES = ("-", "--", "-.", ":")
# Small enough to be read at the width of a phone.
FIGURE_SIZE = (4.8, 3.2)
STYLE = {
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": matplotlib.cycler(color=PALETTE),
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "figure.constrained_layout.use": True,
}


@matplotlib.rc_context(STYLE)
def film_strip(
    rows: Mapping[str, np.ndarray], every: int = 1, dt: float | None = None
) -> Figure:
    """Frames side by side, one row a video, time from left to right.

    Args:
      rows: Label -> video [time, height, width, 3], of equal shapes.
      every: Shows each `every`-th frame.
      dt: Seconds between frames; None labels the frames by number.
    Returns: Figure.
    """
    rows = {label: to_uint8(video)[::every] for label, video in rows.items()}
    num_frames, height, width = next(iter(rows.values())).shape[:3]
    size = (0.6 + 0.62 * num_frames, 0.6 + 0.62 * len(rows) * height / width)
    axes = Figure(figsize=size).subplots(len(rows), squeeze=False)[:, 0]
    for axis, (label, video) in zip(axes, rows.items()):
        axis.imshow(side_by_side(video[:, None], gutter=1)[0], aspect="equal")
        axis.images[0].set_interpolation("none")
        axis.set_xticks([])
        axis.set_yticks([height / 2], [label])
        axis.tick_params(length=0)
        axis.spines[:].set_visible(False)
    step = every if dt is None else every * dt
    labels = [f"{index * step + 0.0:.3g}" for index in range(num_frames)]
    centres = np.arange(num_frames) * (width + 1) + width / 2
    axes[-1].set_xticks(centres, labels)
    axes[-1].set_xlabel("frame" if dt is None else "time (s)")
    return axes[0].figure


@matplotlib.rc_context(STYLE)
def training_curves(log: Mapping[str, np.ndarray]) -> Figure:
    """Losses and multiplier against the step, one panel each.

    Args:
      log: Column -> values, one a row of the training log; `step` or else
        `epoch` is the axis, a `val_` column joins its training column, and
        columns that are not there are left out.
    Returns: Figure.
    """
    panels = {name: label for name, label in PANELS.items() if name in log}
    axis_name = next((name for name in ("step", "epoch") if name in log), None)
    if not panels or axis_name is None:
        raise ValueError(
            "`log` must have `step` or `epoch`, and one of "
            f"{list(PANELS)}. Received: {sorted(log)}."
        )
    figure = Figure(figsize=(FIGURE_SIZE[0], 0.6 + 1.2 * len(panels)))
    axes = figure.subplots(len(panels), squeeze=False, sharex=True)[:, 0]
    marker = "." if len(log[axis_name]) < 30 else None
    for axis, (name, label) in zip(axes, panels.items()):
        for dashes, column in zip(LINES, (name, f"val_{name}")):
            if column in log:
                known = np.isfinite(log[column])  # Not every row is validated.
                x, y = log[axis_name][known], log[column][known]
                axis.plot(x, y, dashes, marker=marker)
        if np.nanmin(log[name]) > 0:
            _log_scale(axis)
        axis.set_ylabel(label)
    if any(name.startswith("val_") for name in log):
        lines = max((axis.lines for axis in axes), key=len)
        figure.legend(lines, ["training", "validation"], ncols=2, loc=OUTSIDE)
    axes[-1].set_xlabel(axis_name)
    figure.align_ylabels()
    return figure


@matplotlib.rc_context(STYLE)
def mse_curves(
    curves: Mapping[str, np.ndarray],
    dt: float,
    stderr: Mapping[str, np.ndarray] | None = None,
    num_inference_frames: int = 0,
) -> Figure:
    """Pixel MSE x 1e4 against time, on a log scale; zeros are not drawn.

    Args:
      curves: Label -> mean squared error of each frame, [time].
      dt: Seconds between frames.
      stderr: Label -> standard error of each frame, [time]; bands of one.
      num_inference_frames: Frames the model was given, shaded.
    Returns: Figure.
    """
    axis = Figure(figsize=FIGURE_SIZE).subplots()
    if num_inference_frames:
        end = (num_inference_frames - 0.5) * dt
        look = {"color": INK, "alpha": 0.12, "lw": 0}
        axis.axvspan(-dt / 2, end, label="frames given", **look)
    for index, (label, curve) in enumerate(curves.items()):
        curve = np.where(np.asarray(curve) > 0, curve, np.nan) * 1e4
        times = np.arange(len(curve)) * dt
        color = PALETTE[index % len(PALETTE)]
        dashes = LINES[index % len(LINES)]
        axis.plot(times, curve, dashes, color=color, label=label)
        if stderr and label in stderr:
            band = np.asarray(stderr[label]) * 1e4
            low = np.maximum(curve - band, curve / 10)
            axis.fill_between(times, low, curve + band, color=color, alpha=0.25)
    _log_scale(axis)
    axis.set_xlabel("time (s)")
    axis.set_ylabel("pixel MSE × 1e4")
    axis.figure.legend(ncols=3, loc=OUTSIDE)
    return axis.figure


@matplotlib.rc_context(STYLE)
def energy_curves(
    energies: Mapping[str, np.ndarray], dt: float, unit: str = "learned units"
) -> Figure:
    """Energy against time; flat where it is conserved.

    Args:
      energies: Label -> energy along rollouts, [num_trajectories, time].
      dt: Seconds between frames.
      unit: Unit of the energies; a learned energy has no physical one.
    Returns: Figure, one panel a label.
    """
    figure = Figure(figsize=FIGURE_SIZE)
    axes = figure.subplots(len(energies), squeeze=False, sharex=True)[:, 0]
    for axis, (label, energy) in zip(axes, energies.items()):
        times = np.arange(energy.shape[1]) * dt
        for index, curve in enumerate(energy):
            axis.plot(times, curve, LINES[index % len(LINES)])
        axis.set_title(label)
        axis.set_ylabel(f"energy ({unit})")
        _room_around(axis, energy)
    axes[-1].set_xlabel("time (s)")
    return figure


@matplotlib.rc_context(STYLE)
def energy_scatter(
    true: np.ndarray, learned: np.ndarray, r2: float, unit: str = "J"
) -> Figure:
    """Learned energy against the true one, a point a trajectory.

    Args:
      true: True energies, [num_trajectories], in `unit`.
      learned: Learned energies, [num_trajectories], up to offset and factor.
      r2: Squared correlation to print.
      unit: Unit of the true energies.
    Returns: Figure.
    """
    axis = Figure(figsize=FIGURE_SIZE, dpi=150).subplots()
    look = {"s": 10, "alpha": 0.7, "lw": 0, "rasterized": len(true) > 2000}
    axis.scatter(true, learned, **look)
    axis.set_title(f"R² = {r2:.3f}, {len(true)} trajectories")
    axis.set_xlabel(f"true energy ({unit})")
    axis.set_ylabel("energy (learned units)")
    return axis.figure


@matplotlib.rc_context(STYLE)
def phase_portrait(
    q: np.ndarray,
    p: np.ndarray,
    like: tuple[np.ndarray, np.ndarray] | None = None,
) -> Figure:
    """Trajectories in the plane of position and momentum.

    With more than one dimension, q and p are each projected on their own
    first principal component over all trajectories and times; its sign is
    arbitrary. A dot marks the start.

    Args:
      q: Positions, [num_trajectories, time, ...].
      p: Momenta of the same shape.
      like: q and p whose components are drawn instead: portraits that are to
        be compared need the same ones. None for those of the arguments.
    Returns: Figure.
    """
    q_like, p_like = like or (q, p)
    q, q_label = project(q, q_like, "q")
    p, p_label = project(p, p_like, "p")
    axis = Figure(figsize=FIGURE_SIZE).subplots()
    for index, (q_path, p_path) in enumerate(zip(q, p)):
        color = PALETTE[index % len(PALETTE)]
        axis.plot(q_path, p_path, LINES[index % len(LINES)], color=color)
        axis.plot(q_path[0], p_path[0], "o", color=color)
    axis.set_xlabel(q_label)
    axis.set_ylabel(p_label)
    return axis.figure


@matplotlib.rc_context(STYLE)
def preview(
    video: np.ndarray,
    energy: np.ndarray,
    time: np.ndarray,
    path: str | os.PathLike,
    fps: float = 8.0,
    unit: str = "J",
) -> pathlib.Path:
    """GIF of trajectories over their energies, with a cursor moving in time.

    Args:
      video: [num_trajectories, time, height, width, 3]; the first four show.
      energy: [num_trajectories, time], in `unit`.
      time: [time], in seconds.
      path: Where the GIF goes; whole or not at all.
      fps: Frames a second.
      unit: Unit of the energies.
    Returns: The path.
    """
    video, energy = to_uint8(video[:4]), np.asarray(energy[:4])
    figure = Figure(figsize=(1.6 * max(len(video), 2), 3.2), dpi=100)
    canvas = FigureCanvasAgg(figure)
    names = [f"film{index}" for index in range(len(video))]
    axes = figure.subplot_mosaic(
        [names, ["energy"] * len(names)], height_ratios=[1.3, 1]
    )
    for index, name in enumerate(names):
        axes[name].imshow(video[index, 0], interpolation="nearest")
        axes[name].set(xticks=[], yticks=[])
        axes[name].spines[:].set(visible=True, color=PALETTE[index], lw=2)
        axes["energy"].plot(time, energy[index], LINES[index])
    axes["energy"].set(xlabel="time (s)", ylabel=f"energy ({unit})")
    _room_around(axes["energy"], energy)
    cursor = axes["energy"].axvline(time[0], color=INK, lw=1)
    frames = []
    for index, now in enumerate(time):
        cursor.set_xdata([now, now])
        for trajectory, name in enumerate(names):
            axes[name].images[0].set_data(video[trajectory, index])
        canvas.draw()
        frames.append(np.array(canvas.buffer_rgba())[..., :3])
    return write_gif(path, np.stack(frames), fps=fps, scale=1)


def _log_scale(axis):
    """Logarithmic y axis with plain numbers at 1, 2, 5, 10."""
    axis.set_yscale("log")
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=8))
    axis.yaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_minor_formatter(NullFormatter())


def _room_around(axis, values):
    """Limits around all values; noise on a constant does not fill the axis."""
    low, high = np.nanmin(values), np.nanmax(values)
    span = max(high - low, 0.02 * max(abs(low), abs(high)), 1e-12)
    middle = (low + high) / 2
    axis.set_ylim(middle - 0.65 * span, middle + 0.65 * span)
