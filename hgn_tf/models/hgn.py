"""The Hamiltonian Generative Network: frames -> state -> motion -> frames."""

import os
import pathlib
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from hgn_tf import integrators, losses, presets, prior
from hgn_tf.models import video as videos
from hgn_tf.models.batches import STEP, WHOLE, Batch, check_no_targets
from hgn_tf.models.collapse import Collapse, check_collapse
from hgn_tf.models.exports import export, spec
from hgn_tf.models.steps import Rows
from hgn_tf.models.video import GuardedVideoModel, Motion
from hgn_tf.networks import serializable, split_state
from hgn_tf.networks.layers import (
    added_losses,
    deserialize_parts,
    serialize_parts,
)
from hgn_tf.phase import PhaseState, time_derivative

_PARTS = (
    "encoder",
    "hamiltonian",
    "decoder",
    "state_net",
    "position_net",
    "geco",
)

# Purposes of the noise of a step; 0 is the sample of z.
_DECODED, _ANCHORS, _WINDOWS, _POSITIONS, _STEPS = 1, 2, 3, 11, 12
# Single frames per video and step whose positions are compared.
_POSITION_FRAMES = 2
# Steps per video whose pictures are compared, and what share of the mean square
# of a step is one too small to have a direction.
_COMPARED_STEPS, _SMALL_STEP = 2, 0.1
# A batch of fewer has no say in what asks for one law.
_FEWEST_EXAMPLES = 4
# The first step of a refinement, as a share of the state.
_FIRST_REFINEMENT = 0.01
# States inferred at a time for a learned prior.
_INFERRED_AT_ONCE = 256
_PRIORS = ("normal", "learned")
_PRIOR = "prior_"  # What the names of its arrays begin with in a file.


class Posterior(NamedTuple):
    """q(z | frames): mean and log standard deviation, [batch, *latent]."""

    mean: tf.Tensor
    log_scale: tf.Tensor


class HGNOutput(NamedTuple):
    """Output of HGN for a batch of videos.

    Attributes:
      video: Drawn frames [batch, time, height, width, channels], about 0 to 1.
      states: States over time, q and p [batch, time, ...].
      posterior: Posterior of z.
    """

    video: tf.Tensor
    states: PhaseState
    posterior: Posterior


class TrainingPath(NamedTuple):
    """The states of a training step, in time around the inferred one.

    Attributes:
      states: States in time, q and p [batch, span, ...].
      before: Number of states before the inferred one, a tensor if it grows.
      anchor: Frame that each state was inferred at, int32 [batch].
      low: First frame of the video that has a state, [batch].
      high: Last frame of the video that has a state, [batch].
      posterior: Posterior of the inferred states.
    """

    states: PhaseState
    before: int | tf.Tensor
    anchor: tf.Tensor
    low: tf.Tensor
    high: tf.Tensor
    posterior: Posterior

    def at(self, times: tf.Tensor) -> PhaseState:
        """The states at frames [batch, ...], low to high of each example."""
        shift = self.before - self.anchor
        shift = tf.reshape(shift, [-1] + [1] * (len(times.shape) - 1))
        return PhaseState(
            *(
                tf.gather(part, times + shift, batch_dims=1)
                for part in self.states
            )
        )


@serializable
class HGN(GuardedVideoModel):
    """Learns the laws of motion of a system from videos of it.

    The first `num_inference_frames` frames give a posterior over z. f_psi
    turns a sample of z into the state (q, p) *at the first frame*, or at the
    frame `state_frame`, from which the flow leads back to the first. The
    learned Hamiltonian rolls the state out, and the decoder draws each frame
    from q.
    `compile` and `fit` train the evidence lower bound in the constrained form
    of `losses.Geco` (the paper's equation 4: the mean over frames of the
    reconstruction, minus KL(q(z | x) || N(0, 1))).

    A training step may decode a few frames only: one drawn from each of
    `num_decoded_frames` equal parts of the horizon, an unbiased estimate of
    the mean over the horizon. The horizon grows linearly from
    `initial_horizon` frames to all of them over `curriculum_steps` steps.
    Paper: all frames, no curriculum. A step whose gradients are not finite
    changes nothing but the count `dropped_steps`.

    A latent larger than the system needs can remember the frames of a video
    instead of learning a law. Then the encoded states fill a thin set that the
    flow leaves, and beyond the trained frames nothing holds. Some arguments,
    not in the paper, ask for one law:

    - `agreement`: the state inferred from a second window of frames, at a
      random time t, must be the state that the rollout has at t. So the flow
      keeps to the set of encoded states, where it is trained, and goes on past
      the horizon.
    - `anchor="random"`: the first window stands anywhere in the video, and the
      rollout goes both ways.
    - `reversible`: a window read backward gives the same position and the
      opposite momentum, as in every system without friction or magnetic
      forces.
    - `positions`: q is what a single frame shows. Otherwise q may hold momenta
      and constants of the motion too, and the learned energy may be any
      function of the true one. With K = |p|^2 / 2, one degree of freedom and a
      q that is a function of the true position, only a linear function is
      left, see `networks.QuadraticEnergy`.
    - `isometry`: steps of q of one length, along the motions, change the
      picture by as much wherever they are made. So do bodies that keep their
      looks, and q is then as long as their ways. Otherwise q may be drawn out
      in some places, or in motions of some energies.
    - `low_rank`: q fills few directions. In others, which the motion does not
      need, q can follow the energy. It may then have another scale at each
      energy, which the decoder undoes, and the learned energy is a bent
      function of the true one.

    Args:
      encoder: Layer, frames -> (mean, log_scale) of z; `networks.Encoder`.
        This and the other parts may be any Keras layers or models.
      hamiltonian: Layer (q, p) -> energy [batch]. If it has the methods
        `kinetic(p)` and `potential(q)`, it is separable.
      decoder: Layer q -> frame.
      state_net: f_psi, layer z -> (q, p); None splits z into q and p.
      position_net: Layer frame -> q, for `positions`; `networks.PositionNet`.
      num_inference_frames: Number of frames that the encoder sees.
      num_decoded_frames: Number of frames decoded per training step; None for
        all.
      curriculum_steps: Number of steps until the horizon is the whole video; 0
        for no curriculum.
      initial_horizon: Number of frames of the first horizon.
      state_frame: int. Frame of a window, counted from 0, that z is the state
        of. From the middle of 30 frames no frame is more than 15 steps away,
        so that errors of the state and of H grow half as long. Defaults to 0,
        the first, as in the paper.
      anchor: "first" or "random". The first window of a training step begins
        at the first frame, or stands anywhere. From a random one the rollout
        goes forward and backward. Defaults to "first", as in the paper.
      rollout_steps: int or None. Number of steps of a training rollout from
        the anchor, each way; None for the whole video. Frames further off are
        not drawn. Defaults to None.
      initial_rollout_steps: int or None. Number of steps of the first training
        rollouts, which grow to `rollout_steps` as `rollout_ramp` says. A law
        is found on short ones and made exact on long ones: there a small error
        of H shows, and from the start it would drown what shows the law. It
        needs `num_decoded_frames`. Defaults to None, the same length always.
      rollout_ramp: Two ints. Rollouts have `initial_rollout_steps` until the
        first of these steps and grow linearly to the second. Defaults to
        (0, 0).
      shortest_window: int or None. In training a window at an end of a video
        may have as few frames as this, zeros in place of the others, and so
        may a video that `infer` is given; None for `num_inference_frames`.
        With all frames of a video seen, as in the paper, second windows need
        it. It must reach over `state_frame`. Defaults to None.
      agreement: float. Weight of the disagreement between windows, see
        `losses.disagreement`. A good weight is what the mean image costs,
        its error / (2 * tolerance of `geco`): about 4 on noisy pendulums, 100
        on clean ones. Spreads are those of the whole batch, of all replicas
        together; a batch of fewer than 4 videos leaves the term out. Defaults
        to 0.0, as in the paper.
      agreement_ramp: Two ints. The weight is 0 until the first of these steps
        and grows linearly to the second. From the start it would drown the
        pictures: the model stays at the mean image. Defaults to (500, 1500).
      num_windows: int. Second windows per video and step. Defaults to 2.
      reversible: bool. Whether every other second window is read backward;
        it takes two at least. Defaults to False.
      positions: float. Weight of the disagreement of q in the rollout with
        what `position_net` makes of the frame at that time alone; about three
        times `agreement` does well. It grows in as `agreement` does. Defaults
        to 0.0, as in the paper.
      isometry: float. Weight of how unlike the changes of the picture are, see
        `losses.unevenness`. A change is the root mean square difference of the
        frames drawn from q - u and q + u. q is amid two states of the rollout,
        2u has the direction from the one to the other, and one length for the
        whole batch, of all replicas: the root mean square of such a step.
        Steps count by s^2 / (s^2 + mean s^2 / 10), for a body that hardly
        moves has no direction. Two steps are compared per video. It suits
        bodies whose looks weigh as much in the picture as their masses in the
        motion. It grows in as `agreement` does, and needs as many videos.
        Defaults to 0.0, as in the paper.
      low_rank: float. Weight of the directions that q fills beyond one in the
        decoded frames of a batch, see `losses.spare_directions`. As much as
        `agreement` straightens the energy of one degree of freedom. Two bodies
        bear a twentieth of that, for more presses their plane into a line. It
        is one number for the batch, to which all videos count alike, whatever
        their sample weights. It grows in as `agreement` does, and needs as
        many videos. Defaults to 0.0, as in the paper.
      integrator: Name in `integrators.INTEGRATORS`.
      dt: Seconds per step. There is one step per frame.
      stochastic: Whether z is sampled in training. False gives the paper's
        deterministic variant, without the KL term.
      geco: Layer `losses.Geco`; None for its defaults.
      seed: Seed of the training noise. The noise of a step depends on the seed
        and the number of steps alone, so a resumed run is the same run.
    Attributes:
      prior: `prior.StatePrior` that `fit_prior` learned, or None. It is saved
        with the model, and `fit` forgets it.
    Call: video [batch, time, height, width, channels], uint8 or floats in
      [0, 1], time at least `num_inference_frames` -> HGNOutput of the
      posterior's mean, every frame decoded.
    Raises:
      ValueError: if an argument is out of its range.
      ValueError: if there is no such integrator.
      ValueError: if `fit`, `evaluate`, `predict` or `infer` gets frames that
        do not fit.
    Source: Toth et al., Hamiltonian Generative Networks (2019), section 3.2.
    """

    def __init__(
        self,
        encoder: keras.Layer,
        hamiltonian: keras.Layer,
        decoder: keras.Layer,
        state_net: keras.Layer | None = None,
        position_net: keras.Layer | None = None,
        *,
        num_inference_frames: int = 30,
        num_decoded_frames: int | None = None,
        curriculum_steps: int = 0,
        initial_horizon: int = 5,
        state_frame: int = 0,
        anchor: str = "first",
        rollout_steps: int | None = None,
        initial_rollout_steps: int | None = None,
        rollout_ramp: tuple[int, int] = (0, 0),
        shortest_window: int | None = None,
        agreement: float = 0.0,
        agreement_ramp: tuple[int, int] = (500, 1500),
        num_windows: int = 2,
        reversible: bool = False,
        positions: float = 0.0,
        isometry: float = 0.0,
        low_rank: float = 0.0,
        integrator: str = "leapfrog",
        dt: float = 0.125,
        stochastic: bool = True,
        geco: losses.Geco | None = None,
        seed: int = 0,
        **kwargs,
    ):
        super().__init__(seed, **kwargs)
        integrators.get_integrator(integrator)
        integrators.check_dt(dt)
        _check_counts(
            num_inference_frames=num_inference_frames,
            num_decoded_frames=num_decoded_frames,
            curriculum_steps=curriculum_steps,
            initial_horizon=initial_horizon,
            state_frame=state_frame,
            rollout_steps=rollout_steps,
            initial_rollout_steps=initial_rollout_steps,
            shortest_window=shortest_window,
            num_windows=num_windows,
        )
        _check_frames(
            num_inference_frames,
            num_decoded_frames,
            curriculum_steps,
            initial_horizon,
        )
        _check_windows(
            num_inference_frames,
            num_decoded_frames,
            state_frame,
            anchor,
            rollout_steps,
            initial_rollout_steps,
            rollout_ramp,
            shortest_window,
        )
        _check_agreement(agreement, agreement_ramp, num_windows, reversible)
        _check_positions(positions, position_net)
        losses.check_weight("isometry", isometry)
        losses.check_weight("low_rank", low_rank)
        self.encoder = encoder
        self.hamiltonian = hamiltonian
        self.decoder = decoder
        self.state_net = state_net
        self.position_net = position_net
        self.num_inference_frames = num_inference_frames
        self.num_decoded_frames = num_decoded_frames
        self.curriculum_steps = curriculum_steps
        self.initial_horizon = initial_horizon
        self.state_frame = state_frame
        self.anchor = anchor
        self.rollout_steps = rollout_steps
        self.initial_rollout_steps = initial_rollout_steps
        self.rollout_ramp = tuple(rollout_ramp)
        self.shortest_window = shortest_window
        self.agreement = agreement
        self.agreement_ramp = tuple(agreement_ramp)
        self.num_windows = num_windows
        self.reversible = reversible
        self.positions = positions
        self.isometry = isometry
        self.low_rank = low_rank
        self.integrator = integrator
        self.dt = dt
        self.stochastic = stochastic
        self.geco = geco or losses.Geco(dtype=self.variable_dtype)
        self.prior: prior.StatePrior | None = None
        # Known once built, each without the batch axis; empty until then.
        self._frame_shape: tuple[int, ...] = ()
        self._latent_shape: tuple[int, ...] = ()
        self._state_shape: tuple[int, ...] = ()
        self._unrolled = False
        self._is_loaded = False
        # One for each term of the objective.
        names = ["reconstruction", "kl", "elbo", *self._law_weights]
        self._term_means = {name: keras.metrics.Mean(name) for name in names}
        self._compiled_rollout = tf.function(
            self._rollout, reduce_retracing=True
        )
        self._compiled_decoder = tf.function(
            self._decode_frames, reduce_retracing=True
        )
        self._compiled_misfit = tf.function(self._misfit, reduce_retracing=True)

    @classmethod
    def from_preset(cls, preset: str | os.PathLike) -> "HGN":
        """A trained model, not compiled.

        Args:
          preset: One of `hgn_tf.list_presets()`, which ship with the package,
            a folder that `save_to_preset` wrote, or "hf://user/name", such a
            folder on the Hugging Face hub. `hgn_tf.presets.card` says what it
            was trained on and what it reached.
        Raises: ValueError: if there is no such preset, or it is not one of
          this class.
        """
        model = presets.load(preset)
        if not isinstance(model, cls):
            raise ValueError(
                f"`{cls.__name__}.from_preset` takes presets of that class. "
                f"Received: {str(preset)!r}, a {type(model).__name__}."
            )
        return model

    def save_to_preset(
        self, folder: str | os.PathLike, card: dict | None = None
    ) -> pathlib.Path | str:
        """Writes the model for `from_preset`: its settings and weights.

        `save` keeps the optimizer, the counts and the multiplier too.

        Args:
          folder: Folder of the preset, or "hf://user/name".
          card: What `hgn_tf.presets.card` shall tell of it, or None.
        Returns: the folder, or the address.
        """
        return presets.save(self, folder, card)

    def export(self, filepath: str | os.PathLike, *args, **kwargs) -> None:
        """Writes a SavedModel, which runs without Keras and this package.

        Its endpoints take any number of examples. Videos are floats in [0, 1].
        `serve` and `infer` take videos of `num_inference_frames` or more.

        - serve: video -> video, q, p, mean and log_scale, as a call.
        - infer: video -> q and p of the first frame.
        - rollout: q, p, num_steps, dt -> q and p [batch, time, ...].
        - decode: q [batch, time, ...] -> video.
        - energy: q, p -> energy [batch].
        - sample, if the model is stochastic: num_samples, num_steps, dt, seed
          -> video, q and p.

        Args:
          filepath: Folder of the SavedModel.
          *args: Arguments of `keras.Model.export`, without a signature.
          **kwargs: The same by name.
        Raises: ValueError: if the model is not built, or an argument does not
          apply.
        """
        export(self, self._endpoints, filepath, *args, **kwargs)

    def _endpoints(self):
        frames, dtype = self._frame_shape, self.variable_dtype
        video = spec("video", [None, None, *frames], dtype)
        one = [None, *self._state_shape]
        path = [None, None, *self._state_shape]
        state = [spec("q", one, dtype), spec("p", one, dtype)]
        num_steps, dt = spec("num_steps"), spec("dt", (), dtype)

        def infer(video):
            window = video[:, : self.num_inference_frames]
            shape = [None, self.num_inference_frames, *frames]
            posterior = self._encode(tf.ensure_shape(window, shape))
            return posterior, self._first_state(posterior)

        def serve(video):
            posterior, state = infer(video)
            num_steps = tf.shape(video)[1] - 1
            motion = run(state, num_steps, self.dt)
            return {**motion, **posterior._asdict()}

        def run(state, num_steps, dt):
            states = self._rollout(state, dt, num_steps)
            return {"video": self._decode_frames(states.q), **states._asdict()}

        def rollout(q, p, num_steps, dt):
            return self._rollout(PhaseState(q, p), dt, num_steps)._asdict()

        def sample(num_samples, num_steps, dt, seed):
            return run(self._draw_normal(num_samples, seed), num_steps, dt)

        endpoints = {
            "serve": (serve, [video]),
            "infer": (lambda video: infer(video)[1]._asdict(), [video]),
            "rollout": (rollout, [*state, num_steps, dt]),
            "decode": (
                lambda q: {"video": self._decode_frames(q)},
                [spec("q", path, dtype)],
            ),
            "energy": (
                lambda q, p: {"energy": self.hamiltonian(q, p)},
                state,
            ),
        }
        if self.stochastic:
            counts = [spec("num_samples"), num_steps, dt, spec("seed")]
            endpoints["sample"] = (sample, counts)
        return endpoints

    def build_from_config(self, config: dict[str, Any]) -> None:
        """As Keras's, of a model whose weights are loaded next."""
        self._is_loaded = True
        super().build_from_config(config)

    def build(self, video_shape):
        if isinstance(video_shape, dict):
            video_shape = video_shape["video"]
        frame_shape = tuple(video_shape[-3:])
        # Parts may be any layers: a call builds them and tells what they give.
        frames = (1, self.num_inference_frames, *frame_shape)
        posterior = self._encode(tf.zeros(frames, self.variable_dtype))
        _check_pair(posterior, "`encoder` must give mean and log_scale")
        state = self._to_state(posterior.mean)
        _check_pair(state, "`state_net` must give q and p")
        energy, drawn = self.hamiltonian(*state), self.decoder(state.q)
        _check_energy_and_frame(energy, drawn, frame_shape)
        self._check_precision(**{part: getattr(self, part) for part in _PARTS})
        for part, given in ("state_net", state.q), ("hamiltonian", energy):
            _check_whole(part, given.dtype.name, self.variable_dtype)
        if not self._is_loaded:  # then the weights are not there yet
            _check_step(self.hamiltonian, state.q, self.dt)
        if self.position_net is not None:
            _check_position(
                self.position_net(
                    tf.zeros((1, *frame_shape), self.variable_dtype)
                ),
                state.q,
            )
        # A loss that the Hamiltonian adds cannot leave a loop.
        self._unrolled = bool(added_losses(self.hamiltonian))
        self._frame_shape = frame_shape
        self._latent_shape = tuple(posterior.mean.shape[1:])
        self._state_shape = tuple(state.q.shape[1:])
        self.built = True

    def get_build_config(self):
        if not self._frame_shape:
            return None
        shape = (None, self.num_inference_frames, *self._frame_shape)
        return {"input_shape": shape}

    def fit_prior(
        self, video: Any, num_components: int = 128, seed: int = 0
    ) -> None:
        """Learns where the first states of videos lie, for `sample`.

        The KL term alone leaves a large latent with states that N(0, 1) hardly
        ever draws: they fill a thin set. Not in the paper: a mixture of
        Gaussians is fitted to the states (q, p) that the trained model infers,
        by the posterior's mean. A few thousand videos do. They should be as
        the model was trained on, read forward.

        Args:
          video: Videos as in `infer`, or a tf.data.Dataset of batches of them
            that ends.
          num_components: int. Components of the mixture at most, see
            `prior.fit_prior`. Defaults to 128.
          seed: int. Seed of the fit. Defaults to 0.
        Raises: ValueError: if the frames do not fit, or there are fewer than
          two different videos.
        """
        parts: Any = video
        if isinstance(video, tf.data.Dataset):
            parts = (Batch.of(element).x for element in video)
        else:
            self._check_dt(video, WHOLE)
            whole, count = videos.extract_video(video), _INFERRED_AT_ONCE
            starts = range(0, len(whole), count)
            parts = (whole[start : start + count] for start in starts)
        states = [prior.state_rows(self.infer(part)) for part in parts]
        rows = np.concatenate(states) if states else np.zeros((0, 0))
        self.prior = prior.fit_prior(rows, num_components, seed)

    def fit(
        self, x: Any = None, y: None = None, *args, **kwargs
    ) -> keras.callbacks.History:
        """As `keras.Model.fit`, on videos without targets.

        Args:
          x: Videos, a dictionary with them as "video", or a dataset or
            generator of batches of either. If a dictionary has a "dt", it must
            be that of the model. All videos of a call have one length.
          y: None: the model learns from videos alone.
          *args: Further arguments of `keras.Model.fit`.
          **kwargs: Further arguments of `keras.Model.fit`. `sample_weight`
            weighs videos. Callbacks that compare epochs do well to watch
            "val_elbo", with mode="max": the loss moves with the multiplier of
            `geco`.
        Raises: ValueError: if the videos do not fit, or there are targets or
          class weights.
        """
        return super().fit(x, y, *args, **kwargs)

    def evaluate(self, x: Any = None, y: None = None, *args, **kwargs) -> Any:
        """As `keras.Model.evaluate`: every frame, from the posterior's mean."""
        return super().evaluate(x, y, *args, **kwargs)

    def predict(self, x: Any, *args, **kwargs) -> Any:
        """As `keras.Model.predict`: an HGNOutput of arrays."""
        return super().predict(x, *args, **kwargs)

    def infer(
        self, video: np.ndarray | tf.Tensor, refine: int = 0
    ) -> PhaseState:
        """The phase state at the first frame, from the posterior's mean.

        A refinement moves q and p so that the frames drawn come closer to
        those seen, by steps down the gradient of their mean squared error
        through the rollout. The model stays as it is. A step that would draw
        the frames of a video worse is not made.

        Args:
          video: Videos [batch, time, height, width, channels], uint8 or floats
            in [0, 1]. The first `num_inference_frames` frames are used. Of a
            model with `shortest_window` so many do.
          refine: int. Steps of refinement, each at the cost of about a
            training step. Defaults to 0.
        Returns: PhaseState of shape [batch, ...].
        Raises: ValueError: if the frames do not fit, or `refine` is negative.
        Source: Barzilai and Borwein 1988, Two-point step size gradient
          methods, for the lengths of the steps.
        """
        refine = integrators.check_count("refine", refine, least=0)
        video = self._observed(video)
        video = self._to_floats(video[:, : self.num_inference_frames])
        state = self._first_state(self._encode(video))
        return self._refine(state, video, refine) if refine else state

    def rollout(
        self, state: PhaseState, num_steps: int, dt: float | None = None
    ) -> PhaseState:
        """The states at 0, dt, ..., num_steps * dt from `state`.

        Args:
          state: PhaseState of shape [batch, ...].
          num_steps: Number of steps, 0 or more.
          dt: Seconds per step; None for the model's. Negative steps go back in
            time. Half the model's is half speed.
        Returns: PhaseState of shape [batch, num_steps + 1, ...].
        Raises: ValueError: if dt is 0 or num_steps negative.
        """
        dt = integrators.check_dt(self.dt if dt is None else dt)
        num_steps = integrators.check_num_steps(num_steps)
        # As tensors: other numbers need no other graph.
        return self._compiled_rollout(
            state, tf.constant(dt, state.q.dtype), tf.constant(num_steps)
        )

    def decode(self, states: PhaseState) -> tf.Tensor:
        """Frames [batch, time, height, width, channels] of states in time."""
        return videos.decode_in_parts(self._compiled_decoder, states.q)

    def sample(
        self,
        num_samples: int,
        num_steps: int,
        dt: float | None = None,
        seed: int = 0,
        prior: str = "normal",
    ) -> Motion:
        """New motions, from states drawn from a prior.

        Args:
          num_samples: Number of motions.
          num_steps: Number of steps of each motion, which has one frame more.
          dt: Seconds per step; None for the model's.
          seed: Seed of the draws from the prior; equal seeds give equal
            motions.
          prior: str. "normal" for z ~ N(0, 1), as in the paper, or "learned"
            for states from what `fit_prior` learned. Defaults to "normal".
        Returns: Motion, video [num_samples, num_steps + 1, ...].
        Raises:
          ValueError: for an unknown prior, or a learned one that is not there.
          ValueError: for "normal" of a deterministic model, which has none.
        """
        if prior not in _PRIORS:
            raise ValueError(
                f"`prior` must be one of {list(_PRIORS)}. Received: {prior!r}."
            )
        self._check_built("sample")
        draw = self._draw_normal if prior == "normal" else self._draw_learned
        states = self.rollout(draw(num_samples, seed), num_steps, dt)
        return Motion(self.decode(states), states)

    def energy(self, state: PhaseState) -> tf.Tensor:
        """The learned H(q, p): [batch], or [batch, time] of states in time."""
        self._check_built("energy")
        if len(state.q.shape) == len(self._state_shape) + 1:
            return self.hamiltonian(*state)
        return videos.energy_in_time(self.hamiltonian, state)

    def check_collapse(self, video: np.ndarray | tf.Tensor) -> Collapse:
        """Whether the learned H moves the data, or has collapsed.

        A model can collapse to a constant image. Then the learned field moves
        the states, or their pictures, by next to nothing relative to their
        spread, or all states are equal.

        Args:
          video: Videos as in `infer`. The states of a rollout over the frames
            are looked at.
        Returns: Collapse; a frame is a step of `dt`.
        """
        video = self._observed(video)
        path = self.rollout(self.infer(video), video.shape[1] - 1)
        states = PhaseState(
            *(tf.reshape(part, [-1, *part.shape[2:]]) for part in path)
        )
        change = time_derivative(self.hamiltonian, states)
        carried = path.q + self.dt * tf.reshape(change.q, tf.shape(path.q))
        recorded = videos.to_float_video(video)
        return check_collapse(
            prior.state_rows(states),
            self.dt * prior.state_rows(change),
            self.decode(path).numpy(),
            self.decode(PhaseState(carried, path.p)).numpy(),
            tf.reshape(recorded, [-1, *recorded.shape[2:]]).numpy(),
        )

    @property
    def _remedy(self):
        return (
            f"dt={self.dt:g} is too long a step for what is learned, or the "
            "learning rate too high: lower one"
        )

    def call(self, video, training=False, objective=False):
        video = self._to_floats(video)
        if objective:
            return self._objective(video, objective)
        posterior = self._encode(video)
        state = self._first_state(posterior, training)
        states = self._rollout(
            state,
            self.dt,
            video.shape[1] - 1,
            training=training or self._unrolled,
        )
        return HGNOutput(self._decode_frames(states.q), states, posterior)

    def train_step(self, data):
        logs = super().train_step(data)
        return {**logs, "geco_multiplier": self.geco.multiplier}

    def test_step(self, data):
        batch = self._look(Batch.of(data), "evaluate", STEP)
        batch, present = self._with_a_row(batch)
        video, weight = self._to_floats(batch.x), batch.sample_weight
        rows = Rows.of(video, present)
        output = self(video, training=False)
        terms = {
            "reconstruction": losses.reconstruction(video, output.video),
            "kl": self._divergence(output.posterior),
        }
        loss = self._weigh(terms, video, weight, rows)
        loss += self._added_losses(loss)
        self._track_terms(loss, terms, video, rows, weight, training=False)
        # What an evaluation does not measure has no number in it.
        return {
            name: value
            for name, value in self.get_metrics_result().items()
            if name not in self._law_weights
        }

    def save_own_variables(self, store: Any) -> None:
        super().save_own_variables(store)
        if self.prior is not None:
            for name, array in self.prior.arrays().items():
                store[_PRIOR + name] = array

    def load_own_variables(self, store: Any) -> None:
        stored = {name: store[name] for name in store.keys()}  # noqa: SIM118
        arrays = {
            name.removeprefix(_PRIOR): np.asarray(stored.pop(name))
            for name in list(stored)
            if name.startswith(_PRIOR)
        }
        self.prior = prior.StatePrior.from_arrays(arrays) if arrays else None
        super().load_own_variables(stored)

    def get_config(self):
        return {
            **super().get_config(),
            **serialize_parts(self, *_PARTS),
            "num_inference_frames": self.num_inference_frames,
            "num_decoded_frames": self.num_decoded_frames,
            "curriculum_steps": self.curriculum_steps,
            "initial_horizon": self.initial_horizon,
            "state_frame": self.state_frame,
            "anchor": self.anchor,
            "rollout_steps": self.rollout_steps,
            "initial_rollout_steps": self.initial_rollout_steps,
            "rollout_ramp": self.rollout_ramp,
            "shortest_window": self.shortest_window,
            "agreement": self.agreement,
            "agreement_ramp": self.agreement_ramp,
            "num_windows": self.num_windows,
            "reversible": self.reversible,
            "positions": self.positions,
            "isometry": self.isometry,
            "low_rank": self.low_rank,
            "integrator": self.integrator,
            "dt": self.dt,
            "stochastic": self.stochastic,
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config):
        config = deserialize_parts(config, *_PARTS)
        if "sample" in config:  # as version 0.1 saved it
            config["stochastic"] = config.pop("sample")
        return cls(**config)

    def check_length(self, num_frames: int) -> None:
        """Checks that `fit` can train on videos of so many frames.

        Args:
          num_frames: Frames of each video, all of which `fit` is given.
        Raises: ValueError: if a window or a term of the loss needs more.
        """
        elsewhere = self.agreement or self.anchor == "random"
        videos.check_num_frames(num_frames, self._shortest)
        if elsewhere and num_frames == self._shortest:
            # A window is as long as what is inferred from, if not told.
            remedy = "a lower `shortest_window`" + (
                "" if self.shortest_window else " or `num_inference_frames`"
            )
            raise ValueError(
                "Windows at other times, of `agreement` and a random `anchor`, "
                f"need videos of more than {self._shortest} frames. Received: "
                f"{num_frames}; {remedy} needs fewer."
            )
        if self.isometry and num_frames < 2:
            raise ValueError(
                "`isometry` needs videos of 2 frames at least. Received: "
                f"{num_frames}."
            )

    def _admit(self, batch, purpose, seen):
        if purpose != "predict":
            check_no_targets(batch.y)
        self._check_dt(batch.x, seen)
        video = videos.check_frames(
            batch.x, self._shortest, self._frame_shape, seen
        )
        frames = tf.TensorShape(video.shape)[1]
        if purpose == "fit" and frames is not None:
            self.check_length(frames)
        return batch._replace(x=video, y=None)

    def _know(self, purpose, batch):
        super()._know(purpose, batch)
        if purpose == "fit":
            # States will be others, which it knows nothing of.
            self.prior = None

    def _observed(self, video):
        """Videos to infer states from, looked at."""
        batch = self._look(Batch(video), "predict", WHOLE)
        self._build_for(batch)
        return batch.x

    def _check_built(self, method):
        if not self.built:
            raise ValueError(
                f"`{method}` needs a model that is built: by `fit`, `infer` or "
                "`build((None, time, height, width, channels))`."
            )

    @property
    def _law_weights(self):
        """Weights, when grown, of the terms that ask for one law."""
        weights = {
            "agreement": self.agreement,
            "positions": self.positions,
            "isometry": self.isometry,
            "low_rank": self.low_rank,
        }
        return {name: weight for name, weight in weights.items() if weight}

    @property
    def _one_way(self):
        """Whether a training rollout starts at the first frame."""
        return self.anchor == "first" and not self.state_frame

    @property
    def _shortest(self):
        """Frames that a window must have."""
        return self.shortest_window or self.num_inference_frames

    def _to_floats(self, video):
        return videos.to_float_video(video, self.variable_dtype)

    def _encode(self, video):
        window = video[:, : self.num_inference_frames]
        missing = self.num_inference_frames - window.shape[1]
        if missing > 0:
            window = tf.pad(window, [[0, 0], [0, missing], *[[0, 0]] * 3])
        # The encoder may be in half precision, what follows is not.
        parts = self.encoder(window)
        return Posterior(*(tf.cast(x, self.variable_dtype) for x in parts))

    def _first_state(self, posterior, training=False):
        """The state at the first frame; in training of a sample of z."""
        state = (
            self._drawn_state(posterior)
            if training
            else self._to_state(posterior.mean)
        )
        # What the Hamiltonian adds to the loss is read after an evaluation too.
        return self._back_to_first(state, training or self._unrolled)

    def _drawn_state(self, posterior, rows=None):
        """The state at `state_frame` that a training step goes on from."""
        z = posterior.mean
        if self.stochastic:
            noise = self._noise(0, rows).draw(
                tf.random.stateless_normal,
                [tf.shape(z)[0], *z.shape[1:]],
                dtype=z.dtype,
            )
            z += tf.exp(posterior.log_scale) * noise
        return self._to_state(z)

    def _back_to_first(self, state, training=False):
        """The state at the first frame, from that at `state_frame`."""
        if not self.state_frame:
            return state
        path = self._rollout(state, -self.dt, self.state_frame, training)
        return PhaseState(*(part[:, -1] for part in path))

    def _to_state(self, z):
        if self.state_net is None:
            return split_state(z)
        return PhaseState(*self.state_net(z))

    def _draw_normal(self, num_samples, seed):
        if not self.stochastic:
            raise ValueError(
                "`sample` needs a model trained with `stochastic=True`: "
                "without the KL term no prior was learned. Received: "
                "stochastic=False; `fit_prior(videos)` and "
                '`prior="learned"` would do.'
            )
        shape = [num_samples, *self._latent_shape]
        z = tf.random.stateless_normal(
            shape, tf.stack([seed, 0]), dtype=self.variable_dtype
        )
        return self._back_to_first(self._to_state(z))

    def _draw_learned(self, num_samples, seed):
        if self.prior is None:
            raise ValueError(
                '`prior="learned"` needs one: `fit_prior(videos)` learns it '
                "from training videos. Received: a model without."
            )
        rows = self.prior.sample(num_samples, seed)
        rows = rows.astype(self.variable_dtype)
        return prior.states_from_rows(rows, self._state_shape)

    def _refine(self, state, video, num_steps):
        """The state after steps down the gradient of the frames' error."""
        state = PhaseState(*(tf.convert_to_tensor(part) for part in state))
        error, slope = self._compiled_misfit(state, video)
        size = tf.sqrt(_inner(state, state) / _inner(slope, slope))
        length = _FIRST_REFINEMENT * size
        for _ in range(num_steps):
            tried = _moved(state, slope, -length)
            new_error, new_slope = self._compiled_misfit(tried, video)
            better = new_error < error  # Not of NaN.
            moved = PhaseState(*(a - b for a, b in zip(tried, state)))
            turned = PhaseState(*(a - b for a, b in zip(new_slope, slope)))
            bend = _inner(moved, turned)
            longer = tf.where(
                bend > 0, _inner(moved, moved) / bend, 2.0 * length
            )
            length = tf.where(better, longer, 0.25 * length)
            error = tf.where(better, new_error, error)
            state, slope = (
                PhaseState(
                    *(
                        tf.where(_like(better, new), new, old)
                        for new, old in zip(*pair)
                    )
                )
                for pair in ((tried, state), (new_slope, slope))
            )
        return state

    def _misfit(self, state, video):
        """Error of the frames drawn from a state, [batch], and its slope."""
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(state)
            # Without XLA, whatever the training has.
            path = self._rollout(
                state, self.dt, video.shape[1] - 1, training=True, xla=False
            )
            error = losses.reconstruction(video, self._decode_frames(path.q))
        slope = tape.gradient(
            error, state, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        return error, PhaseState(*slope)

    def _rollout(self, state, dt, num_steps, training=False, xla=True):
        # A loop traces faster, but without XLA TF 2.20-2.21 cannot take the
        # gradient of a looped convolution's gradient: grappler fails.
        return integrators.rollout(
            self.hamiltonian,
            state,
            dt,
            num_steps,
            self.integrator,
            unroll=training and self._unrolls(state, xla and self.jit_compile),
        )

    def _unrolls(self, state, xla):
        """Whether steps that a gradient is asked of are written out."""
        looped = len(state.q.shape) <= 2 or xla
        return self._unrolled or not looped

    def _decode_frames(self, q):
        return videos.decode_frames(self.decoder, q)

    def _step(self, batch):
        video = self._to_floats(batch["x"])
        weight, rows = batch.get("sample_weight"), batch["rows"]

        def objective():
            # By way of `call`: so every part learns that it is in training.
            terms = self(video, training=True, objective=rows)
            loss = self._weigh(terms, video, weight, rows)
            return loss + self._added_losses(loss), terms

        loss, terms = self._descend(
            objective,
            rows,
            lambda terms: self.geco.update(
                terms["reconstruction"], weight, rows.present
            ),
        )
        self._track_terms(loss, terms, video, rows, weight)

    def _objective(self, video, rows):
        """The terms of a training step by name, each [batch]."""
        path = self._training_path(video, rows)
        times = self._decoded_times(path, video.shape[1], rows)
        target = tf.gather(video, times, batch_dims=1)
        error = losses.reconstruction(
            target, self._decode_frames(path.at(times).q)
        )
        terms = {
            "reconstruction": error,
            "kl": self._divergence(path.posterior),
        }
        if self.agreement:
            terms["agreement"] = self._disagreement(video, path, rows)
        if self.positions:
            terms["positions"] = self._misplacement(video, path, rows)
        if self.isometry:
            terms["isometry"] = self._unevenness(path, rows)
        if self.low_rank:
            spare = losses.spare_directions(path.at(times).q, rows.present)
            terms["low_rank"] = tf.fill([tf.shape(video)[0]], spare)
        return terms

    def _training_path(self, video, rows):
        """States inferred at the anchor and rolled out from it."""
        batch, length = tf.shape(video)[0], video.shape[1]
        farthest = length - 1
        if self.anchor == "first":
            farthest = max(self.state_frame, length - 1 - self.state_frame)
        longest = min(self.rollout_steps or farthest, farthest)
        reach = self._reach(longest)
        anchor = tf.fill([batch], self.state_frame)
        if self.anchor == "random":
            low, high = (
                tf.fill([batch], at) for at in self._window_range(length)
            )
            noise = self._noise(_ANCHORS, rows)
            anchor = videos.draw_times(1, low, high, noise)[:, 0]
        posterior = self._encode(self._windows(video, anchor))
        state = self._drawn_state(posterior, rows)
        # Steps that are written out are as many each time, and so are XLA's.
        alike = self.jit_compile or self._unrolls(state, xla=False)
        count = longest if alike else reach
        if self._one_way:
            states, before = self._roll(state, self.dt, count), 0
        else:
            states, before = self._roll_both_ways(state, count), count
        return TrainingPath(
            states,
            before,
            anchor,
            tf.maximum(anchor - (0 if self._one_way else reach), 0),
            tf.minimum(anchor + reach, length - 1),
            posterior,
        )

    def _reach(self, longest):
        """Steps of a rollout now, each way; a tensor if they grow."""
        first = self.initial_rollout_steps
        if first is None or first >= longest:
            return longest
        grown = self._grown(self.rollout_ramp, tf.float32)
        return tf.cast(first + (longest - first) * grown, tf.int32)

    def _grown(self, ramp, dtype):
        """0 until the first step of a ramp, 1 from the second on."""
        first, last = ramp
        since = tf.cast(self.steps.value - first, dtype)
        return tf.clip_by_value(since / max(last - first, 1), 0.0, 1.0)

    def _windows(self, video, at, step=1):
        """The frames that show the states at frames `at`, [batch, ...]."""
        first = at - step * self.state_frame
        return videos.cut_windows(video, first, self.num_inference_frames, step)

    def _window_range(self, length, step=1):
        """The first and last frame at which a window can show the state.

        Its frames inside of the video are then `shortest_window` at least.
        """
        last = length - self._shortest + self.state_frame
        missing = self.num_inference_frames - self._shortest
        first = max(self.state_frame - missing, 0)
        last = min(last, length - 1)
        if step == 1:
            return first, last
        return length - 1 - last, length - 1 - first

    def _roll(self, state, dt, num_steps):
        return self._rollout(state, dt, num_steps, training=True)

    def _roll_both_ways(self, state, num_steps):
        """States at -num_steps * dt, ..., num_steps * dt, the given one amid.

        Both ways are one batch: the steps that follow each other, which take
        the time, are half as many.
        """
        count = tf.shape(state.q)[0]
        ones = tf.ones([count], state.q.dtype)
        sign = tf.concat([ones, -ones], axis=0)
        sign = tf.reshape(sign, [-1] + [1] * (len(state.q.shape) - 1))
        twice = PhaseState(*(tf.concat([part, part], 0) for part in state))
        rolled = self._roll(twice, self.dt * sign, num_steps)

        def in_time(part):
            ahead, back = tf.split(part, 2)
            # By index: TF's reversal takes many times as long.
            back = tf.gather(back, tf.range(num_steps, 0, -1), axis=1)
            return tf.concat([back, ahead], axis=1)

        return PhaseState(*(in_time(part) for part in rolled))

    def _decoded_times(self, path, length, rows):
        """Frames that are decoded, int32 [batch, count]."""
        count = self.num_decoded_frames
        reach = self.rollout_steps or length - 1
        # From a random anchor a shorter rollout has other frames per example.
        alike = self._one_way or reach >= length - 1
        grows = self.curriculum_steps or self.initial_rollout_steps
        every = alike and not grows
        if count is None or (every and count >= length):
            times = tf.range(min(length, reach + 1))
            return tf.tile(times[tf.newaxis], [tf.shape(path.anchor)[0], 1])
        horizon = tf.cast(tf.math.ceil(self._horizon(length)), tf.int32)
        return videos.draw_times(
            count,
            tf.maximum(path.low, path.anchor - horizon + 1),
            tf.minimum(path.high, path.anchor + horizon - 1),
            self._noise(_DECODED, rows),
        )

    def _disagreement(self, video, path, rows):
        """How far second windows' states are from the rollout's, [batch]."""
        times = self._drawn_window_times(path, video.shape[1], rows)
        steps = [self._window_step(index) for index in range(len(times))]
        windows = [
            self._windows(video, at, step) for at, step in zip(times, steps)
        ]
        posterior = self._encode(tf.concat(windows, axis=0))
        found = self._to_state(posterior.mean)
        found = zip(*(tf.split(part, self.num_windows) for part in found))
        pairs = []
        for at, step, (q, p) in zip(times, steps, found):
            rolled = path.at(at)
            # Read backward, a window gives the momentum of the way back.
            pairs += [(rolled.q, q), (rolled.p, step * p)]
        ratios = losses.disagreements(pairs, present=rows.present)
        return tf.add_n(ratios) / len(ratios)

    def _misplacement(self, video, path, rows):
        """How far q is from what single frames show, [batch]."""
        noise = self._noise(_POSITIONS, rows)
        times = videos.draw_times(_POSITION_FRAMES, path.low, path.high, noise)
        frames = tf.gather(video, times, batch_dims=1)
        assert self.position_net is not None
        shown = self.position_net(tf.reshape(frames, [-1, *frames.shape[2:]]))
        q = path.at(times).q
        shown = tf.cast(shown, q.dtype)
        q = tf.reshape(q, [-1, *shown.shape[1:]])
        ratio = losses.disagreement(q, shown, present=rows.present)
        return tf.reduce_mean(tf.reshape(ratio, [-1, _POSITION_FRAMES]), axis=1)

    def _unevenness(self, path, rows):
        """How unlike steps of one length change the picture, [batch]."""
        noise = self._noise(_STEPS, rows)
        times = videos.draw_times(
            _COMPARED_STEPS, path.low, path.high - 1, noise
        )
        q, later = path.at(times).q, path.at(times + 1).q
        axes = list(range(2, len(q.shape)))
        square = tf.reduce_sum(
            tf.math.squared_difference(later, q), axis=axes, keepdims=True
        )
        [mean] = losses.row_means([square], rows.present)
        mean = tf.reduce_mean(mean)
        # A body at its turning point has hardly a direction.
        small = _SMALL_STEP * mean + keras.config.epsilon()
        weight = tf.stop_gradient(square / (square + small))
        half = (
            0.5
            * (later - q)
            * tf.math.rsqrt(
                (square + 1e-3 * small) / (mean + keras.config.epsilon())
            )
        )
        middle = 0.5 * (q + later)
        drawn = self._decode_frames(
            tf.concat([middle - half, middle + half], axis=0)
        )
        before, after = tf.split(drawn, 2)
        change = tf.math.squared_difference(before, after)
        # A square root has no gradient at 0, which a grey frame has.
        size = tf.sqrt(tf.reduce_mean(change, axis=[2, 3, 4]) + 1e-10)
        weight = tf.reshape(weight, tf.shape(size))
        return losses.unevenness(size, weight, rows.present)

    def _window_step(self, index):
        """1 for a second window read forward, -1 for one read backward."""
        return -1 if self.reversible and index % 2 else 1

    def _drawn_window_times(self, path, length, rows):
        """The frame each second window shows the state at, int32 [batch]."""
        times = []
        for index in range(self.num_windows):
            low, high = self._window_range(length, self._window_step(index))
            low, high = tf.maximum(path.low, low), tf.minimum(path.high, high)
            noise = self._noise(_WINDOWS + index, rows)
            times.append(videos.draw_times(1, low, high, noise)[:, 0])
        return times

    def _weigh(self, terms, video, weight, rows):
        """The loss, a number, that the terms make together."""
        loss = self.geco.objective(
            terms["reconstruction"],
            terms["kl"],
            videos.num_pixels(video),
            weight,
        )
        grown = self._grown(self.agreement_ramp, loss.dtype)
        for name, factor in self._law_weights.items():
            if name in terms:
                term = terms[name] if weight is None else weight * terms[name]
                # A spread over fewer examples is none to measure by.
                enough = rows.total >= _FEWEST_EXAMPLES
                factor *= grown * tf.cast(enough, grown.dtype)
                loss += factor * tf.reduce_mean(term)
        return loss

    def _horizon(self, length):
        if not self.curriculum_steps:
            return float(length)
        grown = tf.cast(self.steps.value, tf.float32) / self.curriculum_steps
        first = min(self.initial_horizon, length)
        return first + (length - first) * tf.minimum(grown, 1.0)

    def _divergence(self, posterior):
        if not self.stochastic:
            return tf.zeros_like(losses.gaussian_kl(*posterior))
        return losses.gaussian_kl(*posterior)

    def _track_terms(self, loss, terms, video, rows, weight, training=True):
        elbo = losses.gaussian_elbo(
            terms["reconstruction"],
            terms["kl"],
            videos.num_pixels(video),
            self.geco.tolerance,
        )
        terms = {**terms, "elbo": elbo}
        means = ((self._term_means[name], terms[name]) for name in terms)
        self._track(
            (self._loss_tracker, loss),
            *means,
            rows=rows.count,
            sample_weight=weight,
            training=training,
        )


def _check_counts(**counts):
    for name, count in counts.items():
        if count is not None:
            integrators.check_count(name, count, least=0)


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
    if curriculum_steps and decoded is None:
        raise ValueError(
            "`curriculum_steps` needs `num_decoded_frames`. Received: "
            f"{curriculum_steps} and {decoded}."
        )


def _check_windows(
    inferred,
    decoded,
    state_frame,
    anchor,
    rollout_steps,
    initial,
    ramp,
    shortest,
):
    if anchor not in ("first", "random"):
        raise ValueError(
            f"`anchor` must be 'first' or 'random'. Received: {anchor!r}."
        )
    if shortest is not None and not 1 <= shortest <= inferred:
        raise ValueError(
            "`shortest_window` must be from 1 to `num_inference_frames`, or "
            f"None. Received: {shortest} of {inferred}."
        )
    if not 0 <= state_frame < (shortest or inferred):
        raise ValueError(
            "`state_frame` must be a frame of the shortest window, from 0 to "
            f"{(shortest or inferred) - 1}. Received: {state_frame}."
        )
    _check_ramp("rollout_ramp", ramp)
    reach = max((shortest or inferred) - state_frame, state_frame)
    steps = {
        "rollout_steps": (rollout_steps, "the whole video"),
        "initial_rollout_steps": (initial, "the same length always"),
    }
    for name, (value, otherwise) in steps.items():
        if value is not None and value < reach:
            raise ValueError(
                f"`{name}` must reach over a window at least, {reach} steps, "
                f"or be None for {otherwise}. Received: {value}."
            )
    if initial is not None and decoded is None:
        raise ValueError(
            "`initial_rollout_steps` needs `num_decoded_frames`, for rollouts "
            f"that grow have not all frames. Received: {initial} and None."
        )
    if initial is None and tuple(ramp) != (0, 0):
        raise ValueError(
            "`rollout_ramp` needs `initial_rollout_steps`, from which rollouts "
            f"grow. Received: {ramp} and None."
        )
    if None not in (initial, rollout_steps) and initial > rollout_steps:
        raise ValueError(
            "`initial_rollout_steps` must be at most `rollout_steps`. "
            f"Received: {initial} and {rollout_steps}."
        )
    if rollout_steps is None:
        return
    if (anchor == "random" or state_frame) and decoded is None:
        raise ValueError(
            "With `rollout_steps` from another frame than the first no "
            "example has all frames: give `num_decoded_frames`. Received: None."
        )


def _check_ramp(name, ramp):
    if len(ramp) != 2 or not 0 <= ramp[0] <= ramp[1]:
        raise ValueError(
            f"`{name}` must be two steps (first, last) with 0 <= first <= "
            f"last. Received: {ramp}."
        )


def _check_agreement(agreement, ramp, num_windows, reversible):
    losses.check_weight("agreement", agreement)
    _check_ramp("agreement_ramp", ramp)
    if not 1 <= num_windows <= 8:
        raise ValueError(
            f"`num_windows` must be from 1 to 8. Received: {num_windows}."
        )
    if reversible and not (agreement and num_windows > 1):
        raise ValueError(
            "`reversible` needs `agreement` above 0 and two `num_windows`, of "
            f"which every other is read backward. Received: {agreement} and "
            f"{num_windows}."
        )


def _check_pair(pair, rule):
    one, other = (tuple(part.shape) for part in pair)
    if one != other:
        raise ValueError(f"{rule} of one shape. Received: {one} and {other}.")


def _check_whole(part, given, expected):
    if given != expected:
        raise ValueError(
            f"`{part}` must compute in {expected}: states and energies are "
            f"never in half precision. Received: {given}; make its layers "
            f'with dtype="{expected}".'
        )


def _check_energy_and_frame(energy, drawn, frame_shape):
    if tuple(energy.shape) != (1,):
        raise ValueError(
            "`hamiltonian` must give one number per example, [batch]. "
            f"Received: shape {tuple(energy.shape)} of a batch of 1."
        )
    if tuple(drawn.shape[1:]) != frame_shape:
        raise ValueError(
            "The decoder must draw frames of the size it is trained on. "
            f"Received: frames {frame_shape}, decoder output "
            f"{tuple(drawn.shape[1:])}."
        )


def _check_step(hamiltonian, like, dt):
    """At the start no step may be so long that leapfrog leaves the orbit.

    It does from dt * frequency = 2 on. The frequency is that of the oscillator
    which the field of H resembles between two states: the root of the product
    of what dH/dq changes with q, and dH/dp with p.
    """
    near, far = (
        PhaseState(
            *(
                tf.random.stateless_normal(
                    like.shape, [seed, half], dtype=like.dtype
                )
                for half in range(2)
            )
        )
        for seed in range(2)
    )
    rates = [
        tf.norm(one - other) / tf.norm(apart)
        for one, other, apart in zip(
            time_derivative(hamiltonian, near)[::-1],
            time_derivative(hamiltonian, far)[::-1],
            (near.q - far.q, near.p - far.p),
        )
    ]
    frequency = float(tf.sqrt(rates[0] * rates[1]))
    if abs(dt) * frequency >= 2.0 and np.isfinite(frequency):
        raise ValueError(
            "`dt` must be below 2 / frequency of the first Hamiltonian, "
            f"{2.0 / frequency:.3g}, or rollouts explode. Received: {dt:g}; "
            "give `flat_networks` or `paper_networks` rate="
            f"{0.125 / abs(dt):.3g}, or count time in another unit."
        )


def _check_positions(positions, position_net):
    losses.check_weight("positions", positions)
    if bool(positions) != (position_net is not None):
        raise ValueError(
            "`positions` above 0 and a `position_net` go together. Received: "
            f"positions={positions}, position_net={position_net}."
        )


def _check_position(shown, q):
    if tuple(shown.shape) != tuple(q.shape):
        raise ValueError(
            "`position_net` must give a q, of the shape "
            f"{tuple(q.shape)[1:]}. Received: {tuple(shown.shape)[1:]}."
        )


def _like(numbers, part):
    """Numbers [batch] as [batch, 1, ...], to go with part [batch, ...]."""
    return tf.reshape(numbers, [-1] + [1] * (len(part.shape) - 1))


def _inner(one, other):
    """Inner product of states, [batch]."""
    return tf.add_n(
        [
            tf.reduce_sum(a * b, axis=list(range(1, len(a.shape))))
            for a, b in zip(one, other)
        ]
    )


def _moved(state, direction, length):
    """A state moved along a direction by lengths [batch]."""
    return PhaseState(
        *(
            part + _like(length, part) * along
            for part, along in zip(state, direction)
        )
    )
