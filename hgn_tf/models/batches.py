"""The data of `fit`, `evaluate` and `predict`, looked at before they are used.

Keras takes arrays, `tf.data.Dataset`, distributed datasets,
`keras.utils.PyDataset` and Python generators. A model says of one batch
whether it fits; here it is asked about all of these.
"""

import inspect
import itertools
import types
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from hgn_tf.models.exports import OwnFiles

# What a model is asked about: all rows that there are; the first batch of
# several; one after it; the specs of batches; a batch within a step.
WHOLE, FIRST, LATER, SPEC, STEP = "whole", "first", "later", "spec", "step"
# The compiled function of each purpose, by Keras's name.
_FUNCTIONS = {
    "fit": "train_function",
    "evaluate": "test_function",
    "predict": "predict_function",
}
_STREAMS = (
    tf.data.Dataset,
    tf.distribute.DistributedDataset,
    keras.utils.PyDataset,
)


class Batch(NamedTuple):
    """Inputs, targets and a weight per row: arrays, tensors or their specs."""

    x: Any
    y: Any = None
    sample_weight: Any = None

    @classmethod
    def of(cls, element: Any) -> "Batch":
        """What a dataset gives: x, (x,), (x, y) or (x, y, sample_weight).

        Raises: ValueError: for more parts than these.
        """
        if isinstance(element, (list, tuple)) and len(element) > 3:
            raise ValueError(
                "A batch must be x, (x, y) or (x, y, sample_weight). "
                f"Received: {len(element)} parts."
            )
        parts = keras.utils.unpack_x_y_sample_weight(element)
        return cls(*(None if _is_none(part) else part for part in parts))

    def pack(self) -> tuple:
        """As Keras takes it, which drops weights where there are no targets."""
        if self.sample_weight is None:
            return (self.x,) if self.y is None else (self.x, self.y)
        y = self.y
        if y is None and tf.is_tensor(self.x):
            y = tf.zeros([tf.shape(self.x)[0], 0])
        elif y is None:
            y = np.zeros([len(self.x), 0], np.float32)
        return self.x, y, self.sample_weight

    def parts(self) -> dict[str, Any]:
        """The parts that there are, by name."""
        named = self._asdict().items()
        return {name: part for name, part in named if part is not None}

    def shapes(self) -> dict[str, tf.TensorShape]:
        """The shape of a row of each part, by name."""
        return {
            name: tf.TensorShape(part.shape)[1:]
            for name, part in self.parts().items()
        }

    def is_known(self) -> bool:
        """Whether the shape of a row of each part is known."""
        return all(x.is_fully_defined() for x in self.shapes().values())

    def with_shapes(self, shapes: dict[str, tf.TensorShape]) -> "Batch":
        """The batch, if its rows have these shapes.

        Raises: ValueError: if they have not; in a graph, an
          InvalidArgumentError when it runs.
        """
        parts = {
            name: _with_shape(part, shapes[name])
            for name, part in self.parts().items()
        }
        return self._replace(**parts)


class CheckedModel(OwnFiles):
    """A Keras model that looks at its data before they are used.

    What Keras documents for its own models works, or is refused in one line
    before the first step. One model takes batches of several shapes in turn.

    A model defines `_admit(batch, purpose, seen)`. It gives a batch as the
    steps take it, or raises an error of one line. The purpose is "fit",
    "evaluate" or "predict", and `seen` tells what the batch is.
    """

    # Axes that weights may have: one number per row.
    _weight_ranks: tuple[int, ...] = (1,)
    # Whether a batch of a dataset is looked at for its values too.
    _reads_values = False

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        # In a plain object, since Keras and TensorFlow track dictionaries.
        self._traces = types.SimpleNamespace(functions={}, rows={})

    def compile(self, *args, **kwargs) -> None:
        """As `keras.Model.compile`."""
        super().compile(*args, **kwargs)
        self._traces.functions.clear()

    def fit(
        self, x: Any = None, y: Any = None, *args, **kwargs
    ) -> keras.callbacks.History:
        """As `keras.Model.fit`, of data that are looked at first."""
        call = inspect.signature(super().fit).bind(x, y, *args, **kwargs)
        given = call.arguments
        _check_no_classes(given)
        batch = self._open("fit", Batch(x, y, given.get("sample_weight")))
        given.update(batch._asdict())
        streams = (tf.data.Dataset, tf.distribute.DistributedDataset)
        if isinstance(batch.x, streams):
            # It comes in its own order; Keras would warn that it keeps it.
            given.setdefault("shuffle", False)
        if given.get("validation_data") is not None:
            held_out = Batch.of(given["validation_data"])
            given["validation_data"] = tuple(self._open("evaluate", held_out))
        elif given.get("validation_split"):
            self._trace_for("evaluate", batch)
        history = super().fit(*call.args, **call.kwargs)
        if history.epoch and not history.history:
            raise _no_rows()
        return history

    def evaluate(self, x: Any = None, y: Any = None, *args, **kwargs) -> Any:
        """As `keras.Model.evaluate`, of data that are looked at first."""
        call = inspect.signature(super().evaluate).bind(x, y, *args, **kwargs)
        given = call.arguments
        batch = Batch(x, y, given.get("sample_weight"))
        if given.get("kwargs", {}).get("_use_cached_eval_dataset"):
            # Validation data, which `fit` has looked at.
            self._trace_for("evaluate", batch)
        else:
            given.update(self._open("evaluate", batch)._asdict())
        scores = super().evaluate(*call.args, **call.kwargs)
        if isinstance(scores, (list, dict)) and not scores:
            raise _no_rows()
        return scores

    def predict(self, x: Any, *args, **kwargs) -> Any:
        """As `keras.Model.predict`, of data that are looked at first."""
        x = self._open("predict", Batch(x)).x
        return super().predict(x, *args, **kwargs)

    def train_on_batch(self, x: Any, y: Any = None, *args, **kwargs) -> Any:
        """As `keras.Model.train_on_batch`, of data that are looked at."""
        return self._on_batch("fit", super().train_on_batch, x, y, args, kwargs)

    def test_on_batch(self, x: Any, y: Any = None, *args, **kwargs) -> Any:
        """As `keras.Model.test_on_batch`, of data that are looked at."""
        method = super().test_on_batch
        return self._on_batch("evaluate", method, x, y, args, kwargs)

    def predict_on_batch(self, x: Any) -> Any:
        """As `keras.Model.predict_on_batch`, of data that are looked at."""
        x = self._open_arrays("predict", Batch(x), LATER).x
        return super().predict_on_batch(x)

    def _admit(self, batch: Batch, purpose: str, seen: str) -> Batch:
        """The batch as the steps take it, or an error of one line."""
        raise NotImplementedError

    def _asks_for_values(self, spec: Batch) -> bool:
        """Whether the first of such batches must be looked at."""
        return False

    def _look(self, batch, purpose, seen):
        """As `_admit`, with the weights of the rows."""
        batch = self._admit(batch, purpose, seen)
        if purpose == "predict":
            return Batch(batch.x)
        if batch.sample_weight is None:
            return batch
        weight = _check_weight(batch.sample_weight, self._weight_ranks, seen)
        if seen == STEP:
            weight = tf.cast(weight, self.variable_dtype)
        return batch._replace(sample_weight=weight)

    def _open(self, purpose, batch):
        """Data of any kind, looked at and as Keras takes them."""
        data = batch.x
        if data is None:
            raise ValueError(
                "`x` must be an array, a dataset or a generator. "
                "Received: None."
            )
        if not isinstance(data, _STREAMS) and not _is_iterable(data):
            return self._open_arrays(purpose, batch, WHOLE)
        if batch.y is not None or batch.sample_weight is not None:
            raise ValueError(
                "Targets and weights of a dataset come with its batches, "
                "(x, y, sample_weight). Received: "
                f"{[*batch.parts()][1:]} beside a {type(data).__name__}."
            )
        if isinstance(data, tf.data.Dataset):
            return Batch(self._open_dataset(purpose, data))
        if isinstance(data, tf.distribute.DistributedDataset):
            return Batch(self._open_distributed(purpose, data))
        if isinstance(data, keras.utils.PyDataset):
            return Batch(self._open_py_dataset(purpose, data))
        return Batch(self._open_iterable(purpose, data))

    def _open_arrays(self, purpose, batch, seen):
        batch = self._look(batch, purpose, seen)
        rows = {name: len(part) for name, part in batch.parts().items()}
        if len(set(rows.values())) > 1:
            raise ValueError(
                "Inputs, targets and weights must have as many rows. "
                f"Received: {rows}."
            )
        if not rows["x"]:
            raise _no_rows()
        self._know(purpose, batch)
        return Batch(*batch.pack())

    def _open_dataset(self, purpose, data):
        given = Batch.of(data.element_spec)
        found = self._look(given, purpose, SPEC)
        if data.cardinality() == 0:
            raise _no_rows()
        if found.is_known() and not self._asks_for_values(given):
            self._know(purpose, found)
            # Weights are looked at as they come.
            as_it_is = found == given and given.sample_weight is None
            if as_it_is and not self._reads_values:
                return data
        else:
            found = self._first(purpose, data.take(1))
        shapes = found.shapes()

        @tf.autograph.experimental.do_not_convert
        def look(*element):
            # Not `element` alone, which is a tuple of one.
            batch = Batch.of(element[0] if len(element) == 1 else element)
            batch = self._look(batch, purpose, SPEC).with_shapes(shapes)
            return self._look(batch, purpose, LATER).pack()

        return data.map(look)

    def _open_distributed(self, purpose, data):
        local = self.distribute_strategy.experimental_local_results
        batches = (
            tf.nest.map_structure(lambda part: local(part)[0], element)
            for element in data
        )
        self._first(purpose, batches)
        return data

    def _open_py_dataset(self, purpose, data):
        batches = (data[index] for index in range(data.num_batches or 1))
        if data.num_batches == 0:
            raise _no_rows()
        found = self._first(purpose, batches)
        return _Looked(data, self._each(purpose, found), found)

    def _open_iterable(self, purpose, data):
        again = data
        if isinstance(data, Iterator):
            first = [*itertools.islice(data, 1)]
            data, again = first, itertools.chain(first, data)
        found = self._first(purpose, data)
        look = self._each(purpose, found)
        signature = tuple(
            tf.TensorSpec([None, *part.shape[1:]], part.dtype)
            for part in found.pack()
        )
        return tf.data.Dataset.from_generator(
            lambda: map(look, again), output_signature=signature
        ).prefetch(tf.data.AUTOTUNE)

    def _first(self, purpose, batches):
        """The first batch, looked at."""
        for element in batches:
            batch = self._look(Batch.of(element), purpose, FIRST)
            self._know(purpose, batch)
            return batch
        raise _no_rows()

    def _each(self, purpose, first):
        """Callable that looks at a batch after the first one."""
        shapes = first.shapes()

        def look(element):
            batch = self._look(Batch.of(element), purpose, LATER)
            return batch.with_shapes(shapes).pack()

        return look

    def _know(self, purpose, batch):
        """Gets ready for batches like this one."""
        self._build_for(batch)
        self._trace_for(purpose, batch)

    def _build_for(self, batch):
        if not self.built:
            # The steps take the path apart, so Keras would not build for them.
            with self.distribute_strategy.scope():
                self.build((None, *batch.x.shape[1:]))

    def _trace_for(self, purpose, batch):
        """Takes the compiled step for rows of these shapes.

        Given other shapes Keras would make one for rows of any, in which a
        step that needs to know the number of frames cannot be.
        """
        if isinstance(batch.x, _Looked):
            batch = batch.x.first
        elif isinstance(batch.x, tf.data.Dataset):
            batch = Batch.of(batch.x.element_spec)
        elif isinstance(batch.x, tf.distribute.DistributedDataset):
            return
        name, traces = _FUNCTIONS[purpose], self._traces
        shapes = batch.shapes().values()
        rows = tuple(tuple(shape) for shape in shapes if 0 not in shape)
        before = traces.rows.get(name)
        if rows != before:
            traces.functions[name, before] = getattr(self, name)
            traces.rows[name] = rows
            setattr(self, name, traces.functions.get((name, rows)))

    def _on_batch(self, purpose, method, x, y, args, kwargs):
        call = inspect.signature(method).bind(x, y, *args, **kwargs)
        given = call.arguments
        _check_no_classes(given)
        batch = Batch(x, y, given.get("sample_weight"))
        batch = self._open_arrays(purpose, batch, LATER)
        given.update(batch._asdict())
        return method(*call.args, **call.kwargs)


class _Looked(keras.utils.PyDataset):
    """A PyDataset whose batches are looked at as they come."""

    def __init__(self, data: keras.utils.PyDataset, look: Callable, first):
        super().__init__(
            data.workers, data.use_multiprocessing, data.max_queue_size
        )
        self.first = first
        self._data = data
        self._look = look

    def __getitem__(self, index):
        return self._look(self._data[index])

    @property
    def num_batches(self):
        return self._data.num_batches

    def on_epoch_begin(self):
        self._data.on_epoch_begin()

    def on_epoch_end(self):
        self._data.on_epoch_end()


def as_array(x: Any) -> Any:
    """Tensors and specs as they are, else a numpy array."""
    kept = (tf.TypeSpec, tf.RaggedTensor, keras.KerasTensor)
    if tf.is_tensor(x) or isinstance(x, kept):
        return x
    return np.asarray(x)


def has_values(x: Any) -> bool:
    """Whether an array or tensor has numbers now, not when a graph runs."""
    if isinstance(x, (tf.TypeSpec, keras.KerasTensor)):
        return False
    return not tf.is_tensor(x) or tf.executing_eagerly()


def check_finite(name: str, array: np.ndarray) -> None:
    """Raises: ValueError: if a row has a NaN or an infinity, naming it."""
    within = tuple(range(1, np.ndim(array)))
    bad = np.flatnonzero(~np.isfinite(array).all(axis=within))
    if bad.size:
        raise ValueError(
            f"`{name}` must be finite. Received: NaN or infinity in "
            f"{bad.size} of {len(array)} rows, the first is row {bad[0]}."
        )


def check_no_targets(y: Any) -> None:
    """Raises: ValueError: if there are targets where there is no use for them.

    Targets of no width stand beside weights, which Keras drops without.
    """
    shape = tf.TensorShape(np.shape(y))
    if y is not None and (shape.rank is None or 0 not in shape):
        raise ValueError(
            "The model learns from `x` alone, without targets `y`. "
            f"Received: `y` of {type(y).__name__}."
        )


def _is_none(part):
    """Whether it is None, or the spec of None in a dataset, without a shape."""
    spec = isinstance(part, tf.TypeSpec) and not hasattr(part, "shape")
    return part is None or spec


def _is_iterable(data):
    """Whether batches come out of it one by one."""
    array = hasattr(data, "shape") or hasattr(data, "__array__")
    nested = isinstance(data, (dict, list, tuple, str, bytes))
    return hasattr(data, "__iter__") and not array and not nested


def _check_no_classes(given):
    if given.get("class_weight") is not None:
        raise ValueError(
            "`class_weight` must be None, for there are no classes; "
            "`sample_weight` weighs rows. Received: "
            f"{given['class_weight']}."
        )


def _check_weight(weight, ranks, seen):
    weight = as_array(weight)
    rank = tf.TensorShape(weight.shape).rank
    if rank == 2 and 2 not in ranks and weight.shape[1] == 1:
        rank = 1
        if isinstance(weight, tf.TypeSpec):
            weight = tf.TensorSpec(weight.shape[:1], weight.dtype)
        else:
            weight = weight[:, 0]
    if rank not in (None, *ranks):
        raise ValueError(
            "`sample_weight` must be a number per row, [rows]. Received: shape "
            f"{tuple(weight.shape)}."
        )
    if seen in (WHOLE, FIRST, LATER):
        _check_sign(weight, finite=seen != LATER)
    return weight


def _check_sign(weight, finite):
    """Refuses weights below 0; in a graph, as it runs."""
    if isinstance(weight, (tf.TypeSpec, keras.KerasTensor)):
        return
    rule = "`sample_weight` must be 0 or more. Received:"
    if not has_values(weight):
        low = tf.reduce_min(weight)
        tf.debugging.Assert(~(low < 0), [rule, low])
        return
    if finite:
        check_finite("sample_weight", np.asarray(weight))
    # Of NaN, which costs a step and no more, neither is true.
    if np.min(weight, initial=0) < 0:
        raise ValueError(f"{rule} {np.min(weight)}.")


def _with_shape(part, shape):
    rule = "Batches of one dataset must have one shape per row. Received:"
    found = tf.TensorShape(part.shape)
    if found.rank is not None and found[1:].is_fully_defined():
        if found[1:] != shape:
            raise ValueError(
                f"{rule} {tuple(found[1:])} after {tuple(shape)}; give each "
                "length a call of its own."
            )
        return part
    rows = tf.shape(part)[1:]
    check = tf.debugging.Assert(
        tf.reduce_all(tf.equal(rows, tuple(shape))),
        [rule, rows, "after", tuple(shape)],
    )
    with tf.control_dependencies([check]):
        return tf.ensure_shape(part, [None, *shape])


def _no_rows():
    return ValueError("`x` must have a row at least. Received: no rows.")
