"""Points [rows, dim] at the door of a density model: taken out and checked."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from hgn_tf.models.steps import check_finite


def check_precision(policy: keras.DTypePolicy) -> None:
    """Raises: ValueError: for a policy that computes in half precision."""
    if policy.compute_dtype not in ("float32", "float64"):
        raise ValueError(
            "Densities are computed in float32 or float64: in half precision "
            f"their logarithms lose all digits. Received: {policy.name}; give "
            'the model dtype="float32".'
        )


def no_targets(
    points: np.ndarray, sample_weight: np.ndarray | None
) -> np.ndarray | None:
    """Targets [rows, 0] with sample weights, which Keras drops without."""
    return None if sample_weight is None else np.zeros([len(points), 0])


def check_no_targets(y: Any) -> None:
    """Raises: ValueError: if there are targets, of which a density has none."""
    if y is not None and 0 not in np.shape(y):
        raise ValueError(
            "A density is learned from points alone, without targets `y`. "
            f"Received: `y` of {type(y).__name__}."
        )


def points_in(data: Any) -> tf.Tensor:
    """The points in what a dataset gives: itself, or the first."""
    return data[0] if isinstance(data, tuple | list) else data


def points_and_weights(data: Any) -> tuple:
    """(points,), or (points, sample weights), in what a dataset gives."""
    x, y, weight = keras.utils.unpack_x_y_sample_weight(data)
    check_no_targets(y)
    return (x,) if weight is None else (x, weight)


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


def check_training_points(
    points: np.ndarray | tf.data.Dataset,
    dim: int | None,
    dtype: str,
    varying: bool = False,
) -> np.ndarray | tf.data.Dataset:
    """Arrays as `dtype`, checked whole; of a dataset only the shapes are.

    Raises: ValueError: if points are not [rows, dim] or not finite, if there
      are targets, or, if they must be `varying`, for a constant column.
    """
    if isinstance(points, tf.data.Dataset):
        points_and_weights(points.element_spec)
        _check_shape(points_in(points.element_spec).shape, dim, "x")
        return points
    points = np.asarray(points, dtype)
    _check_shape(points.shape, dim, "x")
    check_finite("x", points)
    constant = np.flatnonzero(np.ptp(points, axis=0) == 0)
    if varying and constant.size:
        raise ValueError(
            "Each column of `x` must vary: a constant one has no density, and "
            f"the objective no bound. Received: column {constant[0]} is "
            f"{points[0, constant[0]]} in all of {len(points)} rows."
        )
    return points


def _check_shape(shape, dim, name):
    shape = tf.TensorShape(shape)
    known = shape.rank == 2 and shape[1] is not None and 0 not in shape
    if not known or dim not in (None, shape[1]):
        raise ValueError(
            f"`{name}` must be points [rows, {dim or 'dim'}]. "
            f"Received: shape {shape}."
        )
