"""Videos as models take them: checked, cut into frames, decoded in parts."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import keras
import numpy as np
import tensorflow as tf

from hgn_tf.models.collapse import Collapse
from hgn_tf.models.steps import check_finite
from hgn_tf.phase import Hamiltonian, PhaseState

# Frames decoded at a time outside of training; bounds the memory of long
# rollouts, about 100 MB with the paper's decoder at 32x32.
_DECODED_AT_ONCE = 256
_EXPECTED = "[batch, time, height, width, channels], uint8 or floats in [0, 1]"


class Motion(NamedTuple):
    """Frames [batch, time, ...] and the states that they were drawn from."""

    video: tf.Tensor
    states: PhaseState


@runtime_checkable
class VideoModel(Protocol):
    """What evaluation, report, pages and the command line ask of a model.

    HGN and PixelHNN obey it. So does any class with these names, such as a
    model that knows the truth, for a test.

    Attributes:
      dt: float. Seconds between the frames of its videos.
      num_inference_frames: int. Frames that a state is inferred from.
      stochastic: bool. Whether it has learned a prior to sample from.
    """

    dt: float
    num_inference_frames: int
    stochastic: bool

    def infer(self, video: np.ndarray | tf.Tensor) -> PhaseState:
        """The state at the first frame, q and p [batch, ...].

        Args:
          video: Videos [batch, time, height, width, channels], uint8 or floats
            in [0, 1]. Frames after `num_inference_frames` may be left out.
        Raises: ValueError: if the frames do not fit.
        """

    def rollout(
        self, state: PhaseState, num_steps: int, dt: float | None = None
    ) -> PhaseState:
        """The states at 0, dt, ..., num_steps * dt, [batch, time, ...].

        Args:
          state: q and p [batch, ...].
          num_steps: int. Number of steps, 0 or more.
          dt: float. Seconds per step; None for the model's. Negative goes
            back in time.
        Raises: ValueError: if dt is 0 or num_steps negative.
        """

    def decode(self, states: PhaseState) -> tf.Tensor:
        """Frames [batch, time, height, width, channels] of states in time.

        float32, about 0 to 1.
        """

    def energy(self, state: PhaseState) -> tf.Tensor:
        """Learned H, [batch] of states or [batch, time] of states in time."""

    def sample(
        self,
        num_samples: int,
        num_steps: int,
        dt: float | None = None,
        seed: int = 0,
    ) -> Motion:
        """New motions from the prior, video [num_samples, num_steps + 1, ...].

        Args:
          num_samples: int. Number of motions.
          num_steps: int. Steps per motion.
          dt: float. Seconds per step; None for the model's.
          seed: int. Seed of the prior.
        Raises: ValueError: if the model is not `stochastic`.
        """

    def check_collapse(self, video: np.ndarray | tf.Tensor) -> Collapse:
        """Whether the learned law moves the data, or has collapsed.

        Args:
          video: Videos as in `infer`, with all frames.
        """


def extract_video(element: Any) -> Any:
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


def to_float_video(data: Any) -> tf.Tensor:
    """The video of what a dataset gives, as float32 in [0, 1].

    Args:
      data: Videos as `extract_video` takes them, [batch, time, height, width,
        channels], uint8 or floats.
    Returns: float32 of the same shape.
    """
    video = tf.convert_to_tensor(extract_video(data))
    if video.dtype == tf.uint8:
        return tf.cast(video, tf.float32) / 255.0
    return tf.cast(video, tf.float32)


def num_pixels(video: tf.Tensor) -> int:
    """Numbers per frame: height * width * channels."""
    _, _, height, width, channels = video.shape
    return height * width * channels


def draw_times(
    count: int, low: tf.Tensor, high: tf.Tensor, seed: tf.Tensor
) -> tf.Tensor:
    """One frame from each of `count` equal parts of the frames low to high.

    The draws are uniform over these frames, so that a mean over the drawn
    frames is an unbiased estimate of the mean over all. Draws from parts vary
    less than independent draws.

    Args:
      count: int. Number of frames per example.
      low: First frame of each example, whole numbers [batch].
      high: Last frame of each example, [batch].
      seed: Two integers; the draws differ between examples.
    Returns: int32 [batch, count].
    """
    low, high = (tf.cast(x, tf.float32)[:, tf.newaxis] for x in (low, high))
    part = tf.range(count, dtype=tf.float32) + tf.random.stateless_uniform(
        [tf.shape(low)[0], count], seed
    )
    # A product may round up to the end of the last part.
    times = tf.minimum(tf.floor(low + part * (high - low + 1.0) / count), high)
    return tf.cast(times, tf.int32)


def cut_windows(
    video: np.ndarray | tf.Tensor, start: tf.Tensor, length: int, step: int = 1
) -> tf.Tensor:
    """The frames start, start + step, ... of each video.

    Args:
      video: Floats [batch, time, height, width, channels].
      start: First frame of each window, int32 [batch].
      length: int. Frames per window. Frames outside of the video are zero.
      step: int. 1 for forward in time, -1 for backward. Defaults to 1.
    Returns: [batch, length, height, width, channels].
    """
    times, last = start[:, tf.newaxis] + step * tf.range(length), video.shape[1]
    inside = (times >= 0) & (times < last)
    cut = tf.gather(video, tf.clip_by_value(times, 0, last - 1), batch_dims=1)
    return tf.where(inside[..., tf.newaxis, tf.newaxis, tf.newaxis], cut, 0.0)


def decode_frames(decoder: keras.Layer, q: tf.Tensor) -> tf.Tensor:
    """[batch, time, ...] -> [batch, time, height, width, channels]."""
    lead = tf.shape(q)[:2]
    frames = decoder(tf.reshape(q, [-1, *q.shape[2:]]))
    shape = tf.concat([lead, frames.shape[1:]], axis=0)
    return tf.ensure_shape(
        tf.reshape(frames, shape), [*q.shape[:2], *frames.shape[1:]]
    )


def decode_in_parts(decode: Callable, q: tf.Tensor) -> tf.Tensor:
    """As decode(q), q [batch, time, ...], a stretch of time at a time."""
    length = max(1, _DECODED_AT_ONCE // max(1, q.shape[0]))
    return tf.concat(
        [
            decode(q[:, start : start + length])
            for start in range(0, q.shape[1], length)
        ],
        axis=1,
    )


def energy_in_time(hamiltonian: Hamiltonian, states: PhaseState) -> tf.Tensor:
    """[batch, time] of states [batch, time, ...]."""
    lead = tf.shape(states.q)[:2]
    flat = (tf.reshape(x, [-1, *x.shape[2:]]) for x in states)
    return tf.reshape(hamiltonian(*flat), lead)


def first_pair(data: Any) -> tf.Tensor:
    """The first pair of frames of videos, or vectors as they are."""
    x = to_float_video(data)
    return x[:, :2] if len(x.shape) == 5 else x


def consecutive_pairs(
    data: Any, seed: tf.Tensor | None = None
) -> tuple[tf.Tensor, tf.Tensor]:
    """Observations and the ones after them.

    Args:
      data: Videos [batch, time, height, width, channels] as `extract_video`
        takes them, or vectors and their change (x, dx), both [batch, size].
      seed: Two integers, for one pair of pairs drawn from each video; None
        for all of them.
    Returns: Two arrays [rows, 2, height, width, channels] or [batch, size].
    """
    x = to_float_video(data)
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


def check_frames(
    video: np.ndarray | tf.Tensor,
    num_inference_frames: int,
    frame_shape: tuple[int, ...] | None = None,
) -> tf.Tensor:
    """Gives the video back as a tensor, or says what is wrong with it.

    Args:
      video: Array or tensor.
      num_inference_frames: Smallest number of frames.
      frame_shape: (height, width, channels) of a built model, or None.
    Returns: The video as a tensor of uint8 or floats.
    Raises:
      TypeError: if the numbers are neither uint8 nor floats.
      ValueError: if rank, size, number of frames or range do not fit, or a
        value is NaN or infinite.
    """
    video = tf.convert_to_tensor(video)
    _check_spec(video.shape, video.dtype, num_inference_frames, frame_shape)
    if video.dtype != tf.uint8:
        _check_range(video)
    return video


def check_data(
    data: Any,
    num_inference_frames: int,
    frame_shape: tuple[int, ...] | None = None,
) -> tuple[Any, tf.TensorShape]:
    """As `check_frames`, on what `fit` takes: arrays or a tf.data.Dataset.

    Of a dataset the kind and shape of the elements are checked. uint8 cannot
    be out of range; floats are checked on the first element. If the number of
    frames is unknown, as with `tfds.load`, that of the first element holds for
    all.

    Returns: The data, of known length now, and the shape of its videos.
    """
    if not isinstance(data, tf.data.Dataset):
        video = check_frames(
            extract_video(data), num_inference_frames, frame_shape
        )
        return data, video.shape
    spec = extract_video(data.element_spec)
    shape = spec.shape
    if shape.rank == 5 and shape[1] is None:
        for element in data.take(1):
            shape = [shape[0], extract_video(element).shape[1], *shape[2:]]
        data = data.map(
            lambda *element: tf.ensure_shape(extract_video(element), shape)
        )
        shape = tf.TensorShape(shape)
    _check_spec(shape, spec.dtype, num_inference_frames, frame_shape)
    if spec.dtype != tf.uint8:
        for element in data.take(1):
            _check_range(extract_video(element))
    return data, shape


def check_observations(
    x: Any, y: Any, needed: int, seen: tuple[int, ...] | None
) -> tuple[Any, tf.TensorShape]:
    """Looks at what `fit`, `evaluate` or `predict` was given.

    Args:
      x: Videos or vectors, arrays or a tf.data.Dataset.
      y: Change of the vectors, or None.
      needed: Number of frames that a video must have.
      seen: Shape of an observation of a built model, or None.
    Returns: The data, of known length now, and their shape.
    Raises:
      TypeError: if frames are neither uint8 nor floats.
      ValueError: if something does not fit.
    """
    is_dataset = isinstance(x, tf.data.Dataset)
    element = x.element_spec if is_dataset else x
    rank = len(extract_video(element).shape)
    if rank == 2:
        shape = _check_rows(element, y, is_dataset, needed, seen)
        return x, shape
    if seen and len(seen) == 1:
        raise ValueError(
            f"The model was built for vectors of {seen[0]} numbers. Received: "
            f"data of rank {rank}."
        )
    x, shape = check_data(x, 2, seen and seen[1:])
    if shape[1] < needed:
        raise ValueError(
            f"Two consecutive pairs take {needed} frames. Received: videos "
            f"of {shape[1]}."
        )
    return x, shape


def _check_spec(shape, dtype, num_inference_frames, frame_shape):
    if dtype != tf.uint8 and not dtype.is_floating:
        raise TypeError(
            f"Frames must be {_EXPECTED}. Received: {dtype.name}; cast them "
            "with `tf.cast(video, tf.uint8)` if they count 0 to 255."
        )
    if shape.rank != 5:
        raise ValueError(
            f"Frames must be {_EXPECTED}. Received: shape {shape}"
            + ("; batch the videos." if shape.rank == 4 else ".")
        )
    frames = shape[1]
    if frames is None or None in shape[2:]:
        raise ValueError(
            "Time, height, width and channels must be known. Received: shape "
            f"{shape}; give them with `tf.ensure_shape`, or batch videos of "
            "one length."
        )
    if frames < num_inference_frames:
        raise ValueError(
            f"The model infers from {num_inference_frames} frames. Received: "
            f"videos of {frames}."
        )
    if frame_shape and tuple(shape[2:]) != tuple(frame_shape):
        raise ValueError(
            f"The model was built for frames {tuple(frame_shape)}. Received: "
            f"frames {tuple(shape[2:])}; resize them."
        )


def _check_range(video):
    low, high = (
        float(tf.reduce_min(video)),
        float(tf.reduce_max(video)),
    )
    finite = bool(tf.reduce_all(tf.math.is_finite(video)))
    if not finite:
        raise ValueError(
            "Frames must be finite. Received: NaN or infinity; drop or mend "
            "those videos."
        )
    if low < 0.0 or high > 1.0:
        raise ValueError(
            "Frames of floats must lie in [0, 1]. Received: values from "
            f"{low:g} to {high:g}; divide by 255 if they count 0 to 255."
        )


def _check_rows(element, y, is_dataset, needed, seen):
    x = extract_video(element)
    if isinstance(element, (tuple, list)) and len(element) > 1:
        y = element[1]
    if needed > 2 and (y is None or tuple(y.shape) != tuple(x.shape)):
        raise ValueError(
            "Vectors come with their change to the next one, both [rows, "
            f"size]. Received: {tuple(x.shape)} and "
            f"{None if y is None else tuple(y.shape)}."
        )
    if seen and tuple(seen) != tuple(x.shape[1:]):
        raise ValueError(
            f"The model was built for observations {tuple(seen)}. Received: "
            f"vectors of {x.shape[1]} numbers."
        )
    if not is_dataset:
        check_finite("x", np.asarray(x))
        if y is not None:
            check_finite("y", np.asarray(y))
    return x.shape
