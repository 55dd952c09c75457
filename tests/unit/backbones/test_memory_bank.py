import pytest
import torch

from unprompted.backbones.base import MemoryBank, MemoryEntry


def make_entry(number, objects=1):
    return MemoryEntry(torch.full((2, objects, 3), float(number)), torch.full((objects, 4), float(number)))


def bank_of(positions, supports=1):
    bank = MemoryBank(tuple(make_entry(-100 - n) for n in range(supports)))
    for position in positions:
        bank = bank.remembering(position, make_entry(position))
    return bank


def numbers(pairs):
    return [(step, int(tensor.flatten()[0])) for step, tensor in pairs]


def test_an_empty_bank_recalls_nothing():
    recall = MemoryBank().recall(3, 0, 1)
    assert (recall.tokens, recall.pointers) == ((), ())


def test_all_support_stands_at_one_place_just_before_the_start():
    recall = bank_of([], supports=2).recall(position=12, start=10, direction=1)
    assert numbers(recall.tokens) == [(0, -100), (0, -101)]
    assert numbers(recall.pointers) == [(3, -100), (3, -101)]


@pytest.mark.parametrize(("direction", "positions"), [(1, [4, 5, 6]), (-1, [10, 9, 8])])
def test_frames_count_by_their_steps_back_in_either_direction(direction, positions):
    recall = bank_of(positions).recall(position=7, start=positions[0], direction=direction)
    expected = [(back, position) for back, position in zip((3, 2, 1), positions, strict=True)]
    assert numbers(recall.tokens)[1:] == expected
    assert numbers(recall.pointers)[1:] == expected


def test_six_frames_of_tokens_and_fifteen_pointers_are_recalled():
    recall = bank_of(range(30)).recall(position=30, start=0, direction=1)
    assert [step for step, _ in recall.tokens] == [0, 6, 5, 4, 3, 2, 1]
    assert [step for step, _ in recall.pointers] == [31, *range(15, 0, -1)]


def test_the_bank_is_bounded_however_long_the_sequence():
    assert sorted(bank_of(range(200)).recent) == list(range(184, 200))


def test_remembering_gives_a_new_bank():
    before = bank_of([0])
    before.remembering(1, make_entry(1))
    assert list(before.recent) == [0]


def test_an_entry_can_be_cut_to_objects_and_put_together_again():
    three = MemoryEntry(torch.arange(12.0).view(2, 3, 2), torch.arange(3.0).view(3, 1))
    parts = [three.of(torch.tensor([k])) for k in (2, 0)]
    joined = MemoryEntry.across_objects(iter(parts))
    assert joined.pointer.flatten().tolist() == [2, 0]
    assert torch.equal(joined.tokens[:, 0], three.tokens[:, 2])
