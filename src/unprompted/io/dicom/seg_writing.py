"""Label maps as DICOM segmentations of the series they were made from, through highdicom."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from unprompted import __version__
from unprompted.errors import DataRefused
from unprompted.geometry import reordering_between
from unprompted.images import LabelMap
from unprompted.io.atomic import replacing
from unprompted.io.dicom.codes import code_of
from unprompted.io.dicom.frames import LPS_TO_RAS
from unprompted.io.dicom.image import StoredImage, stored_image
from unprompted.io.dicom.masks import MAKER, description_of
from unprompted.io.dicom.sources import date_like, referring_to, source_headers, stable_uid
from unprompted.io.forms import SegKind
from unprompted.io.labels import stored_labels
from unprompted.palette import colour_of

if TYPE_CHECKING:
    from highdicom.seg import SegmentDescription

SERIES_NUMBER = 901  # clear of what scanners give


def write_seg(
    labels: LabelMap,
    path: Path,
    like: Path,
    kind: SegKind = "BINARY",
    confidence: NDArray[np.floating[Any]] | None = None,
    every_frame: bool = False,
) -> None:
    """Write one SEG object with every class, on the frames of the series `like`.

    Equal labels give equal bytes: the UIDs follow from content, and the dates are those of the series.

    Args:
        labels: on the voxels of the series.
        path: the file to write.
        like: the series, as `unprompted.io.dicom.image.stored_image` takes it.
        kind: BINARY is read by most viewers; LABELMAP is smaller; FRACTIONAL stores how sure the model is.
        confidence: in 0..1, of the shape of the labels: the probability of each label; for FRACTIONAL.
        every_frame: write frames without any label too.

    Raises:
        GeometryMismatch: the labels do not lie on the voxels of the series.
        DataRefused: the series is a clip, its headers allow no object, or FRACTIONAL without confidence.
    """
    image = stored_image(like)
    if image.stack is None and len(image.frames) > 1:
        raise DataRefused(
            f"{like.name}: a clip lies nowhere in a patient, and its segmentation cannot be written as "
            "DICOM; leave the output format out to get masks and a film"
        )
    values = [int(value) for value in np.unique(labels.labels) if value] or [1]
    classes = labels.classes or {value: f"label {value}" for value in values}
    stored = stored_labels(labels, image.grid)
    numbers = {value: number for number, value in enumerate(sorted(classes), start=1)}
    pixels = _numbered(stored, numbers)
    if kind == "FRACTIONAL":
        if confidence is None:
            raise DataRefused(
                "a FRACTIONAL segmentation stores how sure the model is, which is not known here"
            )
        order = reordering_between(labels.grid, image.grid)
        pixels = _fractions(pixels, order.apply(np.asarray(confidence, np.float32)), len(numbers))
    with referring_to(like):
        sources = source_headers(image)
        uid = stable_uid(sources, kind, sorted(classes.items()), pixels)
        segments = [_described(numbers[v], v, name, uid) for v, name in sorted(classes.items())]
        dataset = _segmentation(image, sources, pixels, kind, segments, uid, every_frame)
        date_like(dataset, sources[0])
        for item in (*dataset.DimensionOrganizationSequence, *dataset.DimensionIndexSequence):
            item.DimensionOrganizationUID = stable_uid(sources, uid, "dimensions")
    with replacing(path) as partial:
        dataset.save_as(partial)


def _segmentation(
    image: StoredImage,
    sources: list[Dataset],
    pixels: NDArray[Any],
    kind: str,
    segments: list["SegmentDescription"],
    uid: str,
    every_frame: bool,
) -> Any:
    from highdicom.seg import Segmentation

    return Segmentation(
        source_images=sources,
        pixel_array=_placed(image, pixels, sources),
        segmentation_type=kind,
        segment_descriptions=segments,
        series_instance_uid=stable_uid(sources, uid, "series"),
        series_number=SERIES_NUMBER,
        sop_instance_uid=uid,
        instance_number=1,
        manufacturer=MAKER,
        manufacturer_model_name=MAKER,
        software_versions=__version__,
        device_serial_number="none",
        content_description="Segmentation",
        content_label="SEGMENTATION",
        series_description="Segmentation",
        omit_empty_frames=not every_frame and bool(pixels.any()),
        **_plane_arguments(image),
    )


def _placed(image: StoredImage, pixels: NDArray[Any], sources: list[Dataset]) -> Any:
    """The pixels as highdicom's volume, which carries where they lie; plain where it cannot be one."""
    from highdicom import ChannelDescriptor, Volume

    if image.stack is None or image.stack.is_sheared:
        return pixels
    affine = LPS_TO_RAS @ image.grid.affine
    channels: Any = None
    if pixels.ndim == 4:
        channels = {ChannelDescriptor("SegmentNumber"): list(range(1, pixels.shape[3] + 1))}
    space = sources[0].get("FrameOfReferenceUID")
    return Volume(pixels, affine, "PATIENT", frame_of_reference_uid=space, channels=channels)


def _plane_arguments(image: StoredImage) -> dict[str, Any]:
    """Where every slice of a tilted stack lies: highdicom's volumes are upright boxes only."""
    if image.stack is None or not image.stack.is_sheared:
        return {}
    import highdicom as hd

    first, step = image.stack.first, LPS_TO_RAS[:3, :3] @ image.grid.affine[:3, 0]
    rows, columns = first.directions
    corners = [first.position + d * step for d in range(image.grid.shape[0])]
    distance = abs(float(step @ first.normal))
    return {
        "plane_positions": [hd.PlanePositionSequence("PATIENT", corner.tolist()) for corner in corners],
        "plane_orientation": hd.PlaneOrientationSequence("PATIENT", [*columns.tolist(), *rows.tolist()]),
        "pixel_measures": hd.PixelMeasuresSequence(
            pixel_spacing=first.spacing, slice_thickness=distance, spacing_between_slices=distance
        ),
    }


def _numbered(stored: NDArray[Any], numbers: Mapping[int, int]) -> NDArray[Any]:
    """Label values as segment numbers, which run from 1 without a gap."""
    table = np.zeros(
        max(*numbers, int(stored.max(initial=0))) + 1, np.uint8 if len(numbers) < 256 else np.uint16
    )
    for value, number in numbers.items():
        table[value] = number
    return table[stored]


def _fractions(pixels: NDArray[Any], confidence: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """``(..., segments)``: the probability of the label given, and 0 for all other segments.

    It is at least one half: a label was the best of several, and readers take half as inside.
    """
    sure = np.clip(confidence, 0.5, 1.0)
    return np.stack([np.where(pixels == n, sure, 0) for n in range(1, count + 1)], axis=-1).astype(np.float32)


def _described(number: int, value: int, name: str, uid: str) -> "SegmentDescription":
    import highdicom as hd
    from highdicom.color import CIELabColor
    from highdicom.seg import SegmentDescription
    from pydicom.sr.codedict import codes

    code = code_of(name)
    described = SegmentDescription(
        segment_number=number,
        segment_label=name[:64],
        segmented_property_category=code.category,
        segmented_property_type=code.type,
        algorithm_type="AUTOMATIC",
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name=MAKER, version=__version__, family=codes.DCM.ArtificialIntelligence
        ),
        tracking_uid=stable_uid([], uid, name),
        tracking_id=name[:64],
        display_color=CIELabColor.from_rgb(*colour_of(value)),
    )
    described.SegmentDescription = description_of(value)
    if code.side is not None:
        modifier = hd.sr.CodedConcept(code.side.value, code.side.scheme_designator, code.side.meaning)
        described.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [modifier]
    return described
