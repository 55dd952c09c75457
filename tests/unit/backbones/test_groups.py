import math

import pytest
import torch

from unprompted.backbones.groups import Groups, widened


def test_some_places_are_alone_and_all_others_go_square_by_square():
    places = torch.zeros(256, dtype=torch.bool)
    places[0] = places[17] = True  # both in the first of 8 x 8 squares of 2 x 2 places
    groups = Groups.of(places)
    assert sorted(groups.sizes.tolist()) == [1, 1, 2, *[4] * 63]
    values = torch.arange(256.0)
    means = groups.means(values[:, None])[:, 0]
    assert means[groups.group[0]] == 0
    assert means[groups.group[17]] == 17
    assert means[groups.group[1]] == means[groups.group[16]] == (1 + 16) / 2
    assert means[groups.group[255]] == (238 + 239 + 254 + 255) / 4
    assert groups.bias[groups.group[255]] == pytest.approx(math.log(4))


def test_places_are_widened_by_the_width_of_a_square():
    places = torch.zeros(16, 16, dtype=torch.bool)
    places[0, 8] = True
    wide = widened(places.flatten()).view(16, 16)  # squares are 2 x 2
    expected = torch.zeros(16, 16, dtype=torch.bool)
    expected[:3, 6:11] = True
    assert torch.equal(wide, expected)
