"""Neural Hamiltonian Flows: Hamiltonian dynamics as a density model."""

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from hgn_tf import integrators, losses
from hgn_tf.bijectors import LeapfrogFlow
from hgn_tf.distributions import (
    distribution_config,
    distribution_from,
    phase_prior,
)
from hgn_tf.models.bound_training import BoundTraining
from hgn_tf.models.flow_density import FlowDensity, NHFOutput
from hgn_tf.models.flow_energies import make_hamiltonians
from hgn_tf.models.momentum import make_posterior
from hgn_tf.models.points import check_training_points, points_in
from hgn_tf.networks import build_once, serializable, split_state

# Kept as they came, and saved so.
_PLAIN_ARGUMENTS = (
    "num_hamiltonians",
    "shared",
    "num_steps",
    "dt",
    "learn_dt",
    "energy",
    "units",
    "activation",
    "first_scale",
    "first_bias",
    "kinetic_energy",
    "scaling",
    "posterior_units",
    "kl_tolerance",
    "drift_tolerance",
    "num_samples",
    "seed",
)


@serializable
class NHF(FlowDensity, BoundTraining, keras.Model):
    """A density of points q: where Hamiltonian dynamics takes a prior.

    s_0 = (q_0, p_0) ~ prior; s_T = H_T o ... o H_1 (s_0) by leapfrog; the
    data are q_T. Trained by `compile(optimizer)` and `fit(points)`, points
    [rows, dim] or a tf.data.Dataset of batches of them, on

        ELBO(q) = E_f[ln prior(s_0) - ln f(p | q)],  s_0 from (q, p) backward,

    with p ~ f(p | q), the momentum posterior. The prior covers p_0 as well as
    q_0: without it the objective has no bound. A step whose gradients are not
    finite changes nothing but the count `dropped_steps`.

    Paper: Lagrange multipliers, of a constraint it does not state. Here: two
    constraints that leave the ELBO a bound, each a penalty by `losses.Geco`,
    both off. The metric `elbo` is without them.

    Args:
      num_hamiltonians: How many Hamiltonians the flow passes through.
      shared: Whether all are one and the same.
      num_steps: Leapfrog steps a Hamiltonian.
      dt: Length of a step.
      learn_dt: Learn it, for each Hamiltonian.
      energy: "mlp" as in the paper, or "bumps", `networks.BumpEnergy`.
      units: Hidden widths of each energy; (width,) is a G-SympNet layer. Of
        bumps, their number alone.
      activation: Of the MLPs; smooth.
      first_scale: See `networks.EnergyNet`; 3, say, for fine structure.
      first_bias: Likewise.
      kinetic_energy: "learned", or "quadratic" for |p|^2 / 2.
      hamiltonians: Own layers with kinetic(p) and potential(q) instead, in
        the order of the flow; one if shared.
      prior: Of (q_0, p_0), see `distributions.phase_prior`.
      scaling: End the flow by a learned scale and shift of each q and p,
        which `adapt(points)` starts at those of the points.
      posterior: "gaussian" as in the paper, "affine", "flow", or a layer as
        in `models.momentum`.
      posterior_units: Hidden widths of the posterior's MLPs.
      kl_tolerance: Nats that KL(f(p | q) || prior(p)) may have; None: any.
      drift_tolerance: Mean |change of H| that leapfrog may leave; None: any.
      num_samples: Momenta a point in a training step.
      seed: Of the noise in training. The noise of a step depends on the seed
        and the number of steps alone, so a resumed run is the same run; XLA
        has noise of its own.
    Attributes:
      inner_steps: A batch that `fit` is given is cut into so many, each one
        step of the optimiser, all in one compiled call.
      flows: The `LeapfrogFlow` of each Hamiltonian, once built.
    Call: q [batch, dim] -> NHFOutput, one momentum a point.
    Raises: ValueError: for an argument out of its range, and for points of
      another width, that are not finite, or with a column that is constant.
    Source: Toth et al., Hamiltonian Generative Networks (2019), section 3.3.
    """

    def __init__(
        self,
        num_hamiltonians=2,
        *,
        shared=False,
        num_steps=1,
        dt=0.5,
        learn_dt=False,
        energy="mlp",
        units=(128, 128),
        activation="softplus",
        first_scale=1.0,
        first_bias=1.0,
        kinetic_energy="learned",
        hamiltonians=None,
        prior="normal",
        scaling=False,
        posterior="gaussian",
        posterior_units=(128, 128),
        kl_tolerance=None,
        drift_tolerance=None,
        num_samples=1,
        seed=0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        integrators.check_dt(dt)
        for name, value in (
            ("num_hamiltonians", num_hamiltonians),
            ("num_steps", num_steps),
            ("num_samples", num_samples),
        ):
            if value < 1:
                raise ValueError(
                    f"`{name}` must be at least 1. Received: {value}."
                )
        self.num_hamiltonians = num_hamiltonians
        self.shared = shared
        self.num_steps = num_steps
        self.dt = dt
        self.learn_dt = learn_dt
        self.energy = energy
        self.units = tuple(units)
        self.activation = activation
        self.first_scale = first_scale
        self.first_bias = first_bias
        self.kinetic_energy = kinetic_energy
        self._given = hamiltonians is not None
        self.energies = make_hamiltonians(
            hamiltonians,
            1 if shared else num_hamiltonians,
            kinetic_energy,
            energy,
            self.units,
            self.dtype_policy,
            activation=activation,
            first_scale=first_scale,
            first_bias=first_bias,
        )
        self.prior = distribution_from(prior)
        self.scaling = scaling
        self.posterior_units = tuple(posterior_units)
        self.posterior = make_posterior(
            posterior, self.posterior_units, self.dtype_policy
        )
        self.kl_tolerance = kl_tolerance
        self.drift_tolerance = drift_tolerance
        self.kl_geco = self._geco(kl_tolerance)
        self.drift_geco = self._geco(drift_tolerance)
        self.num_samples = num_samples
        self.seed = seed
        self.inner_steps = 1
        self._add_counters()
        self._elbo = keras.metrics.Mean("elbo")
        self._kl = keras.metrics.Mean("kl") if kl_tolerance else None
        self._drift = keras.metrics.Mean("drift") if drift_tolerance else None
        self._compiled_sums = tf.function(self._sums, reduce_retracing=True)
        self._compiled_push = tf.function(self._push, reduce_retracing=True)
        self._compiled_path = tf.function(
            self._states_along, reduce_retracing=True
        )

    def build(self, shape):
        self.dim = shape[-1]
        half = (None, self.dim)
        if self._given:
            self.hamiltonians = list(self.energies)
            for hamiltonian in self.hamiltonians:
                build_once(hamiltonian, half, half)
        else:
            build_once(self.energies, half, half)
            count = self.energies.count
            self.hamiltonians = [self.energies.at(i) for i in range(count)]
        build_once(self.posterior, half)
        steps = self.num_steps
        if self.shared:
            # As one long flow, the steps merge their half kicks.
            steps *= self.num_hamiltonians
        self.flows = [
            LeapfrogFlow(hamiltonian, steps, self._step_length(index))
            for index, hamiltonian in enumerate(self.hamiltonians)
        ]
        self.affine = self._data_scaling() if self.scaling else None
        with tf.init_scope():  # Its constants outlive the graph of a trace.
            self.state_prior = phase_prior(
                self.prior, self.dim, self.compute_dtype
            )
        if self.kl_geco and not hasattr(self.state_prior, "distributions"):
            raise ValueError(
                "`kl_tolerance` needs a prior of p apart: a name, a "
                "distribution of one number, or a pair (q, p). Received: "
                f"{self.prior}."
            )
        self.built = True

    def adapt(self, points) -> None:
        """Starts the data scaling at the mean and deviation of points.

        As `keras.layers.Normalization.adapt`, before `fit`.

        Args:
          points: Array [rows, dim].
        Raises: ValueError: if the model has no `scaling`, or as `fit`.
        """
        if not self.scaling:
            raise ValueError(
                "`adapt` needs a data scaling: NHF(scaling=True). "
                "Received: scaling=False."
            )
        points = self._prepare(points)
        flat = np.zeros(self.dim)  # Of p, of which the points say nothing.
        self.shift.assign(np.concatenate([points.mean(axis=0), flat]))
        log_scale = np.log(points.std(axis=0))
        self.log_scale.assign(np.concatenate([log_scale, flat]))

    def fit(self, x=None, *args, **kwargs):
        """As `keras.Model.fit`, on points [rows, dim] or batches of them.

        A tf.data.Dataset is not searched for NaN: such a step is dropped.
        """
        x = self._prepare(x)
        if self.compiled:
            # Variables made in a trace have it made twice.
            self.optimizer.build(self.trainable_variables)
        if isinstance(x, tf.data.Dataset):
            # It comes in its own order; Keras would warn that it keeps it.
            kwargs.setdefault("shuffle", False)
        return super().fit(x, *args, **kwargs)

    def evaluate(self, x=None, *args, **kwargs):
        """As `keras.Model.evaluate`: the ELBO of points."""
        return super().evaluate(self._prepare(x), *args, **kwargs)

    def call(self, q, training=False):
        shape = tf.concat([[1], tf.shape(q)], axis=0)
        weighed = self._weigh(q, self._noise(shape, 1))
        return NHFOutput(
            split_state(weighed.start[0]),
            split_state(weighed.end[0]),
            weighed.log_weight[0],
        )

    def _step_length(self, index):
        if not self.learn_dt:
            return self.dt
        return self.add_weight(
            name=f"dt_{index}", initializer=keras.initializers.Constant(self.dt)
        )

    def _data_scaling(self):
        shape = (2 * self.dim,)
        self.shift = self.add_weight(shape, "zeros", name="shift")
        self.log_scale = self.add_weight(shape, "zeros", name="log_scale")
        scale = tfp.bijectors.Scale(log_scale=self.log_scale.value)
        return tfp.bijectors.Shift(self.shift.value)(scale)

    def _geco(self, tolerance):
        if tolerance is None:
            return None
        return losses.Geco(tolerance, dtype=self.dtype_policy)

    def _prepare(self, x):
        dim = self.dim if self.built else None
        x = check_training_points(x, dim, self.compute_dtype)
        if not self.built:
            spec = x.element_spec if isinstance(x, tf.data.Dataset) else x
            self.build((None, points_in(spec).shape[-1]))
        return x

    def get_config(self):
        serialize = keras.saving.serialize_keras_object
        return {
            **super().get_config(),
            **{name: getattr(self, name) for name in _PLAIN_ARGUMENTS},
            "hamiltonians": [serialize(part) for part in self.energies]
            if self._given
            else None,
            "prior": distribution_config(self.prior),
            "posterior": serialize(self.posterior),
        }
