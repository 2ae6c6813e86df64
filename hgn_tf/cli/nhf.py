"""The commands of Neural Hamiltonian Flows: a fit, and the tables."""

import argparse
import importlib.util
import pathlib
from collections.abc import Callable

from hgn_tf.cli.hnn import use_one_thread


def add(
    command: Callable[..., argparse.ArgumentParser],
    table: Callable[..., argparse.ArgumentParser],
) -> None:
    """Adds them to the command line.

    Args:
      command: Callable (name, function, description) -> its parser.
      table: The same for `hgn-tf table`.
    """
    sub = command("fit", _fit, "train an NHF, or a flow, on a density")
    sub.add_argument("density", help="such as nine_gaussians")
    sub.add_argument("--model", default="nhf_best", help="row of a table")
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument("--out", type=pathlib.Path, help="the run's folder")

    sub = table("nhf", _table, "NHF beside the usual flows, on densities")
    sub.add_argument("--densities", nargs="+", help="all if left out")
    sub.add_argument("--models", nargs="+", help="all if left out")
    sub.add_argument(
        "--seeds", type=int, help="how many: 3 if left out, 1 of the study"
    )
    sub.add_argument(
        "--study",
        action="store_true",
        help="instead: what width, depth, Hamiltonians and prior do",
    )
    sub.add_argument("--results", type=pathlib.Path, default="results")

    sub = table("nhf_real", _real, "NHF and others on scikit-learn's data")
    sub.add_argument("--datasets", nargs="+", help="all if left out")
    sub.add_argument("--models", nargs="+", help="all if left out")
    sub.add_argument("--folds", type=int, default=5, help="how many of five")
    sub.add_argument("--results", type=pathlib.Path, default="results")


def _check_probability():
    """TensorFlow Probability is an extra, which only these commands need."""
    if importlib.util.find_spec("tensorflow_probability") is None:
        raise ImportError(
            "`hgn-tf fit` and the tables of NHF need TensorFlow Probability: "
            "pip install 'hgn-tf[nhf]'."
        )


def _table(options):
    use_one_thread()
    _check_probability()
    from hgn_tf.experiments.nhf.table import make_tables

    name = "nhf_study" if options.study else "nhf_table"
    seeds = (
        (1 if options.study else 3) if options.seeds is None else options.seeds
    )
    tables = make_tables(
        options.densities,
        seeds,
        options.models,
        options.results,
        table=name,
        progress=print,
    )
    print(f"\n{tables}wrote {options.results / f'{name}.md'}")


def _real(options):
    use_one_thread()
    _check_probability()
    from hgn_tf.experiments.nhf.real import make_tables

    tables = make_tables(
        options.datasets, options.folds, options.models, options.results
    )
    print(f"\n{tables}wrote {options.results / 'nhf_real.md'}")


def _fit(options):
    _check_probability()
    from hgn_tf.experiments.nhf import config, train

    settings = config.make_config(options.density, options.model, options.seed)
    name = f"nhf-{settings.density}-{settings.model}-{settings.seed}"
    run_dir = options.out or pathlib.Path("runs") / name
    result = train.train_and_score(settings, run_dir, verbose=2)
    for name, value in result.metrics.items():
        print(f"{name:24s}{value:12.5g}")
    print(f"wrote {run_dir / 'metrics.json'} and {run_dir / 'figure9.png'}")
