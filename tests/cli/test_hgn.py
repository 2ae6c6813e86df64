"""The whole path from the command line, on a tiny dataset."""

import functools
import html
import json
import re
import shlex

import keras
import numpy as np
import PIL.Image
import PIL.ImageSequence
import pytest
import tensorflow_datasets as tfds

import tfds_physics
from hgn_tf import data, networks, presets, training
from hgn_tf.cli import main
from hgn_tf.evaluation import METRICS
from hgn_tf.experiments import runs
from hgn_tf.experiments.hgn import config as configs
from hgn_tf.experiments.hgn import train
from hgn_tf.experiments.hgn.config import VARIANTS
from hgn_tf.metrics import valid_prediction_time
from hgn_tf.viz import explore

DATASET = "physics_pendulum/tiny"
SHORT = {
    "num_steps": 4,
    "steps_per_epoch": 2,
    "batch_size": 4,
    "warmup_steps": 1,
}


def options(folder, **changes):
    settings = SHORT | changes
    pairs = [f"--set={name}={value}" for name, value in settings.items()]
    return ["train", DATASET, "--budget", "demo", "--out", str(folder), *pairs]


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory, data_dir):
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    assert main(options(folder)) == 0
    return folder


def test_a_run_leaves_everything_it_promises(run_dir):
    names = {path.name for path in run_dir.iterdir()}
    assert names >= {
        "config.json",
        "log.csv",
        "model.keras",
        "metrics.json",
        "evaluation.npz",
        "report.html",
    }
    result = runs.read_result(run_dir / "metrics.json")
    errors = {f"{name}_stderr" for name in METRICS}
    assert set(result.metrics) <= set(METRICS) | errors


def test_baselines_and_floor_are_those_of_the_dataset(run_dir):
    metrics = json.loads((run_dir / "metrics.json").read_text())["metrics"]
    builder = data.get_builder(DATASET)
    builder.download_and_prepare()
    test = data.load_split(builder, "test")
    video = test.video / 255.0
    still = data.load_split(builder, "train").video.mean((0, 1)) / 255.0
    expected = np.square(video - still).mean() * 1e4
    assert metrics["mean_image_mse_e4"] == pytest.approx(expected, rel=1e-5)
    frozen = np.square(video - video[:, :1]).mean() * 1e4
    assert metrics["frozen_frame_mse_e4"] == pytest.approx(frozen, rel=1e-5)
    _, variance = tfds_physics.expected_video(
        builder.recipe.system, test.q, builder.recipe.noise
    )
    # Both are Monte-Carlo means over 16 trajectories of the same noise.
    floor = 1e4 * variance.mean()
    assert metrics["noise_floor_mse_e4"] == pytest.approx(floor, rel=0.15)
    excess = metrics["test_mse_e4"] - metrics["noise_floor_mse_e4"]
    assert metrics["excess_mse_e4"] == pytest.approx(excess)
    long = data.load_split(builder, "test_long")
    best, _ = data.expected_frames(builder, long, 16)
    times = valid_prediction_time(long.video / 255.0, best, first_frame=30)
    # Other draws of the noise than those of the evaluation's batches.
    assert metrics["valid_prediction_time_noise_floor"] == pytest.approx(
        np.median(times), abs=10
    )


def test_test_error_is_that_of_predict(run_dir):
    metrics = json.loads((run_dir / "metrics.json").read_text())["metrics"]
    builder = data.get_builder(DATASET)
    builder.download_and_prepare()
    video = data.load_split(builder, "test").video
    model = keras.saving.load_model(run_dir / "model.keras")
    drawn = model.predict(video, verbose=0).video
    error = np.square(video / 255.0 - drawn).mean() * 1e4
    # Errors of an untrained model are large: relative, in float32.
    assert metrics["test_mse_e4"] == pytest.approx(error, rel=1e-3)


def test_the_same_command_again_trains_no_further(run_dir, monkeypatch):
    before = (run_dir / "log.csv").read_bytes()
    found = runs.read_result(run_dir / "metrics.json")
    monkeypatch.setattr(train, "evaluate", lambda *_: found)
    assert main(options(run_dir)) == 0
    assert (run_dir / "log.csv").read_bytes() == before


def test_the_report_s_command_is_that_of_the_run(run_dir, monkeypatch):
    page = html.unescape((run_dir / "report.html").read_text())
    (line,) = re.findall(r"<pre>hgn-tf (train .*)", page)
    asked = []
    monkeypatch.setattr(
        "hgn_tf.cli.hgn._train_and_evaluate",
        lambda config, folder, *_: asked.append((config, folder)),
    )
    assert main(shlex.split(line)) == 0
    assert asked == [(runs.read_config(run_dir, configs.Config), run_dir)]


def test_a_look_at_some_examples_leaves_the_scores_of_all(
    run_dir, tmp_path, capsys
):
    before = {path: path.read_bytes() for path in run_dir.glob("*.*")}
    arguments = ["evaluate", str(run_dir), "--examples", "4"]
    assert main([*arguments, "--results", str(tmp_path)]) == 0
    assert {path: path.read_bytes() for path in run_dir.glob("*.*")} == before
    (copy,) = tmp_path.iterdir()
    assert copy.name == "tiny-4-examples.json"
    copied = json.loads(copy.read_text())["metrics"]
    everything = json.loads((run_dir / "metrics.json").read_text())["metrics"]
    assert copied["test_mse_e4"] != everything["test_mse_e4"]
    out = capsys.readouterr().out
    assert "mean image" in out and "metrics.json" not in out


@pytest.mark.parametrize("dt", ["-0.125", "0.25", "0.0625"])
def test_rollouts_are_drawn(run_dir, tmp_path, dt):
    path = tmp_path / "x.gif"
    arguments = ["rollout", str(run_dir), f"--dt={dt}", "--steps=3"]
    assert main([*arguments, "--out", str(path)]) == 0
    assert path.read_bytes().startswith(b"GIF8")


def test_energy_is_added_half_way(run_dir, tmp_path):
    frames = {}
    for extra in ([], ["--add-energy"], ["--add-energy=-0.5"]):
        path = tmp_path / "x.gif"
        command = ["rollout", str(run_dir), "--steps=5", "--examples=1"]
        assert main([*command, *extra, "--out", str(path)]) == 0
        with PIL.Image.open(path) as image:
            frames[tuple(extra)] = np.stack(
                [
                    np.asarray(frame.convert("RGB"), np.int64)
                    for frame in PIL.ImageSequence.Iterator(image)
                ]
            )
    before, more, less = frames.values()
    # The palettes may differ: one is of other colours than the other.
    assert abs(more[:2] - before[:2]).max() < 16
    assert abs(more[-1] - less[-1]).max() > 0
    above = before.shape[1] // 2 - 4
    # Grey: from there on the truth is another motion.
    assert np.ptp(more[-1, :above]) == 0 and np.ptp(before[-1, :above]) > 0


def test_samples_are_drawn(run_dir, tmp_path, capsys):
    path = tmp_path / "x.gif"
    command = ["sample", str(run_dir), "--steps=3", "--out", str(path)]
    assert main(command) == 0
    normal = path.read_bytes()
    assert main([*command, "--prior", "learned"]) == 0
    learned = path.read_bytes()
    assert normal.startswith(b"GIF8") and learned.startswith(b"GIF8")
    assert main([*command, "--prior", "best"]) == 2
    assert "`prior` must be one of" in capsys.readouterr().err


def test_showcase_and_page_are_made_of_a_run(run_dir, tmp_path, monkeypatch):
    gif, page = tmp_path / "x.gif", tmp_path / "x.html"
    assert main(["showcase", str(run_dir), "--out", str(gif)]) == 0
    assert gif.read_bytes().startswith(b"GIF8")
    small = functools.partial(explore.write_page, grid=2, num_steps=3)
    monkeypatch.setattr(explore, "write_page", small)
    assert main(["explore", str(run_dir), "--out", str(page)]) == 0
    assert page.read_text("utf-8").count("data:image/png") == 2**2 + 1


def test_a_run_becomes_a_preset(run_dir, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(presets, "FOLDER", tmp_path)
    save = functools.partial(train.make_preset, folder=tmp_path)
    monkeypatch.setattr(train, "make_preset", save)
    assert main(["preset", str(run_dir), "--name", "tiny"]) == 0
    assert presets.list_presets() == ["tiny"]
    card = json.loads((run_dir / "metrics.json").read_text())
    assert presets.card("tiny") | {"metrics": {}} == card | {"metrics": {}}
    ours, theirs = presets.card("tiny")["metrics"], card["metrics"]
    # What the half precision of the weights does.
    assert ours["test_mse_e4"] == pytest.approx(theirs["test_mse_e4"], rel=0.02)
    prior = presets.load("tiny").prior
    np.testing.assert_array_equal(prior.mean, prior.rounded().mean)


def test_datasets_are_listed_and_previewed(tmp_path, capsys):
    assert main(["datasets"]) == 0
    out = capsys.readouterr().out
    assert all(f"physics_{name}" in out for name in tfds_physics.SYSTEMS)
    assert "train 50,000" in out
    path = tmp_path / "x.gif"
    assert main(["preview", "physics_two_body", "--out", str(path)]) == 0
    assert path.read_bytes().startswith(b"GIF8")


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["train", "physics_pendulam"], "dataset must be one of"),
        (["train", "physics_pendulum/smal"], "config of physics_pendulum"),
        (["train", DATASET, "--budget", "huge"], "`budget` must be one of"),
        (["train", DATASET, "--set", "steps=1"], "setting must be one of"),
        (["train", DATASET, "--set", "integrator=x"], "`integrator` must be"),
        (["train", DATASET, "--set", "batch_size=65"], "`batch_size` must"),
        (["train", DATASET, "--set", "tolerance=0.5"], "mean image meets"),
        (["train", DATASET, "--set", "form=x"], "`form` must be"),
        (
            ["train", DATASET, "--budget=flat", "--set", "half_precision=auto"],
            "`half_precision` is for the form",
        ),
        (
            ["train", DATASET, "--budget=conv", "--set", "half_precision=yes"],
            "`half_precision` must be one of",
        ),
    ],
)
def test_mistakes_get_one_clear_line(arguments, message, tmp_path, capsys):
    assert main([*arguments, "--out", str(tmp_path / "run")]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1].startswith("hgn-tf: ") and message in lines[-1]
    assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.mark.parametrize(
    "changes, file_format, message",
    [
        ({"max_examples_per_split": 2}, "tfrecord", "2 of 64 examples of tr"),
        ({}, "array_record", "array_record in .* Read it by `tfds.data_source"),
        ({}, "parquet", "Received: parquet in"),
    ],
)
def test_data_that_no_run_can_use_are_refused(
    changes, file_format, message, tmp_path, capsys
):
    builder = tfds.builder(
        DATASET, data_dir=tmp_path / "data", file_format=file_format
    )
    config = tfds.download.DownloadConfig(try_download_gcs=False, **changes)
    builder.download_and_prepare(download_config=config)
    command = [*options(tmp_path / "run"), "--data-dir", str(tmp_path / "data")]
    assert main(command) == 2
    assert re.search(message, capsys.readouterr().err.splitlines()[-1])
    assert not (tmp_path / "run").exists()
    assert main(["datasets", "--data-dir", str(tmp_path / "data")]) == 0
    assert ("A part: 2 of 64" in capsys.readouterr().out) == bool(changes)


def test_workers_are_asked_of_beam(tmp_path, capsys):
    assert main([*options(tmp_path / "run"), "--workers", "2"]) == 2
    assert "`--beam-options direct_num_workers=2," in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_beam_options_reach_the_dataset(tmp_path, monkeypatch, capsys):
    asked = []

    def prepare(builder, beam_options):
        asked.append(beam_options)
        raise ValueError("enough")

    monkeypatch.setattr(data, "prepare", prepare)
    with pytest.raises(ValueError, match="enough"):
        main([*options(tmp_path / "run"), "--beam-options", "runner=X"])
    assert asked == ["runner=X"]


def test_a_folder_of_something_else_is_not_taken(run_dir, tmp_path, capsys):
    (tmp_path / "thesis.tex").write_text("mine")
    assert main(options(tmp_path)) == 2
    assert "config.json" in capsys.readouterr().err
    assert main(options(run_dir, batch_size=8)) == 2
    assert "batch_size" in capsys.readouterr().err


@pytest.mark.parametrize(
    "option, message",
    [
        ("--dt=0", "`dt` must be"),
        ("--examples=0", "an example at least"),
        ("--steps=-1", "`num_steps`"),
    ],
)
def test_rollouts_of_nothing_are_refused(
    run_dir, tmp_path, capsys, option, message
):
    arguments = ["rollout", str(run_dir), option, "--out"]
    assert main([*arguments, str(tmp_path / "x.gif")]) == 2
    assert message in capsys.readouterr().err


def test_a_model_file_cut_in_half_is_named(run_dir, tmp_path, capsys):
    (tmp_path / "config.json").write_bytes(
        (run_dir / "config.json").read_bytes()
    )
    whole = (run_dir / "model.keras").read_bytes()
    (tmp_path / "model.keras").write_bytes(whole[: len(whole) // 2])
    assert main(["evaluate", str(tmp_path)]) == 2
    assert "model.keras" in capsys.readouterr().err
    (tmp_path / "model.keras").unlink()
    assert main(["evaluate", str(tmp_path)]) == 2
    assert "trained to its end" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("budget", ["paper", "conv"])
@pytest.mark.parametrize("model", ["hgn_leapfrog", "pixel_hnn_conv"])
def test_budgets_of_convolutions_start_and_step(tmp_path, budget, model):
    # Tracing 29 steps of convolutional energies takes most of a minute.
    changes = {
        "num_steps": 2,
        "steps_per_epoch": 2,
        "batch_size": 2,
        "warmup_steps": 1,
    }
    config = configs.make_config(DATASET, budget, **VARIANTS[model], **changes)
    train.train(config, tmp_path, verbose=0)
    (row,) = training.read_log(tmp_path / "log.csv")
    assert np.isfinite(float(row["loss"]))
    assert float(row["dropped_steps"]) == 0


def test_a_training_is_shown_the_first_frames_alone(tmp_path, monkeypatch):
    def fit(model, batches, *args, **settings):
        raise RuntimeError(batches(0).element_spec.shape[1])

    monkeypatch.setattr(train.training, "fit", fit)
    for num_frames, shown in ((12, 12), (0, 30)):
        config = configs.make_config(
            DATASET, "demo", num_frames=num_frames, **SHORT
        )
        with pytest.raises(RuntimeError, match=f"^{shown}$"):
            train.train(config, tmp_path / str(shown), verbose=0)


def test_log_and_result_say_what_the_pictures_computed_in(run_dir):
    rows = training.read_log(run_dir / "log.csv")
    assert [row["picture_dtype"] for row in rows] == ["float32"] * 2
    result = runs.read_result(run_dir / "metrics.json")
    assert result.picture_dtype == "float32"


@pytest.mark.parametrize(
    "setting, expected",
    [
        ("on", "mixed_bfloat16"),
        ("off", "float32"),
        (
            "auto",
            "mixed_bfloat16" if networks.has_bfloat16_units() else "float32",
        ),
    ],
)
def test_what_half_precision_became_is_read_from_the_model(setting, expected):
    config = configs.make_config(
        DATASET, "conv", half_precision=setting, filters=2
    )
    builder = data.get_builder(DATASET)
    model = configs._put_together(config, builder, 1e-4, 1.0)
    assert train._picture_dtype(model) == expected


def test_the_log_tells_a_law_from_a_memory(run_dir):
    """Each epoch has what a memory of the frames fails at."""
    rows = training.read_log(run_dir / "log.csv")
    assert len(rows) == 2
    for row in rows:
        for name in (
            "val_energy_r2",
            "val_energy_rank",
            "val_backward_mse_e4",
            "val_far_mse_e4",
            "val_kl",
            "val_elbo",
            "elbo",
            "agreement",
        ):
            assert np.isfinite(float(row[name])), name
