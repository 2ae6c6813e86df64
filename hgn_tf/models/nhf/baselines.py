"""RealNVP, MAF and neural spline flows: what NHF is compared with.

A layer of a flow is a Keras network and a function that makes a bijector of
what the network says. The network belongs to the model: TFP tracks no Keras
variable.
"""

import dataclasses
import os
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from hgn_tf.integrators import check_count
from hgn_tf.models.batches import STEP, Batch
from hgn_tf.models.exports import export, spec
from hgn_tf.models.nhf.points import (
    admit_points,
    check_built,
    check_draws,
    check_points,
    check_precision,
    draw_seed,
)
from hgn_tf.models.steps import GuardedModel
from hgn_tf.networks import serializable
from hgn_tf.networks.layers import MaskedDense

# Scales stay within exp(+-2) a layer: without a bound one bad step makes them
# infinite.
_MAX_LOG_SCALE = 2.0
# Least width, height and slope of a spline's bin, as a share of the mean one.
_MIN_BIN = 1e-2
_SLOPE_SHIFT = np.log(np.e - 1)
# The output of a network at which a spline's slope is 1, as outside of it.
_SLOPE_1 = np.log(np.expm1(1 - _MIN_BIN)) - _SLOPE_SHIFT


class Coupling(tfb.Bijector):
    """Moves half of the coordinates by a bijector that the others choose.

    As `tfb.RealNVP`, which computes the network twice, for the point and for
    the Jacobian; here once.

    Args:
      num_kept: int. Coordinates that stay.
      flip: bool. Whether they are the last ones, not the first.
      choose: Callable, kept [..., num_kept] -> scalar bijector of the rest.
      name: str. Name of the bijector.
    Call: x [..., dim] -> [..., dim].
    """

    def __init__(
        self,
        num_kept: int,
        flip: bool,
        choose: Callable,
        name: str = "coupling",
    ):
        super().__init__(
            forward_min_event_ndims=1, parameters={"name": name}, name=name
        )
        self._num_kept = num_kept
        self._flip = flip
        self._choose = _once(lambda x: choose(self._split(x)[0]))

    # Equal bijectors share a cache: by name alone, all layers would be equal.
    def __eq__(self, other):
        return self is other

    def __hash__(self):
        return id(self)

    @classmethod
    def _parameter_properties(cls, dtype):
        return {}

    def _split(self, x):
        if self._flip:
            return x[..., -self._num_kept :], x[..., : -self._num_kept]
        return x[..., : self._num_kept], x[..., self._num_kept :]

    def _move(self, x, direction):
        kept, moved = self._split(x)
        moved = direction(self._choose(x), moved)
        parts = [moved, kept] if self._flip else [kept, moved]
        return tf.ensure_shape(tf.concat(parts, axis=-1), x.shape)

    def _forward(self, x):
        return self._move(x, lambda bijector, part: bijector.forward(part))

    def _inverse(self, y):
        return self._move(y, lambda bijector, part: bijector.inverse(part))

    def _inverse_log_det_jacobian(self, y):
        return self._choose(y).inverse_log_det_jacobian(self._split(y)[1], 1)


def coupling_network(
    dim: int,
    first: Sequence[float],
    units: tuple[int, ...],
    dtype: str | keras.DTypePolicy | None = None,
) -> keras.Model:
    """MLP from the kept coordinates to the parameters of the others.

    Args:
      dim: int. Coordinates of a point.
      first: Values [num_outputs] that the parameters of every moved
        coordinate have at first, but for small random weights.
      units: Width of each hidden layer.
      dtype: Precision of the layers. Defaults to Keras's.
    Returns: Built network, [batch, dim // 2] -> [batch, moved, num_outputs].
    """
    num_outputs = len(first)
    moved = dim - dim // 2
    network = keras.Sequential(
        [
            *(
                keras.layers.Dense(width, **_start(index), dtype=dtype)
                for index, width in enumerate(units)
            ),
            keras.layers.Dense(
                moved * num_outputs,
                **_start(None)
                | {
                    "bias_initializer": lambda shape, dtype: tf.constant(
                        np.tile(first, moved), dtype
                    )
                },
                dtype=dtype,
            ),
            keras.layers.Reshape((moved, num_outputs), dtype=dtype),
        ]
    )
    network.build((None, dim // 2))
    return network


def autoregressive_network(
    dim: int,
    units: tuple[int, ...],
    dtype: str | keras.DTypePolicy | None = None,
) -> keras.Model:
    """MADE: shift and scale of coordinate i from those before it.

    Args:
      dim: int. Coordinates of a point.
      units: Width of each hidden layer.
      dtype: Precision of the layers. Defaults to Keras's.
    Returns: built network, [batch, dim] -> [batch, dim, 2].
    """
    degrees, layers = np.arange(1, dim + 1).tolist(), []
    before = degrees
    for index, width in enumerate(units):
        after = [1 + unit % (dim - 1) for unit in range(width)]
        layers.append(MaskedDense(before, after, **_start(index), dtype=dtype))
        before = after
    twice = [degree for degree in degrees for _ in range(2)]
    layers.append(
        MaskedDense(before, twice, strict=True, **_start(None), dtype=dtype)
    )
    layers.append(keras.layers.Reshape((dim, 2), dtype=dtype))
    network = keras.Sequential(layers)
    network.build((None, dim))
    return network


def affine_coupling(network: keras.Model, dim: int, index: int) -> tfb.Bijector:
    """A layer of RealNVP (Dinh et al. 2017); every other one is flipped."""

    def choose(kept):
        shift, log_scale = _affine(_on_rows(network, kept))
        return tfb.Shift(shift)(tfb.Scale(log_scale=log_scale))

    return Coupling(dim // 2, bool(index % 2), choose)


def spline_coupling(
    network: keras.Model, dim: int, index: int, half_width: float
) -> tfb.Bijector:
    """A layer of a neural spline flow (Durkan et al. 2019).

    Each moved coordinate goes through a monotonic rational quadratic spline
    within [-half_width, half_width] and stays as it is outside.
    """

    def choose(kept):
        raw = _on_rows(network, kept)
        count = (raw.shape[-1] + 1) // 3
        widths, heights, slopes = tf.split(raw, [count, count, count - 1], -1)
        return tfb.RationalQuadraticSpline(
            bin_widths=_bins(widths, half_width),
            bin_heights=_bins(heights, half_width),
            knot_slopes=tf.math.softplus(slopes + _SLOPE_SHIFT) + _MIN_BIN,
            range_min=-half_width,
        )

    return Coupling(dim // 2, bool(index % 2), choose)


def autoregressive(network: keras.Model, dim: int, index: int) -> tfb.Bijector:
    """A layer of MAF (Papamakarios et al. 2017), then the order reversed."""
    flow = tfb.MaskedAutoregressiveFlow(
        _once(lambda x: _affine(_on_rows(network, x))), unroll_loop=True
    )
    return tfb.Chain([flow, tfb.Permute(list(range(dim))[::-1])])


@dataclasses.dataclass(frozen=True)
class Flow:
    """A kind of flow, and its size of about 90,000 parameters in the plane.

    Attributes:
      num_layers: Number of layers of the flow.
      units: Width of each hidden layer of a layer's network.
      network: Callable (dim, units, num_bins, dtype) -> network of a layer.
      bijector: Callable (network, dim, index, half_width) -> bijector.
    """

    num_layers: int
    units: tuple[int, ...]
    network: Callable
    bijector: Callable


FLOWS = {
    "realnvp": Flow(
        16,
        (73, 73),
        lambda dim, units, _, dtype: coupling_network(
            dim, [0.0, 0.0], units, dtype
        ),
        lambda *layer: affine_coupling(*layer[:3]),
    ),
    "maf": Flow(
        10,
        (90, 90),
        lambda dim, units, _, dtype: autoregressive_network(dim, units, dtype),
        lambda *layer: autoregressive(*layer[:3]),
    ),
    "spline": Flow(
        4,
        (128, 128),
        lambda dim, units, num_bins, dtype: coupling_network(
            dim,
            [0.0] * (2 * num_bins) + [_SLOPE_1] * (num_bins - 1),
            units,
            dtype,
        ),
        spline_coupling,
    ),
}


@serializable
class NormalizingFlow(GuardedModel):
    """A density learned by maximum likelihood: `compile(optimizer)`, `fit`.

    A chain of layers takes points to N(0, 1) in each coordinate. A step whose
    gradients are not finite changes nothing but the count `dropped_steps`.

    Args:
      kind: str. A key of `FLOWS`. Defaults to "realnvp".
      num_layers: int. Layers of the flow; None for the kind's own number.
      units: Width of each hidden layer of a layer's network; None for the
        kind's own.
      num_bins: int. Bins of a spline. Defaults to 20.
      half_width: float. Half the range of a spline, [-half_width, half_width].
        Defaults to 5.
    Call: x [batch, dim] -> ln p(x) [batch], nats.
    Raises:
      ValueError: if there is no such kind, or a size is out of its range.
      ValueError: if points have one coordinate.
      ValueError: if `fit` or `log_prob` gets points that do not fit.
    """

    def __init__(
        self,
        kind: str = "realnvp",
        num_layers: int | None = None,
        units: tuple[int, ...] | None = None,
        num_bins: int = 20,
        half_width: float = 5.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_precision(self.dtype_policy)
        if kind not in FLOWS:
            raise ValueError(
                f"`kind` must be one of {list(FLOWS)}. Received: {kind!r}."
            )
        self.kind = kind
        usual = FLOWS[kind]
        layers = usual.num_layers if num_layers is None else num_layers
        self.num_layers = check_count("num_layers", layers)
        self.units = tuple(usual.units if units is None else units)
        for width in self.units:
            check_count("units", width)
        self.num_bins = check_count("num_bins", num_bins, least=2)
        if not 0 < half_width < float("inf"):
            raise ValueError(
                "`half_width` must be positive and finite. Received: "
                f"{half_width}."
            )
        self.half_width = half_width
        self._compiled_sample = tf.function(
            lambda n, seed: self.distribution().sample(n, seed=seed)
        )

    def build(self, shape: tuple) -> None:
        if shape[-1] < 2:
            raise ValueError(
                "A flow needs points of two coordinates or more. "
                f"Received: {shape[-1]}."
            )
        self.dim = shape[-1]
        self.networks = [
            FLOWS[self.kind].network(
                self.dim, self.units, self.num_bins, self.dtype_policy
            )
            for _ in range(self.num_layers)
        ]
        # Traced once, for any number of rows.
        spec = tf.TensorSpec([None, self.dim], self.compute_dtype)
        self._compiled_log_prob = tf.function(
            lambda x: self(x), input_signature=[spec]
        )
        self.built = True

    def call(self, x: tf.Tensor) -> tf.Tensor:
        x = tf.cast(x, self.compute_dtype)
        return self.distribution().log_prob(x)

    def distribution(self) -> tfd.Distribution:
        """The density as it is now; it borrows the model's networks.

        It is a snapshot: after a change of the weights make a new one, since
        the bijectors of TFP remember what they returned for a tensor object.
        """
        check_built(self)
        layers = [
            FLOWS[self.kind].bijector(network, self.dim, index, self.half_width)
            for index, network in enumerate(self.networks)
        ]
        return tfd.TransformedDistribution(
            tfd.MultivariateNormalDiag(tf.zeros(self.dim, self.compute_dtype)),
            tfb.Chain(layers),
        )

    def fit(
        self, x: Any = None, y: None = None, *args, **kwargs
    ) -> keras.callbacks.History:
        """As `keras.Model.fit`, on points [rows, dim] or batches of them.

        Batches of a dataset or a generator are not searched for NaN: such a
        step is dropped. They may be (points, None, sample weights).
        """
        return super().fit(x, y, *args, **kwargs)

    def evaluate(self, x: Any = None, y: None = None, *args, **kwargs) -> Any:
        """As `keras.Model.evaluate`: the mean of -ln p of points."""
        return super().evaluate(x, y, *args, **kwargs)

    def export(self, filepath: str | os.PathLike, *args, **kwargs) -> None:
        """Writes a SavedModel, which runs without Keras and this package.

        - serve: x [batch, dim] -> log_prob [batch].
        - sample: num_samples, seed -> x [num_samples, dim].

        Args:
          filepath: Folder of the SavedModel.
          *args: Arguments of `keras.Model.export`, without a signature.
          **kwargs: The same by name.
        Raises: ValueError: if the model is not built, or an argument does not
          apply.
        """
        export(self, self._endpoints, filepath, *args, **kwargs)

    def _endpoints(self):
        def sample(num_samples, seed):
            seed = tf.stack([0, seed])
            return {"x": self.distribution().sample(num_samples, seed)}

        points = [spec("x", [None, self.dim], self.compute_dtype)]
        return {
            "serve": (lambda x: {"log_prob": self(x)}, points),
            "sample": (sample, [spec("num_samples"), spec("seed")]),
        }

    def log_prob(self, x: np.ndarray | tf.Tensor) -> tf.Tensor:
        """The density ln p(x) of points [n, dim], nats, [n].

        Raises: ValueError: if the points do not fit or are not finite.
        """
        x = check_points(x, self._known_dim, self.compute_dtype, "x")
        if not self.built:
            self.build(x.shape)
        return self._compiled_log_prob(x)

    def sample(
        self, n: int | tf.Tensor, seed: int | tf.Tensor = 0
    ) -> tf.Tensor:
        """Points drawn from the model, [n, dim]; the same for a seed.

        Args:
          n: int, or a tensor within a graph. Number of points, 1 or more.
          seed: int or scalar tensor. Defaults to 0.
        Raises: ValueError: if the model is not built, or n below 1.
        """
        check_built(self)
        n = check_draws("n", n, symbolic=True)
        return self._compiled_sample(tf.convert_to_tensor(n), draw_seed(seed))

    def test_step(self, data) -> dict:
        batch = self._look(Batch.of(data), "evaluate", STEP)
        batch, present = self._with_a_row(batch)
        loss = self._loss(batch.x, batch.sample_weight)
        self._track(
            (self._loss_tracker, loss),
            rows=present * tf.shape(batch.x)[0],
            training=False,
        )
        return self.get_metrics_result()

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "kind": self.kind,
            "num_layers": self.num_layers,
            "units": self.units,
            "num_bins": self.num_bins,
            "half_width": self.half_width,
        }

    @property
    def _known_dim(self):
        return self.dim if self.built else None

    def _loss(self, x, weight=None):
        log_prob = self(x)
        if weight is not None:
            log_prob *= tf.cast(weight, log_prob.dtype)
        return -tf.reduce_mean(log_prob)

    def _admit(self, batch, purpose, seen):
        dim = self._known_dim
        return admit_points(batch, purpose, seen, dim, self.compute_dtype)

    def _step(self, batch):
        x, weight, rows = batch["x"], batch.get("sample_weight"), batch["rows"]
        (loss,) = self._descend(lambda: (self._loss(x, weight),), rows)
        self._track((self._loss_tracker, loss), rows=rows.count)


def _start(index):
    """Activation and first weights of a layer; None for the last one.

    Units that all bend at 0 are nearly one unit where the input has one
    dimension, so the first biases spread them over the data; tanh stays bounded
    where there are no data. Of RealNVP on the rings, 16 layers and 4,000
    steps, one seed: gap 0.41, and 0.80 with relu.
    """
    biases = keras.initializers.RandomUniform(-3.0, 3.0)
    return {
        "activation": None if index is None else "tanh",
        # The last layer starts small, so that the flow starts near identity.
        "kernel_initializer": keras.initializers.VarianceScaling(
            0.1 if index is None else 2.0, "fan_in", "untruncated_normal"
        ),
        "bias_initializer": biases if index == 0 else "zeros",
    }


def _on_rows(network, x):
    """A network on [batch, n], of x [..., n]."""
    rows = network(tf.reshape(x, [-1, x.shape[-1]]))
    shape = tf.concat([tf.shape(x)[:-1], rows.shape[1:]], axis=0)
    return tf.ensure_shape(
        tf.reshape(rows, shape), [*x.shape[:-1], *rows.shape[1:]]
    )


def _affine(parameters):
    """Shift and bounded log-scale, each [..., coordinates]."""
    shift, log_scale = tf.unstack(parameters, axis=-1)
    return shift, _MAX_LOG_SCALE * tf.tanh(log_scale / _MAX_LOG_SCALE)


def _bins(raw, half_width):
    """Positive widths that sum to 2 half_width."""
    count = raw.shape[-1]
    share = tf.nn.softmax(raw) * (1 - _MIN_BIN) + _MIN_BIN / count
    return 2 * half_width * share


def _once(function):
    """`function`, computed once for a tensor that comes twice in a row."""
    last = [None, None]

    def remembering(x):
        if last[0] is not x:
            last[:] = x, function(x)
        return last[1]

    return remembering
