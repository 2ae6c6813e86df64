"""Videos as models take them: checked, cut into frames, decoded in parts."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import keras
import numpy as np
import tensorflow as tf

from hgn_tf.models.batches import (
    FIRST,
    LATER,
    SPEC,
    STEP,
    WHOLE,
    Batch,
    as_array,
    has_values,
)
from hgn_tf.models.collapse import Collapse
from hgn_tf.models.steps import GuardedModel, Noise, warn_caller
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

        Floats, about 0 to 1.
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


class GuardedVideoModel(GuardedModel):
    """A guarded model of videos, which come alone or in dictionaries.

    Attributes:
      dt: float. Seconds between frames. Data that tell theirs, as "dt" in a
        dictionary, must have the same.
    """

    dt: float
    _xla_by_default = False

    @property
    def _draws_pictures(self) -> bool:
        return True

    @property
    def _remedy(self) -> str:
        """What mends pictures that are worse than any picture."""
        return "lower the learning rate"

    def fit(
        self, x: Any = None, y: Any = None, *args, **kwargs
    ) -> keras.callbacks.History:
        """As `keras.Model.fit`, of data that are looked at first."""
        history = super().fit(x, y, *args, **kwargs)
        error = history.history.get("reconstruction", [0.0])[-1]
        if self._draws_pictures and error > 1.0:
            warn_caller(
                "A picture in [0, 1] has a squared error of 1 at most. "
                f"Received: {error:.3g} of what is drawn; {self._remedy}."
            )
        return history

    def __call__(self, x, *args, objective=False, **kwargs):
        if objective:
            return super().__call__(x, *args, objective=objective, **kwargs)
        seen = LATER if tf.executing_eagerly() else STEP
        x = self._admit(Batch(x), "predict", seen).x
        return super().__call__(x, *args, **kwargs)

    def _asks_for_values(self, spec):
        x = lone_input(spec.x)
        tells_dt = isinstance(x, dict) and "dt" in x
        return tells_dt or extract_video(x).dtype.is_floating

    def _check_dt(self, x, seen):
        """Compares the model's dt with that of the data, if they tell it."""
        x = lone_input(x)
        if seen not in (WHOLE, FIRST) or not isinstance(x, dict):
            return
        steps = np.unique(np.asarray(x.get("dt", self.dt)))
        # The data's is a float32.
        others = steps[~np.isclose(steps, self.dt, rtol=1e-4)]
        if len(others):
            raise ValueError(
                "`dt` of the model must be the seconds between frames of the "
                f"data. Received: {self.dt:g} of the model, {others[0]:g} of "
                f'the data; make the model with that `dt`, or leave "dt" out.'
            )


def extract_video(x: Any) -> Any:
    """The videos in an input: itself, alone in a list, or by its name.

    Args:
      x: Videos, a list with nothing else, or a dictionary with them as
        "video"; of arrays, tensors or specs.
    Returns: One array, tensor or spec.
    Raises: ValueError: if a dictionary has no "video", or what there is makes
      no array.
    """
    x = lone_input(x)
    if isinstance(x, dict):
        if "video" not in x:
            raise ValueError(
                f'A dictionary must have a "video". Received: keys {sorted(x)}.'
            )
        x = x["video"]
    advice = "; crop them to one length, or give each length its own call."
    if isinstance(x, (list, tuple)):
        shapes = sorted({tuple(np.shape(part)) for part in x})
        if len(shapes) > 1:
            raise ValueError(
                f"Frames must be {_EXPECTED}. Received: a list of arrays of "
                f"shapes {shapes}{advice}"
            )
    x = as_array(x)
    ragged = isinstance(x, (tf.RaggedTensor, tf.RaggedTensorSpec))
    if ragged or (isinstance(x, np.ndarray) and x.dtype.kind in "OSU"):
        raise ValueError(
            f"Frames must be {_EXPECTED}. Received: {type(x).__name__} of "
            f"{x.dtype}{advice}"
        )
    return x


def lone_input(x: Any) -> Any:
    """The one input in a list of inputs, which Keras takes as well."""
    return x[0] if isinstance(x, (list, tuple)) and len(x) == 1 else x


def to_float_video(
    video: np.ndarray | tf.Tensor, dtype: str = "float32"
) -> tf.Tensor:
    """Videos of uint8 or floats as floats in [0, 1], of the same shape."""
    video = tf.convert_to_tensor(video)
    if video.dtype == tf.uint8:
        return tf.cast(video, dtype) / 255.0
    return tf.cast(video, dtype)


def num_pixels(video: tf.Tensor) -> int:
    """Numbers per frame: height * width * channels."""
    _, _, height, width, channels = video.shape
    return height * width * channels


def draw_times(
    count: int, low: tf.Tensor, high: tf.Tensor, noise: Noise
) -> tf.Tensor:
    """One frame from each of `count` equal parts of the frames low to high.

    The draws are uniform over these frames, so that a mean over the drawn
    frames is an unbiased estimate of the mean over all. Draws from parts vary
    less than independent draws.

    Args:
      count: int. Number of frames per example.
      low: First frame of each example, whole numbers [batch].
      high: Last frame of each example, [batch].
      noise: Noise of the draws, which differ between examples.
    Returns: int32 [batch, count].
    """
    low, high = (tf.cast(x, tf.float32)[:, tf.newaxis] for x in (low, high))
    part = tf.range(count, dtype=tf.float32) + noise.draw(
        tf.random.stateless_uniform, [tf.shape(low)[0], count]
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
    # A row per frame: on five axes the choice took five times as long as on
    # two, a fifth of a training step.
    rows = tf.reshape(cut, [-1, math.prod(cut.shape[2:])])
    rows = tf.where(tf.reshape(inside, [-1, 1]), rows, 0.0)
    return tf.ensure_shape(tf.reshape(rows, tf.shape(cut)), cut.shape)


def decode_frames(decoder: keras.Layer, q: tf.Tensor) -> tf.Tensor:
    """[batch, time, ...] -> [batch, time, height, width, channels]."""
    lead = tf.shape(q)[:2]
    frames = tf.cast(decoder(tf.reshape(q, [-1, *q.shape[2:]])), q.dtype)
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


def first_pair(x: np.ndarray | tf.Tensor, dtype: str = "float32") -> tf.Tensor:
    """The first pair of frames of videos, or vectors as they are."""
    x = to_float_video(x, dtype)
    return x[:, :2] if len(x.shape) == 5 else x


def consecutive_pairs(
    x: np.ndarray | tf.Tensor,
    noise: Noise | None = None,
    change: np.ndarray | tf.Tensor | None = None,
    dtype: str = "float32",
) -> tuple[tf.Tensor, tf.Tensor]:
    """Observations and the ones after them.

    Args:
      x: Videos [batch, time, height, width, channels], or vectors [batch,
        size].
      noise: Noise, for one pair of pairs drawn from each video; None for all
        of them.
      change: Of vectors, the change to the next ones, [batch, size].
      dtype: str. Precision of the floats. Defaults to "float32".
    Returns: Two arrays [rows, 2, height, width, channels] or [batch, size].
    """
    x = to_float_video(x, dtype)
    if change is not None:
        return x, x + tf.cast(change, dtype)
    choices = x.shape[1] - 2
    if noise is not None:
        start = noise.draw(
            tf.random.stateless_uniform,
            [tf.shape(x)[0]],
            minval=0,
            maxval=choices,
            dtype=tf.int32,
        )
        three = tf.gather(x, start[:, None] + tf.range(3), batch_dims=1)
        return three[:, :2], three[:, 1:]
    index = tf.range(choices)[:, None] + tf.range(3)
    three = tf.reshape(tf.gather(x, index, axis=1), [-1, 3, *x.shape[2:]])
    return three[:, :2], three[:, 1:]


def check_frames(
    video: Any,
    num_inference_frames: int,
    frame_shape: tuple[int, ...] | None = None,
    seen: str = WHOLE,
) -> Any:
    """Gives the video back as an array or tensor, or says what is wrong.

    Args:
      video: Array, tensor or spec; or a dictionary with one as "video".
      num_inference_frames: Smallest number of frames.
      frame_shape: (height, width, channels) of a built model, or None.
      seen: What the video is, see `batches`. Of a spec the shape may be
        unknown; in a batch after the first NaN and infinity are allowed.
    Returns: The video, of uint8 or floats.
    Raises:
      TypeError: if the numbers are neither uint8 nor floats.
      ValueError: if rank, size, number of frames or range do not fit, or a
        value is NaN or infinite.
    """
    video = extract_video(video)
    shape, dtype = tf.TensorShape(video.shape), tf.as_dtype(video.dtype)
    if seen == SPEC and not shape[1:].is_fully_defined():
        # The first batch will tell.
        _check_dtype(dtype)
        return video
    _check_spec(shape, dtype, num_inference_frames, frame_shape)
    if dtype.is_floating and seen in (WHOLE, FIRST, LATER):
        _check_range(video, finite=seen != LATER)
    return video


def check_num_frames(num_frames: int, needed: int) -> None:
    """Checks that videos have the frames that a state is inferred from.

    Raises: ValueError: if they have fewer.
    """
    if num_frames < needed:
        raise ValueError(
            f"The model infers from {needed} frames at least. Received: "
            f"videos of {num_frames}."
        )


def _check_dtype(dtype):
    if dtype != tf.uint8 and not dtype.is_floating:
        raise TypeError(
            f"Frames must be {_EXPECTED}. Received: {dtype.name}; cast them "
            "with `tf.cast(video, tf.uint8)` if they count 0 to 255."
        )


def _check_spec(shape, dtype, num_inference_frames, frame_shape):
    _check_dtype(dtype)
    if shape.rank != 5:
        raise ValueError(
            f"Frames must be {_EXPECTED}. Received: shape {shape}"
            + _rank_advice(shape)
        )
    frames = shape[1]
    if frames is None or None in shape[2:]:
        raise ValueError(
            "Time, height, width and channels must be known. Received: shape "
            f"{shape}; give them with `tf.ensure_shape`, or batch videos of "
            "one length."
        )
    if 0 in shape:
        raise ValueError(
            f"`x` must have a video and a pixel at least. Received: {shape}."
        )
    check_num_frames(frames, num_inference_frames)
    if frame_shape and tuple(shape[2:]) != tuple(frame_shape):
        raise ValueError(
            f"The model was built for frames {tuple(frame_shape)}. Received: "
            f"frames {tuple(shape[2:])}; resize them."
        )


def _rank_advice(shape):
    if shape.rank != 4:
        return "."
    # Pictures have a channel, or a few.
    if shape[-1] is not None and shape[-1] > 4:
        return "; add the axis of channels, `video[..., None]`."
    return "; batch the videos."


def _check_range(video, finite):
    """Refuses values that no frame has; in a graph, as it runs.

    Of numpy arrays by numpy: TensorFlow must not run in the processes that
    load the batches of a PyDataset.
    """
    if isinstance(video, (tf.TypeSpec, keras.KerasTensor)):
        return
    if not has_values(video):
        # NaN and infinity cost a step, and no more.
        outside = (video < 0.0) | (video > 1.0)
        bad = tf.reduce_any(outside & tf.math.is_finite(video))
        tf.debugging.Assert(
            ~bad,
            [
                "Frames of floats must lie in [0, 1]. Received: values from",
                tf.reduce_min(video),
                "to",
                tf.reduce_max(video),
            ],
        )
        return
    video = np.asarray(video)
    low, high = float(np.min(video)), float(np.max(video))
    if not np.isfinite([low, high]).all():
        if finite:
            raise ValueError(
                "Frames must be finite. Received: NaN or infinity; drop or "
                "mend those videos."
            )
        video = np.where(np.isfinite(video), video, 0.0)
        low, high = float(np.min(video)), float(np.max(video))
    if low < 0.0 or high > 1.0:
        raise ValueError(
            "Frames of floats must lie in [0, 1]. Received: values from "
            f"{low:g} to {high:g}; divide by 255 if they count 0 to 255."
        )
