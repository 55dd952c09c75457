"""What lies in an output folder beside the masks: who made them, how sure, and what is finished.

OUT/CASE.nii.gz       labels, in the format of the image
OUT/labels.json       class names and colours
OUT/quality.csv       predicted Dice of every class and case; quality and size of every mask, slice by slice
OUT/run.json          what was run, and how each case ended
OUT/overlays/CASE.png for people to look at
OUT/explain/CASE.csv  which support every slice was given, and CASE.png; where asked for
OUT/cases/CASE.json   written last: a case with one is finished
"""

import csv
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unprompted import __version__
from unprompted.apps.batch.outcome import Outcome, Status
from unprompted.apps.batch.quality_table import QUALITY_FIELDS, mean_shown, predicted_mean, rows_of, slices_of
from unprompted.datasets.base import CaseFiles
from unprompted.datasets.pairing import listed
from unprompted.errors import UsageError
from unprompted.images import LabelMap
from unprompted.io.atomic import replacing
from unprompted.io.base import files_of
from unprompted.io.forms import AUTO, result_path
from unprompted.io.labels import write_label_names
from unprompted.io.store import Store
from unprompted.prediction import PredictedDice, Prediction

RUN, QUALITY, CASES, OVERLAYS, EXPLAIN = "run.json", "quality.csv", "cases", "overlays", "explain"


@dataclass(frozen=True, eq=False)
class Records:
    """The records of one output folder under one configuration.

    Attributes:
        store: the output folder.
        configuration: everything that decides the masks, the images aside.
        classes: label value to class name.
        explain: whether to write which support every slice was given.
        form: of the label maps, a word of `unprompted.io.forms.FORMS`.
    """

    store: Store
    configuration: Mapping[str, Any]
    classes: Mapping[int, str]
    explain: bool = False
    form: str = AUTO

    @property
    def digest(self) -> str:
        """SHA-256 of the configuration."""
        return _sha256(json.dumps(self.configuration, sort_keys=True).encode())

    def finished(self, queries: Sequence[CaseFiles]) -> dict[str, Outcome]:
        """The cases an earlier run of the same configuration finished.

        Raises:
            UsageError: a result is there that was made in another way, or by another program.
        """
        earlier = self._json(RUN)
        if earlier and earlier.get("configuration_digest") != self.digest:
            raise UsageError(
                f"{self.store} holds the results of another configuration "
                f"({_differences(earlier.get('configuration', {}), self.configuration)}); "
                "use --overwrite or another folder"
            )
        sizes = _by_entry(self.store.sizes())
        found, others = {}, []
        for case in queries:
            target = target_of(case, self.form)
            if target is None or target not in sizes:
                continue
            record = self._json(_sidecar(case.name))
            if not record or record.get("configuration_digest") != self.digest:
                others += [] if earlier else [target]  # else an interrupted run of this configuration left it
            elif not _same_image(record, case.image):
                others.append(target)
            elif record.get("output_bytes") == sizes[target]:  # else it was cut short since
                found[case.name] = _outcome(case.name, "finished before", record)
        if others:
            raise UsageError(
                f"{self.store} holds results that were not made from these images with this "
                f"configuration: {listed(others)}; use --overwrite or another folder"
            )
        return found

    def begin(self) -> None:
        """Write what is run and the class names, before the first case."""
        with self.store.scratch() as scratch:
            self.store.put(write_label_names(scratch, dict(self.classes)), "labels.json")
        self._write_run([])

    def case_is_written(
        self,
        scratch: Path,
        case: CaseFiles,
        prediction: Prediction,
        sliced: LabelMap,
        judged: Sequence[PredictedDice],
    ) -> Outcome:
        """Put what was made of a case into its place, its record last.

        Args:
            scratch: holds the label map, and the pictures in folders of their own.
            case: whose they are.
            prediction: what was found.
            sliced: its labels cut along the slice axis.
            judged: its predicted Dice.
        """
        output = result_path(scratch, case.name, case.image, self.form)
        record = self._record(output, case, prediction, sliced, judged)
        for entry in sorted(scratch.iterdir()):
            if entry.name not in (OVERLAYS, EXPLAIN):
                self.store.put(entry, entry.name)
        for folder in (OVERLAYS, EXPLAIN):
            for entry in sorted((scratch / folder).glob("*")):
                self.store.put(entry, f"{folder}/{entry.name}")
        self._put_record(case, record)
        return _outcome(case.name, "written", record)

    def case_is_corrected(
        self,
        output: Path,
        case: CaseFiles,
        prediction: Prediction,
        sliced: LabelMap,
        judged: Sequence[PredictedDice],
    ) -> None:
        """Record a case whose label map `output` lies in its place already."""
        self._put_record(case, self._record(output, case, prediction, sliced, judged))

    def _record(
        self,
        output: Path,
        case: CaseFiles,
        prediction: Prediction,
        sliced: LabelMap,
        judged: Sequence[PredictedDice],
    ) -> dict[str, Any]:
        files, made = files_of(case.image), _within(output)
        slices = slices_of(prediction, sliced, self.classes)
        means = {name: mean_shown(entry["quality"], entry["pixels"]) for name, entry in slices.items()}
        known = [value for value in means.values() if value is not None]
        return {
            "configuration_digest": self.digest,
            "image_sha256": content_digest(files),
            "image_stamp": _stamp(files),
            "output": output.name,
            "output_sha256": content_digest(made),
            "output_bytes": _stamp(made)[0],
            "quality": round(float(np.mean(known)), 4) if known else None,
            "class_quality": means,
            "predicted_dice": {one.name: asdict(one) | {"review": one.review} for one in judged},
            "elapsed_s": prediction.provenance.elapsed_s,
            "provenance": asdict(prediction.provenance) | {"backbone": self.configuration["backbone"]},
            "slices": slices,
        }

    def _put_record(self, case: CaseFiles, record: Mapping[str, Any]) -> None:
        with self.store.scratch() as scratch:
            write_json(scratch / "record.json", record)
            self.store.put(scratch / "record.json", _sidecar(case.name))

    def end(self, outcomes: Sequence[Outcome]) -> None:
        """Write the quality of all finished cases, and how every case ended."""
        self.write_quality()
        self._write_run(outcomes)

    def write_quality(self) -> None:
        """Write the quality of all finished cases."""
        names = sorted(name for name in self.store.sizes() if name.startswith(f"{CASES}/"))
        with self.store.scratch() as scratch:
            table = scratch / QUALITY
            with table.open("w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow(QUALITY_FIELDS)
                for name in names:
                    record = self._json(name)
                    if record and record.get("configuration_digest") == self.digest:
                        writer.writerows(rows_of(Path(name).name.removesuffix(".json"), record))
            self.store.put(table, QUALITY)

    def report(self, outcomes: Sequence[Outcome]) -> dict[str, Any]:
        """The run as JSON types."""
        states = ("written", "finished before", "failed", "not reached")
        return {
            "unprompted": __version__,
            "configuration_digest": self.digest,
            "configuration": dict(self.configuration),
            "counts": {state: sum(o.status == state for o in outcomes) for state in states},
            "cases": [asdict(outcome) for outcome in outcomes],
        }

    def _write_run(self, outcomes: Sequence[Outcome]) -> None:
        with self.store.scratch() as scratch:
            write_json(scratch / RUN, self.report(outcomes))
            self.store.put(scratch / RUN, RUN)

    def _json(self, name: str) -> dict[str, Any] | None:
        try:
            content = json.loads(self.store.read(name) or b"")
        except ValueError:
            return None
        return content if isinstance(content, dict) else None


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON whole or not at all."""
    with replacing(path) as partial:
        partial.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def content_digest(files: Sequence[Path]) -> str:
    """SHA-256 over the bytes of a file, or over the names and digests of several."""
    if len(files) == 1:
        with files[0].open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    return _sha256("\n".join(f"{f.name} {content_digest([f])}" for f in files).encode())


def target_of(case: CaseFiles, form: str) -> str | None:
    """The name of a case's label map, None for an image whose format cannot be told."""
    try:
        return result_path(Path(), case.name, case.image, form).name
    except Exception:  # a damaged image fails when its turn comes, and with the right words
        return None


def _within(path: Path) -> list[Path]:
    """A file, or all files of a folder."""
    return [path] if path.is_file() else [f for f in sorted(path.rglob("*")) if f.is_file()]


def _stamp(files: Sequence[Path]) -> list[int]:
    """Bytes and time of change of files together: cheap to look at again."""
    states = [f.stat() for f in files]
    return [sum(s.st_size for s in states), max((s.st_mtime_ns for s in states), default=0)]


def _same_image(record: Mapping[str, Any], image: Path) -> bool:
    """Whether an image is the one recorded; read again only where its size or time of change differs."""
    files = files_of(image)
    return record.get("image_stamp") == _stamp(files) or record.get("image_sha256") == content_digest(files)


def _by_entry(sizes: Mapping[str, int]) -> dict[str, int]:
    """Bytes of every file and folder at the top."""
    found: dict[str, int] = {}
    for name, size in sizes.items():
        entry = name.partition("/")[0]
        found[entry] = found.get(entry, 0) + size
    return found


def _sidecar(case: str) -> str:
    return f"{CASES}/{case}.json"


def _outcome(case: str, status: Status, record: Mapping[str, Any]) -> Outcome:
    judged = record.get("predicted_dice", {})  # records of earlier versions have none
    return Outcome(
        case,
        status,
        record["output"],
        record["quality"],
        predicted_mean(record),
        tuple(name for name, entry in judged.items() if entry["review"]),
        record["elapsed_s"],
    )


def _differences(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    there, here = _flat(earlier), _flat(now)
    names = [name for name in here if there.get(name) != here[name]]
    shown = [f"{name} was {there.get(name)}, is {here[name]}" for name in names[:3]]
    return "; ".join(shown) or "of an older format"


def _flat(entries: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in entries.items():
        flat |= _flat(value, f"{before}{name}.") if isinstance(value, Mapping) else {before + name: value}
    return flat


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
