"""Videos as models take them, and the frames that a training step decodes."""

import tensorflow as tf

from hgn_tf.phase import PhaseState

# Frames decoded at a time outside of training; bounds the memory of long
# rollouts, about 100 MB with the paper's decoder at 32x32.
_DECODED_AT_ONCE = 256


def video_in(element):
    """The video in an element of a dataset: itself, first, or by its name.

    Args:
      element: A video, a dictionary with one as "video", or a tuple that
        starts with either; of values, or of their specs.
    Raises: ValueError: if a dictionary has no "video".
    """
    if isinstance(element, (tuple, list)):
        element = element[0]
    if isinstance(element, dict):
        if "video" not in element:
            raise ValueError(
                'A dictionary must have a "video". '
                f"Received: keys {sorted(element)}."
            )
        element = element["video"]
    return element


def video_of(data) -> tf.Tensor:
    """The video of what a dataset gives, as float32 in [0, 1].

    Args:
      data: As `video_in` takes it, [batch, time, height, width, channels],
        uint8 or floats.
    Returns: float32 of the same shape.
    """
    video = tf.convert_to_tensor(video_in(data))
    if video.dtype == tf.uint8:
        return tf.cast(video, tf.float32) / 255.0
    return tf.cast(video, tf.float32)


def pixels_of(video: tf.Tensor) -> int:
    """Numbers a frame: height * width * channels."""
    _, _, height, width, channels = video.shape
    return height * width * channels


def draw_frames(q, video, count: int, horizon, seed):
    """One frame from each of `count` equal parts of the first frames.

    Uniform over the horizon, so that a mean over the drawn frames is an
    unbiased estimate of the mean over the horizon; from parts, because that
    varies less than independent draws.

    Args:
      q: [batch, time, ...].
      video: [batch, time, ...].
      count: How many frames of each example.
      horizon: Frames drawn from, a number of at most `time`.
      seed: Two integers; the draws differ between examples.
    Returns: q and video of the same frames, [batch, count, ...].
    """
    part = tf.range(count, dtype=tf.float32) + tf.random.stateless_uniform(
        [tf.shape(video)[0], count], seed
    )
    index = tf.cast(part * horizon / count, tf.int32)
    # part * horizon may round up to the horizon itself.
    index = tf.minimum(index, video.shape[1] - 1)
    return (
        tf.gather(q, index, batch_dims=1),
        tf.gather(video, index, batch_dims=1),
    )


def decode_frames(decoder, q: tf.Tensor) -> tf.Tensor:
    """[batch, time, ...] -> [batch, time, height, width, channels]."""
    lead = tf.shape(q)[:2]
    frames = decoder(tf.reshape(q, [-1, *q.shape[2:]]))
    shape = tf.concat([lead, frames.shape[1:]], axis=0)
    return tf.ensure_shape(
        tf.reshape(frames, shape), [*q.shape[:2], *frames.shape[1:]]
    )


def decode_in_parts(decode, q: tf.Tensor) -> tf.Tensor:
    """As decode(q), q [batch, time, ...], a stretch of time at a time."""
    length = max(1, _DECODED_AT_ONCE // max(1, q.shape[0]))
    return tf.concat(
        [
            decode(q[:, start : start + length])
            for start in range(0, q.shape[1], length)
        ],
        axis=1,
    )


def energy_in_time(hamiltonian, states: PhaseState) -> tf.Tensor:
    """[batch, time] of states [batch, time, ...]."""
    lead = tf.shape(states.q)[:2]
    flat = (tf.reshape(x, [-1, *x.shape[2:]]) for x in states)
    return tf.reshape(hamiltonian(*flat), lead)
