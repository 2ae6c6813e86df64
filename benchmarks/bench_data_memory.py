"""Training from the disk: memory and CPU-seconds, whatever the split's size.

Run: python benchmarks/bench_data_memory.py [--sizes 2000 20000 65000]
       [--folder FOLDER] [--steps 60]

Makes a dataset of pendulums of each size, 30 frames of 32x32, unless it is in
the folder already: a run that was stopped goes on with the one that it was at.
Without a folder the datasets go when the run ends; they take 0.8 GB. Then
trains the model of the budget flat on each, in a process of its own.

Peak memory is that of the process: imports, model and data. The files are read
and not mapped, so what the system keeps of them is not in it. CPU-seconds are
those of all of TensorFlow's threads. An epoch's batches are made without the
model first, so that whatever an epoch leaves in memory is there.
"""

import argparse
import contextlib
import os
import pathlib
import subprocess
import sys
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

BATCH, FRAMES = 32, (30, 32, 32, 3)


def make_builder(folder, size):
    import tensorflow_datasets as tfds

    import tfds_physics

    config = tfds_physics.PhysicsConfig(
        name=f"bench_{size}",
        num_train=size,
        num_validation=0,
        num_test=0,
        num_test_long=0,
        num_validation_long=0,
    )
    return tfds.builder("physics_pendulum", config=config, data_dir=folder)


def prepare(folder, size):
    with contextlib.redirect_stdout(sys.stderr):
        make_builder(folder, size).download_and_prepare()


def measure(folder, size, steps):
    """Prints what a line of the table says, of this process."""
    import keras
    import numpy as np

    from hgn_tf import HGN, data, networks, training

    model = HGN(**networks.flat_networks(latent_size=1), num_decoded_frames=8)
    model.compile(keras.optimizers.Adam(1e-3))
    model.train_on_batch(np.zeros((BATCH, *FRAMES), np.uint8))
    without = training.peak_memory_mb()

    start = time.process_time()
    builder = make_builder(folder, size)
    epoch = iter(data.training_batches(builder, BATCH, seed=0))
    next(epoch)
    first = time.process_time()
    count = size // BATCH - 1
    for _ in range(count):
        next(epoch)
    batches = time.process_time() - first

    costs = model.fit(
        data.training_batches(builder, BATCH, seed=0),
        epochs=2,  # the first traces the graph
        steps_per_epoch=steps,
        callbacks=[training.Cost()],
        verbose=0,
    ).history
    print(
        f"{size:8,d}{first - start:12.2f}{1e3 * batches / count:12.2f}"
        f"{1e3 * costs['cpu_seconds'][-1] / steps:12.1f}{without:10.0f}"
        f"{costs['peak_memory_mb'][-1]:10.0f}",
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=[2_000, 20_000, 65_000]
    )
    parser.add_argument("--folder", type=pathlib.Path)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument(
        "--only", choices=["prepare", "measure"], help=argparse.SUPPRESS
    )
    options = parser.parse_args()
    if options.only:
        (size,) = options.sizes
        if options.only == "prepare":
            prepare(options.folder, size)
        else:
            measure(options.folder, size, options.steps)
        return
    print(
        "  videos  CPU-s to    CPU-ms      CPU-ms per     peak MB\n"
        "          first batch per batch   training step  before  after",
        flush=True,
    )
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or temporary
        for size in options.sizes:
            for part in ("prepare", "measure"):
                run_alone(part, folder, size, options.steps)


def run_alone(part, folder, size, steps):
    """In a process of its own, whose memory is that of the part alone."""
    subprocess.run(
        [sys.executable, __file__, "--only", part, "--folder", folder]
        + ["--sizes", str(size), "--steps", str(steps)],
        check=True,
    )


if __name__ == "__main__":
    main()
