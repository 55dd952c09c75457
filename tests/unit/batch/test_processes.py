"""Real processes, killed with kill -9."""

import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from orders import PaperOrder

from unprompted.apps.batch.crew import work_off
from unprompted.apps.batch.processes import ProcessCrew
from unprompted.datasets.base import CaseFiles
from unprompted.errors import StorageFull, WeightsUnavailable


def work(order, names, workers=2):
    ended, said = [], []
    crew = ProcessCrew(order, ["cpu"], workers)
    work_off(crew, workers, [CaseFiles(name, Path(name)) for name in names], ended.append, said.append)
    assert multiprocessing.active_children() == []
    assert len(ended) == len({outcome.case for outcome in ended})
    return {outcome.case: outcome for outcome in ended}, said


def test_a_dead_worker_is_replaced_and_its_case_is_done_by_another(tmp_path):
    names = ["a", "kill-once", "b", "c", "d"]
    ended, said = work(PaperOrder(tmp_path), names)
    assert {outcome.status for outcome in ended.values()} == {"written"}
    assert sorted(ended) == sorted(names)
    assert len(said) == 1
    assert "on cpu died, killed by SIGKILL" in said[0]


def test_a_case_that_kills_two_workers_is_reported_and_the_rest_goes_on(tmp_path):
    ended, _ = work(PaperOrder(tmp_path), ["a", "kill", "b", "c"])
    assert ended["kill"].status == "failed"
    assert "its worker died twice" in ended["kill"].error
    assert "SIGKILL" in ended["kill"].error
    assert [ended[name].status for name in "abc"] == ["written"] * 3


def test_weights_that_are_missing_in_a_worker_end_the_run(tmp_path):
    with pytest.raises(WeightsUnavailable, match="not here"):
        work(PaperOrder(tmp_path, broken=True), ["a"], workers=1)
    assert multiprocessing.active_children() == []


def test_a_full_disk_ends_the_run(tmp_path):
    with pytest.raises(StorageFull, match="no room"):
        work(PaperOrder(tmp_path), ["a", "full", "b"], workers=1)


def test_workers_do_not_outlive_a_parent_that_is_killed(tmp_path):
    code = (
        "import sys, pathlib; sys.path[:0] = [sys.argv[1]]\n"
        "from orders import PaperOrder\n"
        "from unprompted.apps.batch.processes import ProcessCrew\n"
        "if __name__ == '__main__':\n"
        "    crew = ProcessCrew(PaperOrder(pathlib.Path(sys.argv[2])), ['cpu'], 1)\n"
        "    crew.start()\n"
        "    while not crew.events(60): pass\n"
        "    print(crew._living[0][0].pid, flush=True)\n"
        "    import time; time.sleep(60)\n"
    )
    script = tmp_path / "parent.py"
    script.write_text(code)
    words = [sys.executable, script, Path(__file__).parent, tmp_path]
    parent = subprocess.Popen(words, stdout=subprocess.PIPE, encoding="utf-8")
    worker = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    for _ in range(300):
        if not _alive(worker):
            return
        time.sleep(0.1)
    raise AssertionError(f"worker {worker} is still there")


def _alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] != "Z"
