"""What videos are like before anything is learned from them.

Each measure takes videos alone: no state, no energy, no model.
"""

import numpy as np

# A pixel moves where it changes by more than so many standard deviations of
# the noise, and more than so many grey levels.
_MOVES = 4.0
_LEVELS = 6.0


def noise_variance(video: np.ndarray) -> float:
    """Variance of the noise per pixel, from the pixels that stand still.

    median over pixels of mean over time of (x_(t+1) - x_t)^2 / 2

    A still pixel differs from frame to frame by its noise alone. The median
    is one of them while more than half of the pixels stand still; where most
    of the picture moves, it is too high.

    Args:
      video: uint8 [batch, time, height, width, channels], two frames at least.
    Returns: Variance for pixels in [0, 1].
    Raises: ValueError: if there are fewer than two frames.
    """
    change = _changes(video)
    return float(np.median(np.square(change).mean(axis=(0, 1))) / 2)


def moving_share(video: np.ndarray) -> float:
    """Fraction of the pixels of a frame that change to the next frame.

    A pixel changes if it does by more than four standard deviations of the
    noise and six grey levels.

    Args:
      video: uint8 [batch, time, height, width, channels], two frames at least.
    Returns: Number from 0 to 1.
    """
    change, least = _changes(video), _least_change(video)
    return float((np.abs(change).max(axis=-1) > least).mean())


def still_share(video: np.ndarray) -> float:
    """Fraction of the frames to the next of which no pixel changes.

    Args:
      video: uint8 [batch, time, height, width, channels], two frames at least.
    Returns: Number from 0 to 1; high where nothing moves most of the time.
    """
    change, least = _changes(video), _least_change(video)
    return float((np.abs(change).max(axis=(2, 3, 4)) <= least).mean())


def motion_per_frame(video: np.ndarray) -> float:
    """How far things move from a frame to the next, in pixels.

    sqrt(sum of (dx/dt)^2 / sum of |grad x|^2) over the pixels that change

    It holds for what moves by less than its own size. Motion along an edge does
    not show, so for round things it is about a fifth too low.

    Args:
      video: uint8 [batch, time, height, width, channels], two frames at least.
    Returns: Pixels per frame; 0 where nothing moves.
    """
    change, least = _changes(video), _least_change(video)
    moves = np.abs(change).max(axis=-1) > least
    if not moves.any():
        return 0.0
    middle = (video[:, 1:].astype(np.float32) + video[:, :-1]) / 510.0
    slopes = sum(np.square(np.gradient(middle, axis=axis)) for axis in (2, 3))
    return float(np.sqrt(np.square(change)[moves].sum() / slopes[moves].sum()))


def one_way_share(video: np.ndarray) -> float:
    """How much of the change stays: 1 for a drawing, near 0 for an orbit.

    sum |x_T - x_0| / sum over time of |x_(t+1) - x_t|, noise left out

    A body that passes a pixel leaves it as it was. What is drawn stays.

    Args:
      video: uint8 [batch, time, height, width, channels], two frames at least.
    Returns: Number from 0 to 1; 0 where nothing moves.
    """
    change, least = _changes(video), _least_change(video)
    moved = np.where(np.abs(change) > least, np.abs(change), 0).sum()
    if not moved:
        return 0.0
    whole = np.abs(video[:, -1].astype(np.float32) - video[:, 0]) / 255.0
    return float(min(1.0, whole[whole > least].sum() / moved))


def _least_change(video):
    noise = noise_variance(video) ** 0.5
    return max(_MOVES * 2**0.5 * noise, _LEVELS / 255.0)


def _changes(video):
    """x_(t+1) - x_t of pixels in [0, 1], float32."""
    if video.ndim != 5 or video.shape[1] < 2:
        raise ValueError(
            "`video` must be [batch, time, height, width, channels] with two "
            f"frames at least. Received: shape {video.shape}."
        )
    return np.diff(video.astype(np.float32), axis=1) / 255.0
