"""The public surface: what `import hgn_tf` gives, and what it does not load."""

import ast
import pathlib
import re
import subprocess
import sys

import pytest

import hgn_tf

ROOT = pathlib.Path(__file__).parent.parent
# What brings packages that the models do without.
HEAVY = (
    "tensorflow_probability",
    "tf_keras",
    "tensorflow_datasets",
    "tfds_physics",
    "jinja2",
    "scipy.integrate",
    "hgn_tf.viz",
    "hgn_tf.models.nhf",
    "hgn_tf.experiments",
)
LOADED = f"""
import sys
import keras
import tensorflow
before = set(sys.modules)
import hgn_tf
dir(hgn_tf)
loaded = set(sys.modules) - before
print(*[name for name in {HEAVY} if name in loaded])
"""


def test_import_loads_nothing_that_the_models_do_without():
    done = subprocess.run(
        [sys.executable, "-c", LOADED],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == []


@pytest.mark.parametrize("name", hgn_tf.__all__)
def test_public_name_is_there_and_listed(name):
    assert getattr(hgn_tf, name) is not None
    assert name in dir(hgn_tf)


def test_other_names_are_not_there():
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        hgn_tf.nonsense  # noqa: B018


def used_names():
    """Names of hgn_tf that documents and notebooks use, with their source."""
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    for path in [*pages, *(ROOT / "notebooks").glob("[0-9]*.py")]:
        text = path.read_text("utf-8")
        blocks = [text]
        if path.suffix == ".md":
            blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
        for block in blocks:
            for node in ast.walk(ast.parse(block)):
                if isinstance(node, ast.ImportFrom):
                    package, _, rest = (node.module or "").partition(".")
                    names = [rest] if rest else [a.name for a in node.names]
                elif isinstance(node, ast.Attribute):
                    package = getattr(node.value, "id", None)
                    names = [node.attr]
                else:
                    continue
                if package == "hgn_tf":
                    for name in names:
                        yield path.name, name.partition(".")[0]


def test_what_documents_and_notebooks_use_is_public():
    used = set(used_names())
    assert len(used) > 10
    assert not {
        (page, name) for page, name in used if name not in hgn_tf.__all__
    }
