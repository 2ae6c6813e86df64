"""Training on a bound of the density: steps, noise, constraints, means."""

import tensorflow as tf

from hgn_tf.models.finite_steps import CountedSteps
from hgn_tf.models.inner_steps import run_steps
from hgn_tf.models.points import points_in
from hgn_tf.networks import split_state


class BoundTraining(CountedSteps):
    """Ascends the ELBO, for a `keras.Model` with `FlowDensity`.

    Further attributes: num_samples, inner_steps, seed, kl_geco, drift_geco
    (None for no constraint) and the means _elbo, _kl and _drift.
    """

    def train_step(self, data):
        run_steps(self._step, points_in(data), self.inner_steps)
        return {
            **self.get_metrics_result(),
            "dropped_steps": tf.identity(self.dropped_steps.value),
        }

    def test_step(self, data):
        # The mean's own count: other noise for each batch of an evaluation.
        self._objective(points_in(data), 1, self._elbo.count)
        return self.get_metrics_result()

    def _step(self, q):
        def update_gecos(terms):
            for geco, value in terms:
                geco.update(value)

        self._descend(lambda: self._objective(q, 0), update_gecos)

    def _objective(self, q, purpose, batch=0):
        """The loss, and (geco, value) of each constraint; updates means."""
        # Keras hands arrays on as float32.
        q = tf.cast(q, self.compute_dtype)
        shape = tf.concat([[self.num_samples], tf.shape(q)], axis=0)
        weighed = self._weigh(q, self._noise(shape, purpose, batch))
        elbo = tf.reduce_mean(weighed.log_weight)
        loss, terms, means = -elbo, [], [(self._elbo, elbo)]
        for geco, mean, value in (
            (self.kl_geco, self._kl, self._momentum_kl),
            (self.drift_geco, self._drift, lambda weighed: weighed.drift),
        ):
            if geco:
                value = value(weighed)
                loss = geco.objective(value, loss, num_pixels=1)
                terms.append((geco, value))
                means.append((mean, value))
        self._track((self._loss_tracker, loss), *means)
        return loss, terms

    def _momentum_kl(self, weighed):
        p = split_state(weighed.end).p
        prior = self.state_prior.distributions[1]
        return tf.reduce_mean(weighed.log_momentum - prior.log_prob(p))

    def _noise(self, shape, purpose, batch=0):
        batch = tf.stack([tf.constant(0, tf.int64), tf.cast(batch, tf.int64)])
        seed = self._noise_seed(purpose) + batch
        return tf.random.stateless_normal(shape, seed, dtype=self.compute_dtype)
