import pytest
import torch

from fakes import GRID, FakeBackbone
from unprompted.methods.base import SupportFrames
from unprompted.methods.support_memory import (
    SupportMemory,
    conditioning,
    cosine,
    spread,
    spread_per_class,
)
from unprompted.prediction import Chosen


def make_support(shown, levels=None):
    """Frame n shows the objects ``shown[n]`` and has the grey level ``levels[n]``."""
    objects = max(k for row in shown for k in row) + 1
    pixels, labels = torch.zeros(len(shown), 3, 64, 64), torch.zeros(len(shown), 64, 64, dtype=torch.uint8)
    source = torch.Generator().manual_seed(0)
    for n, row in enumerate(shown):
        pixels[n] = torch.rand(3, 64, 64, generator=source) if levels is None else levels[n]
        for k in row:
            labels[n, 16:48, 16 * k : 16 * k + 16] = k + 1
    return SupportFrames(pixels, labels, objects, (0,) * len(shown), tuple(range(len(shown))))


def make_memory(shown, frames=None):
    return SupportMemory.build(FakeBackbone(), make_support(shown), frames or list(range(len(shown))))


def test_every_shown_object_is_remembered_frame_by_frame():
    memory = make_memory([[0], [1, 2], [], [2]])
    assert sorted(memory.entries) == [(0, 0), (1, 1), (1, 2), (3, 2)]
    assert memory.entries[1, 2].tokens.shape == (GRID * GRID, 1, 8)
    assert memory.pooled.shape == (4, 16)
    assert memory.shows.tolist() == [
        [True, False, False],
        [False, True, True],
        [False, False, False],
        [False, False, True],
    ]


def test_an_entry_holds_the_mask_of_its_own_object():
    memory = make_memory([[0, 2]])
    covered = {k: memory.entries[0, k].tokens[:, 0, 4:].mean(dim=1).view(GRID, GRID) for k in (0, 2)}
    assert covered[0].tolist() == [[0, 0, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
    assert covered[2].tolist() == [[0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 1, 0], [0, 0, 0, 0]]


def test_only_the_frames_asked_for_are_held():
    memory = make_memory([[0], [0], [0]], frames=[0, 2])
    assert memory.frames == (0, 2)
    assert memory.most_similar(torch.tensor([0.0, 1.0]), 1).tolist() == [[2]]


def test_the_planted_nearest_slice_is_found():
    support = make_support([[0]] * 5)
    memory = SupportMemory.build(FakeBackbone(), support, list(range(5)))
    for planted in range(5):
        near = support.pixels[planted : planted + 1] + 0.02
        scores = cosine(FakeBackbone().encode(near)[0].pooled[None], memory.pooled)[0]
        assert memory.most_similar(scores, 1).tolist() == [[planted]]


def test_each_object_gets_the_best_frames_among_those_that_show_it():
    memory = make_memory([[0, 1], [0], [1], [0, 1]])
    scores = torch.tensor([0.1, 0.9, 0.5, 0.3])
    assert memory.most_similar(scores, 2).tolist() == [[1, 2], [3, 3]]  # rows: rank, columns: object
    assert memory.most_similar(scores, 2, objects=[1]).tolist() == [[2], [3]]


def test_ties_go_to_the_lower_frame():
    memory = make_memory([[0]] * 4)
    assert memory.most_similar(torch.tensor([0.5, 0.7, 0.7, 0.7]), 3)[:, 0].tolist() == [1, 2, 3]


def test_the_best_frames_are_repeated_where_few_show_the_object():
    memory = make_memory([[0], [1], [0]])
    assert memory.most_similar(torch.tensor([0.2, 0.1, 0.8]), 5)[:, 0].tolist() == [2, 0, 2, 0, 2]
    assert memory.most_similar(torch.tensor([0.2, 0.1, 0.8]), 5)[:, 1].tolist() == [1] * 5


def test_a_frame_scored_minus_infinity_is_left_out():
    memory = make_memory([[0], [0], [0]])
    assert memory.most_similar(torch.tensor([0.2, -torch.inf, 0.1]), 2)[:, 0].tolist() == [0, 2]


def test_frames_can_be_spread_evenly_over_those_that_show_an_object():
    memory = make_memory([[0], [0, 1], [0], [0], [0]])
    assert memory.evenly_spaced(3).tolist() == [[0, 1], [2, 1], [4, 1]]


def test_entries_are_composed_from_different_frames():
    memory = make_memory([[0], [1], [0, 1]])
    first, second = memory.compose(torch.tensor([[0, 1], [2, 2]]))
    assert torch.equal(first.tokens[:, 0], memory.entries[0, 0].tokens[:, 0])
    assert torch.equal(first.tokens[:, 1], memory.entries[1, 1].tokens[:, 0])
    assert torch.equal(second.pointer[1], memory.entries[2, 1].pointer[0])


def test_similarity_ignores_what_all_support_frames_share():
    common = torch.tensor([100.0, 100.0])
    support = common + torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    scores = cosine(common + torch.tensor([[2.0, 0.0]]), support)
    torch.testing.assert_close(scores, torch.tensor([[1.0, -1.0]]))


def test_similarity_to_a_single_support_frame_is_the_plain_cosine():
    scores = cosine(torch.tensor([[1.0, 0.0], [0.0, 3.0]]), torch.tensor([[2.0, 0.0]]))
    torch.testing.assert_close(scores, torch.tensor([[1.0], [0.0]]))


@pytest.mark.parametrize(
    ("candidates", "count", "chosen"),
    [
        ([3, 5, 8], 5, [3, 5, 8]),
        ([0, 1, 2, 3, 4], 3, [0, 2, 4]),
        ([0, 1, 2, 3], 1, [2]),
        (list(range(10)), 4, [0, 3, 6, 9]),
        ([], 2, []),
    ],
)
def test_frames_are_spread_evenly_with_both_ends(candidates, count, chosen):
    assert spread(candidates, count) == chosen


def test_an_object_that_is_held_but_not_shown_is_remembered_as_absent():
    held = torch.tensor([[True, True], [False, True]])
    memory = SupportMemory.build(FakeBackbone(), make_support([[0], [1]]), [0, 1], held)
    assert sorted(memory.entries) == [(0, 0), (0, 1), (1, 1)]
    assert memory.shows.tolist() == held.tolist()
    assert float(memory.entries[0, 0].tokens[..., 4:].max()) == 1
    assert float(memory.entries[0, 1].tokens[..., 4:].max()) == 0


def test_retrieval_compares_pooled_features_or_what_it_is_told_to():
    support = make_support([[0], [0]])
    assert make_memory([[0], [0]]).described.shape == (2, 16)
    finest = SupportMemory.build(
        FakeBackbone(), support, [0, 1], describe=lambda features: features.levels[0].flatten()
    )
    assert finest.described.shape == (2, 2 * 16 * 16)


def test_what_was_chosen_is_told_by_case_and_slice_without_repetitions():
    support = make_support([[0, 1], [0], [1]])
    support = SupportFrames(support.pixels, support.labels, 2, (0, 1, 1), (4, 7, 9), (0, 3, 0))
    memory = SupportMemory.build(FakeBackbone(), support, [0, 1, 2])
    chosen = memory.chosen(torch.tensor([[1, 2], [0, 2]]), torch.tensor([0.25, 0.5, 0.125]))
    assert chosen == (Chosen(0, 1, 7, 0.5, 3), Chosen(0, 0, 4, 0.25), Chosen(1, 1, 9, 0.125))


def test_conditioning_entries_repeat_the_frames_of_a_class_that_has_fewer():
    first, second = conditioning(FakeBackbone(), make_support([[0, 1], [0]]), [[0, 1], [0]])
    assert torch.equal(first.tokens[:, 1], second.tokens[:, 1])
    assert not torch.equal(first.tokens[:, 0], second.tokens[:, 0])


def test_frames_are_spread_over_each_class_and_counted_once():
    shows = torch.tensor([[1, 0], [1, 0], [1, 1], [0, 1], [0, 1]]).bool()
    assert spread_per_class(shows, 2) == [0, 2, 4]
    assert spread_per_class(shows, 9) == [0, 1, 2, 3, 4]
