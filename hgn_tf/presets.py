"""Trained models that ship with the package, by name.

Each is a folder of `weights`: config.json, the model as Keras writes it;
weights.npz, its trainable weights in half precision; card.json, the result of
its run, with data, settings and measures.
"""

import pathlib

import keras
import numpy as np

from hgn_tf import files

FOLDER = pathlib.Path(__file__).parent / "weights"
_CONFIG, _WEIGHTS, _CARD = "config.json", "weights.npz", "card.json"


def list_presets() -> list[str]:
    """Names of the trained models, for `HGN.from_preset`."""
    return sorted(path.parent.name for path in FOLDER.glob(f"*/{_CARD}"))


def card(name: str) -> dict:
    """What a preset was trained on and what it reached.

    Args:
      name: Of `list_presets()`.
    Returns: dict with dataset, budget, seed, metrics, config, commit and
      others, as the JSON of its run has them; errors are those of the weights
      as they ship.
    Raises: ValueError: if there is no such preset.
    """
    return files.read_json(_file(name, _CARD))


def load(name: str) -> keras.Model:
    """The model of a preset, built, not compiled.

    Counters and GECO's multiplier start anew: training on begins as a new
    training does.

    Args:
      name: Of `list_presets()`.
    Raises: ValueError: if there is no such preset, or its weights are not
      those of its model.
    """
    config = files.read_json(_file(name, _CONFIG))
    model = keras.saving.deserialize_keras_object(config)
    variables = {
        _key(index): variable
        for index, variable in enumerate(model.trainable_variables)
    }
    weights = files.read_arrays(_file(name, _WEIGHTS))
    expected = {key: tuple(each.shape) for key, each in variables.items()}
    found = {key: each.shape for key, each in weights.items()}
    if found != expected:
        raise ValueError(
            f"The weights of a preset must be of its model, {expected}. "
            f"Received: {found}."
        )
    for key, variable in variables.items():
        variable.assign(weights[key].astype(np.float32))
    return model


def round_weights(model: keras.Model) -> None:
    """Rounds trained weights to the half precision that presets keep."""
    for variable in model.trainable_variables:
        variable.assign(variable.numpy().astype(np.float16))


def save(
    model: keras.Model, card: dict, name: str, folder: pathlib.Path = FOLDER
) -> pathlib.Path:
    """Writes a trained model as a preset.

    The card is written last: without it there is no preset.

    Args:
      model: Built.
      card: The result of its run.
      name: Of the preset.
      folder: Where presets are.
    Returns: the preset's folder.
    """
    target = folder / name
    target.mkdir(parents=True, exist_ok=True)
    config = keras.saving.serialize_keras_object(model)
    config.pop("compile_config", None)
    weights = {
        _key(index): variable.numpy().astype(np.float16)
        for index, variable in enumerate(model.trainable_variables)
    }
    files.write_arrays(target / _WEIGHTS, weights)
    for file, value in ((_CONFIG, config), (_CARD, card)):
        files.write_json(target / file, value)
    return target


def _key(index):
    # By their order: Keras numbers the names of layers through a session.
    return f"weight_{index:03d}"


def _file(name, file):
    if name not in list_presets():
        raise ValueError(
            f"A preset must be one of {list_presets()}. Received: {name!r}."
        )
    return FOLDER / name / file
