"""Muon, and Adam with the epsilon of its paper."""

import keras
import tensorflow as tf

# Of the polynomial that takes singular values of 0.01 to 1 to about 1, from
# Jordan's page. Each application multiplies small ones by the first.
_POLYNOMIAL = (3.4445, -4.7750, 2.0315)
_APPLICATIONS = 5


@keras.saving.register_keras_serializable("hgn_tf")
class Muon(keras.optimizers.Adam):
    """Momentum made orthogonal for kernels, Adam for all else.

        m <- momentum * m + g
        kernel <- kernel - learning_rate * rms * sqrt(max(rows, columns))
                  * orthogonal(g + momentum * m)

    A kernel is a matrix with a column per output; that of a convolution has a
    row per input of its window. orthogonal(x) is U V^T of x = U S V^T, by a
    polynomial that leaves singular values between 0.7 and 1.2. So directions in
    which gradients are small, as those of a law within its pictures, are
    learned as fast as the others. The factor gives an entry's step the root
    mean square `rms` * learning_rate, as Adam's steps have: so Adam's learning
    rates do.

    Source: kernels of convolutions too; `keras.optimizers.Muon` takes matrices
    only. The polynomial is applied to the smaller of x x^T and x^T x, which
    for a wide kernel takes a third of the work.

    Args:
      learning_rate: Learning rate of both, a number or a schedule.
      momentum: Weight of the past in the momentum.
      rms: Root mean square of a step of a kernel's entry, in learning rates.
      **kwargs: Further arguments of `keras.optimizers.Adam`.
    Raises: ValueError: if the momentum is not in [0, 1) or `rms` not positive.
    Source: Jordan et al., Muon: An optimizer for hidden layers in neural
      networks (2024). Liu et al., Muon is scalable for LLM training (2025), for
      the factor.
    """

    def __init__(
        self,
        learning_rate: float = 0.001,
        momentum: float = 0.95,
        rms: float = 0.2,
        **kwargs,
    ):
        super().__init__(learning_rate, **kwargs)
        if not 0 <= momentum < 1:
            raise ValueError(
                f"`momentum` must be in [0, 1). Received: {momentum}."
            )
        if not 0 < rms < float("inf"):
            raise ValueError(
                f"`rms` must be above 0, and finite. Received: {rms}."
            )
        self.momentum = momentum
        self.rms = rms

    def update_step(
        self,
        gradient: tf.Tensor,
        variable: keras.Variable,
        learning_rate: tf.Tensor,
    ) -> None:
        if len(variable.shape) < 2:
            super().update_step(gradient, variable, learning_rate)
            return
        gradient = tf.cast(gradient, variable.dtype)
        past = self._momentums[self._get_variable_index(variable)]
        self.assign(past, self.momentum * past + gradient)
        ahead = gradient + self.momentum * past
        matrix = tf.reshape(ahead, [-1, variable.shape[-1]])
        step = orthogonal(matrix) * float(max(matrix.shape)) ** 0.5
        rate = tf.cast(learning_rate, variable.dtype) * self.rms
        self.assign_sub(variable, rate * tf.reshape(step, variable.shape))

    def get_config(self):
        return {
            **super().get_config(),
            "momentum": self.momentum,
            "rms": self.rms,
        }


@keras.saving.register_keras_serializable("hgn_tf")
class PaperAdam(keras.optimizers.Adam):
    """Adam as Algorithm 1 of its paper and PyTorch have it.

        m <- beta_1 m + (1 - beta_1) g
        v <- beta_2 v + (1 - beta_2) g^2
        x <- x - learning_rate * (m / (1 - beta_1^t))
                 / (sqrt(v / (1 - beta_2^t)) + epsilon)

    `keras.optimizers.Adam` adds epsilon to sqrt(v) itself. In step t that is an
    epsilon 1 / sqrt(1 - beta_2^t) times larger: 32 times in the first step,
    and 3 times in the hundredth. It matters for gradients near epsilon, such as
    those of weights that a weight decay alone moves.

    Args:
      learning_rate: A number or a schedule.
      beta_1: Weight of the past in the mean of gradients.
      beta_2: Weight of the past in the mean of their squares.
      epsilon: What is added to the root of that mean.
      **kwargs: Further arguments of `keras.optimizers.Adam`, but `amsgrad`.
    Raises: ValueError: if `amsgrad` is asked for.
    Source: Kingma and Ba, Adam: A method for stochastic optimization (2015).
    """

    def __init__(
        self,
        learning_rate: float = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        **kwargs,
    ):
        super().__init__(learning_rate, beta_1, beta_2, epsilon, **kwargs)
        if self.amsgrad:
            raise ValueError(
                "`amsgrad` is not of Algorithm 1; `keras.optimizers.Adam` has "
                "it. Received: True."
            )

    def update_step(
        self,
        gradient: tf.Tensor,
        variable: keras.Variable,
        learning_rate: tf.Tensor,
    ) -> None:
        dtype = variable.dtype
        gradient = tf.cast(gradient, dtype)
        step = tf.cast(self.iterations + 1, dtype)
        index = self._get_variable_index(variable)
        m, v = self._momentums[index], self._velocities[index]
        self.assign_add(m, (1.0 - self.beta_1) * (gradient - m))
        self.assign_add(v, (1.0 - self.beta_2) * (tf.square(gradient) - v))
        mean = m / (1.0 - tf.pow(tf.cast(self.beta_1, dtype), step))
        square = v / (1.0 - tf.pow(tf.cast(self.beta_2, dtype), step))
        rate = tf.cast(learning_rate, dtype)
        self.assign_sub(
            variable, rate * mean / (tf.sqrt(square) + self.epsilon)
        )


def orthogonal(matrix: tf.Tensor) -> tf.Tensor:
    """U V^T of a matrix U S V^T, with singular values of 0.7 to 1.2.

    Those below about 0.01 of the root of the sum of all squares are smaller.

    Args:
      matrix: [rows, columns].
    Returns: [rows, columns]; zeros of zeros.
    """
    rows, columns = matrix.shape
    if rows > columns:
        return tf.transpose(orthogonal(tf.transpose(matrix)))
    first, third, fifth = _POLYNOMIAL
    matrix = tf.math.divide_no_nan(matrix, tf.norm(matrix))
    # With x = p matrix, x -> (first + third x x^T + fifth (x x^T)^2) x.
    square = tf.matmul(matrix, matrix, transpose_b=True)
    whole = unit = tf.eye(rows, dtype=matrix.dtype)
    for _ in range(_APPLICATIONS):
        factor = first * unit + third * square + fifth * (square @ square)
        whole = factor @ whole
        square = factor @ square @ factor
    return whole @ matrix
