"""The review page in a real browser, as a reader uses it."""

import io
import threading
from contextlib import contextmanager

import numpy as np
import uvicorn
from PIL import Image

from unprompted.apps.batch.keep import Sources
from unprompted.apps.review.review import Review
from unprompted.apps.review.serve import listening_at
from unprompted.apps.review.server import application

PATIENCE_MS = 120_000


@contextmanager
def served(folder, token=None):
    """The address of the review page of a folder, and its review."""
    review = Review(folder, Sources.of(folder), "cpu")
    with listening_at("127.0.0.1", 0) as listening:
        options = uvicorn.Config(application(review, "127.0.0.1", token), log_level="error")
        server = uvicorn.Server(options)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/", review
        server.should_exit = True
        thread.join()
    review.close()


@contextmanager
def tab_of(browser, address, painted=True):
    tab = browser.new_page(viewport={"width": 1200, "height": 800})
    tab.set_default_timeout(PATIENCE_MS)
    tab.broken = []
    tab.on("pageerror", lambda error: tab.broken.append(str(error)))
    tab.goto(address)
    if painted:
        tab.wait_for_selector("body[data-painted]")
        tab.wait_for_selector("body[data-loaded]")
    yield tab
    assert tab.broken == []
    tab.close()


def picture(tab, pane="#pane-main"):
    tab.wait_for_timeout(150)  # until the next frame is drawn
    with Image.open(io.BytesIO(tab.locator(pane).screenshot())) as shown:
        return np.asarray(shown.convert("RGB"), np.int16)


def slice_of(tab):
    """The slice shown, from 1, as the page says it."""
    return int(tab.locator("#pane-main output").inner_text().split("/")[0].split()[-1])


def go(tab, number):
    tab.keyboard.press("v")
    while slice_of(tab) != number:
        tab.keyboard.press("ArrowUp" if slice_of(tab) < number else "ArrowDown")
        tab.wait_for_timeout(60)


def stroke(tab, key="b", down=0.0):
    """A stroke across the middle of the slice, further down by a share of its height."""
    tab.keyboard.press(key)
    box = tab.locator("#pane-main canvas").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] * (0.5 + down)
    tab.mouse.move(x - 60, y)
    tab.mouse.down()
    tab.mouse.move(x + 60, y, steps=6)
    tab.mouse.up()


def save(tab):
    tab.keyboard.press("s")
    tab.wait_for_selector("#notes p")
    tab.wait_for_selector("#save:disabled")
