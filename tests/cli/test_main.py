"""The command line as a whole: mistakes and bugs, and what it answers."""

import sys

import pytest

from hgn_tf import cli, data
from hgn_tf.cli import main


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["evaluate", "nowhere"], "config.json"),
        (["rollout", "nowhere", "--out", "x.gif"], "config.json"),
        (["train", "physics_pendulam"], "dataset must be one of"),
        (
            ["train", "x", "--set", "sample=no"],
            "`sample` must be true or false",
        ),
        (["train", "x", "--set", "seed=1"], "setting must be one of"),
        (["train", "x", "--seed", "-1"], "`seed` must be from 0"),
        (
            ["train", "x", "--set", "batch_size=0"],
            "`batch_size` must be at least 1",
        ),
        (["figure", "10", "--out", "x.docx"], "must end in one of"),
        (["fit", "ring"], "'ring'"),
        (["table", "hgn", "--systems", "springs"], "springs"),
        (["table", "hnn", "--tasks", "mass_sprung"], "mass_sprung"),
        (["table", "nhf", "--models", "glow"], "glow"),
        (["table", "nhf_real", "--datasets", "iris"], "iris"),
        (["table", "nhf_real", "--folds", "6"], "Received: 5"),
    ],
)
def test_a_mistake_is_one_line(arguments, message, capsys):
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("hgn-tf: ") and message in line


@pytest.mark.parametrize(
    "command", [["fit", "rings"], ["table", "nhf"], ["table", "nhf_real"]]
)
def test_without_probability_it_says_what_to_install(
    command, monkeypatch, capsys
):
    monkeypatch.setitem(sys.modules, "tensorflow_probability", None)
    assert main(command) == 2
    assert "pip install 'hgn-tf[nhf]'" in capsys.readouterr().err


def test_a_number_of_things_is_at_least_one(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["sample", "hgn_pendulum", "--samples", "0", "--out", "x.gif"])
    assert "at least 1" in capsys.readouterr().err


@pytest.mark.parametrize("error", [TypeError, ImportError, ValueError])
def test_a_bug_keeps_its_traceback(error, monkeypatch):
    def fail(*arguments):
        raise error("ours")

    # Raised by a stand-in for the library below us, not by a check of ours.
    monkeypatch.setattr(data, "get_builder", fail)
    with pytest.raises(error, match="ours"):
        main(["preview", "physics_two_body", "--out", "x.gif"])


def test_a_mistake_has_a_traceback_if_asked_for():
    with pytest.raises(ValueError, match="config.json"):
        main(["--traceback", "evaluate", "nowhere"])


def test_stopping_is_no_error(monkeypatch, capsys):
    def stop(options):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.hgn, "_datasets", stop)
    assert main(["datasets"]) == 130
    assert "goes on" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["train", "table", "fit", "figure"])
def test_commands_explain_themselves(command, capsys):
    with pytest.raises(SystemExit, match="0"):
        main([command, "--help"])
    assert f"usage: hgn-tf {command}" in capsys.readouterr().out
