"""Figures 5 and 10 of the paper, which need no trained model."""

import numpy as np
import tensorflow as tf

import tfds_physics
from hgn_tf import data, integrators, motion_plots, plotting
from hgn_tf.phase import PhaseState

_CENTRE, _RADIUS = (1.2, 0.0), 0.35  # of the patch
_RIM = 400
_STEPS, _DT, _EVERY = 24, 0.25, 6


def datasets():
    """Figure 5: the first training video of each dataset, in time."""
    rows = {}
    for name in data.DATASETS:
        recipe = data.get_builder(name).recipe
        (example,) = tfds_physics.make_examples(recipe, "train", [0])
        rows[name.removeprefix("physics_")] = example["video"]
    return plotting.film_strip(rows, 3, recipe.dt)


def volumes():
    """Figure 10: a patch of a pendulum's phase space, leapfrog and Euler."""
    angle = np.linspace(0, 2 * np.pi, _RIM, endpoint=False)
    rim = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    q, p = np.split(_CENTRE + _RADIUS * rim, 2, axis=1)
    paths = {}
    for name in ("leapfrog", "euler"):
        states = integrators.rollout(
            _Pendulum(),
            PhaseState(*map(tf.constant, (q, p))),
            _DT,
            _STEPS,
            name,
        )
        path = np.concatenate([part.numpy() for part in states], axis=-1)
        paths[name] = path.transpose(1, 0, 2)
    return motion_plots.patch_volumes(paths, _EVERY)


FIGURES = {5: datasets, 10: volumes}


class _Pendulum:
    """H = p^2 / 2 + 1 - cos q."""

    def kinetic(self, p):
        return tf.reduce_sum(tf.square(p), axis=-1) / 2

    def potential(self, q):
        return tf.reduce_sum(1 - tf.cos(q), axis=-1)

    def __call__(self, q, p):
        return self.kinetic(p) + self.potential(q)
