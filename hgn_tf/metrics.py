"""How good a rollout is: numpy arrays in, one number per trajectory out.

Frames are floats in [0, 1], [batch, time, height, width, channels]. Means over
trajectories are left to the caller; `mean_and_stderr` takes them. `fvu`, the
correlations and `symetric` are measures that exist only over trajectories.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy.stats

# Of `symetric`, in the words of its source.
_SYMETRIC_R2, _SYMETRIC_SYM = 0.9, 0.05
_MOST_ORDER, _MOST_MONOMIALS = 5, 600
_RIDGES = (1e-10, 1e-8, 1e-6, 1e-4, 1e-2)
_JACOBIAN_POINTS = 100
# The share of the largest variance below which true states fill no direction.
_THIN = 1e-4
# The share below which learned states fill none.
_IDLE = 1e-3
# The share of |J|^4 below which |J^T E J|^2, or |J E J^T|^2, is rounding.
_NO_FORM = 1e-6


class SyMetric(NamedTuple):
    """How far a map from learned to true states is a symplectic one.

    Attributes:
      r2: Share of the variance of the true states that the map explains, on
        states that it was not fitted to; 1 is all.
      sym: Mean squared distance of A A^T from the unit matrix, A = J E J^T,
        over its mean size; 0 for a symplectic map, at most 1.
      passed: 1.0 if r2 > 0.9 and sym < 0.05, else 0.0.
      order: Order of the polynomial that was chosen.
    """

    r2: float
    sym: float
    passed: float
    order: int


class TwoForm(NamedTuple):
    """How far learned states carry the true two-form, up to a factor.

    Attributes:
      r2: Share of the variance of the learned q, or of the learned p if that
        is smaller, that a function of the true states explains, on states that
        it was not fitted to; 1 is all.
      defect: Mean square of what is left of the pulled-back two-form without a
        multiple of the true one, over its mean square; 0 for a symplectic map,
        at most 1. It is 1 where r2 is below 0.9: there is no map.
      order: Order of the polynomial that was chosen.
    """

    r2: float
    defect: float
    order: int


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
    Returns: Number in [0, 1]; 0 if either is constant, or not finite, and
      explains nothing.
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


def filled_directions(points: np.ndarray) -> float:
    """How many directions points fill, narrow ones by their width.

    (sum of s)^2 / sum of s^2

    with s the standard deviations along the principal axes. A straight line
    has 1, and points as wide in k directions have k, whatever their scale. A
    system of more degrees of freedom whose q has 1 has one direction drawn out
    so far that the others hardly count.

    Args:
      points: Points [n, ...], each an array [...], n at least 1.
    Returns: The number; 0 of points that do not vary, NaN if one is not finite.
    Source: see `losses.spare_directions`, which is this less 1.
    """
    points = np.reshape(points, [len(points), -1]).astype(np.float64)
    if not np.isfinite(points).all():
        return float("nan")
    apart = points - points.mean(axis=0)
    # Of the small matrix, which for 256 numbers costs a fiftieth of an SVD.
    squares = np.linalg.eigvalsh(apart.T @ apart).clip(min=0.0)
    whole = squares.sum()
    return float(np.sqrt(squares).sum() ** 2 / whole) if whole else 0.0


def symetric(
    learned: Sequence[np.ndarray],
    truth: Sequence[np.ndarray],
    seed: int = 0,
) -> SyMetric:
    """SyMetric: whether true states are a symplectic map of learned ones.

    A polynomial f of the learned state is fitted to the true one, J is its
    Jacobian at some states, and E the two-form dq ^ dp. The map keeps the
    two-form up to a factor where J E J^T is a multiple of E.

    Source: Lasso, and the lowest order that explains 0.9 of the variance.
    Here: ridge, and the order up to 5 that explains most of the held-out half.
    With one degree of freedom a linear map is always symplectic, and q + q^3 /
    10 is nearly linear: the lowest order would pass it.

    A latent larger than the system fills a thin set, and across it a fit knows
    no derivatives. So the learned state is first turned to the principal axes
    of q and p together, each in units of its spread. The same orthogonal matrix
    turns both, which is a symplectic map. Then axes with less than 0.001 of the
    variance of the first are left out: a step across them counts as none. Of a
    set that is thin and bent the ridge takes the smallest derivatives. More
    than 33 numbers that are left have too many monomials for any map but a
    linear one. With one degree of freedom that says nothing: sym is then 1. See
    `two_form`.

    Args:
      learned: Pair (q, p) of learned states, [n, ...], n at least 20.
      truth: Pair (q, p) of true states, [n, dof].
      seed: int. Seed of the halves and of the states of J. Defaults to 0.
    Returns: SyMetric.
    Raises: ValueError: if the numbers of states differ, or there are fewer
      than 20, or one is not finite.
    Source: Higgins et al. 2021, SyMetric: Measuring the quality of learnt
      Hamiltonian dynamics inferred from vision, section 4.
    """
    x, y = _states(learned, truth)
    x = _along_filled_axes(x)
    r2, jacobian, degree = _fit_polynomial(x, y, seed, _explained)
    sym = _symplectic_defect(jacobian, y)
    if y.shape[1] == 2 and _count(x.shape[1], 2) > _MOST_MONOMIALS:
        sym = 1.0
    passed = r2 > _SYMETRIC_R2 and sym < _SYMETRIC_SYM
    return SyMetric(float(r2), float(sym), float(passed), degree)


def two_form(
    learned: Sequence[np.ndarray],
    truth: Sequence[np.ndarray],
    seed: int = 0,
) -> TwoForm:
    """Whether learned states carry the true two-form: `symetric` turned round.

    A polynomial g of the true state is fitted to the learned one, J is its
    Jacobian, and W = J^T E J the two-form of the learned space pulled back to
    the true one. The map is symplectic up to a factor c where W = c E.

    defect = mean |W - c E|^2 / mean |W|^2, c the best number for all states

    Each q and each p counts in units of its spread, which gives E a factor and
    no more: so the measure does not depend on units.

    `symetric` asks for derivatives across the thin set that states fill in a
    latent larger than the system, and a fit knows none. Here they are along
    the true states, and spare coordinates cost nothing. Directions that the
    true states do not fill, as those of a centre of mass at rest, are left
    out.

    Args:
      learned: Pair (q, p) of learned states, [n, ...], n at least 20.
      truth: Pair (q, p) of true states, [n, dof].
      seed: int. Seed of the halves and of the states of J. Defaults to 0.
    Returns: TwoForm.
    Raises: ValueError: as `symetric`.
    Source: the condition is that of a canonical map, as in Arnold,
      Mathematical methods of classical mechanics, section 44.
    """
    x, y = (_in_spreads(part) for part in _states(learned, truth))
    turned = _filled_axes(y.T @ y, _THIN)
    r2, jacobian, degree = _fit_polynomial(y @ turned, x, seed, _shared)
    pulled = jacobian.transpose(0, 2, 1) @ _form(x.shape[1]) @ jacobian
    true = turned.T @ _form(y.shape[1]) @ turned
    whole = np.square(pulled).sum(axis=(1, 2)).mean()
    # What rounding leaves where q and p carry the same numbers.
    least = _NO_FORM * np.square(jacobian).sum(axis=(1, 2)).mean() ** 2
    if r2 < _SYMETRIC_R2 or whole <= least or np.square(true).sum() < _NO_FORM:
        return TwoForm(float(r2), 1.0, degree)
    factor = (pulled * true).sum(axis=(1, 2)).mean() / np.square(true).sum()
    left = np.square(pulled - factor * true).sum(axis=(1, 2)).mean()
    return TwoForm(float(r2), float(left / whole), degree)


def _along_filled_axes(x):
    """States along the principal axes of q and p that they fill."""
    parts = np.split(_in_spreads(x), 2, axis=1)
    axes = _filled_axes(sum(part.T @ part for part in parts), _IDLE)
    return np.concatenate([part @ axes for part in np.split(x, 2, 1)], axis=1)


def _filled_axes(products, least):
    """Principal axes with `least` of the first's variance, or more."""
    size, axes = np.linalg.eigh(products)
    return axes[:, size >= least * size.max()]


def _in_spreads(x):
    """States whose q, and whose p, have a total variance of 1, or of 0."""
    return x / _spreads(x)


def _spreads(x):
    """Root of the total variance of q, and of p, for each number; 1 for 0."""
    parts = np.split(x, 2, axis=1)
    sizes = [np.sqrt(np.square(part).sum(axis=1).mean()) for part in parts]
    return np.repeat([size or 1.0 for size in sizes], x.shape[1] // 2)


def _states(learned, truth):
    """Both as [n, 2 dof] about their means."""
    x, y = (
        np.concatenate(
            [np.asarray(part, np.float64).reshape(len(part), -1) for part in s],
            axis=1,
        )
        for s in (learned, truth)
    )
    if (
        len(x) != len(y)
        or len(x) < 20
        or not (np.isfinite(x).all() and np.isfinite(y).all())
    ):
        raise ValueError(
            "`learned` and `truth` must be as many finite states, 20 at "
            f"least. Received: {x.shape} and {y.shape}."
        )
    return x - x.mean(axis=0), y - y.mean(axis=0)


def _fit_polynomial(x, y, seed, explained):
    """R^2 of y as a polynomial of x, Jacobians at some points, the order."""
    spread = np.where(x.std(axis=0) > 0, x.std(axis=0), 1.0)
    x, rng = x / spread, np.random.default_rng(seed)
    order = rng.permutation(len(x))
    half = [order[::2], order[1::2]]
    fits = []
    for degree in range(1, _MOST_ORDER + 1):
        if degree > 1 and _count(x.shape[1], degree) > _MOST_MONOMIALS:
            break
        powers = _powers(x.shape[1], degree)
        features = _monomials(x, powers)
        for ridge in _RIDGES:
            weights = _ridge(features[half[0]], y[half[0]], ridge)
            r2 = explained(y[half[1]], features[half[1]] @ weights)
            fits.append((r2, degree, powers, weights))
    r2, degree, powers, weights = max(fits, key=lambda fit: fit[0])
    points = x[rng.permutation(len(x))[:_JACOBIAN_POINTS]]
    return r2, _slopes(points, powers, weights) / spread, degree


def _count(size, degree):
    """Number of monomials of so many numbers up to `degree`."""
    return math.comb(size + degree, degree)


def _powers(size, degree):
    """Powers of the monomials up to `degree`, [monomials, size]."""
    rows = [
        np.bincount(np.array(chosen, int), minlength=size)
        for count in range(degree + 1)
        for chosen in itertools.combinations_with_replacement(
            range(size), count
        )
    ]
    return np.array(rows)


def _monomials(x, powers):
    features = np.ones((len(x), len(powers)))
    for index in range(x.shape[1]):
        features *= x[:, [index]] ** powers[:, index]
    return features


def _ridge(features, y, ridge):
    """Weights [monomials, outputs], each monomial counted in its own size."""
    size = np.sqrt(np.square(features).mean(axis=0)) + 1e-12
    scaled = features / size
    square = scaled.T @ scaled / len(y) + ridge * np.eye(len(size))
    return np.linalg.solve(square, scaled.T @ y / len(y)) / size[:, None]


def _explained(y, found):
    """R^2, the mean over the coordinates that move; 0 if none does."""
    error, variance = np.square(y - found).mean(axis=0), y.var(axis=0)
    moves = variance > 0
    if not moves.any():
        return 0.0
    return 1.0 - (error[moves] / variance[moves]).mean()


def _shared(y, found):
    """R^2 of all coordinates of q together, or of p: idle ones have no say."""
    shares = []
    for part, other in zip(np.split(y, 2, axis=1), np.split(found, 2, axis=1)):
        variance = part.var(axis=0).sum()
        error = np.square(part - other).mean(axis=0).sum()
        shares.append(1.0 - error / variance if variance > 0 else 0.0)
    return min(shares)


def _slopes(x, powers, weights):
    """Jacobians of the polynomial, [points, outputs, size]."""
    columns = []
    for index in range(x.shape[1]):
        lowered = powers - np.eye(x.shape[1], dtype=int)[index]
        factor = powers[:, index]
        change = factor * _monomials(x, np.maximum(lowered, 0))
        columns.append(change @ weights)
    return np.stack(columns, axis=-1)


def _form(size):
    """E: dq ^ dp as a matrix, of a state of so many numbers."""
    return np.kron([[0.0, 1.0], [-1.0, 0.0]], np.eye(size // 2))


def _symplectic_defect(jacobian, y):
    """Mean squared distance of (J E J^T)(J E J^T)^T from the unit matrix."""
    square = _square_of_form(jacobian)
    size = np.abs(square).max(axis=(1, 2)).mean()
    # Where q and p carry the same numbers there is rounding alone, and no unit.
    # Its mean square over a matrix of many numbers would still be small. In
    # spreads of q and of p, whose units are no matter.
    even = jacobian / _spreads(y)[:, np.newaxis]
    whole = np.square(even).sum(axis=(1, 2)).mean() ** 2
    if _square_of_form(even).max() <= _NO_FORM * whole:
        return 1.0
    unit = np.eye(square.shape[1])
    return min(np.square(square / size - unit).mean(), 1.0)


def _square_of_form(jacobian):
    """(J E J^T)(J E J^T)^T of each J."""
    product = jacobian @ _form(jacobian.shape[2]) @ jacobian.transpose(0, 2, 1)
    return product @ product.transpose(0, 2, 1)


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
