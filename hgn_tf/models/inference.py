"""What a model with encoder, Hamiltonian and decoder does once trained."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from hgn_tf import integrators
from hgn_tf.models import frames, video_checks
from hgn_tf.models.motion import LatentMotion, latent_motion
from hgn_tf.networks import split_state
from hgn_tf.phase import PhaseState, time_derivative


class Posterior(NamedTuple):
    """q(z | frames): mean and log standard deviation, [batch, *latent]."""

    mean: tf.Tensor
    log_scale: tf.Tensor


class HGNOutput(NamedTuple):
    """What the path makes of a batch of videos.

    video [batch, time, height, width, channels], about 0 to 1; states over
    time, q and p [batch, time, ...]; the posterior of the first state.
    """

    video: tf.Tensor
    states: PhaseState
    posterior: Posterior


class Motion(NamedTuple):
    """Frames [batch, time, ...] and the states that they were drawn from."""

    video: tf.Tensor
    states: PhaseState


class Inference:
    """The arrows of the path, and their use on a trained model.

    For a `keras.Model` with the attributes encoder, state_net, hamiltonian,
    decoder, num_inference_frames, integrator, dt, sample, seed and steps.
    """

    def infer(self, video) -> PhaseState:
        """The phase state at the first frame, from the posterior's mean.

        Args:
          video: [batch, time, height, width, channels], uint8 or floats in
            [0, 1]; the first `num_inference_frames` frames are used.
        Returns: PhaseState of shape [batch, ...].
        Raises: ValueError: if the frames do not fit.
        """
        video = video_checks.check_frames(
            video, self.num_inference_frames, self._frame_shape
        )
        posterior = self._encode(frames.video_of(video))
        return self._first_state(posterior, sample=False)

    def rollout(self, state, num_steps, dt=None) -> PhaseState:
        """The states at 0, dt, ..., num_steps * dt from `state`.

        Args:
          state: PhaseState of shape [batch, ...].
          num_steps: How many steps, 0 or more.
          dt: Seconds a step; None for the model's. Negative goes back, half
            the model's is half speed.
        Returns: PhaseState of shape [batch, num_steps + 1, ...].
        Raises: ValueError: if dt is 0 or num_steps negative.
        """
        dt = integrators.check_dt(self.dt if dt is None else dt)
        # As a tensor: another dt needs no other graph.
        return self._compiled_rollout(
            *state, tf.constant(dt, state.q.dtype), int(num_steps)
        )

    def decode(self, q):
        """Frames [batch, time, ...] of positions q [batch, time, ...]."""
        return frames.decode_in_parts(self._compiled_decoder, q)

    def draw(self, states):
        """Frames [batch, time, height, width, channels] of states in time."""
        return self.decode(states.q)

    def generate(self, num_samples, num_steps, dt=None, seed=0) -> Motion:
        """New motions, from states drawn from the prior z ~ N(0, 1).

        Args:
          num_samples: How many.
          num_steps: Steps of each; there is one frame more.
          dt: Seconds a step; None for the model's.
          seed: Of the prior; equal seeds give equal motions.
        Returns: Motion, video [num_samples, num_steps + 1, ...].
        Raises: ValueError: for a deterministic model, which has no prior.
        """
        if not self.sample:
            raise ValueError(
                "`generate` needs a model trained with `sample=True`: without "
                "the KL term no prior was learned. Received: sample=False."
            )
        shape = [num_samples, *self.encoder.latent_shape]
        z = tf.random.stateless_normal(shape, [seed, 0])
        states = self.rollout(self._to_state(z), num_steps, dt)
        return Motion(self.decode(states.q), states)

    def energy(self, state) -> tf.Tensor:
        """The learned H(q, p): [batch], or [batch, time] of states in time."""
        if len(state.q.shape) == len(self._state_shape) + 1:
            return self.hamiltonian(*state)
        return frames.energy_in_time(self.hamiltonian, state)

    def motion(self, video) -> LatentMotion:
        """Whether the learned H moves the data, or has collapsed.

        A model may end with a constant image: what |grad H| moves is then next
        to nothing beside the spread of the states, or of the pictures, or the
        states are all one.

        Args:
          video: As in `infer`; the states looked at are those of the rollout
            over its frames.
        Returns: LatentMotion; a frame is a step of `dt`.
        """
        path = self.rollout(self.infer(video), video.shape[1] - 1)
        states = PhaseState(
            *(tf.reshape(part, [-1, *part.shape[2:]]) for part in path)
        )
        change = time_derivative(self.hamiltonian, states)
        carried = path.q + self.dt * tf.reshape(change.q, tf.shape(path.q))
        recorded = frames.video_of(video)
        return latent_motion(
            _in_rows(states),
            self.dt * _in_rows(change),
            self.decode(path.q).numpy(),
            self.decode(carried).numpy(),
            tf.reshape(recorded, [-1, *recorded.shape[2:]]).numpy(),
        )

    def _prepare(self, data):
        data, shape = video_checks.check_data(
            data, self.num_inference_frames, self._frame_shape
        )
        # `train_step` takes the path apart, so Keras would not build for it.
        if not self.built:
            self.build((None, *shape[1:]))
        return data

    @property
    def _state_shape(self):
        if self.state_net is not None:
            return self.state_net.state_shape
        *size, channels = self.encoder.latent_shape
        return (*size, channels // 2)

    @property
    def _frame_shape(self):
        """Height, width and channels once built, or None."""
        config = self.get_build_config()
        return tuple(config["input_shape"][-3:]) if config else None

    def _encode(self, video):
        return Posterior(*self.encoder(video[:, : self.num_inference_frames]))

    def _first_state(self, posterior, sample):
        z = posterior.mean
        if sample:
            noise = tf.random.stateless_normal(tf.shape(z), self._noise_seed(0))
            z += tf.exp(posterior.log_scale) * noise
        return self._to_state(z)

    def _to_state(self, z):
        return split_state(z) if self.state_net is None else self.state_net(z)

    def _rollout(self, q, p, dt, num_steps, training=False):
        # A loop traces faster, but TF 2.20-2.21 cannot take the gradient of a
        # looped convolution's gradient: grappler's memory optimiser fails.
        unroll = training and len(q.shape) > 2
        return integrators.rollout(
            self.hamiltonian,
            PhaseState(q, p),
            dt,
            num_steps,
            self.integrator,
            unroll=unroll,
        )

    def _decode_frames(self, q):
        return frames.decode_frames(self.decoder, q)


def _in_rows(state):
    """[batch, size] of both halves."""
    flat = [part.numpy().reshape(len(part), -1) for part in state]
    return np.concatenate(flat, axis=1)
