"""A pendulum that is filmed: videos in a look of their own, for trials."""

import os
import pathlib
from fractions import Fraction

import numpy as np
import PIL.Image
import PIL.ImageDraw

from tfds_physics.folder.recordings import import_av
from tfds_physics.systems import SYSTEMS

# Drawn at so many times the size, then made smaller: smooth edges.
_FINE = 2
_WALL, _FLOOR = (196, 178, 150), (150, 128, 104)
_ROD, _BOB, _NAIL = (70, 60, 56), (178, 44, 40), (40, 40, 44)
_SHADE = (160, 142, 116)


def film_pendulum(
    folder: str | os.PathLike,
    num_clips: int = 200,
    num_frames: int = 30,
    size: tuple[int, int] = (96, 96),
    fps: int = 10,
    shake: float = 0.3,
    seed: int = 0,
) -> pathlib.Path:
    """Films swings of a pendulum as mp4: a rod and a bob before a wall.

    The bob throws a shadow, and the camera shakes a little. The motion is that
    of `physics_pendulum`. Nothing but the pictures is written: no state, no
    energy.

    Args:
      folder: Folder of the videos, which is made. Each is named by its number.
      num_clips: int. Number of videos. Defaults to 200.
      num_frames: int. Frames per video. Defaults to 30.
      size: Height and width in pixels, even numbers. Defaults to (96, 96).
      fps: int. Frames per second. Defaults to 10.
      shake: float. Standard deviation of the camera's place, in pixels.
        Defaults to 0.3.
      seed: int. Seed of the first states and of the shake. Defaults to 0.
    Returns: The folder.
    Raises:
      ValueError: if a side is odd or below 16.
      ImportError: if PyAV is not installed.
    """
    if any(side < 16 or side % 2 for side in size):
        raise ValueError(
            "`size` must be two even numbers of at least 16, as codecs want "
            f"them. Received: {size}."
        )
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    system = SYSTEMS["pendulum"]
    times = np.arange(num_frames) / fps
    starts = [system.sample_state(rng) for _ in range(num_clips)]
    q, _ = system.simulate(
        np.stack([start[0] for start in starts]),
        np.stack([start[1] for start in starts]),
        times,
    )
    for index, angles in enumerate(q[..., 0]):
        places = shake * rng.normal(size=(num_frames, 2))
        frames = [
            _draw(angle, place, size) for angle, place in zip(angles, places)
        ]
        _write_mp4(folder / f"{index:04d}.mp4", frames, fps)
    return folder


def _draw(angle, place, size):
    """A frame, uint8 [height, width, 3], the camera at `place` in pixels."""
    height, width = (_FINE * side for side in size)
    unit = min(height, width)
    x, y = (_FINE * each for each in place)
    picture = PIL.Image.new("RGB", (width, height), _WALL)
    pen = PIL.ImageDraw.Draw(picture)
    pen.rectangle((0, 0.86 * height + y, width, height), fill=_FLOOR)
    nail = np.array([width / 2 + x, 0.46 * height + y])
    bob = nail + 0.3 * unit * np.array([np.sin(angle), np.cos(angle)])
    _disc(pen, bob + 0.05 * unit, 0.1 * unit, _SHADE)
    pen.line([*nail, *bob], fill=_ROD, width=round(0.025 * unit))
    _disc(pen, nail, 0.025 * unit, _NAIL)
    _disc(pen, bob, 0.1 * unit, _BOB)
    small = picture.resize(size[::-1], PIL.Image.Resampling.BOX)
    return np.asarray(small)


def _disc(pen, centre, radius, colour):
    low, high = centre - radius, centre + radius
    pen.ellipse([*low, *high], fill=colour)


def _write_mp4(path, frames, fps):
    av = import_av()
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps))
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "18", "preset": "veryfast"}
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
