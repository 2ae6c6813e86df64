"""Many Hamiltonians of one form, their weights stacked."""

import keras
import tensorflow as tf

from hgn_tf.networks.layers import build_once, layer_from, serializable


@serializable
class StackedHamiltonian(keras.layers.Layer):
    """`count` Hamiltonians that differ in their weights only.

    Each weight of the template is one variable [count, ...] here: an
    optimiser updates a few arrays instead of hundreds, and a flow through
    all of them compiles as one loop. Each is initialised on its own.

    Args:
      template: Separable Hamiltonian layer, with kinetic(p), potential(q).
      count: How many, 1 or more.
    """

    def __init__(self, template, count, **kwargs):
        super().__init__(**kwargs)
        template = layer_from(template)
        self.count = count
        # Keras would list the weights of an attribute beside the stacks.
        self._template = lambda: template

    def build(self, q_shape, p_shape=None):
        template = self._template()
        build_once(template, q_shape, q_shape)
        layers = [template]
        for _ in range(self.count - 1):
            layers.append(layer_from(self._template_config()))
            build_once(layers[-1], q_shape, q_shape)
        columns = zip(*(layer.trainable_variables for layer in layers))
        self.stacks = [self._stack(column) for column in columns]

    def _stack(self, column):
        return self.add_weight(
            (self.count, *column[0].shape),
            lambda shape, dtype: tf.stack([each.value for each in column]),
            name=column[0].path.replace("/", "_"),
        )

    def at(self, index: int) -> "HamiltonianView":
        """The Hamiltonian of an index, from 0."""
        return HamiltonianView(self, index)

    def with_weights(self, weights, method: str, x):
        """kinetic(x) or potential(x) of the template with other weights."""
        template = self._template()
        mapping = list(zip(template.trainable_variables, weights))
        with keras.StatelessScope(state_mapping=mapping):
            return getattr(template, method)(x)

    def _template_config(self):
        return keras.saving.serialize_keras_object(self._template())

    def get_config(self):
        return {
            **super().get_config(),
            "template": self._template_config(),
            "count": self.count,
        }


class HamiltonianView:
    """One of a stack: a Hamiltonian that owns nothing.

    Args:
      stack: StackedHamiltonian, built.
      index: Which.
      weights: Of this one, in the order of the stacks; None to take them
        from the stacks at each use.
    """

    def __init__(self, stack: StackedHamiltonian, index: int, weights=None):
        self.stack = stack
        self.index = index
        self._weights = weights

    def kinetic(self, p):
        return self._energy("kinetic", p)

    def potential(self, q):
        return self._energy("potential", q)

    def __call__(self, q, p):
        return self.kinetic(p) + self.potential(q)

    def _energy(self, method, x):
        weights = self._weights
        if weights is None:
            weights = [stack.value[self.index] for stack in self.stack.stacks]
        return self.stack.with_weights(weights, method, x)
