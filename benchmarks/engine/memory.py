"""Peak memory of `unprompted segment` against slices, classes and frames of video; one process a run.

    python benchmarks/engine/memory.py --slices 100 1000 --frames 300 3000 --classes 1 13 -o RESULT.json

Images are noise with boxes; weights are the built-in ones at 128 pixels, so that long cases end soon.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
from machine import described

SIDE, LABELLED = 256, 4


def boxes(depth: int, classes: int) -> np.ndarray:
    """Labels of classes beside each other on every slice."""
    labels = np.zeros((depth, SIDE, SIDE), np.uint8)
    for k in range(classes):
        row, column = divmod(k, 4)
        labels[:, 20 + 56 * row : 60 + 56 * row, 20 + 56 * column : 60 + 56 * column] = k + 1
    return labels


def slices(labels: np.ndarray) -> Iterator[np.ndarray]:
    """Bytes that show the labels, slice by slice."""
    source = np.random.default_rng(0)
    for one in labels:
        yield np.where(one > 0, 60 + 12 * one, 20).astype(np.uint8) + source.integers(
            0, 20, one.shape, np.uint8
        )


def write_stack(path: Path, labels: np.ndarray, image: bool) -> None:
    """A NIfTI of int16 slices of 3 x 1 x 1 mm, or of labels."""
    import nibabel as nib

    stack = np.stack(list(slices(labels))).astype(np.int16) if image else labels
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(stack.transpose(2, 1, 0), np.diag([1.0, 1.0, 3.0, 1.0])), path)


def write_video(folder: Path, frames: int, classes: int) -> None:
    """A film of coloured slices."""
    from unprompted.io.video import write_film

    folder.mkdir(parents=True)
    labels = np.broadcast_to(boxes(1, classes), (frames, SIDE, SIDE))
    write_film(
        folder / "film.mp4", (np.repeat(s[..., None], 3, axis=-1) for s in slices(labels)), Fraction(25)
    )


def write_support(folder: Path, classes: int, video: bool) -> None:
    """A labelled case of a few slices, or of a few frames."""
    from PIL import Image

    labels = boxes(LABELLED, classes)
    if not video:
        write_stack(folder / "images" / "case.nii.gz", labels, image=True)
        write_stack(folder / "labels" / "case.nii.gz", labels, image=False)
        return
    for part, stack in (("frames", slices(labels)), ("masks", iter(labels))):
        (folder / "case" / part).mkdir(parents=True)
        for number, one in enumerate(stack):
            picture = np.repeat(one[..., None], 3, axis=-1) if part == "frames" else one
            Image.fromarray(picture).save(folder / "case" / part / f"{number:05d}.png")


def peak(support: Path, query: Path, output: Path, more: list[str]) -> tuple[float, float]:
    """Peak MiB and seconds of one run, in a process of its own."""
    words = ["segment", "-s", support, "-i", query, "-o", output, "--method", "sam2-mask", "--no-refine"]
    words += ["--input-size", 128, "--quiet", *more]
    begun = time.perf_counter()
    code = "import sys; from unprompted.apps.cli.commands import run; sys.exit(run(sys.argv[1:]))"
    child = subprocess.Popen([sys.executable, "-c", code, *map(str, words)])
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        raise SystemExit(f"the run over {query} failed")
    return round(usage.ru_maxrss / 1024, 1), round(time.perf_counter() - begun, 1)


def main() -> None:
    """Run every size and write what was measured."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--slices", type=int, nargs="*", default=[])
    parser.add_argument("--frames", type=int, nargs="*", default=[])
    parser.add_argument("--classes", type=int, nargs="+", default=[13])
    parser.add_argument("--max-memory")
    parser.add_argument("-o", "--output", type=Path, required=True)
    chosen = parser.parse_args()
    more = ["--max-memory", chosen.max_memory] if chosen.max_memory else []
    rows = []
    runs = [("slices", n, k) for k in chosen.classes for n in chosen.slices]
    runs += [("frames", n, k) for k in chosen.classes for n in chosen.frames]
    for kind, count, classes in runs:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write_support(folder / "support", classes, kind == "frames")
            if kind == "frames":
                write_video(folder / "query", count, classes)
            else:
                write_stack(folder / "query" / "long.nii.gz", boxes(count, classes), image=True)
            mib, seconds = peak(folder / "support", folder / "query", folder / "out", more)
        rows.append({kind: count, "classes": classes, "peak_mib": mib, "seconds": seconds})
        print(rows[-1], flush=True)
        result = {"machine": described(), "limit": chosen.max_memory, "runs": rows}
        chosen.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
