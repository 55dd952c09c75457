"""Full disks, files cut short, too little memory: the right exit code, and nothing half-written."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def masks(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*.nii.gz")}


@pytest.fixture
def words(case_folder, fast):
    return ("segment", "-s", case_folder / "support", "-i", case_folder / "queries", *fast)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 4 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", place], capture_output=True)
    if made.returncode:
        pytest.skip(f"only root may mount: {made.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", place], check=True)


def test_a_full_disk_exits_1_and_the_same_command_goes_on_when_there_is_room(
    call, words, finished, small_disk
):
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(4 * 2**20 - 40_000))
    out = small_disk / "out"
    ended = call(*words, "-o", out)
    assert ended.code == 1
    assert "there is no room for the results of query-" in ended.err
    whole = masks(finished)
    assert all(content == whole[name] for name, content in masks(out).items())
    assert not [p for p in out.rglob("*") if p.name.startswith(".partial")]
    ballast.unlink()
    assert call(*words, "-o", out).code == 0
    assert masks(out) == whole


def test_a_result_that_was_cut_short_is_made_again(call, words, finished):
    whole = masks(finished)
    cut = finished / "query-3.nii.gz"
    cut.write_bytes(cut.read_bytes()[:100])
    ended = call(*words, "-o", finished)
    assert ended.code == 0
    assert "1 of 2 cases are finished already" in ended.out
    assert masks(finished) == whole


def test_a_record_that_was_cut_short_is_made_again(call, words, finished):
    whole = masks(finished)
    cut = finished / "cases" / "query-4.json"
    cut.write_text(cut.read_text()[:50])
    assert call(*words, "-o", finished).code == 0
    assert masks(finished) == whole
    assert json.loads(cut.read_text())["output"] == "query-4.nii.gz"


def test_an_image_that_was_only_touched_is_finished_still(call, words, case_folder, finished):
    os.utime(case_folder / "queries" / "query-3.nii.gz", (1, 1))
    assert "2 of 2 cases are finished already" in call(*words, "-o", finished).out


@pytest.fixture
def little_memory():
    """Half a GB of address space more than the process has, until the test ends."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**29, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def test_an_image_beyond_the_memory_fails_alone(call, words, case_folder, finished, tmp_path, little_memory):
    huge = nib.Nifti1Image(np.zeros((1, 1, 1), np.uint8), np.eye(4))
    header = bytearray(huge.to_bytes())
    header[42:48] = np.array([2000, 2000, 2000], "<i2").tobytes()  # 8 GB, in a file of 353 bytes
    (case_folder / "queries" / "huge.nii").write_bytes(header)
    bomb = nib.Nifti1Image(np.zeros((400, 1000, 400), np.uint8), np.eye(4))
    nib.save(bomb, case_folder / "queries" / "bomb.nii.gz")  # 640 MB as numbers, in a file of 160 kB
    ended = call(*words, "-o", tmp_path / "out")
    assert ended.code == 4
    assert "failed     huge" in ended.out
    assert "failed     bomb" in ended.out
    assert "memory" in ended.out
    assert masks(tmp_path / "out") == masks(finished)


def test_no_name_of_a_case_leads_out_of_the_output_folder(call, words, case_folder, tmp_path):
    (tmp_path / "in").mkdir()
    hidden = tmp_path / "in" / "...nii.gz"  # the case would be called ".."
    hidden.write_bytes((case_folder / "queries" / "query-3.nii.gz").read_bytes())
    ended = call(*words[:3], "-i", hidden, *words[5:], "-o", tmp_path / "out" / "deep")
    assert ended.code == 3
    assert "'..' cannot be the name of a case" in ended.err
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["deep"]


@pytest.mark.slow
def test_a_cohort_killed_at_random_moments_ends_as_an_undisturbed_one():
    ended = _script("kill_cohort.py", "--kills", "4")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "4 kills" in ended.stdout
    assert ": 0 wrong" in ended.stdout


@pytest.mark.slow
def test_spoiled_files_are_refused_in_our_words():
    ended = _script("fuzz.py", "--inputs", "300", "--start", "300")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ", 0 faults" in ended.stdout


def _script(name, *words):
    return subprocess.run(
        [sys.executable, BENCHMARKS / name, *words], capture_output=True, encoding="utf-8", timeout=280
    )
