"""Files that a disk or a stranger altered: a line that says so, or the same."""

import json
import os
import shutil

import keras
import numpy as np
import pytest

import hgn_tf
from hgn_tf import files, networks, presets, training
from hgn_tf.experiments import runs

SHAPE = (6, 8, 8, 1)


def make_model():
    keras.utils.set_random_seed(0)
    parts = networks.flat_networks(
        8, 1, latent_size=1, encoder_filters=(4,), decoder_units=(4,)
    )
    model = hgn_tf.HGN(**parts, num_inference_frames=3)
    model.compile("adam")
    model.build((None, *SHAPE))
    model.optimizer.build(model.trainable_variables)
    return model


@pytest.fixture(scope="module")
def model():
    return make_model()


# How each kind of file is written into a folder, and read from it as arrays.
def write_arrays(model, folder):
    files.write_arrays(folder / "x.npz", {"x": np.arange(999.0)})


def read_arrays(model, folder):
    return list(files.read_arrays(folder / "x.npz").values())


def write_preset(model, folder):
    presets.save(model, folder, {"dataset": "none"})


def read_preset(model, folder):
    presets.card(folder)
    return presets.load(folder).get_weights()


def write_model(model, folder):
    runs.save_model(model, folder)


def read_model(model, folder):
    return runs.load_model(folder).get_weights()


def write_checkpoint(model, folder):
    checkpoint = training.Checkpoint(folder)
    checkpoint.set_model(model)
    checkpoint.on_epoch_end(0)


def read_checkpoint(model, folder):
    assert training.restore(model, folder) == 1
    return [
        *model.get_weights(),
        *(v.numpy() for v in model.optimizer.variables),
    ]


KINDS = {
    "npz": (write_arrays, read_arrays),
    "preset": (write_preset, read_preset),
    "model": (write_model, read_model),
    "checkpoint": (write_checkpoint, read_checkpoint),
}


def check_altered(kind, model, folder, alter):
    """Each altered file of a kind gives an error with its name, or the same."""
    write, read = KINDS[kind]
    write(model, folder)
    expected = read(model, folder)
    paths = [path for path in folder.rglob("*") if path.is_file()]
    told = 0
    for path in paths:
        whole = path.read_bytes()
        for altered in alter(whole):
            path.write_bytes(altered)
            try:
                found = read(model, folder)
            except ValueError as error:
                # Of a preset, the file or the sums may be the altered one.
                names = [path.name, presets._SUMS]
                assert any(name in str(error) for name in names)
                assert "\n" not in str(error) and len(str(error)) < 800
                told += 1
            else:
                for one, other in zip(found, expected, strict=True):
                    np.testing.assert_array_equal(one, other)
        path.write_bytes(whole)
    assert told > len(paths)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "count", [10, pytest.param(100, marks=pytest.mark.slow)]
)
def test_altered_bytes_are_told_or_change_nothing(kind, count, model, tmp_path):
    rng = np.random.default_rng(count)

    def alter(whole):
        # Half of them in the directory at the end, where no checksum is.
        places = rng.integers(0, len(whole), count)
        places[::2] = rng.integers(max(0, len(whole) - 400), len(whole))
        for place in places:
            altered = bytearray(whole)
            altered[place] ^= rng.integers(1, 256)
            yield bytes(altered)

    check_altered(kind, model, tmp_path, alter)


@pytest.mark.parametrize("kind", KINDS)
def test_files_cut_short_are_told(kind, model, tmp_path):
    rng = np.random.default_rng(0)

    def alter(whole):
        for length in [0, len(whole) - 1, *rng.integers(0, len(whole), 8)]:
            yield whole[:length]

    check_altered(kind, model, tmp_path, alter)


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_pickles_in_arrays_are_not_opened(model, tmp_path):
    presets.save(model, tmp_path / "preset")
    (tmp_path / "preset" / "SHA256SUMS").unlink()
    trap = np.array([Trap(tmp_path / "sprung")], object)
    for path in (tmp_path / "x.npz", tmp_path / "preset" / "weights.npz"):
        np.savez(path, x=trap)
        with pytest.raises(ValueError, match=f"{path.name}.*allow_pickle"):
            files.read_arrays(path)
    with pytest.raises(ValueError, match="weights.npz.*allow_pickle"):
        presets.load(tmp_path / "preset")
    trap.dump(tmp_path / "y.npz")
    with pytest.raises(ValueError, match="y.npz.*allow_pickle"):
        files.read_arrays(tmp_path / "y.npz")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    "part",
    [
        {"module": "os", "class_name": "mkdir", "config": {}},
        {"module": "builtins", "class_name": "function", "config": "mkdir"},
        {"module": "keras.utils", "class_name": "get_file", "config": {}},
    ],
)
def test_a_stranger_s_code_is_not_run(part, model, tmp_path):
    presets.save(model, tmp_path)
    (tmp_path / "SHA256SUMS").unlink()
    config = json.loads((tmp_path / "config.json").read_text())
    config["config"]["encoder"] = {**part, "registered_name": None}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="a model of ours.*config.json"):
        presets.load(tmp_path)


def test_a_lambda_of_a_stranger_is_not_run(model, tmp_path):
    """Keras's safe mode: the code of a lambda would be run."""
    frames = keras.Input(SHAPE)
    layer = keras.layers.Lambda(lambda x: x)
    keras.Model(frames, layer(frames)).save(tmp_path / "model.keras")
    with pytest.raises(ValueError, match="model.keras, which.*Lambda"):
        runs.load_model(tmp_path)


def test_a_preset_keeps_its_sums(model, tmp_path):
    presets.save(model, tmp_path, {"dataset": "none"})
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [
        "README.md",
        "SHA256SUMS",
        "card.json",
        "config.json",
        "weights.npz",
    ]
    # Saved without a card, it has none: not that of the model before.
    presets.save(model, tmp_path)
    with pytest.raises(ValueError, match="has a card if"):
        presets.card(tmp_path)
    # One of an earlier version has no sums, and is read as it is.
    (tmp_path / "SHA256SUMS").unlink()
    assert len(presets.load(tmp_path).part_weights) == len(model.part_weights)


def test_two_exports_to_one_folder_are_told(model, tmp_path):
    with files.sole_user(tmp_path):
        with pytest.raises(BlockingIOError, match="one process at a time"):
            presets.save(model, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", presets.list_presets())
def test_presets_that_ship_are_as_their_sums_say(name, tmp_path):
    assert (presets.FOLDER / name / "SHA256SUMS").is_file()
    copy = shutil.copytree(presets.FOLDER / name, tmp_path / name)
    assert presets.card(copy) == presets.card(name)
    presets.load(copy)
    with (copy / "config.json").open("a") as file:
        file.write(" ")
    with pytest.raises(ValueError, match="config.json, which is not what"):
        presets.load(copy)
