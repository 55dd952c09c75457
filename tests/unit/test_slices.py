import errno
import os

import numpy as np
import pytest

import unprompted.slices as slices_module
from builders import make_volume
from unprompted.errors import UnpromptedError
from unprompted.geometry import Grid, canonical_reordering
from unprompted.images import Volume
from unprompted.slices import OnDemand, blocks, is_mapped, release, room_for


@pytest.fixture
def nothing_held(monkeypatch):
    monkeypatch.setattr(slices_module, "HELD_BYTES", 0)


def test_small_arrays_are_held_and_large_ones_lie_in_a_file():
    assert not is_mapped(room_for((4, 8, 8), np.uint8))
    assert is_mapped(room_for((17, 1024, 1024), np.uint8))


def test_a_mapped_array_begins_as_zeros_and_keeps_what_is_written_when_it_is_released(nothing_held):
    array = room_for((3, 4, 5), np.int16)
    assert not array.any()
    array[1] = 7
    release(array)
    assert array[1].tolist() == [[7] * 5] * 4
    assert array.sum() == 7 * 20


def test_a_view_of_a_mapped_array_is_mapped_too(nothing_held):
    assert is_mapped(room_for((3, 4, 5), np.int16).transpose(2, 1, 0)[::-1, 1:])


def test_reordering_a_mapped_array_copies_nothing(nothing_held):
    array = room_for((3, 4, 5), np.int16)
    array[2, 3, 4] = 9
    turned = canonical_reordering(Grid.without_mm((3, 4, 5)), "R").apply(array)
    assert np.shares_memory(turned, array)
    assert turned.sum() == 9


def test_a_full_disk_is_told_before_anything_is_written(nothing_held, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(UnpromptedError, match=r"no room for 4 MiB.*TMPDIR"):
        room_for((4, 1024, 1024), np.uint8)


def test_blocks_are_all_slices_in_order(monkeypatch):
    monkeypatch.setattr(slices_module, "_BLOCK_BYTES", 2 * 6)
    array = np.arange(5 * 6, dtype=np.uint8).reshape(5, 2, 3)
    found = list(blocks(array))
    assert [len(block) for block in found] == [2, 2, 1]
    assert np.concatenate(found).tolist() == array.tolist()


@pytest.mark.parametrize(
    "where", [3, -1, slice(2, 5), slice(None), slice(6, 0, -2), (slice(1, 3), slice(0, 2)), (4, 1, 2)]
)
def test_slices_on_demand_are_indexed_like_an_array(where):
    array = np.arange(8 * 3 * 4).reshape(8, 3, 4)
    lazy = OnDemand(array.shape, array.dtype, lambda start, stop: array[start:stop])
    np.testing.assert_array_equal(lazy[where], array[where])
    np.testing.assert_array_equal(np.asarray(lazy), array)


def test_a_mapped_volume_stays_mapped_along_another_axis(nothing_held):
    volume = make_volume((5, 6, 7), (3, 1, 1))
    mapped = room_for((5, 6, 7), np.float32)
    mapped[:] = volume.voxels
    lying = Volume(mapped, volume.grid)
    assert is_mapped(lying.sliced_along("R").voxels)
    np.testing.assert_array_equal(lying.sliced_along("R").voxels, volume.sliced_along("R").voxels)
