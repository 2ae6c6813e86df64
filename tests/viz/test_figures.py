"""Figures show what they are given; GIFs are written whole."""

import io

import numpy as np
import PIL.Image
import pytest
from scipy import stats

from hgn_tf.viz import figures
from hgn_tf.viz.gif import to_rgb, to_uint8

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
LATTICE = np.meshgrid(np.linspace(-3, 3, 5), np.linspace(-1, 1, 4))
FIGURES = {
    "film_strip": lambda: figures.film_strip(
        {"truth": VIDEO[0], "model": VIDEO[1]}, every=2, dt=0.125
    ),
    "training_curves": lambda: figures.training_curves(LOG),
    "mse_curves": lambda: figures.mse_curves(
        {"model": CURVE, "noise floor": 0 * CURVE},
        dt=0.125,
        stderr={"model": CURVE / 10},
        num_inference_frames=2,
    ),
    "energy_curves": lambda: figures.energy_curves(
        {"model": np.ones((3, 6))}, dt=0.125
    ),
    "energy_scatter": lambda: figures.energy_scatter(CURVE, CURVE, r2=1.0),
    "phase_portrait": lambda: figures.phase_portrait(
        RNG.random((3, 6, 2)), RNG.random((3, 6, 2))
    ),
    "vector_fields": lambda: figures.vector_fields(
        *LATTICE, {"true": (LATTICE[1], -LATTICE[0])}
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
    second = to_uint8(VIDEO[0, 2])
    np.testing.assert_array_equal(shown[:, 9:17], second)


def test_grey_and_oblong_videos_are_drawn_in_grey(tmp_path):
    grey = RNG.random((2, 6, 8, 12, 1))
    figure = figures.film_strip({"truth": grey[0]}, every=2)
    shown = figure.axes[0].images[0].get_array()
    assert shown.shape == (8, 3 * 12 + 2, 3)
    np.testing.assert_array_equal(shown[:, :12], to_rgb(grey[0, :1])[0])
    drawn = {"forward": grey}
    for name, draw in {
        "showcase": lambda path: figures.showcase(drawn, drawn, path),
        "preview": lambda path: figures.preview(
            grey, np.ones((2, 6)), CURVE, path
        ),
    }.items():
        path = draw(tmp_path / f"{name}.gif")
        with PIL.Image.open(path) as image:
            assert image.n_frames == 6
            channels = np.asarray(image.convert("RGB"), int)
        # Grey alone, but for the colours of lines.
        if name == "showcase":
            assert np.ptp(channels, axis=-1).max() < 20


def test_training_curves_refuse_an_unknown_log():
    with pytest.raises(ValueError, match="`log` must have"):
        figures.training_curves({"accuracy": CURVE})


def test_curves_of_the_law_are_drawn_from_validation_alone():
    """Panels of what only validation measures, energies on a linear axis."""
    log = {
        "epoch": np.arange(5),
        "loss": np.linspace(2, 1, 5),
        "val_energy_r2": np.linspace(0.1, 0.9, 5),
        "val_far_mse_e4": np.geomspace(100, 10, 5),
    }
    axes = figures.training_curves(log, figures.LAW_PANELS).axes
    labels = [axis.get_ylabel() for axis in axes]
    assert labels == ["energy R^2", "frames 31-60"]
    assert [axis.get_yscale() for axis in axes] == ["linear", "log"]
    (axis,) = figures.training_curves(log).axes
    assert axis.get_ylabel() == "loss"


def test_phase_portrait_finds_the_line_that_the_states_lie_on():
    angle = np.linspace(0, 6, 20)
    along = np.array([0.6, 0.8])
    q = np.cos(angle)[None, :, None] * along
    p = np.sin(angle)[None, :, None] * along
    line = figures.phase_portrait(q, p).axes[0].lines[0]
    x, y = line.get_xdata(), line.get_ydata()
    expected = np.abs(np.cos(angle) - np.cos(angle).mean())
    np.testing.assert_allclose(np.abs(x), expected, atol=1e-12)
    expected = np.abs(np.sin(angle) - np.sin(angle).mean())
    np.testing.assert_allclose(np.abs(y), expected, atol=1e-12)


def test_phase_portrait_is_drawn_on_the_components_of_another():
    q, p, q_like, p_like = RNG.random((4, 2, 6, 3))
    q_like[..., 1:] *= 1e-9
    p_like[..., :2] *= 1e-9
    figure = figures.phase_portrait(q, p, like=(q_like, p_like))
    line = figure.axes[0].lines[0]
    for drawn, component in (
        (line.get_xdata(), q[0, :, 0] - q_like[..., 0].mean()),
        (line.get_ydata(), p[0, :, 2] - p_like[..., 2].mean()),
    ):
        np.testing.assert_allclose(np.abs(drawn), np.abs(component), atol=1e-6)


def test_vector_fields_are_on_one_scale():
    """Half as fast is half as long, and the fastest arrow is one cell."""
    q, p = LATTICE
    pair = {"true": (p, -q), "half": (p / 2, -q / 2)}
    true, half = (
        axis.collections[0] for axis in figures.vector_fields(q, p, pair).axes
    )
    assert true.scale == half.scale and true.scale_units == "width"
    np.testing.assert_allclose(half.U, true.U / 2)
    np.testing.assert_allclose(half.V, true.V / 2)
    # Cells are 1.5 wide and 2 / 3 high.
    np.testing.assert_allclose(true.U, (p / 1.5).ravel())
    fastest = np.hypot(true.U, true.V).max()
    assert fastest / true.scale == pytest.approx(1 / 5)


def test_paths_are_drawn_over_the_field_of_their_label():
    q, p = LATTICE
    path = np.zeros((1, 4)), np.arange(4.0)[None]
    fields = {"true": (p, -q), "model": (p, -q)}
    drawn = figures.vector_fields(q, p, fields, {"model": path}).axes
    assert not drawn[0].lines
    np.testing.assert_array_equal(drawn[1].lines[0].get_ydata(), path[1][0])


def test_orbits_are_of_one_scale_and_as_long_as_the_paths(tmp_path):
    turn = np.linspace(0, 6, 5)[:, None] + [0.0, np.pi]
    bodies = np.stack([np.cos(turn), np.sin(turn)], axis=-1)
    paths = {"true": bodies, "far": 100 * bodies}
    gif = figures.orbits(paths, tmp_path / "x.gif")
    with PIL.Image.open(gif) as image:
        assert image.n_frames == 5
        image.seek(3)
        frame = np.asarray(image.convert("RGB"), np.int64)
    middle = frame.shape[1] // 2
    colours = [
        np.ptp(half, axis=-1).max()
        for half in (frame[40:-20, :middle], frame[40:-20, middle:])
    ]
    # What flies off leaves its panel, and the true bodies are in theirs.
    assert colours[0] > 100 > colours[1]


def test_phase_portrait_of_one_dimension_is_q_and_p_themselves():
    q, p = RNG.random((2, 1, 6, 1))
    line = figures.phase_portrait(q, p).axes[0].lines[0]
    np.testing.assert_array_equal(line.get_xdata(), q[0, :, 0])
    np.testing.assert_array_equal(line.get_ydata(), p[0, :, 0])


def test_preview_moves_one_frame_a_time(tmp_path):
    path = tmp_path / "preview.gif"
    energy, time = np.ones((3, 6)), np.arange(6) * 0.125
    assert figures.preview(VIDEO, energy, time, path) == path
    with PIL.Image.open(path) as image:
        assert image.n_frames == 6


def test_area_of_a_square_and_a_triangle():
    square = np.array([[0, 0], [2, 0], [2, 2], [0, 2]])
    triangle = np.array([[0, 0], [2, 0], [2, 2], [1, 1]])
    areas = figures.polygon_area(np.stack([square, triangle]))
    np.testing.assert_array_equal(areas, [4, 2])


def test_figure_6_has_a_line_a_model_in_each_panel():
    curves = {"hgn": np.arange(1.0, 5), "hnn": np.arange(2.0, 6)}
    both = {"train": curves, "test": curves}
    figure = figures.rollout_errors(both, both, dt=0.5)
    assert len(figure.axes) == 4
    for axis in figure.axes:
        np.testing.assert_array_equal(axis.lines[1].get_ydata(), curves["hnn"])
        np.testing.assert_array_equal(
            axis.lines[0].get_xdata(), [0, 0.5, 1, 1.5]
        )


def test_figure_7_puts_truth_above_the_model():
    ways = ("forward", "backward")
    truth = {way: np.zeros((4, 8, 8, 3), np.uint8) for way in ways}
    model = {way: np.full((4, 8, 8, 3), 255, np.uint8) for way in ways}
    figure = figures.rollout_speeds(truth, model, every=2)
    labels = [axis.get_yticklabels()[0].get_text() for axis in figure.axes]
    assert labels == [
        *("forward, true", "forward, model"),
        *("backward, true", "backward, model"),
    ]
    shades = [axis.images[0].get_array().max() for axis in figure.axes]
    assert shades[1] == 255 and shades[0] < 255


def test_figure_8_has_a_row_a_sample():
    videos = np.zeros((3, 4, 8, 8, 3), np.uint8)
    assert len(figures.samples(videos).axes) == 3


def test_kernel_density_is_the_mean_of_gaussians():
    rng = np.random.default_rng(0)
    points, at = rng.normal(size=(30, 2)), rng.normal(size=(5, 2))
    expected = [
        np.mean(stats.multivariate_normal([0, 0], 0.3**2).pdf(x - points))
        for x in at
    ]
    np.testing.assert_allclose(
        figures.kernel_density(points, at, 0.3), expected
    )


def test_panels_share_the_scale_of_densities_and_mark_minima(tmp_path):
    rng = np.random.default_rng(1)
    line = np.linspace(-1, 1, 20)
    valley = line**2 + line[:, None] ** 2
    figure = figures.density_panels(
        {"wide": rng.normal(size=(50, 2)), "narrow": np.zeros((50, 2))},
        {"K": valley, "V": valley},
        {"flow": rng.normal(size=(9, 3, 2))},
        half_width=3.0,
        marks=np.array([[0.5, -0.5]]),
    )
    shown = [axis for axis in figure.axes if axis.get_visible()]
    titles = [axis.get_title() for axis in shown]
    assert titles == ["wide", "narrow", "K", "V", "flow"]
    scales = [axis.images[0].get_clim() for axis in shown[:2]]
    peak = 1 / (2 * np.pi * 0.3**2)
    assert scales[0] == scales[1]
    assert scales[0][1] == pytest.approx(peak, rel=0.05)
    np.testing.assert_array_equal(shown[3].lines[0].get_xydata(), [[0.5, -0.5]])
    figure.savefig(tmp_path / "panels.png")


def test_densities_alone_make_one_row():
    figure = figures.density_panels({"a": np.zeros((3, 2))}, {}, {}, 2.0)
    assert len(figure.axes) == 1
