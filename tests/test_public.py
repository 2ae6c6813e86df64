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


# Of the library; what reproduces papers with it and the command line is not.
LIBRARY = [
    path
    for path in sorted((ROOT / "hgn_tf").rglob("*.py"))
    if path.relative_to(ROOT).parts[1] not in ("experiments", "cli")
]
# Keras says what goes in and out of them.
PROTOCOL = {
    "build",
    "call",
    "compile_from_config",
    "compute_loss",
    "compute_output_shape",
    "compute_output_spec",
    "from_config",
    "get_build_config",
    "get_config",
    "on_epoch_begin",
    "on_epoch_end",
    "test_step",
    "train_step",
}


def public_functions(tree):
    """Functions and methods that a module shows, constructors included."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name[0] != "_":
            yield from public_functions(node)
        elif isinstance(node, ast.FunctionDef):
            hidden = node.name[0] == "_" and node.name != "__init__"
            if not hidden and node.name not in PROTOCOL:
                yield node


@pytest.mark.parametrize(
    "path", LIBRARY, ids=lambda path: path.relative_to(ROOT).as_posix()
)
def test_public_functions_are_annotated(path):
    bare = []
    for function in public_functions(ast.parse(path.read_text("utf-8"))):
        given = function.args
        names = [*given.posonlyargs, *given.args, *given.kwonlyargs]
        bare += [
            f"{function.name}({name.arg})"
            for name in names
            if name.annotation is None and name.arg not in ("self", "cls")
        ]
        if function.returns is None and function.name != "__init__":
            bare.append(f"{function.name} ->")
    assert not bare
