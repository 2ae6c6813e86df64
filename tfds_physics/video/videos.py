"""Pictures of a system's motion, and what noise does to them."""

import numpy as np

from tfds_physics.systems import System
from tfds_physics.video import render

# Frames of one noise sample that are drawn and summed at a time.
_BLOCK_FRAMES = 1024


def render_video(
    system: System, q: np.ndarray, image_size: int = 32
) -> np.ndarray:
    """Draws the positions q, [..., dof], of a system.

    Args:
      system: Whose bodies, colours and field of view are drawn.
      q: Positions, [..., dof]; any leading axes, such as [batch, time].
      image_size: Height and width in pixels.

    Returns:
      uint8 frames of shape [..., image_size, image_size, 3]; row 0 is the top.

    Raises:
      ValueError: If the last axis of q is not `system.dof`.
    """
    q = np.asarray(q, np.float64)
    if q.ndim == 0 or q.shape[-1] != system.dof:
        raise ValueError(
            f"`q` must be of shape [..., {system.dof}]. Received: {q.shape}."
        )
    return render.render(
        system.positions(q),
        system.radii,
        system.colors,
        system.half_width,
        image_size,
    )


def expected_video(
    system: System,
    q: np.ndarray,
    noise: float,
    image_size: int = 32,
    num_samples: int = 64,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of render(q + noise N(0, 1)) by Monte Carlo.

    The mean is the best prediction of a noisy frame from its true state, and
    the mean of the variance over pixels is its squared error: the noise floor
    of a dataset, which no model can beat on noise it has not seen.

    Args:
      system: The system to draw.
      q: True positions, [..., dof].
      noise: Standard deviation on each coordinate; 0 for clean frames.
      image_size: Height and width in pixels.
      num_samples: Noise samples per frame, at least 2.
      seed: Of the samples; equal seeds give equal results.

    Returns:
      (mean, variance), float32 of shape [..., image_size, image_size, 3] for
      pixels in 0..1. The variance is the unbiased one.

    Raises:
      ValueError: If `noise` is negative, `num_samples` below 2, or q of a
        wrong shape.
    """
    if not noise >= 0:
        raise ValueError(f"`noise` must not be negative. Received: {noise!r}.")
    if num_samples < 2:
        raise ValueError(
            "`num_samples` must be at least 2, for a variance. "
            f"Received: {num_samples!r}."
        )
    q = np.asarray(q, np.float64)
    flat = q.reshape(-1, q.shape[-1])
    frame_shape = (image_size, image_size, 3)
    mean = np.empty((len(flat), *frame_shape), np.float32)
    variance = np.empty_like(mean)
    rng = np.random.default_rng(seed)
    for start in range(0, len(flat), _BLOCK_FRAMES):
        part = flat[start : start + _BLOCK_FRAMES]
        # Whole grey levels and their squares: the sums are exact.
        total = np.zeros((len(part), *frame_shape), np.int64)
        squares = np.zeros_like(total)
        for _ in range(num_samples):
            noisy = part + noise * rng.standard_normal(part.shape)
            frames = render_video(system, noisy, image_size).astype(np.int32)
            total += frames
            squares += frames**2
        spread = squares - total**2 / num_samples
        mean[start : start + len(part)] = total / (255.0 * num_samples)
        variance[start : start + len(part)] = spread / (
            255.0**2 * (num_samples - 1)
        )
    shape = (*q.shape[:-1], *frame_shape)
    return mean.reshape(shape), variance.reshape(shape)
