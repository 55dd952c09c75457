"""Results in a folder and in an object store: whole or not there."""

import os
import subprocess
import sys

import fsspec
import pytest

from unprompted.errors import UsageError
from unprompted.io.store import FolderStore, RemoteStore, store_of


@pytest.fixture(params=["folder", "memory"])
def store(request, tmp_path):
    if request.param == "folder":
        yield store_of(tmp_path / "out")
    else:
        yield store_of("memory://bucket/out")
        fsspec.filesystem("memory").store.clear()


def fill(store, name, text):
    with store.scratch() as scratch:
        (scratch / "made").write_text(text)
        store.put(scratch / "made", name)


def test_what_is_put_is_read_and_listed_with_its_size(store):
    fill(store, "a.txt", "one")
    fill(store, "cases/b.json", "three")
    assert store.read("a.txt") == b"one"
    assert store.read("nothing") is None
    assert store.sizes() == {"a.txt": 3, "cases/b.json": 5}


def test_what_is_put_again_replaces_it(store):
    fill(store, "a.txt", "one")
    fill(store, "a.txt", "two!")
    assert (store.read("a.txt"), store.sizes()) == (b"two!", {"a.txt": 4})


def test_a_folder_replaces_the_folder_of_its_name(store):
    for name in ("old", "new"):
        with store.scratch() as scratch:
            (scratch / "masks").mkdir()
            (scratch / "masks" / f"{name}.png").write_text(name)
            store.put(scratch / "masks", "video/masks")
    assert store.sizes() == {"video/masks/new.png": 3}


def test_an_empty_store_holds_nothing(store):
    assert store.sizes() == {}


def test_what_a_killed_run_left_half_written_is_no_result_and_is_removed(tmp_path):
    left = tmp_path / ".partial-x" / "a.nii.gz"
    left.parent.mkdir()
    left.write_text("half")
    store = FolderStore(tmp_path)
    assert store.sizes() == {}
    with store.locked():
        assert not left.parent.exists()


def test_a_second_run_in_the_same_folder_is_refused_until_the_first_is_dead(tmp_path):
    code = (
        "import sys, time; from unprompted.io.store import store_of\nwith store_of(sys.argv[1]).locked():\n"
    )
    code += "    print('locked', flush=True); time.sleep(60)\n"
    first = subprocess.Popen([sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE)
    assert first.stdout.readline() == b"locked\n"
    with pytest.raises(UsageError, match="another run writes to"), FolderStore(tmp_path).locked():
        pass
    first.kill()
    first.wait()
    with FolderStore(tmp_path).locked():
        pass


def test_file_urls_are_folders(tmp_path):
    assert store_of(f"file://{tmp_path}") == FolderStore(tmp_path)


def test_an_unknown_kind_of_url_is_refused():
    with pytest.raises(UsageError, match="install what fsspec needs"):
        store_of("nosuch://bucket/out")


def test_a_file_is_no_output(tmp_path):
    (tmp_path / "a").write_text("")
    with pytest.raises(UsageError, match="is a file"):
        store_of(tmp_path / "a")


def test_a_store_travels_to_other_processes():
    import pickle

    assert pickle.loads(pickle.dumps(RemoteStore("memory://a"))) == RemoteStore("memory://a")


def test_a_failed_put_leaves_the_old_file(tmp_path):
    store = FolderStore(tmp_path)
    fill(store, "a.txt", "old")
    with pytest.raises(OSError, match="gone"), store.scratch() as scratch:
        store.put(scratch / "gone", "a.txt")
    assert store.read("a.txt") == b"old"
    assert os.listdir(tmp_path) == ["a.txt"]
