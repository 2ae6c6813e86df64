"""The command line: `hgn-tf` or `python -m hgn_tf`."""

import argparse
import os
import sys

from hgn_tf import files
from hgn_tf.cli import hgn, hnn, nhf
from hgn_tf.experiments.runs import is_mistake


def main(arguments: list[str] | None = None) -> int:
    """Runs a command.

    A caller's mistake is told in one line on standard error. A bug is raised,
    with its traceback.

    Args:
      arguments: Words of the command line; None for those of the process.
    Returns: the exit status: 0, 2 for a mistake, 130 if stopped by Ctrl-C, 141
      if nobody reads the output any more.
    """
    options = _parser().parse_args(arguments)
    try:
        _check_places(options)
        options.run(options)
        sys.stdout.flush()
    except BrokenPipeError:  # as `hgn-tf datasets | head` does it
        _drop_output()
        return 141
    except Exception as error:
        if options.traceback or not is_mistake(error):
            raise
        line = " ".join(str(error).splitlines())
        print(f"hgn-tf: {line}", file=sys.stderr)
        try:
            sys.stdout.flush()
        except OSError:  # a full disk, where the output goes
            _drop_output()
        return 2
    except KeyboardInterrupt:
        print("hgn-tf: stopped; the same command goes on.", file=sys.stderr)
        return 130
    return 0


def _drop_output():
    """What is left to be written goes nowhere: it would fail once more."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _check_places(options):
    """Where files go and come from, before the work and not after it."""
    if "suffixes" in options:
        files.check_place(options.out, options.suffixes)
    if getattr(options, "data_dir", None) == "":
        raise ValueError(
            "--data-dir must be a folder; leave it out for TFDS's own. "
            "Received: ''."
        )


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
