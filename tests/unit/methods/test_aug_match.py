from dataclasses import replace

import pytest
import torch

from fakes import FakeBackbone
from unprompted.backbones.base import MemoryBank, Recall
from unprompted.errors import UsageError
from unprompted.methods.aug_match import AugMatch
from unprompted.methods.base import Place, SupportFrames
from unprompted.training.augment import UNCHANGED

FIRST = Place(0, 0, 1)
PLAIN = AugMatch(augmented=0, top=1, video="slice")


def make_support(shown, cases=None):
    """Random frames; frame n shows the objects ``shown[n]``, each in its own quarter column."""
    pixels = torch.rand(len(shown), 3, 64, 64, generator=torch.Generator().manual_seed(0))
    labels = torch.zeros(len(shown), 64, 64, dtype=torch.uint8)
    for n, row in enumerate(shown):
        for k in row:
            labels[n, 16 : 40 + 4 * n, 16 * k : 16 * k + 16] = k + 1
    objects = max(k for row in shown for k in row) + 1
    return SupportFrames(pixels, labels, objects, cases or (0,) * len(shown), tuple(range(len(shown))))


def step_on(method, support, pixels, at=FIRST, bank=None, seed=0):
    backbone = FakeBackbone()
    fitted = method.prepare(backbone, support, method.train(backbone, support, seed, print))
    state, empty = method.begin(fitted, torch.zeros(9, 16), at.start)
    (features,) = backbone.encode(pixels[None])
    return method.step(backbone, state, features, bank or empty, at)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"augmented": -1}, "augmented is -1"),
        ({"top": 0}, "top is 0"),
        ({"pool": 0}, "pool 0"),
        ({"video": "film"}, "use slice or volume"),
        ({"similarity": "best"}, "similarity is 'best'"),
        ({"grid": -2}, "grid is -2"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(UsageError, match=message):
        AugMatch(**settings)


def test_defaults_are_those_of_the_paper():
    assert (AugMatch().top, AugMatch().video, AugMatch.needs_training) == (1, "slice", False)


def test_without_augmentation_a_support_slice_gets_the_propagation_of_its_own_mask():
    backbone, support = FakeBackbone(), make_support([[0, 1]])
    (features,) = backbone.encode(support.pixels)
    entry = backbone.remember(features, backbone.adopt(features, support.masks(0)))
    recall = Recall(((0, entry.tokens),), ((1, entry.pointer),))
    expected = backbone.decode(backbone.attend(features, recall, 2), features)
    step = step_on(PLAIN, support, support.pixels[0])
    assert torch.equal(step.decoded.logits, expected.logits)
    found = step.decoded.logits_full[:, 0] > 0
    masks = support.masks(0)
    assert float((found & masks).sum() / (found | masks).sum()) > 0.9
    assert step.entry is None


@pytest.mark.parametrize("measure", ["perceptual", "l1", "cosine", "ssim", "psnr"])
def test_the_planted_nearest_slice_is_chosen_among_distractors(measure):
    support = make_support([[0]] * 5)
    for planted in range(5):
        near = (support.pixels[planted] + 0.02).clamp(0, 1)
        (chosen,) = step_on(replace(PLAIN, similarity=measure), support, near).chosen
        assert (chosen.object, chosen.case, chosen.position, chosen.copy) == (0, 0, planted, 0)


def test_each_class_is_matched_among_the_slices_that_show_it():
    support = make_support([[0], [0, 1], [1]])
    chosen = step_on(PLAIN, support, support.pixels[0]).chosen
    assert [c.object for c in chosen] == [0, 1]
    assert chosen[0].position == 0
    assert chosen[1].position in (1, 2)


def test_the_best_matches_prompt_a_slice_together_best_first():
    support = make_support([[0]] * 4)
    chosen = step_on(replace(PLAIN, top=3), support, support.pixels[2]).chosen
    assert len(chosen) == 3
    assert chosen[0].position == 2
    scores = [c.score for c in chosen]
    assert scores == sorted(scores, reverse=True)


def test_copies_are_made_of_every_slice_in_equal_numbers():
    made = AugMatch(augmented=8).candidates(make_support([[0], [0], [0]]), seed=0)
    assert made.copies == (0, 0, 0, 1, 1, 1, 2, 2, 2)
    assert made.positions == (0, 1, 2) * 3
    assert made.pixels.shape == (9, 3, 64, 64)


def test_a_pool_larger_than_the_copies_asked_for_gets_none():
    assert len(AugMatch(augmented=2).candidates(make_support([[0], [0], [0]]), seed=0)) == 3


def test_image_and_mask_of_a_copy_move_together():
    support = make_support([[1]])
    bright = replace(support, pixels=(0.2 + 0.6 * (support.labels[:, None] > 0)).expand(-1, 3, -1, -1))
    made = AugMatch(augmented=4).candidates(bright, seed=0)
    for n in range(1, 5):
        level = (made.pixels[n].max() + made.pixels[n].min()) / 2
        differ = (made.pixels[n, 0] > level) != (made.labels[n] > 0)
        assert float(differ.float().mean()) < 0.01
        assert not torch.equal(made.labels[n], made.labels[0])


def test_copies_follow_the_seed():
    support = make_support([[0], [0]])
    first, again, other = (AugMatch(augmented=4).candidates(support, seed) for seed in (1, 1, 2))
    assert torch.equal(first.pixels, again.pixels)
    assert torch.equal(first.pixels[:2], other.pixels[:2])
    assert not torch.equal(first.pixels[2:], other.pixels[2:])


def test_the_seed_of_the_fit_is_kept_for_later_preparations():
    method, support = AugMatch(augmented=4), make_support([[0], [0]])
    learned = method.train(FakeBackbone(), support, 7, print)
    fitted = method.prepare(FakeBackbone(), support, learned)
    expected = FakeBackbone().encode(method.candidates(support, 7).pixels)[-1].pooled
    assert torch.equal(fitted.pooled[-1], expected)


def test_copies_do_not_depend_on_the_order_of_cases():
    support = make_support([[0], [0]], cases=(0, 1))
    turned = SupportFrames(support.pixels.flip(0), support.labels.flip(0), 1, (0, 1), (1, 0))
    a, b = (AugMatch(augmented=4).candidates(s, 0) for s in (support, turned))
    assert torch.equal(a.pixels[[3, 2]], b.pixels[[2, 3]])


def test_shuffling_the_support_changes_nothing():
    method = AugMatch(augmented=12, video="slice")
    support = make_support([[0]] * 4, cases=(0, 1, 2, 3))
    order = [2, 0, 3, 1]
    shuffled = SupportFrames(
        support.pixels[order],
        support.labels[order],
        1,
        (0, 1, 2, 3),
        tuple(support.positions[n] for n in order),
    )
    query = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(5))
    a, b = step_on(method, support, query), step_on(method, shuffled, query)
    assert [(c.position, c.copy, c.score) for c in a.chosen] == [
        (c.position, c.copy, c.score) for c in b.chosen
    ]
    assert torch.equal(a.decoded.logits, b.decoded.logits)


def test_a_pool_of_one_is_the_slice_where_the_class_is_largest():
    support = make_support([[0], [0, 1], [0], [1]])  # frame n is 24 + 4 n rows high
    made = AugMatch(augmented=0, pool=1).candidates(support, seed=0)
    assert made.positions == (2, 3)


def test_a_pool_is_spread_evenly_over_the_slices_of_a_class():
    made = AugMatch(augmented=0, pool=3).candidates(make_support([[0]] * 5), seed=0)
    assert made.positions == (0, 2, 4)


def test_a_slice_of_its_own_ignores_what_was_found_before():
    support = make_support([[0]] * 3)
    other = FakeBackbone().encode(support.pixels[[1]])[0]
    remembered = FakeBackbone().remember(other, FakeBackbone().adopt(other, support.masks(1)))
    bank = MemoryBank().remembering(3, remembered)
    for video, same in (("slice", True), ("volume", False)):
        method = replace(PLAIN, video=video)
        alone = step_on(method, support, support.pixels[0], Place(4, 0, 1))
        after = step_on(method, support, support.pixels[0], Place(4, 0, 1), bank)
        assert torch.equal(alone.decoded.logits, after.decoded.logits) == same
        assert (alone.entry is None) == same


def test_a_volume_is_swept_from_the_frame_most_like_a_candidate():
    support = make_support([[0]] * 3)
    fitted = PLAIN.prepare(FakeBackbone(), support, {})
    near = torch.stack([torch.full((16,), 0.3), fitted.pooled[1], torch.full((16,), -0.3)])
    assert replace(PLAIN, video="volume").start(fitted, near) == 1
    assert PLAIN.start(fitted, near) == 0


def test_unchanged_copies_change_nothing():
    support = make_support([[0], [0]])
    query = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(5))
    plain = step_on(PLAIN, support, query)
    copied = step_on(replace(PLAIN, augmented=6, augmentation=UNCHANGED), support, query)
    torch.testing.assert_close(plain.decoded.logits, copied.decoded.logits, atol=1e-3, rtol=0)
