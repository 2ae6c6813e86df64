"""The page of a run says what its files say, and loads nothing."""

import csv
import json
import re
import shutil

import numpy as np
import pytest

from hgn_tf.viz import report

DT, SIZE = 0.125, 32
BACKGROUND = np.array([0.321, 0.349, 0.368])
COLORS = np.array([[0.9, 0.6, 0.1], [0.3, 0.7, 0.9]])


def discs(angles, noise=0.0, seed=0):
    """Two discs on a circle: angles [N, T] -> uint8 [N, T, 32, 32, 3]."""
    grid = (np.arange(SIZE) + 0.5) / SIZE * 2 - 1
    x, y = np.meshgrid(grid, grid)
    video = np.broadcast_to(BACKGROUND, (*angles.shape, SIZE, SIZE, 3))
    for color, phase in zip(COLORS, (0, np.pi)):
        center = 0.55 * np.cos(angles + phase), 0.55 * np.sin(angles + phase)
        away = np.hypot(
            *(g - c[..., None, None] for g, c in zip((x, y), center))
        )
        cover = np.clip((0.28 - away) * 16 + 0.5, 0, 1)[..., None]
        video = video * (1 - cover) + color * cover
    video = video + noise * np.random.default_rng(seed).normal(size=video.shape)
    return np.rint(np.clip(video, 0, 1) * 255).astype(np.uint8)


def make_arrays(num_frames=30, num_long=240):
    """What evaluation.npz holds, of a model that lags a little behind."""
    rng = np.random.default_rng(0)
    start = np.array([0.0, 1.0, 2.2, 3.5])[:, None]
    speed = np.array([0.8, 1.4, 2.0, 1.1])[:, None]
    times, longer = np.arange(num_frames) * DT, np.arange(num_long) * DT
    true = rng.uniform(0.5, 4, 200)
    q = np.sin(start + speed * times)[..., None] * rng.normal(size=16)
    p = np.cos(start + speed * times)[..., None] * rng.normal(size=16)
    arrays = {
        "per_frame_model": 13e-4 + 4e-4 * times,
        "per_frame_model_stderr": 4e-5 + 4e-5 * times,
        "per_frame_mean_image": np.full(num_frames, 101e-4),
        "per_frame_frozen_frame": 12e-4 + 150e-4 * np.sin(times / 2) ** 2,
        "per_frame_noise_floor": np.full(num_frames, 11.9e-4),
        "long_model": 13e-4 + 90e-4 * longer / (longer + 12),
        "long_mean_image": np.full(num_long, 101e-4),
        "long_frozen_frame": 12e-4 + 150e-4 * np.sin(longer / 2) ** 2,
        "long_noise_floor": np.full(num_long, 11.9e-4),
        "samples": discs(start + 1.7 * speed * times + 0.4),
        "samples_learned": discs(start + speed * times - 0.4),
        "learned_energy_along": np.log(speed) + 0.01 * np.sin(9 * times),
        "energy_true": true,
        "energy_learned": 3 - 2 * true + 0.3 * rng.normal(size=200),
        "latent_q": q,
        "latent_p": p,
        "dt": np.float32(DT),
        "num_inference_frames": 5,
    }
    speeds = {"forward": 1, "backward": -1, "double": 2, "half": 0.5}
    for name, factor in speeds.items():
        angle = start + factor * speed * times
        arrays[f"truth_{name}"] = discs(angle, noise=0.03)
        arrays[f"model_{name}"] = discs(angle * 0.985)
    return arrays


METRICS = {
    "test_mse_e4": 18.31, "test_mse_e4_stderr": 0.22,
    "mean_image_mse_e4": 101.2, "frozen_frame_mse_e4": 84.5,
    "noise_floor_mse_e4": 11.9, "excess_mse_e4": 6.41, "test_fvu": 0.0809,
    "energy_r2": 0.968, "energy_drift": 0.0124, "energy_variance": 3.2e-5,
    "reversibility_error": 2.1e-6, "backward_mse_e4": 21.7,
    "double_speed_mse_e4": 33.2, "half_speed_mse_e4": 17.9,
    "long_mse_e4": 71.4, "long_mean_image_mse_e4": 101.0,
    "long_frozen_frame_mse_e4": 92.1, "valid_prediction_time": 112,
}  # fmt: skip
CONFIG = {
    "dataset": "physics_pendulum/small", "budget": "demo", "seed": 0,
    "steps": 2000, "batch_size": 32, "integrator": "leapfrog", "dt": DT,
    "num_inference_frames": 5, "learning_rate": 1e-3,
}  # fmt: skip
ROWS = [
    {
        "epoch": epoch, "step": 100 * epoch + 100, "loss": 40 / (epoch + 1),
        "reconstruction": 0.01 / (epoch + 1), "kl": 20 - 10 / (epoch + 1),
        "geco_multiplier": 1 + epoch, "dropped_steps": 0,
        "val_reconstruction": "NA" if epoch % 5 else 0.011 / (epoch + 1),
    }
    for epoch in range(20)
]  # fmt: skip


def make_run(folder, arrays):
    """Writes the files of a trained and evaluated run."""
    folder.mkdir()
    results = {
        "experiment": "demo", "model": "HGN", "dataset": CONFIG["dataset"],
        "seed": 0, "budget": "demo", "metrics": METRICS, "config": CONFIG,
        "commit": "0123abc", "wall_seconds": 521.0, "cpu_seconds": 950.0,
        "peak_memory_mb": 1830.0,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "metrics.json").write_text(json.dumps(results))
    np.savez(folder / "evaluation.npz", **arrays)
    with (folder / "log.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ROWS[0])
        writer.writeheader()
        writer.writerows(ROWS)
    return folder


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("runs") / "demo", make_arrays())


@pytest.fixture(scope="module")
def page(run_dir):
    return report.write_report(run_dir).read_text("utf-8")


def test_page_has_the_numbers_and_a_player_a_motion(page):
    for text in ("18.31", "101.2", "11.9", "0.0809", "physics_pendulum/small"):
        assert text in page
    # And samples of both priors.
    assert page.count('class="player"') == 4 + 2
    assert "states of the learned prior" in page
    assert page.count('class="strip"') == 4


def test_page_loads_nothing_and_every_picture_has_a_text(page):
    assert not re.search(r"https?://", page)
    sources = re.findall(r'(?:src|href)="([^"]{0,5})', page)
    assert all(source[0] == "#" or source == "data:" for source in sources)
    for tag in re.findall(r"<canvas[^>]*>|<[^>]*role=.img.[^>]*>", page):
        assert re.search(r'aria-label="[^"]+"', tag)


def test_page_does_without_what_a_run_may_lack(tmp_path):
    arrays = make_arrays(num_frames=4)
    needed = {name: arrays[name] for name in report.ARRAYS}
    path = report.write_report(make_run(tmp_path / "run", needed))
    assert path.read_text("utf-8").count('class="player"') == 1


@pytest.mark.parametrize("name", report.FILES)
def test_missing_and_broken_files_name_the_command(tmp_path, run_dir, name):
    folder = shutil.copytree(run_dir, tmp_path / "run")
    command = report.FILES[name].split(" {")[0]
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(
        data[: len(data) // 2] if name[0] != "l" else b""
    )
    with pytest.raises(ValueError, match=f"{name} must be what `{command}"):
        report.write_report(folder)
    (folder / name).unlink()
    with pytest.raises(ValueError, match=f"must hold {name}.*`{command}"):
        report.write_report(folder)


@pytest.mark.browser
@pytest.mark.parametrize("width", [390, 1280])
def test_page_fits_the_window_without_console_errors(page, browse, width):
    assert browse.overflow(page, width) == 0


@pytest.mark.browser
def test_every_picture_of_the_page_loads(page, browse):
    assert browse.broken_pictures(page) == 0
