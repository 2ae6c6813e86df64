"""What `test_replicas` runs in processes of their own, forked from one.

Each trains the same small model: alone, over two devices, and over two workers
that go on from a checkpoint and of which one is killed in the end.
"""

import json
import os
import pathlib
import shutil
import signal
import socket
import sys
import time

import keras
import numpy as np
import tensorflow as tf

from hgn_tf import HGN, losses, networks, replicas, training
from hgn_tf.experiments.runs import is_mistake

STEPS, PER_EPOCH = 6, 3
FRAMES, SIZE = 8, 8
VIDEO = np.random.default_rng(0).random((12, FRAMES, SIZE, SIZE, 1), np.float32)
# Rows of one batch after another: of 5 replicas have 3 and 2, of 1 one of
# them has none.
ROWS = (4, 5, 1)


def make_model():
    """All that draws numbers, or compares the rows of a batch, is on.

    Not Adam: by its own size it divides a gradient that is 0 but for rounding.
    """
    parts = networks.flat_networks(
        SIZE,
        channels=1,
        latent_size=2,
        encoder_filters=(4,),
        state_units=(8,),
        potential_units=(8,),
        decoder_units=(8,),
        position_net=True,
    )
    model = HGN(
        **parts,
        num_inference_frames=4,
        num_decoded_frames=2,
        curriculum_steps=4,
        anchor="random",
        rollout_steps=3,
        shortest_window=3,
        agreement=1.0,
        agreement_ramp=(0, 2),
        reversible=True,
        positions=1.0,
        isometry=1.0,
        low_rank=0.1,
        geco=losses.Geco(0.05),
        seed=5,
    )
    model.compile(keras.optimizers.SGD(1e-2, momentum=0.9))
    model.build((None, *VIDEO.shape[1:]))
    return model


def batches(first_step):
    def rows(step):
        index = tf.random.experimental.stateless_shuffle(
            tf.range(len(VIDEO)), tf.stack([tf.constant(7, tf.int64), step])
        )
        return tf.gather(VIDEO, index[: tf.gather(ROWS, step % len(ROWS))])

    return tf.data.Dataset.counter(start=first_step, step=1).map(rows)


class KillIn(keras.callbacks.Callback):
    """Kills its process after a step."""

    def __init__(self, step):
        super().__init__()
        self.step = step

    def on_train_batch_end(self, batch, logs=None):
        if keras.ops.convert_to_numpy(self.model.steps) == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


def train(folder, strategy=None, kill=None):
    """Trains in `folder`/run and writes weights; then a worker is killed.

    Args:
      folder: Where files go.
      strategy: Name of the strategy.
      kill: Of workers, whether this one is killed in the epoch after that.
    """
    if strategy == "mirrored":
        tf.config.set_logical_device_configuration(
            tf.config.list_physical_devices("CPU")[0],
            [tf.config.LogicalDeviceConfiguration()] * 2,
        )
    made = replicas.make_strategy(strategy, print)
    chief = replicas.is_chief(made)
    replicas.check_alike(made, "one command")
    if kill is not None:
        try:
            replicas.check_alike(made, f"chief: {chief}")
        except ValueError as error:
            print(error)
    # Only the chief's numbers count: they are told to the other.
    keras.utils.set_random_seed(3 if chief else 13)
    with made.scope():
        model = make_model()

    def fit(num_steps, callbacks=()):
        training.fit(
            model,
            batches,
            folder / ("run" if chief else "of_a_worker"),
            num_steps,
            PER_EPOCH,
            callbacks=callbacks,
            verbose=0,
            validation_data=None if strategy == "mirrored" else VIDEO[:5],
        )

    fit(STEPS)
    arrays = [keras.ops.convert_to_numpy(x) for x in model.weights]
    np.savez(folder / f"weights-{os.getpid()}.npz", *arrays)
    if kill is not None:
        fit(STEPS + PER_EPOCH, (KillIn(STEPS + 1),) if kill else ())


def fork(work, log, **environment):
    """A process that does `work` and ends as the command line would."""
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(file, 1)
        os.dup2(file, 2)
        os.environ.update(environment)
        work()
        status = 0
    except BaseException as error:
        if is_mistake(error):
            print("hgn-tf:", " ".join(str(error).splitlines()), flush=True)
            status = 2
        else:
            import traceback

            traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(status)


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def fork_workers(folder):
    """Two workers on the loopback address; the second is the one to die."""
    cluster = {"worker": [f"127.0.0.1:{port}" for port in free_ports(2)]}
    pids = []
    for index in range(2):
        task = {"type": "worker", "index": index}
        pids.append(
            fork(
                lambda kill=index == 1: train(folder, "multi_worker", kill),
                folder / f"worker-{index}.txt",
                TF_CONFIG=json.dumps({"cluster": cluster, "task": task}),
            )
        )
    return pids


def wait(pids, seconds=1200):
    """The statuses of processes, which are killed when time is up."""
    until, statuses = time.monotonic() + seconds, {}
    while set(statuses) != set(pids):
        for pid in set(pids) - set(statuses):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                statuses[pid] = os.waitstatus_to_exitcode(status)
            elif time.monotonic() > until:
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
    return [statuses[pid] for pid in pids]


def main():
    folder = pathlib.Path(sys.argv[1])
    alone, mirrored, workers = (
        folder / name for name in ("alone", "mirrored", "workers")
    )
    for each in (alone, mirrored, workers):
        each.mkdir()
    statuses = wait(
        [
            fork(lambda: train(alone), alone / "log.txt"),
            fork(lambda: train(mirrored, "mirrored"), mirrored / "log.txt"),
        ]
    )
    # The workers go on from where one process was after the first epoch.
    shutil.copytree(alone / "run", workers / "run")
    training.checkpoints(workers / "run")[-1].unlink()
    statuses += wait(fork_workers(workers))
    (folder / "statuses.json").write_text(json.dumps(statuses))


if __name__ == "__main__":
    main()
