"""A cohort that is killed with kill -9 at random moments, and what is left of it.

    python benchmarks/kill_cohort.py --kills 20

Ten small cases are segmented undisturbed once. Then the same command is killed again and again and started
again; whenever a run comes to its end, its outputs are compared with the undisturbed ones byte by byte, and a
new output folder is begun. After every kill, what has its final name must be whole already.

Runs are forked from a process that has imported everything, so that kills fall into the work.
"""

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

import unprompted.quality
import unprompted.segmenter  # noqa: F401 - what runs import, imported once
from unprompted.apps.cli.commands import run
from unprompted.backbones.tiny import TinyShape, random_model
from unprompted.geometry import Grid
from unprompted.images import LabelMap, Volume
from unprompted.io.base import write_labels
from unprompted.io.nifti import write_volume

CASES, SUPPORTS, SHAPE = 10, 2, (6, 32, 32)


def write_cohort(folder: Path) -> None:
    """Supports, queries, and a random SAM2 of few parameters."""
    for number in range(SUPPORTS + CASES):
        source = np.random.default_rng(number)
        labels = np.zeros(SHAPE, np.uint8)
        top, left = source.integers(4, 12, 2)
        labels[:, top : top + 10, left : left + 10] = 1
        voxels = (100.0 * labels + source.normal(20, 4, SHAPE)).astype(np.float32)
        grid = Grid.with_spacing(SHAPE, (3.0, 1.0, 1.0))
        name = f"case-{number:02d}.nii.gz"
        where = folder / "support" / "images" if number < SUPPORTS else folder / "queries"
        write_volume(Volume(voxels, grid, "z", name), where / name)
        if number < SUPPORTS:
            write_labels(LabelMap(labels, grid, {1: "box"}), folder / "support/labels" / name, where / name)
    shape = TinyShape(
        128, widths=(8, 16, 24, 32), blocks=(1, 1, 1, 1), channels=64, memory_layers=1, decoder_mlp=64
    )
    torch.manual_seed(0)
    random_model(shape).eval().save_pretrained(folder / "model")


def words(folder: Path, out: Path) -> list[str]:
    """The command."""
    given = ["-s", folder / "support", "-i", folder / "queries", "-o", out, "--backbone", folder / "model"]
    more = ["--method", "sam2-mask", "--set", "supports=1", "--no-refine", "-q"]
    return ["segment", *map(str, given), *more]


def forked(work: Callable[[], int]) -> int:
    """The process id of a child that does some work and ends with its exit code."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            torch.set_num_threads(1)
            code = work()
        finally:
            os._exit(code)
    return child


def ended(child: int, kill_after_s: float | None = None) -> int | None:
    """The exit code of a child, None where it was killed."""
    until = None if kill_after_s is None else time.monotonic() + kill_after_s
    while True:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if until is not None and time.monotonic() > until:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return None
        time.sleep(0.002)


def outputs(out: Path, final: bool) -> dict[str, object]:
    """Every visible file by name: its bytes, and of records all but seconds and times.

    Args:
        out: the output folder.
        final: whether the tables of the whole run count too.
    """
    found: dict[str, object] = {}
    for path in sorted(p for p in out.rglob("*") if p.is_file()):
        name = path.relative_to(out).as_posix()
        if name.startswith(".") or (not final and name in ("run.json", "quality.csv")):
            continue
        found[name] = _timeless(json.loads(path.read_text())) if name.endswith(".json") else path.read_bytes()
    return found


def _timeless(content: object) -> object:
    if isinstance(content, dict):
        left_out = ("elapsed_s", "cases", "counts")
        return {key: _timeless(value) for key, value in content.items() if key not in left_out}
    return content


def main(argv: Sequence[str] | None = None) -> int:
    """Kill, start again, compare; 1 where a byte differs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args(argv)
    moments = random.Random(asked.seed)
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root)
        if ended(forked(lambda: write_cohort(folder) or 0)) != 0:
            raise RuntimeError("the cohort could not be written")
        begun = time.monotonic()
        if ended(forked(lambda: run(words(folder, folder / "undisturbed")))) != 0:
            raise RuntimeError("the undisturbed run failed")
        duration = time.monotonic() - begun
        wanted = outputs(folder / "undisturbed", final=True)
        kills, runs, compared, wrong = 0, 0, 0, []
        while kills < asked.kills or runs:
            out = folder / f"out-{compared}"
            after = moments.uniform(0, duration) if kills < asked.kills else None
            code = ended(forked(lambda out=out: run(words(folder, out))), after)
            runs += 1
            if code is None:
                kills += 1
                whole = outputs(out, final=False)
                wrong += [f"{name} after kill {kills}" for name in whole if whole[name] != wanted.get(name)]
            elif code == 0:
                found = outputs(out, final=True)
                names = sorted(found.keys() | wanted.keys())
                wrong += [f"{name} after the end" for name in names if found.get(name) != wanted.get(name)]
                left = [path.name for path in out.iterdir() if path.name.startswith(".")]
                wrong += [f"{name} is left over" for name in left]
                compared, runs = compared + 1, 0
            else:
                wrong.append(f"exit code {code} in run {runs} of {out.name}")
                break
    print(
        f"{kills} kills within {duration:.1f} s each; {compared} cohorts of {CASES} cases finished, "
        f"{len(wanted)} files each compared: {len(wrong)} wrong"
    )
    print("\n".join(wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
