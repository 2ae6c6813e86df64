"""Faults, counted: what is lost when runs are killed and files altered.

Run: python benchmarks/faults.py [--only EXPRESSION] [--results results]

Each row of the table does something bad to a command, a counted number of
times, and looks at what comes after: the same command goes on, and what it
leaves is compared with what it leaves undisturbed. Weights, optimiser and
counters must be equal, examples too, and no file may be left that is not left
otherwise. What differs is lost, and counted.

A row that is done leaves results/faults/<row>.json and is not made again, so
the script may be killed too. The models and datasets are the smallest that
have all parts of large ones.

Commands run in forks of this process, which has imported TensorFlow and never
runs an operation of it. So a moment of a command is a moment of its work, not
of its imports. Disks are small ones in memory, in a namespace of this process:
no mount of the machine changes.
"""

import argparse
import contextlib
import dataclasses
import functools
import hashlib
import io
import json
import os
import pathlib
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
import zipfile
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import h5py
import keras
import numpy as np
import psutil
import tensorflow as tf
import tensorflow_datasets as tfds
from tensorflow.python.eager import context as eager

import tfds_physics
from hgn_tf import (
    HGN,
    HNN,
    PixelHNN,
    cli,
    data,
    files,
    networks,
    presets,
    training,
)
from hgn_tf.experiments import runs, tables
from hgn_tf.experiments.hgn import config as hgn
from hgn_tf.experiments.hgn import train
from tfds_physics.video.configs import CONFIGS

NAME = "faults"
DATASET = f"physics_pendulum/{NAME}"
BEAM = "direct_num_workers=2,direct_running_mode=multi_processing"
# A command is killed so many times in a row, at most, before it may end.
CHAIN = 4
WORKERS = 2
NOTICED = 300  # seconds within which a worker ends that lost another
DAY = 86_400
PAGE = 4096  # bytes that a disk in memory gives at a time


class Lost(Exception):
    """Something is not as the undisturbed command leaves it."""


class Stage(NamedTuple):
    """A command, and what is looked at afterwards.

    Attributes:
      run: Callable folder -> None. The command; all that it writes is there.
      look: Callable folder -> what it made, as JSON, of what is whole.
    """

    run: Callable[[pathlib.Path], Any]
    look: Callable[[pathlib.Path], Any]


class Place(NamedTuple):
    """Where a row works.

    Attributes:
      stage: Name of what is disturbed.
      folder: Folder of the row, to be filled at will.
      shared: Folder with the dataset `data` and the trained run `run`.
      rng: Generator of the row.
    """

    stage: str
    folder: pathlib.Path
    shared: pathlib.Path
    rng: np.random.Generator


# Commands.


def register():
    """Adds the smallest dataset and budget that have all parts."""
    CONFIGS.append(
        tfds_physics.PhysicsConfig(
            name=NAME,
            image_size=8,
            num_frames=6,
            num_train=64,
            num_validation=0,
            num_test=4,
            num_test_long=0,
            num_validation_long=0,
        )
    )
    hgn.DATASETS[NAME] = f"physics_{{}}/{NAME}"
    hgn.BUDGETS[NAME] = {
        "form": "flat",
        "latent_size": 1,
        "num_inference_frames": 3,
        "num_decoded_frames": 1,
        "tolerance": 1e-6,
        "num_steps": 12,
        "steps_per_epoch": 3,
        "batch_size": 8,
    }


def prepare(folder, options=None):
    data.prepare(data.get_builder(DATASET, str(folder / "data")), options)


def prepare_by_beam(folder):
    prepare(folder, BEAM)


def train_hgn(folder, shared):
    train.train(
        hgn.make_config(DATASET, NAME),
        folder / "run",
        str(shared / "data"),
        verbose=0,
    )


def train_pairs(folder):
    """What trains every model here, on one that needs no graph."""
    keras.utils.set_random_seed(0)
    parts = networks.dense_pair_networks((5,), 4, (16,))
    model = PixelHNN(**parts, dynamics=HNN((16,)))
    model.compile("adam", run_eagerly=True)
    model.build((None, 5))
    rows = tf.random.stateless_normal([64, 5], seed=[0, 0])
    training.fit(
        model,
        lambda step: (
            tf.data.Dataset.from_tensors((rows, 0.9 * rows)).repeat().skip(step)
        ),
        folder / "run",
        num_steps=24,
        steps_per_epoch=3,
        verbose=0,
    )
    runs.save_model(model, folder / "run")


def train_workers(folder, shared):
    """The command of each worker, all started at once."""
    numbers = [start_worker(folder, shared, index) for index in range(WORKERS)]
    statuses = [wait(number) for number in numbers]
    if any(statuses):
        raise Lost(f"workers of {folder} ended with {statuses}")


def start_worker(folder, shared, index):
    """The command that a machine of several is given, in a fork."""
    cluster = read_cluster(folder)

    def train_part():
        task = {"type": "worker", "index": index}
        os.environ["TF_CONFIG"] = json.dumps({"cluster": cluster, "task": task})
        options = {
            "budget": NAME,
            "strategy": "multi_worker",
            "out": folder / "run",
            "data-dir": shared / "data",
        }
        words = [f"--{name}={value}" for name, value in options.items()]
        return cli.main(["train", DATASET, *words])

    return fork(train_part, worker_folder(folder, index))


def worker_folder(folder, index):
    """A worker's log and temporary files are beside it."""
    return folder.with_name(f"{folder.name}-worker-{index}")


def read_cluster(folder):
    """The addresses, the same for every start in a folder."""
    path = folder.with_name(folder.name + ".cluster")
    if not path.exists():
        with contextlib.ExitStack() as stack:
            doors = [
                stack.enter_context(socket.create_server(("127.0.0.1", 0)))
                for _ in range(WORKERS)
            ]
            ports = [door.getsockname()[1] for door in doors]
        addresses = [f"127.0.0.1:{port}" for port in ports]
        files.write_json(path, {"worker": addresses})
    return files.read_json(path)


def make_table(folder, shared):
    options = {
        "budget": NAME,
        "systems": "pendulum",
        "models": "pixel_hnn",
        "results": folder / "results",
        "runs": folder / "runs",
        "data-dir": shared / "data",
    }
    words = [f"--{name}={value}" for name, value in options.items()]
    return cli.main(["table", "hgn", *words])


def export_preset(folder, shared):
    model = runs.load_model(shared / "run")
    presets.save(model, folder / NAME, {"dataset": DATASET})


# What they leave.


def digest(*parts):
    found = hashlib.sha256()
    for part in parts:
        found.update(np.ascontiguousarray(part).tobytes())
    return found.hexdigest()


def look_at_dataset(folder):
    """Digest of every example, in their order of names; none without data."""

    def read():
        builder = data.get_builder(DATASET, str(folder / "data"))
        builder.check_whole()
        return {
            split: sorted(
                digest(*tf.nest.flatten(example))
                for example in tfds.as_numpy(builder.as_dataset(split=split))
            )
            for split in builder.info.splits
        }

    there = data.get_builder(DATASET, str(folder / "data")).data_path.exists()
    return {"examples": in_fork(read)} if there else {}


def look_at_weights(path):
    """Digest of weights, optimiser and counters in a .keras file."""
    with zipfile.ZipFile(path) as archive:
        if archive.testzip() is not None:
            raise Lost(f"{path} is not whole")
        stored = io.BytesIO(archive.read("model.weights.h5"))
    arrays = {}

    def keep(name, item):
        if isinstance(item, h5py.Dataset):
            arrays[name] = item[()]

    with h5py.File(stored) as file:
        file.visititems(keep)
    return digest(*(arrays[name] for name in sorted(arrays)))


def look_at_run(run_dir):
    found = {}
    if (run_dir / "config.json").exists():
        found["config"] = files.read_json(run_dir / "config.json")
    for path in training.checkpoints(run_dir):
        found[path.name] = look_at_weights(path)
    if (run_dir / "log.csv").exists():
        found["losses"] = [
            row["loss"] for row in training.read_log(run_dir / "log.csv")
        ]
    if (run_dir / "model.keras").exists():
        found["model"] = look_at_weights(run_dir / "model.keras")
    return found


def look_at_training(folder):
    return look_at_run(folder / "run")


def look_at_table(folder):
    found = {}
    for path in sorted(folder.rglob("*.json")):
        if path.name != "config.json":
            found[path.name] = dict(runs.read_result(path).metrics)
    for path in sorted(folder.rglob("config.json")):
        found[path.parent.name] = look_at_run(path.parent)
    for path in sorted(folder.rglob("*.npz")):
        arrays = files.read_arrays(path)
        found[path.name] = digest(*(arrays[name] for name in sorted(arrays)))
    return found


def look_at_preset(folder):
    """Bytes of its files, each of which must be the old or the new one."""
    return {
        path.name: digest(np.frombuffer(path.read_bytes(), np.uint8))
        for path in sorted((folder / NAME).glob("*"))
        if not files.is_partial(path)
    }


def stages(shared) -> dict[str, Any]:
    """What is disturbed, by name: commands, and readers of files."""
    return {
        "prepare": Stage(prepare, look_at_dataset),
        "prepare_beam": Stage(prepare_by_beam, look_at_dataset),
        "train": Stage(train_pairs, look_at_training),
        "workers": Stage(
            lambda folder: train_workers(folder, shared), look_at_training
        ),
        "table": Stage(
            lambda folder: make_table(folder, shared), look_at_table
        ),
        "preset": Stage(
            lambda folder: export_preset(folder, shared), look_at_preset
        ),
        "model_file": _model_reader,
        "checkpoint_file": _checkpoint_reader,
        "preset_files": _preset_reader,
        "npz": _array_reader,
    }


# Forks.


def fork(
    function: Callable[[], Any],
    folder: pathlib.Path,
    before: Callable[[], Any] = lambda: None,
) -> int:
    """Starts a function in a process of its own; returns its number.

    A caller's mistake ends it with status 2 and one line, as the command line
    does it. What it says goes to <folder>.log.
    """
    if eager.context()._context_handle is not None:
        raise RuntimeError("TensorFlow has begun to work here")
    scratch = folder.with_name(folder.name + ".tmp")
    scratch.mkdir(parents=True, exist_ok=True)
    folder.mkdir(exist_ok=True)
    number = os.fork()
    if number:
        return number
    status = 1
    try:
        log = os.open(
            log_of(folder),
            os.O_WRONLY | os.O_CREAT | os.O_TRUNC,
        )
        os.dup2(log, 1)
        os.dup2(log, 2)
        tempfile.tempdir = os.environ["TMPDIR"] = str(scratch)
        before()
        status = _mistakes(function)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _mistakes(function):
    try:
        return function() or 0
    except Exception as error:
        if not runs.is_mistake(error):
            raise
        line = " ".join(str(error).splitlines())
        print(f"\nhgn-tf: {line}", file=sys.stderr)
        return 2


def log_of(folder: pathlib.Path) -> pathlib.Path:
    """The file with what a command said."""
    return folder.with_name(folder.name + ".log")


def wait(number: int) -> int:
    """The exit status; negative if a signal ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])


def in_fork(function: Callable[[], Any]) -> Any:
    """What a function returns in a process of its own, as JSON."""
    reader, writer = os.pipe()
    number = os.fork()
    if not number:
        status = 1
        try:
            os.close(reader)
            answer = json.dumps(function())
            with open(writer, "w") as file:
                file.write(answer)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(writer)
    with open(reader) as file:
        answer = file.read()
    if wait(number):
        raise Lost("what is there cannot be read")
    return json.loads(answer)


def said(folder: pathlib.Path) -> str:
    """The one line of a command that ended with a mistake."""
    text = log_of(folder).read_text("utf-8", "replace")
    lines = [line for line in text.splitlines() if line.startswith("hgn-tf: ")]
    if len(lines) != 1 or "Traceback" in text:
        raise Lost(f"not told in one line: {text[-2000:]}")
    return lines[0]


def run(stage: Stage, folder: pathlib.Path, before=lambda: None) -> None:
    """The command, to its end."""
    status = wait(fork(lambda: stage.run(folder), folder, before))
    if status:
        log = log_of(folder).read_text("utf-8")
        raise Lost(f"status {status}: {log[-3000:]}")


def refused(stage: Stage, folder: pathlib.Path, words: str) -> None:
    """The command, which must end with one line that has some words."""
    status = wait(fork(lambda: stage.run(folder), folder))
    line = said(folder) if status == 2 else f"status {status}"
    if not re.search(words, line):
        raise Lost(line)


class Whole(NamedTuple):
    """What the undisturbed command leaves, and how long it takes.

    Attributes:
      names: Names of all files.
      found: What `Stage.look` finds.
      seconds: Its time, in seconds.
      writes: How many times it opens, renames or removes a file or folder.
    """

    names: list[str]
    found: Any
    seconds: float
    writes: int


def undisturbed(name: str, place: Place) -> Whole:
    """What the command of a stage leaves in shared/<name>, made once."""
    folder, stage = place.shared / name, stages(place.shared)[name]
    kept = place.shared / f"{name}.json"
    if not kept.exists():
        shutil.rmtree(folder, ignore_errors=True)
        count = place.shared / f"{name}.count"

        def work():
            with count_writes(folder) as writes:
                stage.run(folder)
            count.write_text(str(len(writes)))

        start = time.monotonic()
        run(Stage(lambda _: work(), stage.look), folder)
        whole = Whole(
            names_below(folder),
            stage.look(folder),
            time.monotonic() - start,
            int(count.read_text()),
        )
        files.write_json(kept, whole._asdict())
    return Whole(**files.read_json(kept))


def names_below(folder: pathlib.Path) -> list[str]:
    """All files below a folder, but logs of TensorBoard: one per start."""
    found = (
        path.relative_to(folder) for path in folder.rglob("*") if path.is_file()
    )
    return sorted(str(p) for p in found if "tensorboard" not in p.parts)


def check_end(stage: Stage, folder: pathlib.Path, whole: Whole) -> None:
    """What is there at the end is what the undisturbed command leaves."""
    names = names_below(folder)
    if names != whole.names:
        raise Lost(f"files differ: {sorted(set(names) ^ set(whole.names))}")
    if stage.look(folder) != whole.found:
        raise Lost(f"{folder} differs")
    # TensorFlow puts the source that it makes of a function there for a while.
    scratch = [
        *folder.parent.glob(f"{folder.name}.tmp"),
        *folder.parent.glob(f"{folder.name}-*.tmp"),
    ]
    left = [
        name
        for place in scratch
        for name in names_below(place)
        if not name.startswith("__autograph")
    ]
    if left:
        raise Lost(f"temporary files are left: {left}")


@contextlib.contextmanager
def count_writes(folder: pathlib.Path, last: int | None = None):
    """Counts what a process does to files below a folder.

    Python tells of each opening, renaming and removal before it happens. The
    process is killed before the last one.
    """
    seen: list[str] = []
    active = [True]

    def hook(event, arguments):
        if not active or event not in _EVENTS:
            return
        if event == "open" and not (arguments[2] or 0) & os.O_ACCMODE:
            return
        if not str(arguments[0]).startswith(str(folder)):
            return
        seen.append(event)
        if len(seen) == last:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)  # which nothing takes away again
    try:
        yield seen
    finally:
        active.clear()


_EVENTS = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir")


# Faults. Each returns how many faults there were, and raises `Lost`.


def kill_at_moments(stage, place, count):
    """SIGKILL at random moments; the same command goes on."""

    def kill(folder, whole):
        number = fork(lambda: stage.run(folder), folder)
        time.sleep(whole.seconds * place.rng.uniform())
        return end_by_kill(number)

    return kill_in_chains(stage, place, count, kill)


def kill_workers(stage, place, count):
    """SIGKILL of one worker or of all; the same commands go on."""

    def kill(folder, whole):
        start = functools.partial(start_worker, folder, place.shared)
        numbers = [start(index) for index in range(WORKERS)]
        time.sleep(whole.seconds * place.rng.uniform())
        order = place.rng.permutation(WORKERS)
        chosen = order[: place.rng.integers(1, WORKERS + 1)]
        # At once, for none must have time to notice.
        for index in chosen:
            os.kill(numbers[index], signal.SIGKILL)
        killed = [end_by_kill(numbers[index]) for index in chosen]
        for index in set(range(WORKERS)) - set(chosen):
            end_of_other(folder, index, numbers[index], start)
        return any(killed)

    return kill_in_chains(stage, place, count, kill)


def end_of_other(folder, index, number, start):
    """What a worker does when another is killed.

    It ends with a line. If they had not met, it waits for the other, which is
    started again: then all train to the end.
    """
    log = log_of(worker_folder(folder, index))
    others = set(range(WORKERS)) - {index}
    met = f"all {WORKERS} are there"
    again = [] if met in log.read_text("utf-8") else [*map(start, others)]
    try:
        status = psutil.Process(number).wait(NOTICED)
    except psutil.TimeoutExpired:
        os.kill(number, signal.SIGKILL)
        status = wait(number)
    if status == 2:
        line = said(worker_folder(folder, index))
        if "All workers must stay until the end" not in line:
            raise Lost(line)
    elif status == 1:  # It was killed between the meeting and TensorFlow's.
        if (
            "a worker that cannot connect ends after"
            not in log.read_text("utf-8").splitlines()[-1]
        ):
            raise Lost(f"status 1, see {log}")
    elif status:
        raise Lost(f"status {status}, see {log}")
    for other in again:
        if status:
            end_by_kill(other)
        elif wait(other):
            raise Lost(f"a worker that came again did not end, see {log}")


def kill_at_writes(stage, place, count):
    """SIGKILL before a random opening, renaming or removal of a file."""

    def kill(folder, whole):
        last = int(place.rng.integers(1, whole.writes + 1))

        def work():
            with count_writes(folder, last):
                stage.run(folder)

        return wait(fork(work, folder)) == -signal.SIGKILL

    return kill_in_chains(stage, place, count, kill)


def end_by_kill(number):
    """Whether a process was killed, and not at its end before."""
    others = psutil.Process(number).children(recursive=True)
    os.kill(number, signal.SIGKILL)
    _orphans.extend(others)
    status = wait(number)
    if status not in (0, -signal.SIGKILL):
        raise Lost(f"status {status}")
    return bool(status)


# Workers of Beam whose caller was killed: they end by themselves.
_orphans: list[psutil.Process] = []


def kill_in_chains(stage, place, count, kill):
    whole = undisturbed(place.stage, place)
    killed = chain = 0
    while killed < count:
        folder = place.folder / f"chain-{chain}"
        alive = CHAIN
        while alive and killed < count and kill(folder, whole):
            killed, alive = killed + 1, alive - 1
            check_halves(stage, folder, whole)
        run(stage, folder)
        _, left = psutil.wait_procs(_orphans, timeout=300)
        if left:
            raise Lost(f"workers are left: {left}")
        _orphans.clear()
        check_end(stage, folder, whole)
        shutil.rmtree(folder)
        chain += 1
    return killed


def check_halves(stage, folder, whole):
    """What bears its name already is whole, as it is at the end."""
    found = stage.look(folder)
    if not agrees(found, whole.found):
        raise Lost(f"{folder}: {found}, not {whole.found}")


def agrees(found, end):
    """Whether what is there is as at the end, or a beginning of it."""
    if isinstance(found, dict):
        return all(agrees(found[x], end[x]) for x in found if x in end)
    if isinstance(found, list):
        return found == end[: len(found)]
    return found == end


def fill_disk(stage, place, count):
    """A disk with too little room; then with enough."""
    whole = undisturbed(place.stage, place)
    pages = sum(
        -(-path.stat().st_size // PAGE)
        for path in (place.shared / place.stage).rglob("*")
        if path.is_file()
    )
    for index in range(count):
        folder = place.folder / f"disk-{index}"
        room = place.rng.integers(1, max(2, int(0.9 * pages)))
        with disk(folder, room * PAGE):
            refused(stage, folder, "No space left|must have room")
            if any(map(files.is_partial, folder.rglob("*"))):
                raise Lost("the half of a file is left")
            check_halves(stage, folder, whole)
            _mount("-o", "remount,size=100m", folder)
            run(stage, folder)
            check_end(stage, folder, whole)
    return count


def write_protect(stage, place, count):
    """A disk that cannot be written to; then one that can."""
    whole = undisturbed(place.stage, place)
    for index in range(count):
        folder = place.folder / f"disk-{index}"
        with disk(folder, 100_000_000):
            _mount("-o", "remount,ro", folder)
            refused(stage, folder, "Read-only|open to writing")
            _mount("-o", "remount,rw", folder)
            run(stage, folder)
            check_end(stage, folder, whole)
    return count


def protect_data(stage, place, count):
    """A dataset is used on a disk that cannot be written to."""
    whole, folder = undisturbed(place.stage, place), place.folder / "run"
    run(stage, folder)
    _mount("--bind", folder, folder)
    try:
        _mount("-o", "remount,ro,bind", folder)
        run(stage, folder)
        check_end(stage, folder, whole)
    finally:
        subprocess.run(["umount", folder], check=True)
    return count


@contextlib.contextmanager
def disk(folder, size):
    """A disk of some bytes in a folder."""
    folder.mkdir()
    _mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder)
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def _mount(*arguments):
    subprocess.run(["mount", *map(str, arguments)], check=True)


def set_clock_back(stage, place, count):
    """Killed, then on a clock a day earlier that jumps an hour back."""
    whole = undisturbed(place.stage, place)
    for index in range(count):
        folder = place.folder / f"run-{index}"
        number = fork(lambda folder=folder: stage.run(folder), folder)
        time.sleep(whole.seconds * place.rng.uniform(0.3, 1))
        end_by_kill(number)
        for path in folder.rglob("*"):
            os.utime(path, (time.time() + DAY,) * 2)
        moment = time.monotonic() + whole.seconds * place.rng.uniform(0, 0.7)

        def jump(moment=moment, real=time.time):
            time.time = lambda: real() - 3600 * (time.monotonic() > moment)

        run(stage, folder, jump)
        check_end(stage, folder, whole)
        costs = runs.costs(training.read_log(folder / "run" / "log.csv"))
        if min(costs.values()) < 0:
            raise Lost(f"the log has {costs}")
    return count


def start_two(stage, place, count):
    """Two of the same command at once: one works, the other is told."""
    whole = undisturbed(place.stage, place)
    for index in range(count):
        folder = place.folder / f"run-{index}"
        second = folder.with_name(folder.name + "-second")
        numbers = [
            fork(lambda: stage.run(folder), name)  # noqa: B023
            for name in (folder, second)
        ]
        statuses = [wait(number) for number in numbers]
        for name, status in zip((folder, second), statuses):
            if status == 2 and "one process at a time" not in said(name):
                raise Lost(said(name))
        # Neither is told where one waits for the other, or came after it.
        if sorted(statuses) not in ([0, 0], [0, 2]):
            raise Lost(f"statuses {statuses}")
        check_end(stage, folder, whole)
    return count


def cut_checkpoints(stage, place, count):
    """The newest checkpoint is cut short; removed, the run goes on."""
    whole = undisturbed(place.stage, place)
    folder = place.folder / "run"
    shutil.copytree(place.shared / place.stage, folder)
    (folder / "run" / "model.keras").unlink()
    newest = training.checkpoints(folder / "run")[-1]
    bytes_of_newest = newest.read_bytes()
    for length in place.rng.integers(0, len(bytes_of_newest), count):
        newest.write_bytes(bytes_of_newest[:length])
        refused(stage, folder, f"{newest.name}.*Remove it to go on")
    newest.unlink()
    run(stage, folder)
    check_end(stage, folder, whole)
    return count


def spoil_frames(stage, place, count):
    """A NaN frame in one video of 1,000: its steps are dropped, and counted."""

    def work():
        rng = np.random.default_rng(0)
        video = rng.uniform(size=(1000, 6, 8, 8, 1)).astype(np.float32)
        video[777, 3] = np.nan
        keras.utils.set_random_seed(0)
        parts = networks.flat_networks(
            8, 1, latent_size=1, encoder_filters=(4,), decoder_units=(4,)
        )
        model = HGN(**parts, num_inference_frames=3, num_decoded_frames=1)
        model.compile("adam")
        model.build((None, *video.shape[1:]))
        training.fit(
            model,
            lambda step: (
                tf.data.Dataset.from_tensor_slices(video)
                .batch(20)
                .repeat()
                .skip(step)
            ),
            place.folder / "run",
            100,
            50,
            verbose=0,
        )
        finite = all(np.isfinite(x).all() for x in model.get_weights())
        steps, dropped = int(model.steps), int(model.dropped_steps)
        learned = int(model.optimizer.iterations)
        return [steps, dropped, learned, finite]

    found = in_fork(work)
    if found != [100, 2, 98, True]:
        raise Lost(f"steps, dropped, learned, finite: {found}")
    return count


def alter_bytes(stage, place, count):
    """A byte of a file is altered: a line that names it, or the same."""

    def work():
        folder = place.folder / "altered"
        reader = stage(place.shared / "run", folder)
        expected = reader()
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        for path in paths:
            whole = path.read_bytes()
            for _ in range(count):
                altered = bytearray(whole)
                spot = place.rng.integers(len(whole))
                altered[spot] ^= place.rng.integers(1, 256)
                path.write_bytes(altered)
                try:
                    found = reader()
                except ValueError as error:
                    if path.name not in str(error) and "SHA256" not in str(
                        error
                    ):
                        raise
                else:
                    for one, other in zip(found, expected, strict=True):
                        np.testing.assert_array_equal(one, other)
            path.write_bytes(whole)
        return count * len(paths)

    return in_fork(work)


def _model_reader(run_dir, folder):
    folder.mkdir()
    shutil.copy(run_dir / "model.keras", folder)
    return lambda: runs.load_model(folder).get_weights()


def _checkpoint_reader(run_dir, folder):
    newest = training.checkpoints(run_dir)[-1]
    (folder / "checkpoints").mkdir(parents=True)
    shutil.copy(newest, folder / "checkpoints")
    model = runs.load_model(run_dir)

    def read():
        training.restore(model, folder)
        return [
            x.numpy() for x in (*model.variables, *model.optimizer.variables)
        ]

    return read


def _preset_reader(run_dir, folder):
    presets.save(runs.load_model(run_dir), folder, {"dataset": DATASET})

    def read():
        presets.card(folder)
        return HGN.from_preset(folder).get_weights()

    return read


def _array_reader(run_dir, folder):
    folder.mkdir()
    rng = np.random.default_rng(0)
    path = folder / "arrays.npz"
    files.write_arrays(path, {"x": rng.normal(size=999), "n": np.arange(9)})
    return lambda: list(files.read_arrays(path).values())


class Fault(NamedTuple):
    """A fault, and the rows that it has in the table.

    Attributes:
      function: Callable (stage, place, count) -> number of faults.
      title: What was done.
      after: What happened after it; {end} is what the stage ended with.
      counts: Number of faults by stage; of bytes altered, per file.
    """

    function: Callable[[Any, Place, int], int]
    title: str
    after: str
    counts: dict[str, int]


ENDS = {
    "prepare": "the same examples. No dataset was half there.",
    "prepare_beam": "the same examples. Workers ended by themselves.",
    "train": "the same weights, optimiser and counters.",
    "workers": "the same weights, optimiser and counters.",
    "table": "the same weights, scores and results.",
    "preset": "the same bytes of every file.",
}
STAGES = {
    "prepare": "preparation of a dataset",
    "prepare_beam": "preparation by Beam, 2 workers",
    "train": "training, one process",
    "workers": "training, two processes",
    "table": "a table: training, scores, results",
    "preset": "export of a preset",
    "model_file": "model.keras",
    "checkpoint_file": "a checkpoint",
    "preset_files": "a preset: its five files",
    "npz": "an .npz",
}
FAULTS = {
    "kill": Fault(
        kill_at_moments,
        "SIGKILL at a random moment",
        "The same command went on, to {end}",
        {
            "prepare": 40,
            "prepare_beam": 10,
            "train": 20,
            "table": 5,
            "preset": 15,
        },
    ),
    "kill_workers": Fault(
        kill_workers,
        "SIGKILL of one process, or of both, at a random moment",
        "The other ended with one line, or still waited for all to be there. "
        "The same commands went on, to {end}",
        {"workers": 10},
    ),
    "kill_write": Fault(
        kill_at_writes,
        "SIGKILL before a file is opened, renamed or removed",
        "The same command went on, to {end}",
        {"prepare": 10, "train": 10, "table": 2, "preset": 10},
    ),
    "full_disk": Fault(
        fill_disk,
        "disk full",
        "One line named the file or the disk, and no half was left. With "
        "room the same command ended with {end}",
        {"prepare": 4, "train": 4, "table": 1, "preset": 3},
    ),
    "read_only": Fault(
        write_protect,
        "folder read-only",
        "One line named the folder. Made writable, the same command ended "
        "with {end}",
        {"prepare": 1, "train": 1, "preset": 1},
    ),
    "read_only_data": Fault(
        protect_data,
        "folder of a dataset that is there read-only",
        "It was found, and read as ever.",
        {"prepare": 1},
    ),
    "clock": Fault(
        set_clock_back,
        "SIGKILL; the clock a day back, and later one more hour",
        "The same command went on, to {end} No time in the log was negative.",
        {"train": 5},
    ),
    "two": Fault(
        start_two,
        "two started at once in one folder",
        "One ended with {end} The other was told in one line, or waited and "
        "found the work done.",
        {"prepare": 3, "train": 3, "preset": 2},
    ),
    "nan": Fault(
        spoil_frames,
        "a NaN frame in 1 of 1,000 videos",
        "Training went on. The video's step was dropped in each of two "
        "epochs, and counted.",
        {"train": 1},
    ),
    "cut": Fault(
        cut_checkpoints,
        "newest checkpoint cut at a random length",
        "One line named the file and the remedy, to remove it. After that "
        "the same command ended with {end}",
        {"train": 10},
    ),
    "altered": Fault(
        alter_bytes,
        "a random byte altered, 100 times per file",
        "One line named the file, or every number was the same.",
        {
            "model_file": 100,
            "checkpoint_file": 100,
            "preset_files": 100,
            "npz": 100,
        },
    ),
}


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of a row: number of faults, and the seed of their moments."""

    count: int
    seed: int = 0


def list_rows() -> list[runs.Run]:
    """The rows as runs of a table."""
    return [
        runs.Run(stage, name, Config(count))
        for name, fault in FAULTS.items()
        for stage, count in fault.counts.items()
    ]


def make_row(run: runs.Run, folder: pathlib.Path) -> runs.Result:
    """Does something bad, and says what was lost."""
    fault = FAULTS[run.model]
    shared = folder.with_name("shared")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    seed = [run.config.seed, zlib.crc32(run.name.encode())]
    place = Place(run.group, folder, shared, np.random.default_rng(seed))
    wall, before = time.monotonic(), _usage()
    count, lost = run.config.count, 0
    try:
        count = fault.function(stages(shared)[run.group], place, count)
    except Lost as error:
        lost = 1
        print(f"LOST in {run.name}, see {folder}: {error}", file=sys.stderr)
    else:
        shutil.rmtree(folder)
    usage = _usage()
    return runs.Result(
        experiment=NAME,
        model=run.model,
        dataset=run.group,
        seed=run.config.seed,
        budget=NAME,
        metrics={"faults": count, "lost": lost},
        config=runs.as_json(run.config),
        commit=runs.commit(),
        wall_seconds=time.monotonic() - wall,
        cpu_seconds=sum(usage[:2]) - sum(before[:2]),
        peak_memory_mb=usage.ru_maxrss / 1024,
    )


def _usage():
    return resource.getrusage(resource.RUSAGE_CHILDREN)


def make_shared(folder: pathlib.Path) -> None:
    """The dataset and the trained run that rows begin with."""

    def make():
        prepare(folder)
        train_hgn(folder, folder)

    if (folder / "run" / "model.keras").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    if wait(fork(make, folder)):
        raise SystemExit(log_of(folder).read_text("utf-8"))


def format_table(results: list[runs.Result]) -> str:
    """Markdown: a line per row, in the order of FAULTS."""
    found = {(each.dataset, each.model): each.metrics for each in results}
    lines = []
    for row in list_rows():
        fault, metrics = FAULTS[row.model], found.get((row.group, row.model))
        cells = [STAGES[row.group], fault.title]
        if metrics:
            cells += [f"{metrics[key]:,.0f}" for key in ("faults", "lost")]
            cells.append(fault.after.format(end=ENDS.get(row.group)))
        else:
            cells += ["", "", "Not run yet: `make faults` goes on."]
        lines.append(cells)
    kills = sum(
        metrics["faults"]
        for (_, name), metrics in found.items()
        if name in ("kill", "kill_workers")
    )
    table = tables.markdown_table(
        ["what was disturbed", "fault", "faults", "lost", "what came after"],
        lines,
    )
    return (
        "# Faults, counted\n\n"
        "Made by `make faults`, on the smallest data and models that have all "
        "parts of large ones. Training of one process is `training.fit` of a "
        "PixelHNN, that of two `hgn-tf train --strategy multi_worker` of an "
        "HGN. The table is `hgn-tf table hgn` of another PixelHNN, the preset "
        "that of an HGN.\n\n"
        "What a command left at the end was compared "
        "with what it leaves undisturbed: the same files and none besides, "
        f"with equal arrays. {kills:.0f} kills came at moments drawn from the "
        "whole time of the command. Others came right before it touched a "
        f"file. A command was killed up to {CHAIN} times before it could end. "
        "In the system's folder of temporary files a kill may leave what "
        "TensorFlow puts there, and nothing of ours. Disks were small ones "
        f"in memory.\n\n{table}\n"
    )


def _read(path):
    return pathlib.Path(path).read_text(encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--only", default="", help="rows whose name has this expression"
    )
    parser.add_argument("--results", type=pathlib.Path, default="results")
    parser.add_argument("--runs", type=pathlib.Path, default="runs")
    options = parser.parse_args()
    if _read("/proc/self/uid_map").split()[2] != "1":
        raise SystemExit(
            "Disks of this script need a namespace of its own: `make faults`, "
            "or `unshare -rm python benchmarks/faults.py`."
        )
    # Sums of several threads come in any order, and the weights with them.
    os.environ["TF_NUM_INTRAOP_THREADS"] = "1"
    os.environ["TF_NUM_INTEROP_THREADS"] = "1"
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    register()
    folder = options.results / NAME
    for path in folder.glob("*.json"):
        if runs.read_result(path).metrics["lost"]:
            path.unlink()
    make_shared((options.runs / NAME / "shared").resolve())
    wanted = [x for x in list_rows() if re.search(options.only, x.name)]
    for result in runs.run_table(
        wanted, make_row, folder, (options.runs / NAME).resolve()
    ):
        metrics = result.metrics
        print(
            f"{result.dataset} {result.model}: {metrics['faults']:.0f} faults, "
            f"{metrics['lost']:.0f} lost, {result.cpu_seconds:.0f} CPU-s",
            flush=True,
        )
    results = runs.read_results(folder, Config, ("count", "seed"))
    text = format_table(results)
    files.write_whole(options.results / f"{NAME}.md", text.encode("utf-8"))
    if any(result.metrics["lost"] for result in results):
        raise SystemExit("Something was lost; the same command tries again.")


if __name__ == "__main__":
    main()
