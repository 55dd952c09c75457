"""The pictures of docs/review.md: generated patients, segmented, corrected and taught in a real browser.

    python benchmarks/review_screenshots.py

Writes docs/images/review-*.webp; some minutes on a CPU.
"""

import io
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from unprompted.apps.batch.choices import ModelChoice, Unwatched
from unprompted.apps.batch.demo import demonstrate
from unprompted.apps.review.review import Review
from unprompted.datasets.synthetic import Synthetic
from unprompted.io.base import read_labels

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from reviewing import served  # as tests drive the page

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
SIZES = {"open": (1440, 900), "taught": (1440, 900), "small": (1024, 768)}


def shoot(page: Page, name: str) -> None:
    """Write the page as a picture of the docs."""
    width, height = SIZES[name]
    page.set_viewport_size({"width": width, "height": height})
    page.wait_for_timeout(800)  # until notes are gone and all is drawn
    with Image.open(io.BytesIO(page.screenshot())) as shown:
        shown.convert("RGB").save(IMAGES / f"review-{name}.webp", quality=80, method=6)


def correct_the_worst(review: Review, truth: Path) -> None:
    """What a careful reader would do to the slice that the page opens with."""
    first = review.suggestions()[0]
    labels = read_labels(truth / f"{review.store.names[first['case']]}.nii.gz")
    number = first["slice"]
    review.correct(first["case"], number, labels.sliced_along(review.cohort.axis).labels[number], 0)


def main() -> None:
    """Make all pictures."""
    with tempfile.TemporaryDirectory() as folder:
        model = ModelChoice("ofl-sam2", {"learner": False}, refine=False)
        made = demonstrate(Path(folder) / "demo", model, Unwatched(), Synthetic(count=8))
        with served(made.folder / "masks") as (address, review), sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 1440, "height": 900})
            page.set_default_timeout(600_000)
            page.goto(address)
            page.wait_for_selector("body[data-loaded]")
            shoot(page, "open")
            shoot(page, "small")
            correct_the_worst(review, made.folder / "truth")
            page.reload()
            page.wait_for_selector("body[data-loaded]")
            page.keyboard.press("t")
            page.wait_for_selector("#change:not([hidden])")
            shoot(page, "taught")
            browser.close()


if __name__ == "__main__":
    main()
