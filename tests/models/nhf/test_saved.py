"""Models saved by version 0.1.0, whose modules and arguments were others."""

import json
import pathlib

import keras
import numpy as np
import pytest

from hgn_tf.densities import get_density
from hgn_tf.experiments.nhf.config import TABLES, VARIANTS, make_model
from hgn_tf.models.nhf import FLOWS, NHF, nhf_networks
from hgn_tf.models.nhf.forms import arguments_from

DATA = pathlib.Path(__file__).parents[2] / "data" / "nhf"
VALUES = json.loads((DATA / "values.json").read_text("utf-8"))
ROWS = {name: row for rows in TABLES.values() for name, row in rows.items()}
POINTS = np.array(VALUES["points"], "f4")
# Rounding: other kernels of another processor sum in another order.
CLOSE = {"rtol": 1e-4, "atol": 1e-4}


def test_settings_that_bumps_did_not_read_are_left_out():
    settings = {"energy": "bumps", "activation": "tanh", "first_scale": 3.0}
    model = NHF(**arguments_from({**settings, "units": (8,)}))
    model.build((None, 2))
    assert model.hamiltonians[0].potential(POINTS[:3]).shape == (3,)


@pytest.mark.parametrize("name", VALUES["models"])
def test_saved_model_gives_its_numbers_and_trains_on(name):
    expected = VALUES["models"][name]
    model = keras.saving.load_model(DATA / f"{name}.keras")
    samples = () if name in FLOWS else (20,)
    log_prob = model.log_prob(POINTS[:5], *samples)
    np.testing.assert_allclose(log_prob, expected["log_prob"], **CLOSE)
    np.testing.assert_allclose(model.sample(3), expected["sample"], **CLOSE)
    # With the state of its optimiser, multipliers and noise.
    model.run_eagerly = True  # a graph takes longer to trace
    fit = model.fit(POINTS, batch_size=16, shuffle=False, verbose=0)
    assert fit.history["loss"][-1] == pytest.approx(
        expected["next_loss"], rel=1e-4
    )
    assert model.steps == 8


@pytest.mark.parametrize(
    "name", [*VARIANTS, "depth_1", "hamiltonians_8", "prior_soft_uniform"]
)
def test_rows_of_the_tables_start_at_the_same_weights(name):
    row, expected = ROWS[name], VALUES["rows"][name]
    keras.utils.set_random_seed(0)
    moons = get_density("two_moons")
    model = make_model(row.kind, row.settings, moons, 1e-3, 20, 0)
    assert model.count_params() == expected["params"]
    samples = () if name in FLOWS else (3,)
    found = getattr(model, "log_prob" if name in FLOWS else "elbo")
    # The slopes of splines started 0.01 too high.
    close = {"atol": 0.1} if name == "spline" else CLOSE
    np.testing.assert_allclose(
        found(POINTS[:3], *samples), expected["value"], **close
    )


def test_forms_are_the_rows_of_the_table():
    flows = {
        "nhf_paper": NHF(**nhf_networks("paper"), prior="normal"),
        "nhf_best": NHF(**nhf_networks("bumps"), dt=1.0, scaling=True),
        "nhf_fixed_kinetic": NHF(
            **nhf_networks("fixed_kinetic"), num_steps=4, dt=0.125
        ),
    }
    for name, flow in flows.items():
        settings = {**ROWS[name].settings, "prior": "normal"}
        expected = NHF(**arguments_from(settings)).get_config()
        assert _without_names(flow.get_config()) == _without_names(expected)


def _without_names(config):
    """A configuration without the names that Keras counts up."""
    if isinstance(config, dict):
        return {k: _without_names(v) for k, v in config.items() if k != "name"}
    return config
