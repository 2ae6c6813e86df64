"""Figures 5 and 10 of the paper, which need no model."""

import numpy as np
import pytest

from hgn_tf.cli import main
from hgn_tf.experiments.hgn import figures


def test_figure_10_leapfrog_keeps_the_area_and_euler_does_not():
    *panels, areas = figures.volumes().axes
    assert [panel.get_title() for panel in panels] == ["leapfrog", "euler"]
    leapfrog, euler = (line.get_ydata() for line in areas.lines)
    # What is left is that of a rim of 400 points.
    np.testing.assert_allclose(leapfrog, 1, atol=2e-3)
    assert euler.max() > 1.5


@pytest.mark.parametrize("number", figures.FIGURES)
def test_command_draws_the_figures_that_need_no_model(number, tmp_path):
    path = tmp_path / "figure.png"
    assert main(["figure", str(number), "--out", str(path)]) == 0
    assert path.read_bytes().startswith(b"\x89PNG")
