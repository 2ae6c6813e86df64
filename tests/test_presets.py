"""Trained models that ship: saved, loaded, and worth what their card says."""

import hashlib
import shutil
import sys
import types

import keras
import numpy as np
import pytest

import hgn_tf
from hgn_tf import data, metrics, networks, presets

# Of the split test, far past those of any config.
_FIRST, _LAST = 1_000_000, 1_000_032


def make_model(cls=hgn_tf.HGN, **parts):
    parts = networks.flat_networks(latent_size=1, decoder_units=(8,)) | parts
    model = cls(**parts, num_inference_frames=5)
    model.build((None, 30, 32, 32, 3))
    return model


@pytest.fixture
def saved(tmp_path, monkeypatch, seed):
    """A small model, and a folder where it is the preset "small"."""
    model = make_model()
    presets.save(model, tmp_path / "small", {"dataset": "none"})
    monkeypatch.setattr(presets, "FOLDER", tmp_path)
    return model


def test_a_preset_is_the_model_in_half_precision(saved):
    assert hgn_tf.list_presets() == ["small"]
    assert presets.card("small") == {"dataset": "none"}
    video = np.random.default_rng(0).random((2, 5, 32, 32, 3), np.float32)
    loaded = hgn_tf.HGN.from_preset("small")
    for expected, found in zip(saved.infer(video), loaded.infer(video)):
        np.testing.assert_allclose(expected, found, rtol=1e-2, atol=1e-2)
    assert loaded.num_inference_frames == 5 and loaded.dt == saved.dt


def test_a_folder_gives_back_the_very_model(tmp_path, seed):
    encoder = networks.flat_networks(latent_size=1)["encoder"]
    video = keras.Input((5, 32, 32, 3))
    mean, log_scale = encoder(video)
    mean = keras.layers.BatchNormalization()(mean)
    model = make_model(encoder=keras.Model(video, [mean, log_scale]))
    for weight in model.part_weights:
        weight.assign_add(0.1 * np.ones(weight.shape))
    assert model.save_to_preset(tmp_path / "mine") == tmp_path / "mine"
    loaded = hgn_tf.HGN.from_preset(tmp_path / "mine")
    assert len(loaded.part_weights) == len(model.trainable_weights) + 2
    for ours, theirs in zip(loaded.part_weights, model.part_weights):
        np.testing.assert_array_equal(ours, theirs)
    with pytest.raises(ValueError, match="has a card if it was saved with one"):
        presets.card(tmp_path / "mine")


def test_a_preset_says_what_it_is_to_a_reader(tmp_path, seed):
    measured = {"dataset": "mine", "metrics": {"fvu": 0.1234321, "r2": None}}
    model = make_model()
    model.save_to_preset(tmp_path / "mine", measured)
    text = (tmp_path / "mine" / "README.md").read_text("utf-8")
    assert text.startswith("---\nlibrary_name: keras\n")
    assert 'hgn_tf.HGN.from_preset("THIS_FOLDER")' in text
    assert "| fvu | 0.1234 |" in text and "| r2 | none |" in text
    model.save_to_preset(tmp_path / "mine")
    text = (tmp_path / "mine" / "README.md").read_text("utf-8")
    assert "without measures" in text and "fvu" not in text


def test_what_is_no_whole_model_is_no_preset(tmp_path):
    nhf = hgn_tf.NHF(**hgn_tf.nhf_networks(num_hamiltonians=1))
    with pytest.raises(ValueError, match="Received: a NHF that is not"):
        presets.save(nhf, tmp_path / "mine")
    for other in (hgn_tf.HNN(units=(8,)), None):
        with pytest.raises(TypeError, match="must be of an HGN, PixelHNN, NHF"):
            presets.save(other, tmp_path / "mine")
    assert not (tmp_path / "mine").exists()
    nhf.build((None, 2))
    folder = presets.save(nhf, tmp_path / "mine")
    text = (folder / "README.md").read_text("utf-8")
    assert 'hgn_tf.presets.load("THIS_FOLDER")' in text
    loaded = presets.load(folder)
    np.testing.assert_array_equal(loaded.sample(3), nhf.sample(3))


@pytest.mark.parametrize("name", hgn_tf.list_presets())
def test_a_preset_that_ships_has_its_card_and_whole_files(name):
    folder = presets.FOLDER / name
    text = (folder / "README.md").read_text("utf-8")
    assert text == presets.describe("HGN", presets.card(name))
    lines = (folder / "SHA256SUMS").read_text("ascii").splitlines()
    sums = dict(reversed(line.split("  ")) for line in lines)
    assert set(sums) == {path.name for path in folder.iterdir()} - {
        "SHA256SUMS"
    }
    for file, expected in sums.items():
        found = hashlib.sha256((folder / file).read_bytes()).hexdigest()
        assert found == expected, file


def test_rounded_weights_take_half_the_room(tmp_path, seed):
    model = make_model()
    model.save_to_preset(tmp_path / "whole")
    presets.round_weights(model)
    model.save_to_preset(tmp_path / "half", {"dataset": "none"})
    assert presets.card(tmp_path / "half") == {"dataset": "none"}
    sizes = [
        (tmp_path / name / "weights.npz").stat().st_size
        for name in ("half", "whole")
    ]
    assert sizes[0] < 0.6 * sizes[1]


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub in a folder, with what we ask of `huggingface_hub`."""

    class Api:
        def create_repo(self, name, exist_ok):
            (tmp_path / "hub" / name).mkdir(parents=True, exist_ok=exist_ok)

        def upload_folder(self, repo_id, folder_path):
            shutil.copytree(
                folder_path, tmp_path / "hub" / repo_id, dirs_exist_ok=True
            )

    def snapshot_download(name, allow_patterns):
        (tmp_path / "cache").mkdir(exist_ok=True)
        for pattern in allow_patterns:
            if (file := tmp_path / "hub" / name / pattern).exists():
                shutil.copy(file, tmp_path / "cache")
        return str(tmp_path / "cache")

    module = types.SimpleNamespace(
        HfApi=Api, snapshot_download=snapshot_download
    )
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)
    return tmp_path / "hub"


def test_the_hub_gives_back_the_very_model(hub, seed):
    model = make_model()
    address = "hf://somebody/pendulum"
    assert model.save_to_preset(address, {"dataset": "none"}) == address
    loaded = hgn_tf.HGN.from_preset(address)
    for ours, theirs in zip(loaded.part_weights, model.part_weights):
        np.testing.assert_array_equal(ours, theirs)
    assert presets.card(address) == {"dataset": "none"}
    (hub / "somebody" / "pendulum" / "config.json").unlink()
    (hub.parent / "cache" / "config.json").unlink()
    with pytest.raises(ValueError, match="somebody/pendulum, without config"):
        hgn_tf.HGN.from_preset(address)


def test_what_the_hub_cannot_be_asked_is_refused(hub, monkeypatch):
    for address in ("hf://pendulum", "hf://a/b/c"):
        with pytest.raises(ValueError, match=f"'hf://user/name'.*{address}"):
            hgn_tf.HGN.from_preset(address)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match=r"hgn-tf\[hub\]"):
        hgn_tf.HGN.from_preset("hf://somebody/pendulum")


class OtherHGN(hgn_tf.HGN):
    """Another class, for which the presets of HGN are not."""


def test_a_preset_of_another_class_is_refused(saved):
    with pytest.raises(
        ValueError, match="OtherHGN.from_preset.*'small', a HGN"
    ):
        OtherHGN.from_preset("small")


def test_a_preset_can_be_trained_on(saved):
    model = hgn_tf.HGN.from_preset("small")
    model.compile("adam")
    video = np.zeros((2, 30, 32, 32, 3), np.uint8)
    history = model.fit(video, batch_size=2, verbose=0).history
    assert np.isfinite(history["loss"]).all()


def test_half_a_preset_is_none(saved, tmp_path):
    (tmp_path / "small" / "card.json").unlink()
    assert hgn_tf.list_presets() == []


def test_weights_of_another_model_are_refused(saved, tmp_path):
    path = tmp_path / "small" / "weights.npz"
    with np.load(path) as file:
        weights = dict(file)
    (tmp_path / "small" / "SHA256SUMS").unlink()
    name, value = weights.popitem()
    np.savez(path, **weights)
    with pytest.raises(ValueError, match=f"{name}.*Received"):
        hgn_tf.HGN.from_preset("small")
    np.savez(path, **weights, **{name: value[..., None]})
    with pytest.raises(ValueError, match="must be of its model"):
        hgn_tf.HGN.from_preset("small")


def test_unknown_names_are_refused(saved):
    with pytest.raises(ValueError, match=r"\['small'\].*'large'"):
        hgn_tf.HGN.from_preset("large")


@pytest.mark.parametrize("name", presets.list_presets())
def test_presets_reach_on_fresh_videos_what_their_card_says(name, data_dir):
    card, model = presets.card(name), hgn_tf.HGN.from_preset(name)
    dataset = card["dataset"].partition("/")[0]
    recipe = data.get_builder(f"{dataset}/tiny").recipe
    fresh = data.make_trajectories(recipe, "test", range(_FIRST, _LAST))
    video = fresh.video / np.float32(255.0)
    drawn = model.decode(model.rollout(model.infer(fresh.video), 29)).numpy()
    error = metrics.pixel_mse(video, drawn)
    still = np.broadcast_to(video.mean(axis=(0, 1)), video.shape)
    found = metrics.fvu(error, metrics.pixel_mse(video, still))
    assert found == pytest.approx(card["metrics"]["test_fvu"], rel=0.3)
