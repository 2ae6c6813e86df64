"""Reads states off pictures: the way back from frames to q and p.

numpy only, as `render`. A reading asks what the true renderer could
have drawn: whether a frame is one of the system's at all, and where its bodies
are.
"""

from typing import NamedTuple

import numpy as np

from tfds_physics.systems import System
from tfds_physics.video import render

# Steps of the least squares, which stop early where nothing is gained.
_FRAME_STEPS = 12
_MOTION_STEPS = 8
_SUBSTEPS = 4  # of Runge and Kutta per frame
_BLOCK_FRAMES = 128  # bounds the memory of the derivatives, about 30 MB
_BANK_SIZE = 512  # positions that a first guess is taken from
# Nodes of the noise: even, within 3 standard deviations.
_NODES = np.linspace(-3.0, 3.0, 13)
_WEIGHTS = np.exp(-0.5 * _NODES**2) / np.exp(-0.5 * _NODES**2).sum()
# Frames that a velocity is read off: the slope of a quartic amid them.
VELOCITY_FRAMES = 7
_VELOCITY_ORDER = 4
# A motion is fitted to so large parts of the frames, one after another: far
# frames would draw a bad first guess away.
_HORIZONS = (1 / 3, 2 / 3, 1.0)
# Table of a blurred disc, in picture sides.
_PROFILE_STEP, _PROFILE_REACH = 1e-3, 1.0
# What counts for a place that is not finite, metres.
_LOST = 1e3


class Reading(NamedTuple):
    """What the renderer makes of frames.

    Attributes:
      q: Positions of the best fit, float64 [..., dof]. An angle is known up to
        whole turns.
      error: Mean squared error per pixel that the best fit leaves, pixels in
        [0, 1], [...].
    """

    q: np.ndarray
    error: np.ndarray


class MotionReading(NamedTuple):
    """The true motion that comes closest to given positions.

    Attributes:
      q0: Positions at the first frame, [batch, dof].
      p0: Momenta at the first frame, [batch, dof].
      distance: Root of the mean square, over frames and bodies, of how far
        the bodies are from where the motion has them, metres, [batch].
      spread: The same of how far the motion takes the bodies from their mean
        places, metres, [batch]: what would be near to a still picture.
    """

    q0: np.ndarray
    p0: np.ndarray
    distance: np.ndarray
    spread: np.ndarray


def read_frames(
    system: System, frames: np.ndarray, noise: float = 0.0
) -> Reading:
    """The positions q whose picture is nearest to each frame.

    min over q of mean (frame - E[render(q + noise N(0, 1))])^2

    by Gauss and Newton with damping, from where the known colours lie. With
    noise the picture is the expected one, the best guess of a noisy frame: its
    discs are blurred. That the bodies' blurs are independent is exact for
    bodies with coordinates of their own; that a body moves along a straight
    line within the noise is near enough for a small noise.

    Args:
      system: System whose bodies are looked for.
      frames: Floats about 0 to 1, [..., height, width, 3], height = width.
      noise: Standard deviation on each coordinate; 0 for clean frames.

    Returns:
      Reading of shape [...].

    Raises:
      ValueError: If the frames are not square, of three channels and finite,
        or `noise` is negative.
    """
    frames = np.asarray(frames, np.float32)
    if (
        frames.ndim < 3
        or frames.shape[-1] != 3
        or (frames.shape[-2] != frames.shape[-3])
    ):
        raise ValueError(
            "`frames` must be of shape [..., size, size, 3]. "
            f"Received: {frames.shape}."
        )
    if not np.isfinite(frames).all():
        raise ValueError("`frames` must be finite. Received: NaN or infinity.")
    if not noise >= 0:
        raise ValueError(f"`noise` must not be negative. Received: {noise!r}.")
    lead, size = frames.shape[:-3], frames.shape[-2]
    flat = frames.reshape(-1, size * size, 3)
    painter = _Painter(system, size, noise)
    q, error = np.empty((len(flat), system.dof)), np.empty(len(flat))
    for start in range(0, len(flat), _BLOCK_FRAMES):
        part = slice(start, start + _BLOCK_FRAMES)
        q[part], error[part] = _fit_frames(painter, flat[part])
    return Reading(q.reshape(*lead, system.dof), error.reshape(lead))


def read_momenta(system: System, q: np.ndarray, dt: float) -> np.ndarray:
    """Momenta of positions in time: slopes of a quartic through 7 of them.

    Args:
      system: The system, for its masses.
      q: Positions [..., time, dof], at least 7 in time; angles unwrapped.
      dt: Seconds between them.

    Returns:
      [..., time - 6, dof]: the first three and the last three have none.

    Raises:
      ValueError: If there are fewer than 7 times.

    Source: Savitzky and Golay, Analytical Chemistry 36 (1964).
    """
    if q.shape[-2] < VELOCITY_FRAMES:
        raise ValueError(
            f"Momenta need positions at {VELOCITY_FRAMES} times at least. "
            f"Received: {q.shape[-2]}."
        )
    count, reach = q.shape[-2] - VELOCITY_FRAMES + 1, VELOCITY_FRAMES // 2
    places = np.arange(VELOCITY_FRAMES) - reach
    # The second row gives the linear coefficient of the quartic.
    weights = np.linalg.pinv(np.vander(places, _VELOCITY_ORDER + 1, True))[1]
    slope = sum(
        weight * q[..., start : start + count, :]
        for start, weight in enumerate(weights)
    )
    inner = slice(reach, reach + count)
    return _momentum(system, q[..., inner, :], slope / dt)


def read_motion(system: System, q: np.ndarray, dt: float) -> MotionReading:
    """The true motion nearest to positions in time, by least squares.

    min over (q0, p0) of mean |x_t(q) - x_t(q0, p0)|^2, x the places of the
    bodies. The motion is integrated by Runge and Kutta with fixed steps, so
    that a guess which collides costs nothing but itself.

    Args:
      system: System whose equations are asked for.
      q: Positions [batch, time, dof], at least 7 in time.
      dt: Seconds between them.

    Returns:
      MotionReading of the batch.

    Raises:
      ValueError: If there are fewer than 7 times.
    """
    q = unwrap(q, system)
    first = slice(0, VELOCITY_FRAMES)
    middle = VELOCITY_FRAMES // 2
    momenta = read_momenta(system, q[:, first], dt)
    start = np.concatenate([q[:, middle], momenta[:, 0]], axis=-1)
    state = _integrate(system, start, -dt, middle + 1)[:, -1]
    # A guess that collided on the way back stands still instead.
    still = np.concatenate([q[:, 0], np.zeros_like(q[:, 0])], axis=-1)
    lost = ~np.isfinite(state).all(axis=-1, keepdims=True)
    state, places = np.where(lost, still, state), system.positions(q)
    for part in _HORIZONS:
        count = max(VELOCITY_FRAMES, int(part * q.shape[1]))

        def residual(state, rows, count=count):
            path = _integrate(system, state, dt, count)[..., : system.dof]
            apart = system.positions(path) - places[rows, :count]
            apart = apart.reshape(len(state), -1)
            return np.where(np.isfinite(apart), apart, _LOST)

        state, mean = _least_squares(residual, state, _MOTION_STEPS)
    path = _integrate(system, state, dt, q.shape[1])[..., : system.dof]
    with np.errstate(all="ignore"):
        spread = system.positions(path).var(axis=1).mean(axis=(1, 2))
    q0, p0 = np.split(state, 2, axis=-1)
    # A mean over both coordinates is half of a squared distance.
    return MotionReading(q0, p0, np.sqrt(2.0 * mean), np.sqrt(2.0 * spread))


def unwrap(q: np.ndarray, system: System) -> np.ndarray:
    """Positions in time with the angles free of jumps of whole turns.

    Args:
      q: Positions [..., time, dof].
      system: The system. Its coordinate is an angle if a whole turn of it
        moves no body.

    Returns:
      float64 of the same shape.
    """
    q = np.array(q, np.float64)
    some = np.linspace(0.1, 1.0, system.dof)
    for index in range(system.dof):
        turned = some + 2.0 * np.pi * np.eye(system.dof)[index]
        moved = system.positions(turned) - system.positions(some)
        if np.abs(moved).max() < 1e-9:
            q[..., index] = np.unwrap(q[..., index], axis=-1)
    return q


class _Painter:
    """Expected pictures and their derivatives, for least squares."""

    def __init__(self, system, size, noise):
        self.system, self.noise = system, noise
        self.colors = np.asarray(system.colors, np.float32)
        self.side = 2.0 * system.half_width
        grid = np.linspace(0.0, 1.0, size, dtype=np.float32)
        self.columns, self.rows = np.tile(grid, size), np.repeat(grid, size)
        self.bank = _bank(system)
        # A body with two coordinates of its own is blurred alike all around.
        some = np.linspace(0.3, 0.9, system.dof)
        moves = _jacobian(system.positions, some[None])[0]
        self.round = [np.allclose(part @ part.T, np.eye(2)) for part in moves]
        self.profiles = [
            _profile(radius / self.side, is_round * noise / self.side)
            for radius, is_round in zip(system.radii, self.round)
        ]

    def paint(self, q):
        """Frames [frames, pixels, 3]."""
        masks = self._masks(q)[0]
        return self._layers(masks)[-1]

    def paint_and_derive(self, q):
        """Frames, and their derivatives by q, [frames, dof, pixels, 3]."""
        masks, slopes, moves = self._masks(q)
        *below, frames = self._layers(masks)
        change = np.zeros((*q.shape, *frames.shape[1:]), np.float32)
        shown = np.ones_like(masks[0])
        for body, plane in enumerate(below[::-1]):
            painted = shown[..., None] * (self.colors[body] - plane)
            for axis, slope in enumerate(slopes[body]):
                moved = slope[..., None] * painted
                for index in range(self.system.dof):
                    factor = moves[:, body, axis, index].astype(np.float32)
                    if factor.any():
                        change[:, index] += factor[:, None, None] * moved
            shown = shown * (1.0 - masks[body])
        return frames, change

    def _layers(self, masks):
        """The background, then with each body over it, the first one last."""
        layers = [
            np.broadcast_to(render.BACKGROUND, (*masks[0].shape, 3)),
        ]
        for mask, color in zip(masks[::-1], self.colors[::-1]):
            below = layers[-1]
            layers.append(below + mask[..., None] * (color - below))
        return layers

    def _masks(self, q):
        """Covers of the bodies, their slopes along x and y, d places / dq."""
        places = self.system.positions(q)
        moves = _jacobian(self.system.positions, q)
        covers = [
            self._mask(places[:, body], moves[:, body], body)
            for body in range(len(self.profiles))
        ]
        return [cover[0] for cover in covers], [c[1:] for c in covers], moves

    def _mask(self, place, move, body):
        """A disc's cover [frames, pixels] and its slopes per metre."""
        profile, rise = self.profiles[body]
        shifts = [(1.0, np.zeros_like(place))]
        if self.noise and not self.round[body]:
            shifts = self._shifts(move)
        mask = slope_x = slope_y = np.float32(0.0)
        for weight, shift in shifts:
            x, y = np.moveaxis((place + shift) / self.side, -1, 0)
            across = self.columns - (x + 0.5).astype(np.float32)[:, None]
            down = self.rows - (0.5 - y).astype(np.float32)[:, None]
            distance = np.sqrt(across**2 + down**2)
            index = (distance * (1 / _PROFILE_STEP) + 0.5).astype(np.int32)
            steep = np.float32(weight / self.side) * rise.take(
                index, mode="clip"
            )
            mask = mask + np.float32(weight) * profile.take(index, mode="clip")
            slope_x = slope_x - steep * across
            slope_y = slope_y + steep * down
        return mask, slope_x, slope_y

    def _shifts(self, move):
        """Where noise takes a body, with weights: (weight, [frames, 2])."""
        shifts = [(1.0, np.zeros(move.shape[:2]))]
        # One or two coordinates move it.
        for index in np.flatnonzero(np.abs(move).max(axis=(0, 1)) > 0):
            step = self.noise * move[:, :, index]
            shifts = [
                (weight * own, shift + node * step)
                for weight, shift in shifts
                for node, own in zip(_NODES, _WEIGHTS)
            ]
        return shifts


def _profile(radius, noise):
    """Cover of a blurred disc over the distance, and its slope / distance.

    Lengths are in picture sides. The slope is divided by the distance, so that
    times a difference of places it is a slope along x or y.
    """
    distance = np.arange(0.0, _PROFILE_REACH, _PROFILE_STEP)
    away = noise * _NODES
    apart = np.sqrt((distance[:, None, None] + away[:, None]) ** 2 + away**2)
    cover = np.interp(
        apart - radius,
        np.linspace(-render._REACH, render._REACH, render._TABLE_SIZE),
        render._EDGE,
    )
    profile = np.einsum("dij,i,j->d", cover, _WEIGHTS, _WEIGHTS)
    slope = np.gradient(profile, _PROFILE_STEP)
    rise = slope / np.maximum(distance, _PROFILE_STEP)
    return profile.astype(np.float32), rise.astype(np.float32)


def _fit_frames(painter, frames):
    """Best q [frames, dof] and the error that it leaves, [frames]."""

    def residual(q, rows):
        return (painter.paint(q) - frames[rows]).reshape(len(q), -1)

    def derivative(q, rows):
        picture, change = painter.paint_and_derive(q)
        return (
            (picture - frames[rows]).reshape(len(q), -1),
            change.reshape(*q.shape, -1),
        )

    guess = _first_guess(painter, frames)
    return _least_squares(residual, guess, _FRAME_STEPS, derivative)


def _first_guess(painter, frames):
    """Q whose bodies lie where their colours do."""
    system = painter.system
    away = painter.colors - render.BACKGROUND  # [bodies, 3]
    cover = (frames - render.BACKGROUND) @ np.linalg.pinv(away)
    # Weak cover is dirt of a drawing: the strongest half tells the place.
    cover = np.clip(cover - 0.5 * cover.max(axis=1, keepdims=True), 0.0, None)
    cover = cover + 1e-9
    total = cover.sum(axis=1)
    x = np.einsum("fpb,p->fb", cover, painter.columns) / total
    y = np.einsum("fpb,p->fb", cover, painter.rows) / total
    half = system.half_width
    places = np.stack([2 * half * x - half, half - 2 * half * y], axis=-1)
    bank = painter.bank
    known = system.positions(bank).reshape(len(bank), -1)
    flat = places.reshape(len(places), -1)
    nearest = np.square(flat[:, None] - known).sum(axis=-1).argmin(axis=1)

    def residual(q, rows):
        return (system.positions(q) - places[rows]).reshape(len(q), -1)

    return _least_squares(residual, bank[nearest], _FRAME_STEPS)[0]


def _bank(system):
    """Positions from motions of the system, [_BANK_SIZE, dof]."""
    rng = np.random.default_rng(0)
    starts = [system.sample_state(rng) for _ in range(_BANK_SIZE)]
    state = np.concatenate([np.stack(part) for part in zip(*starts)], axis=-1)
    # Each at another time, so that they are not all starts.
    path, rows = _integrate(system, state, 0.125, 30), np.arange(_BANK_SIZE)
    return path[rows, rows % 30, : system.dof]


def _least_squares(residual, x, steps, derivative=None):
    """Gauss and Newton with damping, each row by itself.

    Args:
      residual: Callable (x, rows) -> residuals [rows, outputs].
      x: First guess, [rows, size].
      steps: Number of steps at most.
      derivative: Callable (x, rows) -> residuals and their derivatives
        [rows, size, outputs]; None for differences.

    Returns:
      The best x, and the mean of its squared residuals, [rows].
    """
    if derivative is None:

        def derivative(x, rows):
            tiled = np.tile(rows, 2 * x.shape[1])
            change = _differences(lambda x: residual(x, tiled), x)
            return residual(x, rows), change

    x, rows = np.array(x, np.float64), np.arange(len(x))
    damping = np.full(len(x), 1e-3)
    cost = _mean_square(residual(x, rows))
    for _ in range(steps):
        here, change = derivative(x[rows], rows)
        square = change @ change.transpose(0, 2, 1)
        pull = np.matmul(change, here[..., None])[..., 0]
        scale = np.trace(square, axis1=1, axis2=2) / x.shape[1] + 1e-12
        damped = square + (damping[rows] * scale)[:, None, None] * np.eye(
            x.shape[1]
        )
        step = np.linalg.solve(damped, -pull[..., None])[..., 0]
        tried = x[rows] + step
        new_cost = _mean_square(residual(tried, rows))
        better = new_cost < cost[rows]
        done = np.where(
            better,
            cost[rows] - new_cost < 1e-3 * new_cost,
            damping[rows] > 1e2,
        )
        damping[rows] *= np.where(better, 0.1, 10.0)
        x[rows[better]], cost[rows[better]] = tried[better], new_cost[better]
        rows = rows[~done]
        if not rows.size:
            break
    return x, cost


def _mean_square(residuals):
    return np.square(residuals).mean(axis=1, dtype=np.float64)


def _differences(function, x, step=1e-5):
    """Central differences of a function of rows, [rows, size, outputs].

    The function is called once, on all shifted rows.
    """
    shifts = step * np.concatenate([np.eye(x.shape[1]), -np.eye(x.shape[1])])
    found = function((x + shifts[:, None]).reshape(-1, x.shape[1]))
    ahead, back = np.split(found.reshape(len(shifts), len(x), -1), 2)
    return np.moveaxis((ahead - back) / (2 * step), 0, 1)


def _jacobian(positions, q):
    """Derivatives of the places by q, [rows, bodies, 2, dof]."""
    change = _differences(lambda q: positions(q).reshape(len(q), -1), q)
    return np.moveaxis(change, 1, 2).reshape(*positions(q).shape, q.shape[1])


def _momentum(system, q, velocity):
    """Momenta of velocities: dH/dp is linear in p for every system here."""
    with np.errstate(all="ignore"):
        columns = [
            system.gradient(q, np.broadcast_to(unit, q.shape))[1]
            for unit in np.eye(system.dof)
        ]
    inverse_mass = np.stack(columns, axis=-1)
    return np.linalg.solve(inverse_mass, velocity[..., None])[..., 0]


def _integrate(system, state, dt, num_frames):
    """States [batch, time, 2 dof] by Runge and Kutta, of order 4."""
    dof = system.dof

    def field(state):
        dH_dq, dH_dp = system.gradient(state[:, :dof], state[:, dof:])
        return np.concatenate([dH_dp, -dH_dq], axis=-1)

    step, path = dt / _SUBSTEPS, [state]
    with np.errstate(all="ignore"):  # A collision ends in NaN.
        for _ in range(num_frames - 1):
            for _ in range(_SUBSTEPS):
                k1 = field(state)
                k2 = field(state + step / 2 * k1)
                k3 = field(state + step / 2 * k2)
                k4 = field(state + step * k3)
                state = state + step / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
            path.append(state)
    return np.stack(path, axis=1)
