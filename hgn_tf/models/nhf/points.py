"""Points [rows, dim] at the door of a density model: taken out and checked."""

import numpy as np
import tensorflow as tf

from hgn_tf.models.steps import check_finite


def points_in(data) -> tf.Tensor:
    """The points in what `fit` takes from a dataset: itself, or the first."""
    return data[0] if isinstance(data, tuple | list) else data


def check_points(points, dim: int | None, dtype: str, name: str = "q"):
    """Points as a tensor of `dtype`, gradients kept.

    Raises: ValueError: if they are not [rows, dim] or not finite.
    """
    if not tf.is_tensor(points):
        points = tf.convert_to_tensor(np.asarray(points, dtype))
    _check_shape(points.shape, dim, name)
    if tf.executing_eagerly():
        check_finite(name, points.numpy())
    return tf.cast(points, dtype)


def check_training_points(points, dim: int | None, dtype: str):
    """Arrays as `dtype`, checked whole; of a dataset only the shapes are.

    Raises: ValueError: if points are not [rows, dim] or not finite, or if one
      of the columns is constant.
    """
    if isinstance(points, tf.data.Dataset):
        _check_shape(points_in(points.element_spec).shape, dim, "x")
        return points
    points = np.asarray(points, dtype)
    _check_shape(points.shape, dim, "x")
    check_finite("x", points)
    constant = np.flatnonzero(np.ptp(points, axis=0) == 0)
    if constant.size:
        raise ValueError(
            "Each column of `x` must vary: a constant one has no density, and "
            f"the objective no bound. Received: column {constant[0]} is "
            f"{points[0, constant[0]]} in all of {len(points)} rows."
        )
    return points


def _check_shape(shape, dim, name):
    if len(shape) != 2 or dim not in (None, shape[1]) or 0 in shape:
        raise ValueError(
            f"`{name}` must be points [rows, {dim or 'dim'}]. "
            f"Received: shape {tuple(shape)}."
        )
