"""The table past the trained frames: its rows, its resume, its text."""

import pytest

from hgn_tf import presets
from hgn_tf.cli import main
from hgn_tf.experiments.hgn import beyond
from hgn_tf.experiments.hgn.beyond import CONTROLS, METRICS
from hgn_tf.experiments.hgn.config import make_config


def test_controls_stand_once_for_each_system():
    rows = beyond.list_rows(None)
    names = [row.name for row in rows]
    assert len(names) == len(set(names))
    for preset in presets.list_presets():
        system = presets.card(preset)["dataset"].split("/")[0]
        system = system.removeprefix("physics_")
        assert f"{system}-{preset}-0" in names
        assert all(f"{system}-{name}-0" in names for name in CONTROLS)


@pytest.fixture
def measured(monkeypatch):
    """Sources of rows, as they are measured; the numbers are made up."""
    sources = []

    def measure(config, picture):
        sources.append(config.source)
        costs = dict(wall_seconds=1.0, cpu_seconds=1.0, peak_memory_mb=1.0)
        return {name: float(i) for i, name in enumerate(METRICS)}, costs

    monkeypatch.setattr(beyond, "measure", measure)
    return sources


def test_a_table_goes_on_and_shows_every_measure(tmp_path, measured, capsys):
    arguments = ["table", "beyond", "--results", str(tmp_path)]
    assert main([*arguments, "--models", "hgn_pendulum"]) == 0
    assert measured == [*CONTROLS, "hgn_pendulum"]
    assert main([*arguments, "--models", "hgn_pendulum", "hgn_two_body"]) == 0
    assert measured[len(CONTROLS) + 1 :] == [*CONTROLS, "hgn_two_body"]
    text = (tmp_path / "beyond.md").read_text("utf-8")
    assert text in capsys.readouterr().out
    for index, metric in enumerate(METRICS.values()):
        assert f" {format(float(index), metric.form)} |" in text
    for title in (*CONTROLS.values(), "hgn_two_body, learned prior"):
        assert f"| {title} |" in text


def test_another_training_is_measured_anew(tmp_path, measured, monkeypatch):
    beyond.make_beyond(["hgn_pendulum"], tmp_path)
    card = presets.card("hgn_pendulum") | {"commit": "another"}
    monkeypatch.setattr(presets, "card", lambda name: card)
    beyond.make_beyond(["hgn_pendulum"], tmp_path)
    assert measured == [*CONTROLS, "hgn_pendulum", "hgn_pendulum"]


def test_a_source_that_is_nothing_is_refused_in_one_line(tmp_path, capsys):
    arguments = ["table", "beyond", "--models", str(tmp_path / "nothing")]
    assert main([*arguments, "--results", str(tmp_path)]) == 2
    assert "must have the config.json" in capsys.readouterr().err


def test_two_rows_of_one_name_are_refused(monkeypatch):
    described = {"a/run": ("physics_pendulum/small", "one")}
    described["b/run"] = ("physics_pendulum/small", "two")
    monkeypatch.setattr(beyond, "_describe", described.get)
    with pytest.raises(ValueError, match="a name of its own.*b/run and a/run"):
        beyond.list_rows(["a/run", "b/run"])


def describe(monkeypatch, datasets):
    described = {
        source: (f"physics_{dataset}", "one")
        for source, dataset in datasets.items()
    }
    monkeypatch.setattr(beyond, "_describe", described.__getitem__)


def test_two_configs_of_a_system_are_no_table(tmp_path, measured, monkeypatch):
    describe(monkeypatch, {"a": "pendulum/long", "b": "pendulum/long_clean"})
    message = "one config.*pendulum/long and .*pendulum/long_clean"
    with pytest.raises(ValueError, match=message):
        beyond.make_beyond(["a", "b"], tmp_path)
    beyond.make_beyond(["b"], tmp_path)
    with pytest.raises(ValueError, match=message):
        beyond.make_beyond(["a"], tmp_path)
    assert measured == [*CONTROLS, "b"]


def test_a_fifth_system_has_its_part(tmp_path, measured, monkeypatch):
    describe(monkeypatch, {"a": "double_pendulum/long", "b": "pendulum/long"})
    text = beyond.make_beyond(["a", "b"], tmp_path)
    parts = [line for line in text.splitlines() if line.startswith("### ")]
    assert parts[:2] == ["### pendulum", "### double_pendulum"]


def test_what_cannot_be_judged_is_refused(monkeypatch):
    describe(monkeypatch, {"runs/data": "pendulum/long"})
    with pytest.raises(ValueError, match="named as a control.*runs/data"):
        beyond.list_rows(["runs/data"])
    monkeypatch.setattr(beyond, "_describe", lambda _: ("video_folder/x", "y"))
    with pytest.raises(ValueError, match="recorded videos lack.*own"):
        beyond.list_rows(["own"])


def test_a_row_of_a_run_tells_one_training_from_another(tmp_path, monkeypatch):
    config = make_config("physics_pendulum/small", "flat")
    model = object.__new__(beyond.HGN)
    monkeypatch.setattr(beyond.train, "load", lambda _: (config, model))
    stamps = []
    for weights in (b"one", b"two", b"one"):
        (tmp_path / "model.keras").write_bytes(weights)
        stamps.append(beyond._describe(str(tmp_path))[1])
    assert stamps[0] == stamps[2] != stamps[1]
    monkeypatch.setattr(beyond.train, "load", lambda _: (config, "no HGN"))
    with pytest.raises(ValueError, match="drawn by an HGN.*a str"):
        beyond._describe(str(tmp_path))


@pytest.mark.slow
def test_measures_of_a_preset_and_of_controls(tmp_path, monkeypatch):
    monkeypatch.setattr(beyond, "FAR_FRAMES", 40)
    small = dict(num_samples=6, num_long=2, num_far=2, num_fitted=400, refine=2)
    dataset = presets.card("hgn_pendulum")["dataset"]
    found = {}
    for source in ("data", "mean_image", "true_law", "hgn_pendulum"):
        config = beyond.Config(source, dataset, **small)
        found[source], costs = beyond.measure(config, tmp_path / "shown.png")
        assert set(costs) == {"wall_seconds", "cpu_seconds", "peak_memory_mb"}
    assert found["data"]["inferred_motions"] == 1.0
    assert found["mean_image"]["inferred_frames"] == 0.0
    assert set(found["hgn_pendulum"]) == set(METRICS)
    for name in ("shown.png", "shown-far.png"):
        assert (tmp_path / name).stat().st_size > 10_000
    model = found["hgn_pendulum"]
    law = found["true_law"]
    assert law["mse_e4_at_60"] < law["mse_e4_at_240"]
    assert law["mse_e4_at_60"] < model["mse_e4_at_60"]
    assert model["mse_e4_at_60"] < model["mean_image_mse_e4_at_60"]
