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
# # Neural Hamiltonian Flows: densities
#
# Hamiltonian dynamics as a normalizing flow: learned Hamiltonians move a prior
# over phase space to the density of the points. The notebook draws figure 9 of
# the paper. It runs in about four minutes on a CPU.

# %%
# %matplotlib inline
import os

import IPython.display
import keras
import numpy as np

from hgn_tf.densities import get_density
from hgn_tf.experiments.nhf.config import VARIANTS, make_model
from hgn_tf.experiments.nhf.figures import write_figure

SMALL = "NOTEBOOK_SMALL" in os.environ
STEPS = 20 if SMALL else 8000

# %% [markdown]
# The entropy of nine Gaussians is known. So the loss of a model in nats is
# known too.

# %%
density = get_density("nine_gaussians")
points = density.sample(128 * STEPS, seed=0)
density.entropy()

# %% [markdown]
# The flow has one Hamiltonian, p^2 / 2 + V(q), and four leapfrog steps. Its
# potential gets a minimum at every mode.

# %%
keras.utils.set_random_seed(0)
row = VARIANTS["nhf_fixed_kinetic"]
settings = row.settings_for("nine_gaussians")
model = make_model("nhf", settings, density, row.learning_rate, STEPS, 0)
model.fit(points, batch_size=128, epochs=1, verbose=2)
model.count_params()

# %%
test = density.sample(200, seed=1)
found = model.importance(test, num_samples=1000)
gap = np.mean(density.log_prob(test) - found.log_prob.numpy())
print(f"{gap:.3f} nats from the truth")

# %% [markdown]
# The figure shows the target and the learned density, the energies with the
# minima of V, one step, and the whole flow:

# %%
write_figure(model, density, "figure9.png")
IPython.display.Image("figure9.png")

# %% [markdown]
# With K(p) learned too and more Hamiltonians, the density is better and V has
# no such minima: see `VARIANTS["nhf_best"]`. `hgn-tf table nhf` compares these
# flows with RealNVP, MAF and neural splines.
