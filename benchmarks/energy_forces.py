"""How soon a network of energies has a known potential, by its activation.

Run: python benchmarks/energy_forces.py [--steps 4000]

V(q) of the flat form is fitted to the true forces of a system, on the places
of its training videos. Nothing else of an HGN takes part: what is left is how
soon such a network bends. q is the true one, drawn out twice and turned into 16
numbers. Errors are shares of the square of the true force, on places of test
videos: that of all, and the largest of ten parts of the videos, which lie in
the order of their energies.
"""

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf

from hgn_tf import data, optimizers
from hgn_tf.networks import EnergyNet

SIZE = 16
BATCH = 256
STRETCH = 2.0
SYSTEMS = ("pendulum", "two_body")
NETS = {
    "softplus": {"activation": "softplus"},
    "silu": {"activation": "silu"},
    "tanh": {"activation": "tanh"},
    "sin": {"activation": "sin"},
}


def places_and_forces(system, split, count):
    """Places and forces of videos in 16 numbers each, and their energies."""
    recipe = data.get_builder(f"physics_{system}/small").recipe
    part = data.make_trajectories(recipe, split, range(count))
    slope, per_mass = recipe.system.gradient(part.q, np.ones_like(part.p))
    dof = recipe.system.dof
    rng = np.random.default_rng(0)
    turned = STRETCH * np.linalg.qr(rng.normal(size=(SIZE, SIZE)))[0][:dof]
    # Of unit mass, as K = |p|^2 / 2 has it; then forces stretch as places do.
    places, forces = (
        np.float32(np.reshape(x, [-1, dof]) @ turned)
        for x in (part.q, slope * per_mass)
    )
    return places, forces, np.repeat(np.ravel(part.energy), part.q.shape[1])


def force(net, q):
    with tf.GradientTape() as tape:
        tape.watch(q)
        energy = tf.reduce_sum(net(q))
    return tape.gradient(energy, q)


def fit(settings, train, test, steps):
    """Errors after a few counts of steps."""
    keras.utils.set_random_seed(0)
    net = EnergyNet([128, 128], convolutional=False, quadratic=True, **settings)
    net.build((None, SIZE))
    decay = keras.optimizers.schedules.CosineDecay(2e-3, steps, alpha=0.02)
    optimizer = optimizers.Muon(decay)
    weights = net.trainable_variables
    optimizer.build(weights)

    @tf.function
    def step(q, target):
        with tf.GradientTape() as tape:
            error = tf.math.squared_difference(force(net, q), target)
            loss = tf.reduce_mean(tf.reduce_sum(error, axis=1))
        optimizer.apply(tape.gradient(loss, weights), weights)

    rng, found = np.random.default_rng(1), []
    for count in range(1, steps + 1):
        chosen = rng.integers(0, len(train[0]), BATCH)
        step(train[0][chosen], train[1][chosen])
        if count in (steps // 8, steps // 2, steps):
            found.append(errors(net, *test))
    return found


def errors(net, q, target, energies):
    error = np.square(force(net, tf.constant(q)) - target).sum(axis=1)
    parts = np.array_split(np.argsort(energies), 10)
    square = np.square(target).sum(axis=1)
    shares = [error[part].mean() / square[part].mean() for part in parts]
    return error.mean() / square.mean(), max(shares)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=4000)
    steps = parser.parse_args().steps
    if steps < 8:
        parser.error("--steps must be 8 at least")
    counts = (steps // 8, steps // 2, steps)
    titles = [f"{count} steps" for count in counts]
    print("| system | activation |", " | ".join(titles), "|")
    print("|---|---|" + "---|" * len(counts))
    for system in SYSTEMS:
        train = places_and_forces(system, "train", 600)
        test = places_and_forces(system, "test", 200)
        for name, settings in NETS.items():
            found = fit(settings, train, test, steps)
            cells = [f"{mean:.1e}, {most:.1e}" for mean, most in found]
            print(f"| {system} | {name} |", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    main()
