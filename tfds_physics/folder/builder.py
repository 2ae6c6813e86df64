"""The TFDS builder of videos that lie in a folder or in one file.

README.md and TAGS.txt beside this module are its card.
"""

import dataclasses
import hashlib
import itertools
import json
import math
import numbers
import os
import pathlib
import re
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from tfds_physics import preparation
from tfds_physics.folder import recordings
from tfds_physics.folder.recordings import BadRecording, Recording

SPLITS = ("train", "validation", "test")
# Shares of the files, where no subfolders say it.
_SHARES = {"test": 0.1, "validation": 0.1}
# The clips of train overlap if there would be fewer of them.
_ENOUGH_CLIPS = 64
# Problems that an error tells before it only counts them.
_TOLD = 3


@dataclasses.dataclass(frozen=True)
class Clip:
    """Frames of a recording that stand one after another.

    Attributes:
      recording: The recording that they are of.
      start: The first of them, counted in the frames that the stride keeps.
    """

    recording: Recording
    start: int


class VideoFolder(  # type: ignore[call-arg]
    tfds.core.GeneratorBasedBuilder, skip_registration=True
):
    """Clips of your own videos, cut to one length and brought to one size.

    The path is a file, or a folder with files of any of these kinds: mp4, m4v,
    mov, avi, webm, mkv (by PyAV, extra `video`), gif, npy and npz of shape
    [time, height, width(, channels)] or [n, time, ...], and folders of numbered
    pictures. Subfolders train, validation and test make the splits. Without
    them about a tenth of the files is test and a tenth is validation, by a hash
    of the seed and the file's name. One recording alone is cut in time: its
    end is test. No frame is in two splits.

    The dataset is made once for these files and settings, by the content of
    the files, and then read from TFDS's folder: `builder.builder_config.name`
    names it. Features: video [time, height, width, channels], time, dt, file,
    start and id. Each file is read twice, at first to find its problems. So no
    more than two recordings are held in memory at a time.

    Args:
      path: File or folder.
      image_size: int, (height, width), or None for about as many pixels as
        32x32 in the shape of the files. From 8 to 256. Defaults to None.
      fps: float. Frames per second that count instead of what the files say;
        None for the files'. Arrays and pictures may need it. Defaults to None.
      stride: int. Distance of the frames that are kept. The seconds between
        frames are stride / fps. Defaults to 1.
      clip_frames: int. Frames per clip. Defaults to 30.
      channels: int. 3 for colour, 1 for grey. Defaults to 3.
      fit: str. "letterbox" keeps whole frames, with margins in the colour of
        their border; "crop" fills the size and cuts what hangs over. Defaults
        to "letterbox".
      overlap: int. Frames that a clip of train shares with the next; None for
        0, or for what makes 64 clips of few recordings. Clips of the other
        splits share none. Defaults to None.
      seed: int. Seed of the splits. Defaults to 0.
      skip_bad: bool. Whether files that cannot be used are left out. They are
        listed in `problems`. Defaults to False: they are an error.
      data_dir: Folder of TFDS's datasets; None for TFDS's default.
    Attributes:
      problems: Name of a file -> why it was left out.
      others: Names of files that are no videos.
    Raises:
      ValueError: if an argument is out of its range.
      ValueError: if a file cannot be used, is too short, or has another size
        or frame rate than most; it names the file.
      ValueError: if there is nothing for train or test.
      FileNotFoundError: if there is no such path.
      ImportError: if PyAV is needed and not installed.
    """

    name = "video_folder"
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First release."}

    def __init__(
        self,
        path: str | os.PathLike,
        *,
        image_size: int | Sequence[int] | None = None,
        fps: float | None = None,
        stride: int = 1,
        clip_frames: int = 30,
        channels: int = 3,
        fit: str = "letterbox",
        overlap: int | None = None,
        seed: int = 0,
        skip_bad: bool = False,
        data_dir: str | os.PathLike | None = None,
    ):
        self.path = pathlib.Path(path).expanduser().resolve()
        _check_settings(
            image_size, fps, stride, clip_frames, channels, fit, overlap, seed
        )
        if not self.path.exists():
            raise FileNotFoundError(
                "The path of videos must be a file or a folder. Received: "
                f"{path}, where nothing is."
            )
        if data_dir is not None and not preparation.is_local(data_dir):
            raise ValueError(
                "`data_dir` must be a folder of this machine for your own "
                f"videos. Received: {os.fspath(data_dir)!r}."
            )
        self.skip_bad = skip_bad
        listing = recordings.list_recordings(self.path, fps is not None)
        self.others = listing.others
        self.problems = listing.problems
        self._recordings = listing.recordings
        self._splits = _assign(self.path, self._recordings, seed)
        self._drop_copies()
        self._refuse_problems()
        if not self._recordings:
            raise ValueError(
                "There must be a video at least, of the kinds "
                f"{', '.join(recordings.KNOWN)}. Received: {self.path}, with "
                f"{len(self.others)} other files."
            )
        first = self._recordings[0]
        rate = fps or first.fps
        if not rate:
            raise ValueError(
                "`fps` must be given where the files do not say their frames "
                f"per second. Received: None for {first.name}."
            )
        sides = image_size or recordings.same_shape(first.size)
        sides = sides if isinstance(sides, Sequence) else (sides, sides)
        self._settings: dict[str, Any] = {
            "image_size": [int(side) for side in sides],
            "dt": stride / rate,
            "stride": stride,
            "num_frames": clip_frames,
            "channels": channels,
            "fit": fit,
            "overlap": overlap,
            "seed": seed,
        }
        self._clips: dict[str, list[Clip]] = {}
        self._counts: dict[str, int] = {}
        super().__init__(
            data_dir=data_dir,
            config=tfds.core.BuilderConfig(
                name=self._config_name(),
                description=f"Clips of {self.path.name}.",
            ),
        )
        if self.data_path.exists():
            self.problems |= dict(self.info.metadata["problems"])
            self._refuse_problems()

    def download_and_prepare(self, **kwargs: Any) -> None:
        """Reads the files and writes the clips, unless that was done before.

        Args:
          **kwargs: Arguments of
            `tfds.core.DatasetBuilder.download_and_prepare`.
        Raises:
          ValueError: if a file is broken or too short, naming it, or a split
            is left without clips.
          OSError: if the disk is too full (errno ENOSPC).
        """
        config = kwargs.get("download_config") or tfds.download.DownloadConfig()
        asked = {
            name: getattr(config, name)
            for name in (
                "max_examples_per_split",
                "beam_options",
                "beam_runner",
            )
            if getattr(config, name) is not None
        }
        if asked:
            raise ValueError(
                "One process reads your own videos, and all of them. "
                f"Received: {asked}; leave these options out."
            )
        overwrite = config.download_mode.overwrite_dataset
        data_path = pathlib.Path(self.data_dir)
        with preparation.sole_writer(data_path):
            if overwrite or not data_path.exists():
                self._clips = self._find_clips()
                self.info.metadata.update(self._metadata())
                with preparation.enough_space(data_path, self._needed_bytes()):
                    super().download_and_prepare(**kwargs)
                self._clips = {}
            elif not self.info.splits:  # another process made it meanwhile
                self.info.read_from_directory(self.data_dir)

    def _info(self) -> tfds.core.DatasetInfo:
        height, width = self._settings["image_size"]
        frames = self._settings["num_frames"]
        return self.dataset_info_from_configs(
            supervised_keys=None,
            metadata=tfds.core.MetadataDict(self._metadata()),
            features=tfds.features.FeaturesDict(
                {
                    "video": tfds.features.Tensor(
                        shape=(
                            frames,
                            height,
                            width,
                            self._settings["channels"],
                        ),
                        dtype=np.uint8,
                        encoding=tfds.features.Encoding.ZLIB,
                        doc="Frames [time, height, width, channels].",
                    ),
                    "time": tfds.features.Tensor(
                        shape=(frames,),
                        dtype=np.float32,
                        doc="Seconds since the first frame of the clip.",
                    ),
                    "dt": tfds.features.Scalar(
                        np.float32, doc="Seconds between frames."
                    ),
                    "file": tfds.features.Text(doc="Name of the recording."),
                    "start": tfds.features.Scalar(
                        np.int64, doc="Frame of the recording that is first."
                    ),
                    "id": tfds.features.Text(doc="file:start"),
                }
            ),
        )

    def _split_generators(self, dl_manager):
        del dl_manager  # nothing is downloaded
        return {
            split: self._generate_examples(clips)
            for split, clips in self._clips.items()
        }

    def _generate_examples(self, clips):
        dt = self._settings["dt"]
        for clip, video in self._read_clips(clips):
            start = self._settings["stride"] * clip.start
            name = f"{clip.recording.name}:{start}"
            yield (
                name,
                {
                    "video": video,
                    "time": np.float32(dt * np.arange(len(video))),
                    "dt": np.float32(dt),
                    "file": clip.recording.name,
                    "start": start,
                    "id": name,
                },
            )

    def _metadata(self) -> dict:
        """What is kept beside the data, as plain JSON."""
        return {
            **self._settings,
            **self._counts,
            "path": str(self.path),
            # Of files that decide the clips; the others are looked at anew.
            "problems": {
                one.name: self.problems[one.name]
                for one in self._recordings
                if one.name in self.problems
            },
        }

    def _config_name(self):
        """The folder's name, and a hash of all that decides the clips."""
        decides = [
            str(self.VERSION),
            self._settings,
            [[one.name, one.digest] for one in self._recordings],
        ]
        text = json.dumps(decides, sort_keys=True).encode("utf-8")
        digest = hashlib.blake2b(text, digest_size=5).hexdigest()
        slug = re.sub(r"[^A-Za-z0-9]+", "_", self.path.stem).strip("_")
        return f"{slug or 'videos'}-{digest}"

    def _drop_copies(self):
        """The same bytes in two splits: the later becomes a problem."""
        seen: dict[str, Recording] = {}
        for one in list(self._recordings):
            other = seen.setdefault(one.digest, one)
            if self._splits.get(other.name) != self._splits.get(one.name):
                self._recordings.remove(one)
                self.problems[one.name] = (
                    f"the same as {other.name}, which is in another split"
                )

    def _refuse_problems(self):
        if self.skip_bad or not self.problems:
            return
        told = [f"{name}: {why}" for name, why in self.problems.items()]
        more = len(told) - _TOLD
        rest = f"; and {more} more" if more > 0 else ""
        raise ValueError(
            "Videos must be whole, long enough and alike, or be left out "
            "(`skip_bad`, --skip-bad). Received: "
            f"{'; '.join(told[:_TOLD])}{rest}."
        )

    def _find_clips(self) -> dict[str, list[Clip]]:
        """The clips of each split; frames that cannot be read are problems."""
        frames = self._settings["num_frames"]
        found: dict[str, list] = {split: [] for split in SPLITS}
        bar = tfds.core.utils.tqdm_utils.tqdm
        # A moving bar only where there is a terminal.
        for one in bar(self._recordings, desc="Reading videos", disable=None):
            try:
                length = len(self._read(one))
                if length < frames:
                    raise BadRecording(f"{length} frames, a clip has {frames}")
            except BadRecording as error:
                self.problems[one.name] = str(error)
                continue
            found[self._splits.get(one.name, "train")].append((one, 0, length))
        self._refuse_problems()
        if not self._splits and found["train"]:
            ((one, _, length),) = found["train"]
            found = self._cut_in_time(one, length)
        clips = {split: self._cut(found[split], split) for split in SPLITS}
        empty = [name for name in ("train", "test") if not clips[name]]
        if empty:
            raise ValueError(
                "The splits train and test must have a clip of "
                f"{frames} frames each. Received: none for "
                f"{' and '.join(empty)} in {self.path}; take shorter clips "
                "(`clip_frames`, --clip-frames) or more videos."
            )
        kept = {
            (clip.recording.name, clip.start + index)
            for some in clips.values()
            for clip in some
            for index in range(frames)
        }
        self._counts = {
            "frames": sum(
                stop - start
                for some in found.values()
                for _, start, stop in some
            ),
            "frames_in_clips": len(kept),
        }
        return {split: some for split, some in clips.items() if some}

    def _read_clips(
        self, clips: list[Clip]
    ) -> Iterator[tuple[Clip, np.ndarray]]:
        """Clips with their frames; each recording is read once."""
        frames = self._settings["num_frames"]
        for one, some in itertools.groupby(clips, lambda clip: clip.recording):
            try:
                video = self._read(one)
            except BadRecording as error:
                raise ValueError(
                    "The files of videos must stay as they are while they are "
                    f"read. Received: {one.name}, which no longer can be: "
                    f"{error}."
                ) from error
            for clip in some:
                yield clip, video[clip.start : clip.start + frames]

    def _needed_bytes(self):
        """From one clip: twice what all take that compress as it does."""
        _, video = next(self._read_clips(self._clips["train"]))
        count = sum(len(clips) for clips in self._clips.values())
        return 2 * count * len(zlib.compress(video.tobytes()))

    def _read(self, one):
        return recordings.read_frames(
            one,
            tuple(self._settings["image_size"]),
            self._settings["channels"],
            self._settings["stride"],
            self._settings["fit"],
        )

    def _cut_in_time(self, one, length):
        """One recording: its end is test, what is before it validation."""
        frames = self._settings["num_frames"]
        parts, stop = {}, length
        for split, share in _SHARES.items():
            part = max(frames, int(share * length))
            # Train is what must not go short.
            if split == "validation" and stop - part < 2 * frames:
                part = 0
            parts[split] = (stop - part, stop)
            stop -= part
        parts["train"] = (0, stop)
        return {
            split: [(one, start, end)] if start >= 0 else []
            for split, (start, end) in parts.items()
        }

    def _cut(self, found, split):
        """Clips of recordings, one after another or overlapping."""
        frames = self._settings["num_frames"]
        step = frames
        if split == "train":
            overlap = self._settings["overlap"]
            lengths = [stop - start for _, start, stop in found]
            step = (
                _auto_step(lengths, frames)
                if overlap is None
                else frames - overlap
            )
        return [
            Clip(one, first)
            for one, start, stop in found
            for first in range(start, stop - frames + 1, step)
        ]


def _auto_step(lengths, frames):
    """Frames from clip to clip: as many as give enough clips, if any do."""
    for step in range(frames, 1, -1):
        count = sum(max(0, n - frames) // step + 1 for n in lengths)
        if count >= _ENOUGH_CLIPS:
            return step
    return 1


def _assign(
    path: pathlib.Path, found: list[Recording], seed: int
) -> dict[str, str]:
    """Name of a recording -> its split; empty for a single recording."""
    if path.is_dir():
        folders = {p.name for p in path.iterdir() if p.is_dir()}
        if folders & set(SPLITS):
            return _assign_by_folder(path, found)
    if len(found) < 2:
        return {}

    def place(one):
        text = f"{seed}:{one.name}".encode()
        return int(hashlib.blake2b(text, digest_size=7).hexdigest(), 16) / 2**56

    ranked = sorted(found, key=place)
    splits = dict.fromkeys((one.name for one in found), "train")
    start = 0.0
    for split, share in _SHARES.items():
        if split == "validation" and len(found) < 3:
            break
        chosen = [one for one in ranked if start <= place(one) < start + share]
        left = [one for one in ranked if splits[one.name] == "train"]
        # Of few files none may fall there: the nearest then does.
        for one in [x for x in chosen if x in left] or left[:1]:
            splits[one.name] = split
        start += share
    return splits


def _assign_by_folder(path, found):
    strangers = sorted(
        one.name for one in found if one.name.partition("/")[0] not in SPLITS
    )
    if strangers:
        raise ValueError(
            f"Where a folder has a subfolder of {list(SPLITS)}, all of its "
            f"videos must lie in those. Received: {path}, with "
            f"{strangers[0]} beside them."
        )
    splits = {one.name: one.name.partition("/")[0] for one in found}
    missing = {"train", "test"} - set(splits.values())
    if missing and found:
        raise ValueError(
            "The subfolders train and test must both have videos. Received: "
            f"{path}, with none in {' and '.join(sorted(missing))}."
        )
    return splits


def _check_settings(
    image_size, fps, stride, clip_frames, channels, fit, overlap, seed
):
    sides = (image_size,) * 2 if np.isscalar(image_size) else image_size
    if sides is not None and not (
        len(sides) == 2
        and all(
            isinstance(side, numbers.Integral) and 8 <= int(side) <= 256
            for side in sides
        )
    ):
        raise ValueError(
            "`image_size` must be a whole number from 8 to 256, height and "
            f"width, or None. Received: {image_size!r}."
        )
    if fps is not None and not 0 < fps < math.inf:
        raise ValueError(
            f"`fps` must be positive and finite, or None. Received: {fps}."
        )
    for name, value, lowest in (
        ("stride", stride, 1),
        ("clip_frames", clip_frames, 3),
        ("seed", seed, 0),
    ):
        if not isinstance(value, numbers.Integral) or int(value) < lowest:
            raise ValueError(
                f"`{name}` must be a whole number of at least {lowest}. "
                f"Received: {value!r}."
            )
    if channels not in (1, 3):
        raise ValueError(
            "`channels` must be 3 for colour or 1 for grey. Received: "
            f"{channels!r}."
        )
    if fit not in recordings.FITS:
        raise ValueError(
            f"`fit` must be one of {list(recordings.FITS)}. Received: {fit!r}."
        )
    if overlap is not None and not (
        isinstance(overlap, numbers.Integral)
        and 0 <= int(overlap) < clip_frames
    ):
        raise ValueError(
            "`overlap` must be a whole number from 0 to below `clip_frames`, "
            f"or None. Received: {overlap!r}."
        )
