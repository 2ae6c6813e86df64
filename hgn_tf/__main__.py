"""The command line: `hgn-tf` or `python -m hgn_tf`."""

import argparse
import pathlib
import sys

from hgn_tf import data, presets, show_commands, table_commands
from hgn_tf.experiments import hgn_models, run_folder, train_hgn

# What a caller can get wrong, or has not installed.
_MISTAKES = (ValueError, TypeError, ArithmeticError, OSError, ImportError)
_DEMO = ("physics_pendulum/small_clean", "demo", "runs/demo")

# Rows of the printed table: metric, what it is, what to read it against.
_TABLE = (
    ("test_mse_e4", "test MSE x 1e4", "mean over frames"),
    ("mean_image_mse_e4", "  mean image", "a model that learned nothing"),
    ("frozen_frame_mse_e4", "  frozen first frame", "no motion"),
    ("noise_floor_mse_e4", "  noise floor", "the true state's best guess"),
    ("excess_mse_e4", "  excess over the floor", ""),
    ("train_mse_e4", "train MSE x 1e4", ""),
    ("test_fvu", "test FVU", "mean image 1, perfect 0 (clean frames)"),
    ("energy_r2", "R^2 of learned with true energy", "perfect 1"),
    ("energy_drift", "drift of the learned energy", "spreads of the energy"),
    ("reversibility_error", "reversibility error", "relative to |s|"),
    ("backward_mse_e4", "backward MSE x 1e4", "against the true motion"),
    ("double_speed_mse_e4", "double speed MSE x 1e4", "likewise"),
    ("half_speed_mse_e4", "half speed MSE x 1e4", "likewise"),
    ("long_mse_e4", "test_long MSE x 1e4", "240 frames"),
    ("long_mean_image_mse_e4", "  mean image", ""),
    ("long_frozen_frame_mse_e4", "  frozen first frame", ""),
    ("valid_prediction_time", "valid prediction time", "frames, median"),
    ("valid_prediction_time_mean_image", "  mean image", ""),
    ("valid_prediction_time_frozen_frame", "  frozen first frame", ""),
    ("valid_prediction_time_noise_floor", "  noise floor", ""),
)


def main(arguments: list[str] | None = None) -> int:
    """Runs a command; returns the exit status.

    A caller's mistake is one line on standard error and status 2.
    """
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except _MISTAKES as error:
        if options.traceback:
            raise
        print(f"hgn-tf: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("hgn-tf: stopped; the same command goes on.", file=sys.stderr)
        return 130
    return 0


def format_table(metrics: dict) -> str:
    """The metrics of a run beside their yardsticks, as text."""
    lines = []
    for name, title, note in _TABLE:
        if metrics.get(name) is None:
            continue
        error = metrics.get(f"{name}_stderr")
        spread = "" if error is None else f" +- {error:.3g}"
        lines.append(f"{title:34s}{metrics[name]:10.4g}{spread:13s} {note}")
    return "\n".join(line.rstrip() for line in lines)


def _parser():
    parser = argparse.ArgumentParser(
        prog="hgn-tf",
        description="Hamiltonian Generative Networks: data, training, scores.",
    )
    parser.add_argument(
        "--traceback", action="store_true", help="show where an error arose"
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name, run, description):
        sub = commands.add_parser(
            name, help=description, description=description
        )
        sub.set_defaults(run=run)
        return sub

    def data_options(sub):
        sub.add_argument("--data-dir", help="TFDS's folder")

    sub = command("datasets", _datasets, "list the datasets and their sizes")
    data_options(sub)

    sub = command("train", _train, "train an HGN, or go on where it was")
    sub.add_argument("dataset", help="such as physics_pendulum/small")
    sub.add_argument(
        "--budget", default="cpu", help=f"one of {list(hgn_models.BUDGETS)}"
    )
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument("--out", type=pathlib.Path, help="the run's folder")
    sub.add_argument("--workers", type=int, default=1, help="for the dataset")
    sub.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="change a setting of the budget, such as num_steps=2000",
    )
    data_options(sub)

    sub = command("evaluate", _evaluate, "score a run and write its report")
    sub.add_argument("run_dir", type=pathlib.Path, metavar="RUN")
    sub.add_argument("--examples", type=int, help="of the split test")
    sub.add_argument("--results", type=pathlib.Path, help="copy the JSON here")
    data_options(sub)

    sub = command("preset", _preset, "put a run among the shipped models")
    sub.add_argument("run_dir", type=pathlib.Path, metavar="RUN")
    sub.add_argument("--name", required=True, help="such as hgn_pendulum")
    data_options(sub)

    show_commands.add(command, data_options)
    table_commands.add(command, data_options)

    sub = command("demo", _demo, "the whole path in ten minutes: runs/demo")
    data_options(sub)
    return parser


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


def _train(options):
    config = hgn_models.make_config(
        options.dataset,
        options.budget,
        seed=options.seed,
        **_settings(options.set),
    )
    name = "-".join([*options.dataset.split("/"), options.budget])
    run_dir = options.out or pathlib.Path("runs") / f"{name}-{options.seed}"
    _train_and_evaluate(config, run_dir, options.data_dir, options.workers)


def _demo(options):
    dataset, budget, run_dir = _DEMO
    config = hgn_models.make_config(dataset, budget)
    _train_and_evaluate(config, pathlib.Path(run_dir), options.data_dir, 1)


def _train_and_evaluate(config, run_dir, data_dir, num_workers):
    # A line an epoch where no terminal shows a moving bar.
    verbose = 1 if sys.stdout.isatty() else 2
    train_hgn.train(config, run_dir, data_dir, num_workers, verbose)
    _report(train_hgn.evaluate(run_dir, data_dir), run_dir)


def _evaluate(options):
    result = train_hgn.evaluate(
        options.run_dir, options.data_dir, options.examples
    )
    _report(result, options.run_dir)
    if options.results:
        options.results.mkdir(parents=True, exist_ok=True)
        path = options.results / f"{options.run_dir.resolve().name}.json"
        run_folder.write_json(path, result)
        print(f"wrote {path}")


def _preset(options):
    card = train_hgn.make_preset(
        options.run_dir, options.name, options.data_dir
    )
    print(format_table(card["metrics"]))
    print(f"\nwrote {presets.FOLDER / options.name}")


def _report(result, run_dir):
    print(
        f"{result['model']} on {result['dataset']}, budget "
        f"{result['budget']}, seed {result['seed']}: "
        f"{result['cpu_seconds']:.0f} CPU-s of training, "
        f"{result['wall_seconds']:.0f} s\n"
    )
    print(format_table(result["metrics"]))
    print(f"\nwrote {run_dir / 'metrics.json'} and {run_dir / 'report.html'}")


def _settings(pairs):
    """NAME=VALUE pairs with the types of the settings."""
    settings = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise ValueError(f"--set needs NAME=VALUE. Received: {pair!r}.")
        settings[name] = _parse(value)
    return settings


def _parse(value):
    if value in ("True", "False"):
        return value == "True"
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    return value


if __name__ == "__main__":
    sys.exit(main())
