import itertools

from unprompted.palette import colour_of, colour_table, hex_of


def test_background_is_black_and_the_first_class_orange():
    assert colour_table(2).tolist() == [[0, 0, 0], [230, 159, 0]]
    assert hex_of(1) == "#e69f00"


def test_the_first_fourteen_classes_are_easily_told_apart():
    for one, other in itertools.combinations(range(1, 15), 2):
        distance = sum(abs(a - b) for a, b in zip(colour_of(one), colour_of(other), strict=True))
        assert distance > 75, (one, other)


def test_any_number_of_classes_has_colours_and_neighbours_differ():
    table = colour_table(1000).astype(int)
    assert (abs(table[1:] - table[:-1]).sum(axis=1) > 40).all()
