"""Figures of motions: what they show is what they were given."""

import numpy as np
import pytest

from hgn_tf import motion_plots
from hgn_tf.__main__ import main
from hgn_tf.experiments import paper_figures


def test_area_of_a_square_and_a_triangle():
    square = np.array([[0, 0], [2, 0], [2, 2], [0, 2]])
    triangle = np.array([[0, 0], [2, 0], [2, 2], [1, 1]])
    areas = motion_plots.polygon_area(np.stack([square, triangle]))
    np.testing.assert_array_equal(areas, [4, 2])


def test_figure_10_leapfrog_keeps_the_area_and_euler_does_not():
    *panels, areas = paper_figures.volumes().axes
    assert [panel.get_title() for panel in panels] == ["leapfrog", "euler"]
    leapfrog, euler = (line.get_ydata() for line in areas.lines)
    # What is left is that of a rim of 400 points.
    np.testing.assert_allclose(leapfrog, 1, atol=2e-3)
    assert euler.max() > 1.5


def test_figure_6_has_a_line_a_model_in_each_panel():
    curves = {"hgn": np.arange(1.0, 5), "hnn": np.arange(2.0, 6)}
    both = {"train": curves, "test": curves}
    figure = motion_plots.rollout_errors(both, both, dt=0.5)
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
    figure = motion_plots.rollout_speeds(truth, model, every=2)
    labels = [axis.get_yticklabels()[0].get_text() for axis in figure.axes]
    assert labels == [
        *("forward, true", "forward, model"),
        *("backward, true", "backward, model"),
    ]
    shades = [axis.images[0].get_array().max() for axis in figure.axes]
    assert shades[1] == 255 and shades[0] < 255


def test_figure_8_has_a_row_a_sample():
    videos = np.zeros((3, 4, 8, 8, 3), np.uint8)
    assert len(motion_plots.samples(videos).axes) == 3


@pytest.mark.parametrize("number", paper_figures.FIGURES)
def test_command_draws_the_figures_that_need_no_model(number, tmp_path):
    path = tmp_path / "figure.png"
    assert main(["figure", str(number), "--out", str(path)]) == 0
    assert path.read_bytes().startswith(b"\x89PNG")
