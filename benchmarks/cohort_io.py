"""What a scan costs beside its model: reading, digests, writing, and looking at what is finished.

    python benchmarks/cohort_io.py

Seconds are of the processor, so that other programs on the machine do not count. `docs/cohorts.md` uses them.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813 - the name everybody knows it by

from unprompted.apps.batch.outcome import Outcome
from unprompted.apps.batch.records import Records, content_digest, write_json
from unprompted.datasets.base import CaseFiles
from unprompted.images import LabelMap
from unprompted.io.base import read_image, write_labels
from unprompted.io.overlay import overlay_png
from unprompted.io.store import FolderStore

SHAPE = (100, 512, 512)  # of a CT
RECORDS = 1000


def seconds(work: Callable[[], object], times: int = 3) -> float:
    """Processor seconds of one call, the least of some."""
    found = []
    for _ in range(times):
        begun = time.process_time()
        work()
        found.append(time.process_time() - begun)
    return min(found)


def scan(path: Path) -> LabelMap:
    """Write noise on smooth organs as int16 NIfTI; gives labels of 13 classes for it."""
    source = np.random.default_rng(0)
    d, h, w = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    labels = np.zeros(SHAPE, np.uint8)
    for value in range(1, 14):
        centre, radius = source.uniform(0.2, 0.8, 3) * SHAPE, source.uniform(8, 40)
        inside = ((d - centre[0]) * 3) ** 2 + (h - centre[1]) ** 2 + (w - centre[2]) ** 2 < radius**2
        labels[inside] = value
    voxels = (labels * 20 + source.normal(0, 20, SHAPE)).astype(np.int16)
    sitk.WriteImage(sitk.GetImageFromArray(voxels), str(path), useCompression=True)
    return LabelMap(labels, read_image(path).grid, {value: f"organ {value}" for value in range(1, 14)})


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root)
        image = folder / "ct.nii.gz"
        labels = scan(image)
        volume = read_image(image)
        mask, picture = folder / "out" / "ct.nii.gz", folder / "out" / "ct.png"
        rows = {
            "read the image": seconds(lambda: read_image(image)),
            "digest of the image": seconds(lambda: content_digest(image)),
            "write the labels": seconds(lambda: write_labels(labels, mask, image)),
            "draw the overlay": seconds(lambda: overlay_png(volume, labels, picture)),
        }
        records = Records(FolderStore(folder / "many"), {"method": "none"}, labels.classes)
        cases = _finished(folder, records, image)
        rows[f"look at {RECORDS} finished cases"] = seconds(lambda: records.finished(cases), 1)
        outcomes = [Outcome(case.name, "written") for case in cases]
        rows[f"write the tables of {RECORDS} cases"] = seconds(lambda: records.end(outcomes), 1)
        sizes = {
            "image": image,
            "labels": mask,
            "overlay": picture,
            "record": folder / "many" / "cases" / "case-0000.json",
        }
        for what, spent in rows.items():
            print(f"{what:<32} {spent:7.3f} s")
        for what, path in sizes.items():
            print(f"{what:<32} {path.stat().st_size / 2**20:7.2f} MiB")


def _finished(folder: Path, records: Records, image: Path) -> list[CaseFiles]:
    """As many finished cases as asked for, of tiny masks and records of the usual size."""
    slices = {"quality": [0.9] * SHAPE[0], "pixels": [1000] * SHAPE[0]}
    state = image.stat()
    record = {
        "configuration_digest": records.digest,
        "image_stamp": [state.st_size, state.st_mtime_ns],
        "output_bytes": 1,
        "quality": 0.9,
        "class_quality": dict.fromkeys(records.classes.values(), 0.9),
        "elapsed_s": 1.0,
        "slices": dict.fromkeys(records.classes.values(), slices),
    }
    cases = []
    records.begin()
    for number in range(RECORDS):
        name = f"case-{number:04d}"
        (folder / "many" / f"{name}.nii.gz").write_bytes(b"x")
        write_json(folder / "many" / "cases" / f"{name}.json", record | {"output": f"{name}.nii.gz"})
        cases.append(CaseFiles(name, image))
    return cases


if __name__ == "__main__":
    main()
