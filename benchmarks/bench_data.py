"""Cost of the datasets: simulation, drawing, encodings, TFDS.

Run: python benchmarks/bench_data.py [--trajectories 2048]

Rates are per CPU-second (time.process_time) of one process, so they say the
same on a machine that is busy with other work. CPU-seconds of reading are
those of all of TensorFlow's threads.
"""

import argparse
import contextlib
import os
import pathlib
import sys
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from tfds_physics import (
    SYSTEMS,
    PhysicsConfig,
    expected_video,
    make_examples,
    render_video,
)


@contextlib.contextmanager
def cpu_seconds():
    spent = []
    start = time.process_time()
    yield spent
    spent.append(time.process_time() - start)


def bench_systems(count):
    print(f"Per CPU-second, {count} trajectories of 30 frames, 32x32:")
    print(f"{'':16}{'simulate':>9}{'draw':>9}{'both':>9}  drift")
    for name, system in SYSTEMS.items():
        rng = np.random.default_rng(0)
        states = [system.sample_state(rng) for _ in range(count)]
        q0, p0 = (np.stack(each) for each in zip(*states, strict=True))
        with cpu_seconds() as simulating:
            q, p = system.simulate(q0, p0, 0.125 * np.arange(30))
        with cpu_seconds() as drawing:
            render_video(system, q, 32)
        energy = system.hamiltonian(q, p)
        drift = np.abs(energy / energy[:, :1] - 1).max()
        seconds = [*simulating, *drawing]
        rates = [count / each for each in (*seconds, sum(seconds))]
        print(f"{name:16}" + "".join(f"{r:9.0f}" for r in rates), end="")
        print(f"  {drift:.0e}")


def bench_floors(count):
    print("\nPixel MSE x 1e4 of the mean image and of the noise floor:")
    for name, system in SYSTEMS.items():
        rng = np.random.default_rng(1)
        states = [system.sample_state(rng) for _ in range(count)]
        q0, p0 = (np.stack(each) for each in zip(*states, strict=True))
        q, _ = system.simulate(q0, p0, 0.125 * np.arange(30))
        errors = []
        for noise in (0.0, system.noise):
            noisy = q + noise * rng.standard_normal(q.shape)
            video = render_video(system, noisy, 32) / np.float32(255)
            errors.append(1e4 * video.var(axis=(0, 1)).mean())
        _, variance = expected_video(
            system, q[::4, ::5], system.noise, num_samples=32
        )
        print(
            f"{name:16} mean image {errors[0]:6.1f} clean, {errors[1]:6.1f} "
            f"noisy; floor {1e4 * variance.mean():5.1f}"
        )


def bench_encodings(count):
    tensor, video = tfds.features.Tensor, tfds.features.Video
    frame = (32, 32, 3)
    shape = (None, *frame)
    encodings = {
        "Tensor zlib": tensor(shape=shape, dtype=np.uint8, encoding="zlib"),
        "Tensor bytes": tensor(shape=shape, dtype=np.uint8, encoding="bytes"),
        "Video png": video(shape=shape),
    }
    recipe = tfds.builder("physics_pendulum/small").recipe
    videos = [e["video"] for e in make_examples(recipe, "train", range(count))]
    print("\nEncodings of a noisy pendulum's video, per example:")
    for name, feature in encodings.items():
        features = tfds.features.FeaturesDict({"video": feature})
        with cpu_seconds() as writing:
            rows = [features.serialize_example({"video": v}) for v in videos]
        dataset = tf.data.Dataset.from_tensor_slices(rows)
        dataset = dataset.repeat(3).map(features.deserialize_example)
        with cpu_seconds() as reading:
            for _ in dataset:
                pass
        print(
            f"{name:16}{np.mean([len(row) for row in rows]):9.0f} bytes, "
            f"{1e3 * writing[0] / count:6.2f} ms to write, "
            f"{3 * count / reading[0]:6.0f} read per CPU-second"
        )


def bench_tfds(count):
    print("\nThrough TFDS, one process, a split of", count, "trajectories:")
    for name in SYSTEMS:
        config = PhysicsConfig(
            name="bench",
            num_train=count,
            num_validation=0,
            num_test=0,
            num_test_long=0,
            num_validation_long=0,
        )
        with tempfile.TemporaryDirectory() as folder:
            builder = tfds.builder(
                f"physics_{name}", config=config, data_dir=folder
            )
            hidden = contextlib.redirect_stderr(open(os.devnull, "w"))
            with hidden, contextlib.redirect_stdout(sys.stderr):
                with cpu_seconds() as spent:
                    builder.download_and_prepare()
            files = pathlib.Path(folder).rglob("*.tfrecord*")
            size = sum(path.stat().st_size for path in files) / count
        print(
            f"{name:16}{count / spent[0]:6.0f} written per CPU-second, "
            f"{size:6.0f} bytes on disk each"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trajectories", type=int, default=2048)
    count = parser.parse_args().trajectories
    few = min(count, 512)  # these hold all their frames in memory
    bench_systems(few)
    bench_floors(few)
    bench_encodings(few)
    bench_tfds(count)


if __name__ == "__main__":
    main()
