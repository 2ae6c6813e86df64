"""Frames keep their values on the way into a GIF."""

import io

import numpy as np
import PIL.Image
import pytest

import hgn_tf
from hgn_tf.viz import gif

COLORS = np.array([[255, 0, 0], [0, 0, 255], [82, 89, 94]], np.uint8)


def make_video():
    """[3, 2, 4, 3]: one plain colour a frame."""
    return np.broadcast_to(COLORS[:, None, None], (3, 2, 4, 3)).copy()


def test_floats_and_bytes_are_the_same_frames():
    video = make_video()
    np.testing.assert_array_equal(gif.to_uint8(video / 255.0), video)
    clipped = gif.to_uint8(np.array([-0.5, 1.5, np.nan]))
    np.testing.assert_array_equal(clipped, [0, 255, 0])


def test_gif_has_the_frames_enlarged_and_loops(tmp_path):
    path = gif.write_gif(tmp_path / "x.gif", make_video(), fps=8, scale=4)
    with PIL.Image.open(path) as image:
        assert (image.size, image.n_frames) == ((16, 8), 3)
        assert image.info["loop"] == 0
        for index, color in enumerate(COLORS):
            image.seek(index)
            frame = np.asarray(image.convert("RGB"))
            np.testing.assert_array_equal(frame, np.tile(color, (8, 16, 1)))
    assert [file.name for file in tmp_path.iterdir()] == ["x.gif"]


@pytest.mark.parametrize("channels", [1, 3])
def test_oblong_and_grey_frames_are_drawn(tmp_path, channels):
    video = np.zeros((5, 2, 6, channels), np.uint8)
    video[:, 0, 0] = 50 * np.arange(5)[:, None]  # else frames are merged
    video[3, 1, 4] = 200
    gif.write_gif(tmp_path / "x.gif", video, scale=1)
    with PIL.Image.open(tmp_path / "x.gif") as image:
        image.seek(3)
        frame = np.asarray(image.convert("RGB"))
    assert frame.shape == (2, 6, 3) and (frame[1, 4] == 200).all()
    png, columns = gif.frame_sheet(video)
    with PIL.Image.open(io.BytesIO(png)) as image:
        sheet = np.asarray(image.convert("RGB"))
    row, column = divmod(3, columns)
    assert (sheet[2 * row + 1, 6 * column + 4] == 200).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, 255.0, -7.0])
def test_floats_that_are_no_frames_are_refused(tmp_path, value):
    video = make_video() / 255.0
    video[1, 1, 1, 1] = value
    with pytest.raises(ValueError, match=r"floats in \[0, 1\], or uint8"):
        gif.write_gif(tmp_path / "x.gif", video)
    assert not list(tmp_path.iterdir())


def test_a_gif_is_named_so(tmp_path):
    with pytest.raises(ValueError, match=r"one of \['.gif'\].*x.mp4"):
        gif.write_gif(tmp_path / "x.mp4", make_video())


def test_side_by_side_adds_gutters_only_between():
    video = make_video()
    wide = gif.side_by_side([video, video, video], gutter=1)
    assert wide.shape == (3, 2, 14, 3)
    np.testing.assert_array_equal(wide[:, :, 4], gif.GUTTER)
    np.testing.assert_array_equal(wide[:, :, 10:], video)
    tall = gif.side_by_side([video, video], gutter=2, vertical=True)
    assert tall.shape == (3, 6, 4, 3)


def test_grey_frames_are_shown_in_grey(tmp_path):
    grey = make_video()[..., :1]
    three = np.repeat(grey, 3, axis=-1)
    np.testing.assert_array_equal(gif.to_rgb(grey), three)
    joined = gif.side_by_side([grey, grey])
    np.testing.assert_array_equal(joined, gif.side_by_side([three, three]))
    assert gif.frame_sheet(grey) == gif.frame_sheet(three)
    path = gif.write_gif(tmp_path / "x.gif", grey)
    with PIL.Image.open(path) as image:
        shown = np.asarray(image.convert("RGB"))[::4, ::4]
    np.testing.assert_array_equal(shown, three[0])


@pytest.mark.parametrize("size, scale", [((2, 4), 4), ((8, 500), 2)])
def test_large_frames_are_enlarged_less(tmp_path, size, scale):
    path = gif.write_gif(tmp_path / "x.gif", np.zeros((1, *size, 1), np.uint8))
    with PIL.Image.open(path) as image:
        assert image.size == (scale * size[1], scale * size[0])


def test_wrong_frames_get_a_clear_error(tmp_path):
    with pytest.raises(TypeError, match="uint8 or floats"):
        gif.to_uint8(np.zeros(3, np.int64))
    with pytest.raises(ValueError, match="one shape"):
        gif.side_by_side([make_video(), make_video()[1:]])
    with pytest.raises(ValueError, match="must have shape"):
        gif.write_gif(tmp_path / "x.gif", make_video()[0])


def test_grey_videos_are_joined():
    grey = make_video()[..., :1]
    rgb = np.repeat(grey, 3, axis=-1)
    joined = gif.side_by_side([grey, grey / 255.0])
    np.testing.assert_array_equal(joined, gif.side_by_side([rgb, rgb]))


@pytest.mark.parametrize("value", [np.nan, np.inf, 255.0, -3.0])
def test_what_is_no_picture_is_not_joined(value):
    video = make_video() / 255.0
    # What a model drew may lie a little outside.
    video[0, 0, 0, 0] = 1.2
    gif.side_by_side([video, video])
    video[1, 1, 1, 1] = value
    for draw in (gif.frame_sheet, lambda x: gif.side_by_side([x, x])):
        with pytest.raises(ValueError, match=r"floats in \[0, 1\]"):
            draw(video)


def test_modules_that_draw_are_found_in_the_package():
    for name in hgn_tf.viz.__all__:
        assert getattr(hgn_tf.viz, name).__name__ == f"hgn_tf.viz.{name}"
    assert {*hgn_tf.viz.__all__} <= {*dir(hgn_tf.viz)}
    with pytest.raises(AttributeError, match="no attribute 'animation'"):
        hgn_tf.viz.__getattr__("animation")
