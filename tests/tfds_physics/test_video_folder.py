"""Your own videos as a dataset: what is read, how it is split, what is not."""

import os
import pathlib
import shutil
import weakref
from fractions import Fraction

import numpy as np
import PIL.Image
import pytest
import tensorflow_datasets as tfds

import tfds_physics
from tfds_physics.folder import recordings
from tfds_physics.folder.builder import VideoFolder

FRAMES, HEIGHT, WIDTH, FPS = 9, 16, 24, 10
SETTINGS = {"image_size": (HEIGHT, WIDTH), "clip_frames": 6}


def make_frames(count=FRAMES, size=(HEIGHT, WIDTH), start=0):
    """A bright square that moves right on grey: uint8 [time, ..., 3]."""
    frames = np.full((count, *size, 3), 60, np.uint8)
    for index, frame in enumerate(frames):
        left = 2 + (start + index) % (size[1] - 8)
        frame[4:10, left : left + 6] = (230, 200, 40)
    return frames


def write_video(path, frames, fps=FPS, codec=None, gaps=None):
    """Writes a video; `gaps` are the times of its frames, in frames."""
    av = pytest.importorskip("av")
    codecs = {".avi": "mpeg4", ".webm": "libvpx"}
    with av.open(str(path), "w") as container:
        stream = container.add_stream(
            codec or codecs.get(path.suffix, "libx264"), rate=Fraction(fps)
        )
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt, stream.bit_rate = "yuv420p", 2_000_000
        for index, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            if gaps:
                picture.pts = gaps[index]
                picture.time_base = Fraction(1, fps)
            container.mux(stream.encode(picture))
        container.mux(stream.encode())


def write_gif(path, frames, milliseconds=100):
    first, *others = (PIL.Image.fromarray(frame) for frame in frames)
    first.save(
        path, save_all=True, append_images=others, duration=milliseconds, loop=0
    )


def write_pictures(folder, frames, suffix="png"):
    folder.mkdir(parents=True)
    for index, frame in enumerate(frames):
        # 10 comes after 9 although its text does not.
        PIL.Image.fromarray(frame).save(folder / f"frame_{index}.{suffix}")


def write_some(folder, files=4, **kwargs):
    """Several arrays with different starts."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(files):
        np.save(folder / f"{index}.npy", make_frames(start=3 * index, **kwargs))
    return folder


WRITERS = {
    **{
        name: lambda path, frames: write_video(path, frames)
        for name in ("x.mp4", "x.mov", "x.mkv", "x.avi", "x.webm", "X.MP4")
    },
    "x.gif": write_gif,
    "pictures": write_pictures,
    "x.npy": np.save,
    "x.npz": lambda path, frames: np.savez(
        path, video=frames / np.float32(255.0), fps=FPS
    ),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_kind_of_file_gives_its_frames(name, tmp_path):
    frames = make_frames(12)
    WRITERS[name](tmp_path / name, frames)
    (one,) = recordings.list_recordings(tmp_path).recordings
    assert one.size == (HEIGHT, WIDTH) and one.name == name
    rate = None if name in ("pictures", "x.npy") else pytest.approx(FPS)
    assert one.fps == rate
    read = recordings.read_frames(one, (HEIGHT, WIDTH), 3)
    assert read.shape == frames.shape and read.dtype == np.uint8
    exact = name in ("pictures", "x.npy", "x.npz")
    # Codecs blur colours at edges; a frame too early is off by far more.
    limit = 0 if exact else 20
    assert np.abs(read.astype(int) - frames).mean() <= limit
    shifted = np.abs(read[1:].astype(int) - frames[:-1]).mean()
    assert np.abs(read[1:].astype(int) - frames[1:]).mean() < 0.7 * shifted


def test_arrays_of_many_videos_are_many_recordings(tmp_path):
    videos = np.stack([make_frames(start=3 * index) for index in range(3)])
    np.save(tmp_path / "x.npy", videos[..., 0])
    found = recordings.list_recordings(tmp_path / "x.npy").recordings
    assert [one.name for one in found] == ["x.npy[0]", "x.npy[1]", "x.npy[2]"]
    for one, video in zip(found, videos):
        read = recordings.read_frames(one, (HEIGHT, WIDTH), 1)
        np.testing.assert_array_equal(read, video[..., :1])


@pytest.mark.parametrize(
    "fit, size, expected",
    [
        # 2x4, left half 0, right half 200, into 4x4 and 2x2.
        ("letterbox", (4, 4), "mm mm 0r 0r mm mm"),
        ("crop", (2, 2), "0r 0r"),
    ],
)
def test_other_shapes_are_letterboxed_or_cropped(fit, size, expected, tmp_path):
    frame = np.zeros((2, 4, 1), np.uint8)
    frame[:, 2:] = 200
    np.save(tmp_path / "x.npy", np.stack([frame] * 3))
    (one,) = recordings.list_recordings(tmp_path).recordings
    read = recordings.read_frames(one, size, 1, fit=fit)[0, ..., 0]
    assert read.shape == size
    middle = slice(1, 3) if fit == "letterbox" else slice(None)
    assert (read[middle][:, : size[1] // 2] == 0).all()
    assert (read[middle][:, size[1] // 2 :] == 200).all()
    if fit == "letterbox":  # The median of the border lies between both.
        assert len(set(read[[0, 3]].ravel())) == 1


def prepare(path, **settings):
    builder = VideoFolder(
        path,
        **SETTINGS
        | {"fps": FPS, "data_dir": os.environ["TFDS_DATA_DIR"]}
        | settings,
    )
    builder.download_and_prepare()
    return builder


def examples(builder):
    """Split -> its examples, by the order of their ids."""
    return {
        split: sorted(
            tfds.as_numpy(builder.as_dataset(split=split)),
            key=lambda example: example["id"],
        )
        for split in builder.info.splits
    }


def test_clips_are_the_frames_of_the_files(tmp_path, data_dir):
    write_some(tmp_path, 6, count=12)
    found = examples(prepare(tmp_path, overlap=4))
    seen = set()
    for split, clips in found.items():
        assert clips
        files = {clip["file"].decode() for clip in clips}
        assert not files & seen  # No file in two splits.
        seen |= files
        for clip in clips:
            source = np.load(tmp_path / clip["file"].decode())
            start = clip["start"]
            np.testing.assert_array_equal(
                clip["video"], source[start : start + 6]
            )
            assert clip["dt"] == pytest.approx(1 / FPS)
            np.testing.assert_allclose(clip["time"], np.arange(6) / FPS)
        starts = {clip["start"] for clip in clips}
        assert starts == ({0, 2, 4, 6} if split == "train" else {0, 6})
    assert len(seen) == 6
    counts = prepare(tmp_path, overlap=4).info.metadata
    assert (counts["frames"], counts["frames_in_clips"]) == (72, 72)


def test_stride_keeps_every_so_many_frames(tmp_path, data_dir):
    write_some(tmp_path, 3, count=20)
    builder = prepare(tmp_path, stride=3)
    (clip,) = examples(builder)["test"]
    source = np.load(tmp_path / clip["file"].decode())
    np.testing.assert_array_equal(clip["video"], source[:18:3])
    counts = builder.info.metadata
    assert counts["dt"] == pytest.approx(3 / FPS)
    # Of each file's seven frames the last is in no clip, but for train's.
    assert (counts["frames"], counts["frames_in_clips"]) == (21, 19)
    mode = tfds.download.GenerateMode.REUSE_CACHE_IF_EXISTS
    config = tfds.download.DownloadConfig(download_mode=mode)
    builder.download_and_prepare(download_config=config)
    assert len(examples(builder)["test"]) == 1
    config = tfds.download.DownloadConfig(max_examples_per_split=1)
    with pytest.raises(ValueError, match="all of them.*max_examples.*: 1"):
        builder.download_and_prepare(download_config=config)
    with pytest.raises(ValueError, match="of this machine.*gs://bucket"):
        prepare(tmp_path, data_dir="gs://bucket")


def test_splits_follow_the_seed_and_the_names_alone(tmp_path, data_dir):
    names = [
        recordings.Recording(f"{index}.mp4", (), None, (8, 8), 1, str(index))
        for index in range(400)
    ]
    from tfds_physics.folder.builder import _assign

    splits = _assign(tmp_path, names, 0)
    counts = [list(splits.values()).count(s) for s in ("validation", "test")]
    assert all(20 < count < 60 for count in counts)
    assert _assign(tmp_path, names[::-1], 0) == splits
    assert _assign(tmp_path, names, 1) != splits
    # A file more moves none of the others.
    assert _assign(tmp_path, names[:-1], 0).items() <= splits.items()


def test_subfolders_are_the_splits(tmp_path, data_dir):
    for index, split in enumerate(("train", "train", "test")):
        (tmp_path / split).mkdir(exist_ok=True)
        np.save(tmp_path / split / f"{index}.npy", make_frames(start=5 * index))
    found = examples(prepare(tmp_path))
    assert {
        split: {clip["file"].decode() for clip in clips}
        for split, clips in found.items()
    } == {"train": {"train/0.npy", "train/1.npy"}, "test": {"test/2.npy"}}


def test_one_recording_is_cut_in_time(tmp_path, data_dir):
    np.save(tmp_path / "x.npy", make_frames(60))
    found = examples(prepare(tmp_path / "x.npy"))
    ends = {
        split: (
            min(clip["start"] for clip in clips),
            max(clip["start"] for clip in clips) + 6,
        )
        for split, clips in found.items()
    }
    assert ends == {"train": (0, 48), "validation": (48, 54), "test": (54, 60)}
    # Few recordings: the clips of train overlap.
    assert len(found["train"]) == 48 - 6 + 1


def test_size_follows_the_files_and_grey_is_one_channel(tmp_path, data_dir):
    write_some(tmp_path, 3, size=(36, 64))
    builder = prepare(tmp_path, image_size=None, channels=1)
    assert builder.info.features["video"].shape == (6, 24, 44, 1)
    (clip,) = examples(builder)["test"]
    assert clip["video"].min() >= 55 and clip["video"].max() > 150


def test_a_dataset_is_made_once(tmp_path, data_dir, monkeypatch):
    write_some(tmp_path / "clips", 3)
    first = prepare(tmp_path / "clips", overlap=0)
    # Another place, the same files: nothing is read again.
    shutil.copytree(tmp_path / "clips", tmp_path / "moved" / "clips")
    monkeypatch.setattr(recordings, "read_frames", None)
    again = prepare(tmp_path / "moved" / "clips", overlap=0)
    assert again.data_dir == first.data_dir
    again = tfds.builder(
        f"video_folder/{first.builder_config.name}", data_dir=str(data_dir)
    )
    assert again.info.metadata["dt"] == 1 / FPS
    assert len(list(again.as_dataset(split="train"))) == 1
    np.save(tmp_path / "clips" / "0.npy", make_frames(start=1))
    for path, settings in (
        (tmp_path / "clips", {"overlap": 0}),
        (tmp_path / "moved" / "clips", {"overlap": 0, "stride": 2}),
    ):
        other = VideoFolder(
            path, fps=FPS, data_dir=data_dir, **SETTINGS, **settings
        )
        assert other.data_dir != first.data_dir


def spoil(path, keep=0.5):
    """Cuts a file."""
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data))])


def broken_picture(folder):
    write_pictures(folder / "walk", make_frames())
    spoil(folder / "walk" / "frame_5.png")


def sizes_in_a_sequence(folder):
    write_pictures(folder / "walk", make_frames())
    PIL.Image.new("RGB", (9, 9)).save(folder / "walk" / "frame_5.png")


def array(folder, value, name="x.npy"):
    (np.save if name == "x.npy" else np.savez)(folder / name, value)


def cut_video(folder, suffix):
    write_video(folder / f"x{suffix}", make_frames(60))
    spoil(folder / f"x{suffix}", 0.6)


def two_of_one_kind(folder, **differs):
    """Two videos that are alike, and one that is not."""
    for name in "ab":
        write_video(folder / f"{name}.mp4", make_frames())
    differs = {"frames": make_frames(), "fps": FPS} | differs
    write_video(folder / "c.mp4", **differs)


def sound_only(folder):
    av = pytest.importorskip("av")
    with av.open(str(folder / "x.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(
            np.zeros((1, 8000), np.float32), "fltp", "mono"
        )
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())


def copies(folder):
    write_some(folder / "train", 1)
    shutil.copytree(folder / "train", folder / "test")


# What is fed: how it is made, settings, the line that comes.
BAD = {
    "an empty folder": (lambda f: None, {}, "a video at least.*0 other files"),
    "a folder of texts": (
        lambda f: (f / "notes.txt").write_text("x"),
        {},
        "a video at least.*1 other files",
    ),
    "a text called mp4": (
        lambda f: (f / "x.mp4").write_text("no video"),
        {},
        "Received: x.mp4: InvalidDataError",
    ),
    "an empty mp4": (
        lambda f: (f / "x.mp4").touch(),
        {},
        "Received: x.mp4: InvalidDataError",
    ),
    "half of an mp4": (
        lambda f: cut_video(f, ".mp4"),
        {},
        "Received: x.mp4: InvalidDataError",
    ),
    "half of an avi": (
        lambda f: cut_video(f, ".avi"),
        {},
        "Received: x.avi: it says 60 frames, and .* can be read",
    ),
    "sound without pictures": (sound_only, {}, "x.mp4: no video in it"),
    "half of a gif": (
        lambda f: (write_gif(f / "x.gif", make_frames(60)), spoil(f / "x.gif")),
        {},
        "Received: x.gif: ",
    ),
    "a gif of uneven frames": (
        lambda f: write_gif(
            f / "x.gif", make_frames(), [100, 100, 500, *[100] * 6]
        ),
        {},
        "x.gif: its frames are 0.1 to 0.5 s apart",
    ),
    "a video with a gap": (
        lambda f: write_video(
            f / "x.mp4", make_frames(), gaps=[0, 1, 2, 3, 9, 10, 11, 12, 13]
        ),
        {},
        "x.mp4: its frames are 0.1 to 0.6 s apart",
    ),
    "a broken picture": (
        broken_picture,
        {"fps": 10},
        "Received: walk: OSError",
    ),
    "pictures of two sizes": (
        sizes_in_a_sequence,
        {"fps": 10},
        "walk: frame 5 has 9x9 pixels, the first 16x24",
    ),
    "pictures without a rate": (
        lambda f: write_pictures(f / "walk", make_frames()),
        {},
        "`fps` must be given.*Received: None for walk",
    ),
    "too few frames": (
        lambda f: write_video(f / "x.mp4", make_frames(4)),
        {},
        "x.mp4: 4 frames, a clip has 6",
    ),
    "too few after the stride": (
        lambda f: write_video(f / "x.mp4", make_frames(9)),
        {"stride": 2},
        "x.mp4: 5 frames, a clip has 6",
    ),
    "one recording of one clip": (
        lambda f: write_video(f / "x.mp4", make_frames(9)),
        {},
        "train and test must have a clip.*none for train",
    ),
    "a size of its own": (
        lambda f: two_of_one_kind(f, frames=make_frames(size=(20, 32))),
        {},
        "c.mp4: frames of 20x32, most have 16x24",
    ),
    "a rate of its own": (
        lambda f: two_of_one_kind(f, fps=25),
        {},
        "c.mp4: 25 frames per second, most have 10",
    ),
    "whole numbers": (
        lambda f: array(f, make_frames().astype(np.int64)),
        {"fps": 10},
        "x.npy: numbers must be uint8, or floats from 0 to 1, not int64",
    ),
    "floats up to 255": (
        lambda f: array(f, make_frames().astype(np.float32)),
        {"fps": 10},
        "x.npy: floats must lie from 0 to 1.*it has 40 to 230",
    ),
    "NaN": (
        lambda f: array(f, np.full((9, 8, 8), np.nan)),
        {"fps": 10},
        "x.npy: floats must lie from 0 to 1.*nan",
    ),
    "an array of one frame": (
        lambda f: array(f, make_frames()[0, ..., 0]),
        {"fps": 10},
        "x.npy: an array must be.*its shape is",
    ),
    "an array of objects": (
        lambda f: array(f, np.array([{}, {}])),
        {"fps": 10},
        "x.npy: ValueError: .*objects",
    ),
    "an npz of two videos": (
        lambda f: np.savez(f / "x.npz", a=make_frames(), b=make_frames()),
        {"fps": 10},
        "x.npz: it must have one array of videos.*'a', 'b'",
    ),
    "train without test": (
        lambda f: write_some(f / "train"),
        {"fps": 10},
        "must both have videos.*none in test",
    ),
    "a video beside train": (
        lambda f: (write_some(f / "train"), write_some(f)),
        {"fps": 10},
        "all of its videos must lie in those.*0.npy beside",
    ),
    "one file in train and test": (
        copies,
        {"fps": 10},
        "train/0.npy: the same as test/0.npy, which is in another split",
    ),
}
# A folder that is right, and settings that are not.
BAD_SETTINGS = {
    "image_size": (4, "`image_size` must be a whole number from 8 to 256"),
    "channels": (4, "`channels` must be 3 for colour or 1 for grey"),
    "fps": (0.0, "`fps` must be positive"),
    "stride": (0, "`stride` must be a whole number of at least 1"),
    "clip_frames": (2, "`clip_frames` must be a whole number of at least 3"),
    "overlap": (6, "`overlap` must be a whole number from 0 to below"),
    "fit": ("stretch", "`fit` must be one of"),
    "seed": (-1, "`seed` must be a whole number of at least 0"),
}


def test_frames_of_two_recordings_at_most_are_held(
    tmp_path, data_dir, monkeypatch
):
    for index in range(8):
        np.save(tmp_path / f"{index}.npy", make_frames(start=index))
    read, seen, held = recordings.read_frames, [], []

    def counted(*args):
        frames = read(*args)
        owner = frames if frames.base is None else frames.base
        seen.append(weakref.ref(owner))
        held.append(sum(one() is not None for one in seen))
        return frames

    monkeypatch.setattr(recordings, "read_frames", counted)
    builder = VideoFolder(tmp_path, fps=FPS, data_dir=data_dir, **SETTINGS)
    builder.download_and_prepare()
    # Each is looked at and read, and one tells how many bytes all will be.
    assert len(seen) == 2 * 8 + 1 and max(held) <= 2


def test_a_file_that_changes_while_it_is_read_is_told(
    tmp_path, data_dir, monkeypatch
):
    for index in range(3):
        np.save(tmp_path / f"{index}.npy", make_frames(start=index))
    builder = VideoFolder(tmp_path, fps=FPS, data_dir=data_dir, **SETTINGS)
    find = builder._find_clips

    def lose():
        clips = find()
        clips["test"][0].recording.paths[0].unlink()
        return clips

    monkeypatch.setattr(builder, "_find_clips", lose)
    with pytest.raises(ValueError, match=r"must stay as they are.*\d.npy"):
        builder.download_and_prepare()
    assert not builder.data_path.exists()


@pytest.mark.parametrize("what", BAD)
def test_a_bad_input_gets_one_line_that_names_it(what, tmp_path, data_dir):
    make, settings, line = BAD[what]
    make(tmp_path)
    with pytest.raises(ValueError, match=line) as caught:
        VideoFolder(
            tmp_path, data_dir=data_dir, **SETTINGS, **settings
        ).download_and_prepare()
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("name", BAD_SETTINGS)
def test_a_bad_setting_gets_one_line(name, tmp_path, data_dir):
    value, line = BAD_SETTINGS[name]
    write_some(tmp_path)
    with pytest.raises(ValueError, match=f"{line}.*Received: .*{value}"):
        VideoFolder(tmp_path, **SETTINGS | {"fps": 10} | {name: value})


def test_a_place_where_nothing_is(tmp_path):
    with pytest.raises(FileNotFoundError, match="no_such.*where nothing is"):
        VideoFolder(tmp_path / "no_such")


def test_bad_files_are_left_out_if_asked_for(tmp_path, data_dir):
    write_some(tmp_path, 4)
    np.save(tmp_path / "short.npy", make_frames(3))
    (tmp_path / "broken.gif").write_text("no picture")
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="broken.gif: Unidentified"):
        prepare(tmp_path)
    builder = prepare(tmp_path, skip_bad=True, overlap=0)
    assert set(builder.problems) == {"short.npy", "broken.gif"}
    assert builder.others == ["notes.txt"]
    assert sum(map(len, examples(builder).values())) == 4
    # Those who do not leave them out are told, although the clips are there.
    (tmp_path / "broken.gif").unlink()
    with pytest.raises(ValueError, match="short.npy: 3 frames"):
        prepare(tmp_path, overlap=0)


def test_a_rate_that_is_given_counts_for_all_files(tmp_path, data_dir):
    write_some(tmp_path, 2)  # which say no rate
    for index, rate in enumerate((10, 10, 25)):
        video = make_frames(start=index)
        np.savez(tmp_path / f"said{index}.npz", video=video, fps=rate)
    with pytest.raises(ValueError, match="per second, most have"):
        VideoFolder(tmp_path, data_dir=data_dir, **SETTINGS)
    builder = VideoFolder(tmp_path, data_dir=data_dir, fps=20.0, **SETTINGS)
    assert not builder.problems
    assert len(builder._recordings) == 5


def cut(path):
    path.write_bytes(path.read_bytes()[:-40])


def alter(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(bytes(data))


@pytest.mark.parametrize(
    "what, damage, message",
    [
        ({"fps": FPS}, cut, "not a zip file"),
        ({"fps": FPS}, alter, "Bad CRC-32"),
        ({"dt": 0.0}, None, "its dt must be one number above 0; it is 0.0"),
        ({"fps": -5.0}, None, "its fps must be one number above 0; it is -5.0"),
        ({"fps": [1, 2]}, None, "it is [1, 2]"),
    ],
)
def test_an_odd_array_is_a_bad_file(what, damage, message, tmp_path, data_dir):
    for index in range(4):
        video = make_frames(start=3 * index)
        np.savez(tmp_path / f"{index}.npz", video=video, fps=FPS)
    np.savez(tmp_path / "odd.npz", video=make_frames(), **what)
    if damage:
        damage(tmp_path / "odd.npz")
    settings = {"data_dir": data_dir, "skip_bad": True, **SETTINGS}
    assert message in VideoFolder(tmp_path, **settings).problems["odd.npz"]
    # A rate that is given counts in the place of theirs.
    given = VideoFolder(tmp_path, fps=FPS, **settings)
    assert ("odd.npz" in given.problems) == (damage is not None)


def test_without_pyav_videos_say_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "x.mp4").write_text("x")
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(ImportError, match=r"hgn-tf\[video\]"):
        VideoFolder(tmp_path)


def test_the_filmed_pendulum_swings_in_its_own_look(tmp_path):
    pytest.importorskip("av")
    folder = tfds_physics.film_pendulum(
        tmp_path / "clips", 2, num_frames=8, size=(48, 64), seed=1
    )
    assert isinstance(folder, pathlib.Path)
    found = recordings.list_recordings(folder).recordings
    assert [one.name for one in found] == ["0000.mp4", "0001.mp4"]
    assert {(one.size, one.fps) for one in found} == {((48, 64), 10.0)}
    videos = [recordings.read_frames(one, (48, 64), 3) for one in found]
    assert videos[0].shape == (8, 48, 64, 3)
    # The bob is the reddest thing; it moves, and the two differ.
    red = [video[..., 0].astype(int) - video[..., 1] for video in videos]
    places = [x.reshape(8, -1).argmax(axis=1) for x in red]
    assert len(set(places[0])) > 4
    assert (places[0] != places[1]).any()
    with pytest.raises(ValueError, match="two even numbers"):
        tfds_physics.film_pendulum(tmp_path / "odd", 1, size=(33, 32))
