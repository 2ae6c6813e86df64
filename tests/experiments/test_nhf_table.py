"""The NHF tables: tiny runs end to end, resumed, and printed."""

import dataclasses
import types

import numpy as np
import pytest
import tensorflow as tf

from hgn_tf.densities import get_density
from hgn_tf.experiments import runs
from hgn_tf.experiments.nhf import config as settings
from hgn_tf.experiments.nhf import measures, table, train
from hgn_tf.experiments.nhf.config import STUDY, TABLES, VARIANTS
from hgn_tf.models.nhf import FLOWS

TINY = {
    "num_steps": 20,
    "batch_size": 16,
    "num_points": 200,
    "num_bound_points": 20,
    "num_samples": 10,
}
SMALL_NHF = {"units": [8], "posterior_units": [8]}
SMALL_FLOW = {"units": [8], "num_layers": 2}


MAKE_CONFIG = settings.make_config


def tiny_config(density, model, seed=0):
    small = SMALL_NHF if model not in FLOWS else SMALL_FLOW
    return MAKE_CONFIG(density, model, seed, settings=small, **TINY)


class Truth:
    """Stands for a flow that has learned the truth."""

    trainable_variables = ()

    def __init__(self, density, shift=0.0):
        self.density, self.shift = density, shift

    def log_prob(self, x):
        return tf.constant(self.density.log_prob(x) + self.shift)

    def sample(self, n, seed):
        return tf.constant(self.density.sample(n, seed))


@pytest.fixture(autouse=True, scope="module")
def few_starts():
    """Minima are looked for from 16 places instead of 81."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measures, "_STARTS", 4)
        yield


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    config = tiny_config("two_gaussians", "nhf_paper")
    return config, folder, train.train_and_score(config, folder)


@pytest.mark.parametrize("name", ["two_moons", "checkerboard"])
def test_truth_has_no_gap_and_a_mass_of_one(name):
    found = measures.score_model(
        Truth(get_density(name)), get_density(name), 500, 0, 0
    )
    assert found["gap_nats"] == 0 and found["gap_nats_stderr"] == 0
    assert found["grid_mass"] == pytest.approx(1, abs=1e-4)
    assert found["nonfinite"] == 0


def test_gap_is_what_the_model_loses():
    rings = get_density("rings")
    found = measures.score_model(Truth(rings, -0.25), rings, 500, 0, 0)
    assert found["gap_nats"] == pytest.approx(0.25)
    assert found["grid_mass"] == pytest.approx(np.exp(-0.25), abs=1e-3)


def test_measures_of_a_run_are_in_its_folder(fitted):
    _, folder, result = fitted
    metrics = result.metrics
    assert metrics["steps"] == TINY["num_steps"]
    assert metrics["dropped_steps"] == metrics["nonfinite"] == 0
    assert metrics["gap_elbo_nats"] >= metrics["gap_nats"] > 0
    assert 1 <= metrics["effective_samples"] <= TINY["num_samples"]
    saved = runs.read_result(folder / "metrics.json")
    assert saved.metrics["gap_nats"] == metrics["gap_nats"]
    assert (folder / "figure9.png").exists()


def test_saved_model_has_the_gap_that_was_measured(fitted):
    config, folder, result = fitted
    again, model = train.load(folder)
    assert again == config
    density = get_density(config.density)
    found = measures.score_model(model, density, 200, 20, 10)
    for name in ("gap_nats", "gap_elbo_nats", "minima"):
        assert found[name] == pytest.approx(result.metrics[name], rel=1e-4)


@pytest.mark.slow  # compiles once more
def test_run_that_was_stopped_ends_at_the_same_weights(fitted, tmp_path):
    config, whole, _ = fitted
    kept = (whole / "checkpoints").glob("000019*")
    (tmp_path / "checkpoints").mkdir()
    for path in [whole / "config.json", whole / "log.csv", *kept]:
        there = tmp_path / path.relative_to(whole)
        there.write_bytes(path.read_bytes())
    train.train_and_score(config, tmp_path)
    models = [train.load(folder)[1] for folder in (whole, tmp_path)]
    for one, two in zip(*(model.get_weights() for model in models)):
        np.testing.assert_array_equal(one, two)


def test_folder_of_another_run_is_refused(fitted):
    _, folder, _ = fitted
    other = tiny_config("two_gaussians", "nhf_paper", seed=1)
    with pytest.raises(ValueError, match=r"\['seed'\] differ"):
        train.train_and_score(other, folder)


def test_batches_depend_on_seed_and_number_alone():
    config = tiny_config("rings", "maf")
    all_of_them = train.training_batches(config, 2).take(3)
    first, second, third = all_of_them.as_numpy_iterator()
    assert first.shape == (2 * 16, 2)
    later = next(iter(train.training_batches(config, 2, first=2)))
    np.testing.assert_array_equal(later, third)
    assert not np.isclose(first, second).any()
    other = tiny_config("rings", "maf", seed=1)
    other = next(iter(train.training_batches(other, 2)))
    assert not np.isclose(first, other).any()


@pytest.mark.parametrize(
    "name, models",
    [("nhf_table", ["nhf_paper", "realnvp"]), ("nhf_study", ["width_64"])],
)
def test_table_does_what_is_not_done_yet(
    name, models, fitted, tmp_path, monkeypatch
):
    def run(config, run_dir, experiment, verbose, figure):
        assert run_dir.parent == tmp_path / "runs" / name
        if figure:
            run_dir.mkdir(parents=True)
            (run_dir / "figure9.png").write_bytes(b"drawn")
        return dataclasses.replace(
            fitted[2],
            experiment=experiment,
            model=config.model,
            dataset=config.density,
            seed=config.seed,
            config=dataclasses.asdict(config),
        )

    monkeypatch.setattr(table, "make_config", tiny_config)
    monkeypatch.setattr(train, "train_and_score", run)
    monkeypatch.setattr(
        runs, "in_own_process", lambda function, *row: function(*row)
    )
    row = (["two_moons"], 2, models, tmp_path, tmp_path / "runs", name)
    lines = []
    first = table.make_tables(*row, progress=lines.append)
    assert len(lines) == 2 * len(models) and "nats" in lines[0]
    for model in models:
        assert (tmp_path / name / f"two_moons-{model}-1.json").exists()
        figure = tmp_path / name / f"two_moons-{model}-0-figure9.png"
        drawn = name == "nhf_table" and model not in FLOWS
        assert figure.exists() == drawn
        assert f"| {model} |" in first
    assert ("RealNVP's" in first) == ("realnvp" in models)
    monkeypatch.setattr(train, "train_and_score", None)  # would fail if called
    again = table.make_tables(*row)
    assert again == first == (tmp_path / f"{name}.md").read_text("utf-8")


@pytest.mark.slow  # compiles
@pytest.mark.parametrize("kind", FLOWS)
def test_flows_are_trained_and_measured_by_the_same_loop(kind, tmp_path):
    result = train.train_and_score(tiny_config("rings", kind), tmp_path)
    metrics = result.metrics
    assert metrics["steps"] == TINY["num_steps"]
    # Hardly trained, it has mass outside of the grid.
    assert 0.7 < metrics["grid_mass"] < 1.001
    assert "minima" not in metrics and "elbo" not in metrics
    assert (tmp_path / "figure9.png").exists()


def test_cells_are_means_with_the_spread_over_seeds(fitted):
    metrics = {"cpu_ms_per_step": 2.0, "dropped_steps": 1}
    metrics |= {"nonfinite_losses": 0, "nonfinite": 0, "minima": None}
    config = {name: 1 for name in settings.Config.__annotations__}
    results = [
        dataclasses.replace(
            fitted[2],
            model=model,
            dataset="rings",
            seed=seed,
            config=config,
            metrics=metrics | {"gap_nats": gap},
        )
        for model in ("maf", "realnvp")
        for seed, gap in enumerate([0.1, 0.2, 0.3])
    ]
    text = table.format_tables(results)
    assert "| maf | 0.200 +- 0.1 |" in text
    assert "| 2.00 |" in text and "| 3 | 0 | 0 | 1.00 |" in text


def four_wells(q):
    return tf.reduce_sum((q**2 - 1.5**2) ** 2, axis=-1)


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_minima_are_found_where_they_are(scale):
    model = types.SimpleNamespace(
        hamiltonians=[types.SimpleNamespace(potential=four_wells)],
        affine=types.SimpleNamespace(forward=lambda state: scale * state),
    )
    minima = measures.find_minima(model, half_width=3.0)
    expected = scale * 1.5 * np.array([[-1, -1], [-1, 1], [1, -1], [1, 1]])
    np.testing.assert_allclose(
        sorted(minima.tolist()), expected, atol=1e-2 * scale
    )
    density = get_density("four_gaussians")
    found = measures.score_minima(model, density)
    assert (found["minima"], found["modes"]) == (4, 4)
    assert found["mode_distance"] == pytest.approx(
        1.5 * np.sqrt(2) * (scale - 1), abs=0.03
    )


def test_slope_and_saddle_have_no_minimum():
    for potential in (lambda q: q[:, 0], lambda q: q[:, 0] ** 2 - q[:, 1] ** 2):
        model = types.SimpleNamespace(
            hamiltonians=[types.SimpleNamespace(potential=potential)],
            affine=None,
        )
        assert measures.find_minima(model, 2.0).shape == (0, 2)
    found = measures.score_minima(model, get_density("two_gaussians"))
    assert found["minima"] == 0 and np.isnan(found["mode_distance"])


def test_tables_have_the_rows_that_were_asked_for():
    rows = table.list_runs(None, 2, None, "nhf_table")
    found = {(row.group, row.model) for row in rows}
    always = [name for name, row in VARIANTS.items() if row.densities is None]
    assert found >= {(d, m) for d in table.DENSITIES for m in always}
    seeds = [row.config.seed for row in rows]
    assert seeds == sorted(seeds)
    assert ("rings", "nhf_fixed_kinetic") not in found
    studied = {row.model for row in table.list_runs(None, 1, None, "nhf_study")}
    assert studied == set(STUDY)


def test_rows_that_no_table_has_are_refused():
    for table_name, density, model, message in (
        ("nhf_study", "rings", None, "`densities` must be of"),
        ("nhf_table", "rings", "nhf_fixed_kinetic", "models of"),
        ("nhf_table", "ring", None, "`densities` must be of"),
    ):
        models = [model] if model else None
        with pytest.raises(ValueError, match=message):
            table.list_runs([density], 1, models, table_name)


def test_another_density_has_a_column_after_those_of_the_table():
    rows = table.list_runs(["pinwheel", "rings"], 1, ["realnvp"], "nhf_table")
    results = [
        runs.Result(
            experiment="nhf_table",
            model=row.model,
            dataset=row.group,
            seed=0,
            budget="paper",
            metrics=dict.fromkeys(measures.METRICS, 0.5),
            config=runs.as_json(row.config),
            commit=None,
            wall_seconds=0.0,
            cpu_seconds=0.0,
            peak_memory_mb=0.0,
        )
        for row in rows
    ]
    assert "| model | rings | pinwheel |" in table.format_tables(results)


def test_a_row_may_differ_for_a_density():
    row = VARIANTS["nhf_fixed_kinetic"]
    assert row.settings_for("two_gaussians") == row.settings
    nine = settings.make_config("nine_gaussians", "nhf_fixed_kinetic").settings
    assert nine.keys() == row.settings.keys()
    assert nine["prior"][0]["arguments"] == {"sigma": 4.5, "beta": 8.0}


@pytest.mark.parametrize(
    "name, of_table", [(name, t) for t, rows in TABLES.items() for name in rows]
)
def test_every_row_makes_a_model(name, of_table):
    row = TABLES[of_table][name]
    moons = get_density("two_moons")
    model = settings.make_model(row.kind, row.settings, moons, 1e-3, 20, 0)
    assert model.count_params() > 1000


def test_unknown_names_are_refused():
    make_config = MAKE_CONFIG
    with pytest.raises(ValueError, match="'rings'.*Received: 'ring'"):
        make_config("ring", "maf")
    with pytest.raises(ValueError, match="'maf'.*Received: 'glow'"):
        make_config("rings", "glow")
    with pytest.raises(ValueError, match=r"Received: \['lr'\]"):
        make_config("rings", "maf", lr=1)
    with pytest.raises(ValueError, match="multiple of 20. Received: 30"):
        make_config("rings", "maf", num_steps=30)
    with pytest.raises(ValueError, match="Unrecognized.*unit"):
        settings.make_model("maf", {"unit": 3}, None, 1e-3, 20, 0)
    with pytest.raises(ValueError, match=r"`models` must be of.*\['glow'\]"):
        next(table.run(models=["glow"], num_seeds=1))
    with pytest.raises(ValueError, match=r"'nhf_study'.*Received: \['nhf'\]"):
        next(table.run(table="nhf"))
