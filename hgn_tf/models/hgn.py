"""The Hamiltonian Generative Network: frames -> state -> motion -> frames."""

import keras
import tensorflow as tf

from hgn_tf import integrators, losses, presets
from hgn_tf.models import frames
from hgn_tf.models.finite_steps import CountedSteps
from hgn_tf.models.inference import HGNOutput, Inference
from hgn_tf.networks import build_once, layer_from, serializable


@serializable
class HGN(Inference, CountedSteps, keras.Model):
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
        self.encoder = layer_from(encoder)
        self.hamiltonian = layer_from(hamiltonian)
        self.decoder = layer_from(decoder)
        self.state_net = layer_from(state_net)
        self.num_inference_frames = num_inference_frames
        self.num_decoded_frames = num_decoded_frames
        self.curriculum_steps = curriculum_steps
        self.initial_horizon = initial_horizon
        self.integrator = integrator
        self.dt = dt
        self.sample = sample
        self.geco = layer_from(geco) or losses.Geco()
        self.seed = seed
        self._add_counters()
        self._reconstruction = keras.metrics.Mean("reconstruction")
        self._kl = keras.metrics.Mean("kl")
        self._compiled_rollout = tf.function(
            self._rollout, reduce_retracing=True
        )
        self._compiled_decoder = tf.function(
            self._decode_frames, reduce_retracing=True
        )

    @classmethod
    def from_preset(cls, name: str) -> "HGN":
        """A trained model that ships with the package; not compiled.

        Args:
          name: One of `hgn_tf.list_presets()`; `hgn_tf.presets.card(name)`
            says what it was trained on and what it reached.
        Raises: ValueError: if there is no such preset.
        """
        return presets.load(name)

    def build(self, video_shape):
        if isinstance(video_shape, dict):
            video_shape = video_shape["video"]
        *_, height, width, channels = video_shape
        seen = (None, self.num_inference_frames, height, width, channels)
        build_once(self.encoder, seen)
        if self.state_net is not None:
            build_once(self.state_net, (None, *self.encoder.latent_shape))
        q_shape = (None, *self._state_shape)
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
        x = self._prepare(x)
        if isinstance(x, tf.data.Dataset):
            # It comes in its own order; Keras would warn that it keeps it.
            kwargs.setdefault("shuffle", False)
        return super().fit(x, *args, **kwargs)

    def evaluate(self, x=None, *args, **kwargs):
        """As `keras.Model.evaluate`: every frame, from the posterior's mean."""
        x = self._prepare(x)
        return super().evaluate(x, *args, **kwargs)

    def predict(self, x, *args, **kwargs):
        """As `keras.Model.predict`: an HGNOutput of arrays."""
        x = self._prepare(x)
        return super().predict(x, *args, **kwargs)

    def call(self, video, training=False):
        video = frames.video_of(video)
        posterior = self._encode(video)
        state = self._first_state(posterior, sample=training and self.sample)
        states = self._rollout(
            *state, self.dt, video.shape[1] - 1, training=training
        )
        return HGNOutput(self._decode_frames(states.q), states, posterior)

    def train_step(self, data):
        video = frames.video_of(data)
        loss, error, kl = self._descend(
            lambda: self._objective(video),
            lambda error, kl: self.geco.update(error),
        )
        self._track_terms(loss, error, kl)
        return {
            **self.get_metrics_result(),
            "geco_multiplier": self.geco.multiplier,
            "dropped_steps": tf.identity(self.dropped_steps.value),
        }

    def test_step(self, data):
        video = frames.video_of(data)
        output = self(video, training=False)
        error = losses.reconstruction(video, output.video)
        kl = self._divergence(output.posterior)
        self._track_terms(
            self.geco.objective(error, kl, frames.pixels_of(video)), error, kl
        )
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

    def _objective(self, video):
        """Loss, reconstruction error and KL of a training step."""
        posterior = self._encode(video)
        state = self._first_state(posterior, self.sample)
        states = self._rollout(
            *state, self.dt, video.shape[1] - 1, training=True
        )
        q, target = states.q, video
        count, length = self.num_decoded_frames, video.shape[1]
        if count is not None and (count < length or self.curriculum_steps):
            q, target = frames.draw_frames(
                q, target, count, self._horizon(length), self._noise_seed(1)
            )
        error = losses.reconstruction(target, self._decode_frames(q))
        kl = self._divergence(posterior)
        loss = self.geco.objective(error, kl, frames.pixels_of(video))
        return loss, error, kl

    def _horizon(self, length):
        if not self.curriculum_steps:
            return float(length)
        grown = tf.cast(self.steps.value, tf.float32) / self.curriculum_steps
        first = min(self.initial_horizon, length)
        return first + (length - first) * tf.minimum(grown, 1.0)

    def _divergence(self, posterior):
        if not self.sample:
            return tf.zeros_like(losses.gaussian_kl(*posterior))
        return losses.gaussian_kl(*posterior)

    def _track_terms(self, loss, error, kl):
        self._track(
            (self._loss_tracker, loss),
            (self._reconstruction, error),
            (self._kl, kl),
        )


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
