import pytest

from unprompted.evaluation.groups import Group
from unprompted.evaluation.plots import draw_plots, looks_of


def group(dataset, method, shots, dice=0.5):
    result = {
        "overall": {"Dice": dice},
        "fit_s": 1.0,
        "segment_s": 4.0,
        "queries": 2,
        "seed": 0,
        "method": method,
    }
    return Group(dataset, method, shots, (result,))


def test_no_two_of_forty_methods_look_alike():
    looks = looks_of([f"method {n}" for n in range(40)])
    assert len({(look["marker"], look["color"]) for look in looks.values()}) == 40


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        ([group("a", "x", 1), group("a", "x", 3)], ["r-seconds.png", "r-shots.png"]),
        ([group("a", "x", 1), group("b", "x", 3)], ["r-seconds.png"]),
        ([group("a", "x", 1), group("b", "x", 1), group("c", "y", 1)], ["r-seconds.png"]),
        ([group("a", "x", 1, dice=None)], []),
    ],
)
def test_dice_against_labelled_cases_is_drawn_where_one_dataset_has_several_numbers(
    tmp_path, groups, expected
):
    assert [path.name for path in draw_plots(groups, "Dice", tmp_path, "r")] == expected
    assert sorted(path.name for path in tmp_path.iterdir()) == expected
