"""Figures of runs: film strips, curves, energies, phase portraits.

Figures are matplotlib Figures that belong to no global state, so they draw
the same in a script, a test and a notebook. Colours are those of Okabe and
Ito, which colour-blind readers tell apart; lines differ in dashes as well.
Videos are [time, height, width, 3], or 1 in the place of 3 in grey, uint8 or
floats in [0, 1].
"""

import io
import os
import pathlib
from collections.abc import Mapping
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter

from hgn_tf.files import write_whole
from hgn_tf.viz.gif import side_by_side, to_rgb, write_gif

# Blue, vermilion, green, purple, orange, sky blue.
PALETTE = "#0072B2 #D55E00 #009E73 #CC79A7 #E69F00 #56B4E9".split()
INK = "#3b4046"
# What a memory of the frames fails at and what q fills, then all else; errors
# are x 1e4.
LAW_PANELS = {
    "energy_r2": "energy R^2",
    "energy_rank": "energy rank",
    "backward_mse_e4": "backward error",
    "far_mse_e4": "frames 31-60",
    "kl": "KL (nats)",
    "directions": "directions of q",
}
PANELS = {
    "reconstruction": "reconstruction",
    "agreement": "disagreement",
    "positions": "misplacement",
    "isometry": "unevenness",
    "low_rank": "spare directions",
    "loss": "loss",
    "geco_multiplier": "multiplier",
}
OUTSIDE = "outside upper center"
LINES = ("-", "--", "-.", ":")
# Small enough to be read at the width of a phone.
FIGURE_SIZE = (4.8, 3.2)
_PIXELS = 80  # of a density panel's side
_PANEL = 2.1  # inches
_FIELD = 2.4  # inches, of the panel of a field or an orbit
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


def write_figure(
    path: str | os.PathLike, figure: Figure, dpi: int = 100, **kwargs
) -> pathlib.Path:
    """Writes a figure, whole or not at all.

    Args:
      path: Place of the picture, whose suffix says its format.
      figure: Figure.
      dpi: Dots per inch.
      **kwargs: Further arguments of `Figure.savefig`.
    Returns: The path.
    """
    data = io.BytesIO()
    suffix = pathlib.Path(path).suffix
    figure.savefig(data, format=suffix[1:].lower(), dpi=dpi, **kwargs)
    return write_whole(path, data.getvalue())


@matplotlib.rc_context(STYLE)
def film_strip(
    rows: Mapping[str, np.ndarray], every: int = 1, dt: float | None = None
) -> Figure:
    """Frames side by side, one row per video, time from left to right.

    Args:
      rows: Label -> video [time, height, width, 3 or 1], of equal shapes.
      every: Distance in frames between two that are shown.
      dt: Seconds between frames; None labels the frames by number.
    Returns: Figure.
    """
    rows = {label: to_rgb(video)[::every] for label, video in rows.items()}
    num_frames, height, width = next(iter(rows.values())).shape[:3]
    size = (0.6 + 0.62 * num_frames, 0.6 + 0.62 * len(rows) * height / width)
    axes = Figure(figsize=size).subplots(len(rows), squeeze=False)[:, 0]
    for axis, (label, video) in zip(axes, rows.items()):
        strip = side_by_side(list(video[:, None]), gutter=1)[0]
        axis.imshow(strip, aspect="equal")
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
def training_curves(
    log: Mapping[str, np.ndarray], panels: Mapping[str, str] = PANELS
) -> Figure:
    """Columns of a training log against the step, one panel each.

    Args:
      log: Column -> values, one per row of the training log. The axis is
        `step`, or else `epoch`. A `val_` column joins its training column.
        Columns that are missing are left out.
      panels: Column -> label, PANELS or LAW_PANELS.
    Returns: Figure.
    """
    wanted = list(panels)
    panels = {
        name: label
        for name, label in panels.items()
        if name in log or f"val_{name}" in log
    }
    axis_name = next((name for name in ("step", "epoch") if name in log), None)
    if not panels or axis_name is None:
        raise ValueError(
            "`log` must have `step` or `epoch`, and one of "
            f"{wanted}. Received: {sorted(log)}."
        )
    figure = Figure(figsize=(FIGURE_SIZE[0], 0.6 + 1.2 * len(panels)))
    axes = figure.subplots(len(panels), squeeze=False, sharex=True)[:, 0]
    marker = "." if len(log[axis_name]) < 30 else None
    for axis, (name, label) in zip(axes, panels.items()):
        for color, dashes, column in zip(PALETTE, LINES, (name, f"val_{name}")):
            if column in log:
                known = np.isfinite(log[column])  # Not every row is validated.
                x, y = log[axis_name][known], log[column][known]
                axis.plot(x, y, dashes, color=color, marker=marker)
        lowest = min(np.nanmin(line.get_ydata()) for line in axis.lines)
        if lowest > 0 and not name.startswith("energy_"):
            _log_scale(axis)
        axis.set_ylabel(label)
    if any(name.startswith("val_") for name in log):
        lines = [
            Line2D([], [], ls=dashes, color=color)
            for dashes, color in zip(LINES[:2], PALETTE)
        ]
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
      stderr: Label -> standard error of each frame, [time], drawn as a band.
      num_inference_frames: Number of frames the model was given, shaded.
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
    Returns: Figure, one panel per label.
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
    """Learned energy against the true one, one point per trajectory.

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
    first principal component over all trajectories and times. The sign of a
    component is arbitrary. A dot marks the start.

    Args:
      q: Positions, [num_trajectories, time, ...].
      p: Momenta of the same shape.
      like: Pair (q, p) whose principal components are used instead, so that
        portraits can be compared. None uses those of the arguments.
    Returns: Figure.
    """
    q_like, p_like = like or (q, p)
    q, q_label = _project(q, q_like, "q")
    p, p_label = _project(p, p_like, "p")
    axis = Figure(figsize=FIGURE_SIZE).subplots()
    for index, (q_path, p_path) in enumerate(zip(q, p)):
        color = PALETTE[index % len(PALETTE)]
        axis.plot(q_path, p_path, LINES[index % len(LINES)], color=color)
        axis.plot(q_path[0], p_path[0], "o", color=color)
    axis.set_xlabel(q_label)
    axis.set_ylabel(p_label)
    return axis.figure


@matplotlib.rc_context(STYLE)
def vector_fields(
    q: np.ndarray,
    p: np.ndarray,
    fields: Mapping[str, tuple[np.ndarray, np.ndarray]],
    paths: Mapping[str, tuple[np.ndarray, np.ndarray]] | None = None,
) -> Figure:
    """Arrows of dq/dt, dp/dt over the plane of q and p, one panel per field.

    Args:
      q: Positions of a lattice, [rows, columns].
      p: Momenta of the lattice, of the same shape.
      fields: Label -> pair (dq_dt, dp_dt) at the lattice.
      paths: Label -> pair (q, p) of trajectories [num_trajectories, time] that
        are drawn over the arrows. None draws none.
    Returns: Figure, all arrows on one scale.
    """
    figure = Figure(figsize=(_FIELD * len(fields), _FIELD + 0.3))
    axes = figure.subplots(1, len(fields), squeeze=False, sharey=True)[0]
    # The axes have units of their own: speeds count in cells of the lattice,
    # and the fastest arrow is as long as one.
    cell = np.ptp(q) / (q.shape[1] - 1), np.ptp(p) / (p.shape[0] - 1)
    arrows = {
        label: [part / size for part, size in zip(field, cell)]
        for label, field in fields.items()
    }
    fastest = max(np.hypot(*each).max() for each in arrows.values())
    look = {"scale": q.shape[1] * fastest, "scale_units": "width"}
    for axis, (label, field) in zip(axes, arrows.items()):
        axis.quiver(q, p, *field, color=INK, width=0.006, **look)
        for index, path in enumerate(zip(*(paths or {}).get(label, ()))):
            axis.plot(*path, color=PALETTE[index % len(PALETTE)])
        axis.set(title=label, xlabel="q")
        axis.set(xlim=(q.min(), q.max()), ylim=(p.min(), p.max()))
    axes[0].set_ylabel("p")
    return figure


@matplotlib.rc_context(STYLE)
def orbits(
    paths: Mapping[str, np.ndarray],
    path: str | os.PathLike,
    tail: int = 20,
    fps: float = 15.0,
) -> pathlib.Path:
    """GIF of bodies in the plane, one panel per label.

    Args:
      paths: Label -> positions [time, bodies, 2], of equal length. The first
        sets the scale: what flies off leaves the panel.
      path: Place of the GIF, which is written whole or not at all.
      tail: Number of frames that a body's trace is seen.
      fps: Frames per second.
    Returns: The path.
    """
    figure = Figure(figsize=(_FIELD * len(paths), _FIELD + 0.3), dpi=70)
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(paths), squeeze=False)[0]
    first = next(iter(paths.values()))
    reach = 1.3 * np.abs(first).max()
    lines = []
    for axis, (label, bodies) in zip(axes, paths.items()):
        axis.set(title=label, xticks=[], yticks=[], aspect="equal")
        axis.set(xlim=(-reach, reach), ylim=(-reach, reach))
        axis.spines[:].set_visible(True)
        for index, body in enumerate(np.moveaxis(bodies, 1, 0)):
            color = PALETTE[index % len(PALETTE)]
            (trace,) = axis.plot([], [], color=color)
            (dot,) = axis.plot([], [], "o", color=color)
            lines.append((trace, dot, body))
    frames = []
    for time in range(len(first)):
        for trace, dot, body in lines:
            trace.set_data(*body[max(0, time - tail) : time + 1].T)
            dot.set_data(*body[time : time + 1].T)
        canvas.draw()
        frames.append(np.array(canvas.buffer_rgba())[..., :3])
    return write_gif(path, np.stack(frames), fps=fps, scale=1)


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
      video: [num_trajectories, time, height, width, 3 or 1]; the first four
        show.
      energy: [num_trajectories, time], in `unit`.
      time: [time], in seconds.
      path: Place of the GIF, which is written whole or not at all.
      fps: Frames per second.
      unit: Unit of the energies.
    Returns: The path.
    """
    video = np.stack([to_rgb(each) for each in video[:4]])
    energy = np.asarray(energy[:4])
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


@matplotlib.rc_context(STYLE)
def rollout_errors(
    errors: Mapping[str, Mapping[str, np.ndarray]],
    energies: Mapping[str, Mapping[str, np.ndarray]],
    dt: float,
) -> Figure:
    """Figure 6: errors of single rollouts and the energies inferred in them.

    Args:
      errors: Split -> model -> pixel MSE of each frame, [time].
      energies: Split -> model -> learned energy along the rollout, [time], in
        units that compare, such as spreads of the energy over trajectories.
      dt: Seconds between frames.
    Returns: Figure, one column per split.
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
      truth: Name of a way to roll out -> true video [time, height, width, 3].
      model: Name of a way to roll out -> the model's video.
      every: Distance in frames between two that are shown.
      dt: Seconds between frames on the viewer's clock.
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
      videos: Videos [samples, time, height, width, 3].
      every: Distance in frames between two that are shown.
      dt: Seconds between frames.
    Returns: Figure, one row per sample.
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
      truth: Name of a way to roll out -> true videos [n, time, height, width,
        3].
      model: Name of a way to roll out -> the model's videos.
      path: Place of the GIF, which is written whole or not at all.
      fps: Frames per second.
    Returns: The path.
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
            for axis, video in zip(row, map(to_rgb, videos)):
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
    """Figure 10: a patch of phase space and its area over time.

    A symplectic integrator keeps the area (Liouville's theorem).

    Args:
      paths: Integrator -> rim of the patch over time, a closed polygon in the
        plane of q and p, [time, points, 2].
      every: Distance in steps between two patches that are drawn.
    Returns: Figure, one panel per integrator and one for the areas.
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


def kernel_density(
    points: np.ndarray, at: np.ndarray, bandwidth: float
) -> np.ndarray:
    """Mean of round Gaussians of standard deviation `bandwidth`.

    Args:
      points: Centres of the Gaussians, [n, 2].
      at: Points where the density is wanted, [m, 2].
      bandwidth: Standard deviation of a Gaussian.
    Returns: Density at the points, [m].
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
      samples: Title -> points [n, 2], shown as their kernel density, all on
        one colour scale.
      energies: Title -> values on a square lattice [m, m] over the panel, the
        first axis upward, each on its own colour scale, bright where low.
      motions: Title -> paths [n, steps, 2], from a blue to a red dot.
      half_width: Half the side of a panel, which is centred at 0.
      marks: Points [k, 2] to mark in the panel of the last energy.
      bandwidth: Standard deviation of the kernel density.
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


class PrincipalLine(NamedTuple):
    """The line through the mean of values along which they vary most.

    Attributes:
      mean: Mean of the values, [...].
      direction: Unit vector along the line, [...]; its sign is arbitrary.
      spread: Standard deviation of the values along the line.
      share: Fraction of the variance that lies along the line.
    """

    mean: np.ndarray
    direction: np.ndarray
    spread: float
    share: float

    def at(self, places: np.ndarray) -> np.ndarray:
        """Values [n, ...] at places [n] from the mean."""
        return self.mean + np.multiply.outer(places, self.direction)

    def read(self, values: np.ndarray) -> np.ndarray:
        """Places [n, time] of values [n, time, ...]."""
        offset = np.asarray(values, np.float64) - self.mean
        return np.tensordot(offset, self.direction, self.direction.ndim)


def principal_line(values: np.ndarray) -> PrincipalLine:
    """The PrincipalLine of values [n, time, ...]."""
    shape = values.shape[2:]
    rows = np.asarray(values, np.float64).reshape(-1, np.prod(shape, dtype=int))
    mean = rows.mean(axis=0)
    _, scales, directions = np.linalg.svd(rows - mean, full_matrices=False)
    return PrincipalLine(
        mean.reshape(shape),
        directions[0].reshape(shape),
        scales[0] / np.sqrt(len(rows)),
        scales[0] ** 2 / max(np.sum(scales**2), np.finfo(float).tiny),
    )


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


def _project(
    values: np.ndarray, like: np.ndarray, name: str
) -> tuple[np.ndarray, str]:
    """Places on the principal line of others, and what to call that axis.

    Args:
      values: Values [n, time, ...]; with one dimension they are the places.
      like: Values whose principal line is used, of the same dimensions.
      name: Name of the values, for the label.
    Returns: Places [n, time], and a label.
    """
    if np.prod(values.shape[2:], dtype=int) == 1:
        return np.reshape(values, values.shape[:2]), name
    line = principal_line(like)
    label = f"{name}, first component ({line.share:.0%} of variance)"
    return line.read(values), label
