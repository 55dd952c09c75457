"""Folders as a user has them, and the program as a user calls it."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

from builders import make_subject
from unprompted.apps.cli.commands import run
from unprompted.io.base import write_labels
from unprompted.io.labels import write_label_names
from unprompted.io.nifti import write_volume

SHAPE, SPACING_MM = (6, 24, 24), (3.0, 1.0, 1.0)


@dataclass(frozen=True)
class Ended:
    """What a call left: exit code, stdout, stderr."""

    code: int
    out: str
    err: str


@pytest.fixture
def call(capsys, single_thread):
    """Runs the program in this process."""

    def of(*words):
        capsys.readouterr()
        code = run([str(word) for word in words])
        printed = capsys.readouterr()
        return Ended(code, printed.out, printed.err)

    return of


def _write_case(image: Path, labels: Path | None, seed: int) -> None:
    volume, label_map = make_subject(SHAPE, 2, seed, SPACING_MM)
    write_volume(volume, image)
    if labels is not None:
        write_labels(label_map, labels, image)


@pytest.fixture(scope="session")
def _prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared")
    for seed in (1, 2):
        name = f"labelled-{seed}.nii.gz"
        _write_case(folder / "support" / "images" / name, folder / "support" / "labels" / name, seed)
    for seed in (3, 4):
        name = f"query-{seed}.nii.gz"
        _write_case(folder / "queries" / name, folder / "truth" / name, seed)
    for place in ("support", "truth"):
        write_label_names(folder / place, {1: "organ 1", 2: "organ 2"})
    return folder


@pytest.fixture
def write_case():
    """Writes an image (and labels, where a path is given) of two classes: (image, labels, seed)."""
    return _write_case


@pytest.fixture
def case_folder(_prepared, tmp_path):
    """support/ (images and labels of two cases), queries/ (two), truth/ (theirs); yours to spoil."""
    return Path(shutil.copytree(_prepared, tmp_path / "given"))


@pytest.fixture
def fast(tiny_model_folder):
    """The words for a random model and a method that learns nothing: where Dice does not matter."""
    return ("--backbone", tiny_model_folder, "--method", "sam2-mask", "--set", "supports=1")


@pytest.fixture(scope="session")
def _finished(_prepared, tiny_model_folder, tmp_path_factory, single_thread):
    out = tmp_path_factory.mktemp("finished") / "out"
    words = ("segment", "-s", _prepared / "support", "-i", _prepared / "queries", "-o", out, "-q")
    words += ("--backbone", tiny_model_folder, "--method", "sam2-mask", "--set", "supports=1")
    assert run([str(word) for word in words]) == 0
    return out


@pytest.fixture
def finished(_finished, tmp_path):
    """The output folder of a finished run over `case_folder` with the options of `fast`."""
    return Path(shutil.copytree(_finished, tmp_path / "finished"))


@pytest.fixture(scope="session")
def _taught(_prepared, tiny_model_folder, tmp_path_factory, single_thread):
    """Results with the fitted task beside them, of a random model that retrieves."""
    out = tmp_path_factory.mktemp("taught") / "out"
    words = ("segment", "-s", _prepared / "support", "-i", _prepared / "queries", "-o", out, "-q", "--review")
    words += ("--backbone", tiny_model_folder, "--method", "fate-sam")
    assert run([str(word) for word in words]) == 0
    return out


@pytest.fixture
def results(_taught, tmp_path):
    """The output folder of a run with ``--review`` over two cases of 6 slices; yours to spoil."""
    return Path(shutil.copytree(_taught, tmp_path / "results"))


@pytest.fixture(scope="module")
def browser():
    where = shutil.which("chromium")
    if where is None:
        pytest.skip("needs a browser: apt-get install chromium (.ci/run does that)")
    with sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=where, args=["--no-sandbox"])
        yield opened
        opened.close()
