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
# # Hamiltonian Neural Networks from states
#
# A Hamiltonian Neural Network learns H(q, p) from noisy states and their
# derivatives. Beside it stands a network that learns the derivatives
# themselves. This notebook runs in about two minutes on a CPU.

# %%
# %matplotlib inline
import os

import keras
import numpy as np
import tensorflow_datasets as tfds

import hgn_tf
import tfds_physics  # registers the datasets
from hgn_tf.viz import figures

SMALL = "NOTEBOOK_SMALL" in os.environ
EPOCHS = 20 if SMALL else 2000

# %%
rows = tfds.load("hnn_pendulum", split="train", batch_size=-1)
x, dx_dt = rows["x"], rows["dx_dt"]
x.shape

# %% [markdown]
# Two models of the same size. The first learns one number, the energy, and
# moves by Hamilton's equations. The second learns the motion itself.

# %%
models = {
    "HNN": hgn_tf.HNN(units=(200, 200), weight_decay=1e-4),
    "baseline": hgn_tf.DerivativeNet(units=(200, 200), weight_decay=1e-4),
}
for name, model in models.items():
    keras.utils.set_random_seed(0)
    model.compile(keras.optimizers.Adam(1e-3), loss="mse", jit_compile=True)
    losses = model.fit(x, dx_dt, batch_size=1125, epochs=EPOCHS, verbose=0)
    print(name, losses.history["loss"][-1])

# %% [markdown]
# The losses of the two are alike: both are at the floor of the noise. The
# motions differ. They begin at three starts and go to t = 20, seven times the
# span of training.

# %%
starts = np.array([[1.3, 0.0], [1.8, 0.0], [2.2, 0.0]])
times = np.linspace(0, 20, 200)
system = tfds_physics.SYSTEMS["pendulum"]
paths = {
    name: model.integrate(starts, t_span=(0, 20), t_eval=times)
    for name, model in models.items()
}
figures.phase_portrait(*np.split(paths["HNN"], 2, axis=-1))

# %%
figures.phase_portrait(*np.split(paths["baseline"], 2, axis=-1))

# %% [markdown]
# The true energy, 3 (1 - cos q) + p^2, along the paths:

# %%
energies = {
    name: 3 * (1 - np.cos(path[..., 0])) + path[..., 1] ** 2
    for name, path in paths.items()
}
figures.energy_curves(energies, times[1] - times[0], unit="J")

# %% [markdown]
# The fields that they learned, over the plane of q and p, with the paths:

# %%
q, p = np.meshgrid(np.linspace(-3, 3, 15), np.linspace(-3, 3, 15))
lattice = np.stack([q.ravel(), p.ravel()], axis=-1)
fields = {"true": (2 * p, -3 * np.sin(q))}
for name, model in models.items():
    slope = np.asarray(model.time_derivative(lattice))
    fields[name] = slope.T.reshape(2, *q.shape)
shown = {name: np.moveaxis(path, -1, 0) for name, path in paths.items()}
figures.vector_fields(q, p, fields, shown)

# %% [markdown]
# A learned energy can be raised: half way through a motion the state is moved
# up the gradient of H. The HNN then swings on, wider. `hgn-tf rollout
# --add-energy` does the same with a model of videos.

# %%
half, later = times[times <= 10], times[times > 10]
before = models["HNN"].integrate(starts, (0, half[-1]), half)
state = hgn_tf.PhaseState(
    *np.split(before[:, -1].astype(np.float32), 2, axis=-1)
)
raised = hgn_tf.phase.add_energy(models["HNN"].hamiltonian, state, 1.0)
after = models["HNN"].integrate(
    np.concatenate(raised, axis=-1), (half[-1], 20), later
)
whole = np.concatenate([before, after], axis=1)
figures.phase_portrait(*np.split(whole, 2, axis=-1))

# %% [markdown]
# `hgn-tf table hnn` runs all six tasks of the paper with three seeds. It adds
# the measures that the paper's table leaves out.
