"""The README's code runs as it stands, on a smaller dataset."""

import json
import pathlib
import re

import pytest

from hgn_tf.evaluation import format_scores

ROOT = pathlib.Path(__file__).parent.parent
README = ROOT / "README.md"
RESULTS = ROOT / "results" / "train_hgn"


def test_readme_code_runs(tmp_path, monkeypatch, data_dir):
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert blocks
    code = "\n".join(blocks).replace("small_clean", "tiny")
    code = re.sub(r"epochs=\d+", "epochs=1", code)
    code = code.replace("20_000", "1_280")
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(compile(code, str(README), "exec"), names)
    assert names["backward"].shape == (4, 30, 32, 32, 3)
    assert names["energy"].shape == (4,)
    assert names["samples"].shape[0] == 8
    assert (tmp_path / "pendulum.keras").exists()
    assert names["swing"].shape == (100, 2)
    assert names["log_prob"].shape == (100,) and names["new"].shape == (1000, 2)


def test_the_first_block_has_ten_lines_of_code():
    block = re.search(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    lines = [line for line in block[1].splitlines() if line.strip()]
    assert len(lines) <= 10


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.json")), ids=str)
def test_readme_tables_are_the_results(path):
    result = json.loads(path.read_text())
    assert format_scores(result["metrics"]) in README.read_text()


TABLES = re.findall(
    r"<!-- from (results/\w+\.md) -->\n((?:\|.*\n)+)", README.read_text("utf-8")
)


@pytest.mark.parametrize("source, table", TABLES)
def test_readme_copies_tables_whole(source, table):
    assert table in (ROOT / source).read_text("utf-8")
