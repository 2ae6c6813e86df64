"""The Hamiltonian Generative Network: frames -> state -> motion -> frames."""

from typing import NamedTuple

import keras
import tensorflow as tf

from hgn_tf import integrators, losses
from hgn_tf.models import video_checks
from hgn_tf.networks import build_once, serializable, split_state
from hgn_tf.phase import PhaseState

# Frames decoded at a time outside of training; bounds the memory of long
# rollouts, about 100 MB with the paper's decoder at 32x32.
_DECODED_AT_ONCE = 256


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


@serializable
class HGN(keras.Model):
    """Learns the laws of motion of a system from videos of it.

    The first `num_inference_frames` frames give a posterior over z, f_psi
    turns a sample of z into the state (q, p) *at the first frame*, the learned
    Hamiltonian rolls it out, the decoder draws each frame from q. Trained by
    `compile`, `fit` on the evidence lower bound (the paper's equation 4, the
    mean over frames of the reconstruction minus KL(q(z | x) || N(0, 1))) in
    the constrained form of `losses.Geco`.

    A training step may decode a few frames only: one drawn from each of
    `num_decoded_frames` equal parts of the horizon, an unbiased estimate of
    the mean over the horizon. The horizon grows linearly from
    `initial_horizon` frames to all of them over `curriculum_steps` steps.
    Paper: all frames, no curriculum. A step whose gradients are not finite
    changes nothing but the count `dropped_steps`.

    Args:
      encoder: Layer, frames -> (mean, log_scale) of z; `networks.Encoder`.
      hamiltonian: Layer (q, p) -> energy [batch].
      decoder: Layer q -> frame.
      state_net: f_psi, layer z -> PhaseState; None splits z into q and p.
      num_inference_frames: Frames that the encoder sees.
      num_decoded_frames: Frames decoded a training step; None for all.
      curriculum_steps: Steps until the horizon is the whole video; 0 for none.
      initial_horizon: Frames of the first horizon.
      integrator: A name in `integrators.INTEGRATORS`.
      dt: Seconds a step, one step a frame.
      sample: Sample z in training; False gives the paper's deterministic
        variant, without the KL term.
      geco: `losses.Geco`; None for its defaults.
      seed: Of the noise in training. The noise of a step depends on the seed
        and the number of steps alone, so a resumed run is the same run.
    Call: video [batch, time, height, width, channels], uint8 or floats in
      [0, 1], time at least `num_inference_frames` -> HGNOutput of the
      posterior's mean, every frame decoded.
    Raises: ValueError: for an argument out of its range, an unknown
      integrator, and in `fit`, `evaluate`, `predict`, `infer` for frames that
      do not fit.
    Source: Toth et al., Hamiltonian Generative Networks (2019), section 3.2.
    """

    def __init__(
        self,
        encoder,
        hamiltonian,
        decoder,
        state_net=None,
        *,
        num_inference_frames=30,
        num_decoded_frames=None,
        curriculum_steps=0,
        initial_horizon=5,
        integrator="leapfrog",
        dt=0.125,
        sample=True,
        geco=None,
        seed=0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        # `compile` then leaves XLA off unless asked for: on a CPU it makes
        # convolutions slower.
        self.supports_jit = False
        integrators.get_integrator(integrator)
        integrators.check_dt(dt)
        _check_frames(
            num_inference_frames,
            num_decoded_frames,
            curriculum_steps,
            initial_horizon,
        )
        self.encoder = _layer_from(encoder)
        self.hamiltonian = _layer_from(hamiltonian)
        self.decoder = _layer_from(decoder)
        self.state_net = _layer_from(state_net)
        self.num_inference_frames = num_inference_frames
        self.num_decoded_frames = num_decoded_frames
        self.curriculum_steps = curriculum_steps
        self.initial_horizon = initial_horizon
        self.integrator = integrator
        self.dt = dt
        self.sample = sample
        self.geco = _layer_from(geco) or losses.Geco()
        self.seed = seed
        self.steps = self._counter("steps")
        self.dropped_steps = self._counter("dropped_steps")
        self._reconstruction = keras.metrics.Mean("reconstruction")
        self._kl = keras.metrics.Mean("kl")
        self._compiled_rollout = tf.function(self._rollout)
        self._compiled_decoder = tf.function(
            self._decode_frames, reduce_retracing=True
        )

    def build(self, video_shape):
        *_, height, width, channels = video_shape
        frames = (None, self.num_inference_frames, height, width, channels)
        build_once(self.encoder, frames)
        z_shape = (None, *self.encoder.latent_shape)
        q_shape = (*z_shape[:-1], z_shape[-1] // 2)
        if self.state_net is not None:
            build_once(self.state_net, z_shape)
            q_shape = (None, *self.state_net.state_shape)
        build_once(self.hamiltonian, q_shape, q_shape)
        build_once(self.decoder, q_shape)
        drawn = self.decoder.compute_output_shape(q_shape)[1:]
        if tuple(drawn) != (height, width, channels):
            raise ValueError(
                "The decoder must draw frames of the size it is trained on. "
                f"Received: frames {(height, width, channels)}, decoder "
                f"output {tuple(drawn)}."
            )
        self.built = True

    def fit(self, x=None, *args, **kwargs):
        """As `keras.Model.fit`, on videos or dictionaries with a "video"."""
        self._prepare(x)
        return super().fit(x, *args, **kwargs)

    def evaluate(self, x=None, *args, **kwargs):
        """As `keras.Model.evaluate`: every frame, from the posterior's mean."""
        self._prepare(x)
        return super().evaluate(x, *args, **kwargs)

    def predict(self, x, *args, **kwargs):
        """As `keras.Model.predict`: an HGNOutput of arrays."""
        self._prepare(x)
        return super().predict(x, *args, **kwargs)

    def call(self, video, training=False):
        video = _video_of(video)
        posterior = self._encode(video)
        state = self._first_state(posterior, sample=training and self.sample)
        states = self._rollout(
            *state, self.dt, video.shape[1] - 1, training=training
        )
        return HGNOutput(self._decode_frames(states.q), states, posterior)

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
        posterior = self._encode(_video_of(video))
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
        return self._compiled_rollout(*state, float(dt), int(num_steps))

    def decode(self, q):
        """Frames [batch, time, ...] of positions q [batch, time, ...]."""
        frames = max(1, _DECODED_AT_ONCE // max(1, q.shape[0]))
        return tf.concat(
            [
                self._compiled_decoder(q[:, start : start + frames])
                for start in range(0, q.shape[1], frames)
            ],
            axis=1,
        )

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
        rank = len(self._state_shape) + 1
        if len(state.q.shape) == rank:
            return self.hamiltonian(*state)
        lead = state.q.shape[:2]
        flat = (tf.reshape(x, [-1, *self._state_shape]) for x in state)
        return tf.reshape(self.hamiltonian(*flat), lead)

    def train_step(self, data):
        video = _video_of(data)
        with tf.GradientTape() as tape:
            posterior = self._encode(video)
            state = self._first_state(posterior, self.sample)
            states = self._rollout(
                *state, self.dt, video.shape[1] - 1, training=True
            )
            q, target = self._drawn_frames(states.q, video)
            error = losses.reconstruction(target, self._decode_frames(q))
            kl = self._divergence(posterior)
            loss = self.geco.objective(error, kl, _pixels(video))
            # Keras sums the gradients of replicas.
            replicas = tf.distribute.get_strategy().num_replicas_in_sync
            share = loss / replicas
        gradients = tape.gradient(
            share,
            self.trainable_variables,
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )
        self._apply_if_finite(gradients, error, replicas)
        self.steps.assign_add(1)
        self._track(loss, error, kl)
        return {
            **self.get_metrics_result(),
            "geco_multiplier": self.geco.multiplier,
            "dropped_steps": self.dropped_steps.value,
        }

    def test_step(self, data):
        video = _video_of(data)
        output = self(video, training=False)
        error = losses.reconstruction(video, output.video)
        kl = self._divergence(output.posterior)
        self._track(self.geco.objective(error, kl, _pixels(video)), error, kl)
        return self.get_metrics_result()

    def get_config(self):
        layers = ("encoder", "hamiltonian", "decoder", "state_net", "geco")
        serialize = keras.saving.serialize_keras_object
        return {
            **super().get_config(),
            **{name: serialize(getattr(self, name)) for name in layers},
            "num_inference_frames": self.num_inference_frames,
            "num_decoded_frames": self.num_decoded_frames,
            "curriculum_steps": self.curriculum_steps,
            "initial_horizon": self.initial_horizon,
            "integrator": self.integrator,
            "dt": self.dt,
            "sample": self.sample,
            "seed": self.seed,
        }

    def _prepare(self, data):
        shape = video_checks.check_data(
            data, self.num_inference_frames, self._frame_shape
        )
        # `train_step` takes the path apart, so Keras would not build for it.
        if not self.built:
            self.build((None, *shape[1:]))

    def _counter(self, name):
        return self.add_weight(
            name=name,
            dtype="int64",
            initializer="zeros",
            trainable=False,
            aggregation="only_first_replica",
        )

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
        """[batch, time, ...] -> [batch, time, height, width, channels]."""
        lead = tf.shape(q)[:2]
        frames = self.decoder(tf.reshape(q, [-1, *q.shape[2:]]))
        frames_shape = tf.concat([lead, frames.shape[1:]], axis=0)
        return tf.ensure_shape(
            tf.reshape(frames, frames_shape), [*q.shape[:2], *frames.shape[1:]]
        )

    def _drawn_frames(self, q, video):
        """One frame from each of `num_decoded_frames` parts of the horizon."""
        frames, count = video.shape[1], self.num_decoded_frames
        if count is None or count >= frames:
            return q, video
        part = tf.range(count, dtype=tf.float32) + tf.random.stateless_uniform(
            [tf.shape(video)[0], count], self._noise_seed(1)
        )
        index = tf.cast(part * self._horizon(frames) / count, tf.int32)
        index = tf.minimum(index, frames - 1)
        return (
            tf.gather(q, index, batch_dims=1),
            tf.gather(video, index, batch_dims=1),
        )

    def _horizon(self, frames):
        if not self.curriculum_steps:
            return float(frames)
        grown = tf.cast(self.steps.value, tf.float32) / self.curriculum_steps
        first = min(self.initial_horizon, frames)
        return first + (frames - first) * tf.minimum(grown, 1.0)

    def _noise_seed(self, purpose):
        """Differs by step, purpose and replica."""
        context = tf.distribute.get_replica_context()
        replica = context.replica_id_in_sync_group if context else 0
        stream = tf.cast(2 * replica + purpose, tf.int64)
        return tf.stack([self.seed * 2**16 + stream, self.steps.value])

    def _divergence(self, posterior):
        if not self.sample:
            return tf.zeros_like(losses.gaussian_kl(*posterior))
        return losses.gaussian_kl(*posterior)

    def _apply_if_finite(self, gradients, error, replicas):
        finite = tf.reduce_all(
            [tf.reduce_all(tf.math.is_finite(part)) for part in gradients]
        )
        variables = self.trainable_variables
        self.optimizer.build(variables)

        def apply():
            self.optimizer.apply(gradients, variables)
            self.geco.update(error)
            return tf.constant(0, tf.int64)

        if replicas == 1:
            dropped = tf.cond(finite, apply, lambda: tf.constant(1, tf.int64))
        else:
            # Replicas update together, so none can skip: theirs count as 0.
            gradients = [
                tf.where(finite, part, tf.zeros_like(part))
                for part in gradients
            ]
            error = tf.where(finite, error, self.geco.tolerance)
            dropped = tf.cast(~finite, tf.int64) + apply()
        self.dropped_steps.assign_add(dropped)

    def _track(self, loss, error, kl):
        self._loss_tracker.update_state(loss)
        self._reconstruction.update_state(error)
        self._kl.update_state(kl)


def _layer_from(value):
    """A layer as given, or from its configuration when a model is loaded."""
    if isinstance(value, dict):
        return keras.saving.deserialize_keras_object(value)
    return value


def _video_of(data):
    """The video of what a dataset gives, as floats in [0, 1]."""
    if isinstance(data, (tuple, list)):
        data = data[0]
    if isinstance(data, dict):
        data = data["video"]
    video = tf.convert_to_tensor(data)
    if video.dtype == tf.uint8:
        return tf.cast(video, tf.float32) / 255.0
    return tf.cast(video, tf.float32)


def _pixels(video):
    _, _, height, width, channels = video.shape
    return height * width * channels


def _check_frames(inferred, decoded, curriculum_steps, initial_horizon):
    if inferred < 1 or initial_horizon < 1:
        raise ValueError(
            "`num_inference_frames` and `initial_horizon` must be at least 1. "
            f"Received: {inferred} and {initial_horizon}."
        )
    if decoded is not None and decoded < 1:
        raise ValueError(
            "`num_decoded_frames` must be at least 1, or None for all. "
            f"Received: {decoded}."
        )
    if curriculum_steps < 0 or (curriculum_steps and decoded is None):
        raise ValueError(
            "`curriculum_steps` must be 0 or more and needs "
            f"`num_decoded_frames`. Received: {curriculum_steps} and "
            f"{decoded}."
        )
