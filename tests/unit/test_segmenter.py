from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import pytest

from builders import make_example, make_labels, make_subject, make_volume
from fakes import FakeBackbone
from unprompted.errors import DataRefused, EmptySupport, GeometryMismatch, UsageError, WeightsUnavailable
from unprompted.images import Volume
from unprompted.loading import load_backbone, make_method, method_name, resolve_device, settings_of
from unprompted.methods.ofl_sam2 import OflSam2
from unprompted.methods.sam2_mask import Sam2Mask
from unprompted.segmenter import FittedSegmenter, Segmenter, common_axis
from unprompted.support import SupportSet

pytestmark = pytest.mark.usefixtures("single_thread")


def fit(cases, method="sam2-mask", **how):
    return Segmenter(method, FakeBackbone()).fit(cases, **how)


def test_a_method_is_made_by_name_with_settings():
    assert make_method("sam2-mask", {"supports": 3}) == Sam2Mask(supports=3)
    assert make_method("ofl-sam2") == OflSam2()


def test_settings_given_as_text_take_the_type_of_their_field():
    method = make_method("ofl-sam2", {"epochs": "3", "gamma": "0.5", "fusion": "false", "retrieval": "none"})
    assert method == OflSam2(epochs=3, gamma=0.5, fusion=False, retrieval="none")


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("sam3", {}, "no method is called 'sam3'; known: .*sam2-mask"),
        ("sam2-mask", {"gamma": 1}, "sam2-mask has no setting gamma; it has supports"),
        ("sam2-mask", {"supports": "many"}, "sam2-mask: supports: .*integer"),
        ("sam2-mask", {"supports": 0}, "supports is 0"),
        ("ofl-sam2", {"gamma": 1.01}, "gamma is 1.01"),
    ],
)
def test_a_method_that_cannot_be_made_is_refused(name, settings, message):
    with pytest.raises(UsageError, match=message):
        make_method(name, settings)


def test_settings_are_told_as_json_types():
    assert settings_of(Sam2Mask(supports=3)) == {"supports": 3}
    assert settings_of(OflSam2())["augmentation"]["rotation"] == 10.0


def test_settings_told_make_the_same_method_again():
    method = OflSam2(gamma=0.3, retrieval="sequence")
    assert make_method("ofl-sam2", settings_of(method)) == method


@dataclass(frozen=True)
class Homemade(Sam2Mask):
    """A method nobody registered."""

    note: str = "mine"
    paper: ClassVar[str] = "none"


def test_a_method_is_told_by_its_registry_name_or_else_its_class():
    assert method_name(Sam2Mask()) == "sam2-mask"
    assert method_name(Homemade()) == "Homemade"


def test_a_method_that_is_not_registered_can_be_used():
    prediction = fit([make_subject()], Homemade()).segment(make_subject()[0])
    assert prediction.provenance.method == "Homemade"


@pytest.mark.parametrize(("word", "device"), [("cpu", "cpu"), ("meta", "meta")])
def test_a_device_is_taken_by_its_torch_name(word, device):
    assert resolve_device(word) == device


@pytest.mark.parametrize("word", ["gpu:99", "abacus"])
def test_a_device_that_is_not_here_is_refused(word):
    with pytest.raises(UsageError, match=f"device '{word}' cannot be used"):
        resolve_device(word)


def test_auto_takes_a_device_that_exists():
    assert resolve_device("auto") in ("cpu", "cuda")


def test_an_unknown_number_format_is_refused():
    with pytest.raises(UsageError, match="dtype is 'float16'"):
        load_backbone("builtin", dtype="float16")


def test_weights_that_are_nowhere_are_refused(tmp_path):
    with pytest.raises(WeightsUnavailable, match="does not exist"):
        load_backbone(str(tmp_path / "none.pt"), device="cpu")


def test_a_backbone_is_loaded_from_a_folder_and_told_by_it(tiny_model_folder):
    backbone = load_backbone(str(tiny_model_folder), device="cpu")
    assert backbone.name == str(tiny_model_folder)
    assert backbone.input_size == 256


def test_a_real_backbone_segments_end_to_end(tiny_model_folder):
    volume, labels = make_subject((2, 40, 40), classes=2)
    fitted = Segmenter("sam2-mask", str(tiny_model_folder)).fit([(volume, labels)])
    prediction = fitted.segment(volume)
    assert prediction.labels.labels.shape == (2, 40, 40)
    assert np.isfinite(prediction.quality).all()


def test_an_empty_support_is_refused():
    with pytest.raises(EmptySupport, match="holds no case"):
        fit([])


def test_a_class_no_case_shows_is_refused():
    with pytest.raises(EmptySupport, match=r"spleen \(9\)"):
        fit([make_subject()], classes={1: "liver", 9: "spleen"})


def test_image_and_labels_on_different_grids_are_refused():
    volume, _ = make_subject((4, 64, 64))
    _, labels = make_subject((5, 64, 64))
    with pytest.raises(GeometryMismatch):
        fit([(volume, labels)])


def test_only_the_classes_asked_for_are_segmented():
    prediction = fit([make_subject(classes=3)], classes={2: "liver"}).segment(make_subject(classes=3)[0])
    assert prediction.labels.classes == {2: "liver"}
    assert set(np.unique(prediction.labels.labels)) == {0, 2}


def test_values_above_255_make_labels_of_16_bits():
    volume, labels = make_subject()
    high = type(labels)(labels.labels.astype(np.uint16) * 700, labels.grid)
    found = fit([(volume, high)]).segment(volume).labels.labels
    assert found.dtype == np.uint16
    assert set(np.unique(found)) == {0, 700}


def test_the_support_decides_the_slice_axis_for_every_query():
    volume, labels = make_subject((4, 64, 64), spacing_mm=(5, 1, 1))
    assert fit([(volume, labels)]).axis == "S"
    assert fit([(volume, labels)], axis="R").axis == "R"


def test_the_slice_axis_does_not_depend_on_the_order_of_cases():
    axial = make_volume((4, 8, 8), (5, 1, 1), name="b")
    coronal = make_volume((8, 4, 8), (1, 5, 1), name="a")
    picture = make_volume((1, 8, 8), name="0")
    assert common_axis([axial, coronal, picture]) == common_axis([picture, coronal, axial]) == "A"


def test_pictures_and_videos_have_no_slice_axis():
    assert common_axis([make_volume((1, 8, 8)), make_volume((5, 8, 8), axis="t")]) is None


def test_a_query_is_cut_along_the_axis_of_the_support():
    volume, labels = make_subject((4, 64, 64), spacing_mm=(5, 1, 1))
    fitted = fit([(volume, labels)], axis="A")
    seen = []
    prediction = fitted.segment(volume, lambda at, found, quality: seen.append(found.shape))
    assert seen == [(4, 64)] * 64
    assert prediction.labels.labels.shape == (4, 64, 64)
    assert prediction.quality.shape == (64, 1)


def test_a_support_set_of_single_slices_is_taken_as_it_is():
    volume, labels = make_subject((2, 64, 64))
    support = SupportSet((make_example(volume.voxels[0], labels.labels[0]),), {1: "liver"})
    fitted = fit(support)
    assert fitted.axis is None
    assert fitted.segment(volume).labels.classes == {1: "liver"}


def test_the_intensity_rule_comes_from_the_support():
    bright = Volume(1000 + make_volume((1, 64, 64)).voxels, make_volume((1, 64, 64)).grid)
    with pytest.raises(DataRefused, match="reaches 12"):
        fit([make_subject((1, 64, 64))]).segment(bright)


def test_fitting_leaves_the_segmenter_as_it_was():
    segmenter = Segmenter("sam2-mask", FakeBackbone())
    first = segmenter.fit([make_subject()])
    second = segmenter.fit([make_subject(classes=2)])
    assert list(first.support.classes) == [1]
    assert list(second.support.classes) == [1, 2]
    assert segmenter.method == "sam2-mask"


@dataclass(frozen=True)
class Talkative(Sam2Mask):
    """Tells its progress and keeps the seed it was given."""

    heard: list = field(default_factory=list)

    def train(self, backbone, support, seed, progress):
        self.heard.append(seed)
        progress("listening", 1, 1)
        return {}


def test_the_seed_and_the_progress_reach_the_method():
    told, method = [], Talkative()
    fit([make_subject()], method, seed=42, progress=lambda *step: told.append(step))
    assert method.heard == [42]
    assert told == [("listening", 1, 1)]


def test_the_prediction_says_how_it_was_made():
    fitted = fit([make_subject()], Sam2Mask(supports=2), seed=3)
    told = fitted.segment(make_subject()[0]).provenance
    assert (told.method, told.settings, told.seed) == ("sam2-mask", {"supports": 2}, 3)
    assert told.backbone == "fake"
    assert told.weights_sha256 == FakeBackbone().digest
    assert told.support_digest == fitted.support.digest
    assert told.device == "cpu"
    assert told.elapsed_s >= 0
    assert set(told.versions) >= {"unprompted", "torch", "transformers", "numpy"}


def test_a_fitted_segmenter_cannot_be_altered():
    fitted = fit([make_subject()])
    with pytest.raises(AttributeError):
        fitted.seed = 1


def test_the_query_is_not_changed():
    volume, _ = make_subject()
    before = volume.voxels.copy()
    fit([make_subject()]).segment(volume)
    assert (volume.voxels == before).all()


def test_slices_without_a_label_are_background_examples():
    volume, labels = make_subject((3, 64, 64))
    with_empty = labels.labels.copy()
    with_empty[2] = 0
    fitted = fit([(volume, make_labels(with_empty))])
    assert len(fitted.support.examples) == 3
    assert isinstance(fitted, FittedSegmenter)
