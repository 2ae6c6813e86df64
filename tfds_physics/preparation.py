"""How a dataset gets into its folder: the builder that all others extend.

A dataset is whole or not there, made by one process at a time or by Apache
Beam on several, and the settings that it was made with are kept beside it.
"""

import contextlib
import dataclasses
import errno
import functools
import itertools
import os
import pathlib
import shutil
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import filelock
import numpy as np
import tensorflow_datasets as tfds

_FULL_DISK = (errno.ENOSPC, errno.EDQUOT)
_CUT = "max_examples_per_split"  # in the metadata of a part of a dataset


@dataclasses.dataclass(frozen=True)
class Chunks:
    """The examples of a split, in parts that any process can make.

    Attributes:
      make: Callable item -> (key, example) pairs. Picklable, as are `items`.
      items: One item per part, in order.
    """

    make: Callable[[Any], Iterable[tuple[Any, dict]]]
    items: Sequence


class PhysicsBuilder(  # type: ignore[call-arg]
    tfds.core.GeneratorBasedBuilder, skip_registration=True
):
    """A builder whose datasets are whole, and can be made by Apache Beam.

    A subclass gives `expected_sizes`, `_settings` and `_chunks`.
    """

    def __init__(self, **kwargs: Any):
        """Makes a builder.

        Args:
          **kwargs: Arguments of `tfds.core.GeneratorBasedBuilder`: `config`,
            `data_dir`, `file_format` and others.

        Raises:
          ValueError: If the folder holds data made with other settings under
            the same config name, or `data_dir` is of no known file system.
          TypeError: If the config or its system is of another kind, or there
            is `num_workers`.
        """
        if "num_workers" in kwargs:
            raise TypeError(
                "Several processes must be asked of Apache Beam, by "
                "`download_and_prepare(download_config=tfds.download."
                "DownloadConfig(beam_options=...))`. Received: num_workers="
                f"{kwargs['num_workers']!r}."
            )
        _check_file_system(kwargs.get("data_dir"))
        super().__init__(**kwargs)
        # TFDS leaves it out when a builder goes to another process.
        self._original_state["file_format"] = kwargs.get("file_format")
        self._download_config = tfds.download.DownloadConfig()
        if self.data_path.exists():
            self._check_same_settings()

    @property
    def expected_sizes(self) -> dict[str, int]:
        """Number of examples by split of the whole dataset."""
        raise NotImplementedError

    @property
    def missing_examples(self) -> str:
        """Such as "8 of 64 examples of train"; empty if none are missing."""
        found = {
            split: self.info.splits[split].num_examples
            if split in self.info.splits
            else 0
            for split in self.expected_sizes
        }
        return ", ".join(
            f"{found[split]:,} of {size:,} examples of {split}"
            for split, size in self.expected_sizes.items()
            if found[split] < size
        )

    def check_whole(self) -> None:
        """Refuses prepared data that are a part of the dataset.

        Raises:
          ValueError: If a split has fewer examples than it should have, as
            after preparation with `max_examples_per_split`.
        """
        missing = self.missing_examples
        if missing:
            raise ValueError(
                f"The dataset must be whole. Received: {self.data_dir} with "
                f"{missing}. Remove that folder and prepare it again, or use "
                "another `data_dir`."
            )

    def download_and_prepare(self, **kwargs: Any) -> None:
        """Makes the dataset unless it is there.

        With `beam_runner` or `beam_options` in the `download_config` Apache
        Beam makes it, on as many processes as the options say: the same
        examples.

        Args:
          **kwargs: Arguments of
            `tfds.core.DatasetBuilder.download_and_prepare`.

        Raises:
          OSError: If the disk is too full (errno ENOSPC).
          ImportError: If Beam is asked for and not installed.
        """
        config = kwargs.get("download_config") or self._download_config
        overwrite = config.download_mode.overwrite_dataset
        is_there = self.data_path.exists() and not overwrite
        if is_there or not is_local(self.data_path) or _is_mocked():
            super().download_and_prepare(**kwargs)
            return
        data_path = pathlib.Path(self.data_dir)
        needed = self._estimate_bytes(config.max_examples_per_split)
        with enough_space(data_path, needed), sole_writer(data_path):
            super().download_and_prepare(**kwargs)
        if not self.info.splits:  # another process made it while we waited
            self.info.read_from_directory(self.data_dir)
            self._check_same_settings()

    def as_dataset(self, *args: Any, **kwargs: Any) -> Any:
        """As `tfds.core.DatasetBuilder.as_dataset`; warns of a part."""
        self._warn_of_a_part()
        return super().as_dataset(*args, **kwargs)

    def as_data_source(self, *args: Any, **kwargs: Any) -> Any:
        """As `tfds.core.DatasetBuilder.as_data_source`; warns of a part."""
        self._warn_of_a_part()
        return super().as_data_source(*args, **kwargs)

    def _download_and_prepare(self, dl_manager, download_config):
        """What TFDS calls when it makes the data after all."""
        self._download_config = download_config
        limit = download_config.max_examples_per_split
        self.info.metadata.pop(_CUT, None)
        if limit is not None and limit < max(self.expected_sizes.values()):
            self.info.metadata[_CUT] = limit
        super()._download_and_prepare(dl_manager, download_config)

    def _warn_of_a_part(self):
        if self.info.splits and self.missing_examples:
            warnings.warn(
                f"{self.data_dir} is a part of the dataset: "
                f"{self.missing_examples}.",
                stacklevel=3,
            )

    def _split_generators(self, dl_manager):
        return {
            split: self._generate_examples(chunks)
            for split, chunks in self._chunks(dl_manager).items()
        }

    def _generate_examples(self, chunks):
        """Iterator of (key, example), or the PTransform to them."""
        config = self._download_config
        if config.beam_runner is None and config.beam_options is None:
            return _iterate(chunks)
        _check_beam(config)
        return _beam_examples(chunks, config.max_examples_per_split)

    def _chunks(self, dl_manager) -> dict[str, Chunks]:
        """The work by split."""
        raise NotImplementedError

    def _settings(self) -> dict:
        """All that decides the data, as plain JSON."""
        raise NotImplementedError

    def _check_same_settings(self):
        """TFDS goes by names alone and would hand out data of other settings.

        So the settings are kept as metadata beside the data.
        """
        stored = dict(self.info.metadata or {})
        stored.pop(_CUT, None)
        wanted = self._settings()
        if stored != wanted:
            differing = {
                key: (stored.get(key), wanted[key])
                for key in wanted
                if stored.get(key) != wanted[key]
            }
            raise ValueError(
                "A config's name must always stand for the same settings. "
                f"Received: other settings than those of the data in "
                f"{self.data_dir} (stored, wanted): {differing}. Give the "
                "config another name, or remove that folder."
            )

    def _estimate_bytes(self, max_examples: int | None = None) -> int:
        """Bytes on the disk."""
        per_example = sum(
            np.prod(feature.shape, dtype=int)
            * np.dtype(feature.np_dtype).itemsize
            for feature in self.info.features.values()
        )
        sizes = self.expected_sizes.values()
        count = sum(min(size, max_examples or size) for size in sizes)
        return int(1.1 * per_example * count)


def is_local(path: str | os.PathLike) -> bool:
    """Whether a path of TFDS is of this machine, not of a bucket."""
    return "://" not in os.fspath(path)


@contextlib.contextmanager
def sole_writer(data_path: pathlib.Path) -> Iterator[None]:
    """Waits until no other process writes the folder, then removes orphans.

    TFDS writes to a folder "incomplete.*" and renames it when it is whole. A
    killed process leaves that folder behind, but its lock dies with it: so,
    under the lock, every such folder is an orphan. For local disks.

    Args:
      data_path: Folder <data_dir>/<dataset>/<config>/<version> to be written.
    """
    data_path.parent.mkdir(parents=True, exist_ok=True)
    lock_path = data_path.parent / f".{data_path.name}.lock"
    with filelock.FileLock(lock_path):
        for orphan in data_path.parent.glob(f"incomplete.*_{data_path.name}"):
            shutil.rmtree(orphan)
        _remove_half_metadata(data_path.parent.parent, lock_path)
        yield


def _remove_half_metadata(dataset: pathlib.Path, own_lock: pathlib.Path):
    """What a killed process left of the file that all configs share.

    Orphans are listed before the locks: who writes one has its lock already.
    """
    orphans = list(dataset.glob(".config/incomplete.*"))
    with contextlib.ExitStack() as stack:
        for path in dataset.glob("*/.*.lock") if orphans else ():
            if path != own_lock:
                try:
                    stack.enter_context(filelock.FileLock(path, timeout=0))
                except filelock.Timeout:
                    return  # Another config is being made.
        for orphan in orphans:
            orphan.unlink(missing_ok=True)


@contextlib.contextmanager
def enough_space(data_path: pathlib.Path, needed: int) -> Iterator[None]:
    """Raises one clear error if the disk is, or becomes, too full.

    Args:
      data_path: Folder to be written; an existing folder above it is asked.
      needed: Estimate of the bytes to be written.

    Raises:
      OSError: With errno ENOSPC, naming the folder and the space needed.
    """
    folder = data_path
    while not folder.exists():
        folder = folder.parent
    if shutil.disk_usage(folder).free < needed:
        raise _full_disk_error(data_path, folder, needed)
    try:
        yield
    except Exception as error:
        if not _is_full_disk(error):
            raise
        raise _full_disk_error(data_path, folder, needed) from error


def parse_beam_options(text: str) -> Any:
    """PipelineOptions of Apache Beam from a line of text.

    Args:
      text: Options with a comma between them, as of
        `tfds build --beam_pipeline_options`: "name=value,other=value".

    Raises:
      ImportError: If Beam is not installed.
    """
    options = _import_beam_options()
    return options(flags=[f"--{option}" for option in text.split(",")])


def _iterate(chunks):
    return itertools.chain.from_iterable(map(chunks.make, chunks.items))


def _first(limit, chunks):
    return itertools.islice(_iterate(chunks), limit)


def _beam_examples(chunks, limit):
    """PTransform to the (key, example) pairs of a split, or the first few."""
    import apache_beam as beam

    if limit is not None:
        # A look at a dataset: TFDS's own Beam path would make all of it.
        make = functools.partial(_first, limit)
        return beam.Create([chunks]) | beam.FlatMap(make)
    return (
        beam.Create(list(chunks.items))
        | beam.Reshuffle()  # the items go to all workers
        | beam.FlatMap(chunks.make)
    )


def _import_beam_options():
    try:
        from apache_beam.options.pipeline_options import PipelineOptions
    except ImportError as error:
        raise ImportError(
            "Apache Beam must be installed where its runner or options are "
            f"given. Received: {error}. Install it by `pip install "
            "'hgn-tf[beam]'`, or leave them out for one process."
        ) from error
    return PipelineOptions


def _check_beam(config):
    kind = _import_beam_options()
    if not isinstance(config.beam_options, kind | None):
        raise TypeError(
            "`beam_options` must be PipelineOptions of Apache Beam, such as "
            "PipelineOptions(direct_num_workers=2, direct_running_mode="
            f"'multi_processing'). Received: {config.beam_options!r}."
        )
    if config.nondeterministic_order and config.num_shards is None:
        # Beam stops in the middle of its pipeline otherwise.
        raise ValueError(
            "`num_shards` must be given with `nondeterministic_order` and "
            "Apache Beam. Received: None."
        )


def _check_file_system(data_dir):
    try:
        tfds.core.Path(data_dir or "")
    except KeyError as error:
        raise ValueError(
            "`data_dir` must be a local path, or begin with gs://, s3://, "
            f"az:// or hf://. Received: {os.fspath(data_dir)!r}."
        ) from error


def _is_mocked() -> bool:
    """Whether TFDS prepares nothing, as in `tfds.testing.mock_data`."""
    base = tfds.core.DatasetBuilder
    return base.download_and_prepare.__module__ != base.__module__


def _is_full_disk(error: Exception) -> bool:
    """By the system's own words, whatever type they are wrapped in.

    TensorFlow raises a ResourceExhaustedError, which TFDS turns into a
    RuntimeError; both quote the system's message.
    """
    return any(os.strerror(code) in str(error) for code in _FULL_DISK)


def _full_disk_error(
    data_path: pathlib.Path, folder: pathlib.Path, needed: int
) -> OSError:
    free = shutil.disk_usage(folder).free
    return OSError(
        errno.ENOSPC,
        f"The disk must have room for about {needed / 1e6:.1f} MB to prepare "
        f"the dataset. Received: {free / 1e6:.1f} MB free. Free some space, "
        "pass another `data_dir`, or choose a config with smaller splits. "
        "Datasets that were prepared before are untouched",
        os.fspath(data_path),
    )
