"""What a Neural Hamiltonian Flow is asked: densities, samples, paths."""

from typing import NamedTuple

import tensorflow as tf
import tensorflow_probability as tfp

from hgn_tf import integrators
from hgn_tf.models.flow_path import advance_through
from hgn_tf.models.points import check_points
from hgn_tf.networks import split_state
from hgn_tf.phase import PhaseState

# States pushed through the flow at a time outside of training: about 200 MB
# with hidden layers of 128.
_STATES_AT_ONCE = 2**16


class NHFOutput(NamedTuple):
    """One guess of the momentum of each point of a batch.

    start: the PhaseState at the prior's end of the flow, q and p [batch, dim];
    end: that at the data's end, whose q are the points; log_weight [batch]:
    ln of joint density over f(p | q), of which the ELBO is the expectation.
    """

    start: PhaseState
    end: PhaseState
    log_weight: tf.Tensor


class Importance(NamedTuple):
    """What n guesses of the momentum say of each point's density, [batch].

    log_prob: ln of the mean weight, IWAE-n; elbo: mean of the ln;
    effective_samples: (sum w)^2 / sum w^2, between 1 and n.
    """

    log_prob: tf.Tensor
    elbo: tf.Tensor
    effective_samples: tf.Tensor


class Weighed(NamedTuple):
    """States q and p joined [samples, batch, 2 dim] and their ln densities.

    log_weight and log_momentum, ln f(p | q), are [samples, batch]; drift is
    the mean |change of H| by leapfrog, 0 unless it is constrained.
    """

    start: tf.Tensor
    end: tf.Tensor
    log_weight: tf.Tensor
    log_momentum: tf.Tensor
    drift: tf.Tensor


class FlowDensity:
    """The uses of a flow over phase space as a density of q.

    For a `keras.Model` with the attributes dim, flows, affine, state_prior,
    posterior and hamiltonians.
    """

    @property
    def bijector(self) -> tfp.bijectors.Bijector:
        """The whole flow, from (q_0, p_0) to (q_T, p_T) joined, [2 dim]."""
        parts = [self.affine] if self.affine else []
        return tfp.bijectors.Chain([*parts, *reversed(self.flows)])

    @property
    def joint(self) -> tfp.distributions.Distribution:
        """The density of (q_T, p_T) joined, exact, event shape [2 dim]."""
        return tfp.distributions.TransformedDistribution(
            self.state_prior, self.bijector
        )

    def importance(
        self, q, num_samples: int = 1000, seed: int = 0
    ) -> Importance:
        """The density of points, by importance sampling of their momenta.

        Memory is bounded: rows, and past 65,536 samples these too, go through
        the flow in parts.

        Args:
          q: Points [batch, dim], finite.
          num_samples: Momenta drawn for each point from f(p | q), 1 or more.
          seed: Of the momenta.
        Returns: Importance of shape [batch].
        Raises: ValueError: if shapes do not fit or a value is not finite.
        """
        q = self._check_points(q)
        if num_samples < 1:
            raise ValueError(
                f"`num_samples` must be at least 1. Received: {num_samples}."
            )
        count = min(num_samples, _STATES_AT_ONCE)
        rows, found, part = _STATES_AT_ONCE // count, [], 0
        for row in range(0, q.shape[0], rows):
            sums = None
            for first in range(0, num_samples, count):
                more = self._compiled_sums(
                    q[row : row + rows],
                    tf.constant(min(count, num_samples - first)),
                    tf.constant([seed, part], tf.int64),
                )
                sums = more if sums is None else _add_sums(sums, more)
                part += 1
            found.append(sums)
        total, squares, mean = (tf.concat(part, 0) for part in zip(*found))
        log_count = tf.math.log(tf.cast(num_samples, total.dtype))
        return Importance(
            total - log_count,
            mean / num_samples,
            tf.exp(2.0 * total - squares),
        )

    def log_prob(self, q, num_samples: int = 1000, seed: int = 0) -> tf.Tensor:
        """The density ln p(q) of points, [batch]: IWAE, in expectation a bound.

        It rises with the number of samples and ends at the exact value.
        Arguments and errors as in `importance`.
        """
        return self.importance(q, num_samples, seed).log_prob

    def elbo(self, q, num_samples: int = 1, seed: int = 0) -> tf.Tensor:
        """The evidence lower bound of points, [batch], mean over samples.

        Arguments and errors as in `importance`.
        """
        return self.importance(q, num_samples, seed).elbo

    def sample(self, n: int, seed: int = 0) -> tf.Tensor:
        """Points drawn from the model, [n, dim].

        Raises: ValueError: if the model is not built.
        """
        start = self._draw(n, seed)
        points = [
            self._compiled_push(start[row : row + _STATES_AT_ONCE])
            for row in range(0, n, _STATES_AT_ONCE)
        ]
        return split_state(tf.concat(points, axis=0)).q

    def trajectory(self, n: int, seed: int = 0) -> PhaseState:
        """States along the flow, after every leapfrog step, from the prior's.

        The last q are those of `sample`; all are in the data's coordinates.

        Returns: PhaseState of shape [n, 1 + leapfrog steps, dim].
        Raises: ValueError: if the model is not built.
        """
        return self._compiled_path(self._draw(n, seed))

    def kinetic(self, p, index: int = 0) -> tf.Tensor:
        """K(p) of Hamiltonian `index`, [batch]; its offset is free."""
        return self.hamiltonians[index].kinetic(self._check_points(p, "p"))

    def potential(self, q, index: int = 0) -> tf.Tensor:
        """V(q) of Hamiltonian `index`, [batch]; its offset is free.

        In the flow's own coordinates, before a data scaling layer.
        """
        return self.hamiltonians[index].potential(self._check_points(q))

    def _check_points(self, points, name="q"):
        dim = self.dim if self.built else None
        points = check_points(points, dim, self.compute_dtype, name)
        if not self.built:
            self.build((None, points.shape[1]))
        return points

    def _weigh(self, q, noise):
        """Weighed: what momenta from [samples, batch, dim] noise give."""
        p, log_momentum = self.posterior(self._scaled(q), noise)
        end = tf.concat([tf.broadcast_to(q, tf.shape(p)), p], axis=-1)
        state, log_det = end, tf.zeros([], q.dtype)
        if self.affine:
            state = self.affine.inverse(end)
            log_det = self.affine.inverse_log_det_jacobian(end, 1)
        drift = tf.zeros([], q.dtype)
        if not self.drift_geco:
            state = advance_through(self.flows, state, -1)
        for flow in reversed(self.flows) if self.drift_geco else ():
            after, state = state, flow.inverse(state)
            change = _energy(flow, after) - _energy(flow, state)
            drift += tf.reduce_mean(tf.abs(change)) / len(self.flows)
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
                tf.convert_to_tensor(flow.dt, state.dtype),
                flow.num_steps,
                unroll=True,
            )
            pieces.append(tf.concat(part, axis=-1)[:, 1:])
        path = tf.concat(pieces, axis=1)
        return split_state(self.affine.forward(path) if self.affine else path)

    def _draw(self, n, seed):
        if not self.built:
            raise ValueError(
                "The model must know the dimension of its points: call `fit` "
                "or `build((None, dim))`. Received: a model not yet built."
            )
        if n < 1:
            raise ValueError(f"`n` must be at least 1. Received: {n}.")
        return self.state_prior.sample(n, tf.constant([0, seed], tf.int32))


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
