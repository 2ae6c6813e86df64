"""Several optimiser steps in one compiled call."""

from collections.abc import Callable

import tensorflow as tf


def run_steps(step: Callable, data, count: int) -> None:
    """Cuts a batch into `count` equal parts and makes a step with each.

    Small networks wait for the next batch longer than they compute; so a
    batch that `fit` is given holds those of several steps, one after another.

    Args:
      step: Callable, a part of the data -> anything, as `train_step`.
      data: Tensors, or a structure of them, [count * batch, ...].
      count: How many steps, a number.
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
    return max(each for each in range(1, limit + 1) if num_steps % each == 0)
