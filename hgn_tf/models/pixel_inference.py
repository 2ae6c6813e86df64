"""What a pixel HNN does once trained."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from hgn_tf import integrators
from hgn_tf.models import frames, observations
from hgn_tf.models.motion import LatentMotion, latent_motion
from hgn_tf.networks import split_state
from hgn_tf.phase import PhaseState

_RTOL = 1e-6  # of rollouts; the field is float32


class PixelHNNOutput(NamedTuple):
    """An observation drawn again, [batch, ...], and its state [batch, dof]."""

    observation: tf.Tensor
    state: PhaseState


class PixelInference:
    """The use of a trained model: states, motions, frames.

    For a `keras.Model` with encoder, decoder, dynamics, dt and compiled
    forms of the first two.
    """

    num_inference_frames = 2
    sample = False

    def infer(self, x) -> PhaseState:
        """The state at the first frame, from the first two; or of vectors.

        Args:
          x: [batch, time, height, width, channels], uint8 or floats in
            [0, 1], or vectors [batch, size].
        Returns: PhaseState of shape [batch, dof].
        Raises: ValueError: if they do not fit.
        """
        x = self._prepare(x, None, needed=2)
        return split_state(self._compiled_encoder(observations.first(x)))

    def rollout(self, state, num_steps, dt=None) -> PhaseState:
        """The states at 0, dt, ..., num_steps * dt by scipy's solve_ivp.

        Args:
          state: PhaseState of shape [batch, dof].
          num_steps: How many steps, 0 or more.
          dt: Seconds a step; None for the model's, a frame. Negative goes
            back, half the model's is half speed.
        Returns: PhaseState of shape [batch, num_steps + 1, dof].
        Raises:
          ValueError: if dt is 0 or num_steps negative.
          ArithmeticError: if the field cannot be followed.
        """
        dt = integrators.check_dt(self.dt if dt is None else dt)
        if num_steps < 0:
            raise ValueError(
                f"`num_steps` must be 0 or more. Received: {num_steps}."
            )
        start = np.concatenate([np.asarray(part) for part in state], axis=-1)
        path = start[:, None]
        if num_steps:
            times = dt / self.dt * np.arange(num_steps + 1)
            path = self.dynamics.integrate(
                start, times[[0, -1]], times, rtol=_RTOL
            )
        return split_state(tf.constant(path, tf.float32))

    def decode(self, states) -> tf.Tensor:
        """Observations [batch, time, ...] of states [batch, time, dof]."""
        return frames.decode_in_parts(
            self._compiled_decoder, tf.concat(states, axis=-1)
        )

    def draw(self, states) -> tf.Tensor:
        """Frames [batch, time, height, width, channels] of states in time.

        The first of each decoded pair; of vectors there is nothing to draw.
        """
        return self.decode(states)[:, :, 0]

    def energy(self, state) -> tf.Tensor:
        """The learned H(q, p): [batch], or [batch, time] of states in time.

        Raises: ValueError: if `dynamics` has no energy.
        """
        if not hasattr(self.dynamics, "hamiltonian"):
            raise ValueError(
                "The energy is that of an HNN. Received: dynamics "
                f"{type(self.dynamics).__name__}."
            )
        if len(state.q.shape) == 2:
            return self.dynamics.hamiltonian(*state)
        return frames.energy_in_time(self.dynamics.hamiltonian, state)

    def motion(self, x) -> LatentMotion:
        """Whether the learned field moves the data, or has collapsed.

        A pixel HNN may end with a constant image: what the field, and with it
        |grad H|, moves is then next to nothing beside the spread of the
        states, or of the pictures, or the states are all one point.

        Args:
          x: As in `infer`; of videos every pair is looked at.
        Returns: LatentMotion.
        """
        x = self._prepare(x, None, needed=2)
        pairs = [x]
        if len(x.shape) == 5:
            pairs = [x[:, at : at + 2] for at in range(x.shape[1] - 1)]
        z = np.stack([tf.concat(self.infer(each), -1) for each in pairs])
        rows = z.reshape(-1, z.shape[-1])
        change = np.asarray(self.dynamics.time_derivative(rows))
        drawn, carried = (
            self.decode(split_state(tf.constant(each))).numpy()
            for each in (z, z + change.reshape(z.shape))
        )
        recorded = np.concatenate([frames.video_of(each) for each in pairs])
        return latent_motion(rows, change, drawn, carried, recorded)

    def _prepare(self, x, y, needed):
        x, shape = observations.check(x, y, needed, self._observation_shape)
        # `train_step` takes the path apart, so Keras would not build for it.
        if not self.built:
            self.build((None, *shape[1:]))
        return x

    def _encode(self, x):
        return self.encoder(x)

    def _decode(self, z):
        return frames.decode_frames(self.decoder, z)
