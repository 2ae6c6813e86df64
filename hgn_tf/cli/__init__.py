"""The command line: `hgn-tf` or `python -m hgn_tf`."""

import argparse
import sys

from hgn_tf.cli import hgn, hnn, nhf
from hgn_tf.experiments.runs import is_mistake


def main(arguments: list[str] | None = None) -> int:
    """Runs a command.

    A caller's mistake is told in one line on standard error. A bug is raised,
    with its traceback.

    Args:
      arguments: Words of the command line; None for those of the process.
    Returns: the exit status: 0, 2 for a mistake, 130 if stopped by Ctrl-C.
    """
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except Exception as error:
        if options.traceback or not is_mistake(error):
            raise
        line = " ".join(str(error).splitlines())
        print(f"hgn-tf: {line}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("hgn-tf: stopped; the same command goes on.", file=sys.stderr)
        return 130
    return 0


def _parser():
    parser = argparse.ArgumentParser(
        prog="hgn-tf",
        description="Hamiltonian Generative Networks: data, training, scores.",
    )
    parser.add_argument(
        "--traceback",
        action="store_true",
        help="show where a mistake was found",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    table = commands.add_parser(
        "table", help="train and score what a table lacks, and write it"
    )
    tables = table.add_subparsers(required=True, metavar="FAMILY")
    for family in (hgn, hnn, nhf):
        family.add(_adder(commands), _adder(tables))
    return parser


def _adder(commands):
    """Callable that adds a command and returns its parser."""

    def add(name, run, description, data_dir=False):
        sub = commands.add_parser(
            name, help=description, description=description
        )
        sub.set_defaults(run=run)
        if data_dir:
            sub.add_argument("--data-dir", help="TFDS's folder")
        return sub

    return add
