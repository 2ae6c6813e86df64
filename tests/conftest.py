"""Fixtures of all tests: quiet logs, fixed seeds, no network, own data."""

import os

# Before anything imports TensorFlow.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("MPLBACKEND", "agg")

import socket

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


@pytest.fixture(scope="session")
def result_fields():
    """What the JSON of a run has, in every experiment."""
    return [
        "experiment",
        "model",
        "dataset",
        "seed",
        "budget",
        "metrics",
        "config",
        "commit",
        "wall_seconds",
        "cpu_seconds",
        "peak_memory_mb",
    ]


def pytest_runtest_setup(item):
    if item.get_closest_marker("gpu"):
        import tensorflow as tf

        if not tf.config.list_physical_devices("GPU"):
            pytest.skip("TensorFlow sees no GPU")
