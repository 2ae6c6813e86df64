"""States through the flows of a Neural Hamiltonian Flow, one after another."""

import tensorflow as tf

from hgn_tf.bijectors import LeapfrogFlow
from hgn_tf.networks import HamiltonianView


def advance_through(
    flows: list[LeapfrogFlow], x: tf.Tensor, direction: int = 1
) -> tf.Tensor:
    """States after all of the flows in turn, or before them.

    As `tfb.Chain`, without its cache. Flows of one `StackedHamiltonian` run
    in one loop, which compiles in the time of one: XLA took minutes over 20
    of them written out.

    Args:
      flows: In the order of the motion.
      x: States [..., 2 dof].
      direction: 1, or -1 to go back from the end of the last flow.
    Returns: [..., 2 dof].
    """
    steps = [
        direction * tf.convert_to_tensor(flow.dt, x.dtype) for flow in flows
    ]
    if not _stacked(flows):
        for flow, dt in list(zip(flows, steps))[::direction]:
            x = flow.advance(x, dt)
        return x
    stack, count = flows[0].hamiltonian.stack, len(flows)

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


def _stacked(flows):
    """Whether these are the flows of all Hamiltonians of one stack."""
    views = [flow.hamiltonian for flow in flows]
    if not all(isinstance(view, HamiltonianView) for view in views):
        return False
    whole = [view.index for view in views] == list(range(views[0].stack.count))
    same = len({id(view.stack) for view in views}) == 1
    return whole and same and len(flows) > 2
