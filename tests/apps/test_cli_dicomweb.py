"""The program against a real archive: Orthanc, started here on loopback."""

import json
import logging
import os
import shutil
import socket
import subprocess
import time
import urllib.request

import numpy as np
import pydicom
import pytest

from dicoms import write_series
from unprompted.errors import DataRefused, UnpromptedError, UsageError
from unprompted.images import LabelMap
from unprompted.io.base import read_image, read_labels, write_labels
from unprompted.io.dicomweb import PASSWORD, TOKEN, USER, archive_at, retrieved, stored

PLUGIN = "/usr/share/orthanc/plugins/libOrthancDicomWeb.so"
SECRET = "not-for-logs"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory):
    """The address of an empty archive that asks for a password."""
    program = shutil.which("Orthanc", path=f"{os.environ['PATH']}:/usr/sbin")
    assert program, "install orthanc and orthanc-dicomweb (.ci/run does)"
    folder, port = tmp_path_factory.mktemp("orthanc"), free_port()
    settings = {
        "Name": "test", "StorageDirectory": str(folder / "db"), "IndexDirectory": str(folder / "db"),
        "HttpPort": port, "RemoteAccessAllowed": False, "AuthenticationEnabled": True,
        "RegisteredUsers": {"reader": SECRET}, "DicomServerEnabled": False, "Plugins": [PLUGIN],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }  # fmt: skip
    (folder / "orthanc.json").write_text(json.dumps(settings))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, folder / "orthanc.json"], stdout=log, stderr=log)
        try:
            for _ in range(300):
                assert process.poll() is None, (folder / "log").read_text()
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/system", timeout=2)
                except urllib.error.HTTPError:  # it asks for the password, so it is up
                    break
                except OSError:
                    time.sleep(0.1)
            else:
                pytest.fail((folder / "log").read_text())
            yield f"dicomweb+http://127.0.0.1:{port}/dicom-web"
        finally:
            process.terminate()
            process.wait(30)


@pytest.fixture
def login(monkeypatch):
    monkeypatch.setenv(USER, "reader")
    monkeypatch.setenv(PASSWORD, SECRET)


@pytest.fixture
def uploaded(orthanc, login, tmp_path):
    """A study of one series in the archive: its UID, and the series on disk."""
    written = write_series(tmp_path / "series", shape=(4, 16, 16))
    stored(archive_at(orthanc), written.files)
    return str(pydicom.dcmread(written.files[0]).StudyInstanceUID), written


def test_a_study_comes_back_as_it_was_stored(orthanc, uploaded, tmp_path):
    study, written = uploaded
    assert retrieved(archive_at(f"{orthanc}#study={study}"), tmp_path / "back") == 4
    assert (read_image(tmp_path / "back").voxels == read_image(written.folder).voxels).all()


def test_a_patient_is_found_by_query(orthanc, uploaded, tmp_path):
    assert retrieved(archive_at(f"{orthanc}#patient=PID-4711"), tmp_path / "back") >= 4


def test_what_is_not_there_is_refused(orthanc, login, tmp_path):
    with pytest.raises((DataRefused, UnpromptedError), match=r"nothing is there|answers 404"):
        retrieved(archive_at(f"{orthanc}#study=1.2.3"), tmp_path / "back")


def test_a_run_fetches_segments_and_stores(orthanc, uploaded, tmp_path, call, fast, caplog):
    caplog.set_level(logging.DEBUG)
    study, written = uploaded
    series = write_series(tmp_path / "support" / "p1" / "ct", shape=(4, 16, 16), seed=5)
    grid = read_image(series.folder).grid
    labels = np.zeros(grid.shape, np.uint8)
    labels[:, 4:12, 4:12] = 1
    write_labels(LabelMap(labels, grid, {1: "liver"}), tmp_path / "support" / "p1" / "seg.dcm", series.folder)
    ended = call(
        "segment",
        "-s",
        tmp_path / "support",
        "-i",
        f"{orthanc}#study={study}",
        "-o",
        orthanc,
        *fast,
        "--debug",
    )
    assert ended.code == 0, ended.err
    assert "4 files of images" in ended.out
    assert "1 objects stored" in ended.out
    retrieved(archive_at(f"{orthanc}#study={study}"), tmp_path / "after")
    (seg,) = [f for f in (tmp_path / "after").rglob("*.dcm") if pydicom.dcmread(f).Modality == "SEG"]
    back = read_labels(seg, read_image(written.folder).grid)
    assert back.classes == {1: "liver"}
    for text in (ended.out, ended.err, caplog.text):
        assert SECRET not in text
        assert "Secret^Person" not in text


def test_a_wrong_password_is_one_clear_line(orthanc, monkeypatch, call, tmp_path, case_folder):
    monkeypatch.setenv(USER, "reader")
    monkeypatch.setenv(PASSWORD, "wrong-secret")
    ended = call(
        "segment", "-s", case_folder / "support", "-i", f"{orthanc}#study=1.2", "-o", tmp_path / "out"
    )
    assert ended.code == 1
    assert "the archive answers 401" in ended.err
    assert USER in ended.err
    assert "wrong-secret" not in ended.err + ended.out


def test_an_archive_that_does_not_answer_is_one_clear_line(tmp_path):
    with pytest.raises(UnpromptedError, match=r"127\.0\.0\.1:\d+: the archive does not answer"):
        retrieved(archive_at(f"dicomweb+http://127.0.0.1:{free_port()}/x#study=1.2"), tmp_path)


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("dicomweb+https://me:secret@h/x#study=1", "credentials do not belong in an address"),
        ("dicomweb+https://h/x?token=secret#study=1", "credentials do not belong in an address"),
        ("dicomweb+https://h/x#study=../../etc", "a UID of digits and dots"),
        ("dicomweb+https://h/x#series=1.2", "together with its study"),
        ("dicomweb+https://h/x#name=smith", "found 'name=smith'"),
        ("dicomweb+https://", "an archive is"),
    ],
)
def test_an_address_that_means_nothing_is_refused_without_its_secrets(address, words):
    with pytest.raises(UsageError, match=words) as refused:
        archive_at(address)
    assert "secret" not in str(refused.value)


def test_credentials_are_not_sent_in_the_clear_over_a_network(monkeypatch, tmp_path):
    monkeypatch.setenv(TOKEN, SECRET)
    with pytest.raises(UsageError, match="sent by https only"):
        retrieved(archive_at("dicomweb+http://archive.example/x#study=1.2"), tmp_path)


def test_a_path_that_lost_a_slash_is_the_same_address():
    whole = archive_at("dicomweb+http://h:8042/dicom-web#study=1.2")
    assert archive_at("dicomweb+http:/h:8042/dicom-web#study=1.2") == whole
    assert (whole.url, whole.study) == ("http://h:8042/dicom-web", "1.2")


def test_only_dicom_goes_to_an_archive(call, case_folder):
    ended = call(
        "segment", "-s", case_folder / "support", "-i", case_folder / "queries",
        "-o", "dicomweb+http://localhost:1/x", "--format", "nifti",
    )  # fmt: skip
    assert ended.code == 2
    assert "an archive takes DICOM objects" in ended.err
