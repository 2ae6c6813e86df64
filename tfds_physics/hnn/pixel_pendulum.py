"""The pixel pendulum of the state tasks: gymnasium's Pendulum-v1 in frames."""

import dataclasses
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
_SIZES = {"train": 160, "test": 40}  # trajectories
_MAX_ANGLE = math.pi / 6
_MAX_VELOCITY = 1.0  # radians per second, as the environment starts
# Top, bottom, left, right of the crop as fractions of the window. It holds
# the rod, as long as 0.23 of the window, within 40 degrees of hanging.
_CROP = (0.44, 0.78, 0.33, 0.67)


@dataclasses.dataclass(eq=False, kw_only=True)
class PixelConfig(StateConfig):
    """Settings of the pixel pendulum.

    Attributes:
      seed: Seed of the starts.
      noise: None: frames have no noise.
      num_train: Trajectories of the split train; None for 160.
      num_test: Trajectories of the split test; None for 40.
      change: Whether the second half of x is the change of the frame since
        the one before. Published: the next frame.

    Raises:
      ValueError: If a value is out of its range.
    """

    change: bool = False

    def __post_init__(self):
        super().__post_init__()
        if self.noise is not None:
            raise ValueError(
                "`noise` must be None, for frames have none. Received: "
                f"{self.noise}."
            )


class HNNPixelPendulum(StateRows):
    """Gymnasium's Pendulum-v1 as pixels: 160 + 40 trajectories of 100 rows.

    x is two neighbouring frames of 28 x 28, 1568 numbers; in the config
    `change` it is a frame and its change since the frame before. A frame is
    red minus green of the picture, which leaves the rod, cropped around the
    pivot and resized, 0 to 1. dx_dt is the change of x to the next row, per
    row (0.05 s). Angle and velocity are those at the frame that x begins
    with. The rod starts within pi/6 of hanging and is left alone. Needs the
    extra `gym`.

    The source crops by counts of pixels, for a window of 1000; the crop here
    is relative to the window that is there.
    """

    name = "hnn_pixel_pendulum"
    VERSION = tfds.core.Version("2.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {
        "2.0.0": "x is two frames, as published; before, see `change`.",
        "1.0.0": "First release.",
    }
    BUILDER_CONFIGS: ClassVar[list[PixelConfig]] = [
        PixelConfig(
            name="paper",
            description="Published x and sizes; the draw is this project's.",
        ),
        PixelConfig(
            name="change",
            change=True,
            description="As `paper`, x a frame and its change.",
        ),
        PixelConfig(
            name="tiny",
            num_train=2,
            num_test=1,
            description="Three trajectories for tests.",
        ),
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        second = (
            "its change since the one before, -1 to 1"
            if self._shows_change
            else "the next one, 0 to 1"
        )
        return self._make_info(2 * _SIDE**2, f"A frame and {second}.")

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
        return {
            split: len(numbers) * _NUM_POINTS
            for split, numbers in self._trajectories().items()
        }

    def _settings(self) -> dict:
        config = self.builder_config
        if config is None:
            return {}
        return {**super()._settings(), "change": self._shows_change}

    @property
    def _shows_change(self):
        # A StateConfig will do: it asks for x as published.
        return getattr(self.builder_config, "change", False)

    def _chunks(self, dl_manager):
        del dl_manager  # nothing is downloaded
        config = self.builder_config
        make = functools.partial(
            _make_trajectory, config.seed, self._shows_change
        )
        return {
            split: preparation.Chunks(make, numbers)
            for split, numbers in self._trajectories().items()
        }

    def _trajectories(self) -> dict[str, range]:
        """Numbers of the trajectories by split."""
        config = self.builder_config
        first = config.num_train or _SIZES["train"]
        total = first + (config.num_test or _SIZES["test"])
        return {"train": range(first), "test": range(first, total)}


def _make_trajectory(seed, change, trajectory):
    """Yields (key, example) of a trajectory, which has its own seed."""
    rng = np.random.RandomState([seed, trajectory])
    rows = swing(rng, _NUM_POINTS, change)
    rows["trajectory"] = np.full(_NUM_POINTS, trajectory)
    for index, example in iterate_rows(rows):
        yield f"{trajectory}-{index}", example


def swing(
    rng: np.random.RandomState, num_points: int, change: bool = False
) -> dict[str, np.ndarray]:
    """Makes the rows of one trajectory.

    Args:
      rng: Random numbers of the start.
      num_points: Number of rows.
      change: Whether x is a frame and its change, see `PixelConfig`.

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
    for _ in range(num_points + 2):  # x and the next x show three frames
        frames.append(crop(environment.render()).ravel())
        states.append(pendulum.state)
        environment.step(np.zeros(1, np.float32))
    step = pendulum.dt
    environment.close()
    pictures, path = np.stack(frames), np.stack(states)
    if change:
        halves, path = [pictures[1:], np.diff(pictures, axis=0)], path[1:-1]
    else:
        halves, path = [pictures[:-1], pictures[1:]], path[:-2]
    x = np.concatenate(halves, axis=1)
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
