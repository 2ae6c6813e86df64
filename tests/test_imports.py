"""Imports point one way: read from the source."""

import ast
import graphlib
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parent.parent
PACKAGES = ("hgn_tf", "tfds_physics")

# A module imports only what stands before it. A package is one place, but for
# its modules that are named.
HGN_ORDER = [
    "phase",
    "integrators",
    "networks",
    "losses",
    "optimizers",
    "replicas",
    "metrics",
    "densities",
    "files",
    "records",
    "data",
    "inspection",
    "prior",
    "presets",
    "models",
    "training",
    "validation",
    "motions",
    "viz.gif",
    "evaluation",
    "viz",
    "experiments",
    "cli",
    "__init__",
    "__main__",
]
IMPORTS_NOTHING_OF_OURS = ("hgn_tf.metrics", "hgn_tf.losses")
IMPORTS_TFDS_PHYSICS = (
    "hgn_tf.data",
    "hgn_tf.experiments",
    "hgn_tf.cli",
)
POSIX = {"fcntl", "grp", "pty", "pwd", "resource", "syslog", "termios"}
TENSORFLOW = ("tensorflow", "tensorflow_datasets", "keras", "tf_keras")


def module_name(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


MODULES = {
    module_name(path): path
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
}
HGN_MODULES = [name for name in MODULES if name.startswith("hgn_tf.")]


def within(name, packages):
    """Whether a dotted name is one of the packages or lies in one."""
    return any(name == p or name.startswith(p + ".") for p in packages)


def imports_of(name):
    """Dotted names that a module imports, of modules or of their members."""
    package = name.split(".")[:-1]
    found = set()
    for node in ast.walk(ast.parse(MODULES[name].read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1]
            base = [*(start if node.level else []), node.module or ""]
            found.update(
                ".".join([*filter(None, base), alias.name])
                for alias in node.names
            )
    return found


def own_modules(name):
    """Our modules that a module imports, members resolved to their module."""
    found = set()
    for imported in imports_of(name):
        if not within(imported, PACKAGES):
            continue
        while imported not in MODULES:
            if f"{imported}.__init__" in MODULES:
                imported = f"{imported}.__init__"
                break
            if "." not in imported:
                pytest.fail(f"{name} imports an unknown module of ours")
            imported = imported.rpartition(".")[0]
        found.add(imported)
    return found - {name}


def place_of(name):
    """The place of a module in HGN_ORDER."""
    parts = name.split(".")[1:3]
    own = ".".join(parts)
    place = own if own in HGN_ORDER else parts[0]
    assert place in HGN_ORDER, f"Give {name} its place in HGN_ORDER."
    return HGN_ORDER.index(place)


@pytest.mark.parametrize("name", HGN_MODULES)
def test_hgn_tf_imports_point_back_along_the_path(name):
    for imported in own_modules(name):
        if imported.startswith("hgn_tf."):
            later = place_of(imported) > place_of(name)
            assert not later, f"{name} imports {imported}, a later module"


@pytest.mark.parametrize("name", MODULES)
def test_packages_meet_only_where_agreed(name):
    others = {m for m in own_modules(name) if m.split(".")[0] not in name}
    if name.startswith("tfds_physics."):
        assert not others, f"{name} imports {others}"
    elif not within(name, IMPORTS_TFDS_PHYSICS):
        assert not others, f"Only data and experiments may: {name}"


@pytest.mark.parametrize("name", IMPORTS_NOTHING_OF_OURS)
def test_metrics_and_losses_import_nothing_of_ours(name):
    if name not in MODULES:
        pytest.skip(f"there is no {name}")
    assert not own_modules(name)


@pytest.mark.parametrize(
    "name", [name for name in MODULES if within(name, ["hgn_tf.viz"])]
)
def test_pictures_and_pages_import_no_model(name):
    imported = own_modules(name)
    assert not [m for m in imported if within(m, ["hgn_tf.models"])]


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in MODULES
        if within(name, ["tfds_physics.systems", "tfds_physics.video.render"])
    ],
)
def test_physics_and_pictures_import_no_tensorflow(name):
    assert not [m for m in imports_of(name) if within(m, TENSORFLOW)]
    others = own_modules(name)
    others = [m for m in others if not within(m, ["tfds_physics.systems"])]
    assert not others, f"{name} imports {others}"


def test_modules_import_each_other_in_no_circle():
    graph = {name: own_modules(name) for name in MODULES}
    assert list(graphlib.TopologicalSorter(graph).static_order())


@pytest.mark.parametrize("name", MODULES)
def test_no_module_needs_posix_to_be_imported(name):
    for node in ast.parse(MODULES[name].read_text("utf-8")).body:
        if isinstance(node, ast.Import):
            found = POSIX.intersection(alias.name for alias in node.names)
            assert not found, f"{name} needs {found}: Windows has none"


def test_only_nhf_needs_tensorflow_probability():
    users = [
        name
        for name in MODULES
        if any(within(m, ["tensorflow_probability"]) for m in imports_of(name))
    ]
    assert users
    assert not [m for m in users if not within(m, ["hgn_tf.models.nhf"])]
