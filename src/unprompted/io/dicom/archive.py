"""DICOM out of zip files, without trusting them: names are never used as paths, sizes are bounded."""

import atexit
import shutil
import tempfile
import zipfile
from functools import lru_cache
from pathlib import Path, PurePosixPath

from unprompted.errors import DataRefused, UnreadableFile

MOST_FILES = 50_000
MOST_BYTES = 20 * 2**30
MOST_RATIO = 200  # unpacked to packed; DICOM packs to a half or a third, a bomb to a thousandth
_CHUNK = 2**20
_SMALL = 2**20  # below this a ratio says nothing


def is_zip(path: Path) -> bool:
    """Whether a path is a zip file by its name."""
    return path.suffix.lower() == ".zip" and path.is_file()


def extracted(path: Path) -> Path:
    """A folder with the files of an archive, one numbered folder for each of its folders.

    It lies among the temporary files of this process and goes with it.

    Raises:
        UnreadableFile: the file is no zip, is encrypted or damaged.
        DataRefused: it holds more files or bytes than anybody means to give.
    """
    state = path.stat()
    return _extracted(path.resolve(), state.st_size, state.st_mtime_ns)


@lru_cache
def _extracted(path: Path, size: int, changed: int) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="unprompted-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    try:
        with zipfile.ZipFile(path) as archive:
            _extract(archive, folder, path, size)
    except (zipfile.BadZipFile, EOFError, RuntimeError, NotImplementedError) as error:
        raise UnreadableFile(
            f"{path.name}: cannot be unpacked; it is damaged or encrypted ({error})"
        ) from error
    return folder


def _extract(archive: zipfile.ZipFile, folder: Path, path: Path, size: int) -> None:
    members = [member for member in archive.infolist() if _is_wanted(member)]
    if len(members) > MOST_FILES:
        raise DataRefused(
            f"{path.name}: holds {len(members)} files, more than {MOST_FILES}; unpack it yourself"
        )
    numbers: dict[PurePosixPath, int] = {}
    left = min(MOST_BYTES, max(MOST_RATIO * size, _SMALL))
    for count, member in enumerate(members):
        inside = PurePosixPath(member.filename.replace("\\", "/")).parent
        place = folder / f"{numbers.setdefault(inside, len(numbers) + 1):04d}"
        place.mkdir(exist_ok=True)
        ending = PurePosixPath(member.filename).suffix.lower()
        # The ending alone is taken over, and only if it is one of letters.
        target = place / f"{count:05d}{ending if ending[1:].isalnum() and len(ending) < 8 else ''}"
        with archive.open(member) as source, target.open("wb") as sink:
            while chunk := source.read(_CHUNK):  # what the directory says of sizes may be a lie
                left -= len(chunk)
                if left < 0:
                    raise DataRefused(
                        f"{path.name}: unpacks to far more than its {size} bytes, so it is refused as a "
                        "decompression bomb; unpack it yourself if it is none"
                    )
                sink.write(chunk)


def _is_wanted(member: zipfile.ZipInfo) -> bool:
    """Whether a member is a file of its own: no folder, no link, nothing of the system's."""
    is_link = (member.external_attr >> 16) & 0o170000 == 0o120000
    name = PurePosixPath(member.filename)
    return (
        not member.is_dir() and not is_link and not name.name.startswith(".") and "__MACOSX" not in name.parts
    )
