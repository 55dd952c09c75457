"""The pages of docs/tutorials, run as a reader would, and held to what they say is printed."""

import re
import shlex
from pathlib import Path

import pytest

from unprompted.apps.cli.commands import run
from unprompted.backbones import shipped

PAGES = Path(__file__).parents[2] / "docs" / "tutorials"
TOLERANCE = 0.05  # of numbers with a decimal point: processors round differently
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def do(kind, block, names):
    """Run one block: Python with the names of the blocks before, or calls of the program."""
    if kind == "python":
        exec(compile(block, "page", "exec"), names)
        return
    assert kind == "sh"
    for line in block.replace("\\\n", " ").splitlines():
        program, *words = shlex.split(line, comments=True)
        assert program == "unprompted"
        assert run(words) == 0


def agree(said, printed):
    """Whether two words are equal, or numbers with a decimal point that differ by little; ``...`` is any."""
    if said == printed or said == "...":
        return True
    numbers = [re.fullmatch(r"(-?\d+\.\d+)([,;]?)", word) for word in (said, printed)]
    if None in numbers or numbers[0][2] != numbers[1][2]:
        return False
    return abs(float(numbers[0][1]) - float(numbers[1][1])) <= TOLERANCE


def same_line(said, printed):
    said, printed = said.split(), printed.split()
    return len(said) == len(printed) and all(map(agree, said, printed))


def missing(said, printed):
    """Lines of the page that were not printed, in the order of the page."""
    rest = iter(printed.splitlines())
    return [line for line in said.splitlines() if line and not any(same_line(line, other) for other in rest)]


@pytest.mark.slow
@pytest.mark.skipif(shipped.folder() is None, reason="the built-in weights are not in this checkout")
@pytest.mark.parametrize("page", sorted(PAGES.glob("*.md")), ids=lambda page: page.stem)
def test_a_tutorial_runs_from_top_to_bottom_and_prints_what_it_says(
    page, single_thread, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    names, printed = {}, ""
    for kind, block in BLOCK.findall(page.read_text(encoding="utf-8")):
        if kind == "text":
            assert missing(block, printed) == [], f"not printed; printed was\n{printed}"
        else:
            capsys.readouterr()
            do(kind, block, names)
            printed = capsys.readouterr().out


def test_a_line_the_page_promises_and_nobody_prints_is_found():
    assert missing("Dice 0.81\n", "fitted\nDice 0.84\n") == []
    assert missing("Dice 0.81\n", "Dice 0.90\n") == ["Dice 0.81"]
    assert missing("Dice 0.81; good\n", "Dice 0.79; good\n") == []
    assert missing("24 slices\n", "25 slices\n") == ["24 slices"]
    assert missing("took ... s\n", "took 3 s\n") == []
