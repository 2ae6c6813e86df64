"""What a training step costs in CPU-seconds: alone, on replicas, on workers.

One process, two replicas on two logical CPUs of one process, and two workers on
the loopback address, one after another. The batch is the same, of all replicas
together. CPU-seconds are those of all processes, after the first steps.
"""

import json
import os
import socket
import subprocess
import sys
import time

# Those of a process that is measured.
ENVIRONMENT = {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
}
WARM, STEPS, BATCH = 3, 12, 32


def measure(strategy):
    """CPU-seconds per step of this process, and its share of the batch."""
    import keras
    import numpy as np
    import tensorflow as tf

    from hgn_tf import HGN, networks, replicas

    if strategy == "mirrored":
        tf.config.set_logical_device_configuration(
            tf.config.list_physical_devices("CPU")[0],
            [tf.config.LogicalDeviceConfiguration()] * 2,
        )
    made = replicas.make_strategy(None if strategy == "alone" else strategy)
    # As the budget flat.
    with made.scope():
        model = HGN(
            **networks.flat_networks(latent_size=16, position_net=True),
            num_decoded_frames=8,
            shortest_window=10,
            anchor="random",
            rollout_steps=20,
            agreement=1.0,
            agreement_ramp=(0, 1),
            reversible=True,
            positions=3.0,
        )
        model.compile(keras.optimizers.Adam(1e-3))
    video = np.random.default_rng(0).integers(
        0, 256, (BATCH, 30, 32, 32, 3), np.uint8
    )

    class Clock(keras.callbacks.Callback):
        times = []

        def on_train_batch_end(self, batch, logs=None):
            self.times.append(time.process_time())

    batches = tf.data.Dataset.from_tensors(video).repeat()
    with replicas.heeding_workers(made):
        model.fit(
            batches,
            steps_per_epoch=WARM + STEPS,
            verbose=0,
            callbacks=[Clock()],
        )
    print((Clock.times[-1] - Clock.times[WARM - 1]) / STEPS, flush=True)


def run(strategy, environments):
    """The CPU-seconds per step of all processes."""
    processes = [
        subprocess.Popen(
            [sys.executable, __file__, strategy],
            env={**os.environ, **ENVIRONMENT, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for environment in environments
    ]
    found = []
    for process in processes:
        out, errors = process.communicate()
        if process.returncode:
            raise SystemExit(errors)
        found.append(float(out.split()[-1]))
    return found


def main():
    with socket.create_server(("127.0.0.1", 0)) as one:
        with socket.create_server(("127.0.0.1", 0)) as other:
            ports = [each.getsockname()[1] for each in (one, other)]
    cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
    tasks = [
        json.dumps(
            {"cluster": cluster, "task": {"type": "worker", "index": index}}
        )
        for index in range(2)
    ]
    costs = {
        "one process": run("alone", [{}]),
        "mirrored, 2 logical CPUs": run("mirrored", [{}]),
        "2 workers": run("multi_worker", [{"TF_CONFIG": x} for x in tasks]),
    }
    (base,) = costs["one process"]
    print(f"{'':26s}{'CPU-s per step':>16s}{'of each process':>20s}  ratio")
    for name, parts in costs.items():
        each = " ".join(f"{part:.3f}" for part in parts)
        total = sum(parts)
        print(f"{name:26s}{total:16.3f}{each:>20s}{total / base:7.2f}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        measure(sys.argv[1])
    else:
        main()
