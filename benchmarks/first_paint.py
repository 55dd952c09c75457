"""How long the review page takes to show a 512 x 512 x 200 CT, and whether scrolling asks the server.

    python benchmarks/first_paint.py

Two generated cases; both programs on this machine. "first": from asking for the page, right after the server
said where it is, to the first slice with its mask on the screen. "second": from choosing the other case,
which the server has not read yet. Writes benchmarks/results/first_paint.json.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from nibabel.nifti1 import Nifti1Image, save
from playwright.sync_api import sync_playwright
from scipy.ndimage import gaussian_filter

from unprompted.intensity import Intensity

RESULT = Path(__file__).parent / "results" / "first_paint.json"
SHAPE = (512, 512, 200)
CHROMIUM = "/usr/bin/chromium"


def write_cohort(root: Path) -> Path:
    """Two cases with results, as `unprompted segment` leaves them."""
    images, out = root / "images", root / "out"
    for folder in (images, out / "cases"):
        folder.mkdir(parents=True)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    body = ((y - 256) / 180) ** 2 + ((x - 256) / 220) ** 2 < 1
    affine = np.diag([0.8, 0.8, 2.0, 1.0])
    classes = {"1": "liver", "2": "spleen"}
    for seed, name in enumerate(("a", "b")):
        noise = np.random.default_rng(seed)
        tissue = 40 + 3 * gaussian_filter(noise.normal(0, 200, SHAPE[:2]), 4) + noise.normal(0, 12, SHAPE[:2])
        slices_of = [np.where(body, np.roll(tissue, 7 * k, axis=(0, 1)), -1000) for k in range(SHAPE[2])]
        image = np.stack(slices_of, axis=-1).astype(np.int16)
        labels = np.zeros(SHAPE, np.uint8)
        labels[150:250, 200:300, 40:160], labels[300:380, 180:260, 60:120] = 1, 2
        save(Nifti1Image(image, affine), images / f"{name}.nii.gz")
        save(Nifti1Image(labels, affine), out / f"{name}.nii.gz")
        slices = {
            c: {"quality": [0.8] * SHAPE[2], "pixels": [10 + seed] * SHAPE[2]} for c in classes.values()
        }
        dice = {c: {"name": c, "dice": 0.6 + seed / 10, "review": False} for c in classes.values()}
        record = {"output": f"{name}.nii.gz", "slices": slices, "predicted_dice": dice}
        (out / "cases" / f"{name}.json").write_text(json.dumps(record))
    intensity = Intensity("ct", -160.0, 240.0).as_dict()
    configuration = {"classes": classes, "axis": "S", "intensity": intensity}
    (out / "run.json").write_text(json.dumps({"configuration": configuration}))
    return out


def cpu_s() -> float:
    """Seconds of CPU that server and browser have had: the wall clock of one idle core would say no more."""
    parents, spent = {}, {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except OSError:  # it has ended meanwhile
            continue
        process = int(stat.parent.name)
        parents[process], spent[process] = int(fields[1]), int(fields[11]) + int(fields[12])
    ours = {os.getpid()}
    while more := {p for p, parent in parents.items() if parent in ours} - ours:
        ours |= more
    return sum(spent[p] for p in ours - {os.getpid()}) / os.sysconf("SC_CLK_TCK")


def measure(out: Path) -> dict[str, object]:
    """Seconds to the first paint of both cases, and the requests that scrolling causes."""
    words = [sys.executable, "-m", "unprompted.apps.cli.commands", "review", out, "-i", out.parent / "images"]
    server = subprocess.Popen([*map(str, words), "--port", "0"], stdout=subprocess.PIPE, encoding="utf-8")
    try:
        assert server.stdout is not None
        address = next(m[0] for line in server.stdout if (m := re.search(r"http://\S+", line)))
        with sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 1440, "height": 900})
            begun, had = time.perf_counter(), cpu_s()
            page.goto(address)
            page.wait_for_selector("body[data-painted]", timeout=200_000)
            first, first_cpu = time.perf_counter() - begun, cpu_s() - had
            page.wait_for_selector("body[data-loaded]", timeout=300_000)
            loaded = time.perf_counter() - begun
            asked: list[str] = []
            page.on("request", lambda request: asked.append(request.url))
            begun = time.perf_counter()
            for _ in range(50):
                page.keyboard.press("ArrowDown")
            scrolled = (time.perf_counter() - begun) / 50
            requests = len(asked)
            begun, had = time.perf_counter(), cpu_s()
            page.keyboard.press("n")
            page.wait_for_selector("#loading:not(.done)", state="attached")
            page.wait_for_selector("#loading.done", state="attached", timeout=200_000)
            second, second_cpu = time.perf_counter() - begun, cpu_s() - had
            browser.close()
    finally:
        server.terminate()
        server.wait()
    return {
        "shape": SHAPE,
        "first_s": round(first, 2),
        "second_s": round(second, 2),
        "first_cpu_s": round(first_cpu, 2),
        "second_cpu_s": round(second_cpu, 2),
        "load_average": round(os.getloadavg()[0], 1),
        "whole_case_in_browser_s": round(loaded, 2),
        "key_to_next_key_ms": round(1000 * scrolled, 1),
        "requests_of_50_slices": requests,
    }


def main() -> None:
    """Measure, print, write."""
    with tempfile.TemporaryDirectory() as folder:
        found = measure(write_cohort(Path(folder)))
    print(json.dumps(found, indent=1))
    RESULT.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
