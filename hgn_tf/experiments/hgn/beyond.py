"""Past the trained frames: new motions, 960 frames, a refined start, SyMetric.

Rows are presets and runs, and what they are read against. A table that was
stopped goes on where it was. Nothing is trained: all data are made anew from
their seeds, so no dataset is needed either.
"""

import dataclasses
import hashlib
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from hgn_tf import data, metrics, motions, presets, training
from hgn_tf.evaluation import LONG_FRAMES, Metric
from hgn_tf.experiments import runs, tables
from hgn_tf.experiments.hgn import train
from hgn_tf.experiments.hgn.config import SYSTEMS
from hgn_tf.experiments.hgn.table import by_model
from hgn_tf.experiments.runs import Result
from hgn_tf.files import write_whole
from hgn_tf.models.hgn import HGN
from hgn_tf.models.video import VideoModel
from hgn_tf.phase import PhaseState
from hgn_tf.viz import figures as plots

_NAME = "beyond"
_TRUE_LAW = "true_law"
# What the measures of drawn motions are read against.
CONTROLS = {
    _TRUE_LAW: "the true law, its state fitted",
    "data": "the data, as best drawn",
    "mean_image": "mean image",
    "frozen_frame": "frozen first frame",
    "shuffled_frames": "the data's frames, shuffled",
}
# Where drawn motions come from.
SOURCES = {
    "normal": "z ~ N(0, 1)",
    "learned": "learned prior",
    "inferred": "inferred from test videos",
}
_JUDGED = {
    "frames": Metric("frames that pass", form=".2f"),
    "motions": Metric("motions that pass", form=".2f"),
    "frame_error_e4": Metric("error left x 1e4, median", form=".2f"),
    "motion_distance": Metric("off a true motion, pixels", form=".2f"),
    "energy_distance": Metric("distance of energies", form=".2f"),
}
FAR_FRAMES = 960
_FAR = {
    "far_mse_e4": Metric("MSE x 1e4"),
    "far_mean_image_mse_e4": Metric("mean image", yardstick=True),
    "far_frames": Metric("frames that pass"),
    "far_energy_drift": Metric("drift of the true energy, spreads"),
    "far_energy_drift_of_truth": Metric("of true frames", yardstick=True),
}
SYMETRIC = {
    "symetric_r2": Metric("R^2 of the true state", form=".3f"),
    "symetric_sym": Metric("Sym", form=".3f"),
    "symetric": Metric("SyMetric", form=".0f"),
}
TWO_FORM = {
    "two_form_r2": Metric("R^2 of the learned state", form=".3f"),
    "two_form_defect": Metric("two-form, pulled back", form=".3f"),
}
# Kinds of start of a rollout, by what their keys begin with.
_STARTS = {"": "inferred", "refined_": "refined"}


def _long_key(start, frames):
    return f"{start}mse_e4_at_{frames}"


# What a row measures.
METRICS: dict[str, Metric] = {
    **{
        f"{source}_{name}": metric
        for source in SOURCES
        for name, metric in _JUDGED.items()
    },
    **{
        _long_key(start, frames): Metric(f"{frames} frames", form=".1f")
        for start in (*_STARTS, "mean_image_")
        for frames in LONG_FRAMES
    },
    **_FAR,
    **SYMETRIC,
    **TWO_FORM,
}
# Frames of a new motion: as long as the paper's videos.
_NUM_FRAMES = 30
# Examples of the split test from here on are in no dataset.
_FRESH = 1_000_000
_NUM_SHOWN = 4
_NUM_STATES = 1200  # of SyMetric
# Settings that the rows of a name differ in, over the systems.
_VARYING = ("source", "dataset", "stamp")
_FLOOR_SAMPLES, _LAW_SAMPLES = 8, 64


@dataclasses.dataclass(frozen=True)
class Config:
    """What a row is measured with.

    Attributes:
      source: Name of a preset, path of a run's folder, or key of CONTROLS.
      dataset: Name of the dataset.
      stamp: What tells one training of the source from another.
      seed: Seed of samples and of the learned prior.
      num_samples: Motions per prior.
      num_long: Videos of 240 frames.
      num_far: Videos of 960 frames.
      num_fitted: Training videos that a learned prior is fitted to, where the
        model has none.
      refine: Steps of refinement.
    """

    source: str
    dataset: str
    stamp: str = ""
    seed: int = 0
    num_samples: int = 64
    num_long: int = 40
    num_far: int = 8
    num_fitted: int = 3000
    refine: int = 20


def make_beyond(
    sources: Sequence[str] | None,
    results_dir: pathlib.Path,
    progress: Callable[[str], None] = lambda line: None,
    **changes,
) -> str:
    """Measures what is not done yet; writes beyond.md, JSON and pictures.

    Args:
      sources: Names of presets and folders of runs; None for all presets.
      results_dir: Folder of beyond.md and beyond/.
      progress: Called with a line after each row.
      **changes: Settings of Config for all rows.
    Returns: the table as Markdown.
    Raises: ValueError: if a source is neither, or no HGN of simulated videos;
      if two rows would have one name, or two configs of a system one table.
    """
    folder = results_dir / _NAME
    rows = list_rows(sources, **changes)
    there = [result.dataset for result in read_results(folder)]
    _check_configs([*(row.config.dataset for row in rows), *there], folder)

    def make(run, _):
        measures, costs = measure(run.config, folder / f"{run.name}.png")
        return Result(
            experiment=_NAME,
            model=run.model,
            dataset=run.config.dataset,
            seed=run.config.seed,
            budget=run.config.stamp,
            metrics=measures,
            config=runs.as_json(run.config),
            commit=runs.commit(),
            **costs,
        )

    for result in runs.run_table(rows, make, folder, folder, _VARYING):
        of_priors = {
            name: result.metrics.get(f"{name}_frames") for name in SOURCES
        }
        progress(f"{result.dataset} {result.model}: frames {of_priors}")
    text = format_beyond(read_results(folder))
    write_whole(results_dir / f"{_NAME}.md", text.encode("utf-8"))
    return text


def read_results(folder: pathlib.Path) -> list[Result]:
    """The results of rows in a folder, in the order of names."""
    return runs.read_results(folder, Config, _VARYING)


def list_rows(sources: Sequence[str] | None, **changes) -> list[runs.Run]:
    """The rows of a table, controls first; as in `make_beyond`."""
    rows: dict[str, runs.Run] = {}
    runs.check_settings(changes, Config)
    sources = sources or presets.list_presets()
    described = {source: _describe(source) for source in sources}
    _check_configs(dataset for dataset, _ in described.values())
    for source, (dataset, stamp) in described.items():
        family = dataset.partition("/")[0]
        if family not in data.DATASETS:
            raise ValueError(
                "Motions are judged by the true renderer and equations, which "
                f"recorded videos lack. Received: {source}, a run on {dataset}."
            )
        system, own_name = family.removeprefix("physics_"), _name_of(source)
        for name in (*CONTROLS, own_name):
            own = (source, stamp) if name == own_name else (name, "")
            config = Config(own[0], dataset, own[1], **changes)
            row = runs.Run(system, name, config)
            if rows.setdefault(row.name, row) != row:
                raise ValueError(
                    "Each row must have a name of its own. Received: "
                    f"{source} and {rows[row.name].config.source}."
                )
    return list(rows.values())


def _name_of(source):
    name = pathlib.Path(source).name
    if name in CONTROLS:
        raise ValueError(
            f"A row must not be named as a control, one of {list(CONTROLS)}. "
            f"Received: {source}; rename the folder."
        )
    return name


def _describe(source):
    """Dataset of a source, and what tells its training from another."""
    if source in presets.list_presets():
        card = presets.card(source)
        return card["dataset"], f"{card['budget']}, {card['commit']}"
    folder = pathlib.Path(source)
    config, model = train.load(folder)
    if not isinstance(model, HGN):
        raise ValueError(
            "New motions are drawn by an HGN. Received: "
            f"{source}, a {type(model).__name__}."
        )
    weights = hashlib.sha256((folder / "model.keras").read_bytes())
    stamp = f"{config.budget}, seed {config.seed}, {weights.hexdigest()[:12]}"
    return config.dataset, stamp


def _check_configs(datasets, folder=None):
    """A system has one config in a table: its controls are of that one."""
    first: dict[str, str] = {}
    for dataset in datasets:
        system = dataset.partition("/")[0]
        if first.setdefault(system, dataset) != dataset:
            raise ValueError(
                "The rows of a system must be of one config, as its controls "
                f"are. Received: {first[system]} and {dataset}"
                + (f", in {folder}" if folder else "")
                + "; give each config a command and a folder (--results)."
            )


def measure(
    config: Config, picture: pathlib.Path
) -> tuple[dict[str, float], dict[str, Any]]:
    """The measures of a row, and the cost of its training.

    Args:
      config: Settings of the row.
      picture: Place of the picture of samples. Frames far on, under the truth,
        go to the same name with "-far".
    """
    recipe = data.get_builder(config.dataset).recipe
    some = data.make_trajectories(recipe, "train", range(400))
    no_cost = dict(wall_seconds=0.0, cpu_seconds=0.0, peak_memory_mb=0.0)
    if config.source == _TRUE_LAW:
        return _of_true_law(config, recipe, some), no_cost
    if config.source in CONTROLS:
        video = _control(config, recipe, some)
        assert some.energy is not None  # of simulated videos it is known
        found = motions.judge(recipe, video, some.energy, recipe.dt)
        return {f"inferred_{k}": x for k, x in found.items()}, no_cost
    model, costs = _load(config.source)
    if model.prior is None:
        fitted = data.make_trajectories(
            recipe, "train", range(config.num_fitted)
        )
        model.fit_prior(fitted.video, seed=config.seed)
    test = data.make_trajectories(
        recipe, "test", range(_FRESH, _FRESH + config.num_samples)
    )
    return {
        **_new_motions(config, model, recipe, test, some.energy, picture),
        **_long(config, model, recipe, some),
        **_far(config, model, recipe, test, some, picture),
        **measure_symetric(model, test, config.seed),
    }, costs or no_cost


def _load(source):
    """Model and cost of a preset or of a run's folder."""
    names = ("wall_seconds", "cpu_seconds", "peak_memory_mb")
    if source in presets.list_presets():
        card = presets.card(source)
        return presets.load(source), {name: card[name] for name in names}
    _, model = train.load(pathlib.Path(source))
    log = training.read_log(pathlib.Path(source) / "log.csv")
    return model, runs.costs(log)


def _control(config, recipe, some):
    part = data.make_trajectories(
        recipe, "test", range(_FRESH, _FRESH + config.num_samples)
    )
    assert part.q is not None
    video = data.expected_frames_of(recipe, part.q)[0]
    if config.source == "mean_image":
        image = some.video.mean(axis=(0, 1)) / 255.0
        return np.broadcast_to(image, video.shape)
    if config.source == "frozen_frame":
        return np.broadcast_to(video[:, :1], video.shape)
    if config.source == "shuffled_frames":
        rng = np.random.default_rng(config.seed)
        return video[:, rng.permutation(video.shape[1])]
    return video


def _new_motions(config, model, recipe, test, energy, picture):
    """Measures of motions by the priors, and of inferred ones."""
    drawn = {
        prior: model.sample(
            config.num_samples, _NUM_FRAMES - 1, seed=config.seed, prior=prior
        ).video
        for prior in ("normal", "learned")
        if prior == "learned" or model.stochastic
    }
    path = model.rollout(model.infer(test.video), _NUM_FRAMES - 1)
    drawn["inferred"] = model.decode(path)
    found: dict[str, float] = {}
    shown: dict[str, np.ndarray] = {}
    for source, video in drawn.items():
        video = motions.shown(video.numpy())
        judged = motions.judge(recipe, video, energy, recipe.dt)
        found |= {f"{source}_{name}": x for name, x in judged.items()}
        shown |= {
            f"{source} {index + 1}": each
            for index, each in enumerate(video[:_NUM_SHOWN])
        }
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure = plots.film_strip(shown, 3, recipe.dt)
    plots.write_figure(picture, figure)
    return found


def _long(config, model, recipe, some):
    """Errors over the first frames of test_long, with and without refine."""
    long = data.make_trajectories(recipe, "test_long", range(config.num_long))
    errors = {"mean_image_": _image_error(long.video, some)}
    for start, refine in (("", 0), ("refined_", config.refine)):
        state = model.infer(long.video, refine)
        errors[start] = _error(model, state, long.video)
    return _long_errors(errors)


def _long_errors(errors):
    """Errors over the first frames, of errors [batch, time] by their start."""
    return {
        _long_key(start, count): 1e4 * float(error[:, :count].mean())
        for start, error in errors.items()
        for count in LONG_FRAMES
        if count <= error.shape[1]
    }


def _of_true_law(config, recipe, some):
    """As `_long`, by the true law from the state fitted to the frames."""
    long = data.make_trajectories(recipe, "test_long", range(config.num_long))
    seen = long.video[:, :_NUM_FRAMES] / np.float32(255.0)
    q = data.fitted_motions(recipe, seen, long.video.shape[1])
    known = np.isfinite(q).all(axis=(1, 2))
    # Of a motion that would collide nothing is known but the mean image.
    error = _image_error(long.video, some)
    drawn, variance = data.expected_frames_of(recipe, q[known], _LAW_SAMPLES)
    error[known] = metrics.pixel_mse_per_frame(
        long.video[known] / np.float32(255.0), np.clip(drawn, 0.0, 1.0)
    )
    # What so many samples are off by themselves.
    error[known] -= variance.mean(axis=(2, 3, 4)) / _LAW_SAMPLES
    return _long_errors({"": error})


def _far(config, model, recipe, test, some, picture):
    """Errors and true energies over 960 frames, against the true motion."""
    part = test[: config.num_far]
    times = recipe.dt * np.arange(FAR_FRAMES)
    truth = data.true_motion(recipe, part, times)
    video, variance = data.expected_frames_of(recipe, truth, _FLOOR_SAMPLES)
    # What so many samples are off by themselves.
    own = float(variance.mean()) / _FLOOR_SAMPLES
    path = model.rollout(model.infer(part.video), FAR_FRAMES - 1)
    drawn = motions.shown(model.decode(path).numpy())
    error = metrics.pixel_mse_per_frame(video, drawn)
    shown = {
        f"{name} {index + 1}": each[index]
        for index in range(min(_NUM_SHOWN, len(part.video)))
        for name, each in (("truth", video), ("model", drawn))
    }
    figure = plots.film_strip(shown, FAR_FRAMES // 16, recipe.dt)
    plots.write_figure(picture.with_stem(f"{picture.stem}-far"), figure)
    spread = float(np.std(some.energy))
    drift, frames = motions.energy_drift(
        recipe, drawn, part.energy, spread, recipe.dt
    )
    # What the reading itself leaves shows on clean frames.
    clean = dataclasses.replace(recipe, noise=0.0)
    sharp = data.expected_frames_of(clean, truth, 2)[0]
    of_truth, _ = motions.energy_drift(
        clean, sharp, part.energy, spread, recipe.dt
    )
    return {
        "far_mse_e4": 1e4 * (float(error.mean()) - own),
        "far_mean_image_mse_e4": 1e4
        * (float(_image_error(video, some).mean()) - own),
        "far_frames": frames,
        "far_energy_drift": drift,
        "far_energy_drift_of_truth": of_truth,
    }


def measure_symetric(
    model: VideoModel, test: data.Trajectories, seed: int
) -> dict[str, float]:
    """SyMetric of the states of rollouts, at random frames.

    Args:
      model: Trained model.
      test: Trajectories whose true states are known.
      seed: Seed of the frames.
    Returns: The measures in SYMETRIC, and of the two-form pulled back.
    """
    assert test.q is not None and test.p is not None
    path = model.rollout(model.infer(test.video), test.video.shape[1] - 1)
    count = test.q.shape[0] * test.q.shape[1]
    rows = np.random.default_rng(seed).permutation(count)[:_NUM_STATES]
    learned, truth = (
        [np.asarray(part).reshape(count, -1)[rows] for part in pair]
        for pair in (path, PhaseState(test.q, test.p))
    )
    if not all(np.isfinite(part).all() for part in learned):
        # A rollout that is lost carries no form.
        return dict.fromkeys(SYMETRIC | TWO_FORM, 0.0) | {
            "symetric_sym": 1.0,
            "two_form_defect": 1.0,
        }
    found = metrics.symetric(learned, truth, seed)
    back = metrics.two_form(learned, truth, seed)
    return {
        "symetric_r2": found.r2,
        "symetric_sym": found.sym,
        "symetric": found.passed,
        "two_form_r2": back.r2,
        "two_form_defect": back.defect,
    }


def _error(model: VideoModel, state: Any, video: np.ndarray) -> np.ndarray:
    path = model.rollout(state, video.shape[1] - 1)
    drawn = model.decode(path).numpy()
    return metrics.pixel_mse_per_frame(video / np.float32(255.0), drawn)


def _image_error(video, some):
    """Errors [batch, time] of the mean image of training videos."""
    if video.dtype == np.uint8:
        video = video / np.float32(255.0)
    image = (some.video.mean(axis=(0, 1)) / 255.0).astype(np.float32)
    return metrics.pixel_mse_per_frame(
        video, np.broadcast_to(image, video.shape)
    )


def format_beyond(results: Sequence[Result]) -> str:
    """Markdown of the results that are there.

    Args:
      results: Results of rows.
    """
    groups = by_model(results)
    parts = [
        "# Past the trained frames, and motions that nobody filmed",
        "Made by `hgn-tf table beyond`. Rows are presets, or the folders of "
        "runs that `--models` names.",
        "A number is of one seed. A row costs about a CPU-minute.",
        *_samples_part(groups),
        *_long_part(groups),
        *_far_part(groups),
        *_symetric_part(groups),
    ]
    return "\n\n".join(parts) + "\n"


def _systems(groups):
    """The paper's systems first, then others that are there."""
    there = dict.fromkeys(system for system, _ in groups)
    known = [system for system in SYSTEMS if system in there]
    return list(dict.fromkeys([*known, *there]))


def _models(groups):
    """(system, model, results) of the rows that are no controls."""
    return [
        (system, model, groups[of, model])
        for system in _systems(groups)
        for of, model in groups
        if of == system and model not in CONTROLS
    ]


def _samples_part(groups):
    first = motions.FRAME_ERROR * 1e4
    parts = [
        "## New motions",
        f"A frame passes if the best fit by the true renderer leaves at most "
        f"{first:g}e-4 per pixel. On noisy data the renderer draws the "
        "expected frame. A motion passes if nine tenths of its frames do and "
        f"a true motion stays within {motions.MOTION_DISTANCE:g} pixels of "
        f"it and within {motions.MOTION_SHARE:g} of its own spread, roots of "
        "the mean square over bodies and 30 frames. The distance of "
        "energies is Wasserstein's, in spreads of the data's; draws of the "
        "data have what the first row says. Rollouts from test videos show "
        "what the model could do with a perfect prior.",
    ]
    for system in _systems(groups):
        lines = [
            [title, *_cells(groups[system, name], "inferred")]
            for name, title in CONTROLS.items()
            if (system, name) in groups and name != _TRUE_LAW
        ]
        for of, model, results in _models(groups):
            if of != system:
                continue
            lines += [
                [f"{model}, {title}", *_cells(results, source)]
                for source, title in SOURCES.items()
                if f"{source}_frames" in results[0].metrics
            ]
        if lines:
            titles = [metric.title for metric in _JUDGED.values()]
            parts += [
                f"### {system}",
                tables.markdown_table(["motions", *titles], lines),
            ]
    return parts


def _cells(results, source):
    names = [f"{source}_{name}" for name in _JUDGED]
    return tables.cells(results, names, METRICS)


def _long_part(groups):
    seen = [_long_key("", frames) for frames in LONG_FRAMES]
    lines = [
        [
            system,
            CONTROLS[_TRUE_LAW],
            *tables.cells(groups[system, _TRUE_LAW], seen, METRICS),
        ]
        for system in _systems(groups)
        if (system, _TRUE_LAW) in groups
    ]
    for system, model, results in _models(groups):
        for start, title in {**_STARTS, "mean_image_": "mean image"}.items():
            keys = [_long_key(start, frames) for frames in LONG_FRAMES]
            lines.append(
                [
                    system,
                    f"{model}, {title}" if start != "mean_image_" else title,
                    *tables.cells(results, keys, METRICS),
                ]
            )
    titles = [f"MSE x 1e4, {frames} frames" for frames in LONG_FRAMES]
    return [
        "## A refined start",
        "Split test_long, all frames counted, with the data's noise. "
        "`infer(video, refine=20)` moves q and p by 20 steps down the "
        "gradient of the error of the frames seen. The true law starts from "
        "the true motion that is nearest, by least squares, to the places "
        f"that the first {_NUM_FRAMES} frames show. Noise hides the state, and "
        "errors of it grow: that is the scale of these errors, and no bound.",
        tables.markdown_table(["system", "start", *titles], lines),
    ]


def _far_part(groups):
    lines = [
        [system, model, *tables.cells(results, list(_FAR), METRICS)]
        for system, model, results in _models(groups)
    ]
    return [
        f"## {FAR_FRAMES} frames",
        "Against the expected frames of the true motion, two minutes of it. "
        "The drift is read off the drawn frames, positions by the known "
        "colours and velocities by differences: the median of |E - E_0| in "
        "spreads of the data's energy, at twelve places in time. Where frames "
        "do not pass, it tells little. That of true frames, clean ones, is "
        "what the reading itself leaves.",
        tables.markdown_table(
            ["system", "model", *tables.titles(list(_FAR), METRICS)], lines
        ),
    ]


def _symetric_part(groups):
    names = [*SYMETRIC, *TWO_FORM]
    lines = [
        [system, model, *tables.cells(results, names, METRICS)]
        for system, model, results in _models(groups)
    ]
    return [
        "## SyMetric",
        "R^2 of the true state as a polynomial of the learned one, and how far "
        "its Jacobian is from symplectic up to a factor. SyMetric is 1 if R^2 "
        "is above 0.9 and Sym below 0.05 (Higgins et al. 2021; departures are "
        "in `metrics.symetric`). A latent larger than the system counts along "
        "the axes that its states fill; where these form a thin and bent set, "
        "derivatives mean little. The last two columns go the other way, which "
        "is well posed: the learned state as a polynomial of the true one, and "
        "what is left of the learned two-form, pulled back, without a multiple "
        "of the true one (`metrics.two_form`): 0 for a symplectic map, 1 for "
        "none.",
        tables.markdown_table(
            ["system", "model", *tables.titles(names, METRICS)],
            lines,
        ),
    ]
