"""A method that misses an organ must not look better in any mean, whatever the other cases are."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import make_labels
from unprompted.evaluation.folders import measured
from unprompted.evaluation.summary import summarise

SHAPE, SPACING_MM, CLASSES = (4, 8, 8), (3.0, 1.0, 1.0), {1: "liver", 2: "spleen"}
BETTER_IF_LARGER = ("Dice", "IoU", "NSD")
BETTER_IF_SMALLER = ("HD95", "HD", "MASD", "volume_error_ml")


@st.composite
def patients(draw):
    """Two classes in halves of the image, each found well or badly but never more than twice its size."""
    truth, found = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
    for value, left in ((1, 0), (2, 4)):
        top, depth = draw(st.integers(0, 3)), draw(st.integers(1, 3))
        truth[:depth, top : top + 4, left : left + 3] = value
        shift, kept = draw(st.integers(0, 2)), draw(st.integers(1, depth))
        found[:kept, top + shift : top + shift + 3, left : left + 3] = value
    return truth, found


def summary_of(pairs):
    results = [
        measured(f"case {n}", make_labels(found, SPACING_MM), make_labels(truth, SPACING_MM), CLASSES, 1.0)
        for n, (truth, found) in enumerate(pairs)
    ]
    return summarise(results, CLASSES, 1.0)


@settings(max_examples=40, deadline=None)
@given(st.lists(patients(), min_size=1, max_size=4), st.data())
def test_a_missed_organ_worsens_every_mean(pairs, data):
    victim, value = data.draw(st.integers(0, len(pairs) - 1)), data.draw(st.sampled_from([1, 2]))
    truth, found = pairs[victim]
    with_hole = [*pairs]
    with_hole[victim] = truth, np.where(found == value, 0, found).astype(np.uint8)
    before, after = summary_of(pairs), summary_of(with_hole)
    for mean in ("foreground_mean", "case_mean"):
        assert_no_better(before[mean], after[mean])
    assert_no_better(before["mean"][str(value)], after["mean"][str(value)])
    assert after["mean"][str(value)]["n_missed"] == 1
    assert after["foreground_mean"]["n"] == before["foreground_mean"]["n"]


def assert_no_better(before, after):
    assert after["Dice"] < before["Dice"]
    assert after["IoU"] < before["IoU"]
    for name in BETTER_IF_LARGER:
        assert after[name] <= before[name] + 1e-12
    for name in BETTER_IF_SMALLER[:3]:
        assert after[name] > before[name]
    assert after["volume_error_ml"] >= before["volume_error_ml"] - 1e-12
