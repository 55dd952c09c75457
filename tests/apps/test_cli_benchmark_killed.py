"""A benchmark killed outright: what is written stays, nothing goes on working in the dark."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

RECIPE = """
title = "One quick cell and two that train for ten minutes"
[[datasets]]
name = "boxes"
path = "{data}"
[[methods]]
peer = "registration"
settings = {{iterations = 2}}
[[methods]]
peer = "unet-2d"
settings = {{minutes = 10, steps = 1000000}}
[[methods]]
name = "again"
peer = "unet-2d"
settings = {{minutes = 10, steps = 1000001}}
"""


def children(pid):
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True).stdout
    return [int(line) for line in found.split()]


def alive(pid):
    try:
        return "Z" not in Path(f"/proc/{pid}/status").read_text().split("State:")[1].split("\n")[0]
    except OSError:
        return False


def waited_for(what, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if what():
            return True
        time.sleep(0.1)
    return False


@pytest.mark.skipif(sys.platform != "linux", reason="processes are looked up in /proc")
def test_workers_of_a_killed_benchmark_die_and_its_results_stay(case_folder, tmp_path):
    recipe = tmp_path / "boxes.toml"
    recipe.write_text(RECIPE.format(data=case_folder / "support"))
    cells = tmp_path / "results" / "cells"
    words = [sys.executable, "-m", "unprompted", "benchmark", str(recipe), "--jobs", "2"]
    running = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    workers = []
    try:
        assert waited_for(lambda: list(cells.glob("*.json")), 120)  # one worker now trains, the other, too
        workers = children(running.pid)
        assert len(workers) >= 2
        running.kill()
        running.wait()
        assert waited_for(lambda: not any(alive(worker) for worker in workers), 20)
    finally:
        running.kill()
        for worker in filter(alive, workers):
            os.kill(worker, signal.SIGKILL)
    (written,) = cells.glob("*.json")
    assert json.loads(written.read_text())["method"] == "registration"
