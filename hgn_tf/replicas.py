"""Several devices and machines, by `tf.distribute`: who leads, who does what.

A batch is that of all replicas: each takes its rows, and the step is the one
that a single process would make. The first worker is the chief. It alone
writes files.
"""

import contextlib
import faulthandler
import hashlib
import json
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

STRATEGIES = ("mirrored", "multi_worker")
_EXAMPLE = (
    '\'{"cluster": {"worker": ["10.0.0.1:2222", "10.0.0.2:2222"]}, "task": '
    '{"type": "worker", "index": 0}}\''
)
# Seconds that workers wait for each other at the start.
_WAIT = 600
# Seconds for TensorFlow's servers to connect, once all are there.
_CONNECT = 60
# Seconds in which a run that was killed leaves its port.
_FREED = 60
_HELLO = b"hgn-tf "  # what a line of a worker to the chief begins with
_GO, _NO = b"go\n", b"no\n"
_LONGEST_HELLO = 65536
# What TensorFlow raises where another worker is gone.
_GONE = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.InternalError,
    tf.errors.FailedPreconditionError,
)


class Cluster(NamedTuple):
    """The workers of TF_CONFIG.

    Attributes:
      addresses: "host:port" of every worker, the chief's first.
      place: Place of this process among them.
    """

    addresses: tuple[str, ...]
    place: int


def make_strategy(
    name: str | None, progress: Callable[[str], None] = lambda line: None
) -> tf.distribute.Strategy:
    """The strategy of a name, to be made before TensorFlow's first operation.

    "mirrored" is for all GPUs of this machine, or for its logical CPUs where
    there is no GPU. "multi_worker" is for the workers that the environment
    variable TF_CONFIG names. It waits until all of them have been started.

    Args:
      name: "mirrored", "multi_worker", or None for one device.
      progress: Callable that gets a line on who takes part.
    Raises:
      ValueError: if there is no such strategy, or TF_CONFIG does not fit.
      TimeoutError: if the workers are not all there within ten minutes.
    """
    if name is None:
        return tf.distribute.get_strategy()
    if name == "mirrored":
        return _mirrored(progress)
    if name == "multi_worker":
        return _multi_worker(progress)
    raise ValueError(
        f"`strategy` must be one of {list(STRATEGIES)}. Received: {name!r}."
    )


def read_cluster(text: str | None) -> Cluster:
    """The workers that the text of TF_CONFIG names.

    Raises: ValueError: if it does not name two or more workers, and one of
      them as this process.
    """
    rule = (
        "The strategy multi_worker needs the environment variable TF_CONFIG, "
        f"on each machine with its own index, such as {_EXAMPLE}. Received:"
    )
    if not text:
        raise ValueError(f"{rule} none.")
    try:
        config = json.loads(text)
        jobs, task = config["cluster"], config["task"]
        kind, index = task["type"], task["index"]
        others = set(jobs) - {"chief", "worker"}
        workers = [*jobs.get("chief", []), *jobs.get("worker", [])]
        number = jobs[kind].index(jobs[kind][index])
        place = number + (len(jobs.get("chief", [])) if kind != "chief" else 0)
        fits = (
            not others
            and type(index) is int
            and index == number
            and len(jobs.get("chief", [])) <= 1
            and all(re.fullmatch(r"\S+:\d+", address) for address in workers)
        )
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        fits = False
    if not fits:
        raise ValueError(f"{rule} {text}")
    if len(workers) < 2:
        raise ValueError(
            f"{rule} {text}, a single worker; leave the strategy out for one."
        )
    return Cluster(tuple(workers), place)


def is_multi_worker(strategy: tf.distribute.Strategy) -> bool:
    """Whether the replicas are in several processes."""
    return isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process is the one that writes files."""
    return _place(strategy) == 0


def check_batch(strategy: tf.distribute.Strategy, batch_size: int) -> None:
    """Whether replicas have equal parts of a batch.

    Raises: ValueError: if they cannot.
    """
    count = strategy.num_replicas_in_sync
    if batch_size % count:
        raise ValueError(
            f"`batch_size` must be a multiple of {count}, the number of "
            "devices that share a batch. Received: "
            f"{batch_size}; --set batch_size={-(-batch_size // count) * count}."
        )


def spread(
    batches: tf.data.Dataset, strategy: tf.distribute.Strategy
) -> tf.distribute.DistributedDataset:
    """Gives each replica of several machines its rows of every batch.

    The rows of a batch are cut into equal parts in their order, so that no row
    is seen twice. The last replicas have fewer rows, or none, where the number
    does not divide.

    Args:
      batches: The same batches, in the same order, on each machine.
      strategy: Strategy of several machines.
    Returns: The parts of this machine.
    """
    count = strategy.num_replicas_in_sync

    def part(index, element):
        def rows(whole):
            size = whole.shape[0]
            size = tf.shape(whole)[0] if size is None else size
            length = -(-size // count)
            return whole[index * length : (index + 1) * length]

        return tf.nest.map_structure(rows, element)

    def of_machine(context):
        here = count // context.num_input_pipelines
        first = context.input_pipeline_id * here
        if here == 1:
            return batches.map(lambda *element: part(first, element))

        def parts(*element):
            found = [
                tf.data.Dataset.from_tensors(part(first + index, element))
                for index in range(here)
            ]
            whole = found[0]
            for other in found[1:]:
                whole = whole.concatenate(other)
            return whole

        return batches.flat_map(parts)

    return strategy.distribute_datasets_from_function(of_machine)


def follow_chief(
    strategy: tf.distribute.Strategy, variables: Sequence[Any], epoch: int
) -> int:
    """Gives all workers the chief's values; called by each of them.

    Args:
      strategy: Strategy of several machines.
      variables: Keras variables of one order and shape on all workers.
      epoch: A number, such as that of the epochs trained so far.
    Returns: The chief's number.
    """
    values = [np.asarray(variable.value.numpy()) for variable in variables]
    values.append(np.asarray(epoch, np.int64))
    kinds = sorted({value.dtype.name for value in values})
    flat = {
        kind: [x.ravel() for x in values if x.dtype.name == kind]
        for kind in kinds
    }
    # Tensors, which a graph holds no copy of.
    own = [tf.constant(np.concatenate(parts)) for parts in flat.values()]

    def of_chief(replica):
        first = replica.replica_id_in_sync_group == 0
        return [tf.where(first, x, tf.zeros_like(x)) for x in own]

    told = dict(zip(kinds, _sums(strategy, of_chief)))
    for variable, value in zip([*variables, None], values):
        rest = told[value.dtype.name]
        told[value.dtype.name] = rest[value.size :]
        found = rest[: value.size].reshape(value.shape)
        if variable is not None:
            variable.assign(found)
    return int(found)


def check_alike(strategy: tf.distribute.Strategy, settings: Any) -> None:
    """Compares what workers were started with; called by each of them.

    It is also where they wait for each other, as long as it takes.

    Args:
      strategy: Any strategy. Of one process nothing is asked.
      settings: What must be the same, with a `repr` that tells it.
    Raises: ValueError: if it is not the same on all workers.
    """
    if not is_multi_worker(strategy):
        return
    digest = hashlib.sha256(repr(settings).encode("utf-8")).digest()
    (own,) = np.frombuffer(digest[:8], np.int64)

    def place(replica):
        count, index = (
            replica.num_replicas_in_sync,
            replica.replica_id_in_sync_group,
        )
        return [own * tf.one_hot(index, count, dtype=tf.int64)]

    if (_sums(strategy, place)[0] != own).any():
        raise ValueError(
            "All workers must be started by the same command. Received: other "
            f"settings than {settings} on another."
        )


@contextlib.contextmanager
def heeding_workers(strategy: tf.distribute.Strategy) -> Iterator[None]:
    """Says in one line that another worker is gone.

    TensorFlow notices a process that has ended at once or within ten seconds,
    and a machine that does not answer within ten.

    Raises: ConnectionError: if the body could not go on without it.
    """
    try:
        yield
    except _GONE as error:
        if not is_multi_worker(strategy):
            raise
        addresses = _addresses(strategy)
        gone = re.findall(r"/job:(\w+)(?:/replica:\d+)?/task:(\d+)", str(error))
        named = sorted({int(task) for job, task in gone if job == "worker"})
        who = ", ".join(
            f"worker {index} ({addresses[index]})"
            for index in named
            if index < len(addresses) and index != _place(strategy)
        )
        raise ConnectionError(
            "All workers must stay until the end of the training. Received: "
            f"{who or 'a worker'} is gone, see what it said last; the same "
            "commands, on every machine, go on from the last checkpoint."
        ) from error


def _mirrored(progress):
    devices = tf.config.list_logical_devices("GPU")
    devices = devices or tf.config.list_logical_devices("CPU")
    names = [f"{device.device_type}:{i}" for i, device in enumerate(devices)]
    alone = len(names) == 1
    progress(
        f"mirrored over {', '.join(names)}"
        f"{', as without a strategy' if alone else ''}"
    )
    if alone:
        return tf.distribute.get_strategy()
    return tf.distribute.MirroredStrategy(names)


def _multi_worker(progress):
    cluster = read_cluster(os.environ.get("TF_CONFIG"))
    count = len(cluster.addresses)
    progress(
        f"worker {cluster.place} of {count} ({cluster.addresses[cluster.place]}"
        f"{', the chief' if cluster.place == 0 else ''}): waiting for all"
    )
    meet(cluster)
    progress(
        f"all {count} are there; a worker that cannot connect ends after "
        f"{_CONNECT} seconds"
    )
    before = signal.getsignal(signal.SIGTERM)
    # For a worker that was killed since, TensorFlow would wait for an hour. It
    # holds Python's lock and hears no signal; this thread needs neither.
    with open(os.devnull, "w") as nowhere:
        faulthandler.dump_traceback_later(_CONNECT, exit=True, file=nowhere)
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
        faulthandler.cancel_dump_traceback_later()
    if threading.current_thread() is threading.main_thread():
        # TensorFlow takes SIGTERM for a notice, and would go on.
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)
    return strategy


def meet(cluster: Cluster, seconds: float = _WAIT) -> None:
    """Waits until every worker of a cluster has been started.

    Workers knock at the chief's address until it has heard of all of them, and
    lets all go at once. TensorFlow's own servers, which take the address over,
    would wait for longer, without an end that one can choose.

    Args:
      cluster: The workers.
      seconds: Longest time to wait.
    Raises:
      TimeoutError: if some have not come.
      ValueError: if their TF_CONFIG name other workers.
    """
    until = time.monotonic() + seconds
    if cluster.place:
        _knock(cluster, until, seconds)
    else:
        _await(cluster, until, seconds)


def _knock(cluster, until, seconds):
    _door(cluster, until).close()
    host, _, port = cluster.addresses[0].rpartition(":")
    hello = _HELLO + json.dumps(cluster).encode("utf-8") + b"\n"
    while (left := until - time.monotonic()) > 0:
        try:
            address = (host.strip("[]"), int(port))
            with socket.create_connection(address, min(left, 5)) as chief:
                chief.sendall(hello)
                chief.settimeout(max(left, 0.1))
                answer = chief.recv(len(_GO))
        except OSError:  # not there yet, or it ended
            answer = b""
        if answer == _GO:
            return
        if answer == _NO:
            raise _other_cluster(cluster)
        time.sleep(min(0.2, max(left, 0)))
    raise TimeoutError(_late(seconds, f"the chief, {cluster.addresses[0]}"))


def _await(cluster, until, seconds):
    """The chief's side of `meet`."""
    there: dict[int, socket.socket] = {}
    with contextlib.ExitStack() as stack:
        door = stack.enter_context(_door(cluster, until))
        while missing := set(range(1, len(cluster.addresses))) - set(there):
            left = until - time.monotonic()
            if left <= 0:
                named = ", ".join(
                    f"worker {index} ({cluster.addresses[index]})"
                    for index in sorted(missing)
                )
                raise TimeoutError(_late(seconds, named))
            door.settimeout(min(left, 1.0))
            try:
                guest = stack.enter_context(door.accept()[0])
            except TimeoutError:
                continue
            if (index := _introduced(guest, cluster)) is not None:
                there[index] = guest
            there = {k: other for k, other in there.items() if _stays(other)}
        for guest in there.values():
            guest.sendall(_GO)


def _introduced(guest, cluster):
    """The index of a worker that says hello; None of anybody else.

    Raises: ValueError: if it belongs to another cluster.
    """
    guest.settimeout(2.0)
    try:
        words = guest.makefile("rb").readline(_LONGEST_HELLO)
        addresses, index = json.loads(words.removeprefix(_HELLO))
    except (OSError, ValueError, TypeError):
        return None
    if addresses != list(cluster.addresses):
        guest.sendall(_NO)
        raise _other_cluster(cluster)
    return index if index in range(1, len(addresses)) else None


def _stays(guest):
    """Whether the other end of a connection, which is silent, is there."""
    guest.setblocking(False)
    try:
        return bool(guest.recv(1))
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        guest.settimeout(2.0)


def _door(cluster, until):
    """The own address, once a run that is ending there has left it.

    TensorFlow would share it with that run, and get what is meant for it.
    """
    port = int(cluster.addresses[cluster.place].rpartition(":")[2])
    until = min(until, time.monotonic() + _FREED)
    while True:
        try:
            return socket.create_server(("", port))
        except OSError as error:
            if time.monotonic() > until:
                raise OSError(
                    error.errno,
                    "The port of a worker must be free. Received: "
                    f"{port}, {error.strerror}; choose another in TF_CONFIG",
                ) from error
            time.sleep(0.5)


def _other_cluster(cluster):
    return ValueError(
        "The TF_CONFIG of all workers must name the same workers in one order."
        f" Received: other ones than {list(cluster.addresses)}."
    )


def _late(seconds, missing):
    return (
        f"All workers must be started within {seconds / 60:g} minutes. "
        f"Received: no sign of {missing}; see whether it runs, and whether its "
        "address can be reached."
    )


def _addresses(strategy):
    jobs = strategy.cluster_resolver.cluster_spec().as_dict()
    return [*jobs.get("chief", []), *jobs["worker"]]


def _place(strategy):
    if not is_multi_worker(strategy):
        return 0
    resolver = strategy.cluster_resolver
    chiefs = resolver.cluster_spec().as_dict().get("chief", [])
    before = 0 if resolver.task_type == "chief" else len(chiefs)
    return resolver.task_id + before


def _sums(strategy, values):
    """The sums over all replicas of `values(replica)`, arrays."""

    @tf.function
    def told():
        def here():
            replica = tf.distribute.get_replica_context()
            # One by one: they may differ in dtype.
            return [replica.all_reduce("sum", x) for x in values(replica)]

        return strategy.run(here)

    local = strategy.experimental_local_results
    return [local(x)[0].numpy() for x in told()]
