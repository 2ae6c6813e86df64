"""Records of TFRecord files, each read without the others.

A record is the length of its data in 8 bytes, a checksum of those in 4, the
data, and a checksum of the data in 4. So the places of all records are found
by hopping from length to length, and a record is read from its place alone.

Source: TensorFlow, the guide "TFRecord and tf.train.Example", section
  "TFRecords format details".
"""

import os
from collections.abc import Iterable
from typing import Any

import numpy as np
import tensorflow as tf

from hgn_tf import files

_LENGTH, _AROUND = 8, 16  # bytes of the length, and of all but the data


def find_offsets(path: Any, count: int) -> np.ndarray:
    """Where the records of a file begin.

    Args:
      path: File, an `epath.Path` as TFDS gives it.
      count: Number of records that it must have.
    Returns: int64 [count], in bytes.
    Raises: ValueError: if the file has another number of records, or ends in
      the middle of one.
    """
    offsets = np.empty(count, np.int64)
    size, place = path.stat().length, 0
    with path.open("rb") as file:
        for number in range(count):
            offsets[number] = place
            file.seek(place)
            length = int.from_bytes(file.read(_LENGTH), "little")
            place += _AROUND + length
            if place > size:
                raise _altered(
                    path, f"record {number + 1} of {count} ends past the end"
                )
    if place != size:
        raise _altered(path, f"{size - place} bytes follow record {count}")
    return offsets


def read_record(path: tf.Tensor, offset: tf.Tensor) -> tf.data.Dataset:
    """The record that begins at an offset of a file.

    For functions of `interleave` and `flat_map` alone: TensorFlow cannot write
    this dataset down, as it does with what stands outside of a function.

    Args:
      path: Name of the file, on any file system that TensorFlow knows.
      offset: int64, in bytes.
    Returns: Dataset of one string. Reading it raises
      `tf.errors.DataLossError` if a checksum does not fit.
    """
    # Without a buffer, which would be filled past the end of the record.
    record = tf.raw_ops.TFRecordDatasetV2(
        filenames=[path],
        compression_type="",
        buffer_size=tf.constant(0, tf.int64),
        byte_offsets=[offset],
    )
    spec = tf.TensorSpec([], tf.string)
    return tf.data.experimental.from_variant(record, spec).take(1)


def check(paths: Iterable[str | os.PathLike]) -> None:
    """Reads all records of files, and compares their checksums.

    Raises: ValueError: if one does not fit, naming the file and the record.
    """
    for path in paths:
        count = 0
        try:
            for _ in tf.data.TFRecordDataset(os.fspath(path)):
                count += 1
        except tf.errors.DataLossError as error:
            raise _altered(
                path, f"record {count + 1} is not what its checksum says"
            ) from error


def _altered(path, why):
    folder = os.path.dirname(os.fspath(path))
    return files.not_whole(
        path, ValueError(why), f"Remove {folder} and prepare it again."
    )
