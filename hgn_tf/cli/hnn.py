"""The command of Hamiltonian Neural Networks: their table."""

import argparse
import os
import pathlib
from collections.abc import Callable

from hgn_tf.experiments.hnn.table import make_tables


def add(
    command: Callable[..., argparse.ArgumentParser],
    table: Callable[..., argparse.ArgumentParser],
) -> None:
    """Adds it to the command line.

    Args:
      command: Callable (name, function, description) -> its parser.
      table: The same for `hgn-tf table`.
    """
    sub = table("hnn", _table, "HNN from states, on six tasks", data_dir=True)
    sub.add_argument(
        "--tasks", nargs="+", help="all that are published if left out"
    )
    sub.add_argument("--models", nargs="+", help="all if left out")
    sub.add_argument("--seeds", type=int, default=3, help="how many")
    sub.add_argument("--figures", action="store_true", help="draw them too")
    sub.add_argument("--results", type=pathlib.Path, default="results")


def _table(options):
    use_one_thread()
    tables = make_tables(
        options.tasks,
        options.seeds,
        options.models,
        options.results,
        options.data_dir,
        figures=options.figures,
        progress=print,
    )
    print(f"\n{tables}wrote {options.results / 'hnn_table.md'}")


def use_one_thread() -> None:
    """For networks too small to share: a second thread waits, and is paid for.

    TensorFlow and BLAS read this when they start. On two cores the baseline
    of the spring took 9.6 CPU-s instead of 12.8, and no more time.
    """
    for name in (
        "TF_NUM_INTRAOP_THREADS",
        "TF_NUM_INTEROP_THREADS",
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
    ):
        os.environ.setdefault(name, "1")
