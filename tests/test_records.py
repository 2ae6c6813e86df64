"""Records of a file, one by one: their places, and what is not whole."""

import os

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from hgn_tf import records

DATA = [b"ab", b"", b"cdefg"]


def write(path):
    with tf.io.TFRecordWriter(os.fspath(path)) as writer:
        for each in DATA:
            writer.write(each)
    return tfds.core.Path(path)


def read(path, offsets):
    """The records at some offsets, in that order."""
    name = tf.constant(os.fspath(path))
    places = tf.data.Dataset.from_tensor_slices(np.int64(offsets))
    found = places.flat_map(lambda place: records.read_record(name, place))
    return list(found.as_numpy_iterator())


def test_records_are_read_in_any_order(tmp_path):
    path = write(tmp_path / "x.tfrecord")
    offsets = records.find_offsets(path, 3)
    assert offsets.dtype == np.int64
    rows = [2, 0, 1, 0]
    assert read(path, offsets[rows]) == [DATA[row] for row in rows]
    records.check([path])


def test_records_are_read_from_other_file_systems(tmp_path):
    path = write(tmp_path / "x.tfrecord")
    tf.io.gfile.copy(os.fspath(path), "ram://x.tfrecord")
    offsets = records.find_offsets(path, 3)
    assert read("ram://x.tfrecord", offsets[::-1]) == DATA[::-1]


def test_every_altered_byte_is_told(tmp_path):
    """A length by its file's end or its checksum, data by their checksum."""
    path = write(tmp_path / "x.tfrecord")
    whole = path.read_bytes()
    for place in range(len(whole)):
        altered = bytearray(whole)
        altered[place] ^= 1
        path.write_bytes(altered)
        with pytest.raises((ValueError, tf.errors.DataLossError)):
            read(path, records.find_offsets(path, 3))
        with pytest.raises(ValueError, match=r"x.tfrecord.*record \d is not"):
            records.check([path])


def test_every_cut_is_told(tmp_path):
    path = write(tmp_path / "x.tfrecord")
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"record \d of 3 ends past"):
            records.find_offsets(path, 3)


def test_more_records_than_expected_are_told(tmp_path):
    path = write(tmp_path / "x.tfrecord")
    with pytest.raises(ValueError, match=r"\d+ bytes follow record 2"):
        records.find_offsets(path, 2)
