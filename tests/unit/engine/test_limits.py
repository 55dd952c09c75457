from itertools import pairwise

import pytest

from fakes import FakeBackbone
from unprompted.engine.limits import Limits
from unprompted.errors import UsageError

GIB, MIB = 1 << 30, 1 << 20


class Large(FakeBackbone):
    """SAM 2.1 at 1024 pixels: a class in attention takes about 400 MiB, a frame in the encoder as much."""

    input_size, channels, memory_width = 1024, 256, 64


def test_much_room_takes_all_at_once():
    assert Limits.within(64 * GIB, Large(), 8) == Limits()


def test_classes_go_in_parts_where_they_do_not_fit():
    limits = Limits.within(6 * GIB, Large(), 100)
    assert limits.objects is not None
    assert 1 <= limits.objects < 10


def test_less_room_never_takes_more():
    found = [Limits.within(gib * GIB, Large(), 30) for gib in (16, 8, 5, 4)]
    for more, less in pairwise(found):
        assert less.frames <= more.frames
        assert less.kept_bytes <= more.kept_bytes
        assert (less.objects or 30) <= (more.objects or 30)


def test_too_little_room_for_one_frame_is_refused_with_what_is_missing():
    with pytest.raises(UsageError, match=r"leaves 300 MiB.*raise it by \d+ MiB.*--input-size"):
        Limits.within(300 * MIB, Large(), 1)
