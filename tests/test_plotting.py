"""Figures show what they are given; GIFs are written whole."""

import io

import numpy as np
import PIL.Image
import pytest

from hgn_tf import plotting

RNG = np.random.default_rng(0)
VIDEO = RNG.random((3, 6, 8, 8, 3))
CURVE = np.linspace(1e-3, 2e-3, 6)
LOG = {
    "epoch": np.arange(3),
    "step": np.arange(3) * 100,
    "reconstruction": np.array([3.0, 2.0, 1.0]),
    "val_reconstruction": np.array([3.1, np.nan, 1.2]),
    "kl": np.array([0.0, 4.0, 5.0]),
}
FIGURES = {
    "film_strip": lambda: plotting.film_strip(
        {"truth": VIDEO[0], "model": VIDEO[1]}, every=2, dt=0.125
    ),
    "training_curves": lambda: plotting.training_curves(LOG),
    "mse_curves": lambda: plotting.mse_curves(
        {"model": CURVE, "noise floor": 0 * CURVE},
        dt=0.125,
        stderr={"model": CURVE / 10},
        num_inference_frames=2,
    ),
    "energy_curves": lambda: plotting.energy_curves(
        {"model": np.ones((3, 6))}, dt=0.125
    ),
    "energy_scatter": lambda: plotting.energy_scatter(CURVE, CURVE, r2=1.0),
    "phase_portrait": lambda: plotting.phase_portrait(
        RNG.random((3, 6, 2)), RNG.random((3, 6, 2))
    ),
}


@pytest.mark.parametrize("name", FIGURES)
def test_figure_draws_and_labels_its_axes(name):
    figure = FIGURES[name]()
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    assert len(picture.getvalue()) > 1000
    assert figure.axes[-1].get_xlabel()
    assert name == "film_strip" or figure.axes[-1].get_ylabel()


def test_film_strip_shows_every_second_frame_unchanged():
    figure = FIGURES["film_strip"]()
    shown = figure.axes[0].images[0].get_array()
    assert shown.shape == (8, 3 * 8 + 2, 3)
    second = plotting.to_uint8(VIDEO[0, 2])
    np.testing.assert_array_equal(shown[:, 9:17], second)


def test_training_curves_refuse_an_unknown_log():
    with pytest.raises(ValueError, match="`log` must have"):
        plotting.training_curves({"accuracy": CURVE})


def test_phase_portrait_finds_the_line_that_the_states_lie_on():
    angle = np.linspace(0, 6, 20)
    along = np.array([0.6, 0.8])
    q = np.cos(angle)[None, :, None] * along
    p = np.sin(angle)[None, :, None] * along
    line = plotting.phase_portrait(q, p).axes[0].lines[0]
    x, y = line.get_xdata(), line.get_ydata()
    expected = np.abs(np.cos(angle) - np.cos(angle).mean())
    np.testing.assert_allclose(np.abs(x), expected, atol=1e-12)
    expected = np.abs(np.sin(angle) - np.sin(angle).mean())
    np.testing.assert_allclose(np.abs(y), expected, atol=1e-12)


def test_phase_portrait_is_drawn_on_the_components_of_another():
    q, p, q_like, p_like = RNG.random((4, 2, 6, 3))
    q_like[..., 1:] *= 1e-9
    p_like[..., :2] *= 1e-9
    figure = plotting.phase_portrait(q, p, like=(q_like, p_like))
    line = figure.axes[0].lines[0]
    for drawn, component in (
        (line.get_xdata(), q[0, :, 0] - q_like[..., 0].mean()),
        (line.get_ydata(), p[0, :, 2] - p_like[..., 2].mean()),
    ):
        np.testing.assert_allclose(np.abs(drawn), np.abs(component), atol=1e-6)


def test_phase_portrait_of_one_dimension_is_q_and_p_themselves():
    q, p = RNG.random((2, 1, 6, 1))
    line = plotting.phase_portrait(q, p).axes[0].lines[0]
    np.testing.assert_array_equal(line.get_xdata(), q[0, :, 0])
    np.testing.assert_array_equal(line.get_ydata(), p[0, :, 0])


def test_preview_moves_one_frame_a_time(tmp_path):
    path = tmp_path / "preview.gif"
    energy, time = np.ones((3, 6)), np.arange(6) * 0.125
    assert plotting.preview(VIDEO, energy, time, path) == path
    with PIL.Image.open(path) as image:
        assert image.n_frames == 6
