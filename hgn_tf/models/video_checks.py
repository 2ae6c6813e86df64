"""What a caller can get wrong about frames, checked once at the door."""

import tensorflow as tf

from hgn_tf.models.frames import video_in

_EXPECTED = "[batch, time, height, width, channels], uint8 or floats in [0, 1]"


def check_frames(video, num_inference_frames, frame_shape=None):
    """Gives the video back as a tensor, or says what is wrong with it.

    Args:
      video: Array or tensor.
      num_inference_frames: Least number of frames.
      frame_shape: (height, width, channels) of a built model, or None.
    Returns: the video as a tensor of uint8 or floats.
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


def check_data(data, num_inference_frames, frame_shape=None):
    """As `check_frames`, on what `fit` takes: arrays or a tf.data.Dataset.

    Of a dataset the kind and shape of its elements are looked at; uint8 cannot
    be out of range, floats are checked on the first element. Where the number
    of frames is unknown, as `tfds.load` gives it, the first element's holds
    for all.

    Returns: the data, of known length now, and the shape of its videos.
    """
    if not isinstance(data, tf.data.Dataset):
        video = check_frames(video_in(data), num_inference_frames, frame_shape)
        return data, video.shape
    spec = video_in(data.element_spec)
    shape = spec.shape
    if shape.rank == 5 and shape[1] is None:
        for element in data.take(1):
            shape = [shape[0], video_in(element).shape[1], *shape[2:]]
        data = data.map(
            lambda *element: tf.ensure_shape(video_in(element), shape)
        )
        shape = tf.TensorShape(shape)
    _check_spec(shape, spec.dtype, num_inference_frames, frame_shape)
    if spec.dtype != tf.uint8:
        for element in data.take(1):
            _check_range(video_in(element))
    return data, shape


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
    if frame_shape is not None and tuple(shape[2:]) != tuple(frame_shape):
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
