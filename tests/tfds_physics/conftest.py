"""Datasets that several files read."""

import pytest
import tensorflow_datasets as tfds


@pytest.fixture(scope="session")
def tiny(data_dir):
    """Two bodies, a few dozen videos, prepared."""
    builder = tfds.builder("physics_two_body/tiny", data_dir=data_dir)
    builder.download_and_prepare()
    return builder
