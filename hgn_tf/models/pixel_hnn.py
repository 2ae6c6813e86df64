"""The pixel HNN: an autoencoder of pairs of frames, with an HNN on its code."""

import os
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from hgn_tf import integrators, losses
from hgn_tf.models import video as videos
from hgn_tf.models.batches import (
    SPEC,
    STEP,
    WHOLE,
    Batch,
    as_array,
    check_finite,
    check_no_targets,
    has_values,
)
from hgn_tf.models.collapse import Collapse, check_collapse
from hgn_tf.models.exports import export, spec
from hgn_tf.models.hnn import HNN
from hgn_tf.models.video import GuardedVideoModel, Motion
from hgn_tf.networks import serializable, split_state
from hgn_tf.networks.layers import deserialize_parts, serialize_parts
from hgn_tf.phase import PhaseState

_PARTS = ("encoder", "decoder", "dynamics")
_RTOL = 1e-6  # of rollouts; the field is float32
# Steps of rk4 per frame of a SavedModel, which has no scipy.
_EXPORTED_STEPS = 16


class PixelHNNOutput(NamedTuple):
    """An observation drawn again, [batch, ...], and its state [batch, dof]."""

    observation: tf.Tensor
    state: PhaseState


@serializable
class PixelHNN(GuardedVideoModel):
    """Encodes pairs of frames to z = (q, p) and learns H(q, p) there.

    `compile` and `fit` train, with x an observation and x' the next one,

        L_AE  = mean |x - decoder(z)|^2        z = encoder(x)
        L_CC  = mean |p - (q' - q)|^2          (q', p') = encoder(x')
        L_HNN = mean |(z' - z) - field(z)|^2   field = (dH/dp, -dH/dq)
        loss  = L_AE + L_CC + hnn_weight * L_HNN

    plus weight_decay / 2 * |weights|^2. This decay is coupled into Adam's
    gradient. Reported losses leave out this decay and whatever layers add.
    Time counts in frames here, as in the paper. An observation is one of two
    kinds.

    Of videos, x is the pair of frames (t, t + 1) and x' the pair (t + 1,
    t + 2). A training step draws one t per video; `evaluate` takes them all.

    Of vectors, `fit(x, dx)` takes x [rows, size] with x' = x + dx. In the HNN
    paper x is a frame and its change.

    A step whose gradients are not finite changes nothing but the count
    `dropped_steps`.

    Args:
      encoder: Layer, observation -> z [batch, 2 dof].
      decoder: Layer, z -> observation.
      dynamics: `HNN` on z, or `DerivativeNet` for the baseline without
        physics, each with its own weight decay. None for the paper's HNN,
        2 x 200 tanh, with the weight decay given here.
      dt: Seconds between frames, the unit of `rollout`.
      hnn_weight: Weight of L_HNN, 0.1 in the paper.
      weight_decay: Factor of the L2 decay of encoder and decoder, 1e-5 in the
        paper.
      seed: Seed of the draws in training. The draws of a step depend on the
        seed and the number of steps alone, so a resumed run is the same run.
    Attributes:
      num_inference_frames: 2, what a state is inferred from.
      stochastic: False: there is no prior to sample from.
    Call: videos [batch, time, height, width, channels], uint8 or floats in
      [0, 1], of which the first pair is taken, or vectors [batch, size] ->
      PixelHNNOutput.
    Raises:
      ValueError: if an argument is out of its range.
      ValueError: if the networks do not fit each other.
      ValueError: if `fit`, `evaluate`, `predict` or `infer` gets data that do
        not fit.
    Source: the HGN paper, A.3; Greydanus et al. 2019, Hamiltonian Neural
      Networks, section 5.
    """

    num_inference_frames = 2
    stochastic = False

    def __init__(
        self,
        encoder: keras.Layer,
        decoder: keras.Layer,
        dynamics: keras.Layer | None = None,
        *,
        dt: float = 1.0,
        hnn_weight: float = 0.1,
        weight_decay: float = 1e-5,
        seed: int = 0,
        **kwargs,
    ):
        super().__init__(seed, **kwargs)
        integrators.check_dt(dt)
        losses.check_weight("hnn_weight", hnn_weight)
        losses.check_weight("weight_decay", weight_decay)
        self.encoder = encoder
        self.decoder = decoder
        self.dynamics = dynamics or HNN(
            weight_decay=weight_decay, dtype=self.variable_dtype
        )
        self.dt = dt
        self.hnn_weight = hnn_weight
        self.weight_decay = weight_decay
        self._observation_shape: tuple[int, ...] = ()  # known once built
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
        seen = tuple(shape[1:] if len(shape) == 2 else (2, *shape[2:]))
        # Parts may be any layers: a call builds them and tells what they give.
        z = self._encode(tf.zeros((1, *seen), self.variable_dtype))
        if len(z.shape) != 2 or z.shape[1] % 2:
            raise ValueError(
                "`encoder` must give z = (q, p) [batch, 2 dof]. Received: "
                f"shape {tuple(z.shape)} of a batch of 1."
            )
        self.dynamics(z)
        drawn = tuple(self.decoder(z).shape[1:])
        if drawn != seen:
            raise ValueError(
                "`decoder` must draw what `encoder` sees. Received: "
                f"observations {seen}, decoder output {drawn}."
            )
        self._check_precision(**{part: getattr(self, part) for part in _PARTS})
        self._observation_shape = seen
        self.built = True

    def get_build_config(self):
        if not self._observation_shape:
            return None
        return {"input_shape": (None, *self._observation_shape)}

    def fit(
        self, x: Any = None, y: Any = None, *args, **kwargs
    ) -> keras.callbacks.History:
        """As `keras.Model.fit`: videos, vectors and their change, or a dataset.

        Args:
          x: Videos, dictionaries with a "video", vectors [rows, size], or a
            dataset or generator of batches of videos or of pairs (x, y).
          y: For vectors, the change to the next one.
          *args: Further arguments of `keras.Model.fit`.
          **kwargs: Further arguments of `keras.Model.fit`.
        """
        return super().fit(x, y, *args, **kwargs)

    def evaluate(self, x: Any = None, y: Any = None, *args, **kwargs) -> Any:
        """As `keras.Model.evaluate`, on what `fit` takes: every pair."""
        return super().evaluate(x, y, *args, **kwargs)

    def predict(self, x: Any, *args, **kwargs) -> Any:
        """As `keras.Model.predict`: a PixelHNNOutput of arrays."""
        return super().predict(x, *args, **kwargs)

    def export(self, filepath: str | os.PathLike, *args, **kwargs) -> None:
        """Writes a SavedModel, which runs without Keras and this package.

        Its endpoints take any number of examples. Videos are floats in [0, 1].

        - serve: video of two frames or more, or vectors -> observation, q, p.
        - infer: the same -> q and p [batch, dof].
        - decode: q, p [batch, time, dof] -> video, or vectors in time.
        - field: q, p -> dq and dp, their change per frame.
        - rollout, of an HNN: q, p, num_steps, dt -> q and p [batch, time, dof],
          by steps of rk4, 16 per frame at the model's dt.
        - energy, of an HNN: q, p -> energy [batch].

        Args:
          filepath: Folder of the SavedModel.
          *args: Arguments of `keras.Model.export`, without a signature.
          **kwargs: The same by name.
        Raises: ValueError: if the model is not built, or an argument does not
          apply.
        """
        export(self, self._endpoints, filepath, *args, **kwargs)

    def _endpoints(self):
        shape, dtype = self._observation_shape, self.variable_dtype
        of_frames = len(shape) > 1
        size = [None, None, *shape[1:]] if of_frames else [None, *shape]
        seen = [spec("video" if of_frames else "x", size, dtype)]
        half = self.dynamics.dim // 2
        state = [spec(name, [None, half], dtype) for name in "qp"]
        path = [spec(name, [None, None, half], dtype) for name in "qp"]

        def encode(x):
            pair = tf.ensure_shape(x[:, :2] if of_frames else x, [None, *shape])
            return self._encode(pair)

        def serve(x):
            z = encode(x)
            return {"observation": self._draw(z), **split_state(z)._asdict()}

        def decode(q, p):
            drawn = videos.decode_frames(self._draw, tf.concat([q, p], -1))
            return {"video": drawn[:, :, 0]} if of_frames else {"x": drawn}

        def field(q, p):
            slope = split_state(self.dynamics(tf.concat([q, p], -1)))
            return {"dq": slope.q, "dp": slope.p}

        def rollout(q, p, num_steps, dt):
            path = integrators.rollout(
                self.dynamics.hamiltonian,
                PhaseState(q, p),
                dt / self.dt / _EXPORTED_STEPS,
                num_steps * _EXPORTED_STEPS,
                "rk4",
            )
            return {
                name: part[:, ::_EXPORTED_STEPS]
                for name, part in path._asdict().items()
            }

        def energy(q, p):
            return {"energy": self.dynamics.hamiltonian(q, p)}

        endpoints = {
            "serve": (serve, seen),
            "infer": (lambda x: split_state(encode(x))._asdict(), seen),
            "decode": (decode, path),
            "field": (field, state),
        }
        if hasattr(self.dynamics, "hamiltonian"):
            steps = [spec("num_steps"), spec("dt", (), dtype)]
            endpoints["rollout"] = (rollout, [*state, *steps])
            endpoints["energy"] = (energy, state)
        return endpoints

    def infer(self, x: np.ndarray | tf.Tensor) -> PhaseState:
        """The state at the first frame, from the first two; or of vectors.

        Args:
          x: [batch, time, height, width, channels], uint8 or floats in
            [0, 1], or vectors [batch, size].
        Returns: PhaseState of shape [batch, dof].
        Raises: ValueError: if they do not fit.
        """
        x = videos.first_pair(self._observations(x), self.variable_dtype)
        return split_state(self._compiled_encoder(x))

    def rollout(
        self, state: PhaseState, num_steps: int, dt: float | None = None
    ) -> PhaseState:
        """The states at 0, dt, ..., num_steps * dt by scipy's solve_ivp.

        Args:
          state: PhaseState of shape [batch, dof].
          num_steps: Number of steps, 0 or more.
          dt: Seconds per step; None for the model's, one frame. Negative steps
            go back in time. Half the model's is half speed.
        Returns: PhaseState of shape [batch, num_steps + 1, dof].
        Raises:
          ValueError: if dt is 0 or num_steps negative.
          ArithmeticError: if the field cannot be followed.
        """
        dt = integrators.check_dt(self.dt if dt is None else dt)
        num_steps = integrators.check_num_steps(num_steps)
        start = np.concatenate([np.asarray(part) for part in state], axis=-1)
        path = start[:, None]
        if num_steps:
            times = dt / self.dt * np.arange(num_steps + 1)
            path = self.dynamics.integrate(
                start, times[[0, -1]], times, rtol=_RTOL
            )
        return split_state(tf.constant(path, self.variable_dtype))

    def decode(self, states: PhaseState) -> tf.Tensor:
        """Frames [batch, time, height, width, channels] of states in time.

        The first of each pair that the decoder draws. A model of vectors
        gives those, [batch, time, size].
        """
        drawn = self._draw_observations(states)
        return drawn[:, :, 0] if len(self._observation_shape) > 1 else drawn

    def sample(
        self,
        num_samples: int,
        num_steps: int,
        dt: float | None = None,
        seed: int = 0,
    ) -> Motion:
        """As `VideoModel.sample`, which this model cannot.

        Raises: ValueError: always.
        """
        raise ValueError(
            "`sample` needs a model with a prior, such as HGN. Received: a "
            "pixel HNN, which has no prior."
        )

    def energy(self, state: PhaseState) -> tf.Tensor:
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
        return videos.energy_in_time(self.dynamics.hamiltonian, state)

    def check_collapse(self, x: np.ndarray | tf.Tensor) -> Collapse:
        """Whether the learned field moves the data, or has collapsed.

        A model can collapse to a constant image. Then the learned field moves
        the states, or their pictures, by next to nothing relative to their
        spread, or all states are equal.

        Args:
          x: Observations as in `infer`. Of videos every pair is looked at.
        Returns: Collapse.
        """
        x = self._observations(x)
        pairs = [x]
        if len(x.shape) == 5:
            pairs = [x[:, at : at + 2] for at in range(x.shape[1] - 1)]
        z = np.stack([tf.concat(self.infer(each), -1) for each in pairs])
        rows = z.reshape(-1, z.shape[-1])
        change = np.asarray(self.dynamics.time_derivative(rows))
        drawn, carried = (
            self._draw_observations(split_state(tf.constant(each))).numpy()
            for each in (z, z + change.reshape(z.shape))
        )
        recorded = np.concatenate(
            [videos.to_float_video(each) for each in pairs]
        )
        return check_collapse(rows, change, drawn, carried, recorded)

    def call(self, x, training=False, objective=False):
        if objective:
            return self._terms(*x)
        z = self._encode(videos.first_pair(x, self.variable_dtype))
        return PixelHNNOutput(self._draw(z), split_state(z))

    def test_step(self, data):
        batch = self._look(Batch.of(data), "evaluate", STEP)
        batch, present = self._with_a_row(batch)
        pairs = videos.consecutive_pairs(
            batch.x, change=batch.y, dtype=self.variable_dtype
        )
        terms = self(pairs, training=False, objective=True)
        weight = batch.sample_weight
        if weight is not None and batch.y is None:
            weight = tf.repeat(weight, batch.x.shape[1] - 2)
        loss = self._total(terms, weight)
        self._track_terms(loss, terms, present, weight, training=False)
        return self.get_metrics_result()

    def get_config(self):
        return {
            **super().get_config(),
            **serialize_parts(self, *_PARTS),
            "dt": self.dt,
            "hnn_weight": self.hnn_weight,
            "weight_decay": self.weight_decay,
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config):
        return cls(**deserialize_parts(config, *_PARTS))

    @property
    def _draws_pictures(self):
        return len(self._observation_shape) > 1

    def check_length(self, num_frames: int) -> None:
        """Checks that `fit` can train on videos of so many frames.

        Args:
          num_frames: Frames of each video.
        Raises: ValueError: if they do not hold two pairs that follow each
          other.
        """
        if num_frames < 3:
            raise ValueError(
                "Two consecutive pairs take 3 frames. Received: videos of "
                f"{num_frames}."
            )

    def _admit(self, batch, purpose, seen):
        self._check_dt(batch.x, seen)
        needed, shape = (
            2 if purpose == "predict" else 3,
            self._observation_shape,
        )
        x = videos.extract_video(batch.x)
        if tf.TensorShape(x.shape).rank == 2:
            y = None if needed == 2 else batch.y
            y = None if y is None else as_array(y)
            _check_vectors(x, y, needed, shape, seen)
            return batch._replace(x=x, y=y)
        if len(shape) == 1:
            raise ValueError(
                f"The model was built for vectors of {shape[0]} numbers. "
                f"Received: data of rank {tf.TensorShape(x.shape).rank}."
            )
        x = videos.check_frames(x, 2, shape[1:], seen)
        frames = tf.TensorShape(x.shape)[1]
        if needed > 2:
            if frames is not None:
                self.check_length(frames)
            check_no_targets(batch.y)
        return batch._replace(x=x, y=None)

    def _encode(self, x):
        # Encoder and decoder may be in half precision, z and the loss are not.
        return tf.cast(self.encoder(x), self.variable_dtype)

    def _draw(self, z):
        return tf.cast(self.decoder(z), self.variable_dtype)

    def _draw_observations(self, states):
        """Pairs of frames, or vectors, of states in time."""
        return videos.decode_in_parts(
            self._compiled_decoder, tf.concat(states, axis=-1)
        )

    def _decode(self, z):
        return videos.decode_frames(self.decoder, z)

    def _observations(self, x):
        """Observations to infer states from, looked at."""
        batch = self._look(Batch(x), "predict", WHOLE)
        self._build_for(batch)
        return batch.x

    def _step(self, batch):
        weight, rows = batch.get("sample_weight"), batch["rows"]

        def objective():
            pairs = videos.consecutive_pairs(
                batch["x"],
                self._noise(0, rows),
                batch.get("y"),
                self.variable_dtype,
            )
            # By way of `call`: so every part learns that it is in training.
            terms = self(pairs, training=True, objective=True)
            loss = self._total(terms, weight)
            decay = self._added_losses(loss) + self.weight_decay * sum(
                tf.nn.l2_loss(variable.value)
                for part in (self.encoder, self.decoder)
                for variable in part.trainable_variables
            )
            return loss + decay, loss, terms

        _, loss, terms = self._descend(objective, rows)
        self._track_terms(loss, terms, rows.present, weight)

    def _terms(self, x, after):
        """L_AE, L_CC and L_HNN, each [batch]."""
        both = self._encode(tf.concat([x, after], axis=0))
        z, z_after = tf.split(both, 2)
        q, p = split_state(z)
        q_after, _ = split_state(z_after)
        return (
            losses.reconstruction(x, self._draw(z)),
            losses.reconstruction(p, q_after - q),
            losses.reconstruction(z_after - z, self.dynamics(z)),
        )

    def _total(self, terms, weight):
        image, canonical, field = terms
        loss = image + canonical + self.hnn_weight * field
        return tf.reduce_mean(loss if weight is None else weight * loss)

    def _track_terms(self, loss, terms, present, weight, training=True):
        self._track(
            (self._loss_tracker, loss),
            *zip(self._term_means, terms),
            rows=present * tf.shape(terms[0])[0],
            sample_weight=weight,
            training=training,
        )


def _check_vectors(x, y, needed, seen_shape, seen):
    if needed > 2 and (
        y is None or not tf.TensorShape(x.shape).is_compatible_with(y.shape)
    ):
        raise ValueError(
            "Vectors come with their change to the next one, both [rows, "
            f"size]. Received: {tuple(x.shape)} and "
            f"{None if y is None else tuple(y.shape)}."
        )
    if not tf.as_dtype(x.dtype).is_floating:
        raise TypeError(
            "Vectors must be floats. Received: "
            f"{tf.as_dtype(x.dtype).name}; cast them."
        )
    if seen == SPEC and x.shape[1] is None:
        return  # The first batch will tell.
    if seen_shape and tuple(seen_shape) != tuple(x.shape[1:]):
        raise ValueError(
            f"The model was built for observations {tuple(seen_shape)}. "
            f"Received: vectors of {x.shape[1]} numbers."
        )
    if seen == WHOLE and has_values(x):
        check_finite("x", np.asarray(x))
        if y is not None:
            check_finite("y", np.asarray(y))
