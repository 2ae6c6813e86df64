"""Frames keep their values on the way into a GIF."""

import numpy as np
import PIL.Image
import pytest

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


def test_side_by_side_adds_gutters_only_between():
    video = make_video()
    wide = gif.side_by_side([video, video, video], gutter=1)
    assert wide.shape == (3, 2, 14, 3)
    np.testing.assert_array_equal(wide[:, :, 4], gif.GUTTER)
    np.testing.assert_array_equal(wide[:, :, 10:], video)
    tall = gif.side_by_side([video, video], gutter=2, vertical=True)
    assert tall.shape == (3, 6, 4, 3)


def test_wrong_frames_get_a_clear_error(tmp_path):
    with pytest.raises(TypeError, match="uint8 or floats"):
        gif.to_uint8(np.zeros(3, np.int64))
    with pytest.raises(ValueError, match="one shape"):
        gif.side_by_side([make_video(), make_video()[1:]])
    with pytest.raises(ValueError, match="must have shape"):
        gif.write_gif(tmp_path / "x.gif", make_video()[0])
