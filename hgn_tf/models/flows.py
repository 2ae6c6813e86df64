"""RealNVP, MAF and neural spline flows: what NHF is compared with."""

import dataclasses
from collections.abc import Callable

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from hgn_tf.models import flow_bijectors
from hgn_tf.models.finite_steps import CountedSteps
from hgn_tf.models.inner_steps import run_steps
from hgn_tf.models.points import (
    check_points,
    check_training_points,
    points_in,
)
from hgn_tf.networks import serializable

tfb, tfd = tfp.bijectors, tfp.distributions


@dataclasses.dataclass(frozen=True)
class Flow:
    """A kind of flow, and its size of about 90,000 parameters in the plane.

    Attributes:
      num_layers: Layers of the flow.
      units: Width of each hidden layer of a layer's network.
      network: Callable (dim, units, num_bins) -> network of a layer.
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
        lambda dim, units, _: flow_bijectors.coupling_network(dim, 2, units),
        lambda *layer: flow_bijectors.affine_coupling(*layer[:3]),
    ),
    "maf": Flow(
        10,
        (90, 90),
        lambda dim, units, _: flow_bijectors.autoregressive_network(dim, units),
        lambda *layer: flow_bijectors.autoregressive(*layer[:3]),
    ),
    "spline": Flow(
        4,
        (128, 128),
        lambda dim, units, num_bins: flow_bijectors.coupling_network(
            dim, 3 * num_bins - 1, units
        ),
        flow_bijectors.spline_coupling,
    ),
}


@serializable
class NormalizingFlow(CountedSteps, keras.Model):
    """A density learned by maximum likelihood: `compile(optimizer)`, `fit`.

    A chain of layers takes points to N(0, 1) in each coordinate. A step whose
    gradients are not finite changes nothing but the count `dropped_steps`.

    Args:
      kind: A name in FLOWS.
      num_layers: Layers of the flow; None for the kind's own.
      units: Width of each hidden layer of a layer's network; None likewise.
      num_bins: Bins of a spline.
      half_width: A spline's range is [-half_width, half_width].
    Attributes:
      inner_steps: A batch that `fit` is given is cut into so many, each one
        step of the optimiser, all in one compiled call.
    Call: x [batch, dim] -> ln p(x) [batch], nats.
    Raises: ValueError: for an unknown kind, sizes that cannot be, points with
      one coordinate, and in `fit` and `log_prob` for points that do not fit.
    """

    def __init__(
        self,
        kind="realnvp",
        num_layers=None,
        units=None,
        num_bins=20,
        half_width=5.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if kind not in FLOWS:
            raise ValueError(
                f"`kind` must be one of {list(FLOWS)}. Received: {kind!r}."
            )
        self.kind = kind
        self.num_layers = num_layers or FLOWS[kind].num_layers
        self.units = tuple(units or FLOWS[kind].units)
        self.num_bins = num_bins
        self.half_width = half_width
        numbers = (self.num_layers, *self.units, num_bins - 1, half_width)
        if min(numbers) <= 0:
            raise ValueError(
                "Layers, units and `half_width` must be positive, and a "
                "spline needs two bins. Received: "
                f"{self.num_layers}, {self.units}, {half_width}, {num_bins}."
            )
        self.inner_steps = 1
        self._add_counters()
        self._compiled_sample = tf.function(
            lambda n, seed: self.distribution().sample(n, seed=seed)
        )

    def build(self, shape):
        if shape[-1] < 2:
            raise ValueError(
                "A flow needs points of two coordinates or more. "
                f"Received: {shape[-1]}."
            )
        self.dim = shape[-1]
        self.networks = [
            FLOWS[self.kind].network(self.dim, self.units, self.num_bins)
            for _ in range(self.num_layers)
        ]
        # Traced once, for any number of rows.
        spec = tf.TensorSpec([None, self.dim], self.compute_dtype)
        self._compiled_log_prob = tf.function(
            lambda x: self(x), input_signature=[spec]
        )
        self.built = True

    def call(self, x):
        return self.distribution().log_prob(x)

    def distribution(self) -> tfd.Distribution:
        """The density as it is now; it borrows the model's networks.

        Make a new one after a change of the weights, since TFP remembers what
        a bijector returned.
        """
        layers = [
            FLOWS[self.kind].bijector(network, self.dim, index, self.half_width)
            for index, network in enumerate(self.networks)
        ]
        return tfd.TransformedDistribution(
            tfd.MultivariateNormalDiag(tf.zeros(self.dim)), tfb.Chain(layers)
        )

    def fit(self, x=None, *args, **kwargs):
        """As `keras.Model.fit`, on points [rows, dim] or batches of them.

        A tf.data.Dataset is not searched for NaN: such a step is dropped.
        """
        x = check_training_points(x, self._known_dim, self.compute_dtype)
        if isinstance(x, tf.data.Dataset):
            # It comes in its own order; Keras would warn that it keeps it.
            kwargs.setdefault("shuffle", False)
        return super().fit(x, *args, **kwargs)

    def log_prob(self, x) -> tf.Tensor:
        """The density ln p(x) of points [n, dim], nats, [n]."""
        x = check_points(x, self._known_dim, self.compute_dtype, "x")
        if not self.built:
            self.build(x.shape)
        return self._compiled_log_prob(x)

    def sample(self, n: int, seed: int = 0) -> tf.Tensor:
        """Points drawn from the model, [n, dim]; the same for a seed.

        Raises: ValueError: if the model is not built, or n below 1.
        """
        if not self.built or n < 1:
            raise ValueError(
                "`n` must be at least 1, and the model must know the "
                "dimension of its points: call `fit` or `build((None, dim))`. "
                f"Received: {n}, and a model {'' if self.built else 'not '}"
                "built."
            )
        return self._compiled_sample(
            tf.constant(n), tf.constant([0, seed], tf.int32)
        )

    def train_step(self, data):
        run_steps(self._step, points_in(data), self.inner_steps)
        return {
            **self.get_metrics_result(),
            "dropped_steps": tf.identity(self.dropped_steps.value),
        }

    def test_step(self, data):
        self._track((self._loss_tracker, self._loss(points_in(data))))
        return self.get_metrics_result()

    def get_config(self):
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

    def _loss(self, x):
        return -tf.reduce_mean(self(x))

    def _step(self, x):
        (loss,) = self._descend(lambda: (self._loss(x),))
        self._track((self._loss_tracker, loss))
