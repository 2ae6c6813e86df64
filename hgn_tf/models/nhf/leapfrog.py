"""Leapfrog steps of Hamiltonians as bijectors, and stacks of Hamiltonians."""

from collections.abc import Sequence

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from hgn_tf import integrators
from hgn_tf.networks import build_once, layer_from, serializable
from hgn_tf.phase import Hamiltonian, PhaseState, is_separable


class _NoCache:
    """In the place of TFP's cache: computes whatever is asked for anew."""

    def __init__(self, bijector=None):
        self._bijector = bijector

    def __get__(self, bijector, owner=None):
        return _NoCache(bijector)

    def forward(self, x, **kwargs):
        return self._bijector._forward(x, **kwargs)

    def inverse(self, y, **kwargs):
        return self._bijector._inverse(y, **kwargs)

    def forward_attributes(self, x, **kwargs):
        return {}

    def inverse_attributes(self, y, **kwargs):
        return {}


class _StateBijector(tfp.bijectors.Bijector):
    """Maps states [..., 2 dof] with a Jacobian that is the same everywhere.

    TFP remembers what a bijector returned for a tensor object. These borrow
    weights that training changes, so nothing is remembered.
    """

    _cache = _NoCache()

    def __init__(self, name, dtype=None):
        # `dict(locals())`, as TFP's own do, fails on a Keras model.
        super().__init__(
            forward_min_event_ndims=1,
            is_constant_jacobian=True,
            dtype=dtype,
            parameters={"name": name},
            name=name,
        )

    # By name alone, as TFP compares, all would be equal; and the caches of
    # TFP's own bijectors are shared by equal ones.
    def __eq__(self, other):
        return self is other

    def __hash__(self):
        return id(self)

    @classmethod
    def _parameter_properties(cls, dtype):
        return {}


class LeapfrogFlow(_StateBijector):
    """s -> the state after `num_steps` leapfrog steps of H(q, p) = K(p) + V(q).

    An event is q and p joined, shape [2 dof]. The map is symplectic, so the
    logarithm of its Jacobian's determinant is 0, exactly and everywhere; the
    inverse is the same steps with -dt.

    The flow borrows the networks in H: `flow.trainable_variables` is empty,
    and what trains them must own them, as `NHF` does. It remembers nothing
    that it returned, but TFP's own `tfb.Chain` around it does, for a tensor
    object: after a change of the weights call that on `tf.identity(x)`.

    Args:
      hamiltonian: Separable: kinetic(p) and potential(q) of one row per state,
        [batch, dof] -> [batch].
      num_steps: int. Leapfrog steps, 1 or more. Defaults to 1.
      dt: Length of a step: a number other than 0, or a scalar tensor or
        variable, which is not checked. Defaults to 0.5.
      name: str. Name of the bijector.
    Call: x [..., 2 dof] -> [..., 2 dof], float32 or float64.
    Raises: ValueError: if the Hamiltonian is not separable, num_steps is not
      positive, dt is 0, NaN or infinite, or the event size is odd.
    Source: the HGN paper (Toth et al., 2019), section 3.3.
    """

    def __init__(
        self,
        hamiltonian: Hamiltonian,
        num_steps: int = 1,
        dt: float | tf.Tensor | tf.Variable = 0.5,
        name: str = "leapfrog_flow",
    ):
        if not is_separable(hamiltonian):
            raise ValueError(
                "`hamiltonian` must be separable, with methods kinetic(p) and "
                "potential(q): on others leapfrog keeps no volume. "
                f"Received: {hamiltonian!r}."
            )
        integrators.check_count("num_steps", num_steps)
        if isinstance(dt, int | float):
            integrators.check_dt(dt)
        super().__init__(name)
        self._hamiltonian = hamiltonian
        self._num_steps = num_steps
        self._dt = dt

    @property
    def hamiltonian(self) -> Hamiltonian:
        return self._hamiltonian

    @property
    def num_steps(self) -> int:
        return self._num_steps

    @property
    def dt(self) -> float | tf.Tensor | tf.Variable:
        return self._dt

    def _forward(self, x):
        return self.advance(x, self._dt)

    def _inverse(self, y):
        return self.advance(y, -in_precision(self._dt, y.dtype))

    def _forward_log_det_jacobian(self, x):
        return tf.zeros([], x.dtype)

    def advance(self, x: tf.Tensor, dt: float | tf.Tensor) -> tf.Tensor:
        """The states after `num_steps` steps of any `dt`.

        Args:
          x: States [..., 2 dof].
          dt: Length of a step, as in the constructor.
        Returns: [..., 2 dof].
        Raises: ValueError: if the event size is odd.
        """
        size = x.shape[-1]
        if size is None or size % 2:
            raise ValueError(
                "An event must be q and p joined, of even size. "
                f"Received: shape {x.shape}."
            )
        # Energies of layers take one batch axis.
        flat = tf.reshape(x, [-1, size])
        state = integrators.last_state(
            self._hamiltonian,
            PhaseState(*tf.split(flat, 2, axis=-1)),
            in_precision(dt, x.dtype),
            self._num_steps,
        )
        moved = tf.reshape(tf.concat(state, axis=-1), tf.shape(x))
        return tf.ensure_shape(moved, x.shape)


def in_precision(
    number: float | tf.Tensor | tf.Variable, dtype: tf.DType
) -> tf.Tensor:
    """A number or scalar tensor as `dtype`, with all digits it has."""
    # A cast alone would make a Python number float32 first.
    return tf.cast(tf.convert_to_tensor(number, dtype_hint=dtype), dtype)


class ScaleShift(_StateBijector):
    """x -> shift + exp(log_scale) * x, on states [..., 2 dof].

    Args:
      shift: Variable [2 dof].
      log_scale: Variable [2 dof].
      name: str. Name of the bijector.
    """

    def __init__(
        self,
        shift: tf.Variable,
        log_scale: tf.Variable,
        name: str = "scale_shift",
    ):
        super().__init__(name, shift.dtype)
        self._shift = shift
        self._log_scale = log_scale

    def _forward(self, x):
        return self._shift + tf.exp(self._log_scale) * x

    def _inverse(self, y):
        return (y - self._shift) * tf.exp(-self._log_scale)

    def _forward_log_det_jacobian(self, x):
        return tf.reduce_sum(tf.convert_to_tensor(self._log_scale))


class FlowChain(_StateBijector):
    """Leapfrog flows one after another, and what may follow them.

    As `tfb.Chain`, which lists them in the other direction, but it remembers
    nothing, and `advance_through` moves the states.

    Args:
      flows: Flows in the order of the motion.
      last: Bijector after them, with a constant Jacobian; None for none.
      name: str. Name of the bijector.
    """

    def __init__(
        self,
        flows: Sequence[LeapfrogFlow],
        last: ScaleShift | None = None,
        name: str = "flow_chain",
    ):
        super().__init__(name)
        self._flows = list(flows)
        self._last = last

    def _forward(self, x):
        x = advance_through(self._flows, x)
        return self._last.forward(x) if self._last else x

    def _inverse(self, y):
        y = self._last.inverse(y) if self._last else y
        return advance_through(self._flows, y, -1)

    def _forward_log_det_jacobian(self, x):
        if self._last is None:
            return tf.zeros([], x.dtype)
        return self._last.forward_log_det_jacobian(x, 1)


@serializable
class StackedHamiltonian(keras.layers.Layer):
    """`count` Hamiltonians that differ in their weights only.

    Each weight of the template is one variable [count, ...] here: an
    optimiser updates a few arrays instead of hundreds, and a flow through
    all of them compiles as one loop. Each is initialised on its own.

    Args:
      template: Separable Hamiltonian layer, with kinetic(p), potential(q).
      count: int. Number of Hamiltonians, 1 or more.
    Raises: ValueError: if count is below 1, and in `build` for a template with
      regularisers or weights that are not trained, which the stack would lose.
    """

    def __init__(self, template: keras.layers.Layer, count: int, **kwargs):
        super().__init__(**kwargs)
        integrators.check_count("count", count)
        self.count = count
        # Keras would list the weights of an attribute beside the stacks.
        self._template = lambda: template

    def build(self, q_shape: tuple, p_shape: tuple | None = None) -> None:
        template = self._template()
        build_once(template, q_shape, q_shape)
        if template.losses or template.non_trainable_variables:
            raise ValueError(
                "The template of a stack must have trained weights alone, "
                "without regularisers: give a list of layers instead. "
                f"Received: {template}."
            )
        layers = [template]
        for _ in range(self.count - 1):
            layers.append(layer_from(self._template_config()))
            build_once(layers[-1], q_shape, q_shape)
        columns = zip(*(layer.trainable_variables for layer in layers))
        self.stacks = [self._stack(column) for column in columns]

    def at(self, index: int) -> "HamiltonianView":
        """The Hamiltonian of an index, from 0."""
        return HamiltonianView(self, index)

    def with_weights(
        self, weights: list, method: str, x: tf.Tensor
    ) -> tf.Tensor:
        """kinetic(x) or potential(x) of the template with other weights."""
        template = self._template()
        mapping = list(zip(template.trainable_variables, weights))
        with keras.StatelessScope(state_mapping=mapping):
            return getattr(template, method)(x)

    def _stack(self, column):
        return self.add_weight(
            (self.count, *column[0].shape),
            lambda shape, dtype: tf.stack([weight.value for weight in column]),
            name=column[0].path.replace("/", "_"),
        )

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "template": self._template_config(),
            "count": self.count,
        }

    @classmethod
    def from_config(cls, config: dict) -> "StackedHamiltonian":
        template = layer_from(config["template"])
        return cls(**{**config, "template": template})

    def _template_config(self):
        return keras.saving.serialize_keras_object(self._template())


class HamiltonianView:
    """One of a stack: a Hamiltonian that owns nothing.

    Args:
      stack: StackedHamiltonian, built.
      index: int. Index of the Hamiltonian in the stack, from 0.
      weights: Its weights, in the order of the stacks; None to take them
        from the stacks at each use.
    """

    def __init__(
        self,
        stack: StackedHamiltonian,
        index: int | None,
        weights: list | None = None,
    ):
        self.stack = stack
        self.index = index
        self._weights = weights

    def kinetic(self, p: tf.Tensor) -> tf.Tensor:
        return self._energy("kinetic", p)

    def potential(self, q: tf.Tensor) -> tf.Tensor:
        return self._energy("potential", q)

    def __call__(self, q, p):
        return self.kinetic(p) + self.potential(q)

    def _energy(self, method, x):
        weights = self._weights
        if weights is None:
            weights = [stack.value[self.index] for stack in self.stack.stacks]
        return self.stack.with_weights(weights, method, x)


def advance_through(
    flows: Sequence[LeapfrogFlow], x: tf.Tensor, direction: int = 1
) -> tf.Tensor:
    """States after all of the flows in turn, or before them.

    Flows of one `StackedHamiltonian` run in one loop, which compiles in the
    time of one: XLA took minutes over 20 of them written out.

    Args:
      flows: Flows in the order of the motion.
      x: States [..., 2 dof].
      direction: 1, or -1 to go back from the end of the last flow.
    Returns: [..., 2 dof].
    """
    steps = [direction * in_precision(flow.dt, x.dtype) for flow in flows]
    stack, count = _stack_of(flows), len(flows)
    if stack is None:
        for flow, dt in list(zip(flows, steps))[::direction]:
            x = flow.advance(x, dt)
        return x

    def rows(values):
        # Its gradient is written row by row, that of a slice whole each time.
        array = tf.TensorArray(values.dtype, count, clear_after_read=False)
        return array.unstack(values)

    steps = rows(tf.stack(steps))
    arrays = [rows(weight.value) for weight in stack.stacks]

    def body(done, x):
        index = done if direction > 0 else count - 1 - done
        weights = [array.read(index) for array in arrays]
        view = HamiltonianView(stack, None, weights)
        flow = LeapfrogFlow(view, flows[0].num_steps)
        return done + 1, flow.advance(x, steps.read(index))

    return tf.while_loop(
        lambda done, _: done < count, body, (0, x), maximum_iterations=count
    )[1]


def _stack_of(flows):
    """The stack whose Hamiltonians these flows are, all of them in order."""
    views = [flow.hamiltonian for flow in flows]
    if len(flows) < 3 or not isinstance(views[0], HamiltonianView):
        return None  # A loop pays for three and more.
    stack = views[0].stack
    expected = [(id(stack), index) for index in range(stack.count)]
    found = [
        (id(view.stack), view.index)
        for view in views
        if isinstance(view, HamiltonianView)
    ]
    return stack if found == expected and len(found) == len(views) else None
