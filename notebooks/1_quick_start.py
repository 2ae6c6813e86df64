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
# # Quick start: a trained model, rolled out
#
# A Hamiltonian Generative Network that ships with the package infers a state
# (q, p) from the frames of a video and rolls it out: forward, backward, at
# double and half speed. Runs in about a minute on a CPU.

# %%
# %matplotlib inline
import IPython.display

import hgn_tf
from hgn_tf import data
from hgn_tf.viz import figures, gif

hgn_tf.list_presets()

# %% [markdown]
# The card of the model says what it was trained on and what it reached:

# %%
model = hgn_tf.HGN.from_preset("hgn_pendulum")
card = hgn_tf.presets.card("hgn_pendulum")
card["dataset"], card["metrics"]["test_fvu"], card["metrics"]["energy_r2"]

# %% [markdown]
# Four pendulums that the model has never seen: videos [4, 30, 32, 32, 3].

# %%
builder = data.get_builder(card["dataset"])
fresh = data.make_trajectories(builder.recipe, "test", range(90_000, 90_004))
fresh.video.shape

# %% [markdown]
# The model infers a state from the frames, 16 numbers q and 16 numbers p per
# video. It was not told that a pendulum has one of each. Then it rolls the
# state out: one line per direction and speed.

# %%
state = model.infer(fresh.video)
forward = model.decode(model.rollout(state, num_steps=29))
backward = model.decode(model.rollout(state, 29, dt=-0.125))
double_speed = model.decode(model.rollout(state, 29, dt=0.25))
half_speed = model.decode(model.rollout(state, 29, dt=0.0625))

# %%
rows = {
    "seen": fresh.video[0],
    "forward": forward[0],
    "backward": backward[0],
    "double speed": double_speed[0],
    "half speed": half_speed[0],
}
figures.film_strip(rows, every=3, dt=model.dt)

# %% [markdown]
# The same as a moving picture: the true frames above, the model's below.

# %%
above = gif.side_by_side(list(fresh.video))
below = gif.side_by_side(list(forward.numpy()))
both = gif.side_by_side([above, below], vertical=True)
IPython.display.Image(gif.write_gif("forward.gif", both))

# %% [markdown]
# The learned energy is conserved along the rollouts:

# %%
energy = model.energy(model.rollout(state, 29)).numpy()
figures.energy_curves({"learned": energy}, model.dt)

# %% [markdown]
# States drawn from the prior give motions that nobody filmed:

# %%
samples = model.sample(num_samples=6, num_steps=29, seed=0).video.numpy()
sheet = gif.side_by_side(list(samples))
IPython.display.Image(gif.write_gif("samples.gif", sheet))
