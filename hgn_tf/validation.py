"""Whether a law is being learned: cheap measures at the end of each epoch.

And whether anything is: `StuckWatch` tells of frames that stay the mean image.

The error within the trained frames does not tell a law from a memory: a large
latent can hold the frames of a video, and roll them out under an H that means
nothing. The measures here do: a memory fails at each of them but the last,
which tells how many directions q fills.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from hgn_tf import data, metrics
from hgn_tf.models.video import VideoModel

# Videos that the measures are taken on.
_NUM_VIDEOS = 48
# A frame in so many is drawn: drawing is what the measures cost.
_EVERY = 3
# The first frame that counts as far, the length of the paper's videos.
_FAR = 30
# Frames are those of the mean image if they have this part of its error, in as
# many epochs in a row.
_STUCK, _PATIENCE = 0.95, 3


@dataclass(frozen=True)
class LawTruth:
    """Videos of more frames than a model trains on, with their truth.

    Attributes:
      video: uint8 [batch, time, height, width, channels], as recorded.
      energy: True energies [batch], joules; None if they are not known.
      backward: uint8 video of the motion before the first frame, without
        noise. It begins at the first frame and goes back in time. None if it
        is not known.
      has_far: Whether no state is inferred from the 31st frame and those after
        it.
    """

    video: np.ndarray
    energy: np.ndarray | None = None
    backward: np.ndarray | None = None
    has_far: bool = True


def load_truth(builder: Any, num_videos: int = _NUM_VIDEOS) -> LawTruth:
    """The videos of the split validation_long, with energies and the past.

    Args:
      builder: Prepared builder of `tfds_physics`.
      num_videos: int. Largest number of videos. Defaults to 48.
    Raises: ValueError: if the dataset has no such split.
    """
    part = data.load_split(builder, "validation_long", num_videos)
    times = -part.dt * np.arange(_FAR)
    return LawTruth(
        part.video, part.energy, data.true_video(builder, part, times)
    )


def recorded_truth(
    video: np.ndarray, num_inference_frames: int
) -> LawTruth | None:
    """What recorded videos alone can tell: the motion before their last frames.

    Args:
      video: uint8 [batch, time, height, width, channels].
      num_inference_frames: int. Frames that a state is inferred from.
    Returns: LawTruth of the last so many frames, without energies, and of the
      frames before them, last first. None if there are none.
    """
    start = video.shape[1] - num_inference_frames
    if start < 1:
        return None
    # All frames of the window are seen, however many they are.
    return LawTruth(video[:, start:], None, video[:, start::-1], has_far=False)


def law_measures(model: VideoModel, truth: LawTruth) -> dict[str, float]:
    """Measures at which a memory of the frames fails, and what q fills.

    energy_r2 and energy_rank are the squared correlation, and the rank
    correlation without its sign, of the learned with the true energies.
    backward_mse_e4 is the error of a rollout back from the first frame,
    against the true motion. far_mse_e4 is the error of the frames from the
    31st on, against the recorded frames, whose noise floor no model gets below.

    directions is `metrics.filled_directions` of q in the last of these
    rollouts. A memory does not fail at it. It shows a q that is drawn out along
    one axis: then it is far below that of the true places, 3.0 of three bodies,
    and K = |p|^2 / 2 gives the axes unlike masses.

    Errors are mean squared errors per pixel, times 1e4, of every third frame.
    States are inferred from the first frames, by the posterior's mean. A
    measure whose truth is not known is left out.

    Args:
      model: HGN or PixelHNN, trained or in training.
      truth: Videos and their truth.
    Returns: dict, name -> number.
    """
    state = model.infer(truth.video)
    measures = {}
    if truth.energy is not None:
        learned = model.energy(state).numpy()
        measures["energy_r2"] = metrics.r_squared(learned, truth.energy)
        measures["energy_rank"] = metrics.rank_correlation(
            learned, truth.energy
        )
    path = None
    if truth.backward is not None:
        measures["backward_mse_e4"], path = _error(
            model, state, truth.backward, -model.dt, 1
        )
    if truth.has_far and truth.video.shape[1] > _FAR:
        measures["far_mse_e4"], path = _error(
            model, state, truth.video, model.dt, _FAR
        )
    if path is not None:
        q = np.asarray(path.q)
        measures["directions"] = metrics.filled_directions(
            q.reshape(-1, *q.shape[2:])
        )
    return measures


def yardsticks(truth: LawTruth, image: np.ndarray) -> dict[str, float]:
    """The mean image's errors, on the frames of `law_measures`.

    Args:
      truth: Videos and their truth.
      image: Mean frame, [height, width, channels] in [0, 1].
    Returns: dict, name -> number, named as in `law_measures`.
    """
    videos = {"backward_mse_e4": (truth.backward, 1)}
    if truth.has_far and truth.video.shape[1] > _FAR:
        videos["far_mse_e4"] = (truth.video, _FAR)
    return {
        name: _mse_e4(video[:, first::_EVERY], image)
        for name, (video, first) in videos.items()
        if video is not None
    }


class LawValidation(keras.callbacks.Callback):
    """Adds `law_measures` to the logs of an epoch, as val_energy_r2 and so on.

    It must stand before callbacks that write the logs.

    Args:
      truth: Videos and their truth.
    """

    def __init__(self, truth: LawTruth):
        super().__init__()
        self._truth = truth

    def on_epoch_end(self, epoch, logs=None):
        measures = law_measures(self.model, self._truth)
        logs.update({f"val_{name}": x for name, x in measures.items()})


class StuckWatch(keras.callbacks.Callback):
    """Says that a training has stayed at the mean image for three epochs.

    Of videos whose noise is nearly all of the mean image's error it says so of
    a right model too.

    Args:
      video: uint8 videos that `val_reconstruction` is measured on.
      image: Mean frame, [height, width, channels] in [0, 1].
      progress: Called with the line.
      remedy: A sentence on what may help, besides another seed.
    """

    def __init__(
        self,
        video: np.ndarray,
        image: np.ndarray,
        progress: Callable[[str], None],
        remedy: str = "",
    ):
        super().__init__()
        self._remedy = remedy and f" {remedy}"
        self._constant = _mse_e4(video, image)
        self._progress = progress
        self._stuck = 0

    def on_epoch_end(self, epoch, logs=None):
        error = 1e4 * logs["val_reconstruction"]
        stuck = error >= _STUCK * self._constant
        self._stuck = self._stuck + 1 if stuck else 0
        if self._stuck == _PATIENCE:
            self._progress(
                f"For {_PATIENCE} epochs the frames have been no better than "
                f"the mean image: error {error:.1f}e-4, the mean image's "
                f"{self._constant:.1f}e-4.{self._remedy} Another seed may do "
                "better."
            )


def _error(model, state, video, dt, first):
    """The error of the frames from the first on, and the states rolled out."""
    path = model.rollout(state, video.shape[1] - 1, dt)
    shown = type(path)(*(part[:, first::_EVERY] for part in path))
    return _mse_e4(video[:, first::_EVERY], model.decode(shown).numpy()), path


def _mse_e4(video, drawn):
    error = np.square(video / np.float32(255.0) - drawn)
    return 1e4 * float(error.mean(dtype=np.float64))
