"""Runs whose images come from a DICOMweb archive, or whose results go to one."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from unprompted.apps.batch.choices import Job, SupportChoice, Watcher
from unprompted.errors import UnpromptedError, UsageError
from unprompted.io.dicomweb import archive_at, is_address, retrieved, stored
from unprompted.io.forms import AUTO, FORMS

_OBJECT = FORMS["dicom-seg"]


@contextmanager
def at_hand(job: Job, watch: Watcher) -> Iterator[Job]:
    """The same job with everything on this disk; results are stored when the block is left without error.

    Raises:
        UsageError: an address means nothing, or results that are no DICOM should go to an archive.
        UnpromptedError: an archive does not answer; results stay in the folder that is named.
    """
    to_archive = is_address(str(job.output))
    if to_archive and job.form != AUTO and FORMS[job.form] != _OBJECT:
        raise UsageError(f"an archive takes DICOM objects, not {job.form}; leave --format out")
    with ExitStack() as stack:
        queries = stack.enter_context(_fetched(job.queries, "images", watch))
        learn_from = job.learn_from
        if isinstance(learn_from, SupportChoice):
            folder = stack.enter_context(_fetched(learn_from.folder, "support", watch))
            learn_from = replace(learn_from, folder=folder)
        output = stack.enter_context(_delivered(job.output, watch)) if to_archive else job.output
        yield replace(job, queries=queries, learn_from=learn_from, output=output)


@contextmanager
def _fetched(place: Path, what: str, watch: Watcher) -> Iterator[Path]:
    if not is_address(str(place)):
        yield place
        return
    archive = archive_at(str(place))
    with tempfile.TemporaryDirectory(prefix="unprompted-") as folder:
        target = Path(folder) / what
        count = retrieved(archive, target)
        watch.say("archive", f"{count} files of {what} from {archive.host}")
        yield target


@contextmanager
def _delivered(place: Path | str, watch: Watcher) -> Iterator[Path]:
    archive = archive_at(str(place))
    folder = Path(tempfile.mkdtemp(prefix="unprompted-results-"))
    yield folder
    files = sorted(folder.glob(f"*{_OBJECT}"))
    try:
        stored(archive, files)
    except UnpromptedError as error:
        raise type(error)(f"{error}; the results are in {folder}") from error
    watch.say("archive", f"{len(files)} objects stored in {archive.host}")
    shutil.rmtree(folder, ignore_errors=True)
