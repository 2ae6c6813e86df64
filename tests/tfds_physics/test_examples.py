"""Examples: the same bytes everywhere, each from its own seed."""

import dataclasses
import hashlib

import numpy as np
import pytest
import tensorflow_datasets as tfds

import tfds_physics
from tfds_physics import SYSTEMS, make_examples
from tfds_physics.video import examples


def assert_same_example(left, right):
    assert left.keys() == right.keys()
    for name, value in left.items():
        if name == "parameters":
            assert value.keys() == right[name].keys()
        elif name != "id":
            np.testing.assert_array_equal(value, right[name])
            assert np.asarray(value).shape == np.asarray(right[name]).shape


def recipe(name="pendulum", **changes):
    builder = tfds.builder(f"physics_{name}/tiny")
    return dataclasses.replace(builder.recipe, **changes)


def test_loaded_examples_are_those_made_alone(tiny):
    frames = {"validation": 30, "test_long": 240, "validation_long": 60}
    for split, num_frames in frames.items():
        rows = tfds.as_numpy(tiny.as_dataset(split=split))
        loaded = {row["id"].decode(): row for row in rows}
        assert len(loaded) == tiny.builder_config.sizes[split]
        for name, example in list(loaded.items())[:3]:
            index = int(name.rpartition("/")[2])
            (made,) = make_examples(tiny.recipe, split, [index])
            assert made["id"] == name
            assert example["video"].shape == (num_frames, 32, 32, 3)
            assert example["q"].shape == (num_frames, 4)
            assert_same_example(example, made)


def test_states_of_an_example_obey_the_system(tiny):
    example = next(iter(tfds.as_numpy(tiny.as_dataset(split="train"))))
    system = tiny.recipe.system
    q, p = example["q"].astype(float), example["p"].astype(float)
    dH_dq, dH_dp = system.gradient(q, p)
    # Single precision, 6e-8, of values of order 1.
    np.testing.assert_allclose(example["dq_dt"], dH_dp, atol=1e-6)
    np.testing.assert_allclose(example["dp_dt"], -dH_dq, atol=1e-5)
    np.testing.assert_allclose(
        example["energy"], system.hamiltonian(q, p), atol=1e-5
    )
    np.testing.assert_allclose(np.ptp(example["energy"]), 0, atol=1e-6)
    np.testing.assert_array_equal(example["time"], 0.125 * np.arange(30))
    assert example["dt"] == 0.125
    assert example["parameters"] == system.parameters


def test_clean_video_shows_the_states_and_noisy_ones_do_not():
    (clean,) = make_examples(recipe(noise=0.0), "train", [3])
    (noisy,) = make_examples(recipe(), "train", [3])
    q = clean["q"]
    np.testing.assert_array_equal(q, noisy["q"])
    drawn = tfds_physics.render_video(SYSTEMS["pendulum"], q, 32).astype(int)
    # The state was rounded to single precision after it was drawn.
    assert np.abs(drawn - clean["video"]).max() <= 1
    assert np.abs(drawn - noisy["video"]).mean() > 1


GOLDEN = {
    "mass_spring": "e79ab64bf600bf14",
    "pendulum": "b70c21aa313f414d",
    "two_body": "fde1cbc1b8093db5",
    "three_body": "ff6401d4008f3a1c",
    "double_pendulum": "aad09f5bd5ec1893",
}


@pytest.mark.parametrize("name", SYSTEMS)
def test_bytes_never_change(name):
    (example,) = make_examples(recipe(name), "train", [7])
    digest = hashlib.sha256()
    for feature in ("video", "q", "p", "energy"):
        digest.update(np.ascontiguousarray(example[feature]))
    digest.update(str(example["seed"]).encode())
    # If this must change, raise VERSION: prepared folders go by it.
    assert digest.hexdigest()[:16] == GOLDEN[name]


@pytest.mark.parametrize("name", SYSTEMS)
def test_example_depends_on_its_index_alone(name):
    whole = make_examples(recipe(name), "test", range(9))
    shuffled = make_examples(recipe(name), "test", [8, 2, 5])
    for index, example in zip([8, 2, 5], shuffled):
        assert_same_example(example, whole[index])


def test_chunks_hold_each_example_once(monkeypatch):
    monkeypatch.setattr(examples, "_CHUNK_BYTES", 3 * 30 * 32 * 32 * 3)
    chunks = examples.chunk_indices(recipe(), "test", 8)
    assert chunks == [range(0, 3), range(3, 6), range(6, 8)]
    longer = examples.chunk_indices(recipe(), "test_long", 2)
    assert longer == [range(0, 1), range(1, 2)]


def test_seeds_differ_between_splits_and_configs():
    seeds = [
        examples.example_seed(dataset, config, split, index)
        for dataset in ("physics_pendulum", "physics_two_body")
        for config in ("paper", "small")
        for split in examples.SPLITS
        for index in (0, 1, 2, 49_999, 2**40 - 1)
    ]
    assert len(set(seeds)) == len(seeds) == 100
    assert min(seeds) >= 0 and max(seeds) < 2**63


def test_seeds_count_the_splits_in_the_order_of_their_addition():
    """Another order would change the bytes of data that were made before."""
    order = ("train", "validation", "test", "test_long", "validation_long")
    seeds = [
        examples.example_seed("physics_pendulum", "small", split, 5)
        for split in order
    ]
    assert seeds == [(seeds[0] + n * 2**40) % 2**63 for n in range(5)]


def test_seeds_and_examples_refuse_what_is_no_example():
    with pytest.raises(ValueError, match="`split` must be one of"):
        make_examples(recipe(), "valid", [0])
    with pytest.raises(ValueError, match="`index` must be"):
        make_examples(recipe(), "train", [-1])
    with pytest.raises(ValueError, match="`index` must be"):
        make_examples(recipe(), "train", [2**40])
