"""Whether a trained model moves at all, or has collapsed to a still image."""

from typing import NamedTuple

import numpy as np

# A model whose states move less than this in so many frames, or whose states
# are all one point, draws a still picture.
_FEW_FRAMES = 30
_LEAST_MOTION = 0.1  # spreads of the states
_LEAST_SPREAD = 1e-3


class LatentMotion(NamedTuple):
    """How the learned field moves the encoded data.

    gradient_norm: mean |grad H| (of a baseline, |dz/dt|), per frame;
    spread: standard deviation of the states, the root of the sum over
    coordinates;
    collapsed: whether the states stand still or are all one.
    """

    gradient_norm: float
    spread: float
    collapsed: bool

    def metrics(self) -> dict[str, float]:
        """The norm, its share of the spread (NaN without one), the verdict."""
        share = self.gradient_norm / self.spread if self.spread else np.nan
        return {
            "gradient_norm": self.gradient_norm,
            "gradient_norm_share": share,
            "collapsed": float(self.collapsed),
        }


def latent_motion(states: np.ndarray, change: np.ndarray) -> LatentMotion:
    """Looks at states and at what the field makes of them.

    Args:
      states: [rows, size].
      change: Their rate of change, per frame, [rows, size].
    Returns: LatentMotion.
    """
    speed = np.linalg.norm(change, axis=-1).mean()
    spread = np.sqrt(states.var(axis=0).sum())
    still = _FEW_FRAMES * speed < _LEAST_MOTION * spread
    return LatentMotion(
        float(speed), float(spread), bool(still or spread < _LEAST_SPREAD)
    )
