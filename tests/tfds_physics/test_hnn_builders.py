"""The builders of the state tasks: rows as made, settings that are refused."""

import os

import numpy as np
import pytest
import tensorflow_datasets as tfds

from tfds_physics import StateConfig
from tfds_physics.hnn.builders import (
    HNNMassSpring,
    HNNPendulum,
    HNNThreeBody,
    HNNTwoBody,
)
from tfds_physics.hnn.pixel_pendulum import HNNPixelPendulum
from tfds_physics.hnn.real_pendulum import HNNRealPendulum
from tfds_physics.hnn.tasks import make_rows


class _Case:
    VERSION = "1.0.0"
    BUILDER_CONFIG_NAMES_TO_TEST = ["tiny"]
    EXAMPLE_DIR = os.path.dirname(__file__)  # nothing is read from it
    SKIP_CHECKSUMS = True
    SKIP_TF1_GRAPH_MODE = True


class MassSpringTest(_Case, tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = HNNMassSpring
    SPLITS = {"train": 4 * 30, "test": 2 * 30}


class PendulumTest(_Case, tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = HNNPendulum
    SPLITS = {"train": 4 * 45, "test": 2 * 45}


class TwoBodyTest(_Case, tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = HNNTwoBody
    SPLITS = {"train": 4 * 50, "test": 2 * 50}


class ThreeBodyTest(_Case, tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = HNNThreeBody
    SPLITS = {"train": 4 * 20, "test": 2 * 20}


def test_prepared_rows_are_those_made(data_dir):
    builder = HNNMassSpring(config="tiny", data_dir=str(data_dir))
    builder.download_and_prepare()
    read = builder.as_dataset(split="train", batch_size=-1)
    order = np.lexsort((read["time"], read["trajectory"]))
    made = make_rows(builder.task, 0, builder.task.splits["train"])
    for name, value in made.items():
        found = read[name].numpy()[order]
        np.testing.assert_array_equal(found, value.astype(found.dtype))


@pytest.mark.parametrize(
    "builder",
    [
        HNNMassSpring,
        HNNPendulum,
        HNNTwoBody,
        HNNThreeBody,
        HNNRealPendulum,
        HNNPixelPendulum,
    ],
)
def test_card_is_found(builder, tmp_path):
    info = builder(data_dir=str(tmp_path)).info
    assert f"`{builder.name}`" in info.description
    assert "greydanus2019hamiltonian" in info.citation


def test_other_settings_under_one_name_are_refused(tmp_path):
    config = StateConfig(name="mine", num_train=1, num_test=1)
    HNNPendulum(config=config, data_dir=str(tmp_path)).download_and_prepare()
    other = StateConfig(name="mine", num_train=2, num_test=1)
    with pytest.raises(ValueError, match="same settings"):
        HNNPendulum(config=other, data_dir=str(tmp_path))


@pytest.mark.parametrize(
    "settings",
    [
        {"seed": -1},
        {"seed": 0.5},
        {"noise": -0.1},
        {"num_train": 0},
        {"num_test": 1.5},
    ],
)
def test_settings_that_cannot_be_are_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        StateConfig(name="mine", **settings)
