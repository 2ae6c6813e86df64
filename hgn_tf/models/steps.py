"""What the trained models share: counted, repeatable and guarded steps."""

import dataclasses
import inspect
import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from hgn_tf import losses, replicas
from hgn_tf.models.batches import STEP, Batch, CheckedModel

_PACKAGE = __name__.partition(".")[0]
_OVERFLOWED = "overflowed_steps"
# Rows per batch of arrays that several machines evaluate.
_EVALUATED_AT_ONCE = 32


@dataclasses.dataclass(frozen=True)
class Rows:
    """Where the rows of a replica stand in the batch of all replicas.

    Attributes:
      present: 0 where the rows do not count, else 1.
      count: Number of rows that count here.
      first: Number of rows that count on the replicas before.
      total: Number of rows that count on all replicas.
    """

    present: int | tf.Tensor
    count: tf.Tensor
    first: int | tf.Tensor
    total: tf.Tensor

    @classmethod
    def of(cls, part: tf.Tensor, present: int | tf.Tensor = 1) -> "Rows":
        """Of a part of a batch, [rows, ...]; replicas tell each other."""
        count = present * tf.shape(part)[0]
        replica = tf.distribute.get_replica_context()
        if replica.num_replicas_in_sync == 1:
            return cls(present, count, 0, count)
        here = replica.replica_id_in_sync_group
        counts = count * tf.one_hot(
            here, replica.num_replicas_in_sync, dtype=count.dtype
        )
        counts = replica.all_reduce("sum", counts)
        before = tf.cumsum(counts, exclusive=True)
        return cls(present, count, before[here], tf.reduce_sum(counts))


@dataclasses.dataclass(frozen=True)
class Noise:
    """Random numbers of a step, which do not depend on the replicas.

    A row has the numbers that it would have in one process: those of the whole
    batch are drawn, and the rows of this replica taken. So replicas draw other
    numbers, and make the step that one process would make.

    Attributes:
      seed: Two integers.
      rows: Rows of the replica; None for a batch that stands alone.
    """

    seed: tf.Tensor
    rows: Rows | None = None

    def draw(self, sample: Callable, shape: list, **kwargs) -> tf.Tensor:
        """`sample(shape, seed)`, as `tf.random.stateless_normal` is called.

        Args:
          sample: One of TensorFlow's stateless functions.
          shape: Shape of the draws, [rows, ...].
          **kwargs: Further arguments of `sample`.
        """
        rows = self.rows
        if tf.distribute.get_strategy().num_replicas_in_sync == 1 or not rows:
            return sample(shape, self.seed, **kwargs)
        whole = sample([rows.total, *shape[1:]], self.seed, **kwargs)
        # A row that does not count may stand behind the last one.
        first = tf.minimum(rows.first, rows.total - shape[0])
        return whole[first : first + shape[0]]


class GuardedModel(CheckedModel):
    """A Keras model with an objective of its own.

    Its steps are counted, which saved models and checkpoints keep. The noise
    of a step depends on the seed and the number of steps alone, so a resumed
    run is the same run. On several devices or machines `fit` and `evaluate`
    are as on one, on the batches of all. A step whose gradients are not finite
    changes nothing but the count `dropped_steps`, so a NaN frame costs one
    step and not the model. The means of an epoch leave out what is not finite.
    Those of an evaluation do not, and a mean of nothing is NaN: a broken model
    shows.

    Policies such as "mixed_float16" are those of the parts that see or draw
    pictures. States, energies and losses are in the precision of the weights.
    The loss is scaled as the optimizer asks. A step whose gradients overflow
    by the scale of a `keras.optimizers.LossScaleOptimizer` lowers that scale
    and counts in `overflowed_steps`.

    A model defines `_step(batch)`, which calls `_descend` and `_track`. The
    batch is a dictionary with "x", "rows" and, if they are given, "y" and
    "sample_weight".

    Args:
      seed: Seed of the training noise.
    Attributes:
      steps: Number of steps so far, the dropped ones included.
      dropped_steps: Number of steps that were left out.
      overflowed_steps: Number of steps that lowered a scale of the loss
        instead.
      inner_steps: Number of parts that a batch of `fit` is cut into. Each part
        is one step of the optimiser, all in one compiled call.
    """

    train_function: Callable | None
    test_function: Callable | None
    # Whether XLA may be on if nobody says. Keras has it on GPUs alone then.
    _xla_by_default = True

    def __init__(self, seed: int = 0, **kwargs):
        # Keras would round videos to half precision before `call` sees them.
        super().__init__(autocast=False, **kwargs)
        if not self._xla_by_default:
            self.jit_compile = False
        if self.variable_dtype not in ("float32", "float64"):
            raise ValueError(
                "`dtype` must be 'float32', 'float64', 'mixed_float16' or "
                f"'mixed_bfloat16'. Received: {self.dtype_policy.name!r}."
            )
        self.seed = seed
        self.inner_steps = 1
        self.steps = self._counter("steps")
        self.dropped_steps = self._counter("dropped_steps")
        # Not a weight of Keras's: files of before have none.
        self.overflowed_steps = tf.Variable(
            0,
            trainable=False,
            dtype=tf.int64,
            aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
        )

    def fit(
        self, x: Any = None, y: Any = None, *args, **kwargs
    ) -> keras.callbacks.History:
        """As `keras.Model.fit`, of data that are looked at first."""
        before = self._counts()
        history = super().fit(x, y, *args, **kwargs)
        dropped, steps = self._counts() - before
        if dropped:
            warn_caller(
                "Steps are left out whose gradients are not finite. Received: "
                f"{dropped} of {steps}; look for NaN in the data, or lower "
                "`dt` or the learning rate."
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
        On videos XLA is on with `jit_compile=True` alone: it compiles for
        long, and on a CPU it makes convolutions slower. It is for one device.

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
        if not self._xla_by_default and kwargs.get("jit_compile") in (
            None,
            "auto",
        ):
            kwargs["jit_compile"] = False
        super().compile(optimizer, **kwargs)

    def make_train_function(self, force: bool = False) -> Callable:
        """As `keras.Model.make_train_function`."""
        self._check_xla()
        # Variables made in a trace would have it made twice.
        self._build_optimizer()
        if not replicas.is_multi_worker(self.distribute_strategy):
            return super().make_train_function(force)
        if self.train_function is None or force:
            self.train_function = self._on_workers(self.train_step)
        return self.train_function

    def make_test_function(self, force: bool = False) -> Callable:
        """As `keras.Model.make_test_function`."""
        self._check_xla()
        if not replicas.is_multi_worker(self.distribute_strategy):
            return super().make_test_function(force)
        if self.test_function is None or force:
            self.test_function = self._on_workers(self.test_step)
        return self.test_function

    def _check_xla(self):
        """XLA has no sums over replicas."""
        count = self.distribute_strategy.num_replicas_in_sync
        if self.jit_compile and count > 1:
            raise ValueError(
                "`jit_compile` must be False on several devices or machines. "
                f"Received: True for {count} of them."
            )

    def _on_workers(self, step):
        """Callable (iterator) -> logs, as Keras calls it in `fit`.

        Keras's own takes the mean of the logs over their first axis, and a
        number has none. The logs here are those of all replicas already.
        """
        strategy = self.distribute_strategy

        @tf.autograph.experimental.do_not_convert
        def several(iterator):
            for _ in range(self.steps_per_execution):
                logs = strategy.run(step, args=(iterator.get_next(),))
            local = strategy.experimental_local_results
            return {name: local(value)[0] for name, value in logs.items()}

        if self.run_eagerly:
            return several
        compiled = tf.function(several, reduce_retracing=True)
        # A plain function, as Keras's own: TensorBoard looks into others.
        return lambda iterator: compiled(iterator)

    def _maybe_symbolic_build(self, *args, **kwargs):
        """Nothing: `_open` has built the model, and the losses are its own.

        Keras would take the mean over replicas of their first batches, which
        replicas of unlike numbers of rows do not have.
        """

    def _open(self, purpose, batch):
        batch = super()._open(purpose, batch)
        if not replicas.is_multi_worker(self.distribute_strategy):
            return batch
        if purpose == "predict":
            raise ValueError(
                "`predict` must be called in a process of its own, with the "
                "saved model. Received: a model of several machines."
            )
        data = batch.x
        if isinstance(data, tf.distribute.DistributedDataset):
            return batch
        if not isinstance(data, tf.data.Dataset):
            if purpose == "fit":
                raise ValueError(
                    "On several machines `fit` must be given a "
                    "tf.data.Dataset of the whole batches, in the same order "
                    f"on each. Received: {type(data).__name__}."
                )
            parts = tuple(part for part in batch if part is not None)
            data = tf.data.Dataset.from_tensor_slices(parts)
            data = data.batch(_EVALUATED_AT_ONCE)
        return Batch(replicas.spread(data, self.distribute_strategy))

    def save_own_variables(self, store: dict) -> None:
        """Writes the model's own weights; Keras asks for it."""
        super().save_own_variables(store)
        if count := int(self.overflowed_steps.numpy()):
            store[_OVERFLOWED] = count

    def load_own_variables(self, store: dict) -> None:
        """Reads what `save_own_variables` wrote; Keras asks for it."""
        store = {key: store[key] for key in store.keys()}
        self.overflowed_steps.assign(int(np.array(store.pop(_OVERFLOWED, 0))))
        super().load_own_variables(store)

    def train_step(self, data) -> dict:
        batch = self._look(Batch.of(data), "fit", STEP)
        batch, present = self._with_a_row(batch)

        def step(parts):
            self._step({**parts, "rows": Rows.of(parts["x"], present)})

        run_steps(step, batch.parts(), self.inner_steps)
        logs = {
            **self.get_metrics_result(),
            "dropped_steps": tf.identity(self.dropped_steps.value),
        }
        if self._scales_loss:
            logs["overflowed_steps"] = tf.identity(self.overflowed_steps)
        return logs

    def get_metrics_result(self) -> dict:
        """As `keras.Model.get_metrics_result`; a mean of nothing is NaN."""
        trackers = [
            tracker
            for tracker in self.metrics
            if isinstance(tracker, keras.metrics.Mean)
        ]
        means = {x.name: mean for x, mean in zip(trackers, _means(trackers))}
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

    def _with_a_row(self, batch):
        """A batch that has a row, and 0 if that does not count, else 1.

        Of few rows some replicas get none, of which some layers make errors.
        Such a replica gets a row of zeros.
        """
        if tf.distribute.get_strategy().num_replicas_in_sync == 1:
            return batch, 1
        present = tf.minimum(tf.shape(batch.x)[0], 1)

        def pad(part):
            none = [[0, 0]] * (part.shape.rank - 1)
            padded = tf.pad(part, [[0, 1 - present], *none])
            return tf.ensure_shape(padded, [None, *part.shape[1:]])

        parts = {name: pad(part) for name, part in batch.parts().items()}
        return batch._replace(**parts), present

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

    def _noise(self, purpose: int, rows: Rows | None) -> Noise:
        """The noise of rows of a step, or that of a batch which is no part."""
        if rows is None:
            return Noise(self._noise_seed(purpose))
        return Noise(self._noise_seed(purpose, 0), rows)

    def _noise_seed(
        self, purpose: int, replica: int | tf.Tensor | None = None
    ) -> tf.Tensor:
        """Two integers that differ by step, replica and purpose, 0 to 31."""
        if replica is None:
            context = tf.distribute.get_replica_context()
            replica = context.replica_id_in_sync_group if context else 0
        # The first two purposes lie beside each other: so older runs resume.
        group, place = divmod(purpose, 2)
        stream = tf.cast(2**12 * group + 2 * replica + place, tf.int64)
        return tf.stack([self.seed * 2**16 + stream, self.steps.value])

    @property
    def _scales_loss(self):
        return isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer)

    def _added_losses(self, loss):
        """What layers add to a loss, and their regularisers."""
        return sum(tf.cast(part, loss.dtype) for part in self.losses)

    def _check_precision(self, **parts: keras.Layer | None) -> None:
        """Raises: ValueError: if parts are not of the model's precision."""
        own, inside = self.variable_dtype, set()
        for name, part in parts.items():
            layers = [] if part is None else part._flatten_layers()
            inside |= {layer.compute_dtype for layer in layers}
            weights = [] if part is None else part.weights
            kept = {w.dtype for w in weights if "float" in w.dtype}
            if not kept <= {own}:
                raise ValueError(
                    f"The weights of every part must be {own}, as the model. "
                    f"Received: `{name}` with {sorted(kept)}; make the parts "
                    "with the dtype of the model."
                )
        if self.compute_dtype not in {own, *inside}:
            raise ValueError(
                "`dtype` must be that of the parts. Received: "
                f"{self.dtype_policy.name!r}, and parts that compute in "
                f"{sorted(inside)}."
            )

    def _descend(
        self,
        objective: Callable,
        rows: Rows,
        and_then: Callable = lambda *more: None,
    ) -> tuple:
        """One step of the optimiser, counted, and left out if not finite.

        Args:
          objective: Callable () -> (loss, *more).
          rows: Rows of this replica, which the loss is a mean of.
          and_then: Called with `more` when the step is made.
        Returns: what `objective` gave.
        """
        share = _share(rows)
        counts = rows.count > 0
        averages = [w for w in self.part_weights if not w.trainable]
        before = [tf.identity(weight.value) for weight in averages]
        with tf.GradientTape() as tape:
            loss, *more = objective()
            scaled = self.optimizer.scale_loss(
                tf.cast(share, loss.dtype) * loss
            )
        gradients = tape.gradient(
            scaled,
            # TensorFlow cannot make the zeros of a Keras variable.
            [variable.value for variable in self.trainable_variables],
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )
        finite = tf.reduce_all(
            [tf.reduce_all(tf.math.is_finite(part)) for part in gradients]
        )
        for weight, old in zip(averages, before):
            weight.assign(tf.where(finite & counts, weight.value, old))
        overflowed = tf.constant(False)
        if self._scales_loss:
            # By the scale alone: bad data make the loss itself not finite.
            scale = tf.convert_to_tensor(self.optimizer.dynamic_scale)
            overflowed = ~finite & tf.math.is_finite(loss) & (scale > 1.0)
        # Where a stream ends Keras asks for a batch more, which there is not:
        # nothing counts before the gradients are there.
        with tf.control_dependencies([finite]):
            dropped, overflowed = self._apply_if(
                finite, overflowed, counts, gradients, lambda: and_then(*more)
            )
            self.dropped_steps.assign_add(tf.cast(dropped, tf.int64))
            self.overflowed_steps.assign_add(tf.cast(overflowed, tf.int64))
            self.steps.assign_add(1)
        return loss, *more

    def _apply_if(
        self, finite, overflowed, counts, gradients, and_then
    ) -> tuple:
        """Applies gradients of the trainable variables, if all are finite.

        A step that is dropped changes neither weights nor optimiser; one that
        overflowed changes the scale of the loss alone.

        Args:
          finite: Whether they are.
          overflowed: Whether they are not by the scale of the loss.
          counts: Whether this replica has a row that counts.
          gradients: One for each of `trainable_variables`.
          and_then: Called without arguments when the step is made.
        Returns: whether the step was dropped, and whether it overflowed.
        """
        variables = self.trainable_variables
        if not self.optimizer.built:
            self.optimizer.build(variables)

        def when(condition, *actions):
            def act():
                for action in actions:
                    action()
                return 0

            tf.cond(condition, act, lambda: 0)

        def apply(parts=gradients):
            # Of gradients that are not finite an optimizer that scales the
            # loss takes a lower scale.
            self.optimizer.apply(parts, variables)

        replica = tf.distribute.get_replica_context()
        # A strategy of one device lets no optimiser run within a condition.
        if not tf.distribute.has_strategy():
            if self._scales_loss:
                when(finite | overflowed, apply)
                when(finite, and_then)
            else:
                when(finite, apply, and_then)
            return ~finite & ~overflowed, overflowed
        # Replicas update together, so none can leave a step out alone: there
        # the bad gradients count as zero. One without rows has none.
        bad = ~finite & ~overflowed & counts
        both = tf.cast(tf.stack([bad, overflowed]), tf.int32)
        bad, overflows = tf.unstack(replica.all_reduce("sum", both))
        parts = [tf.where(finite, part, 0.0) for part in gradients]
        if self._scales_loss:
            # Keras looks at those of the first replica.
            parts = [tf.where(overflows > 0, np.nan, part) for part in parts]
        apply(parts)
        and_then()
        return (bad > 0) & (overflows == 0), overflows > 0

    def _track(self, *pairs, rows=1, sample_weight=None, training=True) -> None:
        """Updates means, weighed by rows.

        In training the values that are not finite are left out: a dropped step
        must not turn the epoch's mean into NaN. In evaluation they count.

        Args:
          *pairs: (tracker, value), the value a number or [rows].
          rows: Number of rows, which a number is the mean of. If it is 0,
            nothing counts.
          sample_weight: Weights of the rows [rows], for the values of rows. A
            row of weight 0 does not count.
          training: Whether it is a step of training.
        """
        for tracker, value in pairs:
            counted = tf.fill(tf.shape(value), rows > 0)
            if training:
                counted &= tf.math.is_finite(value)
            if value.shape.rank and sample_weight is not None:
                counted &= sample_weight > 0
            weight = tf.cast(counted, tf.float32)
            if value.shape.rank == 0:
                weight *= tf.cast(rows, tf.float32)
            elif sample_weight is not None:
                weight *= tf.cast(sample_weight, tf.float32)
            tracker.update_state(tf.where(counted, value, 0.0), weight)


def _share(rows):
    """The part of all rows of a step that this replica has.

    Keras sums the gradients of replicas, whose losses are means of their rows.
    """
    if tf.distribute.get_strategy().num_replicas_in_sync == 1:
        return tf.constant(1.0)
    return tf.cast(rows.count, tf.float32) / tf.cast(rows.total, tf.float32)


def _means(trackers):
    """The means so far, over all replicas; NaN if nothing was counted."""
    sums = [
        tf.convert_to_tensor(part.value)
        for tracker in trackers
        for part in (tracker.total, tracker.count)
    ]
    replica = tf.distribute.get_replica_context()
    if replica and replica.num_replicas_in_sync > 1:
        sums = tf.unstack(replica.all_reduce("sum", tf.stack(sums)))
    return [total / count for total, count in zip(sums[::2], sums[1::2])]


def warn_caller(message: str) -> None:
    """Warns of the line that called this package, however deep this is."""
    level, frame = 1, inspect.currentframe()
    while frame is not None and _is_ours(frame):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, stacklevel=level)


def _is_ours(frame):
    return frame.f_globals.get("__name__", "").partition(".")[0] == _PACKAGE


def run_steps(step: Callable, data: Any, count: int) -> None:
    """Cuts a batch into `count` equal parts and makes a step with each.

    Small networks wait for the next batch longer than they compute. So a batch
    of `fit` holds the batches of several steps, one after another.

    Args:
      step: Callable, a part of the data -> anything, as `train_step`.
      data: Tensors, or a structure of tensors, [count * batch, ...].
      count: Number of steps.
    Raises:
      ValueError: if a batch cannot be cut so.
      tf.errors.InvalidArgumentError: the same of a batch whose rows a graph
        knows only as it runs.
    """
    if count == 1:
        step(data)
        return
    rows = tf.nest.flatten(data)[0].shape[0]
    rule = "A batch of `fit` must hold `inner_steps` batches of one size."
    checks = []
    if rows is None:
        rows = tf.shape(tf.nest.flatten(data)[0])[0]
        checks = [tf.debugging.Assert(rows % count == 0, [rule, rows, count])]
    elif rows % count:
        raise ValueError(f"{rule} Received: {rows} rows, {count} steps.")
    with tf.control_dependencies(checks):
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
