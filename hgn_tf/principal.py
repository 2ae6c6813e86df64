"""First principal directions: how paths of many dimensions are drawn."""

from typing import NamedTuple

import numpy as np


class PrincipalLine(NamedTuple):
    """The line through the mean of values along which they vary most.

    mean: of the values, [...];
    direction: of unit length, [...]; its sign is arbitrary;
    spread: standard deviation of the values along the line;
    share: of the variance that lies along it.
    """

    mean: np.ndarray
    direction: np.ndarray
    spread: float
    share: float

    def at(self, places: np.ndarray) -> np.ndarray:
        """Values [n, ...] at places [n] from the mean."""
        return self.mean + np.multiply.outer(places, self.direction)

    def read(self, values: np.ndarray) -> np.ndarray:
        """Places [n, time] of values [n, time, ...]."""
        offset = np.asarray(values, np.float64) - self.mean
        return np.tensordot(offset, self.direction, self.direction.ndim)


def principal_line(values: np.ndarray) -> PrincipalLine:
    """The PrincipalLine of values [n, time, ...]."""
    shape = values.shape[2:]
    rows = np.asarray(values, np.float64).reshape(-1, np.prod(shape, dtype=int))
    mean = rows.mean(axis=0)
    _, scales, directions = np.linalg.svd(rows - mean, full_matrices=False)
    return PrincipalLine(
        mean.reshape(shape),
        directions[0].reshape(shape),
        scales[0] / np.sqrt(len(rows)),
        scales[0] ** 2 / max(np.sum(scales**2), np.finfo(float).tiny),
    )


def project(
    values: np.ndarray, like: np.ndarray, name: str
) -> tuple[np.ndarray, str]:
    """Places on the principal line of others, and what to call that axis.

    Args:
      values: [n, time, ...]; of one dimension they are their own places.
      like: The others, of the same dimensions.
      name: Of the values.
    Returns: places [n, time], and a label.
    """
    if np.prod(values.shape[2:], dtype=int) == 1:
        return np.reshape(values, values.shape[:2]), name
    line = principal_line(like)
    label = f"{name}, first component ({line.share:.0%} of variance)"
    return line.read(values), label
