"""Several workers, real processes with a model each; a cluster of two nodes is in test_cli_ray.py."""

import json
import threading
import time

import pytest

from unprompted.apps.batch import processes


def masks(folder):
    return {p.name: p.read_bytes() for p in [*folder.glob("*.nii.gz"), *folder.glob("overlays/*")]}


@pytest.fixture
def words(case_folder, fast, tmp_path):
    return (
        "segment",
        "-s",
        case_folder / "support",
        "-i",
        case_folder / "queries",
        "-o",
        tmp_path / "out",
        *fast,
    )


def kill_the_first(crews, stop):
    """Kill -9 the first worker of a crew once it has something to do."""
    while not stop.is_set():
        for crew in crews:
            if crew.sent:
                crew.sent[0].kill()
                return
        time.sleep(0.01)


class WatchedCrew(processes.ProcessCrew):
    made = []  # noqa: RUF012 - one list for the test

    def __init__(self, *words):
        super().__init__(*words)
        self.sent = []
        self.made.append(self)

    def send(self, worker, case):
        super().send(worker, case)
        self.sent.append(self._living[worker][0])


def test_two_workers_write_what_one_writes_though_one_is_killed(call, words, finished, tmp_path, monkeypatch):
    monkeypatch.setattr("unprompted.apps.batch.run.ProcessCrew", WatchedCrew)
    stop = threading.Event()
    killer = threading.Thread(target=kill_the_first, args=(WatchedCrew.made, stop))
    killer.start()
    try:
        ended = call(*words, "--workers", 2)
    finally:
        stop.set()
        killer.join()
    assert ended.code == 0, ended.err
    assert "workers    2 on auto" in ended.out
    assert "died, killed by SIGKILL; another takes its place" in ended.out
    out = tmp_path / "out"
    assert masks(out) == masks(finished)
    assert (out / "quality.csv").read_bytes() == (finished / "quality.csv").read_bytes()
    assert not [p for p in out.iterdir() if p.name.startswith(".")]
    assert json.loads((out / "run.json").read_text())["counts"]["written"] == 2


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--workers", 0), "--workers is 0; at least 1 is needed"),
        (("--ray", "auto", "--device", "cuda:0,cuda:1"), "a cluster places its workers itself"),
    ],
)
def test_a_wrong_number_of_workers_exits_2(call, words, more, message):
    ended = call(*words, *more)
    assert ended.code == 2
    assert message in ended.err
