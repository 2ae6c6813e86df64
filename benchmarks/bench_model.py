"""Cost of training steps and rollouts: CPU-seconds, and peak memory.

Each line is measured in a process of its own, so that its peak memory is its
own; the first call, which traces the graph, is not counted. Wall time depends
on what else the machine does: compare ratios from one run.

TensorFlow leaves oneDNN off on CPUs without AVX512-VNNI, where convolutions
gain by it all the same: here it is on, but in the lines that say otherwise.

bfloat16 is measured where the processor has units for it. Its lines are on one
thread: read them against those of one thread. "depth to space" is bfloat16 with
a decoder of one block less.
"""

import os
import subprocess
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

_ONE_THREAD = {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}
_WAYS = {
    "": ("paper", {}),
    ", one thread": ("paper", _ONE_THREAD),
    ", oneDNN off": ("paper", {"TF_ENABLE_ONEDNN_OPTS": "0"}),
    ", UpSampling2D then Conv2D as they are": ("plain", {}),
    ", bfloat16, one thread": ("bfloat16", _ONE_THREAD),
    ", bfloat16, depth to space, one thread": ("small", _ONE_THREAD),
    ", random anchor, 15 steps each way, one thread": ("anchor", _ONE_THREAD),
}
_HALVES = ("bfloat16", "small")
# Form, batch, frames decoded, environment.
STEPS = {
    f"paper's size, batch 16, {decoded} of 30 frames{way}": (
        form,
        16,
        decoded,
        environment,
    )
    for decoded in (30, 8)
    for way, (form, environment) in _WAYS.items()
} | {"cpu budget, pendulum, batch 32, 8 of 30 frames": ("flat", 32, 8, {})}
_PARTS_HEADING = "Where a step at the paper's size goes, on one thread:"
# Of a step at the paper's size, batch 16; the rest is the optimiser.
PARTS = {
    "encoder": ("encoder", 30),
    "29 steps of leapfrog": ("leapfrog", 30),
    "decoder, 30 frames": ("decoder", 30),
    "decoder, 8 frames": ("decoder", 8),
}
# Form, steps, batch, environment.
ROLLOUTS = {
    f"{form} form, {steps} steps and frames, batch {batch}": (
        form,
        steps,
        batch,
        {},
    )
    for form in ("paper", "flat")
    for steps in (30, 1000)
    for batch in (1, 16)
} | {
    f"paper form, 1000 steps and frames, batch 16{way}, one thread": (
        form,
        1000,
        16,
        _ONE_THREAD,
    )
    for form, way in (
        ("paper", ""),
        ("bfloat16", ", bfloat16"),
        ("small", ", bfloat16, depth to space"),
    )
}


def main():
    from hgn_tf.networks import has_bfloat16_units

    for kind, heading, lines in (
        ("step", "A training step:", STEPS),
        ("part", _PARTS_HEADING, PARTS),
        ("rollout", "A rollout with decoding, from a state:", ROLLOUTS),
    ):
        print(heading)
        for title, line in lines.items():
            if line[0] not in _HALVES or has_bfloat16_units():
                environment = _ONE_THREAD if kind == "part" else line[-1]
                _measure(kind, title, environment)


def _measure(kind, title, environment):
    # TensorFlow reads these when it is imported or first used.
    subprocess.run(
        [sys.executable, __file__, kind, title],
        check=True,
        env=os.environ | environment,
    )


def measure_step(form, batch, decoded, count=5):
    import keras
    import numpy as np
    import tensorflow as tf

    anchor = {"anchor": "random", "rollout_steps": 15, "shortest_window": 10}
    model = _model(
        form,
        num_decoded_frames=decoded,
        **(anchor if form == "anchor" else {}),
    )
    model.compile(keras.optimizers.Adam(1e-4))
    shape = (batch, 30, 32, 32, 3)
    video = np.random.default_rng(0).integers(0, 255, shape, np.uint8)
    step = tf.function(model.train_step)
    return _cost(lambda: step(video), count)


def measure_part(name, frames, batch=16, count=5):
    """A part forward, and back to its inputs and its weights."""
    import tensorflow as tf

    from hgn_tf import PhaseState, integrators

    model = _model("paper")
    q = tf.random.stateless_normal([batch * frames, 4, 4, 16], [0, 0])
    video = tf.random.stateless_normal([batch, 30, 32, 32, 3], [0, 1])

    def roll(q, p):
        state, energy = PhaseState(q, p), model.hamiltonian
        return integrators.rollout(
            energy, state, model.dt, 29, "leapfrog", unroll=True
        )

    start = [q[:batch], q[-batch:]]
    layer, part, inputs = {
        "encoder": (model.encoder, model.encoder, [video]),
        "leapfrog": (model.hamiltonian, roll, start),
        "decoder": (model.decoder, model.decoder, [q]),
    }[name]
    weights = [variable.value for variable in layer.trainable_variables]

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = tf.nest.flatten(part(*inputs))
            loss = sum(tf.reduce_sum(tf.square(each)) for each in outputs)
        return tape.gradient(loss, [*inputs, *weights])

    return _cost(step, count)


def measure_rollout(form, steps, batch, count=2):
    import tensorflow as tf

    from hgn_tf import PhaseState

    model = _model(form)
    shape = (1,) if form == "flat" else (4, 4, 16)
    q = tf.random.stateless_normal([batch, *shape], [0, 0])
    p = tf.random.stateless_normal([batch, *shape], [0, 1])

    def roll():
        states = model.rollout(PhaseState(q, p), steps, 0.01)
        return model.decode(states)

    return _cost(roll, count)


def _model(form, **kwargs):
    from hgn_tf import HGN, networks

    if form == "flat":
        parts = networks.flat_networks(latent_size=1)
    else:
        half = "mixed_bfloat16" if form in _HALVES else "float32"
        parts = networks.paper_networks(
            picture_dtype=half, depth_to_space=form == "small"
        )
    if form == "plain":
        parts["decoder"] = _plain_decoder(parts["decoder"])
    model = HGN(**parts, **kwargs)
    model.build((None, 30, 32, 32, 3))
    return model


def _plain_decoder(decoder, q_shape=(4, 4, 16)):
    """The same arithmetic written down as the paper does."""
    from keras import Model, layers

    q = x = layers.Input(q_shape)
    for width in decoder.filters:
        x = layers.UpSampling2D(2)(x)
        branch = x
        for _ in range(decoder.convolutions):
            branch = layers.Conv2D(width, 3, padding="same")(branch)
            branch = layers.LeakyReLU(0.2)(branch)
        skip = layers.Conv2D(width, 1, use_bias=False)(x)
        x = (skip + branch) * 0.5**0.5
    x = layers.Conv2D(decoder.channels, 3, padding="same")(x)
    return Model(q, x)


def _cost(call, count):
    import time

    from hgn_tf.training import peak_memory_mb

    call()  # traces the graph
    wall, cpu = time.time(), time.process_time()
    for _ in range(count):
        call()
    cpu, wall = time.process_time() - cpu, time.time() - wall
    return cpu / count, wall / count, peak_memory_mb()


if __name__ == "__main__":
    if len(sys.argv) == 1:
        main()
    else:
        kind, title = sys.argv[1:]
        if kind == "step":
            figures = measure_step(*STEPS[title][:3])
        elif kind == "part":
            figures = measure_part(*PARTS[title])
        else:
            figures = measure_rollout(*ROLLOUTS[title][:3])
        print(
            f"  {title:68s}{figures[0]:8.3f} CPU-s{figures[1]:8.3f} s"
            f"{figures[2]:8.0f} MB",
            flush=True,
        )
