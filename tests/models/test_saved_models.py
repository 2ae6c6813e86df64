"""Models saved by the code of 26 November 2026 load and give its numbers.

`tests/data/saved_models` was written at commit 503b90d, before the modules
were moved: two optimiser steps of each model, and what it gave afterwards.
"""

import pathlib

import keras
import numpy as np
import pytest

import hgn_tf

FOLDER = pathlib.Path(__file__).parent.parent / "data" / "saved_models"
VIDEO_MODELS = ["hgn_flat", "hgn_convolutional"]
VIDEO_MODELS += ["pixel_hnn_dense", "pixel_hnn_convolutional"]
STATE_MODELS = ["hnn", "hnn_separable", "derivative_net"]


@pytest.fixture(scope="module")
def outputs():
    with np.load(FOLDER / "outputs.npz") as arrays:
        return dict(arrays)


def load(name):
    return keras.saving.load_model(FOLDER / f"{name}.keras")


def assert_close(found, expected):
    # float32, on another machine.
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def decoded(model, videos):
    path = model.rollout(model.infer(videos), 4)
    return model.decode(path)


@pytest.mark.parametrize("name", VIDEO_MODELS)
def test_saved_video_model_gives_the_same_numbers(name, outputs):
    model, videos = load(name), outputs["videos"]
    path = model.rollout(model.infer(videos), 4)
    assert_close(path.q, outputs[f"{name}/q"])
    assert_close(path.p, outputs[f"{name}/p"])
    assert_close(model.energy(path), outputs[f"{name}/energy"])
    assert_close(decoded(model, videos), outputs[f"{name}/video"])


@pytest.mark.parametrize("name", VIDEO_MODELS)
def test_saved_video_model_trains_on_alike(name, outputs):
    model, videos = load(name), outputs["videos"]
    model.run_eagerly = True  # a graph takes longer to trace
    model.fit(videos, batch_size=4, shuffle=False, verbose=0)
    found = decoded(model, videos)
    # Adam magnifies the rounding of gradients that are about 0.
    expected = outputs[f"{name}/trained_on"]
    np.testing.assert_allclose(found, expected, atol=1e-3)
    assert np.abs(expected - outputs[f"{name}/video"]).max() > 1e-2


@pytest.mark.parametrize("name", ["hgn_flat", "hgn_convolutional"])
def test_saved_hgn_samples_the_same_motions(name, outputs):
    samples = load(name).sample(2, 3, seed=1).video
    assert_close(samples, outputs[f"{name}/samples"])


@pytest.mark.parametrize("name", STATE_MODELS)
def test_saved_state_model_gives_the_same_field(name, outputs):
    field = load(name).time_derivative(outputs["states"])
    assert_close(field, outputs[f"{name}/field"])


def test_preset_of_before_gives_the_same_video(outputs):
    model = hgn_tf.HGN.from_preset(FOLDER / "preset")
    assert_close(decoded(model, outputs["videos"]), outputs["preset/video"])
