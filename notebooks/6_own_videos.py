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
# # Your own videos
#
# A folder of clips, and nothing else: no state, no energy, no equation. A model
# sees five frames of a clip and forecasts the rest. Nothing is downloaded: the
# notebook films its own pendulum. All of it takes about five minutes on two
# CPU cores.

# %%
# %matplotlib inline
import os

import IPython.display
import keras
import numpy as np

import tfds_physics
from hgn_tf import data, evaluation
from hgn_tf.evaluation import format_scores
from hgn_tf.experiments.hgn import own
from hgn_tf.experiments.hgn.config import make_config, make_model
from hgn_tf.viz import figures, gif

# A few clips and steps only when the notebook is tested.
SMALL = "NOTEBOOK_SMALL" in os.environ
CLIPS, FRAMES = (8, 12) if SMALL else (200, 30)
EPOCHS, STEPS, BATCH = (1, 2, 4) if SMALL else (10, 250, 16)

# %% [markdown]
# ## Film
#
# A rod and a bob before a wall, with a shadow, and a camera that shakes a
# little. The clips are mp4. Put your own folder in the place of this one.

# %%
folder = tfds_physics.film_pendulum("clips", CLIPS, FRAMES)
sorted(path.name for path in folder.iterdir())[:3]

# %% [markdown]
# ## Look
#
# The dataset is made once, and read again whenever files and settings are the
# same. `find` measures what videos alone can tell.

# %%
builder = data.open_videos(folder, clip_frames=FRAMES)
found = own.find(builder)
print(own.describe(builder, found))
proposed = own.propose(found)
for name, proposal in proposed.items():
    print(f"{name}={proposal.value}: {proposal.why}")

# %%
test = data.load_split(builder, "test").video
figures.film_strip({"a clip": test[0]}, every=3, dt=found.dt)

# %% [markdown]
# ## Train
#
# The settings are those that `hgn-tf train clips` takes. The latent of 16
# coordinates knows nothing of a pendulum, which has one.

# %%
keras.utils.set_random_seed(0)
settings = {name: proposal.value for name, proposal in proposed.items()}
settings |= {"batch_size": BATCH, "num_steps": EPOCHS * STEPS}
config = make_config(
    data.dataset_name(builder),
    "demo",
    **settings | ({"warmup_steps": 1} if SMALL else {}),
)
model = make_model(config, builder)
batches = data.training_batches(builder, BATCH, seed=0, reversed_videos=True)
history = model.fit(batches, epochs=EPOCHS, steps_per_epoch=STEPS, verbose=2)

# %% [markdown]
# ## Forecast
#
# The error of the frames after the five seen stands beside those of the mean
# image and of the last frame seen, held still.

# %%
scores, arrays = evaluation.evaluate(model, builder)
print(format_scores(scores))

# %%
names = {
    "per_frame_model": "model",
    "per_frame_mean_image": "mean image",
    "per_frame_frozen_frame": "frozen first frame",
}
curves = {label: arrays[name] for name, label in names.items()}
figures.mse_curves(
    curves, model.dt, num_inference_frames=model.num_inference_frames
)

# %% [markdown]
# Above the recorded frames, which end and turn grey; below the model, which
# goes on for twice as long.

# %%
state = model.infer(test[:4])
drawn = model.decode(model.rollout(state, 2 * FRAMES - 1)).numpy()
recorded = np.full(drawn.shape, gif.GUTTER, np.uint8)
recorded[:, :FRAMES] = test[:4]
above = gif.side_by_side(list(recorded))
below = gif.side_by_side(list(drawn))
both = gif.side_by_side([above, below], vertical=True)
IPython.display.Image(gif.write_gif("forecast.gif", both))

# %% [markdown]
# `hgn-tf inspect clips` and `hgn-tf train clips` do the same in a folder with
# checkpoints, and write one page, `report.html`.
