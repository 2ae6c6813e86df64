"""Your own videos before training: what is in them, and settings for it."""

import math
from typing import NamedTuple

import numpy as np

from hgn_tf import data, inspection

# Clips of train that are looked at.
_LOOKED_AT = 200
# Of what the mean image misses above the noise, the part a model may miss.
_TOLERATED = 0.005
_LEAST_TOLERANCE = 1e-6
_INFERENCE_FRAMES = 5
_NOISY = 0.05  # of the mean image's error
_SLOW, _FAST = 0.2, 4.0  # pixels per frame
_BATCH = 32
# Shares above which a word is due.
_MUCH_MOVES, _MUCH_STANDS, _MUCH_STAYS = 0.5, 0.5, 0.6


class Findings(NamedTuple):
    """What is in a dataset of videos.

    Attributes:
      clips: Split -> number of clips.
      num_frames: Frames per clip.
      frame_shape: Height, width and channels.
      dt: Seconds between frames.
      mean_image: Error of the mean image, a mean squared error per pixel.
      noise: Variance of the noise of still pixels.
      motion: Pixels that things move per frame.
      moving: Share of the pixels that change from a frame to the next.
      still: Share of the frames to the next of which nothing changes.
      one_way: How much of the change stays, 1 for a drawing.
    """

    clips: dict[str, int]
    num_frames: int
    frame_shape: tuple[int, int, int]
    dt: float
    mean_image: float
    noise: float
    motion: float
    moving: float
    still: float
    one_way: float


class Proposal(NamedTuple):
    """A setting of a run, and a word why."""

    value: int | float
    why: str


def find(builder: data.Builder) -> Findings:
    """Looks at the clips of train.

    Args:
      builder: Prepared builder of videos.
    """
    video = data.load_split(builder, "train", _LOOKED_AT).video
    misses = video / np.float32(255.0) - data.mean_image(builder)
    return Findings(
        {
            name: split.num_examples
            for name, split in builder.info.splits.items()
        },
        video.shape[1],
        data.frame_shape(builder),
        data.seconds_per_frame(builder),
        float(np.square(misses).mean()),
        inspection.noise_variance(video),
        inspection.motion_per_frame(video),
        inspection.moving_share(video),
        inspection.still_share(video),
        inspection.one_way_share(video),
    )


def propose(found: Findings) -> dict[str, Proposal]:
    """Settings for videos of which nothing else is known."""
    above = found.mean_image - found.noise
    frames, why = _INFERENCE_FRAMES, "a place and a speed show in a few frames"
    if found.noise > _NOISY * found.mean_image:
        frames, why = 2 * frames, "noise hides the speed in fewer"
    if 0 < found.motion < _SLOW:
        frames = max(frames, math.ceil(1 / found.motion))
        why = f"things move {found.motion:.2g} pixels per frame"
    most = max(2, found.num_frames // 2)
    if frames > most:
        frames, why = most, "the other half of a clip is forecast"
    return {
        "num_inference_frames": Proposal(frames, why),
        "latent_size": Proposal(
            16, "the degrees of freedom are not known; one law is asked for"
        ),
        "tolerance": Proposal(
            float(f"{max(_TOLERATED * above, _LEAST_TOLERANCE):.2g}"),
            "1/200 of what the mean image misses above the noise",
        ),
        "batch_size": Proposal(
            min(_BATCH, found.clips["train"]), "at most the clips of train"
        ),
    }


def warnings(found: Findings) -> list[str]:
    """What may keep a law from being learned, a line each."""
    lines = []
    if not found.motion:
        lines.append("Nothing moves: there is no law to learn.")
    elif found.still > _MUCH_STANDS:
        lines.append(
            f"Nothing changes after {found.still:.0%} of the frames: a motion "
            "that stops is not that of a closed system."
        )
    if found.one_way > _MUCH_STAYS:
        lines.append(
            f"{found.one_way:.0%} of the changes stay: a clip is too short for "
            "things to come back (a larger stride, more frames), or this is a "
            "drawing that is made."
        )
    if found.moving > _MUCH_MOVES:
        lines.append(
            f"{found.moving:.0%} of the pixels change per frame: the camera "
            "may move, and the estimate of the noise is then too high."
        )
    if found.motion > _FAST:
        lines.append(
            f"Things move {found.motion:.1f} pixels per frame: take a smaller "
            "stride if the recordings have more frames."
        )
    if found.clips["train"] < _BATCH:
        lines.append(
            f"{found.clips['train']} clips of train are few: a model can "
            "remember them. Record more, or take shorter clips."
        )
    return lines


def describe(builder: data.Builder, found: Findings) -> str:
    """What was found, as text of a few lines."""
    height, width, channels = found.frame_shape
    clips = ", ".join(
        f"{name} {count:,}" for name, count in found.clips.items()
    )
    settings = builder.info.metadata
    lines = [
        f"{settings['path']}: {data.dataset_name(builder)}",
        f"clips: {clips}; {found.num_frames} frames of {height}x{width}, "
        f"{channels} {'channel' if channels == 1 else 'channels'}",
        f"frames: {settings['frames']:,} were read, "
        f"{settings['frames'] - settings['frames_in_clips']:,} of them are in "
        "no clip: the ends of recordings",
        f"dt: {found.dt:.4g} s per frame, stride {settings['stride']}; "
        f"{found.dt * (found.num_frames - 1):.3g} s per clip",
        f"mean image: MSE {1e4 * found.mean_image:.4g}e-4, what a model that "
        "learned nothing reaches",
        f"noise of still pixels: MSE {1e4 * found.noise:.3g}e-4, standard "
        f"deviation {255 * found.noise**0.5:.2g} grey levels",
        f"motion: {found.motion:.2g} pixels per frame; {found.moving:.1%} of "
        "the pixels change from a frame to the next",
    ]
    return "\n".join(lines + [f"Note: {line}" for line in warnings(found)])
