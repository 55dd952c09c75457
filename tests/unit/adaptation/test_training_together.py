"""Training by several processes together, with real ones."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from unprompted.launched import leads, own_gpu

SCRIPT = Path(__file__).with_name("together.py")
TESTS = Path(__file__).parents[2]


def run(folder, count, stop_after=100):
    """What each of the processes came to, by rank."""
    folder.mkdir(exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    started = []
    for rank in range(count):
        own = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count)}
        where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "PYTHONPATH": str(TESTS)}
        environment = os.environ | where | (own if count > 1 else {})
        words = [sys.executable, str(SCRIPT), str(folder), str(stop_after)]
        started.append(subprocess.Popen(words, env=environment))
    assert [process.wait(timeout=300) for process in started] == [0] * count
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(count)]


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    return run(tmp_path_factory.mktemp("pair"), 2)


def test_all_processes_end_with_the_same_weights(pair):
    assert pair[0]["steps"] == pair[1]["steps"] > 0
    assert pair[0]["digest"] == pair[1]["digest"]


def test_together_they_see_other_frames_than_one_alone(pair, tmp_path):
    assert run(tmp_path, 1)[0]["digest"] != pair[0]["digest"]


def test_gradients_are_averaged_and_a_missing_one_counts_as_zeros(pair):
    assert [one["gradient"] for one in pair] == [[2.0, 3.0, 3.0]] * 2


def test_stopped_and_started_again_they_end_as_without_a_stop(pair, tmp_path):
    assert run(tmp_path, 2, stop_after=60) == [{"killed": True}] * 2
    assert [one["digest"] for one in run(tmp_path, 2)] == [one["digest"] for one in pair]


def test_only_the_first_of_several_processes_leads(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    alone = leads()
    monkeypatch.setenv("RANK", "0")
    first = leads()
    monkeypatch.setenv("RANK", "1")
    assert (alone, first, leads()) == (True, True, False)


def test_every_process_has_its_own_gpu(monkeypatch):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    alone = own_gpu()
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert (alone, own_gpu()) == ("cuda", "cuda:3")
