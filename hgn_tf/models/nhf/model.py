"""Neural Hamiltonian Flows: Hamiltonian dynamics as a density model."""

import os
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from hgn_tf import integrators, losses
from hgn_tf.models.batches import STEP, WHOLE, Batch
from hgn_tf.models.exports import export, spec
from hgn_tf.models.nhf.forms import arguments_from
from hgn_tf.models.nhf.leapfrog import (
    FlowChain,
    LeapfrogFlow,
    ScaleShift,
    StackedHamiltonian,
    advance_through,
    in_precision,
)
from hgn_tf.models.nhf.points import (
    admit_points,
    check_built,
    check_draws,
    check_points,
    check_precision,
    draw_seed,
)
from hgn_tf.models.nhf.priors import (
    Prior,
    distribution_config,
    distribution_from,
    phase_prior,
)
from hgn_tf.models.steps import GuardedModel
from hgn_tf.networks import (
    build_once,
    layer_from,
    serializable,
    split_state,
)
from hgn_tf.phase import PhaseState, is_separable

# Kept as they came, and saved so.
_PLAIN_ARGUMENTS = (
    "num_steps",
    "dt",
    "learn_dt",
    "scaling",
    "kl_tolerance",
    "drift_tolerance",
    "num_samples",
    "seed",
)
# States pushed through the flow at a time outside of training: about 200 MB
# with hidden layers of 128.
_STATES_AT_ONCE = 2**16


class NHFOutput(NamedTuple):
    """One guess of the momentum of each point of a batch.

    Attributes:
      start: PhaseState at the prior's end of the flow, q and p [batch, dim].
      end: PhaseState at the data's end, whose q are the points.
      log_weight: ln of the joint density over f(p | q), [batch]. The ELBO is
        its expectation.
    """

    start: PhaseState
    end: PhaseState
    log_weight: tf.Tensor


class Importance(NamedTuple):
    """Density of each point from n guesses of its momentum.

    Attributes:
      log_prob: ln of the mean weight, IWAE-n, [batch].
      elbo: Mean of ln of the weights, [batch].
      effective_samples: (sum w)^2 / sum w^2, between 1 and n, [batch].
    """

    log_prob: tf.Tensor
    elbo: tf.Tensor
    effective_samples: tf.Tensor


class Weighed(NamedTuple):
    """States q and p joined [samples, batch, 2 dim] and their ln densities.

    log_weight and log_momentum, ln f(p | q), are [samples, batch]; so is
    drift, the mean |change of H| by leapfrog, or 0 if it is not constrained.
    """

    start: tf.Tensor
    end: tf.Tensor
    log_weight: tf.Tensor
    log_momentum: tf.Tensor
    drift: tf.Tensor


@serializable
class NHF(GuardedModel):
    """A density of points q: where Hamiltonian dynamics takes a prior.

    s_0 = (q_0, p_0) ~ prior; s_T = H_T o ... o H_1 (s_0) by leapfrog; the
    data are q_T. `compile(optimizer)` and `fit(points)` train, on points
    [rows, dim] or a tf.data.Dataset of batches of points, the bound

        ELBO(q) = E_f[ln prior(s_0) - ln f(p | q)],  s_0 from (q, p) backward,

    with p ~ f(p | q), the momentum posterior. The prior covers p_0 as well as
    q_0: without it the objective has no bound. A step whose gradients are not
    finite changes nothing but the count `dropped_steps`.

    Paper: Lagrange multipliers of a constraint that is not stated. Here: two
    constraints that leave the ELBO a bound, each a penalty by `losses.Geco`.
    Both are off by default. The metric `elbo` is without them.

    Args:
      hamiltonian: The Hamiltonians H_1 ... H_T: a `StackedHamiltonian`, a
        list of layers with kinetic(p) and potential(q), or one such layer.
        `nhf_networks` makes it, with the posterior.
      posterior: Layer f(p | q), as in `posteriors`.
      prior: Density of (q_0, p_0), as `priors.phase_prior` takes it. Defaults
        to "normal".
      num_steps: int. Leapfrog steps per Hamiltonian. Defaults to 1.
      dt: float. Length of a step. Defaults to 0.5.
      learn_dt: bool. Whether it is learned, for each Hamiltonian. Defaults to
        False.
      scaling: bool. Whether the flow ends with a learned scale and shift of
        each q and p, which `adapt(points)` starts at those of the points.
        Defaults to False.
      kl_tolerance: float. Nats that KL(f(p | q) || prior(p)) may have; None
        for any.
      drift_tolerance: float. Mean |change of H| that leapfrog may leave; None
        for any.
      num_samples: int. Momenta per point in a training step. Defaults to 1.
      seed: int. Seed of the training noise. The noise of a step depends on
        the seed and the number of steps alone, so a resumed run is the same
        run; XLA has noise of its own. Defaults to 0.
    Attributes:
      hamiltonians: The Hamiltonians in the order of the flow, once built.
      flows: The `LeapfrogFlow` of each Hamiltonian, once built.
    Call: q [batch, dim] -> NHFOutput, one momentum per point.
    Raises: ValueError: for an argument out of its range, layers that compute
      in another precision, and for points of another width, that are not
      finite, or with a column that is constant.
    Source: Toth et al., Hamiltonian Generative Networks (2019), section 3.3.
    """

    def __init__(
        self,
        hamiltonian: keras.layers.Layer | list[keras.layers.Layer],
        posterior: keras.layers.Layer,
        *,
        prior: Prior = "normal",
        num_steps: int = 1,
        dt: float = 0.5,
        learn_dt: bool = False,
        scaling: bool = False,
        kl_tolerance: float | None = None,
        drift_tolerance: float | None = None,
        num_samples: int = 1,
        seed: int = 0,
        **kwargs,
    ):
        super().__init__(seed, **kwargs)
        check_precision(self.dtype_policy)
        integrators.check_dt(dt)
        integrators.check_count("num_steps", num_steps)
        integrators.check_count("num_samples", num_samples)
        for name, value in (
            ("kl_tolerance", kl_tolerance),
            ("drift_tolerance", drift_tolerance),
        ):
            if value is not None and not 0 < value < float("inf"):
                raise ValueError(
                    f"`{name}` must be positive and finite, or None. "
                    f"Received: {value}."
                )
        # Saved files know the weights of the Hamiltonians by this name.
        self.energies = _stack_or_list(hamiltonian)
        self.posterior = posterior
        self.prior = prior
        self.num_steps = num_steps
        self.dt = dt
        self.learn_dt = learn_dt
        self.scaling = scaling
        self.kl_tolerance = kl_tolerance
        self.drift_tolerance = drift_tolerance
        self.kl_geco = self._geco(kl_tolerance)
        self.drift_geco = self._geco(drift_tolerance)
        self.num_samples = num_samples
        self._elbo = keras.metrics.Mean("elbo")
        self._kl = keras.metrics.Mean("kl") if kl_tolerance else None
        self._drift = keras.metrics.Mean("drift") if drift_tolerance else None
        self._compiled_sums = tf.function(self._sums, reduce_retracing=True)
        self._compiled_push = tf.function(self._push, reduce_retracing=True)
        self._compiled_path = tf.function(
            self._states_along, reduce_retracing=True
        )

    def build(self, shape: tuple) -> None:
        self.dim = shape[-1]
        half = (None, self.dim)
        if isinstance(self.energies, StackedHamiltonian):
            build_once(self.energies, half, half)
            count = self.energies.count
            self.hamiltonians = [self.energies.at(i) for i in range(count)]
        else:
            self.hamiltonians = list(self.energies)
            for hamiltonian in self.hamiltonians:
                build_once(hamiltonian, half, half)
        build_once(self.posterior, half)
        self.flows = [
            LeapfrogFlow(hamiltonian, self.num_steps, self._step_length(index))
            for index, hamiltonian in enumerate(self.hamiltonians)
        ]
        self.affine = self._data_scaling() if self.scaling else None
        with tf.init_scope():  # Its constants outlive the graph of a trace.
            self.state_prior = phase_prior(
                self.prior, self.dim, self.compute_dtype
            )
            self._check_layers()
        parts = getattr(self.state_prior, "distributions", ())
        if self.kl_geco and [x.event_shape for x in parts] != 2 * [(self.dim,)]:
            raise ValueError(
                "`kl_tolerance` needs a prior of p apart: a name, a "
                "distribution of one number, or a pair (q, p). Received: "
                f"{self.prior}."
            )
        self.built = True

    def adapt(self, points: np.ndarray) -> None:
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
        batch = self._admit(Batch(points), "fit", WHOLE)
        self._build_for(batch)
        points = batch.x
        flat = np.zeros(self.dim)  # Of p, of which the points say nothing.
        self.shift.assign(np.concatenate([points.mean(axis=0), flat]))
        log_scale = np.log(points.std(axis=0))
        self.log_scale.assign(np.concatenate([log_scale, flat]))

    def fit(
        self, x: Any = None, y: None = None, *args, **kwargs
    ) -> keras.callbacks.History:
        """As `keras.Model.fit`, on points [rows, dim] or batches of them.

        Batches of a dataset or a generator are not searched for NaN: such a
        step is dropped. They may be (points, None, sample weights).
        """
        return super().fit(x, y, *args, **kwargs)

    def evaluate(self, x: Any = None, y: None = None, *args, **kwargs) -> Any:
        """As `keras.Model.evaluate`: the ELBO, `num_samples` momenta each."""
        return super().evaluate(x, y, *args, **kwargs)

    def call(self, q: tf.Tensor, training: bool = False) -> NHFOutput:
        q = tf.cast(q, self.compute_dtype)
        shape = tf.concat([[1], tf.shape(q)], axis=0)
        weighed = self._weigh(q, self._draw_noise(shape, 1), training)
        return NHFOutput(
            split_state(weighed.start[0]),
            split_state(weighed.end[0]),
            weighed.log_weight[0],
        )

    def export(self, filepath: str | os.PathLike, *args, **kwargs) -> None:
        """Writes a SavedModel, which runs without Keras and this package.

        - serve: q [batch, dim] -> log_prob, elbo and effective_samples, each
          [batch], as `importance` with its defaults.
        - sample: num_samples, seed -> q [num_samples, dim].

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
            start = self.state_prior.sample(num_samples, seed)
            return {"q": split_state(self._push(start)).q}

        points = [spec("q", [None, self.dim], self.compute_dtype)]
        return {
            "serve": (lambda q: self.importance(q)._asdict(), points),
            "sample": (sample, [spec("num_samples"), spec("seed")]),
        }

    @property
    def bijector(self) -> tfp.bijectors.Bijector:
        """The whole flow, from (q_0, p_0) to (q_T, p_T) joined, [2 dim].

        It follows the weights of the model as they change.
        """
        check_built(self)
        return FlowChain(self.flows, self.affine)

    @property
    def joint(self) -> tfp.distributions.Distribution:
        """The density of (q_T, p_T) joined, exact, event shape [2 dim]."""
        check_built(self)
        return tfp.distributions.TransformedDistribution(
            self.state_prior, self.bijector
        )

    def importance(
        self, q: np.ndarray | tf.Tensor, num_samples: int = 1000, seed: int = 0
    ) -> Importance:
        """The density of points, by importance sampling of their momenta.

        Memory is bounded: rows, and past 65,536 samples these too, go through
        the flow in parts.

        Args:
          q: Points [batch, dim], finite.
          num_samples: int. Momenta drawn per point from f(p | q), 1 or more.
            Defaults to 1000.
          seed: int. Seed of the momenta. Defaults to 0.
        Returns: Importance of shape [batch].
        Raises: ValueError: if shapes do not fit or a value is not finite.
        """
        q = self._check_points(q)
        num_samples = check_draws("num_samples", num_samples)
        seed = tf.cast(seed, tf.int64)
        count = min(num_samples, _STATES_AT_ONCE)
        rows, blocks = _STATES_AT_ONCE // count, -(-num_samples // count)

        def sums_of(part):
            """What all samples of the rows of a part give."""
            sums = None
            for block in range(blocks):
                more = self._compiled_sums(
                    q[part * rows : (part + 1) * rows],
                    tf.constant(min(count, num_samples - block * count)),
                    tf.stack([seed, tf.cast(part * blocks + block, tf.int64)]),
                )
                sums = more if sums is None else _add_sums(sums, more)
            return sums

        total, squares, mean = _over_parts(sums_of, q, rows)
        log_count = tf.math.log(tf.cast(num_samples, total.dtype))
        return Importance(
            total - log_count,
            mean / num_samples,
            tf.exp(2.0 * total - squares),
        )

    def log_prob(
        self, q: np.ndarray | tf.Tensor, num_samples: int = 1000, seed: int = 0
    ) -> tf.Tensor:
        """The density ln p(q) of points, [batch]: IWAE, in expectation a bound.

        It rises with the number of samples and ends at the exact value.
        Arguments and errors as in `importance`.
        """
        return self.importance(q, num_samples, seed).log_prob

    def elbo(
        self, q: np.ndarray | tf.Tensor, num_samples: int = 1, seed: int = 0
    ) -> tf.Tensor:
        """The evidence lower bound of points, [batch], mean over samples.

        Arguments and errors as in `importance`.
        """
        return self.importance(q, num_samples, seed).elbo

    def sample(
        self, n: int | tf.Tensor, seed: int | tf.Tensor = 0
    ) -> tf.Tensor:
        """Points drawn from the model, [n, dim].

        Args:
          n: int, or a tensor within a graph. Number of points, 1 or more.
          seed: int or scalar tensor. Equal seeds give equal points. Defaults
            to 0.
        Raises: ValueError: if the model is not built, or n below 1.
        """
        start = self._draw(n, seed)
        if start.shape[0] is None:
            return split_state(self._push(start)).q
        points = [
            self._compiled_push(start[row : row + _STATES_AT_ONCE])
            for row in range(0, start.shape[0], _STATES_AT_ONCE)
        ]
        return split_state(tf.concat(points, axis=0)).q

    def trajectory(
        self, n: int | tf.Tensor, seed: int | tf.Tensor = 0
    ) -> PhaseState:
        """States along the flow, after every leapfrog step, from the prior's.

        The last q are those of `sample`; all are in the data's coordinates.

        Arguments and errors as in `sample`.

        Returns: PhaseState of shape [n, 1 + leapfrog steps, dim].
        """
        return self._compiled_path(self._draw(n, seed))

    def kinetic(self, p: np.ndarray | tf.Tensor, index: int = 0) -> tf.Tensor:
        """K(p) of Hamiltonian `index` at p [batch, dim]; its offset is free.

        Returns: [batch].
        Raises: ValueError: if p does not fit or is not finite.
        """
        p = self._check_points(p, "p")
        return self.hamiltonians[index].kinetic(p)

    def potential(self, q: np.ndarray | tf.Tensor, index: int = 0) -> tf.Tensor:
        """V(q) of Hamiltonian `index` at q [batch, dim]; its offset is free.

        The q are in the flow's own coordinates, before a data scaling.

        Returns: [batch].
        Raises: ValueError: if q does not fit or is not finite.
        """
        q = self._check_points(q)
        return self.hamiltonians[index].potential(q)

    def test_step(self, data) -> dict:
        batch = self._look(Batch.of(data), "evaluate", STEP)
        batch, present = self._with_a_row(batch)
        # The mean's own count: other noise for each batch of an evaluation.
        loss, _, means = self._objective(
            batch.x,
            batch.sample_weight,
            purpose=1,
            batch=self._elbo.count,
        )
        rows = present * tf.shape(batch.x)[0]
        weight = batch.sample_weight
        self._track_means(loss, means, rows, weight, training=False)
        return self.get_metrics_result()

    def get_config(self) -> dict:
        serialize = keras.saving.serialize_keras_object
        energies = self.energies
        return {
            **super().get_config(),
            **{name: getattr(self, name) for name in _PLAIN_ARGUMENTS},
            "hamiltonian": serialize(energies)
            if isinstance(energies, StackedHamiltonian)
            else [serialize(layer) for layer in energies],
            "posterior": serialize(self.posterior),
            "prior": distribution_config(self.prior),
        }

    @classmethod
    def from_config(cls, config: dict) -> "NHF":
        config = dict(config)
        if "energy" in config:  # Saved by version 0.1.
            config = arguments_from(config, config.get("dtype"))
        hamiltonian = config.pop("hamiltonian")
        if isinstance(hamiltonian, list):
            hamiltonian = [layer_from(layer) for layer in hamiltonian]
        return cls(
            layer_from(hamiltonian),
            layer_from(config.pop("posterior")),
            prior=distribution_from(config.pop("prior")),
            **config,
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
        return ScaleShift(self.shift.value, self.log_scale.value)

    def _check_layers(self):
        """The layers, called once, give what the model needs of them."""
        q = tf.zeros([1, self.dim], self.compute_dtype)
        p, log_density = self.posterior(q, q[tf.newaxis])
        hamiltonian = self.hamiltonians[0]
        for name, given, shape in (
            ("`hamiltonian.kinetic(p)`", hamiltonian.kinetic(q), [1]),
            ("`hamiltonian.potential(q)`", hamiltonian.potential(q), [1]),
            ("p of `posterior(q, noise)`", p, [1, 1, self.dim]),
            ("ln f(p | q) of `posterior(q, noise)`", log_density, [1, 1]),
        ):
            if given.shape != shape or given.dtype != self.compute_dtype:
                raise ValueError(
                    f"{name} of one point must be {shape}, and "
                    f"{self.compute_dtype} as the model. Received: "
                    f"{given.shape}, {given.dtype.name}."
                )

    def _geco(self, tolerance):
        if tolerance is None:
            return None
        return losses.Geco(tolerance, dtype=self.dtype_policy)

    def _admit(self, batch, purpose, seen):
        dim = self.dim if self.built else None
        return admit_points(batch, purpose, seen, dim, self.compute_dtype)

    def _know(self, purpose, batch):
        super()._know(purpose, batch)
        if purpose == "fit" and self.compiled:
            # Variables made in a trace have it made twice.
            self.optimizer.build(self.trainable_variables)

    def _check_points(self, points, name="q"):
        dim = self.dim if self.built else None
        points = check_points(points, dim, self.compute_dtype, name)
        if not self.built:
            self.build((None, points.shape[1]))
        return points

    def _weigh(self, q, noise, training=False):
        """Weighed: what momenta from [samples, batch, dim] noise give."""
        p, log_momentum = self.posterior(
            self._scaled(q), noise, training=training
        )
        end = tf.concat([tf.broadcast_to(q, tf.shape(p)), p], axis=-1)
        state, log_det = end, tf.zeros([], q.dtype)
        if self.affine:
            state = self.affine.inverse(end)
            log_det -= self.affine.forward_log_det_jacobian(state, 1)
        drift = tf.zeros([], q.dtype)
        if not self.drift_geco:
            state = advance_through(self.flows, state, -1)
        for flow in reversed(self.flows) if self.drift_geco else ():
            after, state = state, flow.inverse(state)
            change = _energy(flow, after) - _energy(flow, state)
            change = tf.reshape(change, tf.shape(p)[:-1])
            drift += tf.abs(change) / len(self.flows)
        log_weight = self.state_prior.log_prob(state) + log_det - log_momentum
        return Weighed(state, end, log_weight, log_momentum, drift)

    def _scaled(self, q):
        """Points before the data scaling, where their spread is about 1."""
        if not self.affine:
            return q
        flat = tf.zeros_like(q)
        return split_state(self.affine.inverse(tf.concat([q, flat], -1))).q

    def _sums(self, q, count, seed):
        """The ln of sums of weights and of their squares; sum of the ln."""
        shape = tf.stack([count, *tf.unstack(tf.shape(q))])
        noise = tf.random.stateless_normal(shape, seed, dtype=q.dtype)
        noise = tf.ensure_shape(noise, [None, *q.shape])
        log_weight = self._weigh(q, noise).log_weight
        return (
            tf.reduce_logsumexp(log_weight, axis=0),
            tf.reduce_logsumexp(2.0 * log_weight, axis=0),
            tf.reduce_sum(log_weight, axis=0),
        )

    def _push(self, state):
        state = advance_through(self.flows, state)
        return self.affine.forward(state) if self.affine else state

    def _states_along(self, state):
        pieces = [state[:, tf.newaxis]]
        for flow in self.flows:
            part = integrators.rollout(
                flow.hamiltonian,
                split_state(pieces[-1][:, -1]),
                in_precision(flow.dt, state.dtype),
                flow.num_steps,
                unroll=True,
            )
            pieces.append(tf.concat(part, axis=-1)[:, 1:])
        path = tf.concat(pieces, axis=1)
        return split_state(self.affine.forward(path) if self.affine else path)

    def _draw(self, n, seed):
        check_built(self)
        n = check_draws("n", n, symbolic=True)
        return self.state_prior.sample(n, draw_seed(seed))

    def _step(self, batch):
        x, weight, rows = batch["x"], batch.get("sample_weight"), batch["rows"]

        def update_gecos(terms, _):
            for geco, value in terms:
                geco.update(value, None, rows.present)

        loss, _, means = self._descend(
            lambda: self._objective(x, weight, purpose=0),
            rows,
            update_gecos,
        )
        self._track_means(loss, means, rows.count, weight)

    def _track_means(self, loss, means, rows, weight, training=True):
        self._track(
            (self._loss_tracker, loss),
            *means,
            rows=rows,
            sample_weight=weight,
            training=training,
        )

    def _objective(self, q, weight=None, *, purpose, batch=0):
        """The loss, (geco, value) of each constraint, (mean, value) of each.

        Keras's sums over weighted rows are divided by the number of rows, its
        means by the sum of the weights; so are these.
        """
        # Keras hands arrays on as float32.
        q = tf.cast(q, self.compute_dtype)
        shape = tf.concat([[self.num_samples], tf.shape(q)], axis=0)
        noise = self._draw_noise(shape, purpose, batch)
        weighed = self._weigh(q, noise, training=purpose == 0)
        loss = -tf.reduce_mean(weighed.log_weight)
        if weight is not None:
            weight = tf.cast(weight, loss.dtype)
            loss = -tf.reduce_mean(weight * weighed.log_weight)
        elbo = tf.reduce_mean(weighed.log_weight, axis=0)
        terms, means = [], [(self._elbo, elbo)]
        for geco, mean, value in (
            (self.kl_geco, self._kl, self._momentum_kl),
            (self.drift_geco, self._drift, lambda weighed: weighed.drift),
        ):
            if geco:
                value = _mean_over_rows(value(weighed), weight)
                loss = geco.objective(value, loss, num_pixels=1)
                terms.append((geco, value))
                means.append((mean, value))
        return loss + sum(self.losses), terms, means

    def _momentum_kl(self, weighed):
        p = split_state(weighed.end).p
        prior = self.state_prior.distributions[1]
        return weighed.log_momentum - prior.log_prob(p)

    def _draw_noise(self, shape, purpose, batch=0):
        batch = tf.stack([tf.constant(0, tf.int64), tf.cast(batch, tf.int64)])
        seed = self._noise_seed(purpose) + batch
        return tf.random.stateless_normal(shape, seed, dtype=self.compute_dtype)


def _stack_or_list(hamiltonian):
    """The stack as it is; layers, or one layer, as a list."""
    if isinstance(hamiltonian, StackedHamiltonian):
        return hamiltonian
    if not isinstance(hamiltonian, list | tuple):
        hamiltonian = [hamiltonian]
    if not hamiltonian or not all(map(is_separable, hamiltonian)):
        raise ValueError(
            "`hamiltonian` must be a StackedHamiltonian, a layer with methods "
            "kinetic(p) and potential(q), or a list of such layers. "
            f"Received: {hamiltonian}."
        )
    return list(hamiltonian)


def _mean_over_rows(values, weight):
    """The mean of [samples, batch], by the weights of the rows."""
    values = tf.reduce_mean(values, axis=0)
    if weight is None:
        return tf.reduce_mean(values)
    total = tf.reduce_sum(weight * values)
    return tf.math.divide_no_nan(total, tf.reduce_sum(weight))


def _over_parts(function, x, rows):
    """The three results of a function of each part of `rows` of x, joined."""
    if x.shape[0] is not None:
        # Of no rows one part, which has none.
        count = max(1, -(-x.shape[0] // rows))
        parts = [function(part) for part in range(count)]
        return [tf.concat(results, axis=0) for results in zip(*parts)]
    count = -(-tf.shape(x)[0] // rows)

    def body(part, *arrays):
        results = function(part)
        return part + 1, *map(
            lambda array, result: array.write(part, result), arrays, results
        )

    arrays = [
        tf.TensorArray(x.dtype, count, infer_shape=False, element_shape=[None])
        for _ in range(3)
    ]
    found = tf.while_loop(lambda part, *_: part < count, body, (0, *arrays))
    return [array.concat() for array in found[1:]]


def _add_sums(one, two):
    return (
        tfp.math.log_add_exp(one[0], two[0]),
        tfp.math.log_add_exp(one[1], two[1]),
        one[2] + two[2],
    )


def _energy(flow, state):
    # Energies of layers take one batch axis.
    q, p = split_state(tf.reshape(state, [-1, state.shape[-1]]))
    return flow.hamiltonian.kinetic(p) + flow.hamiltonian.potential(q)
