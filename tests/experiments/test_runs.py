"""Settings, results and folders of runs; who made an error."""

import dataclasses
import json

import pytest

import hgn_tf
from hgn_tf.experiments import runs
from hgn_tf.experiments.hgn.config import Config, make_config

FIELDS = {
    "experiment": "table",
    "model": "row",
    "dataset": "data",
    "seed": 0,
    "budget": "cpu",
    "metrics": {"error": 1.5},
    "config": {"seed": 0, "steps": 10, "units": [4]},
    "commit": None,
    "wall_seconds": 1.0,
    "cpu_seconds": 2.0,
    "peak_memory_mb": 3.0,
}


@dataclasses.dataclass(frozen=True)
class Settings:
    seed: int
    steps: int = 10
    units: tuple[int, ...] = (4,)
    younger: bool = False


@dataclasses.dataclass(frozen=True)
class Kinds:
    flag: bool = True
    count: int = 1
    rate: float = 1.0
    name: str = ""


@pytest.mark.parametrize(
    "pair, value",
    [
        ("flag=false", False),
        ("flag=False", False),
        ("flag=0", False),
        ("flag=TRUE", True),
        ("flag=1", True),
        ("count=12", 12),
        ("count=1e4", 10_000),
        ("count=-2.0", -2),
        ("count=10_000", 10_000),
        ("rate=2", 2.0),
        ("rate=2.5e-4", 2.5e-4),
        ("name=false", "false"),
        ("name=a=b", "a=b"),
        ("name=", ""),
    ],
)
def test_settings_are_parsed_by_their_type(pair, value):
    (found,) = runs.parse_settings([pair], Kinds).values()
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    "pair, message",
    [
        ("flag=no", "`flag` must be true or false. Received: 'no'"),
        ("flag=2", "`flag` must be true or false. Received: '2'"),
        ("flag=", "`flag` must be true or false. Received: ''"),
        ("count=2.5", "`count` must be a whole number.*8e3. Received: '2.5'"),
        ("count=many", "`count` must be a whole number"),
        ("count=nan", "`count` must be a whole number"),
        ("count=true", "`count` must be a whole number"),
        ("rate=fast", "`rate` must be a finite number.*Received: 'fast'"),
        ("rate=inf", "`rate` must be a finite number"),
        ("rates=1", r"one of \['flag', 'count', 'name'\]. Received: 'rates'"),
        ("flag", "NAME=VALUE, such as.*Received: 'flag'"),
    ],
)
def test_what_fits_no_setting_is_refused(pair, message):
    fixed = ("rate",) if pair.startswith("rates") else ()
    with pytest.raises(ValueError, match=message):
        runs.parse_settings([pair], Kinds, fixed)


def test_every_setting_of_a_run_can_be_parsed():
    config = make_config("physics_pendulum/tiny", "cpu")
    pairs = [f"{k}={v}" for k, v in dataclasses.asdict(config).items()]
    assert Config(**runs.parse_settings(pairs, Config)) == config


def test_a_result_is_what_was_written(tmp_path):
    metrics = {"error": 1.5, "r2": float("nan")}
    result = runs.Result(**FIELDS | {"metrics": metrics})
    result.write(tmp_path / "x.json")
    found = runs.read_result(tmp_path / "x.json")
    assert found == runs.Result(**FIELDS | {"metrics": {**metrics, "r2": None}})
    lists = runs.files.read_json(tmp_path / "x.json") | {"config": []}
    for text in ('{"metrics": {}}', "[]", "{", json.dumps(lists)):
        (tmp_path / "x.json").write_text(text)
        with pytest.raises(ValueError, match="JSON that a run wrote.*x.json"):
            runs.read_result(tmp_path / "x.json")


def test_a_result_of_an_earlier_version_is_read(tmp_path):
    path = tmp_path / "x.json"
    runs.Result(**FIELDS, picture_dtype="mixed_bfloat16").write(path)
    assert runs.read_result(path).picture_dtype == "mixed_bfloat16"
    older = runs.files.read_json(path)
    del older["picture_dtype"]
    runs.files.write_json(path, older)
    assert runs.read_result(path).picture_dtype is None


def test_a_table_makes_what_it_lacks(tmp_path):
    def make(run, folder):
        made.append(folder.name)
        assert folder.parent == tmp_path / "runs"
        config = runs.as_json(run.config)
        return runs.Result(**FIELDS | {"model": run.model, "config": config})

    def run_all(num_seeds, **changes):
        rows = runs.list_runs(
            {"a": ["x", "y"], "b": ["x"]},
            num_seeds,
            lambda group, model, seed: Settings(seed, **changes),
        )
        folders = (tmp_path / "results", tmp_path / "runs")
        return list(runs.run_table(rows, make, *folders))

    made = []
    first = run_all(1)
    assert made == ["a-x-0", "a-y-0", "b-x-0"]
    assert [result.model for result in first] == ["x", "y", "x"]
    assert run_all(2)[:3] == first
    assert made[3:] == ["a-x-1", "a-y-1", "b-x-1"]
    # Seed 1 would stay, of other settings: that is said before a run is made.
    with pytest.raises(
        ValueError, match=r"a-x-0 and a-x-1.*\['units'\] differ"
    ):
        run_all(1, units=(5,))
    assert len(made) == 6
    run_all(2, units=(5,))
    assert len(made) == 12


def test_a_result_is_of_the_settings_that_it_was_made_with(tmp_path):
    path = tmp_path / "x.json"
    runs.Result(**FIELDS).write(path)  # it knows of no setting `younger`
    assert runs.find_result(path, Settings(0)) is not None
    for other in (Settings(1), Settings(0, 20), Settings(0, younger=True)):
        assert runs.find_result(path, other) is None
    older = FIELDS["config"] | {"gone": 1}
    runs.Result(**FIELDS | {"config": older}).write(path)
    assert runs.find_result(path, Settings(0)) is None


def test_a_table_needs_a_seed_and_known_names():
    with pytest.raises(ValueError, match="a seed.*Received: 0 seeds"):
        runs.list_runs({"a": ["x"]}, 0, Settings)
    rows = {"a": ["x", "y"], "b": ["x"]}
    found = runs.list_runs(rows, 1, lambda _, __, seed: Settings(seed), ["y"])
    assert [run.name for run in found] == ["a-y-0"]
    with pytest.raises(ValueError, match=r"models of \['b'\]` must be of"):
        runs.list_runs({"b": ["x"]}, 1, Settings, ["y"])
    with pytest.raises(ValueError, match=r"`rows` must be of \['x'\].*\['y'\]"):
        runs.check_names("rows", ["x", "y"], {"x": 1})


def test_a_start_that_was_killed_leaves_its_folder_free(tmp_path):
    config = make_config("physics_pendulum/tiny", "demo")
    (tmp_path / "partial-7-config.json").write_text('{"data')
    runs.check_folder(config, tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="config.json"):
        runs.check_folder(config, tmp_path)


def caught(function, *arguments):
    try:
        function(*arguments)
    except Exception as error:
        return error


def open_nothing():
    open("/nowhere/at/all")


@pytest.mark.parametrize(
    "function, arguments",
    [
        (runs.parse_settings, (["count"], Kinds)),
        (hgn_tf.HGN.from_preset, ("hgn_nothing",)),
        (open_nothing, ()),
    ],
)
def test_what_a_check_of_ours_raises_is_a_mistake(function, arguments):
    assert runs.is_mistake(caught(function, *arguments))


@pytest.mark.parametrize(
    "function, arguments",
    [
        (runs.parse_settings, (5, Kinds)),  # TypeError of Python in our code
        (runs.parse_settings, (["x=1"], 5)),  # of another library's code
        (runs.list_runs, ({"a": 3}, 1, Settings)),
        (int, ("seven",)),
    ],
)
def test_what_arises_in_another_way_is_a_bug(function, arguments):
    error = caught(function, *arguments)
    assert isinstance(error, (ValueError, TypeError))
    assert not runs.is_mistake(error)


def test_a_mistake_is_one_in_another_process_too():
    assert runs._call(max, (1, 2)) == (2, None)
    with pytest.raises(ValueError, match="invalid literal"):
        runs._call(int, ("seven",))
    with pytest.raises(ValueError, match="must be of") as mistake:
        runs.in_own_process(runs.check_names, "rows", ["y"], ["x"])
    # It crossed the border: no frame of the check is left.
    assert mistake.traceback[-1].name == "in_own_process"
    assert runs.is_mistake(mistake.value)
