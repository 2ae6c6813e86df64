"""The subcommands that show: datasets, motions of a model, its page."""

import pathlib

import numpy as np

import tfds_physics
from hgn_tf import data, explore, motion_plots, plotting, presets
from hgn_tf.animation import side_by_side, write_gif
from hgn_tf.experiments import paper_figures, train_hgn

_SHOWN = 2  # trajectories of the showcase
# As multiples of the model's dt.
_WAYS = {"forward": 1.0, "backward": -1.0, "double speed": 2.0}
# Examples of the split test from here on are in no dataset.
_FRESH = 1_000_000


def add(command, data_options) -> None:
    """Adds them to the command line.

    Args:
      command: Callable (name, function, description) -> its parser.
      data_options: Callable on a parser that adds where datasets are.
    """

    def of_a_model(name, run, description):
        sub = command(name, run, description)
        sub.add_argument("model", metavar="RUN_OR_PRESET")
        sub.add_argument("--out", type=pathlib.Path, required=True)
        return sub

    sub = command("preview", _preview, "draw some trajectories as a GIF")
    sub.add_argument("dataset", help="such as physics_two_body")
    sub.add_argument("--out", type=pathlib.Path, required=True)
    data_options(sub)

    sub = of_a_model("rollout", _rollout, "roll a model's states out, as a GIF")
    sub.add_argument(
        "--dt", type=float, help="seconds a step; negative goes back"
    )
    sub.add_argument("--steps", type=int, default=29)
    sub.add_argument("--examples", type=int, default=4)

    sub = of_a_model("sample", _sample, "draw new motions from the prior")
    sub.add_argument("--steps", type=int, default=29)
    sub.add_argument("--samples", type=int, default=8)
    sub.add_argument("--seed", type=int, default=0)

    of_a_model("showcase", _showcase, "truth and model at three speeds, a GIF")
    of_a_model("explore", _explore, "a page to play with a model")

    sub = command("figure", _figure, "draw a figure of the paper")
    sub.add_argument("number", type=int, choices=list(paper_figures.FIGURES))
    sub.add_argument("--out", type=pathlib.Path, required=True)


def _load(name):
    """Dataset and model of a preset or of a run's folder."""
    if name in presets.list_presets():
        return presets.card(name)["dataset"], presets.load(name)
    config, model = train_hgn.load(pathlib.Path(name))
    return config.dataset, model


def _preview(options):
    builder = data.get_builder(options.dataset, options.data_dir)
    examples = tfds_physics.make_examples(builder.recipe, "train", range(4))
    plotting.preview(
        np.stack([example["video"] for example in examples]),
        np.stack([example["energy"] for example in examples]),
        examples[0]["time"],
        options.out,
    )
    print(f"wrote {options.out}")


def _rollout(options):
    dataset, model = _load(options.model)
    builder = data.get_builder(dataset)
    dt = model.dt if options.dt is None else options.dt
    test = data.make_trajectories(
        builder.recipe, "test", range(options.examples)
    )
    path = model.rollout(model.infer(test.video), options.steps, dt)
    times = dt * np.arange(options.steps + 1)
    truth = data.true_video(builder, test, times)
    _write_rows(options.out, [truth, model.draw(path).numpy()])
    print(f"wrote {options.out}: the true motion above, the model below")


def _sample(options):
    _, model = _load(options.model)
    motion = model.generate(options.samples, options.steps, seed=options.seed)
    _write_rows(options.out, [motion.video.numpy()])
    print(f"wrote {options.out}")


def _showcase(options):
    dataset, model = _load(options.model)
    builder = data.get_builder(dataset)
    fresh = data.make_trajectories(
        builder.recipe, "test", range(_FRESH, _FRESH + _SHOWN)
    )
    state, num_steps = model.infer(fresh.video), fresh.video.shape[1] - 1
    truth, drawn = {}, {}
    for way, speed in _WAYS.items():
        times = speed * fresh.dt * np.arange(num_steps + 1)
        truth[way] = data.true_video(builder, fresh, times)
        path = model.rollout(state, num_steps, speed * model.dt)
        drawn[way] = model.draw(path).numpy()
    motion_plots.showcase(truth, drawn, options.out)
    print(f"wrote {options.out}: the true motion above, the model below")


def _explore(options):
    _, model = _load(options.model)
    explore.write_page(model, options.out, options.model)
    print(f"wrote {options.out}")


def _figure(options):
    # Figures 6 to 8 are of `table1 --figures`, 9 is of `nhf fit`.
    paper_figures.FIGURES[options.number]().savefig(options.out, dpi=100)
    print(f"wrote {options.out}")


def _write_rows(path, rows):
    """One row of videos for each of `rows`, [examples, time, ...]."""
    videos = [side_by_side(list(row)) for row in rows]
    write_gif(path, side_by_side(videos, vertical=True))
