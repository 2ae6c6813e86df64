"""Files of videos: found, probed, and read as frames of one size.

Videos are read by PyAV, which ships its codecs (extra `video`); GIFs and
pictures by Pillow, arrays by numpy.
"""

import collections
import contextlib
import dataclasses
import hashlib
import pathlib
import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import PIL.Image

VIDEOS = (".mp4", ".m4v", ".mov", ".avi", ".webm", ".mkv")
ARRAYS = (".npy", ".npz")
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
KNOWN = (*VIDEOS, ".gif", *ARRAYS, *PICTURES)
FITS = ("letterbox", "crop")
# A GIF that says nothing of its rate is shown at ten frames per second.
_GIF_SECONDS = 0.1
# Frame rates that differ by less are one.
_SAME_RATE = 0.02
_CHUNK = 2**20
_RATES = ("fps", "dt")  # of an npz, the first that is there
# What damaged files lead to.
_UNREADABLE = (
    OSError,
    ValueError,
    EOFError,
    SyntaxError,
    zipfile.BadZipFile,
    zlib.error,
)


class BadRecording(Exception):
    """A file that cannot be used; its text says why."""


@dataclasses.dataclass(frozen=True)
class Recording:
    """A file, a folder of numbered pictures, or a row of an array.

    Attributes:
      name: Its name within the folder, such as "train/a.mp4" or "b.npy[3]".
      paths: The file, or the pictures in their order.
      index: Row of the array that it is, or None.
      size: Height and width in pixels.
      fps: Frames per second, or None if the file does not say.
      digest: Hash of its bytes and row.
    """

    name: str
    paths: tuple[pathlib.Path, ...]
    index: int | None
    size: tuple[int, int]
    fps: float | None
    digest: str


@dataclasses.dataclass
class Listing:
    """What is in a folder.

    Attributes:
      recordings: What can be used, in the order of its names.
      problems: Name -> why it cannot be used.
      others: Names of files that are no videos.
    """

    recordings: list[Recording]
    problems: dict[str, str]
    others: list[str]


def list_recordings(path: pathlib.Path, rate_given: bool = False) -> Listing:
    """Looks at a file, or at all files below a folder.

    The pictures that lie in one folder are the frames of one recording, in
    the order of the numbers in their names. Hidden files are not looked at.

    Args:
      path: File or folder.
      rate_given: bool. Whether what the files say of their frame rate does not
        count.
    Returns: Listing. A file that differs from most in size or frame rate is
      a problem.
    """
    listing = Listing([], {}, [])
    root = path if path.is_dir() else path.parent
    for name, paths in _candidates(path, root, listing.others):
        try:
            listing.recordings += _probe(name, paths, rate_given)
        except BadRecording as error:
            listing.problems[name] = str(error)
    _leave_out(
        listing,
        lambda one: one.size,
        lambda size, usual: size == usual,
        lambda size, usual: f"frames of {_by(size)}, most have {_by(usual)}",
    )
    if not rate_given:
        _leave_out(
            listing,
            lambda one: one.fps or 0.0,
            lambda rate, usual: abs(rate - usual) <= _SAME_RATE * usual,
            lambda rate, usual: (
                f"{rate:g} frames per second, most have {usual:g} (0: not said)"
            ),
        )
    return listing


def read_frames(
    recording: Recording,
    size: tuple[int, int],
    channels: int,
    stride: int = 1,
    fit: str = "letterbox",
) -> np.ndarray:
    """The frames of a recording, brought to one size.

    Args:
      recording: Recording to read.
      size: Height and width of the frames that are given back.
      channels: 3 for colour, 1 for grey.
      stride: Distance of the frames that are kept.
      fit: "letterbox" keeps all of a frame, with margins in the colour of its
        border; "crop" fills the size and cuts what hangs over.
    Returns: uint8 [time, height, width, channels].
    Raises: BadRecording: if the frames cannot be read to the end.
    """
    made = []
    margin = None
    for index, frame in enumerate(_decode(recording)):
        if index % stride:
            continue
        if frame.shape[:2] != recording.size:
            raise BadRecording(
                f"frame {index} has {_by(frame.shape[:2])} pixels, the first "
                f"{_by(recording.size)}"
            )
        picture = PIL.Image.fromarray(frame).convert(
            "L" if channels == 1 else "RGB"
        )
        if margin is None:
            margin = _border_colour(np.asarray(picture))
        made.append(_resize(picture, size, fit, margin))
    return np.stack(made).reshape(-1, *size, channels)


def same_shape(size: tuple[int, int], pixels: int = 32 * 32) -> tuple[int, int]:
    """A height and width of about so many pixels, shaped as `size` is.

    Both are multiples of 4, from 8 to 256.
    """
    height, width = size
    sides = (
        (pixels * height / width) ** 0.5,
        (pixels * width / height) ** 0.5,
    )
    return tuple(int(np.clip(4 * round(side / 4), 8, 256)) for side in sides)  # type: ignore[return-value]


def _candidates(path, root, others) -> Iterator[tuple[str, list]]:
    """Name and files of whatever may be a recording."""
    if not path.is_dir():
        yield path.name, [path]
        return
    pictures = []
    for entry in sorted(path.iterdir(), key=_natural):
        suffix = entry.suffix.lower()
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from _candidates(entry, root, others)
        elif suffix in PICTURES:
            pictures.append(entry)
        elif suffix in KNOWN:
            yield entry.relative_to(root).as_posix(), [entry]
        else:
            others.append(entry.relative_to(root).as_posix())
    if pictures:
        name = path.relative_to(root).as_posix()
        yield path.name if name == "." else name, pictures


def _natural(path):
    """Sorts 2.png before 10.png."""
    parts = re.split(r"(\d+)", path.name)
    return [
        (not part.isdigit(), int(part) if part.isdigit() else part)
        for part in parts
    ]


def _probe(name, paths, rate_given) -> list[Recording]:
    """The recordings of a file or of a folder of pictures."""
    suffix = paths[0].suffix.lower()
    if suffix not in KNOWN:
        raise BadRecording(f"none of {', '.join(KNOWN)}")
    try:
        digest = _digest(paths)
        if suffix in ARRAYS:
            return _probe_array(name, paths[0], digest, rate_given)
        one = Recording(name, tuple(paths), None, (0, 0), None, digest)
        fps = None
        if suffix in VIDEOS:
            fps = _video_rate(paths[0])
        elif suffix == ".gif":
            with PIL.Image.open(paths[0]) as image:
                fps = 1 / _gif_seconds(image)
        first = next(_decode(one), None)
    except _UNREADABLE as error:
        raise BadRecording(_said(error)) from error
    if first is None:
        raise BadRecording("no frame in it")
    return [dataclasses.replace(one, size=first.shape[:2], fps=fps)]


def _digest(paths: Iterable[pathlib.Path]) -> str:
    found = hashlib.blake2b(digest_size=16)
    for path in paths:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                found.update(chunk)
    return found.hexdigest()


def _probe_array(name, path, digest, rate_given):
    videos, rates = _load_array(path)
    fps = None if rate_given else _rate(rates)
    if videos.ndim == 4:
        return [Recording(name, (path,), None, videos.shape[1:3], fps, digest)]
    return [
        Recording(
            f"{name}[{index}]",
            (path,),
            index,
            videos.shape[2:4],
            fps,
            f"{digest}-{index}",
        )
        for index in range(len(videos))
    ]


def _load_array(path):
    """Array [(n, )time, height, width, channels], and what tells its rate."""
    loaded = np.load(
        path, mmap_mode="r" if path.suffix.lower() == ".npy" else None
    )
    rates: dict[str, np.ndarray] = {}
    if not isinstance(loaded, np.ndarray):
        with loaded:
            arrays = {key: loaded[key] for key in loaded.files}
        rates = {name: arrays[name] for name in _RATES if name in arrays}
        videos = {k: x for k, x in arrays.items() if x.ndim >= 3}
        if len(videos) != 1:
            raise BadRecording(
                "it must have one array of videos, and may have fps or dt; "
                f"it has {sorted(arrays)}"
            )
        (loaded,) = videos.values()
    shape = loaded.shape
    if loaded.ndim == 3 or (loaded.ndim == 4 and shape[-1] not in (1, 3)):
        loaded, shape = loaded[..., np.newaxis], (*shape, 1)
    if loaded.ndim not in (4, 5) or shape[-1] not in (1, 3) or not loaded.size:
        raise BadRecording(
            "an array must be [time, height, width(, channels)] or [n, time, "
            f"...], of 1 or 3 channels; its shape is {shape}"
        )
    if loaded.dtype != np.uint8 and loaded.dtype.kind != "f":
        raise BadRecording(
            f"numbers must be uint8, or floats from 0 to 1, not {loaded.dtype}"
        )
    return loaded, rates


def _rate(rates):
    """Frames per second of an array's `fps`, or its `dt`; None of neither."""
    for name, number in rates.items():
        if number.size != 1 or not 0 < float(number.item()) < np.inf:
            raise BadRecording(
                f"its {name} must be one number above 0; it is "
                f"{number.tolist()}"
            )
        return float(number.item()) ** (1 if name == "fps" else -1)
    return None


def _decode(recording) -> Iterator[np.ndarray]:
    """Frames uint8, [height, width] or [height, width, 3]."""
    suffix = recording.paths[0].suffix.lower()
    kinds = {
        **dict.fromkeys(VIDEOS, _decode_video),
        **dict.fromkeys(ARRAYS, _decode_array),
        **dict.fromkeys(PICTURES, _decode_pictures),
        ".gif": _decode_gif,
    }
    try:
        yield from kinds[suffix](recording)
    except _UNREADABLE as error:
        raise BadRecording(_said(error)) from error


def _decode_video(recording):
    with _open_video(recording.paths[0]) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        said, times = stream.frames, []
        for frame in container.decode(stream):
            times.append(frame.time)
            picture = frame.to_ndarray(format="rgb24")
            # A telephone held upright notes it, and records as ever.
            yield np.rot90(picture, round(frame.rotation / 90) % 4)
    if said and len(times) < said - 1:
        raise BadRecording(
            f"it says {said} frames, and {len(times)} can be read"
        )
    if None not in times:
        _check_spacing(np.diff(times))


def _video_rate(path):
    with _open_video(path) as container:
        if not container.streams.video:
            raise BadRecording("no video in it")
        rate = container.streams.video[0].average_rate
    return float(rate) if rate else None


@contextlib.contextmanager
def _open_video(path):
    av = import_av()
    try:
        with av.open(str(path)) as container:
            yield container
    except av.FFmpegError as error:
        raise BadRecording(_said(error)) from error


def import_av() -> Any:
    """PyAV, or an error that says how to install it."""
    try:
        import av
    except ModuleNotFoundError as error:
        raise ImportError(
            f"Videos need PyAV: pip install 'hgn-tf[video]'. Received: {error}."
        ) from error
    return av


def _decode_gif(recording):
    (path,) = recording.paths
    seconds = []
    with PIL.Image.open(path) as image:
        for index in range(image.n_frames):
            image.seek(index)
            seconds.append(_gif_seconds(image))
            yield np.asarray(image.convert("RGB"))
    # The last frame is often held before the loop begins again.
    _check_spacing(np.array(seconds[:-1]))


def _gif_seconds(image):
    return image.info.get("duration", 0) / 1000 or _GIF_SECONDS


def _decode_pictures(recording):
    for path in recording.paths:
        with PIL.Image.open(path) as image:
            yield np.asarray(image.convert("RGB"))


def _decode_array(recording):
    videos, _ = _load_array(recording.paths[0])
    video = videos if recording.index is None else videos[recording.index]
    for frame in video:
        if video.dtype != np.uint8:
            if not (np.min(frame) >= 0 and np.max(frame) <= 1):
                raise BadRecording(
                    "floats must lie from 0 to 1, and be finite; it has "
                    f"{np.min(frame):g} to {np.max(frame):g}"
                )
            frame = np.rint(255 * np.asarray(frame, np.float64)).astype(
                np.uint8
            )
        yield np.ascontiguousarray(
            frame[..., 0] if frame.shape[-1] == 1 else frame
        )


def _check_spacing(seconds):
    usual = np.median(seconds) if len(seconds) else 0
    if len(seconds) and np.abs(seconds - usual).max() > 0.6 * usual:
        raise BadRecording(
            f"its frames are {seconds.min():.3g} to {seconds.max():.3g} s apart"
        )


def _leave_out(listing, key, fits, why):
    """Makes problems of recordings whose key does not fit that of most."""
    kinds = collections.Counter(key(one) for one in listing.recordings)
    if len(kinds) < 2:
        return
    usual = kinds.most_common(1)[0][0]
    for one in list(listing.recordings):
        if not fits(key(one), usual):
            listing.recordings.remove(one)
            listing.problems[one.name] = why(key(one), usual)


def _border_colour(picture):
    edges = (picture[0], picture[-1], picture[:, 0], picture[:, -1])
    colour = np.median(np.concatenate(edges), axis=0)
    return tuple(int(x) for x in np.atleast_1d(colour))


def _resize(picture, size, fit, margin):
    """A picture as uint8 of `size`, [height, width(, 3)]."""
    height, width = size
    if picture.size == (width, height):
        return np.asarray(picture)
    across, down = width / picture.width, height / picture.height
    smooth = PIL.Image.Resampling.BILINEAR
    if fit == "crop":
        scale = max(across, down)
        wide, high = width / scale, height / scale
        left, top = (picture.width - wide) / 2, (picture.height - high) / 2
        box = (left, top, left + wide, top + high)
        return np.asarray(picture.resize((width, height), smooth, box))
    scale = min(across, down)
    inner = (
        min(width, max(1, round(scale * picture.width))),
        min(height, max(1, round(scale * picture.height))),
    )
    canvas = PIL.Image.new(
        picture.mode, (width, height), margin if len(margin) > 1 else margin[0]
    )
    place = ((width - inner[0]) // 2, (height - inner[1]) // 2)
    canvas.paste(picture.resize(inner, smooth), place)
    return np.asarray(canvas)


def _by(size):
    return f"{size[0]}x{size[1]}"


def _said(error):
    """One line of what a library said."""
    return " ".join(f"{type(error).__name__}: {error}".split())
