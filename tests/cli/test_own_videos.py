"""Your own videos through the command line: inspect, train, and what follows.

The example is a disc that swings, in grey, of 10x14 pixels.
"""

import json
import os

import numpy as np
import PIL.Image
import pytest

from hgn_tf import data, presets, training
from hgn_tf.cli import main
from hgn_tf.evaluation import METRICS, evaluate, format_scores
from hgn_tf.experiments.hgn import own, train
from hgn_tf.experiments.hgn.config import make_config, make_model

CLIPS, FRAMES, HEIGHT, WIDTH, FPS = 20, 12, 10, 14, 25
SHORT = ["num_steps=4", "steps_per_epoch=2", "batch_size=4", "warmup_steps=1"]
OPTIONS = ["--clip-frames", "12", "--image-size", "10x14", "--channels", "1"]


def write_clips(folder, count=CLIPS):
    rng = np.random.default_rng(0)
    row, column = np.mgrid[:HEIGHT, :WIDTH]
    phases = rng.uniform(0, 2 * np.pi, (count, 1)) + 0.4 * np.arange(FRAMES)
    for index, phase in enumerate(phases):
        centre = WIDTH / 2 + 4 * np.sin(phase)[:, None, None]
        disc = np.exp(-((row - 5) ** 2 + (column - centre) ** 2) / 4)
        video = np.rint(60 + 150 * disc).astype(np.uint8)
        np.savez(folder / f"{index:02d}.npz", video=video, fps=FPS)
    return folder


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return write_clips(tmp_path_factory.mktemp("clips"))


@pytest.fixture(scope="module")
def options(clips, data_dir):
    return [str(clips), *OPTIONS, "--data-dir", os.environ["TFDS_DATA_DIR"]]


@pytest.fixture(scope="module")
def run_dir(options, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "own"
    pairs = [f"--set={pair}" for pair in SHORT]
    assert main(["train", *options, "--out", str(folder), *pairs]) == 0
    return folder


@pytest.fixture(scope="module")
def builder(clips, data_dir):
    return data.open_videos(
        clips,
        str(data_dir),
        clip_frames=FRAMES,
        image_size=(HEIGHT, WIDTH),
        channels=1,
    )


@pytest.mark.parametrize(
    "more, message",
    [
        (["--budget", "flatt"], "`budget` must be one of"),
        (["--set", "num_steps=0"], "`num_steps` must be at least"),
        (["--set", "num_step=1"], "A setting must be one of"),
        (["--seed", "-1"], "`seed` must be from 0"),
        (["--budget", "objects"], "two numbers for each"),
        (["--budget=objects", "--set=latent_size=5"], "Received: 5 numbers"),
        (["--set=model=pixel_hnn", "--set=form=dense"], "take an HGN"),
    ],
)
def test_settings_are_refused_before_videos_are_read(
    more, message, options, monkeypatch, capsys
):
    monkeypatch.setattr(data, "open_videos", None)  # would fail if called
    assert main(["train", *options, *more]) == 2
    assert message in capsys.readouterr().err


def test_inspect_says_what_is_there_and_draws_it(
    options, tmp_path, capsys, clips
):
    (clips / "notes.txt").write_text("mine")
    np.savez(clips / "short.npz", video=np.zeros((3, 10, 14), np.uint8), fps=25)
    out = tmp_path / "sheet.png"
    try:
        assert main(["inspect", *options, "--out", str(out)]) == 0
    finally:
        (clips / "notes.txt").unlink()
        (clips / "short.npz").unlink()
    text = capsys.readouterr().out
    for line in (
        f"{FRAMES} frames of 10x14, 1 channel",
        "frames: 240 were read, 0 of them are in no clip",
        "dt: 0.04 s per frame, stride 1; 0.44 s per clip",
        "left out short.npz: 3 frames, a clip has 12",
        "no videos: notes.txt",
        "num_inference_frames=5",
        "clips of train are few",
    ):
        assert line in text
    with PIL.Image.open(out) as sheet:
        assert sheet.format == "PNG" and min(sheet.size) > 100


def test_a_run_leaves_what_can_be_said_and_nothing_else(run_dir):
    result = json.loads((run_dir / "metrics.json").read_text())
    scores = result["metrics"]
    for name in (
        "forecast_mse_e4",
        "forecast_mean_image_mse_e4",
        "forecast_frozen_frame_mse_e4",
        "reversibility_error",
        "energy_drift",
        "recorded_backward_mse_e4",
        "collapsed",
        "valid_prediction_time",
        "valid_prediction_time_mean_image",
    ):
        assert np.isfinite(scores[name]), name
    needs_truth = ("energy_r2", "energy_rank", "noise_floor", "excess", "speed")
    assert not [
        name for name in scores if any(word in name for word in needs_truth)
    ]
    page = (run_dir / "report.html").read_text("utf-8")
    assert page.count('class="player"') == 4  # Forward, backward, both priors.
    assert page.count("<span>recorded</span>") == 2
    for word in ("true energy", "noise floor", "double speed", ">truth<"):
        assert word not in page
    for word in ("error of the forecast", "frozen frame", "Time run backward"):
        assert word in page
    text = format_scores(scores)
    assert "forecast MSE x 1e4" in text and "collapsed" in text
    (first, *_) = training.read_log(run_dir / "log.csv")
    assert np.isfinite(float(first["val_backward_mse_e4"]))
    assert "val_energy_r2" not in first
    assert set(scores) <= set(METRICS) | {f"{name}_stderr" for name in METRICS}


def test_yardsticks_are_those_of_the_clips(run_dir, builder):
    scores = json.loads((run_dir / "metrics.json").read_text())["metrics"]
    video = data.load_split(builder, "test").video / 255.0
    image = data.load_split(builder, "train").video.mean((0, 1)) / 255.0
    expected = {
        "forecast_mean_image_mse_e4": np.square(video[:, 5:] - image),
        "forecast_frozen_frame_mse_e4": np.square(video[:, 5:] - video[:, 4:5]),
    }
    for name, error in expected.items():
        assert scores[name] == pytest.approx(1e4 * error.mean(), rel=1e-5)


def test_dt_reaches_the_model_and_its_clock(run_dir):
    config, model = train.load(run_dir)
    assert model.dt == pytest.approx(1 / FPS)
    # 0.125 s per frame is what the settings were found with.
    assert model.hamiltonian.potential.rate == pytest.approx(0.125 * FPS)
    assert config.dataset.startswith("video_folder/clips")


def test_the_same_command_goes_on_and_other_clips_are_refused(
    run_dir, options, capsys, monkeypatch
):
    before = (run_dir / "log.csv").read_bytes()
    pairs = [f"--set={pair}" for pair in SHORT]
    again = ["train", *options, "--out", str(run_dir), *pairs]
    monkeypatch.setattr(train, "evaluate", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(again)
    assert (run_dir / "log.csv").read_bytes() == before
    assert main([*again, "--split-seed", "1"]) == 2
    assert "['dataset'] differ" in capsys.readouterr().err


def test_a_run_is_evaluated_rolled_out_sampled_and_explored(
    run_dir, tmp_path, data_dir, monkeypatch, capsys
):
    where = ["--data-dir", os.environ["TFDS_DATA_DIR"]]
    assert main(["evaluate", str(run_dir), *where]) == 0
    for name, arguments, height in (
        ("on", ["rollout", str(run_dir), "--steps=14", *where], 2 * HEIGHT + 2),
        ("back", ["rollout", str(run_dir), "--dt=-0.04", *where], HEIGHT),
        ("new", ["sample", str(run_dir), "--steps=3"], HEIGHT),
    ):
        path = tmp_path / f"{name}.gif"
        assert main([*arguments, "--out", str(path)]) == 0
        with PIL.Image.open(path) as image:
            assert image.size[1] == 4 * height
    monkeypatch.setattr("hgn_tf.viz.explore._SAMPLES", 8)
    page = tmp_path / "page.html"
    assert main(["explore", str(run_dir), "--out", str(page)]) == 0
    assert 'width="14" height="10"' in page.read_text("utf-8")


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["train", "physics_pendulum/tiny", "--stride", "2"], "['stride'] are"),
        (["train", "CLIPS", "--image-size", "4x"], "--image-size must be"),
        (["train", "CLIPS", "--clip-frames", "40"], "12 frames, a clip has 40"),
        (["train", "CLIPS", "--budget", "huge"], "`budget` must be one of"),
        (["train", "CLIPS", "--set", "latent_size=0"], "latent_size=16"),
        (["train", "CLIPS", "--set", "model=pixel_hnn"], "take an HGN"),
        (["train", "no/such/folder"], "or a folder or file of videos"),
        (["train", "video_folder/none-12"], "must have been made"),
        (["inspect", "no/such/folder"], "where nothing is"),
        (
            ["train", "CLIPS", "--beam-options", "direct_num_workers=2"],
            "read by one process",
        ),
        (["inspect", "CLIPS", "--channels", "2"], "`channels` must be 3"),
        (["showcase", "RUN"], "the true motion"),
    ],
)
def test_mistakes_get_one_line(
    arguments, message, clips, run_dir, tmp_path, capsys, data_dir
):
    places = {"CLIPS": str(clips), "RUN": str(run_dir)}
    arguments = [places.get(word, word) for word in arguments]
    own_options = ["--clip-frames", "12", "--image-size", "10x14"]
    arguments += ["--data-dir", os.environ["TFDS_DATA_DIR"]]
    if str(clips) in arguments and "--clip-frames" not in arguments:
        arguments += own_options[:2]
    if "--set" in arguments and "model=pixel_hnn" in arguments:
        arguments += ["--set", "form=dense"]
    name = "x.png" if arguments[0] == "inspect" else "x.gif"
    assert main([*arguments, "--out", str(tmp_path / name)]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1].startswith("hgn-tf: ") and message in lines[-1]


def test_a_model_of_another_dt_is_not_scored(run_dir, builder):
    _, model = train.load(run_dir)
    model.dt = 0.05
    with pytest.raises(ValueError, match="dt=0.05 and videos of 0.04"):
        evaluate(model, builder)


@pytest.mark.parametrize("form", ["flat", "paper"])
def test_both_forms_of_networks_take_the_clips(form, builder):
    config = make_config(
        data.dataset_name(builder),
        "demo",
        form=form,
        tolerance=1e-4,
        **({"filters": 4} if form == "paper" else {}),
    )
    model = make_model(config, builder)
    state = model.infer(data.load_split(builder, "test").video)
    assert model.decode(model.rollout(state, 2)).shape[2:] == (10, 14, 1)


def found(**changes):
    return own.Findings(
        {"train": 100, "test": 10}, 30, (32, 32, 3), 0.1,
        80e-4, 0.0, 1.0, 0.05, 0.0, 0.1,
    )._replace(**changes)  # fmt: skip


@pytest.mark.parametrize(
    "changes, setting, value",
    [
        ({}, "num_inference_frames", 5),
        ({"noise": 10e-4}, "num_inference_frames", 10),
        ({"motion": 0.1}, "num_inference_frames", 10),
        ({"motion": 0.01}, "num_inference_frames", 15),
        ({}, "tolerance", 4e-5),
        ({"noise": 20e-4}, "tolerance", 3e-5),
        ({"clips": {"train": 7, "test": 1}}, "batch_size", 7),
        ({}, "latent_size", 16),
    ],
)
def test_settings_are_proposed_with_a_word_why(changes, setting, value):
    proposal = own.propose(found(**changes))[setting]
    assert proposal.value == pytest.approx(value) and len(proposal.why) > 10


@pytest.mark.parametrize(
    "changes, word",
    [
        ({"motion": 0.0}, "Nothing moves"),
        ({"still": 0.8}, "80% of the frames"),
        ({"one_way": 0.9}, "a drawing"),
        ({"moving": 0.7}, "camera"),
        ({"motion": 6.0}, "smaller stride"),
        ({"clips": {"train": 7, "test": 1}}, "are few"),
    ],
)
def test_what_may_keep_a_law_from_being_learned_is_said(changes, word):
    assert own.warnings(found()) == []
    (line,) = own.warnings(found(**changes))
    assert word in line


def test_a_preset_keeps_the_rate(run_dir, tmp_path):
    _, model = train.load(run_dir)
    presets.save(model, tmp_path / "preset")
    again = presets.load(tmp_path / "preset")
    assert again.hamiltonian.kinetic.rate == pytest.approx(0.125 * FPS)
