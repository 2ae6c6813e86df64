"""What Apache Beam costs: the same dataset, plain and by the DirectRunner.

Run: python benchmarks/bench_beam.py [--trajectories 4096] [--system pendulum]

CPU-seconds are those of all processes, so they say the same on a machine that
is busy with other work. Those of a dataset of 8 videos are the start: imports,
and the pipeline. The rate is that of the videos past those 8.
"""

import argparse
import contextlib
import importlib.util
import os
import resource
import subprocess
import sys
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import tensorflow_datasets as tfds

import tfds_physics

FEW = 8
WAYS = {
    "plain": None,
    "Beam, 1 worker": "direct_num_workers=1,direct_running_mode=in_memory",
    "Beam, 2 workers": "direct_num_workers=2,"
    "direct_running_mode=multi_processing",
}


def prepare(system, way, count):
    """Makes a dataset; returns CPU-seconds and the memory of all processes."""
    config = tfds_physics.PhysicsConfig(
        name="bench",
        num_train=count,
        num_validation=0,
        num_test=0,
        num_test_long=0,
        num_validation_long=0,
    )
    settings = tfds.download.DownloadConfig(try_download_gcs=False)
    if WAYS[way]:
        settings.beam_options = tfds_physics.parse_beam_options(WAYS[way])
    with tempfile.TemporaryDirectory() as folder:
        builder = tfds.builder(
            f"physics_{system}", config=config, data_dir=folder
        )
        with contextlib.redirect_stdout(sys.stderr):
            builder.download_and_prepare(download_config=settings)
        builder.check_whole()
    usage = [
        resource.getrusage(who)
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    ]
    seconds = sum(each.ru_utime + each.ru_stime for each in usage)
    return seconds, [each.ru_maxrss / 1024 for each in usage]


def measure(system, way, count):
    """The same in a process of its own."""
    run = subprocess.run(
        [sys.executable, __file__, "--system", system]
        + ["--trajectories", str(count), "--way", way],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=True,
    )
    return [float(word) for word in run.stdout.split()]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trajectories", type=int, default=4096)
    parser.add_argument("--system", default="pendulum")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    system, count = options.system, options.trajectories
    if options.way:
        seconds, memory = prepare(system, options.way, count)
        print(seconds, *memory)
        return
    if importlib.util.find_spec("apache_beam") is None:
        print("Apache Beam is not installed: pip install 'hgn-tf[beam]'")
        return
    print(f"{count} videos of physics_{system}, 30 frames of 32x32:")
    for way in WAYS:
        start, *_ = measure(system, way, FEW)
        seconds, own, child = measure(system, way, count)
        rate = (count - FEW) / (seconds - start)
        print(
            f"{way:16}{start:6.1f} CPU-s to start, {rate:5.0f} videos per "
            f"CPU-second after that; peak memory {own:.0f} MB, of the largest "
            f"other process {child:.0f} MB",
            flush=True,
        )


if __name__ == "__main__":
    main()
