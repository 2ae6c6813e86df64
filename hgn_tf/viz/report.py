"""The page of a run: one self-contained report.html, from its files alone.

Figures are inlined as SVG, animations as sheets of frames that a few lines of
script play; the page loads nothing.
"""

import csv
import io
import json
import math
import os
import pathlib
import re

import jinja2
import markupsafe
import matplotlib
import numpy as np

from hgn_tf.evaluation import METRICS, SPEEDS, YARDSTICKS, error_key
from hgn_tf.files import read_arrays, write_whole
from hgn_tf.viz import figures
from hgn_tf.viz.gif import data_uri, frame_sheet, side_by_side

FILES = {
    "config.json": "hgn-tf train",
    "log.csv": "hgn-tf train",
    "metrics.json": "hgn-tf evaluate {run}",
    "evaluation.npz": "hgn-tf evaluate {run}",
}
ARRAYS = ("per_frame_model", "truth_forward", "model_forward", "dt")
CURVES = {"model": "model", **YARDSTICKS}
MAX_STRIP_FRAMES = 6


def write_report(run_dir: str | os.PathLike, command: str = "") -> pathlib.Path:
    """Writes report.html into a run's folder and returns its path.

    Args:
      run_dir: Folder of a run that has been trained and evaluated.
      command: Command that trains the run again, shown on the page.
    Returns: Path of the page, which is there whole or not at all.
    Raises: ValueError: if a file or an array is missing or cannot be read,
      with the command that makes it.
    """
    run_dir = pathlib.Path(run_dir)
    config, log, results, arrays = _read_run(run_dir)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("hgn_tf.viz"),
        autoescape=True,
        trim_blocks=True,
    )
    environment.filters["number"] = _number
    metrics = results["metrics"]
    page = environment.get_template("report.html.jinja").render(
        run=run_dir.resolve().name,
        run_dir=str(run_dir),
        command=command,
        results=results,
        config=config,
        metrics=metrics,
        bars=_bars(metrics, "test"),
        long_bars=_bars(metrics, "long"),
        readings=_readings(metrics),
        motions=_motions(arrays, metrics),
        samples=_samples(arrays, "samples"),
        samples_learned=_samples(arrays, "samples_learned"),
        figures=_figures(arrays, metrics, log),
    )
    return write_whole(run_dir / "report.html", page.encode("utf-8"))


def _read_run(run_dir):
    """Config, log, results and arrays of a run, each checked."""
    for name, command in FILES.items():
        if not (run_dir / name).is_file():
            raise ValueError(
                f"`run_dir` must hold {name}, which "
                f"`{command.format(run=run_dir)}` writes. "
                f"Received: {run_dir}, which does not."
            )
    config = _parse(run_dir, "config.json", _read_json)
    results = _parse(run_dir, "metrics.json", _read_results)
    arrays = _parse(run_dir, "evaluation.npz", _read_arrays)
    return config, _parse(run_dir, "log.csv", _read_log), results, arrays


def _parse(run_dir, name, read):
    """read(path), or ValueError with the command that makes the file anew."""
    try:
        return read(run_dir / name)
    except (ValueError, KeyError, TypeError, csv.Error) as error:
        command = FILES[name].format(run=run_dir)
        raise ValueError(
            f"{name} must be what `{command}` writes. "
            f"Received: {run_dir / name}, {type(error).__name__}: {error}"
        ) from error


def _read_json(path):
    return dict(json.loads(path.read_text("utf-8")))


def _read_results(path):
    """metrics.json, its numbers as floats; null is left out."""
    results = _read_json(path)
    metrics = results["metrics"].items()
    known = {name: float(x) for name, x in metrics if x is not None}
    return {**results, "metrics": known}


def _read_arrays(path):
    """evaluation.npz as a dict."""
    arrays = read_arrays(path)
    missing = [name for name in ARRAYS if name not in arrays]
    if missing:
        raise ValueError(f"arrays missing: {missing}")
    return arrays


def _read_log(path):
    """Columns of the training log; what is no number is NaN."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if not rows:
        raise ValueError("no rows")
    columns = {
        name: np.array([_as_float(row.get(name)) for row in rows])
        for name in rows[0]
        if name
    }
    return {name: x for name, x in columns.items() if np.isfinite(x).any()}


def _as_float(text):
    try:
        return float(text)
    except (TypeError, ValueError):
        return math.nan


def _bars(metrics, part):
    """Label, MSE x 1e4, share of the largest, for the model and yardsticks."""
    keys = {label: error_key(name, part) for name, label in CURVES.items()}
    found = {k: metrics[key] for k, key in keys.items() if key in metrics}
    largest = max([x for x in found.values() if np.isfinite(x)], default=0)
    return [
        {
            "label": label,
            "value": value,
            "stderr": metrics.get(f"{keys[label]}_stderr"),
            "percent": 100 * value / largest if largest > 0 else 0,
        }
        for label, value in found.items()
        if np.isfinite(value)
    ]


def _readings(metrics):
    """A line for each main number: title, value, error, what it is beside."""
    return [
        {
            "title": metric.title,
            "yardstick": metric.yardstick,
            "value": metrics[name],
            "stderr": metrics.get(f"{name}_stderr"),
            "note": metric.note,
        }
        for name, metric in METRICS.items()
        if metric.is_shown(metrics) and name in metrics
    ]


def _motions(arrays, metrics):
    """A film strip and a player for each motion that was evaluated."""
    motions = []
    for name, speed in SPEEDS.items():
        if f"model_{name}" not in arrays:
            continue
        truth, model = arrays[f"truth_{name}"], arrays[f"model_{name}"]
        dt = float(arrays["dt"]) * speed.factor
        every = max(1, math.ceil(truth.shape[1] / MAX_STRIP_FRAMES))
        above = "truth" if error_key("noise_floor") in metrics else "recorded"
        strip = figures.film_strip(
            {above: truth[0], "model": model[0]}, every=every, dt=dt
        )
        rows = [side_by_side(truth), side_by_side(model)]
        given = int(arrays.get("num_inference_frames", 0))
        motions.append(
            {
                "name": name,
                "title": speed.title.capitalize(),
                "mse": metrics.get(
                    speed.metric, metrics.get(f"recorded_{speed.metric}")
                ),
                "strip": _svg(strip),
                "player": _player(rows, dt, given if name == "forward" else 0),
            }
        )
    return motions


def _samples(arrays, name):
    """A player of generated videos, or None."""
    if name not in arrays:
        return None
    samples = arrays[name][:8]
    half = math.ceil(len(samples) / 2)
    rows = [samples] if len(samples) % 2 else [samples[:half], samples[half:]]
    rows = [side_by_side(row) for row in rows]
    return _player(rows, float(arrays["dt"]), 0)


def _player(rows, dt, given):
    """Rows of one video as a sheet of frames, and what its script needs."""
    video = side_by_side(rows, vertical=True)
    num_frames, height, width = video.shape[:3]
    png, columns = frame_sheet(video)
    return {
        "source": data_uri(png),
        "frames": num_frames,
        "columns": columns,
        "width": width,
        "height": height,
        "dt": dt,
        "given": given,
    }


def _law(log):
    """The curves of what a memory fails at, if they were measured."""
    if not any(f"val_{name}" in log for name in figures.LAW_PANELS):
        return {}
    return {"law": figures.training_curves(log, figures.LAW_PANELS)}


def _figures(arrays, metrics, log):
    """Name -> inline SVG, of each figure that the arrays allow."""
    dt = float(arrays["dt"])
    given = int(arrays.get("num_inference_frames", 0))
    drawn = {
        "training": figures.training_curves(log),
        **_law(log),
        "per_frame": figures.mse_curves(
            _curves(arrays, "per_frame_"),
            dt,
            {
                label: arrays[f"per_frame_{name}_stderr"]
                for name, label in CURVES.items()
                if f"per_frame_{name}_stderr" in arrays
            },
            given,
        ),
    }
    if "long_model" in arrays:
        curves = _curves(arrays, "long_")
        drawn["long"] = figures.mse_curves(curves, dt, None, given)
    if "learned_energy_along" in arrays:
        along = arrays["learned_energy_along"][:6]
        drawn["energy_along"] = figures.energy_curves(
            {f"{len(along)} rollouts of the model": along}, dt
        )
    if "energy_true" in arrays and "energy_learned" in arrays:
        drawn["energy_scatter"] = figures.energy_scatter(
            arrays["energy_true"],
            arrays["energy_learned"],
            metrics.get("energy_r2", math.nan),
        )
    if "latent_q" in arrays and "latent_p" in arrays:
        drawn["phase"] = figures.phase_portrait(
            arrays["latent_q"][:6], arrays["latent_p"][:6]
        )
    return {name: _svg(figure) for name, figure in drawn.items()}


def _curves(arrays, prefix):
    """Label -> curve, of the curves that are there."""
    return {
        label: arrays[prefix + name]
        for name, label in CURVES.items()
        if prefix + name in arrays
    }


def _svg(figure):
    """A figure as inline SVG, in the colours of the page around it."""
    text = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        figure.savefig(text, format="svg", transparent=True)
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :].replace(figures.INK, "currentColor")
    svg = svg.replace(figures.PALETTE[0].lower(), "var(--accent)")
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:xlink)?="[^"]*"', "", svg)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    return markupsafe.Markup(svg)


def _number(x):
    """Four significant digits of a number; other values as they are."""
    return f"{x:.4g}" if isinstance(x, float) else str(x)
