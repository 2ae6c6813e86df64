"""Trained models in folders: those that ship with the package, and yours.

A folder has config.json, the model as Keras writes it, and weights.npz, its
weights. Those that ship lie in `weights`, rounded to half precision, each with
card.json, the result of its run: data, settings and measures.
"""

import os
import pathlib

import keras
import numpy as np

from hgn_tf import files

FOLDER = pathlib.Path(__file__).parent / "weights"
_CONFIG, _WEIGHTS, _CARD = "config.json", "weights.npz", "card.json"


def list_presets() -> list[str]:
    """Names of the models that ship, for `HGN.from_preset`."""
    return sorted(path.parent.name for path in FOLDER.glob(f"*/{_CARD}"))


def card(preset: str | os.PathLike) -> dict:
    """What a preset was trained on and what it reached.

    Args:
      preset: Name in `list_presets()`, or a folder.
    Returns: dict with dataset, budget, seed, metrics, config, commit and
      others, as the JSON of its run has them. The errors are those of the
      weights as they ship.
    Raises: ValueError: if there is no such preset, or it has no card.
    """
    path = _folder(preset) / _CARD
    if not path.is_file():
        raise ValueError(
            f"A preset has a card if it was saved with one. Received: {preset}."
        )
    return files.read_json(path)


def load(preset: str | os.PathLike) -> keras.Model:
    """The model of a preset, built, not compiled.

    Counters and GECO's multiplier start anew: further training begins as a new
    training does.

    Args:
      preset: Name in `list_presets()`, or a folder that `save` wrote.
    Raises: ValueError: if there is no such preset, or its weights are not
      those of its model.
    """
    folder = _folder(preset)
    config = files.read_json(folder / _CONFIG)
    model = keras.saving.deserialize_keras_object(config)
    variables = _numbered(model.part_weights)
    weights = files.read_arrays(folder / _WEIGHTS)
    expected = {key: tuple(variables[key].shape) for key in variables}
    found = {key: weights[key].shape for key in weights}
    if found != expected:
        raise ValueError(
            f"The weights of a preset must be of its model, {expected}. "
            f"Received: {found}."
        )
    for key, variable in variables.items():
        variable.assign(weights[key].astype(np.float32))
    return model


def save(
    model: keras.Model, folder: str | os.PathLike, card: dict | None = None
) -> pathlib.Path:
    """Writes a trained model as a preset, which `load` gives back.

    Weights that are exact in half precision are kept so: see `round_weights`.
    The card is written last: without it no preset ships.

    Args:
      model: `GuardedModel`, built.
      folder: Folder of the preset. It is made, and what another preset left in
        it is replaced.
      card: Result of the model's run, or None.
    Returns: The folder.
    """
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    config = keras.saving.serialize_keras_object(model)
    config.pop("compile_config", None)
    variables = _numbered(model.part_weights)
    files.write_arrays(
        folder / _WEIGHTS,
        {key: _smallest(variables[key].numpy()) for key in variables},
    )
    files.write_json(folder / _CONFIG, config)
    if card is not None:
        files.write_json(folder / _CARD, card)
    return folder


def round_weights(model: keras.Model) -> None:
    """Rounds trained weights to half precision, half the size of a preset."""
    for variable in model.trainable_variables:
        variable.assign(variable.numpy().astype(np.float16))


def _numbered(variables):
    # By their order: Keras numbers the names of layers through a session.
    return {f"weight_{index:03d}": v for index, v in enumerate(variables)}


def _smallest(weights):
    """In half precision if that loses nothing."""
    half = weights.astype(np.float16)
    return half if np.array_equal(half, weights) else weights


def _folder(preset):
    if preset in list_presets():
        return FOLDER / preset
    if not (pathlib.Path(preset) / _CONFIG).is_file():
        raise ValueError(
            f"A preset must be one of {list_presets()}, or a folder that "
            f"`save_to_preset` wrote. Received: {str(preset)!r}."
        )
    return pathlib.Path(preset)
