"""Pictures of a system's motion: discs, soft at the edge, as uint8 frames.

Row 0 is the top of a picture, column 0 its left edge; y grows upwards.
"""

import numpy as np

from tfds_physics.systems import System

# Not black: on black, a sigmoid decoder saturates at 0 and stops learning.
BACKGROUND = np.array([0.321, 0.349, 0.368], np.float32)

# Edge of a disc: 1 / (1 + exp(80 (distance - radius))), distances in picture
# sides, read from a table of steps of 2.4e-5 (0.06 grey levels at most).
# Unlike exp, the operations left are correctly rounded everywhere, so frames
# are the same bytes on every processor.
_SHARPNESS = 80.0
_REACH = 0.2  # past this distance from the edge the mask is 0 or 1
_TABLE_SIZE = 2**14 + 1
_EDGE = (
    1.0 / (1.0 + np.exp(_SHARPNESS * np.linspace(-_REACH, _REACH, _TABLE_SIZE)))
).astype(np.float32)
_SCALE = np.float32((_TABLE_SIZE - 1) / (2 * _REACH))

# Frames are drawn in blocks whose masks stay in the processor's cache.
_BLOCK_PIXELS = 2**16

# Frames of one noise sample that are drawn and summed at a time.
_BLOCK_FRAMES = 1024


def render_video(
    system: System, q: np.ndarray, image_size: int = 32
) -> np.ndarray:
    """Draws the positions q, [..., dof], of a system.

    Args:
      system: System whose bodies, colours and field of view are drawn.
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
    return render(
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
      seed: Seed of the noise samples; equal seeds give equal results.

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


def render(
    positions: np.ndarray,
    radii: np.ndarray,
    colors: np.ndarray,
    half_width: float,
    image_size: int,
) -> np.ndarray:
    """Draws discs on the grey-blue background; earlier ones cover later ones.

    The square from -half_width to half_width on both axes is the picture;
    its corners are the centres of the corner pixels.

    Args:
      positions: Centres (x, y) in metres, y up, [..., bodies, 2].
      radii: Radii in metres, [bodies].
      colors: RGB in 0..1, [bodies, 3].
      half_width: Half the side of the picture in metres.
      image_size: Height and width in pixels, at least 8.

    Returns:
      Frames, uint8 of shape [..., image_size, image_size, 3].

    Raises:
      ValueError: If shapes do not fit, positions are not finite, or the size
        is too small.

    Source: the look of DeepMind's Hamiltonian dynamics suite, 2021.
    """
    positions = np.asarray(positions)
    _check(positions, radii, colors, half_width, image_size)
    side = 2.0 * half_width
    # Rows count from the top, so y turns round.
    columns = (positions[..., 0] + half_width) / side
    rows = (half_width - positions[..., 1]) / side
    num_bodies = positions.shape[-2]
    columns = columns.reshape(-1, num_bodies).astype(np.float32)
    rows = rows.reshape(-1, num_bodies).astype(np.float32)
    radii = np.asarray(radii, np.float32) / np.float32(side)
    colors = np.asarray(colors, np.float32)
    frames = np.empty((len(rows), image_size, image_size, 3), np.uint8)
    block = max(1, _BLOCK_PIXELS // image_size**2)
    for start in range(0, len(rows), block):
        part = slice(start, start + block)
        places = zip(columns[part].T, rows[part].T, radii)
        masks = [_mask(*place, image_size) for place in places]
        for channel in range(3):
            plane = BACKGROUND[channel]
            for mask, color in zip(masks[::-1], colors[::-1], strict=True):
                plane = plane + mask * (color[channel] - plane)
            frames[part, :, :, channel] = plane * 255 + np.float32(0.5)
    return frames.reshape(*positions.shape[:-2], *frames.shape[1:])


def _mask(
    column: np.ndarray, row: np.ndarray, radius: np.float32, image_size: int
) -> np.ndarray:
    """Cover of one disc, [frames, image_size, image_size] in 0..1."""
    grid = np.linspace(0.0, 1.0, image_size, dtype=np.float32)
    across = (grid - column[:, None]) ** 2  # [frames, width]
    down = (grid - row[:, None]) ** 2  # [frames, height]
    distance = np.sqrt(down[:, :, None] + across[:, None, :])
    offset = np.float32(_REACH) - radius
    index = (distance + offset) * _SCALE + np.float32(0.5)
    return _EDGE.take(index.astype(np.intp), mode="clip")


def _check(positions, radii, colors, half_width, image_size):
    if positions.ndim < 2 or positions.shape[-1] != 2:
        raise ValueError(
            "`positions` must be of shape [..., bodies, 2]. "
            f"Received: {positions.shape}."
        )
    num_bodies = positions.shape[-2]
    if np.shape(radii) != (num_bodies,):
        raise ValueError(
            f"`radii` must be of shape ({num_bodies},), one per body. "
            f"Received: {np.shape(radii)}."
        )
    if np.shape(colors) != (num_bodies, 3):
        raise ValueError(
            f"`colors` must be of shape ({num_bodies}, 3), RGB per body. "
            f"Received: {np.shape(colors)}."
        )
    if not np.isfinite(positions).all():
        raise ValueError(
            "`positions` must be finite. Received: NaN or infinity."
        )
    if not half_width > 0:
        raise ValueError(
            f"`half_width` must be positive. Received: {half_width!r}."
        )
    check_image_size(image_size)


def check_image_size(image_size: int) -> None:
    """Raises ValueError unless the size is a whole number of at least 8."""
    if not isinstance(image_size, int) or image_size < 8:
        raise ValueError(
            "`image_size` must be a whole number of at least 8 pixels. "
            f"Received: {image_size!r}."
        )
