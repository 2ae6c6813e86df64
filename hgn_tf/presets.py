"""Trained models in folders: those that ship with the package, and yours.

A folder may be a repository of the Hugging Face hub too, by the addresses that
Keras has for it: "hf://user/name". That takes the package `huggingface_hub`.

A folder has config.json, the model as Keras writes it, and weights.npz, its
weights and its learned prior, if it has one. Those that ship lie in `weights`,
rounded to half precision, each with card.json, the result of its run: data,
settings and measures. README.md says the same to a reader, with the header
that the hub reads. SHA256SUMS has the checksums of these files, as
`sha256sum --check SHA256SUMS` reads them.
"""

import hashlib
import os
import pathlib
import re
import tempfile
from typing import Any

import keras
import numpy as np

from hgn_tf import files
from hgn_tf.prior import StatePrior

FOLDER = pathlib.Path(__file__).parent / "weights"
_CONFIG, _WEIGHTS, _CARD = "config.json", "weights.npz", "card.json"
_HUB = "hf://"
_SUMS = "SHA256SUMS"
_README = "README.md"
_PRIOR = "prior_"  # What the names of a learned prior's arrays begin with.


def list_presets() -> list[str]:
    """Names of the models that ship, for `HGN.from_preset`."""
    return sorted(path.parent.name for path in FOLDER.glob(f"*/{_CARD}"))


def card(preset: str | os.PathLike) -> dict:
    """What a preset was trained on and what it reached.

    Args:
      preset: Name in `list_presets()`, a folder, or "hf://user/name".
    Returns: dict with dataset, budget, seed, metrics, config, commit and
      others, as the JSON of its run has them. The errors are those of the
      weights as they ship.
    Raises: ValueError: if there is no such preset, or it has no card, or one
      that is not as it was written.
    """
    path = _folder(preset) / _CARD
    if not path.is_file():
        raise ValueError(
            f"A preset has a card if it was saved with one. Received: {preset}."
        )
    _check_sum(path)
    try:
        return files.read_json(path)
    except (TypeError, ValueError) as error:
        raise files.not_whole(path, error) from error


def load(preset: str | os.PathLike) -> keras.Model:
    """The model of a preset, built, not compiled.

    Counters and GECO's multiplier start anew: further training begins as a new
    training does.

    Args:
      preset: Name in `list_presets()`, a folder that `save` wrote, or
        "hf://user/name".
    Raises: ValueError: if there is no such preset, its weights are not those
      of its model, or a file is not as it was written.
    """
    folder = _folder(preset)
    _check_sum(folder / _CONFIG)
    _check_sum(folder / _WEIGHTS)
    try:
        model = keras.saving.deserialize_keras_object(
            files.read_json(folder / _CONFIG), safe_mode=True
        )
        variables = _numbered(model.part_weights)
    except Exception as error:  # whatever a stranger's config leads to
        raise files.not_whole(
            folder / _CONFIG, error, rule="A preset must be of a model of ours"
        ) from error
    weights = files.read_arrays(folder / _WEIGHTS)
    learned = {
        key.removeprefix(_PRIOR): weights.pop(key).astype(np.float32)
        for key in list(weights)
        if key.startswith(_PRIOR)
    }
    expected = {key: tuple(variables[key].shape) for key in variables}
    found = {key: weights[key].shape for key in weights}
    if found != expected:
        raise ValueError(
            f"The weights of a preset must be of its model, {expected}. "
            f"Received: {found}."
        )
    for key, variable in variables.items():
        variable.assign(weights[key].astype(variable.dtype))
    if learned:
        model.prior = StatePrior.from_arrays(learned)
    return model


def save(
    model: keras.Model, folder: str | os.PathLike, card: dict | None = None
) -> pathlib.Path | str:
    """Writes a trained model as a preset, which `load` gives back.

    Weights that are exact in half precision are kept so: see `round_weights`.
    All is written before anything takes its place, and the card does so last:
    without it no preset ships.

    Args:
      model: `GuardedModel`, built.
      folder: Folder of the preset. It is made, and what another preset left in
        it is replaced. Or "hf://user/name", a repository, likewise.
      card: Result of the model's run, or None.
    Returns: The folder; of a repository its address.
    Raises:
      TypeError: if it is no such model.
      ValueError: if it is not built.
      BlockingIOError: if another process writes there.
    """
    if not hasattr(model, "part_weights"):
        raise TypeError(
            "A preset must be of an HGN, PixelHNN, NHF or NormalizingFlow. "
            f"Received: {type(model).__name__}; `model.save` writes others."
        )
    if not model.built:
        raise ValueError(
            "A preset must be of a model that is built, by `fit` or `build`. "
            f"Received: a {type(model).__name__} that is not."
        )
    if str(folder).startswith(_HUB):
        return _upload(model, str(folder), card)
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    config = keras.saving.serialize_keras_object(model)
    config.pop("compile_config", None)
    arrays = {
        key: variable.numpy()
        for key, variable in _numbered(model.part_weights).items()
    }
    learned = getattr(model, "prior", None)
    if isinstance(learned, StatePrior):  # That of an NHF is another thing.
        arrays |= {_PRIOR + key: x for key, x in learned.arrays().items()}
    weights = {key: _smallest(array) for key, array in arrays.items()}
    contents = {
        _README: describe(type(model).__name__, card).encode("utf-8"),
        _CONFIG: files.json_bytes(config),
        _WEIGHTS: files.array_bytes(weights),
    }
    if card is not None:
        contents[_CARD] = files.json_bytes(card)
    lines = [
        f"{hashlib.sha256(data).hexdigest()}  {name}\n"
        for name, data in contents.items()
    ]
    contents[_SUMS] = "".join(lines).encode("ascii")
    order = [_CARD, _SUMS, _README, _CONFIG, _WEIGHTS]
    with files.sole_user(folder):
        files.write_together(
            folder, {name: contents[name] for name in order if name in contents}
        )
        if card is None:
            (folder / _CARD).unlink(missing_ok=True)
    return folder


def describe(model_class: str, card: dict | None) -> str:
    """The model card, Markdown: what a preset is, and how it is loaded.

    Args:
      model_class: Name of the class of the model.
      card: Result of the model's run, or None.
    """
    of_hgn = model_class == "HGN"
    load = "hgn_tf.HGN.from_preset" if of_hgn else "hgn_tf.presets.load"
    lines = [
        "---",
        "library_name: keras",
        "tags: [hamiltonian, physics, video, hgn-tf]",
        "---",
        f"# {model_class}",
        "",
        "A model of the package hgn-tf, for Keras on TensorFlow.",
        "",
        "```python",
        "import hgn_tf",
        "",
        f'model = {load}("THIS_FOLDER")',
        "```",
    ]
    if card is None:
        return "\n".join([*lines, "", "It was saved without measures.", ""])
    lines += [
        "",
        f"Trained on `{card.get('dataset')}` with the budget "
        f"`{card.get('budget')}`, seed {card.get('seed')}.",
        "Errors are mean squared errors per pixel, times 1e4 where the name "
        "ends in e4.",
        "",
        "| measure | value |",
        "| --- | --- |",
    ]
    for name, value in card.get("metrics", {}).items():
        known = "none" if value is None else f"{value:.4g}"
        lines.append(f"| {name} | {known} |")
    lines += ["", "card.json has all settings.", ""]
    return "\n".join(lines)


def round_weights(model: keras.Model) -> None:
    """Rounds trained weights, and a prior, to half precision: half the size."""
    for variable in model.trainable_variables:
        variable.assign(variable.numpy().astype(np.float16))
    learned = getattr(model, "prior", None)
    if isinstance(learned, StatePrior):
        model.prior = learned.rounded()


def check_name(name: str) -> None:
    """A preset's name is that of a folder in FOLDER, and of no other place.

    Raises: ValueError: if it is not.
    """
    if not re.fullmatch(r"[A-Za-z0-9][\w-]*", name, re.ASCII):
        raise ValueError(
            "The name of a preset must be of letters, digits, _ and -, such "
            f"as hgn_pendulum. Received: {name!r}."
        )


def _check_sum(path):
    """A file of a preset is as it was written, if the preset has sums."""
    sums = path.with_name(_SUMS)
    if not sums.is_file() or not path.is_file():
        return
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    line = f"{found}  {path.name}".encode("ascii")
    if line not in sums.read_bytes().splitlines():
        raise ValueError(
            "A file of a preset must be as it was written. Received: "
            f"{path}, which is not what {_SUMS} says. Save the preset again; "
            f"if the change is yours, remove {_SUMS}."
        )


def _numbered(variables):
    # By their order: Keras numbers the names of layers through a session.
    return {f"weight_{index:03d}": v for index, v in enumerate(variables)}


def _smallest(weights):
    """In half precision if that loses nothing."""
    half = weights.astype(np.float16)
    return half if np.array_equal(half, weights) else weights


def _folder(preset):
    if str(preset).startswith(_HUB):
        return _download(str(preset))
    if preset in list_presets():
        return FOLDER / preset
    if not (pathlib.Path(preset) / _CONFIG).is_file():
        raise ValueError(
            f"A preset must be one of {list_presets()}, or a folder that "
            f"`save_to_preset` wrote. Received: {str(preset)!r}."
        )
    return pathlib.Path(preset)


def _download(address):
    """The folder to which the files of a preset came from the hub."""
    files_of_one = [_CONFIG, _WEIGHTS, _CARD, _README, _SUMS]
    folder = _hub(address).snapshot_download(
        address.removeprefix(_HUB), allow_patterns=files_of_one
    )
    if not (pathlib.Path(folder) / _CONFIG).is_file():
        raise ValueError(
            "A repository of a preset must have what `save_to_preset` wrote. "
            f"Received: {address}, without {_CONFIG}."
        )
    return pathlib.Path(folder)


def _upload(model, address, card):
    api, name = _hub(address).HfApi(), address.removeprefix(_HUB)
    with tempfile.TemporaryDirectory() as folder:
        save(model, folder, card)
        api.create_repo(name, exist_ok=True)
        api.upload_folder(repo_id=name, folder_path=folder)
    return address


def _hub(address) -> Any:
    user, _, name = address.removeprefix(_HUB).partition("/")
    if not user or not name or "/" in name:
        raise ValueError(
            "An address of the hub must be 'hf://user/name'. "
            f"Received: {address!r}."
        )
    try:
        import huggingface_hub
    except ModuleNotFoundError as error:
        raise ImportError(
            f"{address!r} needs the package huggingface_hub: "
            f"pip install 'hgn-tf[hub]'. Received: {error}."
        ) from error
    return huggingface_hub
