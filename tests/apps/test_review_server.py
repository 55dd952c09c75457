import asyncio
import json
import time
from typing import ClassVar

import numpy as np
import pytest
from fastapi import HTTPException
from fastapi.testclient import TestClient

from unprompted.apps.batch.keep import Sources
from unprompted.apps.review.review import Review
from unprompted.apps.review.safety import body_of
from unprompted.apps.review.server import application
from unprompted.io.base import read_labels

LOCAL = "http://127.0.0.1:8765"
TOKEN = "correct-horse-battery"


@pytest.fixture
def review(results):
    opened = Review(results, Sources.of(results), "cpu")
    yield opened
    opened.close()


@pytest.fixture
def page(review):
    return TestClient(application(review, "127.0.0.1", None), base_url=LOCAL)


def first_case(page):
    return page.get("/api/review").json()["cases"][0]


def correct(page, case, number, labels, version):
    return page.put(
        f"/api/cases/{case['id']}/slices/{number}",
        content=labels.tobytes(),
        headers={"If-Match": f'"{version}"'},
    )


def labels_of(page, case, number):
    answer = page.get(f"/api/cases/{case['id']}/labels/{number}/1")
    return np.frombuffer(answer.content, np.uint8).reshape(24, 24)


def some_labels():
    labels = np.zeros((24, 24), np.uint8)
    labels[4:9, 5:12] = 2
    return labels


def test_cases_come_with_the_lowest_predicted_dice_first(page):
    found = page.get("/api/review").json()
    dices = [case["predicted_dice"] for case in found["cases"]]
    assert dices == sorted(dices)
    assert {case["name"] for case in found["cases"]} == {"query-3", "query-4"}
    assert [(one["value"], one["name"], one["colour"]) for one in found["classes"]] == [
        (1, "organ 1", "#e69f00"),
        (2, "organ 2", "#56b4e9"),
    ]
    assert found["teaches"]


def test_a_case_is_described_and_its_voxels_are_those_of_the_image(page, case_folder):
    from unprompted.io.base import read_image

    case = first_case(page)
    told = page.get(f"/api/cases/{case['id']}").json()
    assert (told["shape"], told["dtype"], told["axis"], told["directions"]) == (
        [6, 24, 24],
        "uint8",
        "z",
        "SPL",
    )
    assert np.shape(told["quality"]) == np.shape(told["pixels"]) == (2, 6)
    answer = page.get(f"/api/cases/{case['id']}/image/2/2")
    voxels = np.frombuffer(answer.content, np.uint8).reshape(2, 24, 24)
    image = read_image(case_folder / "queries" / f"{case['name']}.nii.gz")
    assert (voxels == image.voxels[2:4]).all()


def test_a_corrected_slice_is_in_the_label_map_and_in_nothing_else_of_it(page, results):
    case = first_case(page)
    before = read_labels(results / f"{case['name']}.nii.gz").labels
    state = correct(page, case, 3, some_labels(), 0)
    assert (state.status_code, state.json()) == (
        200,
        {"version": 1, "status": "open", "slices": {"3": 1}, "segmented": 0},
    )
    after = read_labels(results / f"{case['name']}.nii.gz")
    assert (after.labels[3] == some_labels()).all()
    assert (np.delete(after.labels, 3, 0) == np.delete(before, 3, 0)).all()
    assert after.classes == {1: "organ 1", 2: "organ 2"}
    assert (labels_of(page, case, 3) == some_labels()).all()


def test_a_second_writer_gets_what_is_saved_instead_of_overwriting_it(page):
    case = first_case(page)
    correct(page, case, 3, some_labels(), 0)
    late = correct(page, case, 3, some_labels() * 0, 0)
    assert late.status_code == 412
    assert late.json()["state"] == {"version": 1, "status": "open", "slices": {"3": 1}, "segmented": 0}
    assert (labels_of(page, case, 3) == some_labels()).all()


def test_what_was_saved_is_there_though_the_server_died_before_the_label_map_was_written(review, results):
    key = next(iter(review.store.names))
    review.store.save_slice(key, 1, some_labels(), 0)  # the first half of a correction
    review.close()
    again = Review(results, Sources.of(results), "cpu")
    assert (again.opened(key).labels.labels[1] == some_labels()).all()
    name = again.store.names[key]
    assert (read_labels(results / f"{name}.nii.gz").labels[1] == some_labels()).all()
    again.close()


def test_a_case_is_accepted_and_opened_again(page):
    case = first_case(page)
    path = f"/api/cases/{case['id']}/status"
    accepted = page.post(path, json={"status": "accepted"}, headers={"If-Match": '"0"'})
    assert accepted.json()["status"] == "accepted"
    assert case["id"] not in {one["case"] for one in page.get("/api/suggest").json()}
    assert page.post(path, json={"status": "fine"}, headers={"If-Match": '"1"'}).status_code == 409


def finished_job(page, key):
    for _ in range(600):
        job = page.get(f"/api/jobs/{key}").json()
        if job["state"] in ("done", "failed"):
            return job
        time.sleep(0.1)
    raise AssertionError("the job did not end")


def test_corrections_teach_and_stay(page, review, results):
    case = first_case(page)
    correct(page, case, 3, some_labels(), 0)
    headers = {"X-Requested-With": "review"}
    job = page.post(f"/api/cases/{case['id']}/segment", headers=headers).json()["job"]
    ended = finished_job(page, job)
    assert ended["error"] == ""
    (change,) = ended["result"]
    assert change["taught"] == 1
    assert change["changed"][3] == 0
    assert change["voxels"] == sum(change["changed"])
    labels = read_labels(results / f"{case['name']}.nii.gz").labels
    assert (labels[3] == some_labels()).all()
    record = json.loads((results / "cases" / f"{case['name']}.json").read_text())
    assert [record["slices"][name]["quality"][3] for name in ("organ 1", "organ 2")] == [1.0, 1.0]
    assert record["slices"]["organ 2"]["pixels"][3] == 35
    assert record["provenance"]["support_digest"] != review.cohort.configuration["support_digest"]


def test_a_corrected_case_teaches_whole_once_it_is_accepted(page):
    one, other = page.get("/api/review").json()["cases"]
    correct(page, one, 3, some_labels(), 0)
    page.post(f"/api/cases/{one['id']}/status", json={"status": "accepted"}, headers={"If-Match": '"1"'})
    headers = {"X-Requested-With": "review"}
    ended = finished_job(page, page.post("/api/segment", headers=headers).json()["job"])
    assert ended["error"] == ""
    assert [change["case"] for change in ended["result"]] == [other["id"]]  # what is accepted stays as it is
    assert ended["result"][0]["taught"] == 6


def test_segmenting_again_without_a_correction_is_refused(page):
    answer = page.post("/api/segment", headers={"X-Requested-With": "review"})
    assert answer.status_code == 409
    assert "nothing is corrected yet" in answer.json()["error"]


BAD = ["..%2f..%2fetc%2fpasswd", "%2e%2e", "query-3", "0123456789abcdeg", "0" * 15, "a" * 2000, "..\\..\\x"]


@pytest.mark.parametrize("key", BAD)
def test_a_path_or_a_name_instead_of_a_key_is_refused(page, key):
    for path in (f"/api/cases/{key}", f"/api/cases/{key}/image/0/1", f"/api/jobs/{key}"):
        assert page.get(path).status_code in (400, 404)


@pytest.mark.parametrize(
    "path", ["/static/..%2fserver.py", "/static/../server.py", "/static/%2fetc%2fpasswd"]
)
def test_only_the_files_of_the_page_are_served(page, path):
    assert page.get(path).status_code == 404


def test_a_key_of_nothing_is_not_found(page):
    assert page.get(f"/api/cases/{'0' * 16}").status_code == 404


@pytest.mark.parametrize(
    ("content", "headers", "status"),
    [
        (b"\0" * 576, {}, 400),  # no version
        (b"\0" * 576, {"If-Match": "*"}, 400),
        (b"\0" * 575, {"If-Match": '"0"'}, 400),
        (b"\0" * 577, {"If-Match": '"0"'}, 413),
        (b"\7" * 576, {"If-Match": '"0"'}, 409),  # no class 7
    ],
)
def test_a_correction_that_is_no_slice_of_labels_is_refused(page, content, headers, status):
    case = first_case(page)
    answer = page.put(f"/api/cases/{case['id']}/slices/0", content=content, headers=headers)
    assert answer.status_code == status
    assert first_case(page)["version"] == 0


def test_a_slice_beyond_the_case_is_not_found(page):
    assert correct(page, first_case(page), 6, some_labels(), 0).status_code == 404


class Arriving:
    """A request whose body arrives in parts, without end, and without telling its size."""

    headers: ClassVar[dict[str, str]] = {}

    def __init__(self, pause_s=0.0):
        self.pause_s, self.sent = pause_s, 0

    async def stream(self):
        while True:
            self.sent += 100
            yield b"\0" * 100
            await asyncio.sleep(self.pause_s)


def test_an_endless_body_is_cut_off_as_soon_as_it_is_too_large():
    request = Arriving()
    with pytest.raises(HTTPException) as refused:
        asyncio.run(body_of(request, 576))
    assert (refused.value.status_code, request.sent) == (413, 600)


def test_a_body_that_takes_too_long_is_given_up(monkeypatch):
    monkeypatch.setattr("unprompted.apps.review.safety.READ_TIMEOUT_S", 0.05)
    with pytest.raises(HTTPException) as refused:
        asyncio.run(body_of(Arriving(pause_s=60), 576))
    assert refused.value.status_code == 408


def test_a_page_of_another_site_cannot_reach_a_loopback_server_by_its_own_name(page):
    assert page.get("/api/review", headers={"Host": "evil.example:8765"}).status_code == 421


def test_data_needs_the_token_where_there_is_one(review):
    page = TestClient(application(review, "0.0.0.0", TOKEN), base_url="http://scanner.example")
    assert page.get("/").status_code == 200
    assert page.get("/api/review").status_code == 401
    assert page.get("/api/review", headers={"Authorization": "Bearer wrong-horse-battery"}).status_code == 401
    assert page.get("/api/review", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--host", "0.0.0.0"), "can be reached from other machines"),
        (("--host", "192.168.1.7"), "can be reached from other machines"),
        (("--host", "0.0.0.0", "--token", "short"), "at least 16"),
    ],
)
def test_other_addresses_than_loopback_need_a_token(call, results, words, told):
    ended = call("review", results, *words)
    assert ended.code == 2
    assert told in ended.err


def test_results_whose_images_are_nowhere_are_refused(call, finished):
    ended = call("review", finished)
    assert ended.code == 2
    assert "give them with -i IMAGES" in ended.err


def test_answers_are_not_kept_by_browsers_and_pages_load_nothing_from_elsewhere(page):
    headers = page.get("/").headers
    assert headers["cache-control"] == "no-store"
    assert "default-src 'self'" in headers["content-security-policy"]


def test_work_that_fails_in_a_way_nobody_thought_of_tells_its_cause(page, review):
    job = review.jobs.start(lambda job: {}["a tensor"])
    assert finished_job(page, job.key)["error"] == "KeyError: 'a tensor'"


def test_work_that_runs_out_of_memory_says_so(page, review):
    def greedy(job):
        raise MemoryError

    job = review.jobs.start(greedy)
    assert "not enough memory" in finished_job(page, job.key)["error"]
