"""Doors of the command line: one line, exit status 2, nothing left behind."""

import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest

import hgn_tf
from hgn_tf import cli, files, networks
from hgn_tf.cli import main
from hgn_tf.experiments.hgn.config import make_config

ROOT = pathlib.Path(__file__).parent.parent.parent
TRAIN = "train physics_pendulum/tiny --data-dir data --out run "


def flipped(path):
    """With 200 bytes changed, all over the file."""
    content = bytearray(path.read_bytes())
    for place in np.random.default_rng(0).integers(0, len(content), 200):
        content[place] ^= 255
    path.write_bytes(content)


@pytest.fixture(scope="module")
def whole_run():
    """The files of a run of a small model, as if it had been trained."""
    parts = networks.flat_networks(latent_size=1, decoder_units=(8,))
    model = hgn_tf.HGN(**parts, num_inference_frames=5)
    model.build((None, 30, 32, 32, 3))
    return model, make_config("physics_pendulum/tiny", "demo")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder to be in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run_dir(whole_run, here):
    model, config = whole_run
    folder = here / "run"
    folder.mkdir()
    files.write_json(folder / "config.json", vars(config))
    model.save(folder / "model.keras")
    (folder / "log.csv").write_text(
        "epoch,cpu_seconds,peak_memory_mb,wall_seconds\n0,1,1,1\n"
    )
    return folder


def contents(folder):
    return {
        path: path.is_file() and path.read_bytes() for path in folder.rglob("*")
    }


def check_door(arguments, message, here, capsys):
    before = contents(here)
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("hgn-tf: ") and message in line
    assert len(line) < 800
    assert contents(here) == before


# Settings are checked before the dataset is made: there is none in `data`.
@pytest.mark.parametrize(
    "settings, message",
    [
        ("filters=abc", "`filters` must be a whole number"),
        ("curriculum_steps=0.5", "`curriculum_steps` must be a whole number"),
        ("learning_rate=-1", "`learning_rate` must be at least 0"),
        ("learning_rate=nan", "`learning_rate` must be a finite number"),
        ("learning_rate=inf", "`learning_rate` must be a finite number"),
        ("final_learning_rate=-1", "`final_learning_rate` must be at least 0"),
        ("num_decoded_frames=100", "`num_decoded_frames` must be at most 30"),
        ("num_decoded_frames=-1", "`num_decoded_frames` must be at least 0"),
        ("num_inference_frames=31", "`num_inference_frames` must be at most"),
        ("num_frames=31", "; 0 for all. Received: 31"),
        ("num_frames=-1", "`num_frames` must be at least 0"),
        ("num_frames=7", "0 for all 30. A step decodes 8 frames. Received: 7"),
        (
            "num_frames=4",
            "0 for all 30. The model infers from 5 frames at least. Received: "
            "videos of 4",
        ),
        (
            "num_inference_frames=30",
            "of more than 30 frames. Received: 30; a lower "
            "`shortest_window` or `num_inference_frames` needs fewer",
        ),
        ("num_inference_frames=0", "`num_inference_frames` and"),
        ("initial_horizon=0", "`initial_horizon` must be at least 1"),
        ("batch_size=65", "`batch_size` must be at most 64"),
        ("batch_size=0", "`batch_size` must be at least 1"),
        ("num_steps=0", "`num_steps` must be at least 1"),
        ("steps_per_epoch=7", "a multiple of `steps_per_epoch`"),
        ("steps_per_epoch=0", "`steps_per_epoch` must be at least 1"),
        ("warmup_steps=5000", "`warmup_steps` must be at least 0 and below"),
        ("geco_limit=0.5", "`geco_limit` must be at least 1"),
        ("tolerance=0", "`tolerance` and `rate` must be positive"),
        ("agreement=-1", "`agreement` must be 0 or more"),
        ("positions=-1", "`positions` must be 0 or more"),
        ("isometry=-1", "`isometry` must be 0 or more"),
        ("low_rank=-1", "`low_rank` must be 0 or more"),
        ("energy_activation=bent", "`activation` must be 'sin' or a name"),
        ("energy_activation=relu", "`activation` of an energy must be smooth"),
        ("num_windows=9", "`num_windows` must be from 1 to 8"),
        ("shortest_window=6", "`shortest_window` must be from 1 to"),
        ("integrator=verlet", "`integrator` must be one of"),
        ("anchor=last", "`anchor` must be 'first' or 'random'"),
        ("form=round", "`form` must be one of"),
        ("model=vae", "`model` must be one of"),
        ("filters=32", "`filters` must be left to the forms that read it"),
        ("depth_to_space=true", "Received: depth_to_space=True"),
        ("rollout_from=0", "is read with initial_rollout_steps alone"),
        ("separable=false", "`separable` must be true for an integrator made"),
        ("half_precision=on", '`half_precision` is for the form "paper"'),
        ("seed=7", "A setting must be one of"),
        ("dataset=x", "A setting must be one of"),
        ("budget=x", "A setting must be one of"),
    ],
)
def test_settings_are_checked_before_anything_is_made(
    settings, message, here, capsys
):
    arguments = [*TRAIN.split(), "--budget=demo", "--set", settings]
    check_door(arguments, message, here, capsys)


@pytest.mark.parametrize(
    "command, message",
    [
        ("sample hgn_pendulum --out no/x.gif", "make no first"),
        ("rollout hgn_pendulum --out no/x.gif", "make no first"),
        ("showcase hgn_pendulum --out no/x.gif", "make no first"),
        ("explore hgn_pendulum --out no/x.html", "make no first"),
        ("preview physics_pendulum --out no/x.gif", "make no first"),
        ("figure 10 --out no/x.png", "make no first"),
        ("sample hgn_pendulum --out .", "must be that of a file. Received: ."),
        ("sample hgn_pendulum --out=", "must be that of a file. Received: ."),
        ("sample hgn_pendulum --out x.mp4", "one of ['.gif']. Received: x.mp4"),
        ("preview physics_pendulum --out x", "one of ['.gif']. Received: x"),
        ("explore hgn_pendulum --out x.pdf", "one of ['.html', '.htm']"),
        ("figure 10 --out x.docx", "must end in one of ['.png', "),
        ("sample hgn_pendulam --out x.gif", "'hgn_pendulum'"),
        ("explore hgn_pendulam --out x.html", "Received: 'hgn_pendulam'"),
        ("preset nowhere --name a/b/c", "Received: 'a/b/c'"),
        ("preset nowhere --name ../evil", "Received: '../evil'"),
        ("preset nowhere --name=", "must be of letters"),
        ("preset nowhere --name .hidden", "Received: '.hidden'"),
        ("sample hgn_pendulum --steps 10000 --out x.gif", "at most 4000"),
        ("rollout hgn_pendulum --examples 999 --out x.gif", "at most 4000"),
        ("datasets --data-dir=", "--data-dir must be a folder"),
        (TRAIN + "--seed 4294967296", "`seed` must be from 0"),
        ("sample hgn_pendulum --seed -1 --out x.gif", "`seed` must be from 0"),
        ("table hgn --models hgn_forecasts", "'hgn_forecast'"),
    ],
)
def test_commands_are_checked_before_the_work(command, message, here, capsys):
    check_door(command.split(), message, here, capsys)


def write_result(folder, row, **settings):
    folder.mkdir(parents=True, exist_ok=True)
    system, _, seed = row.rpartition("-")
    config = vars(make_config("physics_pendulum/small", "flat", **settings))
    result = {"experiment": "x", "model": system, "seed": int(seed)}
    result |= {"dataset": "physics_pendulum/small", "budget": "flat"}
    costs = dict.fromkeys(("wall_seconds", "cpu_seconds", "peak_memory_mb"), 1)
    result |= {"metrics": {}, "config": config, "commit": None, **costs}
    files.write_json(folder / f"pendulum-{row}.json", result)


def test_a_study_takes_no_results_of_several_settings(
    here, capsys, monkeypatch
):
    write_result(here / "results" / "ablation", "neither-0")
    write_result(here / "results" / "ablation", "neither-1", num_steps=7)
    monkeypatch.setattr(cli.hgn.study, "list_study", lambda *_: [])
    message = "must have the same settings. Received: pendulum-neither-0"
    check_door(["table", "hgn", "--study"], message, here, capsys)


@pytest.mark.parametrize("family", ["hgn", "hnn"])
def test_a_place_of_results_is_tried_before_the_training(
    family, here, capsys, monkeypatch
):
    (here / "results").write_text("mine")
    message = "where results is a file"
    check_door(["table", family], message, here, capsys)


def test_places_of_runs_are_tried_before_a_dataset_is_made(here, capsys):
    (here / "runs").write_text("mine")
    command = ["table", "hgn", "--data-dir", "data"]
    check_door(command, "where runs is a file", here, capsys)


# A run's folder, and what is wrong with it.
DAMAGES = {
    "model.keras": [
        (flipped, "model.keras, which cannot be read"),
        (lambda path: path.write_bytes(b""), "model.keras, which cannot be"),
        (lambda path: path.write_bytes(b"PK"), "model.keras, which cannot"),
        (lambda path: path.unlink(), "trained to its end first"),
    ],
    "log.csv": [
        (lambda path: path.write_text(""), "A log must have a row per epoch"),
        (lambda path: path.write_text("epoch\n0\n"), "of `wall_seconds`"),
        (lambda path: path.write_bytes(b"epoch\n\xff\n"), "log.csv, which"),
        (lambda path: path.write_text("a,b\n1,2\n"), "no column of epochs"),
        (lambda path: path.unlink(), "log.csv'"),
    ],
    "config.json": [
        (lambda path: path.write_text("{"), "must have the config.json"),
        (lambda path: path.write_text("[1]"), "must have the config.json"),
        (lambda path: path.write_bytes(b"\xff"), "must have the config.json"),
    ],
}


@pytest.mark.parametrize(
    "name, damage, message",
    [(name, *each) for name, damages in DAMAGES.items() for each in damages],
)
def test_a_damaged_run_is_told(run_dir, here, capsys, name, damage, message):
    damage(run_dir / name)
    check_door(["evaluate", "run"], message, here, capsys)


@pytest.mark.parametrize(
    "command, message",
    [
        (
            "rollout run --steps=-1 --out x.gif",
            "`num_steps` must be a whole number of",
        ),
        (
            "sample run --steps=-1 --out x.gif",
            "`num_steps` must be a whole number of",
        ),
        ("rollout run --dt 1e9 --out x.gif", "the true motion is followed"),
        ("rollout run --dt=-1e9 --out x.gif", "the true motion is followed"),
        ("rollout run --dt nan --out x.gif", "`dt` must be a finite number"),
        ("rollout run --add-energy nan --out x.gif", "must be a finite number"),
        ("rollout run --dt inf --steps 0 --out x.gif", "`dt` must be a finite"),
        ("preset run --name mine", "an HGN that was evaluated"),
        ("evaluate run --results run/log.csv", "where run/log.csv is a file"),
        (TRAIN + "--out run/log.csv", "where run/log.csv is a file"),
        (TRAIN + "--out run/log.csv/x", "where run/log.csv is a file"),
        (TRAIN, "where another is"),
    ],
)
def test_a_run_is_used_as_it_can_be(run_dir, here, capsys, command, message):
    check_door(command.split(), message, here, capsys)


def test_a_folder_that_is_trained_in_is_told(run_dir, here, capsys):
    arguments = [*TRAIN.split(), "--budget=demo"]
    with files.sole_user(run_dir):
        check_door(arguments, "by one process at a time", here, capsys)


def test_nobody_reads_the_list_any_more(monkeypatch, capsys):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as closed:
        monkeypatch.setattr(sys, "stdout", closed)
        assert main(["datasets"]) == 141
        monkeypatch.undo()
    assert capsys.readouterr().err == ""


def test_the_list_goes_to_a_full_disk(monkeypatch, capsys):
    full = pathlib.Path("/dev/full")
    if not full.exists():
        pytest.skip("there is no /dev/full")
    with full.open("w") as output:
        monkeypatch.setattr(sys, "stdout", output)
        assert main(["datasets"]) == 2
        monkeypatch.undo()  # what is left fails no more when it is closed
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("hgn-tf: ") and "No space left" in line


def script(backend):
    return subprocess.run(
        [sys.executable, "-m", "hgn_tf_command", "datasets", "--help"],
        env={**os.environ, "KERAS_BACKEND": backend},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )


def test_the_console_script_says_nothing_of_its_own():
    done = script("tensorflow")
    assert done.returncode == 0 and done.stderr == ""
    assert "usage: hgn-tf datasets" in done.stdout


def test_the_console_script_refuses_another_backend():
    done = script("jax")
    assert done.returncode == 2 and done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("hgn-tf: hgn_tf needs Keras on its backend tensor")


@pytest.mark.parametrize("backend", ["jax", "torch", "numpy", "openvino"])
def test_another_backend_is_refused_at_the_import(backend, monkeypatch):
    monkeypatch.setattr(keras.config, "backend", lambda: backend)
    for name in [name for name in sys.modules if name.startswith("hgn_tf")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ImportError, match=f"KERAS_BACKEND.*: {backend}$"):
        import hgn_tf  # noqa: F401


TF_CONFIG = '{"cluster": {"worker": ["127.0.0.1:1"]}, "task": {}}'


@pytest.mark.parametrize(
    "strategy, tf_config, message",
    [
        ("tpu", None, "`strategy` must be one of ['mirrored', 'multi_worker']"),
        ("multi_worker", None, "TF_CONFIG, on each machine with its own index"),
        ("multi_worker", "{", "Received: {"),
        ("multi_worker", TF_CONFIG, f"Received: {TF_CONFIG}"),
    ],
)
def test_a_strategy_that_cannot_be_is_refused(
    strategy, tf_config, message, here, capsys, monkeypatch
):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if tf_config is not None:
        monkeypatch.setenv("TF_CONFIG", tf_config)
    arguments = f"{TRAIN}--strategy {strategy}".split()
    check_door(arguments, message, here, capsys)
