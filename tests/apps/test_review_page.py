"""The review page where cases, classes or screens are awkward, and where things fail."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from builders import make_subject
from reviewing import go, served, slice_of, stroke, tab_of
from unprompted.apps.batch.keep import Sources
from unprompted.intensity import Intensity
from unprompted.io.base import write_labels
from unprompted.io.nifti import write_volume

LONG = "a-hospital-with-a-long-name_portal-venous-phase_reconstructed-again_"


@pytest.fixture
def crowded(tmp_path):
    """Results of 30 cases with long names and 13 classes; no fitted task."""
    images, out = tmp_path / "images", tmp_path / "out"
    for folder in (images, out / "cases"):
        folder.mkdir(parents=True)
    classes = {str(n): f"a structure of the abdomen, number {n}" for n in range(1, 14)}
    volume, labels = make_subject((4, 20, 20), 2, 0, (3.0, 2.0, 1.0))
    judged = {name: {"dice": 0.5, "review": True} for name in classes.values()}
    slices = {name: {"quality": [0.5] * 4, "pixels": [9] * 4} for name in classes.values()}
    for number in range(30):
        name = f"{LONG}{number:03d}"
        write_volume(volume, images / f"{name}.nii.gz")
        write_labels(labels, out / f"{name}.nii.gz", images / f"{name}.nii.gz")
        record = {"output": f"{name}.nii.gz", "slices": slices, "predicted_dice": judged}
        (out / "cases" / f"{name}.json").write_text(json.dumps(record))
    intensity = Intensity("ct", -160.0, 240.0).as_dict()
    configuration = {"classes": classes, "axis": "S", "intensity": intensity}
    (out / "run.json").write_text(json.dumps({"configuration": configuration}))
    Sources.of(out, images)
    return out


def box_of(tab, place):
    return tab.locator(place).bounding_box()


@pytest.mark.parametrize("size", [(1440, 900), (1024, 768)])
def test_many_classes_and_long_names_cover_nothing(browser, crowded, size):
    with served(crowded) as (address, _), tab_of(browser, address) as tab:
        tab.set_viewport_size({"width": size[0], "height": size[1]})
        tab.wait_for_timeout(200)
        classes, display, tools = (box_of(tab, place) for place in (".grow", "#windows", "aside"))
        assert classes["y"] + classes["height"] <= display["y"]
        for place in ("#accept", "#reject", "#help", "#pane-w", "#plot"):
            box = box_of(tab, place)
            assert box["x"] + box["width"] <= tools["x"]
        assert tab.evaluate("document.documentElement.scrollWidth") == size[0]
        save = box_of(tab, "#save")
        assert save["y"] + save["height"] <= size[1]
        assert tab.locator("#cases .name").first.inner_text().endswith("000")  # what tells cases apart
        assert tab.locator("#no-task").is_visible()


def test_lists_are_one_stop_of_the_tab_key_and_keep_the_focus(browser, crowded):
    with served(crowded) as (address, _), tab_of(browser, address) as tab:
        assert tab.locator("#cases li[tabindex='0']").count() == 1
        assert tab.locator("#classes li[tabindex='0']").count() == 1
        tab.keyboard.press(".")
        assert tab.locator("#classes li[aria-selected=true] .name").inner_text().endswith("number 2")
        tab.locator("#classes .eye").nth(3).press("Enter")
        assert tab.locator("#classes li.off .name").inner_text().endswith("number 4")
        assert tab.evaluate("document.activeElement.title").endswith("number 4")
        before = slice_of(tab)
        tab.locator("#opacity").press("ArrowUp")
        assert tab.locator("#opacity-now").inner_text() == "39"
        assert slice_of(tab) == before


def test_the_brush_is_round_in_millimetres(browser, crowded):
    with served(crowded) as (address, review), tab_of(browser, address) as tab:
        tab.keyboard.press("b")
        tab.keyboard.press("3")
        box = box_of(tab, "#pane-main canvas")
        tab.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        tab.keyboard.press("s")
        tab.wait_for_selector("#save:disabled")
        (drawn,) = (s for key in review.store.names for s in review.store.corrections(key).values())
        rows, columns = np.nonzero(drawn == 3)
        assert np.ptp(columns) + 1 == 8  # pixels of 1 mm: the size of the brush
        assert np.ptp(rows) + 1 == 4  # pixels of 2 mm


def test_a_case_that_cannot_be_read_says_why_and_lets_the_next_one_open(browser, results):
    with served(results) as (address, review), tab_of(browser, address) as tab:
        names = [name.get_attribute("title") for name in tab.locator("#cases .name").all()]
        review.cohort._open.clear()  # the page has read it ahead
        (results / f"{names[1]}.nii.gz").write_bytes(b"damaged")
        tab.keyboard.press("n")
        tab.wait_for_selector("#loading.failed")
        told = tab.locator("#loading").inner_text()
        assert told.startswith("This case cannot be shown.")
        assert f"{names[1]}.nii.gz" in told
        assert str(results) not in told  # folders of this machine are nobody's business
        for key in "wzyx1artshbv[":
            tab.keyboard.press(key)
        tab.keyboard.press("p")
        tab.wait_for_selector("#loading.done", state="attached")
        assert tab.locator("#case-name").inner_text() == names[0]


def test_teaching_that_fails_says_why_until_it_is_tried_again(browser, results):
    task = results / "elsewhere"
    shutil.copytree(Sources.of(results).task, task)
    Sources.of(results, task=task)
    learned = task / "support.npz"
    sound = learned.read_bytes()
    learned.write_bytes(b"damaged")
    with served(results) as (address, _), tab_of(browser, address) as tab:
        go(tab, 2)
        stroke(tab)
        tab.keyboard.press("t")
        tab.wait_for_selector("#job.failed")
        assert "holds no fitted task" in tab.locator("#job").inner_text()
        assert "--debug" not in tab.locator("#job").inner_text()
        learned.write_bytes(sound)
        tab.keyboard.press("t")
        tab.wait_for_selector("#change:not([hidden])")
        assert tab.locator("#job").is_hidden()


def test_a_picture_has_no_plot_and_comes_once(browser, call, fast, tmp_path):
    for place, seed in (("support", 1), ("queries", 2)):
        image, labels = make_subject((1, 40, 60), 1, seed, rgb=True)
        for kind, array in (("images", image.voxels[0].astype(np.uint8)), ("labels", labels.labels[0])):
            (tmp_path / place / kind).mkdir(parents=True)
            Image.fromarray(array).save(tmp_path / place / kind / "a.png")
    out = tmp_path / "out"
    words = ("-s", tmp_path / "support", "-i", tmp_path / "queries" / "images", "-o", out, "--review")
    assert call("segment", *words, *fast, "--no-refine").code == 0
    with served(out) as (address, review), tab_of(browser, address, painted=False) as tab:
        asked = []
        tab.on("request", lambda request: asked.append(request.url))
        tab.reload()
        tab.wait_for_selector("body[data-loaded]")
        assert len([url for url in asked if "/image/" in url]) == 1
        assert not tab.locator("#quality").is_visible()
        stroke(tab)
        tab.keyboard.press("s")
        tab.wait_for_selector("#save:disabled")
        (key,) = review.store.names
        assert (np.asarray(Image.open(out / "a.png")) == review.store.corrections(key)[0]).all()
