"""Optimiser steps: counted, with noise of their own, left out if not finite."""

import tensorflow as tf


class CountedSteps:
    """For a `keras.Model` with a `seed`: its counters, noise and means."""

    def _add_counters(self):
        self.steps = self._counter("steps")
        self.dropped_steps = self._counter("dropped_steps")

    def _counter(self, name):
        return self.add_weight(
            name=name,
            dtype="int64",
            initializer="zeros",
            trainable=False,
            aggregation="only_first_replica",
        )

    def _noise_seed(self, purpose):
        """Differs by step, purpose and replica."""
        context = tf.distribute.get_replica_context()
        replica = context.replica_id_in_sync_group if context else 0
        stream = tf.cast(2 * replica + purpose, tf.int64)
        return tf.stack([self.seed * 2**16 + stream, self.steps.value])

    def _descend(self, objective, and_then=lambda *more: None) -> tuple:
        """One step of the optimiser, counted, and left out if not finite.

        Args:
          objective: Callable () -> (loss, *more).
          and_then: Called with `more` when the step is made.
        Returns: what `objective` gave.
        """
        with tf.GradientTape() as tape:
            loss, *more = objective()
            # Keras sums the gradients of replicas.
            share = loss / tf.distribute.get_strategy().num_replicas_in_sync
        gradients = tape.gradient(
            share,
            # TensorFlow cannot make the zeros of a Keras variable.
            [variable.value for variable in self.trainable_variables],
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )
        self.dropped_steps.assign_add(
            _apply_if_finite(self, gradients, lambda: and_then(*more))
        )
        self.steps.assign_add(1)
        return loss, *more

    def _track(self, *pairs):
        """Updates means (tracker, value) with the values that are finite."""
        for tracker, value in pairs:
            # A dropped step must not turn the epoch's mean into NaN.
            finite = tf.math.is_finite(value)
            tracker.update_state(
                tf.where(finite, value, 0.0), tf.cast(finite, tf.float32)
            )


def _apply_if_finite(model, gradients, and_then) -> tf.Tensor:
    """Applies gradients of the trainable variables, unless one is not finite.

    A step that is left out changes neither weights nor optimiser, so a NaN
    frame costs one step and not the model.

    Args:
      model: Keras model with an optimiser.
      gradients: One for each of `model.trainable_variables`.
      and_then: Called without arguments when the step is made.
    Returns: 1 if the step was dropped, else 0 (int64).
    """
    variables = model.trainable_variables
    finite = tf.reduce_all(
        [tf.reduce_all(tf.math.is_finite(part)) for part in gradients]
    )
    model.optimizer.build(variables)

    def apply(parts):
        model.optimizer.apply(parts, variables)
        and_then()
        return tf.constant(0, tf.int64)

    if tf.distribute.get_strategy().num_replicas_in_sync == 1:
        return tf.cond(
            finite,
            lambda: apply(gradients),
            lambda: tf.constant(1, tf.int64),
        )
    # Replicas update together, so none can leave a step out alone: there the
    # bad gradients count as zero.
    apply([tf.where(finite, part, tf.zeros_like(part)) for part in gradients])
    bad = tf.distribute.get_replica_context().all_reduce(
        tf.distribute.ReduceOp.SUM, tf.cast(~finite, tf.int32)
    )
    return tf.cast(bad > 0, tf.int64)
