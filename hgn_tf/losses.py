"""The terms of HGN's objective: reconstruction, KL divergence and GECO."""

import math
from collections.abc import Sequence

import keras
import tensorflow as tf

# A direction with less of the variance than this is hardly one.
_SMALL_SHARE = 1e-6


def reconstruction(video: tf.Tensor, prediction: tf.Tensor) -> tf.Tensor:
    """Mean squared error over all but the first axis: [batch]."""
    error = tf.math.squared_difference(video, prediction)
    return tf.reduce_mean(error, axis=list(range(1, len(video.shape))))


def gaussian_kl(mean: tf.Tensor, log_scale: tf.Tensor) -> tf.Tensor:
    """KL(N(mean, exp(log_scale)^2) || N(0, 1)) in nats, summed: [batch].

    1/2 sum(mean^2 + sd^2 - 1) - sum(log sd)

    Args:
      mean: Mean [batch, ...].
      log_scale: Logarithm of the standard deviation, [batch, ...].
    Returns: KL divergence [batch].
    """
    terms = 0.5 * (tf.square(mean) + tf.exp(2.0 * log_scale) - 1.0) - log_scale
    return tf.reduce_sum(terms, axis=list(range(1, len(mean.shape))))


def gaussian_elbo(
    reconstruction: tf.Tensor,
    kl: tf.Tensor,
    num_pixels: int,
    variance: float,
) -> tf.Tensor:
    """The evidence lower bound per frame in nats, of a Gaussian decoder.

    -num_pixels / 2 * (reconstruction / variance + log(2 pi variance)) - kl

    This is the mean over frames of the log-likelihood, minus the KL divergence
    of the latent variable, as in the HGN paper's equation 4. It does not depend
    on a multiplier, so runs and epochs with different multipliers compare.

    Args:
      reconstruction: Mean squared error per pixel, [batch].
      kl: KL divergence in nats, [batch].
      num_pixels: int. Numbers per frame, height * width * channels.
      variance: float. Variance of the decoder's noise on each pixel.
    Returns: Bound per frame, [batch].
    """
    misfit = reconstruction / variance + math.log(2.0 * math.pi * variance)
    return -0.5 * num_pixels * misfit - kl


def disagreement(
    first: tf.Tensor,
    second: tf.Tensor,
    floor: float = 1e-3,
    present: int | tf.Tensor = 1,
) -> tf.Tensor:
    """Distance between two estimates of the same states, in their spreads.

    mean over coordinates of (a - b)^2 / (var a + var b + floor + mean / 10)

    with the variances over the batch, and their mean over coordinates. Equal
    estimates have 0. Independent draws have 1 but for the last two terms: 0.91
    where all coordinates are alike. Each coordinate counts by its own spread,
    so that shrinking the states gains nothing while their variance is above
    the floor. The tenth of the mean leaves coordinates that hardly vary without
    a say; so would it the others, if one were many times wider. The floor
    keeps states that do not vary yet from a division by zero.

    In a replica the batch is that of all replicas: the spread of a part would
    be another number, and a part of one row has none.

    Args:
      first: First estimate, [batch, ...].
      second: Second estimate, of the same shape.
      floor: float. Smallest variance that is divided by. Defaults to 1e-3.
      present: int. 0 for a replica whose rows do not count, else 1.
    Returns: Disagreement, [batch].
    """
    return disagreements([(first, second)], floor, present)[0]


def disagreements(
    pairs: Sequence[tuple[tf.Tensor, tf.Tensor]],
    floor: float = 1e-3,
    present: int | tf.Tensor = 1,
) -> list[tf.Tensor]:
    """`disagreement` of several pairs: replicas talk once for all of them.

    Args:
      pairs: Two estimates each, [batch, ...], all of one number of rows.
      floor: float. Smallest variance that is divided by. Defaults to 1e-3.
      present: int. 0 for a replica whose rows do not count, else 1.
    Returns: Disagreement of each pair, [batch].
    """
    estimates = [estimate for pair in pairs for estimate in pair]
    variances = iter(_variances(estimates, present))
    found = []
    for first, second in pairs:
        variance = next(variances) + next(variances)
        scale = variance + floor + 0.1 * tf.reduce_mean(variance)
        error = tf.math.squared_difference(first, second) / scale
        axes = list(range(1, len(first.shape)))
        found.append(tf.reduce_mean(error, axis=axes))
    return found


def unevenness(
    sizes: tf.Tensor, weights: tf.Tensor, present: int | tf.Tensor = 1
) -> tf.Tensor:
    """How unlike sizes are: their squared distance from their mean, over it.

    mean over n of w (size / m - 1)^2 / mean(w), m = mean(w size) / mean(w)

    with m and the mean of w over the batch. Equal sizes have 0, whatever they
    are.

    Args:
      sizes: Numbers above 0, [batch, n].
      weights: What each counts, [batch, n].
      present: int. 0 for a replica whose rows do not count, else 1.
    Returns: Unevenness, [batch].
    """
    whole, size = row_means(
        [
            tf.reduce_mean(weights, axis=1),
            tf.reduce_mean(weights * sizes, axis=1),
        ],
        present,
    )
    # Where nothing counts, nothing is uneven.
    share = tf.math.divide_no_nan(weights, whole)
    apart = tf.square(sizes * tf.math.divide_no_nan(whole, size) - 1.0)
    return tf.reduce_mean(share * apart, axis=1)


def spare_directions(
    points: tf.Tensor, present: int | tf.Tensor = 1
) -> tf.Tensor:
    """How many directions points fill beyond one.

    (sum of s)^2 / sum of s^2 - 1

    with s the standard deviations along the principal axes: the nuclear over
    the Frobenius norm of the centred points, squared. A straight line has 0,
    and points as wide in k directions have k - 1, whatever their scale. What
    a further direction costs grows with its standard deviation and not with
    the square. So a narrow one is not free, as in the lasso.

    Args:
      points: Points [batch, count, ...], each an array [...].
      present: int. 0 for a replica whose rows do not count, else 1.
    Returns: The number, of the batch of all replicas: 0 of points that do not
      vary, NaN if one is not finite.
    Source: Fazel, Hindi and Boyd, A rank minimization heuristic with
      application to minimum order system approximation (2001), for the nuclear
      norm.
    """
    batch, count = tf.unstack(tf.shape(points)[:2])
    points = tf.reshape(points, [batch, count, points.shape[2:].num_elements()])
    [center] = row_means([tf.reduce_mean(points, axis=1)], present)
    apart = points - center
    products = tf.matmul(apart, apart, transpose_a=True)
    [covariance] = row_means([products], present)
    # In parts of the whole: states that do not vary yet have no direction.
    whole = tf.linalg.trace(covariance) + keras.config.epsilon()
    shares = covariance / whole
    # Of numbers that are not finite TensorFlow finds no eigenvalues, and stops.
    finite = tf.reduce_all(tf.math.is_finite(shares))
    shares = tf.where(
        finite, shares, tf.eye(shares.shape[0], dtype=whole.dtype)
    )
    shares = tf.nn.relu(tf.linalg.eigvalsh(shares))
    # A square root has no gradient at 0.
    spreads = tf.sqrt(shares + _SMALL_SHARE) - _SMALL_SHARE**0.5
    one = (1.0 + _SMALL_SHARE) ** 0.5 - _SMALL_SHARE**0.5
    spare = tf.nn.relu(tf.square(tf.reduce_sum(spreads) / one) - 1.0)
    return tf.where(finite, spare, tf.constant(math.nan, spare.dtype))


def row_means(
    values: Sequence[tf.Tensor], present: int | tf.Tensor = 1
) -> list[tf.Tensor]:
    """The mean of each value over the rows of all replicas, by one exchange.

    Args:
      values: Tensors [batch, ...], all of one number of rows.
      present: int. 0 for a replica whose rows do not count, else 1.
    Returns: The means, [...] each.
    """
    replica = tf.distribute.get_replica_context()
    if not replica or replica.num_replicas_in_sync == 1:
        return [tf.reduce_mean(value, axis=0) for value in values]
    present = tf.cast(present, values[0].dtype)
    count = present * tf.cast(tf.shape(values[0])[0], present.dtype)
    rows = [present * tf.reduce_sum(value, axis=0) for value in values]
    flat = [tf.reshape(row, [-1]) for row in rows]
    flat = replica.all_reduce("sum", tf.concat([*flat, [count]], axis=0))
    sizes = [row.shape.num_elements() for row in rows]
    *flat, number = tf.split(flat, [*sizes, 1])
    return [
        tf.reshape(part, row.shape) / number for part, row in zip(flat, rows)
    ]


def _variances(parts, present):
    """The variance of each part over the rows of all replicas."""
    return row_means(
        [
            tf.math.squared_difference(part, mean)
            for part, mean in zip(parts, row_means(parts, present))
        ],
        present,
    )


def check_weight(name: str, weight: float) -> None:
    """The weight of a term of a loss is 0 or more, and finite.

    Raises: ValueError: if it is not.
    """
    if not 0 <= weight < float("inf"):
        raise ValueError(
            f"`{name}` must be 0 or more, and finite. Received: {weight}."
        )


@keras.saving.register_keras_serializable("hgn_tf")
class Geco(keras.layers.Layer):
    """Lagrange multiplier of the constraint `reconstruction <= tolerance`.

    The objective is kl + multiplier * num_pixels / 2 * (reconstruction /
    tolerance - 1). With the multiplier at 1, minimising it maximises the ELBO
    of a Gaussian decoder whose variance is the tolerance, with the mean over
    frames as in the HGN paper's equation 4. The multiplier then follows the
    constraint:

        average <- smoothing * average
                   + (1 - smoothing) * clip(log(reconstruction / tolerance))
        multiplier <- multiplier * exp(rate * average)

    with the logarithm clipped to [-1, 1]. So an error of half the tolerance
    lowers the multiplier as fast as one of twice the tolerance raises it.
    Source: reconstruction / tolerance - 1, which falls by 1 at most and rises
    without bound. The logarithm of the multiplier and the moving average are
    non-trainable weights. They are saved with the model and averaged over
    replicas.

    If a constant image meets the tolerance, nothing is learned. Compare the
    tolerance with the mean-image error of the data, as `hgn-tf train` does.

    Paper: a multiplier "in front of the KL term". Here: in front of the
    constraint, as in the source, which differs by an overall factor only.

    Args:
      tolerance: Mean squared error per pixel that counts as good enough.
      rate: Rate at which the logarithm of the multiplier follows the average.
      smoothing: Weight of the past in the moving average.
      limits: Lowest and highest multiplier.
    Raises:
      ValueError: if the tolerance or the rate is not positive, or not finite.
      ValueError: if the smoothing is not in [0, 1).
      ValueError: if 1 is not within the limits.
    Source: Rezende and Viola, Generalized ELBO with constrained optimization
      (2018), algorithm 1.
    """

    def __init__(
        self,
        tolerance: float = 1e-3,
        rate: float = 0.01,
        smoothing: float = 0.99,
        limits: tuple[float, float] = (0.01, 100.0),
        **kwargs,
    ):
        super().__init__(**kwargs)
        if not (0 < tolerance < float("inf") and 0 < rate < float("inf")):
            raise ValueError(
                "`tolerance` and `rate` must be positive, and finite. "
                f"Received: {tolerance} and {rate}."
            )
        if not 0 <= smoothing < 1:
            raise ValueError(
                "`smoothing` must be at least 0 and below 1. "
                f"Received: {smoothing}."
            )
        low, high = limits
        if not 0 < low <= 1 <= high:
            raise ValueError(
                "`limits` must be (low, high) with 0 < low <= 1 <= high, for "
                f"the multiplier starts at 1. Received: {limits}."
            )
        self.tolerance = tolerance
        self.rate = rate
        self.smoothing = smoothing
        self.limits = tuple(limits)
        self.log_multiplier = self.add_weight(
            name="log_multiplier",
            initializer="zeros",
            trainable=False,
            aggregation="mean",
        )
        self.average = self.add_weight(
            name="average",
            initializer="zeros",
            trainable=False,
            aggregation="mean",
        )
        self.built = True

    @property
    def multiplier(self) -> tf.Tensor:
        return tf.exp(self.log_multiplier.value)

    def objective(
        self,
        reconstruction: tf.Tensor,
        kl: tf.Tensor,
        num_pixels: int,
        sample_weight: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """KL / num_pixels + multiplier / 2 * violation, over the batch.

        Weights [batch] multiply both for each example, as in Keras.
        """
        violation = tf.reduce_mean(reconstruction) / self.tolerance - 1.0
        if sample_weight is not None:
            violation = reconstruction / self.tolerance - 1.0
            violation = tf.reduce_mean(sample_weight * violation)
            kl = sample_weight * kl
        return (
            tf.reduce_mean(kl) / num_pixels + 0.5 * self.multiplier * violation
        )

    def update(
        self,
        reconstruction: tf.Tensor,
        sample_weight: tf.Tensor | None = None,
        present: int | tf.Tensor = 1,
    ) -> None:
        """Moves the average and the multiplier after a step.

        They follow the mean over all replicas, weighed if there are weights.
        A value that is not finite counts as the tolerance, where replicas
        cannot leave such a step out.

        Args:
          reconstruction: Mean squared error of each example, [batch].
          sample_weight: Weights [batch], or None.
          present: int. 0 for a replica whose rows do not count, else 1.
        """
        finite = tf.math.is_finite(reconstruction)
        reconstruction = tf.where(finite, reconstruction, self.tolerance)
        if sample_weight is None:
            sample_weight = tf.ones_like(reconstruction)
        weight = sample_weight * tf.cast(present, reconstruction.dtype)
        sums = tf.reduce_sum(weight * reconstruction), tf.reduce_sum(weight)
        replica = tf.distribute.get_replica_context()
        if replica and replica.num_replicas_in_sync > 1:
            sums = tf.unstack(replica.all_reduce("sum", tf.stack(sums)))
        # Where all weights are 0, nothing is known.
        mean = tf.where(sums[1] > 0, sums[0] / sums[1], self.tolerance)
        ratio = mean / self.tolerance
        # An estimate that is 0 or below, as that of a KL may be, is e times
        # too low and no more, as any other low value.
        violation = tf.math.log(tf.clip_by_value(ratio, 1.0 / math.e, math.e))
        average = (
            self.smoothing * self.average.value
            + (1.0 - self.smoothing) * violation
        )
        self.average.assign(average)
        log_multiplier = self.log_multiplier.value + self.rate * average
        low, high = (math.log(limit) for limit in self.limits)
        self.log_multiplier.assign(tf.clip_by_value(log_multiplier, low, high))

    def get_config(self):
        return {
            **super().get_config(),
            "tolerance": self.tolerance,
            "rate": self.rate,
            "smoothing": self.smoothing,
            "limits": self.limits,
        }
