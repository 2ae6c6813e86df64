"""Optimiser steps that are left out when a gradient is not finite."""

import tensorflow as tf


def apply_if_finite(model, gradients, and_then) -> tf.Tensor:
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
