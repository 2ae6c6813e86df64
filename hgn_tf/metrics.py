"""How good a rollout is: numpy arrays in, one number per trajectory out.

Frames are floats in [0, 1], [batch, time, height, width, channels]. Means over
trajectories are left to the caller; `mean_and_stderr` takes them. `fvu` and
`r_squared` are the two measures that exist only over trajectories.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.stats


def pixel_mse_per_frame(
    video: np.ndarray, prediction: np.ndarray
) -> np.ndarray:
    """MSE_t = mean over pixels and channels of (video_t - prediction_t)^2.

    Args:
      video: Floats in [0, 1] of shape [batch, time, height, width, channels].
      prediction: Floats of the same shape; a model may leave [0, 1].
    Returns: Float64 array of shape [batch, time].
    Raises:
      TypeError: if either is not of floats.
      ValueError: if the shapes differ, the rank is not 5, or `video` leaves
        [0, 1].
    """
    video, prediction = _check_videos(video, prediction)
    error = np.square(video - prediction)
    return error.mean(axis=(2, 3, 4), dtype=np.float64)


def pixel_mse(video: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """MSE = mean over frames, pixels and channels of (video - prediction)^2.

    Args:
      video: Floats in [0, 1] of shape [batch, time, height, width, channels].
      prediction: Floats of the same shape.
    Returns: Float64 array of shape [batch].
    """
    return pixel_mse_per_frame(video, prediction).mean(axis=1)


def fvu(mse: np.ndarray, baseline_mse: np.ndarray) -> float:
    """Fraction of variance unexplained, mean(mse) / mean(baseline_mse).

    With the mean image's error as the baseline, FVU is 1 for the mean image
    itself and 0 for a perfect model. It is the square of VRMSE. It is a ratio
    of means, so that trajectories whose frames hardly vary do not dominate.

    Args:
      mse: Errors of the model, shape [batch].
      baseline_mse: Errors of the baseline on the same trajectories, [batch].
    Returns: One number.
    Raises: ValueError: if the shapes differ or the baseline's mean is 0.
    """
    mse, baseline_mse = _check_pair("mse", mse, "baseline_mse", baseline_mse)
    if not baseline_mse.mean() > 0:
        raise ValueError(
            "`baseline_mse` must have a mean above 0. "
            f"Received: {baseline_mse.mean()}."
        )
    return float(mse.mean() / baseline_mse.mean())


def energy_drift(energy: np.ndarray, scale: float | None = None) -> np.ndarray:
    """Drift along a rollout, max_t |E_t - E_0| / scale.

    A learned energy is known up to an offset and a factor, so |E_0| is no
    scale for it. Here the scale is the spread of E_0 over the trajectories:
    a drift of 0.01 is a hundredth of what tells two trajectories apart.

    Args:
      energy: Energy along each rollout, shape [batch, time].
      scale: Energy that counts as 1; None for the standard deviation of
        energy[:, 0] over the batch.
    Returns: Array of shape [batch], without unit.
    Raises: ValueError: if the rank is not 2 or the scale is not above 0 (a
      batch of one trajectory has no spread: pass a scale).
    """
    energy = _check_energy(energy)
    scale = energy[:, 0].std() if scale is None else scale
    if not scale > 0:
        raise ValueError(
            "`scale` must be above 0; None takes the spread of the first "
            f"energies, which must differ. Received: {scale}."
        )
    return np.abs(energy - energy[:, :1]).max(axis=1) / scale


def energy_variance(energy: np.ndarray) -> np.ndarray:
    """Variance of the energy over time, mean_t (E_t - mean_t E)^2.

    Args:
      energy: Energy along each rollout, shape [batch, time].
    Returns: Array of shape [batch], in the square of the energy's unit.
    Source: Toth et al. 2019, figure 6, gives mean +- variance.
    """
    return _check_energy(energy).var(axis=1)


def reversibility_error(
    state: Sequence[np.ndarray], state_back: Sequence[np.ndarray]
) -> np.ndarray:
    """|s_back - s| / |s| of a rollout run forward and then back.

    |s|^2 = sum of q^2 and p^2 over everything but the batch.

    Args:
      state: Pair (q, p) of arrays [batch, ...] at the start of the rollout.
      state_back: Pair of the same shapes at the end of the way back.
    Returns: Array of shape [batch].
    Raises: ValueError: if the shapes differ or a state has norm 0.
    """
    pairs = [
        _check_pair("state", start, "state_back", back)
        for start, back in zip(state, state_back, strict=True)
    ]
    norm = np.sqrt(sum(_squared_norm(start) for start, _ in pairs))
    if not np.all(norm > 0):
        raise ValueError(
            f"Every `state` must have a norm above 0. Received: {norm.min()}."
        )
    error = sum(_squared_norm(back - start) for start, back in pairs)
    return np.sqrt(error) / norm


def r_squared(x: np.ndarray, y: np.ndarray) -> float:
    """Squared Pearson correlation across trajectories, cov^2 / (var var).

    It ignores offset, factor and sign, which a learned energy leaves open. It
    is one number for all trajectories, unlike the other measures here.

    Args:
      x: One number per trajectory, shape [batch], batch at least 2.
      y: One number per trajectory, shape [batch].
    Returns: Number in [0, 1]; 0 if either is constant and explains nothing.
    Raises: ValueError: if the shapes differ or there are fewer than 2.
    """
    x, y = _check_series(x, y)
    x, y = x - x.mean(), y - y.mean()
    variances = np.dot(x, x) * np.dot(y, y)
    return float(np.dot(x, y) ** 2 / variances) if variances > 0 else 0.0


def rank_correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Spearman's rank correlation without its sign, |rho|.

    It is 1 if one is any monotone function of the other. Video alone may leave
    a learned energy open up to such a function, and up to its sign. A low
    `r_squared` beside a rank correlation near 1 shows a bent scale. If both
    are low, the learned energy is none.

    Args:
      x: One number per trajectory, shape [batch], batch at least 2.
      y: One number per trajectory, shape [batch].
    Returns: Number in [0, 1]; 0 if either is constant or not finite.
    Raises: ValueError: if the shapes differ or there are fewer than 2.
    """
    x, y = _check_series(x, y)
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        return 0.0
    ranks = scipy.stats.rankdata(x), scipy.stats.rankdata(y)
    return float(np.sqrt(r_squared(*ranks)))


def valid_prediction_time(
    video: np.ndarray,
    prediction: np.ndarray,
    threshold: float = 0.025,
    first_frame: int = 0,
) -> np.ndarray:
    """First frame with sum err^2 / sum video^2 > threshold; T if there is none.

    The measure is loose where objects are small: show that of a constant
    prediction beside it. Elsewhere it is called VPT.

    Args:
      video: Floats in [0, 1] of shape [batch, time, height, width, channels].
      prediction: Floats of the same shape. A frame that is not finite is
        over any threshold.
      threshold: Largest relative squared error that counts as valid.
      first_frame: First frame that counts, such as the training horizon.
        Earlier frames are not looked at.
    Returns: Integers of shape [batch], indices of frames, T = never.
    Raises: ValueError: as `pixel_mse`, or if `first_frame` is not in [0, T).
    Source: Botev et al. 2021, "Which priors matter?", valid prediction time.
    """
    video, prediction = _check_videos(video, prediction)
    num_frames = video.shape[1]
    if not 0 <= first_frame < num_frames:
        raise ValueError(
            f"`first_frame` must be in [0, {num_frames}). "
            f"Received: {first_frame}."
        )
    error = np.square(video - prediction).sum(axis=(2, 3, 4), dtype=np.float64)
    target = np.square(video).sum(axis=(2, 3, 4), dtype=np.float64)
    # Multiplied out, and negated, so that black and NaN frames are judged too.
    over = ~(error <= threshold * target)
    over[:, :first_frame] = False
    return np.where(over.any(axis=1), over.argmax(axis=1), num_frames)


def mean_and_stderr(values: np.ndarray) -> tuple[Any, Any]:
    """Mean over trajectories, and its standard error sd / sqrt(batch).

    Args:
      values: Array of shape [batch, ...], e.g. [batch] or [batch, time].
    Returns: Pair (mean, standard error), numbers or arrays of shape [...].
      sd has batch - 1 in its denominator; NaN for a batch of one.
    Raises: ValueError: if there are no values.
    """
    values = np.asarray(values, np.float64)
    if values.ndim == 0 or not len(values):
        raise ValueError(
            "`values` must have shape [batch, ...], batch >= 1. "
            f"Received: {values.shape}."
        )
    if len(values) == 1:
        stderr = np.full(values.shape[1:], np.nan)
    else:
        stderr = values.std(axis=0, ddof=1) / np.sqrt(len(values))
    mean = values.mean(axis=0)
    return (mean, stderr) if mean.ndim else (float(mean), float(stderr))


def _squared_norm(x):
    """Sum of squares of each example, [batch]."""
    return np.square(x.reshape(len(x), -1)).sum(axis=1)


def _check_pair(name, x, other_name, y):
    """Two arrays as float64, or ValueError where their shapes differ."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if x.shape != y.shape:
        raise ValueError(
            f"`{name}` and `{other_name}` must have equal shapes. "
            f"Received: {x.shape} and {y.shape}."
        )
    return x, y


def _check_series(x, y):
    """Two series of one number per trajectory, as float64 [batch]."""
    x, y = _check_pair("x", x, "y", y)
    if x.ndim != 1 or x.size < 2:
        raise ValueError(
            f"`x` must have shape [batch], batch >= 2. Received: {x.shape}."
        )
    return x, y


def _check_energy(energy):
    """Energy as float64 [batch, time]."""
    energy = np.asarray(energy, np.float64)
    if energy.ndim != 2 or not energy.size:
        raise ValueError(
            f"`energy` must have shape [batch, time]. Received: {energy.shape}."
        )
    return energy


def _check_videos(video, prediction):
    """Two videos of floats and equal shapes, the first within [0, 1]."""
    video, prediction = np.asarray(video), np.asarray(prediction)
    for name, array in (("video", video), ("prediction", prediction)):
        if not np.issubdtype(array.dtype, np.floating):
            raise TypeError(
                f"`{name}` must be floats in [0, 1]. Received: {array.dtype}."
            )
    if video.ndim != 5 or video.shape != prediction.shape or not video.size:
        raise ValueError(
            "`video` and `prediction` must have one shape [batch, time, "
            "height, width, channels]. "
            f"Received: {video.shape} and {prediction.shape}."
        )
    if not (video.min() >= 0 and video.max() <= 1):
        raise ValueError(
            "`video` must be in [0, 1]. "
            f"Received: values from {video.min()} to {video.max()}."
        )
    return video, prediction
