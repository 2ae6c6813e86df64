"""What drawn motions are worth against the true physics.

A low error says that a model repeats videos. These measures ask of frames that
nobody filmed whether the true renderer could have drawn them, whether they move
by the true equations, and whether their energies are those of the data. A
constant image fails at the first, a still one and a memory that is shuffled at
the second.
"""

from typing import Any

import numpy as np
import scipy.stats

from hgn_tf import data

# Mean squared error per pixel that the true renderer may leave of a frame.
FRAME_ERROR = 5e-4
# Distance from a true motion, root of the mean square: in pixels, and as a
# share of what the motion takes the bodies from their mean places. By pixels
# alone a still picture of a slow motion would pass.
MOTION_DISTANCE, MOTION_SHARE = 0.5, 0.25
# Share of a motion's frames that must pass.
_FRAMES_OF_A_MOTION = 0.9
# Energies further off than so many spreads of the data's count as that far.
_FURTHEST = 5.0
# A drift is read at so many places of a long rollout, a few frames each.
_NUM_WINDOWS, _WINDOW = 12, 7


def shown(video: np.ndarray) -> np.ndarray:
    """Drawn frames within [0, 1]; what is not finite becomes NaN, as lost."""
    return np.clip(np.where(np.isfinite(video), video, np.nan), 0.0, 1.0)


def judge(
    recipe: Any, video: np.ndarray, energy: np.ndarray, dt: float
) -> dict[str, float]:
    """Measures of drawn motions, without a truth for each of them.

    - frames: share of frames of which the best fit by the true renderer
      leaves at most 5e-4. With noise in the data, it draws the expected frame.
    - motions: share of motions with nine tenths of their frames passing, and
      with a true motion within half a pixel and a quarter of its own spread,
      roots of the mean square over bodies and frames.
    - frame_error_e4: median of what the fits leave, times 1e4.
    - motion_distance: median distance from the nearest true motion, pixels.
    - energy_distance: Wasserstein-1 distance of the energies of the nearest
      true motions from the data's, in spreads of the data's. About 0.1 to 0.2
      for 64 draws of the data.

    A frame with NaN or infinity does not pass, and its motion is at no
    distance from a true one but an infinite one.

    Args:
      recipe: Recipe of the dataset, `builder.recipe`.
      video: Floats about 0 to 1, [batch, time, height, width, 3], at least 7
        frames.
      energy: True energies of many examples of the data, joules, [n].
      dt: Seconds between frames.
    Returns: dict, name -> number.
    Raises: ValueError: if the frames do not fit.
    """
    q, error, lost = _read(recipe, video)
    passed = error <= FRAME_ERROR
    distance, spread, found = data.read_motions(recipe, q, dt)
    distance = np.where(lost.any(axis=1), np.inf, distance)
    found = np.where(lost.any(axis=1), np.inf, found)
    follows = distance <= np.minimum(MOTION_DISTANCE, MOTION_SHARE * spread)
    whole = passed.mean(axis=1) >= _FRAMES_OF_A_MOTION
    return {
        "frames": float(passed.mean()),
        "motions": float((follows & whole).mean()),
        "frame_error_e4": 1e4 * float(np.median(error)),
        "motion_distance": float(np.median(distance)),
        "energy_distance": _energy_distance(found, energy),
    }


def energy_drift(
    recipe: Any, video: np.ndarray, energy: np.ndarray, spread: float, dt: float
) -> tuple[float, float]:
    """Drift of the true energy read off drawn frames, in spreads.

    median over videos and 12 places in time of |E - E_0| / spread

    Each E is the median over seven frames: positions by the known colours,
    velocities by differences.

    Args:
      recipe: Recipe of the dataset.
      video: Floats about 0 to 1, [batch, time, height, width, 3].
      energy: True energy E_0 of each video, joules, [batch].
      spread: Energy that counts as 1, the data's standard deviation.
      dt: Seconds between frames.
    Returns: (drift, frames): the drift, and the share of the frames looked at
      that pass as in `judge`. Of frames that do not, a reading tells little.
    Raises: ValueError: if there are fewer than 7 frames.
    """
    last = video.shape[1] - _WINDOW
    starts = np.unique(np.linspace(0, max(last, 0), _NUM_WINDOWS, dtype=int))
    windows = np.concatenate(
        [video[:, start : start + _WINDOW] for start in starts]
    )
    q, error, lost = _read(recipe, windows)
    found = np.median(data.read_energies(recipe, q, dt), axis=1)
    found = np.where(lost.any(axis=1), np.inf, found)
    apart = np.abs(found - np.tile(energy, len(starts)))
    drift = np.median(np.nan_to_num(apart, nan=np.inf)) / spread
    return float(drift), float((error <= FRAME_ERROR).mean())


def _read(recipe, video):
    """Positions, errors, and which frames a broken model has lost.

    The error of these is infinite, and their positions are those of no motion.
    """
    lost = ~np.isfinite(video).all(axis=(-3, -2, -1))
    seen = np.where(lost[..., np.newaxis, np.newaxis, np.newaxis], 0, video)
    q, error = data.read_frames(recipe, seen)
    return q, np.where(lost, np.inf, error), lost


def _energy_distance(found, energy):
    middle, spread = np.mean(energy), np.std(energy)
    reach = _FURTHEST * spread
    found = np.nan_to_num(found, nan=middle + reach, posinf=middle + reach)
    found = np.clip(found, middle - reach, middle + reach)
    return float(scipy.stats.wasserstein_distance(found, energy) / spread)
