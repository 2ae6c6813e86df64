"""The notebooks: made from their scripts, without functions, and they run."""

import ast
import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import pytest

FOLDER = pathlib.Path(__file__).parent.parent / "notebooks"
SCRIPTS = sorted(FOLDER.glob("[0-9]_*.py"))


def load_build():
    pytest.importorskip("jupytext", reason="needs the extra `notebooks`")
    spec = importlib.util.spec_from_file_location("build", FOLDER / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_notebook_is_its_script(script):
    path = script.with_suffix(".ipynb")
    assert path.read_text("utf-8") == load_build().notebook_of(script)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_notebook_has_no_outputs_and_one_owner(script):
    text = script.with_suffix(".ipynb").read_text("utf-8")
    cells = json.loads(text)["cells"]
    assert not any(cell.get("outputs") for cell in cells)
    assert "colab-badge.svg" in text and load_build().URL in text
    assert "on a CPU" in text or "CPU cores" in text  # how long it runs


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_notebook_defines_nothing(script):
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
    tree = ast.parse(script.read_text("utf-8"))
    assert not [node for node in ast.walk(tree) if isinstance(node, kinds)]


def run_notebook(script, folder, **environment):
    pytest.importorskip("nbmake", reason="needs the extra `notebooks`")
    path = folder / f"{script.stem}.ipynb"
    path.write_text(load_build().notebook_of(script), "utf-8")
    command = [sys.executable, "-m", "pytest", "--nbmake", "-p", "no:xdist"]
    done = subprocess.run(
        [*command, "--nbmake-timeout=3000", str(path)],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]


@pytest.mark.notebooks
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_notebook_runs_small(script, tmp_path, data_dir):
    run_notebook(script, tmp_path, NOTEBOOK_SMALL="1")


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_notebook_runs_at_full_size(script, tmp_path, data_dir):
    run_notebook(script, tmp_path)
