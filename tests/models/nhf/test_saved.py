"""Models saved by version 0.1.0, whose modules and arguments were others."""

import json
import pathlib

import keras
import numpy as np
import pytest

from hgn_tf.models.nhf import FLOWS

DATA = pathlib.Path(__file__).parents[2] / "data" / "nhf"
VALUES = json.loads((DATA / "values.json").read_text("utf-8"))
POINTS = np.array(VALUES["points"], "f4")
# Rounding: other kernels of another processor sum in another order.
CLOSE = {"rtol": 1e-4, "atol": 1e-4}


@pytest.mark.parametrize("name", VALUES["models"])
def test_saved_model_gives_its_numbers_and_trains_on(name):
    expected = VALUES["models"][name]
    model = keras.saving.load_model(DATA / f"{name}.keras")
    samples = () if name in FLOWS else (20,)
    log_prob = model.log_prob(POINTS[:5], *samples)
    np.testing.assert_allclose(log_prob, expected["log_prob"], **CLOSE)
    np.testing.assert_allclose(model.sample(3), expected["sample"], **CLOSE)
    # With the state of its optimiser, multipliers and noise.
    fit = model.fit(POINTS, batch_size=16, shuffle=False, verbose=0)
    assert fit.history["loss"][-1] == pytest.approx(
        expected["next_loss"], rel=1e-4
    )
    assert model.steps == 8
