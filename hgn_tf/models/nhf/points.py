"""Points [rows, dim] at the door of a density model: taken out and checked."""

import keras
import numpy as np
import tensorflow as tf

from hgn_tf import integrators
from hgn_tf.models.batches import (
    SPEC,
    WHOLE,
    Batch,
    as_array,
    check_finite,
    check_no_targets,
)


class NotBuilt(ValueError, AttributeError):
    """A model that does not know its points yet, and has no such attribute."""


def check_built(model: keras.Model) -> None:
    """Raises: NotBuilt: if the model is not built."""
    if not model.built:
        raise NotBuilt(
            "The model must know the dimension of its points: call `fit` or "
            "`build((None, dim))`. Received: a model not yet built."
        )


def check_precision(policy: keras.DTypePolicy) -> None:
    """Raises: ValueError: for a policy that computes in half precision."""
    if policy.compute_dtype not in ("float32", "float64"):
        raise ValueError(
            "Densities are computed in float32 or float64: in half precision "
            f"their logarithms lose all digits. Received: {policy.name}; give "
            'the model dtype="float32".'
        )


def check_points(
    points: np.ndarray | tf.Tensor,
    dim: int | None,
    dtype: str,
    name: str = "q",
) -> tf.Tensor:
    """Points as a tensor of `dtype`, gradients kept.

    Raises: ValueError: if they are not [rows, dim] or not finite.
    """
    if not tf.is_tensor(points):
        points = tf.convert_to_tensor(np.asarray(points, dtype))
    _check_shape(points.shape, dim, name)
    if tf.executing_eagerly():
        check_finite(name, np.asarray(points))
    return tf.cast(points, dtype)


def check_draws(
    name: str, count: int | tf.Tensor, symbolic: bool = False
) -> int | tf.Tensor:
    """A number of draws, 1 or more, as Python's int.

    Args:
      name: Name of the argument.
      count: The number.
      symbolic: Whether it may be a tensor of a graph, which stays as it is.
    Raises: ValueError: if it is below 1 or not whole, or a tensor of a graph
      where none may be.
    """
    if tf.is_tensor(count) and not hasattr(count, "numpy"):
        if symbolic:
            return count
        raise ValueError(
            f"`{name}` must be known before a graph runs. Received: {count}."
        )
    return integrators.check_count(name, count)


def draw_seed(seed: int | tf.Tensor) -> tf.Tensor:
    """A number or scalar tensor as a seed of TFP, int32 [2]."""
    if not tf.is_tensor(seed):
        return tf.constant([0, seed], tf.int32)
    return tf.stack([0, tf.cast(seed, tf.int32)])


def admit_points(
    batch: Batch, purpose: str, seen: str, dim: int | None, dtype: str
) -> Batch:
    """A batch of points without targets, as the steps of a density take it.

    Arrays are checked whole. Of batches the shapes are.

    Args:
      batch: Points [rows, dim] and what came with them.
      purpose: "fit", "evaluate" or "predict".
      seen: What the batch is, see `batches`.
      dim: Coordinates of a built model, or None.
      dtype: Precision of the model.
    Raises: ValueError: if points are not [rows, dim] or not finite, if there
      are targets, or, in training, for a constant column.
    """
    if purpose != "predict":
        check_no_targets(batch.y)
    points = batch.x
    if isinstance(points, (list, tuple)) and len(points) == 1:
        points = points[0]
    points = as_array(points)
    _check_shape(points.shape, dim, "x", unknown=seen == SPEC)
    if seen == WHOLE:
        points = np.asarray(points, dtype)
        check_finite("x", points)
        if purpose == "fit":
            check_varying(points)
    return batch._replace(x=points, y=None)


def check_varying(points: np.ndarray) -> None:
    """Raises: ValueError: if a column is constant."""
    if not len(points):
        return
    constant = np.flatnonzero(np.ptp(points, axis=0) == 0)
    if constant.size:
        raise ValueError(
            "Each column of `x` must vary: a constant one has no density, and "
            f"the objective no bound. Received: column {constant[0]} is "
            f"{points[0, constant[0]]} in all of {len(points)} rows."
        )


def _check_shape(shape, dim, name, unknown=False):
    shape = tf.TensorShape(shape)
    if unknown and not shape[1:].is_fully_defined():
        return
    known = shape.rank == 2 and shape[1] is not None and shape[1] > 0
    if not known or dim not in (None, shape[1]):
        raise ValueError(
            f"`{name}` must be points [rows, {dim or 'dim'}]. "
            f"Received: shape {shape}."
        )
