"""Density panels: the kernel density's values, and what is drawn where."""

import numpy as np
import pytest
from scipy import stats

from hgn_tf.density_plots import density_panels, kernel_density


def test_kernel_density_is_the_mean_of_gaussians():
    rng = np.random.default_rng(0)
    points, at = rng.normal(size=(30, 2)), rng.normal(size=(5, 2))
    expected = [
        np.mean(stats.multivariate_normal([0, 0], 0.3**2).pdf(x - points))
        for x in at
    ]
    np.testing.assert_allclose(kernel_density(points, at, 0.3), expected)


def test_panels_share_the_scale_of_densities_and_mark_minima(tmp_path):
    rng = np.random.default_rng(1)
    line = np.linspace(-1, 1, 20)
    valley = line**2 + line[:, None] ** 2
    figure = density_panels(
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
    figure = density_panels({"a": np.zeros((3, 2))}, {}, {}, 2.0)
    assert len(figure.axes) == 1
