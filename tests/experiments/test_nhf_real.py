"""Real rows: folds, noise of the rounding, units, choices, and the table."""

import dataclasses
import math
import sys
import types

import numpy as np
import pytest
from scipy import stats

from hgn_tf.experiments import runs
from hgn_tf.experiments.nhf import real
from hgn_tf.experiments.nhf.real import DATASETS, MODELS, load, split

TINY = {
    "num_steps": 4,
    "check_every": 2,
    "patience": 1,
    "num_samples": 5,
    "num_check_samples": 3,
}
MAKE_CONFIG = real.make_config
SMALL_NHF = {"units": [4], "posterior_units": [4]}
SMALL_FLOW = {"units": [4], "num_layers": 2}


def tiny_config(dataset, model, fold=0, **changes):
    small = {} if model in ("gaussian", "mixture") else SMALL_FLOW
    small = SMALL_NHF if model.startswith("nhf") else small
    changes = {"settings": small, **TINY, **changes}
    return MAKE_CONFIG(dataset, model, fold, **changes)


@pytest.mark.parametrize("name", DATASETS)
def test_every_row_is_tested_once(name):
    values = load(name)
    folds = [split(values, fold) for fold in range(real.NUM_FOLDS)]
    tested = np.concatenate([rows.test for rows in folds])
    np.testing.assert_array_equal(_sorted(tested), _sorted(values))
    for rows in folds:
        both = np.concatenate([rows.train, rows.validation, rows.test])
        np.testing.assert_array_equal(_sorted(both), _sorted(values))


def _sorted(values):
    return values[np.lexsort(values.T)]


@pytest.mark.parametrize("name", ["digits", "wine"])
def test_noise_stays_within_the_rounding(name):
    rows = split(load(name), 0)
    points = rows.spread(rows.train, 3)
    added = (rows.values(points) - rows.train) / rows.gap
    # Standardised points are float32.
    assert -1e-3 <= added.min() < 0.01 and 0.99 < added.max() <= 1.001
    np.testing.assert_allclose(points.mean(axis=0), 0, atol=0.05)
    np.testing.assert_allclose(points.std(axis=0), 1, atol=0.05)
    assert np.abs(points - rows.spread(rows.train, 4)).max() > 0.01


def test_likelihood_is_in_the_units_of_the_data():
    rows = split(load("diabetes"), 1)
    config = real.make_config("diabetes", "gaussian", 1)
    learner = real.Mixture(config, 10)
    trained = learner.learn(config, rows)
    found = real.score(learner.model, rows, 1, config.num_samples)
    # The same Gaussian, moved to the data instead of the data to it.
    covariance = learner.model.covariances_[0] * np.outer(
        rows.deviation, rows.deviation
    )
    gaussian = stats.multivariate_normal(
        rows.values(learner.model.means_[0]), covariance
    )
    values = rows.values(rows.spread(rows.test, [2**31, 1, 1]))
    expected = gaussian.logpdf(values).mean()
    assert found["log_likelihood"] == pytest.approx(expected, abs=1e-3)
    assert abs(trained["validation"] - expected) < 3
    assert found["parameters"] == 10 + 55 and "elbo" not in found


def test_bits_of_a_model_that_knows_nothing_are_those_of_17_values():
    rows = split(load("digits"), 0)
    flat = -64 * math.log(17) + rows.log_scale
    model = types.SimpleNamespace(
        score_samples=lambda points: np.full(len(points), flat),
        means_=np.zeros((1, 64)),
    )
    found = real.score(model, rows, 0, 1)
    assert found["bits_per_dimension"] == pytest.approx(math.log2(17))


def test_validation_chooses_and_folds_start_alike():
    config = tiny_config("wine", "nhf_paper", learning_rates=[1e-2, 0.0])
    learner = real.Learner(config, 13, jit_compile=False)
    rows = split(load("wine"), 0)
    first = learner.learn(config, rows)
    weights = learner.model.get_weights()
    assert first["learning_rate"] == 1e-2 and first["dropped_steps"] == 0
    points = rows.spread(rows.validation, [2**31, 0, 0])
    log_prob = learner.model.log_prob(points, 3).numpy().mean()
    expected = log_prob - rows.log_scale
    assert first["validation"] == pytest.approx(expected, abs=1e-4)
    other = dataclasses.replace(config, seed=1)
    assert learner.fits(other)
    learner.learn(other, split(load("wine"), 1))
    assert learner.learn(config, rows)["validation"] == first["validation"]
    for one, two in zip(weights, learner.model.get_weights()):
        np.testing.assert_array_equal(one, two)
    assert not learner.fits(tiny_config("wine", "realnvp"))


def test_table_does_what_is_not_done_yet(tmp_path, monkeypatch):
    monkeypatch.setattr(real, "make_config", tiny_config)
    monkeypatch.setattr(
        runs, "in_own_process", lambda function, *row: function(*row)
    )
    kind = real.Learner
    monkeypatch.setattr(
        real, "Learner", lambda *row: kind(*row, jit_compile=False)
    )
    row = (["digits"], 2, ["gaussian", "realnvp"], tmp_path)
    first = real.make_tables(*row)
    for model in ("gaussian", "realnvp"):
        for fold in (0, 1):
            path = tmp_path / "nhf_real" / f"digits-{model}-{fold}.json"
            result = runs.read_result(path)
            bits = result.metrics["bits_per_dimension"]
            assert 1 < bits < 10 and result.metrics["nonfinite"] == 0
        picture = tmp_path / "nhf_real" / f"digits-{model}-0-samples.png"
        assert picture.exists()
    assert "| digits | 1,797 | 64 | 2 of 5 |" in first
    monkeypatch.setattr(real, "learn_all", None)  # would fail if called
    again = real.make_tables(*row)
    assert again == first == (tmp_path / "nhf_real.md").read_text("utf-8")


def test_gains_are_over_the_gaussian_of_the_same_fold():
    blank = {"experiment": "nhf_real", "budget": "real", "commit": None}
    blank |= {name: 0.0 for name in ("wall_seconds", "cpu_seconds")}
    results = [
        runs.Result(
            model=model,
            dataset="wine",
            seed=fold,
            metrics={"log_likelihood": value},
            config=runs.as_json(real.make_config("wine", model, fold)),
            peak_memory_mb=0.0,
            **blank,
        )
        for model, values in (("gaussian", (-9, -5)), ("maf", (-8, -2)))
        for fold, value in enumerate(values)
    ]
    text = real.format_tables(results)
    assert "| maf | -5.00 +- 4 |" in text and "| maf | 2.00 +- 1 |" in text
    assert text.count("| gaussian |") == 1 + text.count("| wine | gaussian |")


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match=r"`datasets` must be of.*\['iris'\]"):
        real.make_config("iris", "maf")
    with pytest.raises(ValueError, match=r"`models` must be of.*\['glow'\]"):
        real.list_runs(models=["glow"])
    with pytest.raises(ValueError, match="0 to 4. Received: 5"):
        real.list_runs(num_folds=6)
    with pytest.raises(ValueError, match=r"Received: \['lr'\]"):
        real.make_config("wine", "maf", lr=1)


def test_without_scikit_learn_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    real.load.cache_clear()
    with pytest.raises(ImportError, match=r"pip install 'hgn-tf\[real\]'"):
        load("wine")


def test_all_rows_have_two_rates_and_the_same_budget():
    learned = [name for name, row in MODELS.items() if row.kind != "mixture"]
    assert set(learned) == set(real.RATES)
    assert {len(rates) for rates in real.RATES.values()} == {2}
