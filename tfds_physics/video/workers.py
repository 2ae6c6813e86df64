"""A map over several processes: in order, and never far ahead."""

import contextlib
import itertools
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import connection

_COMMAND = "from tfds_physics.video import workers; workers.serve({})"


def ordered_map(
    function: Callable, items: Sequence, num_processes: int
) -> Iterator:
    """Yields function(item) for the items, in order, from several processes.

    The processes are new Pythons that import what `function` needs and
    nothing else. Not forked, which can deadlock once TensorFlow has threads;
    and not from multiprocessing's pools, which would run the caller's script
    again and outlive a caller that is killed.

    Item i goes to process i modulo their number, and so comes back. One item
    waits at each process beside the one it works on: they are busy, and
    results cannot pile up in memory.

    Args:
      function: Importable and picklable function of one item.
      items: Picklable items.
      num_processes: Number of processes; 1 runs everything in this one, as
        the built-in map does.

    Raises:
      RuntimeError: If a process dies.
      Exception: Whatever `function` raises.
    """
    if num_processes == 1:
        yield from map(function, items)
        return
    with contextlib.ExitStack() as stack:
        pipes = [
            stack.enter_context(_start_worker())
            for _ in range(min(num_processes, len(items)))
        ]
        try:
            for pipe, item in zip(pipes + pipes, items):
                pipe.send((function, item))
            following = itertools.islice(items, 2 * len(pipes), None)
            for pipe, _ in zip(itertools.cycle(pipes), items):
                result, error = pipe.recv()
                if error is not None:
                    raise error
                for item in itertools.islice(following, 1):
                    pipe.send((function, item))
                yield result
        except (EOFError, ConnectionError) as error:
            raise RuntimeError(
                "Worker processes must stay alive. Received: one that died; "
                "its own message is above. If memory ran out, fewer workers "
                "would do."
            ) from error


def serve(file_descriptor: int) -> None:
    """Answers (function, item) with (result, error) until the pipe closes.

    The main loop of a worker. The pipe also closes when the caller is killed.

    Args:
      file_descriptor: File descriptor of the worker's end of the pipe.
    """
    # Ctrl-C goes to all processes; the caller answers it and stops this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    pipe = connection.Connection(file_descriptor)
    with contextlib.suppress(EOFError, OSError):
        while True:
            request = pipe.recv_bytes()
            try:
                function, item = pickle.loads(request)
                answer: tuple = function(item), None
            except Exception as error:
                answer = None, error
            pipe.send(answer)


@contextlib.contextmanager
def _start_worker() -> Iterator[connection.Connection]:
    ours, theirs = multiprocessing.Pipe()
    with ours, theirs:
        process = subprocess.Popen(
            [sys.executable, "-c", _COMMAND.format(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )
        theirs.close()
        try:
            yield ours
        finally:
            process.terminate()
            process.wait()
