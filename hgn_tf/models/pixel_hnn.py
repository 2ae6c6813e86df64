"""The pixel HNN: an autoencoder of pairs of frames, with an HNN on its code."""

import keras
import tensorflow as tf

from hgn_tf import integrators, losses
from hgn_tf.models import observations
from hgn_tf.models.finite_steps import CountedSteps
from hgn_tf.models.hnn import HNN
from hgn_tf.models.inner_steps import run_steps
from hgn_tf.models.pixel_inference import PixelHNNOutput, PixelInference
from hgn_tf.networks import (
    build_once,
    layer_from,
    serializable,
    split_state,
)


@serializable
class PixelHNN(PixelInference, CountedSteps, keras.Model):
    """Encodes pairs of frames to z = (q, p) and learns H(q, p) there.

    Trained by `compile`, `fit`, with x an observation and x' the next one,

        L_AE  = mean |x - decoder(z)|^2        z = encoder(x)
        L_CC  = mean |p - (q' - q)|^2          (q', p') = encoder(x')
        L_HNN = mean |(z' - z) - field(z)|^2   field = (dH/dp, -dH/dq)
        loss  = L_AE + L_CC + hnn_weight * L_HNN

    plus weight_decay / 2 * |weights|^2, the decay that is coupled into Adam's
    gradient, which reported losses leave out. Time counts in frames here, as
    in the paper. An observation is one of two kinds:

      Videos: x is the pair of frames (t, t + 1), x' the pair (t + 1, t + 2).
        A training step draws one t a video; `evaluate` takes them all.
      Vectors: `fit(x, dx)` with x [rows, size] and x' = x + dx; the HNN
        paper's x is a frame and its change.

    A step whose gradients are not finite changes nothing but the count
    `dropped_steps`.

    Args:
      encoder: Layer, observation -> z [batch, 2 dof].
      decoder: Layer, z -> observation.
      dynamics: `HNN` on z, or `DerivativeNet` for the baseline without
        physics, each with its own weight decay; None for the paper's HNN,
        2 x 200 tanh, with the one given here.
      dt: Seconds between frames, the unit of `rollout`.
      hnn_weight: 0.1 in the paper.
      weight_decay: Of encoder and decoder, 1e-5 in the paper.
      seed: Of the draws in training. Those of a step depend on the seed and
        the number of steps alone, so a resumed run is the same run.
    Attributes:
      num_inference_frames: 2, what a state is inferred from.
      sample: False: there is no prior to sample from.
      inner_steps: As of `StateField`.
    Call: videos [batch, time, height, width, channels], uint8 or floats in
      [0, 1], of which the first pair is taken, or vectors [batch, size] ->
      PixelHNNOutput.
    Raises: ValueError: for an argument out of its range, networks that do not
      fit each other, and in `fit`, `evaluate`, `predict`, `infer` for data
      that do not fit.
    Source: the HGN paper, A.3; Greydanus et al. 2019, Hamiltonian Neural
      Networks, section 5.
    """

    def __init__(
        self,
        encoder,
        decoder,
        dynamics=None,
        *,
        dt=1.0,
        hnn_weight=0.1,
        weight_decay=1e-5,
        seed=0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        # `compile` then leaves XLA off. On a CPU it gains nothing here and
        # makes convolutions slower.
        self.supports_jit = False
        integrators.check_dt(dt)
        if hnn_weight < 0 or weight_decay < 0:
            raise ValueError(
                "`hnn_weight` and `weight_decay` must be 0 or more. "
                f"Received: {hnn_weight} and {weight_decay}."
            )
        self.encoder = layer_from(encoder)
        self.decoder = layer_from(decoder)
        self.dynamics = layer_from(dynamics) or HNN(weight_decay=weight_decay)
        self.dt = dt
        self.hnn_weight = hnn_weight
        self.weight_decay = weight_decay
        self.seed = seed
        self.inner_steps = 1
        self._observation_shape = None
        self._add_counters()
        self._term_means = [
            keras.metrics.Mean(name)
            for name in ("reconstruction", "canonical", "field")
        ]
        self._compiled_encoder = tf.function(
            self._encode, reduce_retracing=True
        )
        self._compiled_decoder = tf.function(
            self._decode, reduce_retracing=True
        )

    def build(self, shape):
        if isinstance(shape, dict):
            shape = shape["video"]
        size = shape[1:] if len(shape) == 2 else (2, *shape[2:])
        self._observation_shape = tuple(size)
        seen = (None, *size)
        build_once(self.encoder, seen)
        z_shape = self.encoder.compute_output_shape(seen)
        if len(z_shape) != 2 or z_shape[1] % 2:
            raise ValueError(
                "`encoder` must give z = (q, p) [batch, 2 dof]. Received: "
                f"{z_shape}."
            )
        build_once(self.dynamics, z_shape)
        build_once(self.decoder, z_shape)
        drawn = self.decoder.compute_output_shape(z_shape)
        if tuple(drawn[1:]) != seen[1:]:
            raise ValueError(
                "`decoder` must draw what `encoder` sees. Received: "
                f"observations {seen[1:]}, decoder output {tuple(drawn[1:])}."
            )
        self.built = True

    def fit(self, x=None, y=None, *args, **kwargs):
        """As `keras.Model.fit`: videos, vectors and their change, or a dataset.

        Args:
          x: Videos, dictionaries with a "video", vectors [rows, size], or a
            tf.data.Dataset of batches of videos or of pairs (x, y).
          y: For vectors, the change to the next one.
          *args: Of `keras.Model.fit`.
          **kwargs: Likewise.
        """
        x = self._prepare(x, y, needed=3)
        if isinstance(x, tf.data.Dataset):
            # It comes in its own order; Keras would warn that it keeps it.
            kwargs.setdefault("shuffle", False)
        return super().fit(x, y, *args, **kwargs)

    def evaluate(self, x=None, y=None, *args, **kwargs):
        """As `keras.Model.evaluate`, on what `fit` takes: every pair."""
        x = self._prepare(x, y, needed=3)
        return super().evaluate(x, y, *args, **kwargs)

    def predict(self, x, *args, **kwargs):
        """As `keras.Model.predict`: a PixelHNNOutput of arrays."""
        x = self._prepare(x, None, needed=2)
        return super().predict(x, *args, **kwargs)

    def call(self, x, training=False):
        z = self.encoder(observations.first(x))
        return PixelHNNOutput(self.decoder(z), split_state(z))

    def train_step(self, data):
        run_steps(self._step, data, self.inner_steps)
        return {
            **self.get_metrics_result(),
            "dropped_steps": tf.identity(self.dropped_steps.value),
        }

    def test_step(self, data):
        terms = self._terms(*observations.consecutive(data))
        self._track_terms(self._total(terms), terms)
        return self.get_metrics_result()

    def get_config(self):
        serialize = keras.saving.serialize_keras_object
        return {
            **super().get_config(),
            "encoder": serialize(self.encoder),
            "decoder": serialize(self.decoder),
            "dynamics": serialize(self.dynamics),
            "dt": self.dt,
            "hnn_weight": self.hnn_weight,
            "weight_decay": self.weight_decay,
            "seed": self.seed,
        }

    def _step(self, data):
        def objective():
            terms = self._terms(
                *observations.consecutive(data, self._noise_seed(0))
            )
            loss = self._total(terms)
            decay = self.weight_decay * sum(
                tf.nn.l2_loss(weight.value)
                for part in (self.encoder, self.decoder)
                for weight in part.trainable_variables
            )
            return loss + decay + sum(self.losses), loss, terms

        _, loss, terms = self._descend(objective)
        self._track_terms(loss, terms)

    def _terms(self, x, after):
        """L_AE, L_CC and L_HNN, each [batch]."""
        both = self.encoder(tf.concat([x, after], axis=0))
        z, z_after = tf.split(both, 2)
        q, p = split_state(z)
        q_after, _ = split_state(z_after)
        return (
            losses.reconstruction(x, self.decoder(z)),
            losses.reconstruction(p, q_after - q),
            losses.reconstruction(z_after - z, self.dynamics(z)),
        )

    def _total(self, terms):
        image, canonical, field = terms
        return tf.reduce_mean(image + canonical + self.hnn_weight * field)

    def _track_terms(self, loss, terms):
        self._track((self._loss_tracker, loss), *zip(self._term_means, terms))
