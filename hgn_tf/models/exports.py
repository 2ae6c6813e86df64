"""The files that models may go to: Keras's own, and SavedModels.

A SavedModel has an endpoint per use, with inputs and outputs by name.
"""

import os
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

FORMAT = "tf_saved_model"
_HDF5 = (".h5", ".hdf5")
# A name and, in the order of its arguments, the specs of a function of tensors
# that gives a dictionary of tensors.
Endpoints = dict[str, tuple[Callable, list[tf.TensorSpec]]]


class OwnFiles(keras.Model):
    """A Keras model that loads as it was saved, or refuses to be."""

    def save(self, filepath: str | os.PathLike, *args, **kwargs) -> None:
        """As `keras.Model.save`, to a file that ends in .keras.

        Raises: ValueError: for HDF5, from which Keras cannot load a model that
          is a class of its own; weights alone can be in it.
        """
        if str(filepath).endswith(_HDF5):
            raise ValueError(
                "`filepath` must end in '.keras', for Keras cannot load the "
                "model from HDF5; `save_weights` takes '.weights.h5'. "
                f"Received: {str(filepath)!r}."
            )
        super().save(filepath, *args, **kwargs)

    def compile_from_config(self, config: dict) -> None:
        """Compiles a model that is loaded; Keras asks for it."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        self._build_optimizer()

    def _build_optimizer(self):
        if self.built and self.optimizer and not self.optimizer.built:
            with self.distribute_strategy.scope():
                self.optimizer.build(self.trainable_variables)

    def quantize(self, mode: Any = None, *args, **kwargs) -> None:
        """As `keras.Model.quantize`, which this model cannot.

        Raises: ValueError: always: energies are differentiated, and whole
          numbers have no slope.
        """
        raise ValueError(
            "A model cannot be quantized whose energy is differentiated; "
            'give its pictures dtype="mixed_bfloat16" instead. '
            f"Received: {mode!r}."
        )


def export(
    model: keras.Model,
    endpoints: Callable[[], Endpoints],
    filepath: str | os.PathLike,
    format: str = FORMAT,
    verbose: bool | None = None,
    **kwargs,
) -> None:
    """Writes a model as a SavedModel, which runs without this package.

    Args:
      model: Model, built.
      endpoints: Callable () -> the endpoints of a model that is built. The
        first is TensorFlow Serving's default too.
      filepath: Folder of the SavedModel.
      format: str. "tf_saved_model", the default.
      verbose: bool. Whether the endpoints are printed; None for yes, as Keras.
      **kwargs: Further arguments of `keras.Model.export`, which must be None.
    Raises: ValueError: if the model is not built, or an argument is one of
      Keras's that does not apply.
    """
    others = [name for name, value in kwargs.items() if value is not None]
    if format != FORMAT or others:
        raise ValueError(
            f"`export` takes format={FORMAT!r}, and no signature: each "
            f"endpoint has its own. Received: format={format!r} and {others}."
        )
    if not model.built:
        raise ValueError(
            "`export` needs a model that is built: by `fit`, or "
            "`build(shape)`. Received: a model not yet built."
        )
    archive = keras.export.ExportArchive()
    for name, (function, specs) in endpoints().items():
        archive.add_endpoint(name, function, specs)
    archive.write_out(filepath, verbose=verbose is None or verbose)


def spec(
    name: str, shape: tuple | list = (), dtype: str = "int32"
) -> tf.TensorSpec:
    """The spec of an input of an endpoint; a whole number by default."""
    return tf.TensorSpec(shape, dtype, name)
