"""Studies out of and results into an archive by DICOMweb (QIDO-RS, WADO-RS, STOW-RS).

An address is ``dicomweb+https://HOST/dicom-web#study=UID``; ``series=UID`` may follow after ``&``, and
``patient=ID`` or ``accession=NUMBER`` stand for all studies of these.

Credentials come from the environment (``UNPROMPTED_DICOMWEB_USER`` with ``..._PASSWORD``, or
``..._TOKEN``) or, where the library keyring is installed, from its entry for the host; never from an address.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from unprompted.errors import DataRefused, UnpromptedError, UsageError

SCHEMES = ("dicomweb+http", "dicomweb+https")
USER, PASSWORD, TOKEN = (f"UNPROMPTED_DICOMWEB_{part}" for part in ("USER", "PASSWORD", "TOKEN"))
_KEYRING = "unprompted-dicomweb"
_FILTERS = {"patient": "PatientID", "accession": "AccessionNumber"}
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_MOST_STUDIES = 200
_TIMEOUT_S = (10, 300)  # to connect, and between two bytes


@dataclass(frozen=True)
class Archive:
    """An address of a DICOMweb service and what is wanted from it.

    Attributes:
        url: of the service, without the part after ``#``.
        study: Study Instance UID, None for all that the filters find.
        series: Series Instance UID, None for all of the study.
        filters: DICOM attribute to value.
    """

    url: str
    study: str | None = None
    series: str | None = None
    filters: tuple[tuple[str, str], ...] = ()

    @property
    def host(self) -> str:
        """For messages and for looking up credentials."""
        return urlsplit(self.url).netloc


def is_address(text: str) -> bool:
    """Whether a text is the address of an archive rather than a path."""
    return text.startswith(tuple(f"{scheme}:" for scheme in SCHEMES))


def archive_at(address: str) -> Archive:
    """What an address says.

    Raises:
        UsageError: it holds credentials, has no host, or asks in unknown words.
    """
    parts = urlsplit(address.replace(":/", "://", 1) if "://" not in address else address)
    if not is_address(address) or not parts.hostname:
        raise UsageError("an archive is dicomweb+https://HOST/dicom-web#study=UID")
    if parts.username or parts.password or parts.query:
        raise UsageError(
            f"{parts.hostname}: credentials do not belong in an address, where others read them; set "
            f"{USER} and {PASSWORD}, or {TOKEN}"
        )
    try:
        asked = {name: values[-1] for name, values in parse_qs(parts.fragment, strict_parsing=True).items()}
    except ValueError:
        asked = {"": parts.fragment} if parts.fragment else {}
    unknown = sorted(set(asked) - {"study", "series", *_FILTERS})
    if unknown or ("series" in asked and "study" not in asked):
        raise UsageError(
            f"{parts.hostname}: after # come study=UID, series=UID together with its study, patient=ID or "
            f"accession=NUMBER; found {parts.fragment!r}"
        )
    for name in ("study", "series"):
        if name in asked and not all(part.isdecimal() for part in asked[name].split(".")):
            raise UsageError(f"{parts.hostname}: {name} is a UID of digits and dots, found {asked[name]!r}")
    filters = tuple((_FILTERS[name], asked[name]) for name in _FILTERS if name in asked)
    scheme = parts.scheme.removeprefix("dicomweb+")
    url = f"{scheme}://{parts.netloc}{parts.path.rstrip('/')}"
    return Archive(url, asked.get("study"), asked.get("series"), filters)


def retrieved(archive: Archive, folder: Path) -> int:
    """Fetch the studies of an archive into a folder, one folder a series by its number; the number of files.

    Raises:
        DataRefused: nothing is found, or far too much.
        UnpromptedError: the archive does not answer, or not as wanted.
    """
    client = _client(archive)
    count, places = 0, dict[str, Path]()
    with _speaking_with(archive):
        studies = [archive.study] if archive.study else _studies(client, archive)
        for study in studies:
            fetched = (
                client.iter_series(study, archive.series) if archive.series else client.iter_study(study)
            )
            for dataset in fetched:
                _keep(dataset, folder, places, count)
                count += 1
    if not count:
        raise DataRefused(f"{archive.host}: nothing is there under what was asked for")
    return count


def stored(archive: Archive, files: Sequence[Path]) -> None:
    """Store DICOM files in an archive.

    Raises:
        UnpromptedError: the archive does not answer, or takes some of them not.
    """
    import pydicom

    if not files:
        return
    with _speaking_with(archive):
        answer = _client(archive).store_instances([pydicom.dcmread(file) for file in files])
    failed = len(answer.get("FailedSOPSequence", []))
    if failed:
        raise UnpromptedError(f"{archive.host}: {failed} of {len(files)} objects were not taken")


def _studies(client: Any, archive: Archive) -> list[str]:
    if not archive.filters:
        raise UsageError(f"{archive.host}: say which study with #study=UID, #patient=ID or #accession=NUMBER")
    found = client.search_for_studies(search_filters=dict(archive.filters), limit=_MOST_STUDIES + 1)
    if len(found) > _MOST_STUDIES:
        raise DataRefused(
            f"{archive.host}: more than {_MOST_STUDIES} studies are found; ask for one by its UID"
        )
    return [study["0020000D"]["Value"][0] for study in found]


def _keep(dataset: Any, folder: Path, places: dict[str, Path], number: int) -> None:
    """Write one object under numbers: what an archive says of names never becomes a path."""
    uid = str(dataset.get("SeriesInstanceUID", ""))
    if uid not in places:
        known = dataset.get("SeriesNumber")
        name = f"series-{int(known)}" if known is not None else "series"
        twins = sum(place.name == name or place.name.startswith(f"{name}_") for place in places.values())
        places[uid] = folder / (f"{name}_{twins + 1}" if twins else name)
        places[uid].mkdir(parents=True)
    dataset.save_as(places[uid] / f"{number:05d}.dcm", enforce_file_format=True)


def _client(archive: Archive) -> Any:
    try:
        from dicomweb_client.api import DICOMwebClient
        from dicomweb_client.session_utils import create_session
    except ImportError as error:
        raise UsageError("archives need dicomweb-client: pip install 'unprompted[dicomweb]'") from error
    session = create_session()  # verifies TLS
    token, login = os.environ.get(TOKEN), _login(archive)
    if (
        (token or login)
        and archive.url.startswith("http:")
        and urlsplit(archive.url).hostname not in _LOOPBACK
    ):
        raise UsageError(f"{archive.host}: credentials are sent by https only; use dicomweb+https://")
    if token:
        session.headers["Authorization"] = f"Bearer {token}"
    elif login:
        session.auth = login
    session.request = partial(session.request, timeout=_TIMEOUT_S)  # type: ignore[method-assign]
    client = DICOMwebClient(archive.url, session=session)
    client.set_http_retry_params(max_attempts=3, wait_exponential_multiplier=200)
    return client


def _login(archive: Archive) -> tuple[str, str] | None:
    user, password = os.environ.get(USER), os.environ.get(PASSWORD)
    if user and password:
        return user, password
    try:
        import keyring
        from keyring.errors import KeyringError
    except ImportError:
        return None
    try:
        found = keyring.get_credential(f"{_KEYRING}:{archive.host}", user)
    except KeyringError:
        return None
    return (found.username, found.password) if found else None


@contextmanager
def _speaking_with(archive: Archive) -> Iterator[None]:
    """Turn what goes wrong with an archive into one line that names its host and nothing secret."""
    import requests

    try:
        yield
    except requests.HTTPError as error:
        code = error.response.status_code if error.response is not None else "?"
        hint = f"; set {USER} and {PASSWORD}, or {TOKEN}" if code in (401, 403) else ""
        raise UnpromptedError(f"{archive.host}: the archive answers {code}{hint}") from None
    except requests.exceptions.SSLError:
        raise UnpromptedError(
            f"{archive.host}: its certificate is not trusted; name the authority in REQUESTS_CA_BUNDLE"
        ) from None
    except requests.RequestException as error:
        raise UnpromptedError(
            f"{archive.host}: the archive does not answer ({type(error).__name__})"
        ) from None
