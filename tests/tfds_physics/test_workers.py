"""The map over processes: in order, and with clear errors."""

import os

import pytest

from tfds_physics.video import workers


def test_map_keeps_order_and_passes_errors_on():
    assert list(workers.ordered_map(abs, range(-9, 0), 2)) == [*range(9, 0, -1)]
    assert list(workers.ordered_map(abs, [], 2)) == []
    with pytest.raises(TypeError, match="bad operand"):
        list(workers.ordered_map(abs, ["a", 1], 2))


def test_map_may_be_left_half_way():
    left = workers.ordered_map(abs, range(9), 2)
    other = workers.ordered_map(abs, range(10, 19), 2)
    assert [next(left), next(other), next(left), next(other)] == [0, 10, 1, 11]


def test_dead_worker_is_one_clear_error():
    with pytest.raises(RuntimeError, match="Worker processes must stay"):
        list(workers.ordered_map(os._exit, [1, 1], 2))
