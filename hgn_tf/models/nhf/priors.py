"""Priors over phase states, and distributions as plain configurations."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
from tensorflow_probability import distributions as tfd

# Of q and of p, or of the state, as `phase_prior` takes it.
Prior: TypeAlias = str | tfd.Distribution | Sequence[str | tfd.Distribution]


class SoftUniform(tfd.Distribution):
    """Uniform on +-sigma/2 with edges softened to a width of about 1/beta.

    density(s) = f(beta (s + sigma/2)) f(-beta (s - sigma/2)) / Z, f the
    sigmoid, Z = sigma / (1 - exp(-beta sigma)): the density of the sum of a
    Uniform(-sigma/2, sigma/2) and a Logistic(0, 1/beta), which is how it is
    sampled.

    Args:
      sigma: Width, positive, a number or a tensor. Defaults to 6.
      beta: Sharpness of the edges, positive; its shape and that of sigma
        broadcast to the batch shape. Defaults to 8.
      validate_args: bool. Flag of TFP; positive values are always checked.
      allow_nan_stats: bool. Flag of TFP.
      name: str. Name of the distribution.
    Raises: ValueError: if sigma or beta is not positive.
    Source: the HGN paper (Toth et al., 2019), section 4, figure 9, where Z
      is left open.
    """

    def __init__(
        self,
        sigma: float | np.ndarray | tf.Tensor = 6.0,
        beta: float | np.ndarray | tf.Tensor = 8.0,
        validate_args: bool = False,
        allow_nan_stats: bool = True,
        name: str = "SoftUniform",
    ):
        parameters = dict(locals())
        given = getattr(sigma, "dtype", None) or getattr(beta, "dtype", None)
        dtype = tf.as_dtype(given or tf.float32)
        self._sigma = tf.convert_to_tensor(sigma, dtype)
        self._beta = tf.convert_to_tensor(beta, dtype)
        for key in ("sigma", "beta"):
            value = tf.get_static_value(getattr(self, f"_{key}"))
            if value is not None and not np.all(value > 0):
                raise ValueError(f"`{key}` must be positive. Received: {value}")
        super().__init__(
            dtype=dtype,
            reparameterization_type=tfd.FULLY_REPARAMETERIZED,
            validate_args=validate_args,
            allow_nan_stats=allow_nan_stats,
            parameters=parameters,
            name=name,
        )

    @property
    def sigma(self) -> tf.Tensor:
        return self._sigma

    @property
    def beta(self) -> tf.Tensor:
        return self._beta

    @classmethod
    def _parameter_properties(cls, dtype, num_classes=None):
        positive = tfp.util.ParameterProperties(
            default_constraining_bijector_fn=tfp.bijectors.Softplus
        )
        return {"sigma": positive, "beta": positive}

    def _event_shape(self):
        return tf.TensorShape([])

    def _event_shape_tensor(self):
        return tf.constant([], tf.int32)

    def _sample_n(self, n, seed=None):
        seeds = tfp.random.split_seed(seed, n=2, salt="soft_uniform")
        # Each of the two has a draw for every member of the batch.
        middle = tf.zeros(self.batch_shape_tensor(), self.dtype)
        logistic = tfd.Logistic(middle, 1.0 / self._beta)
        half = middle + self._sigma / 2
        uniform = tfd.Uniform(-half, half)
        return uniform.sample(n, seeds[0]) + logistic.sample(n, seeds[1])

    def _log_prob(self, value):
        half = self._sigma / 2
        edges = tf.nn.softplus(-self._beta * (value + half))
        edges += tf.nn.softplus(self._beta * (value - half))
        log_rest = tfp.math.log1mexp(self._beta * self._sigma)
        return log_rest - tf.math.log(self._sigma) - edges

    def _cdf(self, value):
        # softplus(a) - softplus(b) loses its digits far right of both edges.
        left = self._area(-tf.abs(value))
        return tf.where(value < 0, left, 1.0 - left)

    def _area(self, value):
        half = self._sigma / 2
        upper = tf.nn.softplus(self._beta * (value + half))
        lower = tf.nn.softplus(self._beta * (value - half))
        return (upper - lower) / (self._beta * self._sigma)

    def _quantile(self, value):
        # The inverse of _cdf, where exp(beta s) solves a linear equation.
        area = self._beta * self._sigma
        log_ratio = tfp.math.log1mexp(value * area)
        log_ratio -= tfp.math.log1mexp((1.0 - value) * area)
        return (value - 0.5) * self._sigma + log_ratio / self._beta

    def _mean(self):
        return tf.zeros_like(self._sigma + self._beta)

    def _variance(self):
        logistic = (np.pi / self._beta) ** 2 / 3.0
        return tf.square(self._sigma) / 12.0 + logistic

    def _default_event_space_bijector(self):
        return tfp.bijectors.Identity()


def phase_prior(
    prior: Prior, dim: int, dtype: str | tf.DType
) -> tfd.Distribution:
    """The prior of a state (q, p) joined, event shape [2 dim].

    Args:
      prior: "normal", "soft_uniform", or a distribution of one number, for
        every q and p; a pair of such for q and for p, in which a
        distribution of shape [dim] may stand too; or a distribution of shape
        [2 dim].
      dim: int. Length of q, and of p.
      dtype: Precision of the model.
    Returns: A distribution; of a pair it is a `tfd.Blockwise`.
    Raises: ValueError: for an unknown name, another shape or dtype, variables.
    """
    if isinstance(prior, tfd.Distribution) and _rank(prior):
        return _check(prior, 2 * dim, dtype)
    parts = prior if isinstance(prior, tuple | list) else (prior, prior)
    if len(parts) != 2:
        raise ValueError(
            "A pair of priors must be (q, p): without p the objective has no "
            f"bound. Received: {prior}."
        )
    return tfd.Blockwise([_one_part(part, dim, dtype) for part in parts])


def _one_part(part, dim, dtype):
    number = tf.as_dtype(dtype).as_numpy_dtype
    named = {
        "normal": lambda: tfd.Normal(number(0), number(1)),
        "soft_uniform": lambda: SoftUniform(number(6), number(8)),
    }
    if isinstance(part, str) and part in named:
        part = named[part]()
    if not isinstance(part, tfd.Distribution):
        raise ValueError(
            f"A prior must be one of {sorted(named)}, a distribution or a pair "
            f"(q, p) of them. Received: {part!r}."
        )
    if _rank(part) == 0:
        part = tfd.Sample(part, dim)
    return _check(part, dim, dtype)


def _rank(prior):
    """Axes of an event; of a joint distribution there are several events."""
    if not isinstance(prior.event_shape, tf.TensorShape):
        raise ValueError(
            "A prior must have one event, an array of numbers. Received: "
            f"{prior}, whose events are {prior.event_shape}; a pair (q, p) "
            "gives two distributions."
        )
    return prior.event_shape.rank


def _check(prior, size, dtype):
    shape = (*prior.batch_shape, *prior.event_shape)
    if shape != (size,) or prior.dtype != dtype or prior.trainable_variables:
        raise ValueError(
            "A prior must cover q and p: one number of shape [], or events of "
            f"shape [dim] each or [2 dim] jointly, here [{size}], in {dtype} "
            f"and without variables. Received: {prior}."
        )
    return prior


def distribution_config(value: Any) -> Any:
    """A name, number, array or distribution as what JSON can hold.

    A distribution becomes its class and arguments, in which further
    distributions, numbers and arrays may stand.

    Raises: ValueError: for another kind of value, or a class that is neither
      TFP's nor SoftUniform.
    """
    # Numbers of numpy's first: its float64 is a float of Python's too, and as
    # such would be float32 when it is read.
    if isinstance(value, np.ndarray | np.number | np.bool_ | tf.Tensor):
        array = np.asarray(value)
        return {"array": array.tolist(), "dtype": array.dtype.name}
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, tf.DType):
        return {"dtype": value.name}
    if isinstance(value, tuple | list):
        return [distribution_config(part) for part in value]
    if isinstance(value, tfd.Distribution):
        # TFP makes some classes of a base with an underscore.
        name = type(value).__name__.lstrip("_")
        found = _class_called(name)
        if found and issubclass(found, type(value)):
            arguments = {
                key: distribution_config(part)
                for key, part in value.parameters.items()
            }
            return {"distribution": name, "arguments": arguments}
    raise ValueError(
        "To be saved, a prior must be a name, `SoftUniform` or one of "
        "`tfp.distributions` whose arguments are numbers, arrays and "
        f"distributions. Received: {value!r}."
    )


def distribution_from(config: Any) -> Any:
    """What `distribution_config` was given; other values as they are."""
    if isinstance(config, tuple | list):
        return [distribution_from(part) for part in config]
    if not isinstance(config, dict):
        return config
    if "array" in config:
        return np.asarray(config["array"], config["dtype"])[()]
    if "distribution" in config:
        arguments = {
            key: distribution_from(part)
            for key, part in config["arguments"].items()
        }
        return _class_called(config["distribution"])(**arguments)
    return tf.as_dtype(config["dtype"])


def _class_called(name):
    return SoftUniform if name == "SoftUniform" else getattr(tfd, name, None)
