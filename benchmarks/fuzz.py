"""Spoiled files for every reader and for the checkpoint loader: refused in our words, or read; nothing else.

    python benchmarks/fuzz.py --inputs 10000
    python benchmarks/fuzz.py --only 1234          # one input again, with its traceback

Seeds are written by `fuzz_seeds.py`, spoiled by `fuzz_mutate.py`; an input is a number, so that every run of
one version gives the same ones. They are read in a child process. These count as faults: an exception that is
none of ours, the death of the child, more than 10 s of processor time, a file outside the output folder,
a process started, a socket opened, a pickled name looked up, code of a hostile pickle run.
"""

import argparse
import collections
import json
import multiprocessing
import os
import random
import resource
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from fuzz_mutate import spoil
from fuzz_seeds import MARK, Seed, seeds
from unprompted import FittedSegmenter, load_backbone
from unprompted.backbones.weights import load_model, read_checkpoint
from unprompted.datasets.folder import load_case, recognise
from unprompted.errors import UnpromptedError
from unprompted.images import LabelMap
from unprompted.io.base import read_image, read_labels, result_path, write_labels

Read = Callable[[Path, Path], object]
LIMIT_S = 10.0  # of the child's own processor time, so that other programs do not count
PATIENCE_S = 120.0  # in all, for a child that waits
_FORK = multiprocessing.get_context("fork")
MEMORY = 12 * 2**30  # bytes of address space beyond what the libraries take
SHARES = {"reader": 24, "checkpoint": 2, "model": 1, "task": 1, "folder": 2}  # of 30 inputs
_FORBIDDEN = (
    "os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen", "socket.connect", "socket.bind",
    "pickle.find_class", "ctypes.dlopen",
)  # fmt: skip


class Room:
    """The folders of one campaign.

    Args:
        root: holds the seeds, the folder to work in and the spoiled input; temporary files lie beside it.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.here, self.input, self.out = root / "cwd", root / "input", root / "out"
        with ProcessPoolExecutor(1, mp_context=_FORK) as other:
            self.seeds = other.submit(seeds, root / "seeds").result()
        self.temporary = root.with_name("temporary")  # archives are unpacked there
        for folder in (self.here, self.input, self.out, self.temporary):
            folder.mkdir()
        self.known = self._listing()

    def prepared(self, number: int) -> tuple[Seed, Path]:
        """The input of a number, written anew."""
        chance = random.Random(number)
        kinds = [kind for kind, share in SHARES.items() for _ in range(share)]
        kind = kinds[number % len(kinds)]
        ours = [seed for seed in self.seeds if seed.target == kind]
        seed = ours[number // len(kinds) % len(ours)]
        for folder in (self.input, self.out):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
        path = self.input / seed.path.name
        if seed.path.is_dir():
            shutil.copytree(seed.path, path)
            spoil(chance.choice(sorted(p for p in path.rglob("*") if p.is_file())), chance)
            return seed, path
        shutil.copy(seed.path, path)
        if (raw := seed.path.with_suffix(".raw")).exists():
            shutil.copy(raw, self.input)
        if number >= len(kinds) * len(ours):  # every seed once as it is
            spoil(path, chance)
        return seed, path

    def strangers(self) -> list[str]:
        """Files outside the input and output folders that were not there before."""
        return sorted(self._listing() - self.known)

    def _listing(self) -> set[str]:
        outside = (p for p in self.root.rglob("*") if not p.is_relative_to(self.out))
        return {str(p) for p in outside if not p.is_relative_to(self.input)}


def read_all(path: Path, out: Path) -> None:
    """Image and labels of a file, and a label map for the image."""
    for read in (read_labels, read_image):
        try:
            found = read(path)
        except UnpromptedError:
            if read is read_image:
                raise
    labels = LabelMap(np.zeros(found.grid.shape, np.uint8), found.grid, {1: "liver"})
    write_labels(labels, result_path(out, "case", path), path)


def read_folder(path: Path, out: Path) -> None:
    """A folder as support and as queries."""
    for need_labels in (True, False):
        for case in recognise(path, need_labels).cases:
            load_case(case)
            result_path(out, case.name, case.image)


def load_weights(path: Path, out: Path) -> None:
    """The tensors of a checkpoint, and the model they are of."""
    read_checkpoint(path)
    load_model(str(path))


def targets(room: Room) -> dict[str, Read]:
    """What reads the inputs."""
    backbone = load_backbone(str(next(s.path for s in room.seeds if s.target == "model")), device="cpu")
    return {
        "reader": read_all,
        "folder": read_folder,
        "checkpoint": load_weights,
        "model": lambda path, out: load_backbone(str(path), device="cpu"),
        "task": lambda path, out: FittedSegmenter.load(path, backbone),
    }


def verdict(read: Read, path: Path, out: Path, seen: list[str]) -> str:
    """ "read", "refused", or what went wrong."""
    seen.clear()
    try:
        read(path, out)
        ended = "read"
    except UnpromptedError:
        ended = "refused"
    except BaseException as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = next(
            (f for f in reversed(traceback.extract_tb(error.__traceback__)) if "/src/" in f.filename), place
        )
        return f"{type(error).__name__}: {str(error)[:200]} at {Path(where.filename).name}:{where.lineno}"
    return f"forbidden: {seen[0]}" if seen else ended


def child(room: Room, pipe: Connection) -> None:
    """Read inputs by number until the pipe ends."""
    warnings.simplefilter("ignore")
    os.chdir(room.here)
    tempfile.tempdir = str(room.temporary)
    read, seen = targets(room), watched(room)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    quiet = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):  # libraries in C talk
        os.dup2(quiet, stream)
    pipe.send("ready")
    while True:
        try:
            number = pipe.recv()
        except EOFError:
            os._exit(0)
        seed, path = room.prepared(number)
        pipe.send((f"{seed.target} {seed.path.name}", verdict(read[seed.target], path, room.out, seen)))


def watched(room: Room) -> list[str]:
    """A list to which forbidden acts of Python code are added from now on."""
    seen: list[str] = []
    allowed = (str(room.input), str(room.out), str(room.temporary), os.devnull)

    def hook(event: str, words: tuple[Any, ...]) -> None:
        if event in _FORBIDDEN:
            seen.append(f"{event} {words[:2]}")
        if event == "open" and isinstance(words[0], str):
            path, mode, flags = words
            writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            if writes and not os.path.abspath(path).startswith(allowed):
                seen.append(f"open {path} {mode}")

    sys.addaudithook(hook)
    return seen


class Reader:
    """A child process that is started again when it dies.

    Args:
        room: where it works.
    """

    def __init__(self, room: Room) -> None:
        self._room = room
        self._start()

    def _start(self) -> None:
        self._pipe, theirs = multiprocessing.Pipe()
        self._process = _FORK.Process(target=child, args=(self._room, theirs), daemon=True)
        self._process.start()
        theirs.close()
        self._pipe.recv()  # it is ready

    def read(self, number: int) -> tuple[str, str]:
        """The seed of an input, and how reading it ended."""
        self._pipe.send(number)
        until, spent = time.monotonic() + PATIENCE_S, self._processor_s()
        try:
            while time.monotonic() < until and self._processor_s() - spent < LIMIT_S:
                if self._pipe.poll(0.5):
                    return self._pipe.recv()
            ended = f"hang: {self._processor_s() - spent:.0f} s of the processor"
        except EOFError:
            self._process.join()
            ended = f"crash: the process ended with {self._process.exitcode}"
        self._process.kill()
        self._process.join()
        self._start()
        seed, _ = self._room.prepared(number)
        return f"{seed.target} {seed.path.name}", ended

    def _processor_s(self) -> float:
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(") ")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def campaign(room: Room, inputs: int, start: int) -> dict[str, Any]:
    """Read so many inputs; what came of them, by seed, and the faults."""
    reader, faults, slowest = Reader(room), [], 0.0
    counts: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for number in range(start, start + inputs):
        begun = time.perf_counter()
        seed, ended = reader.read(number)
        slowest = max(slowest, time.perf_counter() - begun)
        if strangers := room.strangers():
            ended = f"a file outside the output folder: {strangers}"
            room.known |= set(strangers)
        good = ended in ("read", "refused")
        counts[seed][ended if good else "fault"] += 1
        if (number - start + 1) % 100 == 0:
            print(f"{number - start + 1} inputs, {len(faults)} faults", file=sys.stderr, flush=True)
        if not good:
            faults.append({"input": number, "seed": seed, "fault": ended})
            print(number, seed, ended, flush=True)
    ran = (room.here / MARK).exists()
    return {
        "inputs": inputs,
        "start": start,
        "read": sum(c["read"] for c in counts.values()),
        "refused": sum(c["refused"] for c in counts.values()),
        "faults": faults,
        "code_was_run": ran,
        "slowest_s": round(slowest, 2),
        "by_seed": {seed: dict(counts[seed]) for seed in sorted(counts)},
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run a campaign, or one input; 1 where there is a fault."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--start", type=int, default=0, help="number of the first input")
    parser.add_argument("--only", type=int, help="read this one here and show the traceback")
    parser.add_argument("-o", "--output", type=Path, help="write what was found as JSON")
    asked = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as root:
        room = Room(Path(root) / "room")
        if asked.only is not None:
            seed, path = room.prepared(asked.only)
            print(seed.target, path.name)
            targets(room)[seed.target](path, room.out)
            return 0
        found = campaign(room, asked.inputs, asked.start)
    if asked.output:
        asked.output.write_text(json.dumps(found, indent=1) + "\n")
    print(
        f"{found['inputs']} inputs: {found['read']} read, {found['refused']} refused, "
        f"{len(found['faults'])} faults; slowest {found['slowest_s']} s"
    )
    return 1 if found["faults"] or found["code_was_run"] else 0


if __name__ == "__main__":
    sys.exit(main())
