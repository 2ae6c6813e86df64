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
# # Train a Hamiltonian Generative Network
#
# `model.fit` learns a law of motion from videos. Then the model is measured
# beside baselines that learned nothing. All of it takes about fifteen minutes
# on two CPU cores: 20,000 videos, 5,000 steps and the measures.

# %%
# %matplotlib inline
import os

import IPython.display
import keras
import numpy as np

import hgn_tf
from hgn_tf import data, evaluation, losses, metrics
from hgn_tf.evaluation import format_scores
from hgn_tf.experiments.hgn.config import measure_data
from hgn_tf.viz import figures, gif

# A few steps only when the notebook is tested.
SMALL = "NOTEBOOK_SMALL" in os.environ
DATASET = "physics_pendulum/tiny" if SMALL else "physics_pendulum/small_clean"
EPOCHS, STEPS = (1, 2) if SMALL else (20, 250)
BATCH = 4 if SMALL else 32

# %%
builder = data.get_builder(DATASET)
builder.download_and_prepare()
videos = data.training_batches(builder, BATCH, seed=0)
videos.element_spec

# %% [markdown]
# The flat form has a convolutional encoder, then MLPs. There is one latent
# coordinate, since a pendulum has one degree of freedom. GECO holds the error
# of the pictures at a tolerance that no constant image can meet.

# %%
keras.utils.set_random_seed(0)
model = hgn_tf.HGN(
    **hgn_tf.networks.flat_networks(latent_size=1),
    num_inference_frames=5,
    num_decoded_frames=8,
    curriculum_steps=1500,
    geco=losses.Geco(measure_data(builder, 2.5e-4)[0], limits=(0.01, 1.0)),
)
rate = keras.optimizers.schedules.CosineDecay(
    0.0, EPOCHS * STEPS, warmup_target=2e-3, warmup_steps=50, alpha=0.02
)
model.compile(keras.optimizers.Adam(rate))
history = model.fit(videos, epochs=EPOCHS, steps_per_epoch=STEPS, verbose=2)

# %%
log = {"epoch": history.epoch, **history.history}
log = {name: np.array(values) for name, values in log.items()}
figures.training_curves(log)

# %% [markdown]
# ## What the model is worth
#
# The table sets the model beside the mean image, which a model that learned
# nothing draws, and beside the frozen first frame. The learned energy should
# be a rising line over the true energy. A rollout that is run backward should
# return to its start.

# %%
scores, arrays = evaluation.evaluate(model, builder, num_examples=200)
print(format_scores(scores))

# %%
names = {
    "per_frame_model": "model",
    "per_frame_mean_image": "mean image",
    "per_frame_frozen_frame": "frozen first frame",
}
curves = {label: arrays[name] for name, label in names.items()}
figures.mse_curves(curves, model.dt, num_inference_frames=5)

# %%
r2 = metrics.r_squared(arrays["energy_learned"], arrays["energy_true"])
figures.energy_scatter(arrays["energy_true"], arrays["energy_learned"], r2)

# %%
above = gif.side_by_side(list(arrays["truth_backward"]))
below = gif.side_by_side(list(arrays["model_backward"]))
both = gif.side_by_side([above, below], vertical=True)
IPython.display.Image(gif.write_gif("backward.gif", both))

# %% [markdown]
# `hgn-tf train physics_pendulum/small_clean --budget demo` trains on the same
# videos, a model that is told less. Its folder has checkpoints, and all of
# this as one page, `report.html`.
