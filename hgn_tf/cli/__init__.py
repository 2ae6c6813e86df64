"""The command line: `hgn-tf` or `python -m hgn_tf`."""

import argparse
import sys

from hgn_tf.cli import hgn, hnn, nhf

# What a caller can get wrong, or has not installed.
_MISTAKES = (ValueError, TypeError, ArithmeticError, OSError, ImportError)


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


def _parser():
    parser = argparse.ArgumentParser(
        prog="hgn-tf",
        description="Hamiltonian Generative Networks: data, training, scores.",
    )
    parser.add_argument(
        "--traceback", action="store_true", help="show where an error arose"
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
