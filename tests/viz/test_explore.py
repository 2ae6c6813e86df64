"""The page to play with a model: what is in it, and that it works."""

import base64
import io
import json
import re

import keras
import numpy as np
import PIL.Image
import pytest

import hgn_tf
from hgn_tf import networks
from hgn_tf.__main__ import main
from hgn_tf.viz import explore

GRID, STEPS = 3, 6


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    model = hgn_tf.HGN(**networks.flat_networks(8, latent_size=2))
    model.build((None, 30, 8, 8, 3))
    return model


@pytest.fixture(scope="module")
def page(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("explore") / "page.html"
    explore.write_page(model, path, "a <model>", GRID, STEPS)
    return path.read_text("utf-8")


@pytest.fixture(scope="module")
def numbers(page):
    return json.loads(re.search(r"const page = (.*);\n", page)[1])


def test_page_needs_nothing_but_itself(page):
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert len(sources) == GRID**2 + 1
    assert all(source.startswith("data:image/png") for source in sources)
    assert "http" not in page and "a &lt;model&gt;" in page


def test_states_are_drawn_from_the_learned_prior_if_there_is_one(
    tmp_path, monkeypatch
):
    model = hgn_tf.HGN(**networks.flat_networks(8, latent_size=2))
    drawn = []

    def sample(*args, **kwargs):
        drawn.append(kwargs["prior"])
        return hgn_tf.HGN.sample(model, *args, **kwargs)

    monkeypatch.setattr(model, "sample", sample)
    videos = np.random.default_rng(0).random((6, 30, 8, 8, 3), np.float32)
    model.build((None, 30, 8, 8, 3))
    explore.write_page(model, tmp_path / "page.html", "page", 1, 1)
    model.fit_prior(videos)
    explore.write_page(model, tmp_path / "page.html", "page", 1, 1)
    assert drawn == ["normal", "learned"]


def test_page_says_that_it_shows_a_part_of_phase_space(page):
    assert "one of the 2 directions of q" in page


def test_rollouts_pass_through_their_first_states(numbers):
    paths = np.array(numbers["paths"])
    assert paths.shape == (GRID**2, 2 * STEPS + 1, 2)
    at_first = paths[:, numbers["first"]]
    np.testing.assert_allclose(at_first, numbers["starts"], atol=1e-3)
    assert numbers["frames"] == 2 * STEPS + 1


def test_energies_are_those_of_leapfrog(numbers):
    energies = np.array(numbers["energies"])
    change = np.ptp(energies, axis=1).max()
    assert 0 < change < 0.05 * np.ptp(energies[:, STEPS])


def test_wrong_numbers_are_refused(model, tmp_path):
    with pytest.raises(ValueError, match="`grid` and `num_steps`"):
        explore.write_page(model, tmp_path / "x.html", "x", grid=0)


def test_command_names_what_it_cannot_find(tmp_path, capsys):
    out = str(tmp_path / "x.html")
    assert main(["explore", "no_such_preset", "--out", out]) == 2
    assert "no_such_preset" in capsys.readouterr().err


class Oblong(keras.layers.Layer):
    """Draws every q as frames of 12x8 pixels, in one channel."""

    def call(self, q):
        frame = keras.ops.linspace(0.0, 1.0, 12 * 8)
        frame = keras.ops.reshape(frame, (12, 8, 1))
        return keras.ops.zeros((keras.ops.shape(q)[0], 1, 1, 1)) + frame


def test_oblong_frames_are_cut_out_as_they_are(tmp_path):
    keras.utils.set_random_seed(0)
    parts = networks.flat_networks(8, 1, latent_size=1, encoder_filters=(4,))
    model = hgn_tf.HGN(**{**parts, "decoder": Oblong()}, num_inference_frames=2)
    model.build((None, 4, 12, 8, 1))
    path = explore.write_page(model, tmp_path / "x.html", "x", 1, 2)
    text = path.read_text("utf-8")
    page = json.loads(re.search(r"const page = (.*);\n", text)[1])
    assert (page["height"], page["width"]) == (12, 8)
    assert '<canvas id="film" width="8" height="12"' in text
    assert "aspect-ratio: 8 / 12" in text
    (sheet,) = re.findall(r'class="sheet" alt="" src="data:[^,]*,([^"]+)', text)
    with PIL.Image.open(io.BytesIO(base64.b64decode(sheet))) as image:
        assert image.size == (8 * page["columns"], 12 * 2)  # of 5 frames


@pytest.mark.browser
@pytest.mark.parametrize("width", [390, 1280])
def test_page_fits_the_window(page, browse, width):
    assert browse.overflow(page, width) == 0


@pytest.mark.browser
def test_pictures_load_and_a_frame_is_drawn(page, browse):
    assert browse.broken_pictures(page) == 0
    drawn = "film.getContext('2d').getImageData(4, 4, 1, 1).data[3]"
    assert browse.evaluate(page, drawn) == 255


@pytest.mark.browser
def test_controls_move_the_time(page, browse):
    back = (
        "(document.querySelector('[data-speed=\"-1\"]').click(),"
        " setPlaying(false), time.value = 2,"
        " time.dispatchEvent(new Event('input')), at + 10 * speed)"
    )
    assert browse.evaluate(page, back) == 2 - 10


@pytest.mark.browser
def test_arrow_keys_choose_the_state(page, browse):
    press = (
        "(choose(4), plane.dispatchEvent(new KeyboardEvent('keydown',"
        " {key: 'ArrowUp'})), chosen)"
    )
    assert browse.evaluate(page, press) == 7
