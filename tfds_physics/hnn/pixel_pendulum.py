"""The pixel pendulum of the state tasks: gymnasium's Pendulum-v1 in frames."""

import functools
import math
import os
from typing import ClassVar

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from tfds_physics import preparation
from tfds_physics.hnn.builders import StateConfig, StateRows, iterate_rows

_SIDE = 28
_NUM_POINTS = 100
_MAX_ANGLE = math.pi / 6
_MAX_VELOCITY = 1.0  # radians per second, as the environment starts
# Top, bottom, left, right of the crop as fractions of the window. It holds
# the rod, as long as 0.23 of the window, within 40 degrees of hanging.
_CROP = (0.44, 0.78, 0.33, 0.67)


class HNNPixelPendulum(StateRows):
    """Gymnasium's Pendulum-v1 as pixels: 160 + 40 trajectories of 100 rows.

    x is a frame of 28 x 28 and its change since the frame before, 1568
    numbers. A frame is red minus green of the picture, which leaves the rod,
    cropped around the pivot and resized, 0 to 1. dx_dt is the change of x to
    the next row, per row (0.05 s). The rod starts within pi/6 of hanging and
    is left alone. Needs the extra `gym`.

    The source crops by counts of pixels, for a window of 1000; the crop here
    is relative to the window that is there.
    """

    name = "hnn_pixel_pendulum"
    BUILDER_CONFIGS: ClassVar[list[StateConfig]] = [
        StateConfig(
            name="paper",
            num_train=160,
            num_test=40,
            description="The published sizes; the draw is this project's.",
        ),
        StateConfig(
            name="tiny",
            num_train=2,
            num_test=1,
            description="Three trajectories for tests.",
        ),
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        return self._make_info(
            2 * _SIDE**2,
            "A frame and its change since the one before, -1 to 1.",
        )

    def _more_features(self, vector):
        return {
            "angle": tfds.features.Scalar(
                np.float32, doc="Radians, 0 hanging at rest."
            ),
            "velocity": tfds.features.Scalar(
                np.float32, doc="Radians per second."
            ),
        }

    @property
    def expected_sizes(self) -> dict[str, int]:
        """Number of rows by split of the whole dataset."""
        config = self.builder_config
        return {
            "train": config.num_train * _NUM_POINTS,
            "test": config.num_test * _NUM_POINTS,
        }

    def _chunks(self, dl_manager):
        del dl_manager  # nothing is downloaded
        config = self.builder_config
        total = config.num_train + config.num_test
        make = functools.partial(_make_trajectory, config.seed)
        return {
            "train": preparation.Chunks(make, range(config.num_train)),
            "test": preparation.Chunks(make, range(config.num_train, total)),
        }


def _make_trajectory(seed, trajectory):
    """Yields (key, example) of a trajectory, which has its own seed."""
    rows = swing(np.random.RandomState([seed, trajectory]), _NUM_POINTS)
    rows["trajectory"] = np.full(_NUM_POINTS, trajectory)
    for index, example in iterate_rows(rows):
        yield f"{trajectory}-{index}", example


def swing(rng: np.random.RandomState, num_points: int) -> dict[str, np.ndarray]:
    """Makes the rows of one trajectory.

    Args:
      rng: Random numbers of the start.
      num_points: Number of rows.

    Returns:
      Name -> array: `x` and `dx_dt` [num_points, 1568]; `angle`, `velocity`
      and `time` [num_points].

    Raises:
      ImportError: If gymnasium or pygame is not installed.
      ValueError: If the renderer's window is of another kind.
    """
    environment = _make_environment()
    pendulum = environment.unwrapped
    environment.reset(seed=0)
    angle = _MAX_ANGLE * (2.0 * rng.rand() - 1.0)
    velocity = _MAX_VELOCITY * (2.0 * rng.rand() - 1.0)
    # The environment's own angle is 0 upright.
    pendulum.state = np.array([math.pi + angle, velocity])
    pendulum.last_u = None
    frames, states = [], []
    for _ in range(num_points + 2):  # one before and one after each row
        frames.append(crop(environment.render()).ravel())
        states.append(pendulum.state)
        environment.step(np.zeros(1, np.float32))
    step = pendulum.dt
    environment.close()
    pictures, path = np.stack(frames), np.stack(states)[1:-1]
    x = np.concatenate([pictures[1:], np.diff(pictures, axis=0)], axis=1)
    return {
        "x": x[:-1],
        "dx_dt": np.diff(x, axis=0),
        "angle": path[:, 0] - math.pi,
        "velocity": path[:, 1],
        "time": step * np.arange(num_points),
    }


def crop(picture: np.ndarray) -> np.ndarray:
    """Red minus green around the pivot, [28, 28], 0 to 1.

    Args:
      picture: Square uint8 [height, width, 3] of any size that is large enough.

    Returns:
      float32 [28, 28].

    Raises:
      ValueError: If the picture is not square, or smaller than what is cut
        out.
    """
    shape = picture.shape
    top, bottom, left, right = (round(each * shape[0]) for each in _CROP)
    if len(shape) != 3 or shape[0] != shape[1] or bottom - top < _SIDE:
        raise ValueError(
            "The renderer's window must be square, [height, width, 3], of at "
            f"least {math.ceil(_SIDE / (_CROP[1] - _CROP[0]))} pixels. "
            f"Received: {shape}."
        )
    part = picture[top:bottom, left:right].astype(np.float32)
    rod = Image.fromarray(part[..., 0] - part[..., 1])
    small = rod.resize((_SIDE, _SIDE), Image.Resampling.BOX)
    return np.clip(np.asarray(small) / 255.0, 0.0, 1.0)


def _make_environment():
    # Draws into memory: no window is opened, and none is needed.
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    try:
        import gymnasium
        import pygame  # noqa: F401  # the renderer asks for it too late
    except ImportError as error:
        raise ImportError(
            "The pixel pendulum must have gymnasium and pygame. Received: "
            f"{error}. Install them with `pip install 'hgn-tf[gym]'`."
        ) from error
    # No time limit: a trajectory is longer than an episode is meant to be.
    return gymnasium.make(
        "Pendulum-v1", render_mode="rgb_array", max_episode_steps=10_000
    )
