"""Fixtures of all tests: quiet logs, fixed seeds, no network, own data."""

import os

# Before anything imports TensorFlow.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Tests run side by side: more threads each would only wait for each other.
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "agg")

import contextlib
import re
import shutil
import socket
import subprocess

import pytest

_connect = socket.socket.connect


def _connect_to_this_machine(self, address):
    local = ("127.0.0.1", "::1", "localhost")
    if self.family != socket.AF_UNIX and address[0] not in local:
        raise OSError(f"Tests use no network. Received: {address}.")
    return _connect(self, address)


@pytest.fixture(autouse=True, scope="session")
def no_network():
    """Connections leave this machine in no test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", _connect_to_this_machine)
        yield


@pytest.fixture(autouse=True, scope="session")
def data_dir(tmp_path_factory):
    """Folder for datasets, TFDS's default while the tests run."""
    folder = tmp_path_factory.mktemp("tensorflow_datasets")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TFDS_DATA_DIR", str(folder))
        yield folder


@pytest.fixture
def seed():
    """Python, numpy and TensorFlow seeded with the number returned."""
    import keras

    keras.utils.set_random_seed(0)
    return 0


@pytest.fixture
def room():
    """Context in which files get no longer than some bytes: a full disk."""
    resource = pytest.importorskip("resource")

    @contextlib.contextmanager
    def limit(size):
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return limit


class Browser:
    """Headless Chromium, on pages that are given as text."""

    COMMAND = shutil.which("chromium") or shutil.which("google-chrome")
    FLAGS = (
        "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run "
        "--disable-background-networking --disable-component-update "
        "--disable-sync --enable-logging=stderr --virtual-time-budget=2000"
    ).split()

    def __init__(self, folder):
        self._folder = folder

    def overflow(self, page, width):
        """Pixels that a page is wider than a window of `width`."""
        root = "document.documentElement"
        self._write(
            "page.html", page, f"{root}.scrollWidth - {root}.clientWidth"
        )
        # A frame of the very width: a window may not get as narrow as a phone.
        return self._answer(
            f"<iframe src='page.html' width={width} height=800 frameborder=0>"
        )

    def broken_pictures(self, page):
        """How many pictures of a page have not loaded."""
        return self.evaluate(
            page, "[...document.images].filter((x) => !x.naturalWidth).length"
        )

    def evaluate(self, page, expression):
        """A number that a page computes once it has loaded."""
        self._write("page.html", page, expression)
        return self._answer("<iframe src='page.html' width=1280 height=800>")

    def _write(self, name, page, expression):
        tell = (
            "<script>addEventListener('load', () => setTimeout(() => "
            f"parent.postMessage({expression}, '*'), 300))</script></body>"
        )
        text = page.replace("</body>", tell)
        (self._folder / name).write_text(text, "utf-8")

    def _answer(self, frame):
        outer = self._folder / "outer.html"
        listen = "onmessage = (e) => document.title = 'answer ' + e.data"
        outer.write_text(f"<script>{listen}</script>{frame}", "utf-8")
        profile = f"--user-data-dir={self._folder / 'profile'}"
        run = subprocess.run(
            [self.COMMAND, *self.FLAGS, profile, "--dump-dom", outer.as_uri()],
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        assert "CONSOLE" not in run.stderr, run.stderr
        (answer,) = re.findall(r"<title>answer (-?[\d.]+)</title>", run.stdout)
        return float(answer)


@pytest.fixture
def browse(tmp_path):
    if not Browser.COMMAND:
        pytest.skip("there is no chromium")
    return Browser(tmp_path)


def pytest_runtest_setup(item):
    if item.get_closest_marker("gpu"):
        import tensorflow as tf

        if not tf.config.list_physical_devices("GPU"):
            pytest.skip("TensorFlow sees no GPU")
