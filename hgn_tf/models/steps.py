"""What the trained models share: counted, repeatable and guarded steps."""

import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from hgn_tf import losses
from hgn_tf.models.batches import STEP, Batch, CheckedModel


class GuardedModel(CheckedModel):
    """A Keras model with an objective of its own.

    Its steps are counted, which saved models and checkpoints keep. The noise
    of a step depends on the seed and the number of steps alone, so a resumed
    run is the same run. A step whose gradients are not finite changes nothing
    but the count `dropped_steps`, so a NaN frame costs one step and not the
    model. The means of an epoch leave out what is not finite. Those of an
    evaluation do not, and a mean of nothing is NaN: a broken model shows.

    A model defines `_step(batch)`, which calls `_descend` and `_track`. The
    batch is a dictionary with "x" and, if they are given, "y" and
    "sample_weight".

    Args:
      seed: Seed of the training noise.
    Attributes:
      steps: Number of steps so far, the dropped ones included.
      dropped_steps: Number of steps that were left out.
      inner_steps: Number of parts that a batch of `fit` is cut into. Each part
        is one step of the optimiser, all in one compiled call.
    """

    def __init__(self, seed: int = 0, **kwargs):
        super().__init__(**kwargs)
        self.seed = seed
        self.inner_steps = 1
        self.steps = self._counter("steps")
        self.dropped_steps = self._counter("dropped_steps")

    def fit(
        self, x: Any = None, y: Any = None, *args, **kwargs
    ) -> keras.callbacks.History:
        """As `keras.Model.fit`, of data that are looked at first."""
        before = self._counts()
        history = super().fit(x, y, *args, **kwargs)
        dropped, steps = self._counts() - before
        if dropped:
            warnings.warn(
                "Steps are left out whose gradients are not finite. Received: "
                f"{dropped} of {steps}; look for NaN in the data, or lower "
                "`dt` or the learning rate.",
                stacklevel=2,
            )
        return history

    def compile(
        self,
        optimizer: str | keras.optimizers.Optimizer = "rmsprop",
        loss: Any = None,
        loss_weights: Any = None,
        metrics: Any = None,
        weighted_metrics: Any = None,
        **kwargs,
    ) -> None:
        """As `keras.Model.compile`, without your own losses and metrics.

        The model has its own objective, which would leave them out silently.

        Raises: ValueError: if a loss or a metric is given.
        """
        others = {
            "loss": loss,
            "loss_weights": loss_weights,
            "metrics": metrics,
            "weighted_metrics": weighted_metrics,
        }
        given = [name for name, value in others.items() if value is not None]
        if given:
            raise ValueError(
                f"{type(self).__name__} has its own objective and metrics: "
                f"compile(optimizer) alone. Received: {given}."
            )
        super().compile(optimizer, **kwargs)

    def compile_from_config(self, config: dict) -> None:
        """Compiles a model that is loaded; Keras asks for it."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.built:
            self.optimizer.build(self.trainable_variables)

    def train_step(self, data) -> dict:
        batch = self._look(Batch.of(data), "fit", STEP)
        run_steps(self._step, batch.parts(), self.inner_steps)
        return {
            **self.get_metrics_result(),
            "dropped_steps": tf.identity(self.dropped_steps.value),
        }

    def get_metrics_result(self) -> dict:
        """As `keras.Model.get_metrics_result`; a mean of nothing is NaN."""
        means = {
            tracker.name: _mean(tracker)
            for tracker in self.metrics
            if isinstance(tracker, keras.metrics.Mean)
        }
        return {**super().get_metrics_result(), **means}

    @property
    def part_weights(self) -> list[keras.Variable]:
        """The weights of the parts: trainable ones, then moving averages.

        Not the counts of steps, nor the multipliers of constraints.
        """
        multipliers = (x for x in self.layers if isinstance(x, losses.Geco))
        others = [self.steps, self.dropped_steps]
        others += [weight for layer in multipliers for weight in layer.weights]
        own = {id(weight) for weight in others}
        weights = [*self.trainable_weights, *self.non_trainable_weights]
        return [weight for weight in weights if id(weight) not in own]

    def _step(self, batch: dict[str, tf.Tensor]) -> None:
        """One step of the optimiser on a batch, by `_descend`."""
        raise NotImplementedError

    def _counts(self):
        counts = (self.dropped_steps, self.steps)
        return np.array([keras.ops.convert_to_numpy(x) for x in counts])

    def _counter(self, name):
        return self.add_weight(
            name=name,
            dtype="int64",
            initializer="zeros",
            trainable=False,
            aggregation="only_first_replica",
        )

    def _noise_seed(self, purpose: int) -> tf.Tensor:
        """Two integers that differ by step, replica and purpose, 0 to 31."""
        context = tf.distribute.get_replica_context()
        replica = context.replica_id_in_sync_group if context else 0
        # The first two purposes lie beside each other: so older runs resume.
        group, place = divmod(purpose, 2)
        stream = tf.cast(2**12 * group + 2 * replica + place, tf.int64)
        return tf.stack([self.seed * 2**16 + stream, self.steps.value])

    def _descend(
        self, objective: Callable, and_then: Callable = lambda *more: None
    ) -> tuple:
        """One step of the optimiser, counted, and left out if not finite.

        Args:
          objective: Callable () -> (loss, *more).
          and_then: Called with `more` when the step is made.
        Returns: what `objective` gave.
        """
        averages = [w for w in self.part_weights if not w.trainable]
        before = [tf.identity(weight.value) for weight in averages]
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
        finite = tf.reduce_all(
            [tf.reduce_all(tf.math.is_finite(part)) for part in gradients]
        )
        for weight, old in zip(averages, before):
            weight.assign(tf.where(finite, weight.value, old))
        self.dropped_steps.assign_add(
            self._apply_if(finite, gradients, lambda: and_then(*more))
        )
        self.steps.assign_add(1)
        return loss, *more

    def _apply_if(self, finite, gradients, and_then) -> tf.Tensor:
        """Applies gradients of the trainable variables, if all are finite.

        A step that is left out changes neither weights nor optimiser.

        Args:
          finite: Whether they are.
          gradients: One for each of `trainable_variables`.
          and_then: Called without arguments when the step is made.
        Returns: 1 if the step was dropped, else 0 (int64).
        """
        variables = self.trainable_variables
        self.optimizer.build(variables)

        def apply(parts):
            self.optimizer.apply(parts, variables)
            and_then()
            return tf.constant(0, tf.int64)

        if tf.distribute.get_strategy().num_replicas_in_sync == 1:
            return tf.cond(
                finite,
                lambda: apply(gradients),
                lambda: tf.constant(1, tf.int64),
            )
        # Replicas update together, so none can leave a step out alone: there
        # the bad gradients count as zero.
        apply(
            [tf.where(finite, part, tf.zeros_like(part)) for part in gradients]
        )
        bad = tf.distribute.get_replica_context().all_reduce(
            tf.distribute.ReduceOp.SUM, tf.cast(~finite, tf.int32)
        )
        return tf.cast(bad > 0, tf.int64)

    def _track(self, *pairs, rows=1, sample_weight=None, training=True) -> None:
        """Updates means, weighed by rows.

        In training the values that are not finite are left out: a dropped step
        must not turn the epoch's mean into NaN. In evaluation they count, all
        but those of a replica that has no rows.

        Args:
          *pairs: (tracker, value), the value a number or [rows].
          rows: Number of rows, which a number is the mean of.
          sample_weight: Weights of the rows [rows], for the values of rows. A
            row of weight 0 does not count.
          training: Whether it is a step of training.
        """
        for tracker, value in pairs:
            if training:
                counted = tf.math.is_finite(value)
            else:
                counted = tf.fill(tf.shape(value), rows > 0)
            if value.shape.rank and sample_weight is not None:
                counted &= sample_weight > 0
            weight = tf.cast(counted, tf.float32)
            if value.shape.rank == 0:
                weight *= tf.cast(rows, tf.float32)
            elif sample_weight is not None:
                weight *= tf.cast(sample_weight, tf.float32)
            tracker.update_state(tf.where(counted, value, 0.0), weight)


def _mean(tracker):
    """The mean so far, over all replicas; NaN if nothing was counted."""
    total, count = (
        tf.convert_to_tensor(part.value)
        for part in (tracker.total, tracker.count)
    )
    replica = tf.distribute.get_replica_context()
    if replica and replica.num_replicas_in_sync > 1:
        total, count = replica.all_reduce("sum", [total, count])
    return total / count


def run_steps(step: Callable, data: Any, count: int) -> None:
    """Cuts a batch into `count` equal parts and makes a step with each.

    Small networks wait for the next batch longer than they compute. So a batch
    of `fit` holds the batches of several steps, one after another.

    Args:
      step: Callable, a part of the data -> anything, as `train_step`.
      data: Tensors, or a structure of tensors, [count * batch, ...].
      count: Number of steps.
    """
    if count == 1:
        step(data)
        return
    parts = tf.nest.map_structure(
        lambda part: tf.reshape(part, [count, -1, *part.shape[1:]]), data
    )

    def one(index):
        step(tf.nest.map_structure(lambda part: part[index], parts))
        return [index + 1]

    tf.while_loop(
        lambda index: index < count, one, [0], maximum_iterations=count
    )


def most_inner_steps(num_steps: int, limit: int = 100) -> int:
    """The largest divisor of `num_steps` that is `limit` or less."""
    return max(count for count in range(1, limit + 1) if num_steps % count == 0)
