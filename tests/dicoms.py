"""DICOM files written with pydicom alone, small and valid enough for `dciodvfy`."""

import shutil
import subprocess
from dataclasses import dataclass, field

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

CT, MR, ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.2.1"
ULTRASOUND_CLIP = "1.2.840.10008.5.1.4.1.1.3.1"

# dciodvfy of 2022 does not know label maps (Supplement 243 of 2024), whose background is segment 0.
_OLDER_THAN_LABELMAP = ("SegmentNumber of 0", "Object Not found")


@dataclass(frozen=True)
class Plane:
    """How slices lie: direction along a row, along a column, and from slice to slice in mm (LPS)."""

    row: tuple[float, float, float]
    column: tuple[float, float, float]
    step: tuple[float, float, float]
    origin: tuple[float, float, float] = (-20.0, -30.0, 40.0)
    spacing: tuple[float, float] = (0.8, 0.6)  # rows, columns

    @property
    def affine(self):
        """From (slice, row, column, 1) to RAS+ mm."""
        lps = np.eye(4)
        lps[:3, 0] = self.step
        lps[:3, 1] = np.multiply(self.column, self.spacing[0])
        lps[:3, 2] = np.multiply(self.row, self.spacing[1])
        lps[:3, 3] = self.origin
        return np.diag([-1, -1, 1, 1]) @ lps


TURNED = np.array([[0.96, -0.28, 0.0], [0.2688, 0.9216, -0.28], [0.0784, 0.2688, 0.96]])
PLANES = {
    "axial": Plane((1, 0, 0), (0, 1, 0), (0, 0, 3)),
    "axial reversed": Plane((1, 0, 0), (0, 1, 0), (0, 0, -3)),
    "sagittal": Plane((0, 1, 0), (0, 0, -1), (3, 0, 0)),
    "sagittal reversed": Plane((0, 1, 0), (0, 0, -1), (-3, 0, 0)),
    "coronal": Plane((1, 0, 0), (0, 0, -1), (0, 3, 0)),
    "coronal reversed": Plane((1, 0, 0), (0, 0, -1), (0, -3, 0)),
    "tilted": Plane(tuple(TURNED[:, 0]), tuple(TURNED[:, 1]), tuple(3 * TURNED[:, 2])),
    "gantry": Plane((1, 0, 0), (0, 1, 0), (0, 0.8, 3)),
}


@dataclass
class Written:
    """A series on disk."""

    folder: object
    files: list = field(default_factory=list)
    voxels: object = None
    plane: Plane = PLANES["axial"]


def write_series(
    folder,
    plane=PLANES["axial"],
    shape=(6, 10, 12),
    seed=0,
    slices=None,
    modality="CT",
    study=None,
    space=None,
    voxels=None,
    **tags,
):
    """Write a classic series of noise; file names say nothing of the order of slices.

    `slices` gives the places to write, in steps of the plane: [0, 1, 3] leaves one out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if voxels is None:
        voxels = np.random.default_rng(seed).integers(-500, 1500, shape).astype(np.int16)
    slices = list(range(len(voxels))) if slices is None else slices
    study, series, space = study or generate_uid(), generate_uid(), space or generate_uid()
    written = Written(folder, [], voxels, plane)
    for number, place in enumerate(slices):
        dataset = _patient(study, series)
        dataset.SOPClassUID, dataset.Modality = (CT, "CT") if modality == "CT" else (MR, modality)
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        dataset.FrameOfReferenceUID, dataset.PositionReferenceIndicator = space, ""
        dataset.InstanceNumber, dataset.AcquisitionNumber = number + 1, 1
        dataset.ImagePositionPatient = [
            round(float(x), 6) for x in np.add(plane.origin, np.multiply(plane.step, place))
        ]
        dataset.ImageOrientationPatient = [*plane.row, *plane.column]
        dataset.PixelSpacing = list(plane.spacing)
        dataset.SliceThickness = 3
        dataset.KVP = 120 if modality == "CT" else None
        set_pixels(dataset, voxels[number] + 1024, signed=True)
        dataset.RescaleSlope, dataset.RescaleIntercept, dataset.RescaleType = 1, -1024, "HU"
        for name, value in tags.items():
            setattr(dataset, name, value(number) if callable(value) else value)
        # 7 * n mod 101 shuffles: the order of names is not that of slices
        written.files.append(save(dataset, folder / f"IM{(7 * number + 3) % 101:04d}.dcm"))
    return written


def write_enhanced(folder, plane=PLANES["axial"], shape=(4, 10, 12), seed=0):
    """Write an enhanced CT: all slices in one file, the rescale slope that of each frame, 1, 2, 3..."""
    folder.mkdir(parents=True, exist_ok=True)
    voxels = np.random.default_rng(seed).integers(0, 1000, shape).astype(np.int16)
    dataset = _patient(generate_uid(), generate_uid())
    dataset.SOPClassUID, dataset.Modality = ENHANCED_CT, "CT"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    dataset.FrameOfReferenceUID, dataset.PositionReferenceIndicator = generate_uid(), ""
    dataset.InstanceNumber = 1
    shared = Dataset()
    shared.PlaneOrientationSequence = [_item(ImageOrientationPatient=[*plane.row, *plane.column])]
    shared.PixelMeasuresSequence = [_item(PixelSpacing=list(plane.spacing), SliceThickness=3)]
    dataset.SharedFunctionalGroupsSequence = [shared]
    groups = []
    for place in range(shape[0]):
        own = Dataset()
        position = [float(x) for x in np.add(plane.origin, np.multiply(plane.step, place))]
        own.PlanePositionSequence = [_item(ImagePositionPatient=position)]
        own.PixelValueTransformationSequence = [
            _item(RescaleSlope=place + 1, RescaleIntercept=-5, RescaleType="HU")
        ]
        groups.append(own)
    dataset.PerFrameFunctionalGroupsSequence = groups
    set_pixels(dataset, voxels, signed=True)
    return Written(folder, [save(dataset, folder / "enhanced.dcm")], voxels, plane)


def write_clip(path, frames=4, size=(16, 20), colour="RGB", seed=0):
    """Write an ultrasound clip without any place in the patient."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (frames, *size) if colour == "MONOCHROME2" else (frames, *size, 3)
    pixels = np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)
    dataset = _patient(generate_uid(), generate_uid())
    dataset.SOPClassUID, dataset.Modality = ULTRASOUND_CLIP, "US"
    dataset.ImageType = ["ORIGINAL", "PRIMARY"]
    dataset.InstanceNumber, dataset.FrameTime = 1, 40
    dataset.FrameIncrementPointer = pydicom.tag.Tag(0x0018, 0x1063)
    set_pixels(dataset, pixels, colour=colour)
    return Written(path.parent, [save(dataset, path)], pixels)


def set_pixels(dataset, pixels, signed=False, colour="MONOCHROME2"):
    """Pixels of 8 or 16 bits, one or three samples, one or several frames."""
    rgb = colour != "MONOCHROME2"
    frames = pixels.ndim - rgb == 3
    dataset.Rows, dataset.Columns = pixels.shape[1:3] if frames else pixels.shape[:2]
    if frames:
        dataset.NumberOfFrames = len(pixels)
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = (3, colour) if rgb else (1, colour)
    if rgb:
        dataset.PlanarConfiguration = 0
    dataset.BitsAllocated = dataset.BitsStored = 8 * pixels.dtype.itemsize
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(signed)
    dataset.PixelData = pixels.tobytes()


def save(dataset, path, syntax=ExplicitVRLittleEndian):
    dataset.SOPInstanceUID = dataset.get("SOPInstanceUID") or generate_uid()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.save_as(path, enforce_file_format=True)
    return path


def _patient(study, series):
    dataset = Dataset()
    dataset.PatientName, dataset.PatientID = "Secret^Person", "PID-4711"
    dataset.PatientBirthDate, dataset.PatientSex = "19500101", "O"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, series
    dataset.StudyDate, dataset.StudyTime, dataset.SeriesDate, dataset.SeriesTime = (
        "20200102",
        "101112",
        "20200102",
        "101314",
    )
    dataset.ContentDate, dataset.ContentTime = "20200102", "101314"
    dataset.AccessionNumber, dataset.StudyID, dataset.ReferringPhysicianName = "A1", "S1", ""
    dataset.SeriesNumber, dataset.Manufacturer = 3, "builder"
    dataset.SeriesDescription = "thorax"
    return dataset


def _item(**fields):
    item = Dataset()
    for name, value in fields.items():
        setattr(item, name, value)
    return item


def errors_of(path):
    """What `dciodvfy` calls an error; installed by .ci/run."""
    assert shutil.which("dciodvfy"), "install dicom3tools (.ci/run does)"
    told = subprocess.run(["dciodvfy", str(path)], capture_output=True, encoding="utf-8", check=False)
    lines = [line for line in (told.stdout + told.stderr).splitlines() if line.startswith("Error")]
    if "1.2.840.10008.5.1.4.1.1.66.7" in pydicom.dcmread(path, stop_before_pixels=True).SOPClassUID:
        lines = [line for line in lines if not any(words in line for words in _OLDER_THAN_LABELMAP)]
    return lines
