import json

import numpy as np
import pytest

from unprompted.apps.review.store import CaseState, StaleVersion, Store, peek
from unprompted.errors import DataRefused, UsageError

MASK = np.eye(4, dtype=np.uint8)


@pytest.fixture
def store(tmp_path):
    opened = Store(tmp_path, ["miller-jane", "b"])
    yield opened
    opened.close()


def key_of(store, name):
    return next(key for key, known in store.names.items() if known == name)


def test_a_saved_slice_is_there_after_a_restart(store, tmp_path):
    key = key_of(store, "b")
    assert store.save_slice(key, 3, MASK, 0) == CaseState(version=1, slices={3: 1})
    store.close()
    again = Store(tmp_path, ["b"])
    assert again.state(key) == CaseState(version=1, slices={3: 1})
    assert again.corrections(key)[3].tolist() == MASK.tolist()
    again.close()


def test_a_writer_who_has_not_seen_the_last_write_is_refused_and_changes_nothing(store):
    key = key_of(store, "b")
    store.save_slice(key, 3, MASK, 0)
    with pytest.raises(StaleVersion) as refused:
        store.save_slice(key, 3, MASK * 0, 0)
    assert refused.value.state.version == 1
    with pytest.raises(StaleVersion):
        store.set_status(key, "accepted", 0)
    assert store.corrections(key)[3].tolist() == MASK.tolist()
    assert store.state(key).status == "open"


def test_a_correction_opens_an_accepted_case_again(store):
    key = key_of(store, "b")
    store.set_status(key, "accepted", 0)
    assert store.save_slice(key, 0, MASK, 1).status == "open"


def test_an_unknown_status_is_refused(store):
    with pytest.raises(UsageError, match="open, accepted, rejected"):
        store.set_status(key_of(store, "b"), "fine", 0)


def test_every_write_leaves_one_line_and_no_name(store, tmp_path):
    key = key_of(store, "miller-jane")
    store.save_slice(key, 2, MASK, 0)
    store.set_status(key, "rejected", 1)
    store.was_segmented(key)
    text = (tmp_path / "review" / "audit.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert [(one["action"], one["slice"], one["version"]) for one in lines] == [
        ("correct", 2, 1), ("rejected", None, 2), ("segment", None, 3),
    ]  # fmt: skip
    assert {one["case"] for one in lines} == {key}
    files = [str(path.relative_to(tmp_path)) for path in (tmp_path / "review").rglob("*")]
    assert "miller" not in text + " ".join(files)


def test_keys_cannot_be_told_from_names(tmp_path):
    stores = [Store(tmp_path / place, ["a"]) for place in ("one", "two")]
    assert set(stores[0].names) != set(stores[1].names)
    for one in stores:
        one.close()


def test_two_servers_cannot_have_one_folder(store, tmp_path):
    with pytest.raises(UsageError, match="is being reviewed already"):
        Store(tmp_path, ["b"])


def test_what_is_saved_can_be_read_beside_a_running_server(store, tmp_path):
    store.set_status(key_of(store, "b"), "accepted", 0)
    assert peek(tmp_path / "review", ["b", "miller-jane"]) == {
        "b": CaseState(1, "accepted"),
        "miller-jane": CaseState(),
    }


def test_a_damaged_record_is_named(store, tmp_path):
    key = key_of(store, "b")
    store.set_status(key, "accepted", 0)
    store.close()
    (tmp_path / "review" / "cases" / f"{key}.json").write_text("{")
    with pytest.raises(DataRefused, match="is damaged"):
        Store(tmp_path, ["b"])
