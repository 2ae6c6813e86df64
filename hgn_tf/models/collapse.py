"""Whether a trained model moves at all, or has collapsed to a still image."""

from typing import NamedTuple

import numpy as np

# A model whose states, or whose pictures, move less than this in so many
# frames has collapsed.
_FEW_FRAMES = 30
_LEAST_MOTION = 0.1  # spreads


class Collapse(NamedTuple):
    """How the learned field moves the encoded data.

    Attributes:
      gradient_norm: Mean |grad H| per frame; of a baseline, mean |dz/dt|.
      spread: Standard deviation of the states, as the root of the sum of the
        variances of the coordinates.
      drawn_change: Change of the picture per frame of that motion, over the
        spread of the recorded pictures. Both are root mean squares. NaN if
        all recorded pictures are equal.
      collapsed: Whether the states stand still, are all equal or not finite,
        or the pictures do not change with them.
    """

    gradient_norm: float
    spread: float
    drawn_change: float
    collapsed: bool

    def metrics(self) -> dict[str, float]:
        """The norm, its share of the spread (NaN without one), the verdict."""
        share = self.gradient_norm / self.spread if self.spread else np.nan
        return {
            "gradient_norm": self.gradient_norm,
            "gradient_norm_share": share,
            "drawn_change": self.drawn_change,
            "collapsed": float(self.collapsed),
        }


def check_collapse(
    states: np.ndarray,
    change: np.ndarray,
    drawn: np.ndarray,
    carried: np.ndarray,
    recorded: np.ndarray,
) -> Collapse:
    """Looks at states and at what the field makes of them.

    The states alone do not tell: a model may shrink them until all its
    pictures are equal, and move them relative to their own small spread.

    Args:
      states: States [rows, size].
      change: Rate of change of the states per frame, [rows, size].
      drawn: Pictures of the states.
      carried: Pictures of states + change, of the same shape.
      recorded: Recorded pictures, [rows, ...].
    Returns: Collapse.
    """
    speed = np.linalg.norm(change, axis=-1).mean()
    spread = np.sqrt(states.var(axis=0).sum())
    contrast = _root_mean_square(recorded - recorded.mean(axis=0))
    moved = _root_mean_square(carried - drawn)
    drawn_change = moved / contrast if contrast else np.nan
    # Said of what moves: a comparison with NaN is false.
    moves = (
        spread > 0
        and _FEW_FRAMES * speed >= _LEAST_MOTION * spread
        and (not contrast or _FEW_FRAMES * drawn_change >= _LEAST_MOTION)
    )
    return Collapse(float(speed), float(spread), float(drawn_change), not moves)


def _root_mean_square(x):
    return np.sqrt(np.mean(np.square(x), dtype=np.float64))
