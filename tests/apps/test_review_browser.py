"""The review page in a real browser: Debian's chromium, driven by playwright."""

import os
import re
import signal
import subprocess
import sys

import numpy as np
from PIL import Image

from builders import make_subject
from reviewing import go, picture, save, served, slice_of, stroke, tab_of
from unprompted.apps.batch.keep import Sources
from unprompted.apps.cli.commands import run
from unprompted.apps.review.review import Review
from unprompted.io.base import read_labels

TOKEN = "correct-horse-battery"


def test_open_scroll_and_toggle(browser, results):
    with served(results) as (address, _), tab_of(browser, address) as tab:
        assert tab.locator("#cases li").count() == 2
        assert tab.locator("#cases li").first.get_attribute("aria-selected") == "true"
        assert [tab.locator(f"#pane-{p} output").inner_text().split()[0] for p in ("main", "h", "w")] == [
            "axial", "coronal", "sagittal",
        ]  # fmt: skip
        asked = []
        tab.on("request", lambda request: asked.append(request.url))
        go(tab, 1)
        first = picture(tab)
        tab.keyboard.press("ArrowUp")
        tab.wait_for_timeout(60)
        assert slice_of(tab) == 2
        tab.mouse.move(*centre(tab))
        tab.mouse.wheel(0, -100)
        tab.wait_for_timeout(60)
        assert slice_of(tab) == 3
        assert (picture(tab) != first).any()
        assert asked == []  # scrolling does not wait for the network
        box = tab.locator("#plot").bounding_box()
        tab.mouse.click(box["x"] + box["width"] - 12, box["y"] + 30)
        tab.wait_for_timeout(60)
        assert slice_of(tab) == 6
        shown = picture(tab)
        for eye in tab.locator("#classes .eye").all():
            eye.click()
        bare = picture(tab)
        assert tab.locator("#classes li.off").count() == 2
        grey = np.ptp(bare[200:400, 100:400], axis=2)
        assert (grey <= np.ptp(shown[200:400, 100:400], axis=2)).mean() > 0.99
        tab.keyboard.press("w")
        assert (picture(tab) != bare).any() or tab.locator("#windows button").count() == 1


def centre(tab):
    box = tab.locator("#pane-main canvas").bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def test_correct_save_segment_again_and_see_the_change(browser, results):
    with served(results) as (address, review), tab_of(browser, address) as tab:
        go(tab, 3)
        tab.keyboard.press("2")
        before = picture(tab)
        stroke(tab)
        assert (picture(tab) != before).any()
        assert tab.locator("#save").is_enabled()
        tab.keyboard.press("z")
        tab.keyboard.press("y")
        save(tab)
        key = next(iter(key for key in review.store.names if review.store.state(key).slices))
        assert dict(review.store.state(key).slices) == {2: 1}
        drawn = review.store.corrections(key)[2]
        assert (drawn == 2).sum() > 20
        tab.keyboard.press("t")
        tab.wait_for_selector("#change:not([hidden])")
        assert "voxels in" in tab.locator("#change-sum").inner_text()
        labels = read_labels(results / f"{review.store.names[key]}.nii.gz").labels
        assert (labels[2] == drawn).all()
        assert tab.locator("#cases li[aria-selected=true] .what").inner_text().startswith("1 slice corrected")
        tab.keyboard.down("c")
        tab.wait_for_selector("#compare-badge", state="visible")
        tab.keyboard.up("c")
        tab.keyboard.press("a")
        tab.wait_for_selector("#cases .tag.accepted")
        assert review.store.state(key).status == "accepted"


def test_two_tabs_cannot_lose_each_others_corrections(browser, results):
    with (
        served(results) as (address, review),
        tab_of(browser, address) as one,
        tab_of(browser, address) as two,
    ):
        for tab in (one, two):
            go(tab, 2)
            tab.keyboard.press("1")
        stroke(one)
        save(one)
        key = next(key for key in review.store.names if review.store.state(key).slices)
        first = review.store.corrections(key)[1]
        go(two, 5)  # another slice: nobody has to be asked
        stroke(two)
        save(two)
        assert sorted(review.store.corrections(key)) == [1, 4]
        assert (review.store.corrections(key)[1] == first).all()
        go(one, 3)
        stroke(one)
        go(one, 5)  # the same slice: its reader has to decide, though slice 3 is saved before
        stroke(one, down=0.2)
        second = review.store.corrections(key)[4]
        one.keyboard.press("s")
        one.wait_for_selector("#conflict[open]")
        assert sorted(review.store.corrections(key)) == [1, 2, 4]
        assert (review.store.corrections(key)[4] == second).all()
        one.click("#take-theirs")
        one.wait_for_selector("#save:disabled")
        assert (review.store.corrections(key)[4] == second).all()
        stroke(one, down=0.2)
        save(one)
        assert (review.store.corrections(key)[4] != second).any()


def test_a_wrong_token_opens_nothing(browser, results):
    with served(results, TOKEN) as (address, _), tab_of(browser, address, painted=False) as tab:
        tab.wait_for_selector("#token[open]")
        tab.fill("#token-value", "wrong-horse-battery")
        tab.click("#token-go")
        tab.wait_for_selector("text=That token is not the one of this server.")
        assert tab.locator("#cases li").count() == 0
        tab.fill("#token-value", TOKEN)
        tab.click("#token-go")
        tab.wait_for_selector("body[data-painted]")
        assert TOKEN not in tab.url
        for trick in ("static/..%2fserver.py", "..%2f..%2fetc%2fpasswd", "api/cases/..%2f..%2frun.json"):
            assert tab.request.get(address + trick).status in (400, 401, 404)


def test_colour_videos_are_shown_frame_by_frame_and_corrected(browser, tiny_model_folder, tmp_path):
    for name, seed in (("support/a", 1), ("queries/b", 2)):
        video, masks = make_subject((4, 32, 40), 1, seed, axis="t", rgb=True)
        for kind, frames in (("frames", video.voxels), ("masks", masks.labels)):
            folder = tmp_path / name / kind
            folder.mkdir(parents=True)
            for n, frame in enumerate(frames):
                Image.fromarray(frame.astype(np.uint8)).save(folder / f"{n:03d}.png")
    out = tmp_path / "out"
    words = ("segment", "-s", tmp_path / "support", "-i", tmp_path / "queries", "-o", out, "-q", "--review")
    words += ("--backbone", tiny_model_folder, "--method", "sam2-mask", "--set", "supports=1")
    assert run([str(word) for word in words]) == 0
    with served(out) as (address, review), tab_of(browser, address) as tab:
        assert not tab.locator("#pane-h").is_visible()
        assert tab.locator("#pane-main output").inner_text().startswith("frame ")
        go(tab, 2)
        assert np.ptp(picture(tab), axis=2).max() > 30  # in colour
        stroke(tab)
        save(tab)
        (key,) = review.store.names
        assert list(review.store.corrections(key)) == [1]
        stored = np.asarray(Image.open(out / "b" / "masks" / "001.png"))
        assert (stored == review.store.corrections(key)[1]).all()


def test_a_server_that_is_killed_loses_nothing_that_was_saved(browser, results):
    words = (sys.executable, "-m", "unprompted.apps.cli.commands", "review", results, "--port", "0")
    server = subprocess.Popen([str(word) for word in words], stdout=subprocess.PIPE, encoding="utf-8")
    try:
        address = re.search(r"http://\S+", server.stdout.readline())[0]
        with tab_of(browser, address) as tab:
            go(tab, 2)
            stroke(tab)
            save(tab)
            os.kill(server.pid, signal.SIGKILL)
            server.wait()
            stroke(tab, down=0.2)
            tab.keyboard.press("s")
            tab.wait_for_selector("#notes p.bad")
            assert tab.locator("#save").is_enabled()  # what could not be saved is still in the page
    finally:
        server.kill()
        server.wait()
        server.stdout.close()
    again = Review(results, Sources.of(results), "cpu")
    (key,) = [key for key in again.store.names if again.store.state(key).slices]
    name = again.store.names[key]
    assert (read_labels(results / f"{name}.nii.gz").labels[1] == again.store.corrections(key)[1]).all()
    again.close()


def test_the_slice_to_look_at_is_fetched_alone_and_first(browser, results):
    with served(results) as (address, _), tab_of(browser, address, painted=False) as tab:
        asked = []
        tab.on("request", lambda request: asked.append(request.url))
        tab.reload()
        tab.wait_for_selector("body[data-loaded]")
        images = [url.split("/image/")[1] for url in asked if "/image/" in url]
        worst = slice_of(tab) - 1
        assert images == [f"{worst}/1", "0/6"]
