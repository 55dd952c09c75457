from dataclasses import dataclass

import pytest
import torch

from fakes import FakeBackbone
from unprompted.backbones.base import MemoryBank, MemoryEntry
from unprompted.engine.sweep import places, sweep
from unprompted.methods.base import Place, Step


def numbered_entry(position):
    return MemoryEntry(torch.full((1, 1, 1), float(position)), torch.full((1, 1), float(position)))


@dataclass
class Diary:
    """A method that only writes down what the engine hands it; every entry holds its own position."""

    first: int = 0
    skipped: tuple = ()
    looks_ahead: bool = True

    def __post_init__(self):
        self.seen = {}

    def start(self, fitted, pooled):
        return self.first

    def begin(self, fitted, pooled, start):
        return (), MemoryBank((numbered_entry(-100),))

    def step(self, backbone, state, features, memory, at):
        recall = memory.recall(at.position, at.start, at.direction)
        tokens = [(slot, int(t[0, 0, 0])) for slot, t in recall.tokens]
        self.seen[at.position] = (features, state, tokens, [(b, int(p[0, 0])) for b, p in recall.pointers])
        entry = None if at.position in self.skipped else numbered_entry(at.position)
        return Step(None, None, (*state, at.position), entry)


class Numbers(list):
    """Frames whose features are their own number."""

    def pooled(self):
        return torch.zeros(len(self), 16)


def swept(method, length):
    order = [position for position, _ in sweep(method, FakeBackbone(), None, Numbers(range(length)))]
    return order, method.seen


@pytest.mark.parametrize(
    ("length", "start", "order"),
    [
        (4, 0, [(0, 1), (1, 1), (2, 1), (3, 1)]),
        (4, 2, [(2, 1), (3, 1), (1, -1), (0, -1)]),
        (4, 3, [(3, 1), (2, -1), (1, -1), (0, -1)]),
        (1, 0, [(0, 1)]),
    ],
)
def test_places_run_from_the_start_to_the_end_and_then_back(length, start, order):
    assert list(places(length, start)) == [Place(position, start, way) for position, way in order]


def test_every_frame_is_handed_to_the_method_once_with_its_own_features():
    order, seen = swept(Diary(first=3), 6)
    assert order == [3, 4, 5, 2, 1, 0]
    assert all(seen[position][0] == position for position in range(6))


def test_forward_the_nearest_six_frames_and_fifteen_pointers_are_recalled():
    _, seen = swept(Diary(), 20)
    _, _, tokens, pointers = seen[18]
    assert tokens == [(0, -100)] + [(back, 18 - back) for back in (6, 5, 4, 3, 2, 1)]
    assert pointers == [(19, -100)] + [(back, 18 - back) for back in range(15, 0, -1)]


def test_the_first_frame_recalls_support_alone_one_step_back():
    _, seen = swept(Diary(first=4), 9)
    assert seen[4][2:] == ([(0, -100)], [(1, -100)])


def test_backward_the_frames_behind_are_those_above():
    _, seen = swept(Diary(first=10), 12)
    _, _, tokens, pointers = seen[8]
    assert tokens == [(0, -100), (3, 11), (2, 10), (1, 9)]
    assert pointers == [(3, -100), (3, 11), (2, 10), (1, 9)]


def test_the_state_is_carried_from_frame_to_frame():
    _, seen = swept(Diary(), 4)
    assert seen[3][1] == (0, 1, 2)


def test_the_backward_sweep_starts_from_what_was_known_near_the_start():
    _, seen = swept(Diary(first=2), 60)
    assert seen[1][1] == tuple(range(2, 18))  # the start and the fifteen frames after it
    assert seen[0][1] == (*range(2, 18), 1)
    assert [position for _, position in seen[1][2][1:]] == [7, 6, 5, 4, 3, 2]


def test_frames_far_behind_the_start_leave_the_backward_sweep_alone():
    _, short = swept(Diary(first=5), 25)
    _, long = swept(Diary(first=5), 90)
    assert all(short[position][1:] == long[position][1:] for position in range(5))


def test_a_frame_the_method_does_not_keep_is_not_recalled():
    _, seen = swept(Diary(skipped=(2, 3)), 6)
    assert [position for _, position in seen[5][2]] == [-100, 0, 1, 4]


def test_nothing_is_segmented_before_it_is_asked_for():
    method = Diary()
    running = sweep(method, FakeBackbone(), None, Numbers(range(5)))
    next(running)
    next(running)
    assert sorted(method.seen) == [0, 1]


def test_no_gradient_is_kept_but_a_method_may_ask_for_one():
    class Learning(Diary):
        def step(self, backbone, state, features, memory, at):
            assert not torch.is_grad_enabled()
            with torch.enable_grad():
                weight = torch.ones(1, requires_grad=True)
                (weight * 2).sum().backward()
            assert weight.grad.item() == 2
            return super().step(backbone, state, features, memory, at)

    swept(Learning(), 3)
