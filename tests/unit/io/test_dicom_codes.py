import pydicom
import pytest

from dicoms import errors_of, write_series
from unprompted.images import LabelMap
from unprompted.io.base import read_image
from unprompted.io.dicom.codes import code_of
from unprompted.io.dicom.rtstruct_writing import write_rtstruct
from unprompted.io.dicom.seg_writing import write_seg

ANATOMICAL, ABNORMAL, OBJECT = "123037004", "49755003", "260787004"


@pytest.mark.parametrize(
    ("name", "category", "value", "side"),
    [
        ("liver", ANATOMICAL, "10200004", None),
        ("Right kidney", ANATOMICAL, "64033007", "24028007"),
        ("kidney_left", ANATOMICAL, "64033007", "7771000"),
        ("kidneys", ANATOMICAL, "64033007", "51440002"),
        ("oesophagus", ANATOMICAL, "32849002", None),
        ("IVC", ANATOMICAL, "64131007", None),
        ("left suprarenal gland", ANATOMICAL, "23451007", "7771000"),
        ("lesion", ABNORMAL, "52988006", None),
        ("tumour", ABNORMAL, "108369006", None),
        ("catheter", OBJECT, "19923001", None),
    ],
)
def test_a_class_named_as_a_coded_structure_gets_its_code_and_kind(name, category, value, side):
    code = code_of(name)
    assert (code.category.value, code.type.value, code.side and code.side.value) == (category, value, side)
    assert code.type.scheme_designator == "SCT"


@pytest.mark.parametrize("name", ["liver tumour", "prostate/uterus", "kidney left right", "organ 1", ""])
def test_a_name_that_is_merely_similar_gets_a_private_code(name):
    assert code_of(name).type.scheme_designator == "99UNPROMPTED"


def test_segments_say_who_made_them_and_can_be_followed(tmp_path):
    write_series(tmp_path / "a")
    grid = read_image(tmp_path / "a").grid
    labels = LabelMap((read_image(tmp_path / "a").voxels > 0).astype("uint8"), grid, {1: "tumour"})
    write_seg(labels, tmp_path / "seg.dcm", tmp_path / "a")
    (segment,) = pydicom.dcmread(tmp_path / "seg.dcm").SegmentSequence
    (made_by,) = segment.SegmentationAlgorithmIdentificationSequence
    assert (made_by.AlgorithmName, made_by.AlgorithmVersion) == ("unprompted", "0.1.0")
    assert (segment.TrackingID, segment.TrackingUID[:5]) == ("tumour", "2.25.")
    assert segment.SegmentedPropertyCategoryCodeSequence[0].CodeValue == ABNORMAL
    # Orange, #e69f00, is L* 71.1, a* 17.1, b* 76.5 in CIELab; stored in 16 bits a channel.
    assert [round(v / 65535 * 100) for v in segment.RecommendedDisplayCIELabValue[:1]] == [71]


def test_structures_of_an_rtstruct_are_coded_too(tmp_path):
    write_series(tmp_path / "a")
    image = read_image(tmp_path / "a")
    write_rtstruct(
        LabelMap((image.voxels > 0).astype("uint8"), image.grid, {1: "liver"}),
        tmp_path / "rt.dcm",
        tmp_path / "a",
    )
    (observation,) = pydicom.dcmread(tmp_path / "rt.dcm").RTROIObservationsSequence
    assert observation.RTROIIdentificationCodeSequence[0].CodeValue == "10200004"
    assert errors_of(tmp_path / "rt.dcm") == []
