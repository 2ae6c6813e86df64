"""The subcommands that make a table: many runs, done once each."""

import os
import pathlib

from hgn_tf.experiments import (
    hgn_table1,
    hgn_table1_report,
    hnn_report,
)


def add(command, data_options) -> None:
    """Adds them to the command line.

    Args:
      command: Callable (name, function, description) -> its parser.
      data_options: Callable on a parser that adds where datasets are.
    """
    sub = command("table1", _table1, "train and score table 1 of the paper")
    sub.add_argument(
        "--budget", default="cpu", help=f"one of {list(hgn_table1.DATASETS)}"
    )
    sub.add_argument("--systems", nargs="+", help="all if left out")
    sub.add_argument("--models", nargs="+", help="all if left out")
    sub.add_argument("--seeds", type=int, default=1, help="how many")
    sub.add_argument("--figures", action="store_true", help="6, 7 and 8 too")
    sub.add_argument("--results", type=pathlib.Path, default="results")
    sub.add_argument(
        "--runs", type=pathlib.Path, default="runs", help="their folders"
    )
    data_options(sub)

    sub = command("hnn-table", _hnn_table, "train and score HNN from states")
    sub.add_argument("--tasks", nargs="+", help="all if left out")
    sub.add_argument("--models", nargs="+", help="all if left out")
    sub.add_argument("--seeds", type=int, default=3, help="how many")
    sub.add_argument("--figures", action="store_true", help="draw them too")
    sub.add_argument("--results", type=pathlib.Path, default="results")
    data_options(sub)

    sub = command("nhf-table", _nhf_table, "train and score NHF and flows")
    sub.add_argument("--densities", nargs="+", help="all if left out")
    sub.add_argument("--models", nargs="+", help="all if left out")
    sub.add_argument("--seeds", type=int, default=3, help="how many")
    sub.add_argument(
        "--study",
        action="store_true",
        help="instead: what width, depth, Hamiltonians and prior do",
    )
    sub.add_argument("--results", type=pathlib.Path, default="results")

    sub = command("nhf", _nhf_fit, "train an NHF, or a flow, on a density")
    sub.add_argument("action", choices=["fit"])
    sub.add_argument("--density", required=True, help="such as nine_gaussians")
    sub.add_argument("--model", default="nhf_best", help="row of a table")
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument("--out", type=pathlib.Path, help="the run's folder")


def _table1(options):
    tables = hgn_table1_report.make_tables(
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
    name = hgn_table1_report.in_budget("table1", options.budget)
    print(f"\n{tables}wrote {options.results / name}.md")


def _hnn_table(options):
    _use_one_thread()
    tables = hnn_report.make_tables(
        options.tasks,
        options.seeds,
        options.models,
        options.results,
        options.data_dir,
        figures=options.figures,
        progress=print,
    )
    print(f"\n{tables}wrote {options.results / 'hnn_table.md'}")


# TensorFlow Probability is an extra: only these commands need it.
def _nhf_table(options):
    _use_one_thread()
    from hgn_tf.experiments import nhf_report

    table = "nhf_study" if options.study else "nhf_table"
    tables = nhf_report.make_tables(
        options.densities,
        options.seeds,
        options.models,
        options.results,
        table=table,
        progress=print,
    )
    print(f"\n{tables}wrote {options.results / f'{table}.md'}")


def _nhf_fit(options):
    from hgn_tf.experiments import nhf_fit

    config = nhf_fit.make_config(options.density, options.model, options.seed)
    name = f"nhf-{config.density}-{config.model}-{config.seed}"
    run_dir = options.out or pathlib.Path("runs") / name
    result = nhf_fit.fit_density(config, run_dir, verbose=2)
    for name, value in result["metrics"].items():
        print(f"{name:24s}{value:12.5g}")
    print(f"wrote {run_dir / 'metrics.json'} and {run_dir / 'figure9.png'}")


def _use_one_thread():
    """For networks too small to share: a second thread waits, and is paid for.

    TensorFlow reads this when it starts. On two cores the baseline of the
    spring took 9.6 CPU-s instead of 12.8, and no more time.
    """
    for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        os.environ.setdefault(name, "1")
