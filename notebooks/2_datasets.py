# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # The datasets: physics as video
#
# Pendulums, springs and bodies under gravity as TensorFlow Datasets, with
# frames, true states and energies. A small dataset is made in seconds, a full
# one in some minutes. This notebook runs in about a minute on a CPU.

# %%
# %matplotlib inline
import dataclasses

import IPython.display
import numpy as np
import tensorflow_datasets as tfds

import tfds_physics  # registers the datasets
from hgn_tf import data
from hgn_tf.viz import figures

for name in data.DATASETS:
    print(name, list(tfds.builder_cls(name).builder_configs))

# %% [markdown]
# Without a config, `physics_pendulum` is the paper's dataset: 50,000 videos
# with noise. The config `tiny` has 64 videos.

# %%
dataset = tfds.load("physics_pendulum/tiny", split="train")
examples = list(tfds.as_numpy(dataset.take(4)))
{name: np.shape(value) for name, value in examples[0].items()}

# %% [markdown]
# The frames, time running from left to right:

# %%
rows = {f"video {i}": example["video"] for i, example in enumerate(examples)}
figures.film_strip(rows, every=3, dt=float(examples[0]["dt"]))

# %% [markdown]
# The true states behind the frames. A model that learns from video never
# sees them:

# %%
q, p = (np.stack([example[name] for example in examples]) for name in "qp")
figures.phase_portrait(q, p)

# %%
energy = np.stack([example["energy"] for example in examples])
figures.energy_curves({"true": energy}, float(examples[0]["dt"]), unit="J")

# %% [markdown]
# Three bodies as a moving picture, with their energies:

# %%
recipe = data.get_builder("physics_three_body/tiny").recipe
made = tfds_physics.make_examples(recipe, "train", range(4))
IPython.display.Image(
    figures.preview(
        np.stack([example["video"] for example in made]),
        np.stack([example["energy"] for example in made]),
        made[0]["time"],
        "three_body.gif",
    )
)

# %% [markdown]
# ## A system of your own
#
# This config has other parameters: a pendulum with weak gravity, larger
# pictures and no noise. Any example can be made without the dataset.

# %%
moon = tfds_physics.PhysicsConfig(
    name="moon",
    system=dataclasses.replace(tfds_physics.SYSTEMS["pendulum"], gravity=0.5),
    noise=0.0,
    image_size=64,
    num_train=32,
    num_validation=8,
    num_test=8,
    num_test_long=0,
    num_validation_long=0,
)
builder = tfds.builder("physics_pendulum", config=moon)
slow = tfds_physics.make_examples(builder.recipe, "train", range(2))
rows = {f"moon {i}": example["video"] for i, example in enumerate(slow)}
figures.film_strip(rows, every=3, dt=float(slow[0]["dt"]))

# %% [markdown]
# `builder.download_and_prepare()` writes the dataset. After that it loads like
# the others.

# %%
builder.download_and_prepare()
builder.as_dataset(split="train").cardinality().numpy()
