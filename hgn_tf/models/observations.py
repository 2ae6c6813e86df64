"""What the pixel HNN sees: consecutive observations, of videos or vectors."""

import numpy as np
import tensorflow as tf

from hgn_tf.models import video_checks
from hgn_tf.models.frames import video_in, video_of
from hgn_tf.models.state_field import check_finite


def first(data) -> tf.Tensor:
    """The first pair of frames of videos, or vectors as they are."""
    x = video_of(data)
    return x[:, :2] if len(x.shape) == 5 else x


def consecutive(data, seed=None) -> tuple[tf.Tensor, tf.Tensor]:
    """Observations and the ones after them.

    Args:
      data: Videos [batch, time, height, width, channels] as `video_in` takes
        them, or vectors and their change (x, dx), both [batch, size].
      seed: Two integers, for one pair of pairs drawn from each video; None
        for all of them.
    Returns: two of [rows, 2, height, width, channels] or [batch, size].
    """
    x = video_of(data)
    if len(x.shape) == 2:
        return x, x + tf.cast(data[1], tf.float32)
    choices = x.shape[1] - 2
    if seed is not None:
        start = tf.random.stateless_uniform(
            [tf.shape(x)[0]], seed, 0, choices, tf.int32
        )
        three = tf.gather(x, start[:, None] + tf.range(3), batch_dims=1)
        return three[:, :2], three[:, 1:]
    index = tf.range(choices)[:, None] + tf.range(3)
    three = tf.reshape(tf.gather(x, index, axis=1), [-1, 3, *x.shape[2:]])
    return three[:, :2], three[:, 1:]


def check(x, y, needed: int, seen: tuple | None):
    """Looks at what `fit`, `evaluate` or `predict` was given.

    Args:
      x: Videos or vectors, arrays or a tf.data.Dataset.
      y: The change of vectors, or None.
      needed: Frames that a video must have.
      seen: Shape of an observation of a built model, or None.
    Returns: the data, of known length now, and their shape.
    Raises:
      TypeError: if frames are neither uint8 nor floats.
      ValueError: if something does not fit.
    """
    is_dataset = isinstance(x, tf.data.Dataset)
    element = x.element_spec if is_dataset else x
    rank = len(video_in(element).shape)
    if rank == 2:
        shape = _check_rows(element, y, is_dataset, needed, seen)
        return x, shape
    if seen is not None and len(seen) == 1:
        raise ValueError(
            f"The model was built for vectors of {seen[0]} numbers. Received: "
            f"data of rank {rank}."
        )
    x, shape = video_checks.check_data(x, 2, seen and seen[1:])
    if shape[1] < needed:
        raise ValueError(
            f"Two consecutive pairs take {needed} frames. Received: videos "
            f"of {shape[1]}."
        )
    return x, shape


def _check_rows(element, y, is_dataset, needed, seen):
    x = video_in(element)
    if isinstance(element, (tuple, list)) and len(element) > 1:
        y = element[1]
    if needed > 2 and (y is None or tuple(y.shape) != tuple(x.shape)):
        raise ValueError(
            "Vectors come with their change to the next one, both [rows, "
            f"size]. Received: {tuple(x.shape)} and "
            f"{None if y is None else tuple(y.shape)}."
        )
    if seen is not None and tuple(seen) != tuple(x.shape[1:]):
        raise ValueError(
            f"The model was built for observations {tuple(seen)}. Received: "
            f"vectors of {x.shape[1]} numbers."
        )
    if not is_dataset:
        check_finite("x", np.asarray(x))
        if y is not None:
            check_finite("y", np.asarray(y))
    return x.shape
