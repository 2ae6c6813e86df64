"""The commands of videos: data, HGN and pixel HNN, table 1, figures."""

import argparse
import functools
import math
import pathlib
import re
import sys
from collections.abc import Callable

import numpy as np
import tensorflow_datasets as tfds
from matplotlib.figure import Figure

import tfds_physics
from hgn_tf import data, evaluation, files, presets, replicas
from hgn_tf.experiments import runs
from hgn_tf.experiments.hgn import beyond, figures, own, study, train
from hgn_tf.experiments.hgn.config import (
    BUDGETS,
    DATASETS,
    Config,
    check_own_videos,
    make_config,
    of_form,
)
from hgn_tf.experiments.hgn.table import in_budget, make_tables
from hgn_tf.experiments.hnn import train as hnn_train
from hgn_tf.experiments.hnn.config import PIXEL_TASKS
from hgn_tf.experiments.hnn.measures import as_video
from hgn_tf.experiments.hnn.truth import load_truth
from hgn_tf.models.hgn import HGN
from hgn_tf.phase import PhaseState, add_energy
from hgn_tf.viz import explore
from hgn_tf.viz import figures as plots
from hgn_tf.viz.gif import GUTTER, side_by_side, to_uint8, write_gif

_DEMO = ("physics_pendulum/small_clean", "demo", "runs/demo")
_SHOWN = 2  # trajectories of the showcase
_SHOWN_SPEEDS = ("forward", "backward", "double")
# Examples of the split test from here on are in no dataset.
_FRESH = 1_000_000
# What a GIF is made of, and how far the true motion is followed for it: what
# is far above takes all memory, or no end.
_MOST_FRAMES = 4000
_FARTHEST = 1000  # in frames of the dataset
# The budgets of a run that names none: on a dataset, and on your own videos.
_BUDGET, _OWN_BUDGET = "flat", "demo"
# Options of your own videos: name, type, meaning.
_OWN = (
    ("image_size", str, "height x width such as 48x64, or one number"),
    ("channels", int, "3 for colour, 1 for grey"),
    ("fps", float, "frames per second, instead of what the files say"),
    ("stride", int, "keep every so many frames"),
    ("clip_frames", int, "frames per clip"),
    ("overlap", int, "frames that clips of train share"),
    ("fit", str, "letterbox (default) or crop, to another shape of frames"),
    ("split_seed", int, "seed of the splits"),
)
_SHEET_ROWS, _SHEET_COLUMNS = 6, 10
# Test videos whose learned energies have the spread that --add-energy counts.
_ENERGIES = 32


def add(
    command: Callable[..., argparse.ArgumentParser],
    table: Callable[..., argparse.ArgumentParser],
) -> None:
    """Adds them to the command line.

    Args:
      command: Callable (name, function, description) -> its parser.
      table: The same for `hgn-tf table`.
    """

    def of_a_model(name, run, description, suffixes=(".gif",)):
        sub = command(name, run, description)
        sub.add_argument("model", metavar="RUN_OR_PRESET")
        return writing(sub, suffixes)

    def writing(sub, suffixes):
        """Gives a command the place of its file, checked before it runs."""
        sub.set_defaults(suffixes=suffixes)
        sub.add_argument(
            "--out",
            type=pathlib.Path,
            required=True,
            metavar="FILE" + suffixes[0],
        )
        return sub

    command(
        "datasets",
        _datasets,
        "list the datasets and their sizes",
        data_dir=True,
    )

    sub = command(
        "train", _train, "train an HGN, or go on where it was", data_dir=True
    )
    sub.add_argument(
        "dataset",
        help="such as physics_pendulum/small, or a folder or file of videos",
    )
    sub.add_argument(
        "--budget",
        help=f"one of {list(BUDGETS)}; {_BUDGET} if left out, of your own "
        f"videos {_OWN_BUDGET}",
    )
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument("--out", type=pathlib.Path, help="the run's folder")
    sub.add_argument(
        "--beam-options",
        metavar="NAME=VALUE,...",
        help="make the dataset by Apache Beam, with these options",
    )
    sub.add_argument(
        "--strategy",
        help="share each batch: mirrored, over the devices of this machine; "
        "multi_worker, over the machines of TF_CONFIG",
    )
    sub.add_argument("--workers", help=argparse.SUPPRESS)
    sub.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="change a setting of the budget, such as num_steps=2000 or "
        "sample=false",
    )
    _add_own(sub)

    sub = command(
        "inspect",
        _inspect,
        "say what a folder or file of videos holds, and propose settings",
        data_dir=True,
    )
    sub.add_argument("path", type=pathlib.Path, metavar="FOLDER_OR_FILE")
    sub.add_argument(
        "--out",
        type=pathlib.Path,
        help="a PNG with frames of some clips; NAME-clips.png if left out",
    )
    _add_own(sub)

    sub = command(
        "evaluate", _evaluate, "score a run and write its report", data_dir=True
    )
    sub.add_argument("run_dir", type=pathlib.Path, metavar="RUN")
    sub.add_argument(
        "--examples",
        type=_count,
        help="so many of the split test, for a look: the run's files stay",
    )
    sub.add_argument("--results", type=pathlib.Path, help="copy the JSON here")

    sub = command(
        "preset", _preset, "put a run among the shipped models", data_dir=True
    )
    sub.add_argument("run_dir", type=pathlib.Path, metavar="RUN")
    sub.add_argument("--name", required=True, help="such as hgn_pendulum")

    sub = command(
        "preview", _preview, "draw some trajectories as a GIF", data_dir=True
    )
    sub.add_argument("dataset", help="such as physics_two_body")
    writing(sub, (".gif",))

    sub = of_a_model("rollout", _rollout, "roll a model's states out, as a GIF")
    sub.add_argument("--data-dir", help="TFDS's folder")
    sub.add_argument(
        "--dt", type=float, help="seconds a step; negative goes back"
    )
    sub.add_argument("--steps", type=int, default=29)
    sub.add_argument("--examples", type=int, default=4)
    sub.add_argument(
        "--add-energy",
        type=float,
        nargs="?",
        const=1.0,
        default=0.0,
        metavar="SPREADS",
        help="half way, in spreads of the learned energy over test videos; 1 "
        "if no number is given, negative takes away",
    )

    sub = of_a_model("sample", _sample, "draw new motions from the prior")
    sub.add_argument("--steps", type=int, default=29)
    sub.add_argument("--samples", type=_count, default=8)
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument(
        "--prior",
        default="normal",
        help="normal, z ~ N(0, 1), or learned, if the model has one",
    )

    sub = of_a_model(
        "showcase", _showcase, "truth and model at three speeds, a GIF"
    )
    sub.add_argument("--data-dir", help="TFDS's folder")
    of_a_model(
        "explore",
        _explore,
        "a page to play with a model",
        (".html", ".htm"),
    )

    sub = command("figure", _figure, "draw a figure of the paper")
    sub.add_argument("number", type=int, choices=list(figures.FIGURES))
    formats = sorted(Figure().canvas.get_supported_filetypes())
    formats.sort(key=lambda name: name != "png")
    writing(sub, tuple(f".{name}" for name in formats))

    sub = table(
        "hgn",
        _table,
        "table 1 of the paper: six models, four systems",
        data_dir=True,
    )
    sub.add_argument("--budget", default="cpu", help=f"one of {list(DATASETS)}")
    sub.add_argument("--systems", nargs="+", help="all if left out")
    sub.add_argument(
        "--models",
        nargs="+",
        help="rows, all if left out; hgn_forecast is that of the forecasts",
    )
    sub.add_argument("--seeds", type=int, default=1, help="how many")
    sub.add_argument("--figures", action="store_true", help="6, 7 and 8 too")
    sub.add_argument(
        "--study",
        nargs="?",
        const="ablation",
        choices=list(study.STUDIES),
        help="instead: ablation (if no name follows), what brings a law, one "
        "change of a budget per row; clean, videos without noise, of which "
        "five frames are seen",
    )
    sub.add_argument("--results", type=pathlib.Path, default="results")
    sub.add_argument(
        "--runs", type=pathlib.Path, default="runs", help="their folders"
    )

    sub = table(
        "beyond",
        _beyond,
        "past the trained frames: new motions, 960 frames, SyMetric",
    )
    sub.add_argument(
        "--models",
        nargs="+",
        metavar="RUN_OR_PRESET",
        help="all presets if left out",
    )
    sub.add_argument("--results", type=pathlib.Path, default="results")

    command(
        "demo", _demo, "the whole path in ten minutes: runs/demo", data_dir=True
    )


def _add_own(sub):
    group = sub.add_argument_group("your own videos")
    for name, kind, meaning in _OWN:
        group.add_argument(
            f"--{name.replace('_', '-')}", type=kind, help=meaning
        )
    group.add_argument(
        "--skip-bad",
        action="store_true",
        help="leave out files that cannot be used, and list them",
    )


def _own_settings(options):
    """Settings of VideoFolder that were given."""
    given = {name: getattr(options, name) for name, *_ in _OWN}
    given = {name: value for name, value in given.items() if value is not None}
    if "image_size" in given:
        text = given["image_size"]
        match = re.fullmatch(r"(\d+)(?:x(\d+))?", text)
        if not match:
            raise ValueError(
                "--image-size must be height x width, such as 48x64, or one "
                f"number. Received: {text!r}."
            )
        given["image_size"] = int(match[1]), int(match[2] or match[1])
    if "split_seed" in given:
        given["seed"] = given.pop("split_seed")
    if options.skip_bad:
        given["skip_bad"] = True
    return given


def _count(text):
    """A number of things on the command line, at least one."""
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1: {text}")
    return count


def _datasets(options):
    for name in data.DATASETS:
        print(name)
        for config in data.get_builder(name).BUILDER_CONFIGS:
            builder = data.get_builder(
                f"{name}/{config.name}", options.data_dir
            )
            sizes = ", ".join(f"{k} {v:,}" for k, v in config.sizes.items())
            print(f"  {config.name:12s} {sizes}")
            print(f"  {'':12s} {config.description}")
            if builder.info.splits:
                size = builder.info.dataset_size
                print(f"  {'':12s} On this disk: {size}, {builder.data_dir}")
                if builder.missing_examples:
                    print(f"  {'':12s} A part: {builder.missing_examples}")


def _train(options):
    if options.workers is not None:
        raise ValueError(
            "Several processes must be asked of Apache Beam: `--beam-options "
            f"direct_num_workers={options.workers},direct_running_mode="
            f"multi_processing`. Received: --workers {options.workers}."
        )
    settings = runs.parse_settings(
        options.set, Config, fixed=("dataset", "budget", "seed")
    )
    dataset, budget = options.dataset, options.budget or _BUDGET
    own_settings = _own_settings(options)
    # TensorFlow must have done nothing before.
    strategy = replicas.make_strategy(
        options.strategy, functools.partial(print, flush=True)
    )
    known = dataset.partition("/")[0] in (*data.DATASETS, "video_folder")
    if not known and pathlib.Path(dataset).exists():
        budget = options.budget or _OWN_BUDGET
        # Said before the videos are read and written.
        asked = make_config(dataset, budget, seed=options.seed, **settings)
        check_own_videos(asked)
        form = asked.form
        builder = data.open_videos(dataset, options.data_dir, **own_settings)
        dataset = data.dataset_name(builder)
        settings = _proposed(builder, budget, form) | settings
    elif own_settings:
        raise ValueError(
            f"The options {sorted(own_settings)} are for a folder or file of "
            f"videos. Received: {dataset}."
        )
    config = make_config(dataset, budget, seed=options.seed, **settings)
    name = "-".join([*dataset.split("/"), budget])
    run_dir = options.out or pathlib.Path("runs") / f"{name}-{options.seed}"
    _train_and_evaluate(
        config, run_dir, options.data_dir, options.beam_options, strategy
    )


def _proposed(builder, budget, form):
    """Says what was found; the settings that are proposed for it."""
    found = own.find(builder)
    print(own.describe(builder, found))
    _tell_problems(builder)
    settings = {
        name: proposal.value for name, proposal in own.propose(found).items()
    }
    usual = BUDGETS.get(budget, {})
    inferred = settings["num_inference_frames"]
    shortest = usual.get("shortest_window", 0)
    if usual.get("state_frame", 0) and not 0 < shortest <= inferred:
        settings |= {"shortest_window": 0, "state_frame": inferred // 2}
        reach = inferred - inferred // 2
        # Rollouts must reach over a window.
        settings |= {
            name: max(reach, usual[name])
            for name in ("rollout_steps", "initial_rollout_steps")
            if usual.get(name, 0)
        }
    settings = of_form(settings, form)
    print("settings: " + " ".join(f"{k}={v}" for k, v in settings.items()))
    return settings


def _inspect(options):
    out = options.out or pathlib.Path(
        f"{options.path.resolve().stem}-clips.png"
    )
    files.check_place(out, (".png",))
    builder = data.open_videos(
        options.path,
        options.data_dir,
        **_own_settings(options) | {"skip_bad": True},
    )
    found = own.find(builder)
    print(own.describe(builder, found))
    _tell_problems(builder)
    print(f"\nproposed, and what `hgn-tf train {options.path}` takes:")
    for name, proposal in own.propose(found).items():
        setting = f"{name}={proposal.value}"
        print(f"  --set {setting:26s} {proposal.why}")
    some = builder.as_dataset(split=f"train[:{_SHEET_ROWS}]")
    clips = {
        example["id"].decode(): example["video"]
        for example in tfds.as_numpy(some)
    }
    every = max(1, round(found.num_frames / _SHEET_COLUMNS))
    figure = plots.film_strip(clips, every, found.dt)
    plots.write_figure(out, figure, dpi=200, bbox_inches="tight")
    print(f"\nwrote {out}: frames of {len(clips)} clips of train")


def _tell_problems(builder):
    for name, why in builder.problems.items():
        print(f"left out {name}: {why}")
    if builder.others:
        print(f"no videos: {', '.join(builder.others)}")


def _demo(options):
    dataset, budget, run_dir = _DEMO
    config = make_config(dataset, budget)
    _train_and_evaluate(config, pathlib.Path(run_dir), options.data_dir)


def _train_and_evaluate(
    config, run_dir, data_dir, beam_options=None, strategy=None
):
    # A line an epoch where no terminal shows a moving bar.
    verbose = 1 if sys.stdout.isatty() else 2
    train.train(
        config, run_dir, data_dir, beam_options, verbose, print, strategy
    )
    if strategy and not replicas.is_chief(strategy):
        print("trained; the chief has the run's files")
        return
    _report(train.evaluate(run_dir, data_dir), run_dir)


def _evaluate(options):
    name = options.run_dir.resolve().name
    if options.examples:
        name += f"-{options.examples}-examples"
    if options.results:
        files.check_folder(options.results)
    result = train.evaluate(options.run_dir, options.data_dir, options.examples)
    _report(result, options.run_dir, written=not options.examples)
    if options.results:
        options.results.mkdir(parents=True, exist_ok=True)
        path = options.results / f"{name}.json"
        result.write(path)
        print(f"wrote {path}")


def _preset(options):
    card = train.make_preset(options.run_dir, options.name, options.data_dir)
    print(evaluation.format_scores(card["metrics"]))
    print(f"\nwrote {presets.FOLDER / options.name}")


def _report(result, run_dir, written=True):
    print(
        f"{result.model} on {result.dataset}, budget {result.budget}, seed "
        f"{result.seed}: {result.cpu_seconds:.0f} CPU-s of training, "
        f"{result.wall_seconds:.0f} s\n"
    )
    print(evaluation.format_scores(result.metrics))
    if written:
        names = f"{run_dir / 'metrics.json'} and {run_dir / 'report.html'}"
        print(f"\nwrote {names}")


def _load(name):
    """Dataset and model of a preset or of a run's folder."""
    if name in presets.list_presets():
        return presets.card(name)["dataset"], presets.load(name)
    if not (pathlib.Path(name) / "config.json").is_file():
        raise ValueError(
            f"RUN_OR_PRESET must be one of {presets.list_presets()}, or a "
            "run's folder with the config.json that `hgn-tf train` wrote. "
            f"Received: {name!r}."
        )
    config, model = train.load(pathlib.Path(name))
    return config.dataset, model


def _with_truth(dataset, data_dir=None):
    """The builder of simulated videos, which can be drawn at any time."""
    builder = data.get_builder(dataset, data_dir)
    if not data.has_truth(builder):
        raise ValueError(
            "This command draws the true motion, which of your own videos is "
            f"not known. Received: {dataset}; `hgn-tf inspect`, `rollout` and "
            "`explore` do without."
        )
    return builder


def _preview(options):
    builder = _with_truth(options.dataset, options.data_dir)
    examples = tfds_physics.make_examples(builder.recipe, "train", range(4))
    plots.preview(
        np.stack([example["video"] for example in examples]),
        np.stack([example["energy"] for example in examples]),
        examples[0]["time"],
        options.out,
    )
    print(f"wrote {options.out}")


def _rollout(options):
    _check_frames(options.examples, options.steps)
    if not math.isfinite(options.add_energy):
        raise ValueError(
            "--add-energy must be a finite number of spreads. Received: "
            f"{options.add_energy}."
        )
    folder = pathlib.Path(options.model)
    if hnn_train.is_run(folder):
        _roll_pixels(options, folder)
        return
    dataset, model = _load(options.model)
    builder = data.get_builder(dataset, options.data_dir)
    dt = model.dt if options.dt is None else options.dt
    if not data.has_truth(builder):
        video = data.load_split(builder, "test", _count_inferred(options)).video
        _roll_recorded(options, model, video, video, dt)
        return
    farthest = _FARTHEST * builder.recipe.dt
    if abs(dt) * options.steps > farthest:
        raise ValueError(
            "--dt times --steps must be at most "
            f"{farthest:g} s, {_FARTHEST} frames of the dataset: so far the "
            f"true motion is followed. Received: {dt:g} s times "
            f"{options.steps}."
        )
    shown, seen = (
        data.make_trajectories(builder.recipe, "test", range(count))
        for count in (options.examples, _count_inferred(options))
    )
    drawn = _roll(options, model, seen.video, dt)
    times = dt * np.arange(options.steps + 1)
    truth = data.true_video(builder, shown, times)
    _write_rollout(options, truth, drawn, "the true motion")


def _roll_recorded(options, model, seen, video, dt, to_video=lambda x: x):
    """Of recorded videos: those of test above, grey where they end."""
    drawn = to_video(_roll(options, model, seen, dt))
    recorded = None
    if dt == model.dt:
        recorded = np.full(drawn.shape, GUTTER, np.uint8)
        length = min(recorded.shape[1], video.shape[1])
        recorded[:, :length] = to_uint8(video[: len(drawn), :length])
    _write_rollout(options, recorded, drawn, "the recorded frames")


def _roll_pixels(options, folder):
    """Of a run of the HNN table, whose test trajectories are recorded."""
    config, model = hnn_train.load(folder)
    if config.task not in PIXEL_TASKS:
        raise ValueError(
            "`rollout` draws videos, so a run of the HNN table must be on one "
            f"of {list(PIXEL_TASKS)}. Received: {folder}, on {config.task}; "
            "`hgn-tf table hnn --figures` draws its orbits."
        )
    truth = load_truth(config.task, options.data_dir)
    shape = (*truth.path.shape[:2], -1)
    video = as_video(truth.rows["test"]["x"].reshape(shape))
    dt = model.dt if options.dt is None else options.dt
    _roll_recorded(options, model, truth.start, video, dt, as_video)


def _count_inferred(options):
    """Examples whose states are inferred: their energies have a spread."""
    return max(options.examples, _ENERGIES if options.add_energy else 0)


def _roll(options, model, seen, dt):
    """What a model draws of the examples seen, with energy added half way."""
    states = model.infer(seen)
    state = PhaseState(*(part[: options.examples] for part in states))
    if not options.add_energy:
        return model.decode(model.rollout(state, options.steps, dt)).numpy()
    half = options.steps // 2
    spread = float(np.std(model.energy(states)))
    path = model.rollout(state, half, dt)
    raised = add_energy(
        lambda q, p: model.energy(PhaseState(q, p)),
        PhaseState(path.q[:, -1], path.p[:, -1]),
        options.add_energy * spread,
    )
    rest = model.rollout(raised, options.steps - half, dt)
    parts = [model.decode(each).numpy() for each in (path, rest)]
    return np.concatenate([parts[0][:, :-1], parts[1]], axis=1)


def _write_rollout(options, truth, drawn, name):
    """The truth, if there is one, above what a model drew."""
    rows, said = [drawn], "the model"
    if truth is not None:
        rows, said = [truth, drawn], f"{name} above, the model below"
    if options.add_energy:
        for row in rows[:-1]:  # from there on it is another motion
            row[:, options.steps // 2 :] = GUTTER
        said += f", from frame {options.steps // 2} on with energy added"
    _write_rows(options.out, rows)
    print(f"wrote {options.out}: {said}")


def _sample(options):
    runs.check_seed(options.seed)
    _check_frames(options.samples, options.steps)
    _, model = _load(options.model)
    of_prior = {"prior": options.prior} if options.prior != "normal" else {}
    if of_prior and not isinstance(model, HGN):
        raise ValueError(
            f"`--prior` is of an HGN. Received: a {type(model).__name__}."
        )
    motion = model.sample(
        options.samples, options.steps, seed=options.seed, **of_prior
    )
    _write_rows(options.out, [motion.video.numpy()])
    print(f"wrote {options.out}")


def _check_frames(num_videos, num_steps):
    """A number of frames that a GIF, and the memory, can hold."""
    if num_videos * (num_steps + 1) > _MOST_FRAMES:
        raise ValueError(
            f"A GIF must have at most {_MOST_FRAMES} frames in all its "
            f"videos. Received: {num_videos} videos of {num_steps + 1}."
        )


def _showcase(options):
    dataset, model = _load(options.model)
    builder = _with_truth(dataset, options.data_dir)
    fresh = data.make_trajectories(
        builder.recipe, "test", range(_FRESH, _FRESH + _SHOWN)
    )
    state, num_steps = model.infer(fresh.video), fresh.video.shape[1] - 1
    truth, drawn = {}, {}
    for name in _SHOWN_SPEEDS:
        speed = evaluation.SPEEDS[name]
        times = speed.factor * fresh.dt * np.arange(num_steps + 1)
        truth[speed.title] = data.true_video(builder, fresh, times)
        path = model.rollout(state, num_steps, speed.factor * model.dt)
        drawn[speed.title] = model.decode(path).numpy()
    plots.showcase(truth, drawn, options.out)
    print(f"wrote {options.out}: the true motion above, the model below")


def _explore(options):
    _, model = _load(options.model)
    explore.write_page(model, options.out, options.model)
    print(f"wrote {options.out}")


def _figure(options):
    # Figures 6 to 8 are of `table hgn --figures`, 9 is of `fit`.
    plots.write_figure(options.out, figures.FIGURES[options.number]())
    print(f"wrote {options.out}")


def _write_rows(path, rows):
    """One row of videos for each of `rows`, [examples, time, ...]."""
    videos = [side_by_side(list(to_uint8(row))) for row in rows]
    write_gif(path, side_by_side(videos, vertical=True))


def _table(options):
    if options.study:
        if options.figures or options.budget != "cpu":
            raise ValueError(
                "--study has budgets of its own and no figures. Received: "
                f"--budget {options.budget}, --figures {options.figures}."
            )
        text = study.make_study(
            options.study,
            options.systems,
            options.seeds,
            options.models,
            options.results,
            options.data_dir,
            options.runs,
            verbose=2,
            progress=print,
        )
        print(f"\n{text}wrote {options.results / options.study}.md")
        return
    tables = make_tables(
        options.budget,
        options.systems,
        options.seeds,
        options.models,
        options.results,
        options.data_dir,
        options.runs,
        verbose=2,
        figures=options.figures,
        progress=print,
    )
    name = in_budget("table1", options.budget)
    print(f"\n{tables}wrote {options.results / name}.md")


def _beyond(options):
    text = beyond.make_beyond(options.models, options.results, print)
    print(f"\n{text}wrote {options.results / 'beyond.md'}")
