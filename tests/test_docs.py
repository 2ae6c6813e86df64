"""README and docs: code runs, tables are the results, links lead somewhere."""

import json
import pathlib
import re

import pytest
import tensorflow as tf

import hgn_tf
import tfds_physics
from hgn_tf.evaluation import format_scores
from hgn_tf.experiments.hgn.config import BUDGETS

ROOT = pathlib.Path(__file__).parent.parent
README = ROOT / "README.md"
PAGES = [
    *ROOT.glob("*.md"),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "tfds_physics").rglob("README.md")),
]
_BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)
# `path = ...  # q and p: [4, 6, 1]` says what shape the name has.
_SHAPE = re.compile(r"^(\w+) = .*# (?:q and p: )?\[([\d, ]+)\]$", re.MULTILINE)
_TABLE = re.compile(r"<!-- from (results/\w+\.md) -->\n((?:\|.*\n)+)")
_LINK = re.compile(r"\]\(([^)#\s]+)")


def named(path):
    return path.relative_to(ROOT).as_posix()


def code_of(path):
    return "\n".join(_BLOCK.findall(path.read_text("utf-8")))


def run(path, folder, monkeypatch):
    """The names that a page's code has made, on a smaller dataset."""
    code = code_of(path).replace("small_clean", "tiny")
    code = code.replace("20_000", "1_280")
    code = code.replace("num_hamiltonians=20", "num_hamiltonians=2")
    code = re.sub(r"epochs=\d+", "epochs=1", code)
    monkeypatch.chdir(folder)
    names = {}
    exec(compile(code, str(path), "exec"), names)
    return names


@pytest.fixture
def eagerly():
    """Functions run without a graph: on a few batches tracing costs more."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


def test_readme_code_runs(tmp_path, monkeypatch, data_dir):
    names = run(README, tmp_path, monkeypatch)
    assert names["backward"].shape == (4, 30, 32, 32, 3)
    assert names["energy"].shape == (4,)
    assert names["samples"].shape[0] == 8
    assert (tmp_path / "pendulum.keras").exists()


@pytest.mark.filterwarnings("ignore:Even though")  # tf.data keeps its graphs
@pytest.mark.parametrize(
    "path",
    [path for path in PAGES if "docs" in path.parts and code_of(path)],
    ids=named,
)
def test_code_of_a_page_runs(path, tmp_path, monkeypatch, data_dir, eagerly):
    names = run(path, tmp_path, monkeypatch)
    for name, sizes in _SHAPE.findall(code_of(path)):
        value = names[name]
        parts = [value] if hasattr(value, "shape") else value  # a PhaseState
        shape = tuple(int(size) for size in sizes.split(","))
        assert [tuple(part.shape) for part in parts] == [shape] * len(parts)


def test_the_first_block_has_ten_lines_of_code():
    block = _BLOCK.search(README.read_text("utf-8"))
    lines = [line for line in block[1].splitlines() if line.strip()]
    assert len(lines) <= 10


@pytest.mark.parametrize("page", ["README.md", "docs/install.md"])
def test_pages_know_how_long_the_demo_trains(page):
    steps = f"{BUDGETS['demo']['num_steps']:,} steps"
    assert f"on them for {steps}" in (ROOT / page).read_text("utf-8")


def test_readme_is_short():
    text = README.read_text("utf-8")
    assert len(text.splitlines()) <= 150
    prose = re.sub(r"```.*?```|^(    |\||!).*$", "", text, flags=re.S | re.M)
    prose = re.sub(r"\]\([^)]*\)", "]", prose)
    sentences = re.split(r"[.:?]\s|\n\n|\n- ", prose)
    assert max(len(sentence.split()) for sentence in sentences) <= 30


@pytest.mark.parametrize(
    "path", sorted((ROOT / "results" / "train_hgn").glob("*.json")), ids=named
)
def test_reports_are_the_results(path):
    result = json.loads(path.read_text("utf-8"))
    page = ROOT / "docs" / "hgn.md"
    assert format_scores(result["metrics"]) in page.read_text("utf-8")


@pytest.mark.parametrize(
    "source, table",
    [
        found
        for path in PAGES
        for found in _TABLE.findall(path.read_text("utf-8"))
    ],
)
def test_tables_are_copied_whole(source, table):
    assert table in (ROOT / source).read_text("utf-8")


def test_every_page_is_in_the_navigation():
    navigation = (ROOT / "mkdocs.yml").read_text("utf-8").split("nav:")[1]
    entries = re.findall(r"(\S+\.md)$", navigation, re.MULTILINE)
    docs = ROOT / "docs"
    pages = {path.relative_to(docs).as_posix() for path in docs.rglob("*.md")}
    assert pages <= set(entries)
    assert len(entries) == len(set(entries))


def test_contributing_names_files_that_are_there():
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    folders = "hgn_tf|tfds_physics|tests|docs|notebooks|results"
    paths = re.findall(rf"`((?:{folders})/[\w./]*)`", text)
    assert len(paths) > 20
    assert not [path for path in paths if not (ROOT / path).exists()]


@pytest.mark.parametrize("package", [hgn_tf, tfds_physics])
def test_every_public_name_has_a_place_in_the_api(package):
    pages = sorted((ROOT / "docs" / "api").glob("*.md"))
    text = "\n".join(page.read_text("utf-8") for page in pages)
    names = {f"{package.__name__}.{name}" for name in package.__all__}
    assert not {name for name in names if not re.search(rf"{name}\b", text)}
    blocks = re.findall(r"^::: (\S+)$", text, re.MULTILINE)
    assert len(blocks) == len(set(blocks))  # Each name has one place.


def test_the_address_of_the_project_stands_in_setup_alone():
    setup = (ROOT / "setup.py").read_text("utf-8")
    url = re.search(r'^URL = "https://([^"]+)"', setup, re.MULTILINE)[1]
    sources = [
        *PAGES,
        *(ROOT / "docs").glob("*.py"),
        *(ROOT / "notebooks").glob("*.py"),
        ROOT / "mkdocs.yml",
    ]
    assert setup.count(url) == 1
    assert not [path for path in sources if url in path.read_text("utf-8")]


@pytest.mark.parametrize("path", PAGES, ids=named)
def test_links_lead_to_files(path):
    for link in _LINK.findall(path.read_text("utf-8")):
        if "://" not in link:
            assert (path.parent / link).exists(), link
