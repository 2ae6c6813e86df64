"""Frames put side by side, and written as animated GIFs.

Videos are [time, height, width, channels] with 3 channels, or 1 that is drawn
grey, of uint8 or floats in [0, 1].
"""

import base64
import io
import math
import os
import pathlib
from collections.abc import Sequence

import numpy as np
import PIL.Image

from hgn_tf.files import check_place, write_whole

GUTTER = 128  # Grey between frames, seen on dark and on light.
# Pixels of a GIF's longer side; small frames are enlarged up to it, 4 times at
# most.
_LARGEST = 1200


def to_uint8(frames: np.ndarray) -> np.ndarray:
    """round(255 * frames) clipped to 0..255; uint8 passes as it is.

    For what a model drew, which may lie outside, and for NaN, which is black.

    Args:
      frames: Array of uint8, or of floats in [0, 1], of any shape.
    Returns: uint8 array of the same shape.
    Raises: TypeError: if the numbers are of another kind.
    """
    frames = np.asarray(frames)
    if frames.dtype == np.uint8:
        return frames
    if not np.issubdtype(frames.dtype, np.floating):
        raise TypeError(
            "`frames` must be uint8 or floats in [0, 1]. "
            f"Received: {frames.dtype}."
        )
    return np.rint(np.clip(np.nan_to_num(frames), 0, 1) * 255).astype(np.uint8)


def to_rgb(video: np.ndarray) -> np.ndarray:
    """A video to be shown, as uint8 in three channels.

    Args:
      video: Video [time, height, width, 3] or, grey, [time, height, width, 1].
        Floats may lie up to 1 outside of [0, 1], as drawn frames do, and are
        clipped.
    Returns: uint8 [time, height, width, 3].
    Raises:
      TypeError: if the numbers are neither uint8 nor floats.
      ValueError: if the shape is another one, or values are not finite or
        further outside.
    """
    video = np.asarray(video)
    if video.ndim != 4 or video.shape[-1] not in (1, 3) or not video.size:
        raise ValueError(
            "`video` must have shape [time, height, width, 3], or 1 channel. "
            f"Received: {video.shape}."
        )
    if np.issubdtype(video.dtype, np.floating):
        low, high = float(video.min()), float(video.max())
        if not (low >= -1 and high <= 2):  # Of NaN too.
            raise ValueError(
                "`video` must be of floats in [0, 1], or uint8. Received: "
                f"numbers from {low} to {high}; divide by 255 if they count 0 "
                "to 255."
            )
    return np.broadcast_to(to_uint8(video), (*video.shape[:3], 3))


def frame_sheet(video: np.ndarray) -> tuple[bytes, int]:
    """The frames of a video as one picture, row by row, about square.

    Args:
      video: Video as `to_rgb` takes it.
    Returns: The PNG, and the number of frames per row.
    Raises: ValueError: as `to_rgb`.
    """
    video = to_rgb(video)
    num_frames, height, width = video.shape[:3]
    columns = math.ceil(math.sqrt(num_frames))
    blank = np.zeros((-num_frames % columns, *video.shape[1:]), np.uint8)
    sheet = np.concatenate([video, blank])
    sheet = sheet.reshape(-1, columns, height, width, 3).swapaxes(1, 2)
    png = io.BytesIO()
    picture = PIL.Image.fromarray(sheet.reshape(-1, columns * width, 3))
    picture.save(png, "PNG", optimize=True)
    return png.getvalue(), columns


def data_uri(png: bytes) -> str:
    """A PNG as an address that a page can hold."""
    data = base64.b64encode(png).decode("ascii")
    return f"data:image/png;base64,{data}"


def side_by_side(
    videos: Sequence[np.ndarray], gutter: int = 2, vertical: bool = False
) -> np.ndarray:
    """One video of several, with thin grey gutters between them.

    Args:
      videos: Videos of equal shapes, as `to_rgb` takes them.
      gutter: Width of the gutters, in pixels.
      vertical: Whether the videos stand below each other.
    Returns: uint8 video [time, height, n * width + (n - 1) * gutter, 3], or
      height and width exchanged.
    Raises: ValueError: if the shapes differ, there is no video, or as
      `to_rgb`.
    """
    videos = [to_rgb(video) for video in videos]
    shapes = sorted({video.shape for video in videos})
    if len(shapes) != 1:
        raise ValueError(
            "`videos` must have one shape [time, height, width, 3]. "
            f"Received: {shapes}."
        )
    axis = 1 if vertical else 2
    size = list(shapes[0])
    size[axis] = gutter
    line = np.full(size, GUTTER, np.uint8)
    parts = [part for video in videos for part in (line, video)][1:]
    return np.concatenate(parts, axis=axis)


def write_gif(
    path: str | os.PathLike,
    video: np.ndarray,
    fps: float = 8.0,
    scale: int | None = None,
) -> pathlib.Path:
    """Writes an endless GIF, enlarged without smoothing.

    Args:
      path: Place of the GIF, which is written whole or not at all.
      video: Video as `to_rgb` takes it; `side_by_side` joins several.
      fps: Frames per second; GIF counts in hundredths of a second.
      scale: Side in pixels of what one pixel of the video becomes; None for
        what brings the longer side to at most 1200 pixels, from 1 to 4.
    Returns: The path.
    Raises:
      ValueError: if the name does not end in .gif, or the video has another
        shape, no frame, or floats that are NaN or far from [0, 1].
      TypeError: if the video is of other numbers than uint8 or floats.
      OSError: if the file cannot be written.
    """
    path = check_place(path, (".gif",))
    video = to_rgb(video)
    scale = scale or min(4, max(1, _LARGEST // max(video.shape[1:3])))
    # One palette for all frames: colours of their own would flicker.
    everything = PIL.Image.fromarray(video.reshape(-1, *video.shape[2:]))
    palette = everything.quantize(256)
    none = PIL.Image.Dither.NONE
    large = video.repeat(scale, axis=1).repeat(scale, axis=2)
    frames = [
        PIL.Image.fromarray(frame).quantize(palette=palette, dither=none)
        for frame in large
    ]
    data = io.BytesIO()
    frames[0].save(
        data, "GIF", save_all=True, append_images=frames[1:], loop=0,
        duration=1000 / fps,
    )  # fmt: skip
    return write_whole(path, data.getvalue())
