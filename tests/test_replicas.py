"""Several devices and machines make the steps that one process would make.

What trains is in `workers.py`, whose processes have TensorFlow of their own.
"""

import json
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import tensorflow as tf

from hgn_tf import replicas, training
from hgn_tf.models.steps import Noise, Rows
from hgn_tf.replicas import Cluster, meet, read_cluster
from tests.workers import free_ports

COSTS = {"wall_seconds", "cpu_seconds", "peak_memory_mb"}
TWO = ["10.0.0.1:2222", "10.0.0.2:2222"]


def tf_config(cluster, kind="worker", index=0):
    return json.dumps(
        {"cluster": cluster, "task": {"type": kind, "index": index}}
    )


@pytest.fixture(scope="module")
def trained(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    done = subprocess.run(
        [sys.executable, "-m", "tests.workers", str(folder)],
        cwd=request.config.rootpath,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, (done.stderr[-3000:], logs(folder))
    return folder


def logs(folder):
    return {str(path): path.read_text() for path in folder.rglob("*.txt")}


def weights(folder):
    """Those that each process had in the end."""
    return [
        [np.asarray(array) for array in np.load(path).values()]
        for path in sorted(folder.glob("weights-*.npz"))
    ]


@pytest.mark.parametrize("name, count", [("mirrored", 1), ("workers", 2)])
def test_replicas_end_at_the_weights_of_one_process(trained, name, count):
    """Draws and spreads are those of the whole batch, so rounding is left.

    It is 1e-7 of a number per step, and grows by what the steps amplify.
    """
    found = weights(trained / name)
    assert len(found) == count, logs(trained)
    (alone,) = weights(trained / "alone")
    for each in found:
        for ours, theirs in zip(each, alone, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=2e-5)


@pytest.mark.parametrize("name", ["mirrored", "workers"])
def test_replicas_log_what_one_process_logs(trained, name):
    """Means, and of workers scores of 5 videos, over all rows once."""
    ours, theirs = (
        training.read_log(trained / run / "run" / "log.csv")
        for run in (name, "alone")
    )
    assert [row["epoch"] for row in ours] == ["0", "1"]
    assert ("val_elbo" in ours[1]) == (name == "workers")
    for mine, other in zip(ours, theirs):
        assert float(mine["dropped_steps"]) == 0
        for key in set(mine) - COSTS:
            expected = pytest.approx(float(other[key]), rel=2e-3, abs=1e-4)
            assert float(mine[key]) == expected, key


def test_workers_go_on_from_a_checkpoint_which_the_chief_has(trained):
    """It was made by one process; the second epoch is the workers'."""
    names = [
        path.name for path in training.checkpoints(trained / "workers" / "run")
    ]
    assert names == ["000001.keras", "000002.keras"]
    first, last = (
        (trained / name / "run" / "checkpoints" / "000002.keras").read_bytes()
        for name in ("alone", "workers")
    )
    assert first != last


def test_a_killed_worker_ends_the_other_with_one_line(trained):
    ends = json.loads((trained / "statuses.json").read_text())
    assert ends == [0, 0, 2, -9], logs(trained)
    text = (trained / "workers" / "worker-0.txt").read_text()
    (line,) = (x for x in text.splitlines() if x.startswith("hgn-tf: "))
    assert "All workers must stay until the end" in line
    assert "worker 1 (127.0.0.1:" in line
    assert "Traceback" not in text


@pytest.mark.parametrize("index", [0, 1])
def test_workers_of_two_commands_are_told_so_all_of_them(trained, index):
    text = (trained / "workers" / f"worker-{index}.txt").read_text()
    assert "All workers must be started by the same command" in text


def test_the_chief_alone_writes_files(trained):
    assert not (trained / "workers" / "of_a_worker").exists()


@pytest.mark.parametrize(
    "text, place",
    [
        (tf_config({"worker": TWO}), 0),
        (tf_config({"worker": TWO}, index=1), 1),
        (tf_config({"chief": TWO[:1], "worker": TWO[1:]}), 1),
        (tf_config({"chief": TWO[:1], "worker": TWO[1:]}, "chief"), 0),
    ],
)
def test_tf_config_names_the_workers_and_this_one(text, place):
    assert read_cluster(text) == Cluster(tuple(TWO), place)


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "{",
        "[]",
        "{}",
        tf_config({"worker": TWO}, index=2),
        tf_config({"worker": TWO}, index=-1),
        tf_config({"worker": TWO}, index="0"),
        tf_config({"worker": TWO}, "chief"),
        tf_config({"worker": TWO[:1]}),
        tf_config({"worker": [TWO[0], TWO[0]]}, index=1),
        tf_config({"worker": ["10.0.0.1", "10.0.0.2"]}),
        tf_config({"worker": TWO, "ps": ["10.0.0.3:2222"]}),
        tf_config({"worker": "10.0.0.1:2222"}),
    ],
)
def test_tf_config_of_no_two_workers_is_refused(text):
    with pytest.raises(ValueError, match="TF_CONFIG.*Received: "):
        read_cluster(text)


def test_a_strategy_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="`strategy` must be one of .*'tpu'"):
        replicas.make_strategy("tpu")


def test_a_batch_that_replicas_cannot_share_is_refused():
    strategy = type("Three", (), {"num_replicas_in_sync": 3})
    replicas.check_batch(strategy, 12)
    with pytest.raises(ValueError, match="multiple of 3.*10; .*batch_size=12"):
        replicas.check_batch(strategy, 10)


def meet_all(*clusters, seconds=5.0):
    """What each of some processes, here threads, met with."""
    met = [None] * len(clusters)

    def one(place):
        try:
            meet(clusters[place], seconds)
        except Exception as error:
            met[place] = error

    threads = [
        threading.Thread(target=one, args=(place,))
        for place in range(len(clusters))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return met


def addresses(count):
    return tuple(f"127.0.0.1:{port}" for port in free_ports(count))


def test_workers_wait_until_all_are_there():
    here = addresses(3)
    assert (
        meet_all(*(Cluster(here, index) for index in (2, 1, 0))) == [None] * 3
    )


@pytest.mark.parametrize("index, missing", [(0, "worker 1"), (1, "the chief")])
def test_a_worker_that_never_comes_is_named(index, missing):
    (error,) = meet_all(Cluster(addresses(2), index), seconds=0.5)
    assert isinstance(error, TimeoutError)
    assert f"no sign of {missing}" in str(error)


@pytest.mark.parametrize("index", [0, 1])
def test_the_port_of_a_worker_must_be_free(index, monkeypatch):
    """TensorFlow would share it with a run that is ending there."""
    monkeypatch.setattr(replicas, "_FREED", 0.0)
    here = addresses(2)
    port = int(here[index].split(":")[1])
    with socket.create_server(("", port)):
        with pytest.raises(OSError, match=f"must be free. Received: {port},"):
            meet(Cluster(here, index), seconds=5.0)


def test_workers_of_another_cluster_are_refused():
    here = addresses(2)
    other = (here[0], "127.0.0.1:1")
    errors = meet_all(Cluster(here, 0), Cluster(other, 1))
    for error in errors:
        assert isinstance(error, ValueError)
        assert "must name the same workers" in str(error)


def knock(host, port, seconds=30.0):
    """A connection, once somebody listens: a thread may start late."""
    end = time.monotonic() + seconds
    while True:
        try:
            return socket.create_connection((host, port))
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.02)


def test_strangers_at_the_chief_are_not_counted():
    """Nor a worker that has gone again."""
    here = addresses(2)
    waiting = threading.Thread(target=meet_all, args=(Cluster(here, 0),))
    waiting.start()
    host, port = here[0].split(":")
    for words in (b"GET / HTTP/1.0\n\n", b"hgn-tf 1\n", b"\xff" * 10):
        with knock(host, int(port)) as guest:
            guest.sendall(words)
    assert waiting.is_alive()
    assert meet_all(Cluster(here, 1)) == [None]
    waiting.join()


def test_rows_of_a_batch_have_their_noise_in_any_part(monkeypatch):
    """So replicas draw other numbers, and those of one process."""
    seed = tf.constant([3, 4], tf.int64)
    sample = tf.random.stateless_normal
    whole = Noise(seed).draw(sample, [5, 2])
    two = type("Two", (), {"num_replicas_in_sync": 2})
    monkeypatch.setattr(tf.distribute, "get_strategy", lambda: two)
    parts = [
        Noise(seed, Rows(1, count, first, 5)).draw(sample, [count, 2])
        for first, count in ((0, 3), (3, 2))
    ]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    # A replica without rows has one that does not count.
    assert Noise(seed, Rows(0, 0, 5, 5)).draw(sample, [1, 2]).shape == (1, 2)
