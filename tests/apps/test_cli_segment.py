import csv
import json
import shutil

import numpy as np
import pytest

from unprompted.io.base import read_image, read_labels


def segment(case_folder, out, *more):
    return ("segment", "-s", case_folder / "support", "-i", case_folder / "queries", "-o", out, *more)


def listed(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def bytes_of_masks(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.nii.gz"))}


def test_a_run_leaves_masks_names_quality_overlays_and_records(finished):
    assert listed(finished) == [
        "cases/query-3.json",
        "cases/query-4.json",
        "labels.json",
        "overlays/query-3.png",
        "overlays/query-4.png",
        "quality.csv",
        "query-3.nii.gz",
        "query-4.nii.gz",
        "run.json",
    ]


def test_masks_lie_on_the_grid_of_their_image(case_folder, finished):
    image = read_image(case_folder / "queries" / "query-3.nii.gz")
    labels = read_labels(finished / "query-3.nii.gz")
    assert labels.grid.same_space(image.grid)
    assert labels.classes == {1: "organ 1", 2: "organ 2"}
    assert set(np.unique(labels.labels)) <= {0, 1, 2}


def test_quality_has_a_row_for_every_slice_and_class_and_the_means(finished):
    with (finished / "quality.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    one_case = [row for row in rows if row["case"] == "query-3"]
    assert [(row["slice"], row["class"]) for row in one_case] == [
        (str(number), name) for number in range(1, 7) for name in ("organ 1", "organ 2")
    ] + [("mean", "organ 1"), ("mean", "organ 2"), ("mean", "mean")]
    labels = read_labels(finished / "query-3.nii.gz").labels
    pixels = [int(row["pixels"]) for row in one_case if row["class"] == "organ 2"]
    assert pixels[:6] == (labels == 2).sum(axis=(1, 2)).tolist()
    assert pixels[6] == (labels == 2).sum()


def test_the_quality_of_a_class_is_the_mean_over_the_slices_that_show_it(finished):
    record = json.loads((finished / "cases" / "query-3.json").read_text())
    entry = record["slices"]["organ 1"]
    shown = [q for q, pixels in zip(entry["quality"], entry["pixels"], strict=True) if pixels]
    expected = np.mean(shown) if shown else None
    assert record["class_quality"]["organ 1"] == pytest.approx(expected, abs=1e-4)


def test_the_record_of_a_run_tells_how_and_holds_no_path(finished, tiny_model_folder):
    text = (finished / "run.json").read_text()
    run = json.loads(text)
    assert run["counts"] == {"written": 2, "finished before": 0, "failed": 0, "not reached": 0}
    assert run["configuration"]["method"] == "sam2-mask"
    assert run["configuration"]["settings"] == {"supports": 1}
    assert run["configuration"]["support_cases"] == ["labelled-1", "labelled-2"]
    assert len(run["configuration"]["weights_sha256"]) == 64
    assert (run["configuration"]["dtype"], run["configuration"]["memory_pool"]) == ("float32", 1)
    for written in (text, (finished / "cases" / "query-3.json").read_text()):
        assert str(tiny_model_folder.parent) not in written


def test_two_runs_write_the_same_masks(call, case_folder, fast, finished, tmp_path):
    again = tmp_path / "again"
    assert call(*segment(case_folder, again, *fast)).code == 0
    assert bytes_of_masks(again) == bytes_of_masks(finished)


def test_what_was_decided_is_printed(call, case_folder, fast, tmp_path):
    ended = call(*segment(case_folder, tmp_path / "out", *fast, "--dry-run"))
    assert ended.code == 0
    for line in (
        "support    pairs layout, 2 cases with labels",
        "queries    images layout, 2 cases",
        "classes    1 organ 1, 2 organ 2",
        "axis       axial slices (S)",
        "intensity  each case from its 0.5 to its 99.5 percentile",
        "method     sam2-mask (supports 1)",
        "refinement on, where it helps a case left out",
        "cases      2: query-3, query-4",
        "nothing was written",
    ):
        assert line in ended.out
    assert not (tmp_path / "out").exists()


def test_finished_cases_are_not_segmented_again(call, case_folder, fast, finished):
    before = (finished / "cases" / "query-3.json").stat().st_mtime_ns
    ended = call(*segment(case_folder, finished, *fast))
    assert ended.code == 0
    assert "2 of 2 cases are finished already" in ended.out
    assert "0 of 2 cases segmented, 2 finished before" in ended.out
    assert (finished / "cases" / "query-3.json").stat().st_mtime_ns == before
    assert json.loads((finished / "run.json").read_text())["counts"]["finished before"] == 2


def test_an_interrupted_run_goes_on_and_ends_as_an_undisturbed_one(call, case_folder, fast, finished):
    expected = bytes_of_masks(finished)
    (finished / "cases" / "query-4.json").unlink()  # killed between the mask and its record
    (finished / "query-4.nii.gz").write_bytes(b"half")
    ended = call(*segment(case_folder, finished, *fast))
    assert ended.code == 0
    assert "1 of 2 cases are finished already" in ended.out
    assert bytes_of_masks(finished) == expected
    assert "query-3" in (finished / "quality.csv").read_text()


def test_results_of_other_settings_are_refused_and_stay(call, case_folder, fast, finished):
    before = {name: (finished / name).read_bytes() for name in listed(finished)}
    ended = call(*segment(case_folder, finished, *fast, "--set", "supports=2"))
    assert ended.code == 2
    assert "settings.supports was 1, is 2" in ended.err
    assert "--overwrite" in ended.err
    assert {name: (finished / name).read_bytes() for name in listed(finished)} == before


def test_overwrite_replaces_them(call, case_folder, fast, finished):
    assert call(*segment(case_folder, finished, *fast, "--set", "supports=2", "--overwrite")).code == 0
    assert json.loads((finished / "run.json").read_text())["configuration"]["settings"] == {"supports": 2}


def test_an_interrupted_overwrite_goes_on_without_being_asked_again(
    call, case_folder, fast, finished, monkeypatch
):
    import unprompted.apps.batch.work as batch

    real = batch.load_case
    words = segment(case_folder, finished, *fast, "--set", "supports=2")
    monkeypatch.setattr(batch, "load_case", lambda files: real(files) if files.name == "query-3" else 1 / 0)
    assert call(*words, "--overwrite").code == 4
    monkeypatch.undo()
    ended = call(*words)
    assert ended.code == 0
    assert "1 of 2 cases are finished already" in ended.out
    digests = {
        json.loads(path.read_text())["configuration_digest"] for path in (finished / "cases").iterdir()
    }
    assert len(digests) == 1


def test_a_failing_fit_leaves_earlier_results_as_they_are(call, case_folder, fast, finished, monkeypatch):
    before = {name: (finished / name).read_bytes() for name in listed(finished)}
    monkeypatch.setattr("unprompted.methods.sam2_mask.Sam2Mask.prepare", lambda *_: 1 / 0)
    assert call(*segment(case_folder, finished, *fast, "--set", "supports=2", "--overwrite")).code == 1
    assert {name: (finished / name).read_bytes() for name in listed(finished)} == before


def test_a_changed_image_is_not_taken_as_finished(call, case_folder, fast, finished, write_case):
    write_case(case_folder / "queries" / "query-4.nii.gz", None, seed=9)
    ended = call(*segment(case_folder, finished, *fast))
    assert ended.code == 2
    assert "query-4.nii.gz" in ended.err
    assert "query-3.nii.gz" not in ended.err


def test_a_mask_of_another_program_is_not_replaced(call, case_folder, fast, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "query-3.nii.gz").write_bytes(b"precious")
    ended = call(*segment(case_folder, out, *fast))
    assert ended.code == 2
    assert "query-3.nii.gz" in ended.err
    assert (out / "query-3.nii.gz").read_bytes() == b"precious"


def test_a_truncated_image_fails_alone(call, case_folder, fast, finished):
    expected = bytes_of_masks(finished)
    (case_folder / "queries" / "query-35.nii.gz").write_bytes(b"\x1f\x8b\x08 no image")
    report = finished.parent / "report.json"
    ended = call(*segment(case_folder, finished, *fast, "--report", report))
    assert ended.code == 4
    assert "1 of 3 cases failed" in ended.err
    assert "query-35" in ended.err
    assert bytes_of_masks(finished) == expected
    cases = {case["case"]: case for case in json.loads(report.read_text())["cases"]}
    assert cases["query-35"]["status"] == "failed"
    assert cases["query-35"]["exit_code"] == 3
    assert "query-35.nii.gz" in cases["query-35"]["error"]
    assert cases["query-4"]["status"] == "finished before"


def test_where_every_case_fails_the_exit_code_is_that_of_the_first(call, case_folder, fast, tmp_path):
    for path in (case_folder / "queries").iterdir():
        path.write_bytes(b"no image")
    ended = call(*segment(case_folder, tmp_path / "out", *fast))
    assert ended.code == 3
    assert "all 2 cases failed; the first" in ended.err


def test_images_of_the_support_are_left_out_of_the_queries(call, case_folder, fast, tmp_path):
    data = case_folder / "support"
    words = ("segment", "-s", data, "-i", data, "-o", tmp_path / "out", *fast, "--dry-run")
    ended = call(*words, "--shots", 1)
    assert ended.code == 0
    assert "1 cases left out because they are the support, 1 to go" in ended.out
    assert "cases      1: labelled-2" in ended.out
    ended = call(*words)
    assert ended.code == 2
    assert "--shots 3" in ended.err


def test_another_image_of_the_same_name_is_segmented_and_said(call, case_folder, fast, tmp_path, write_case):
    write_case(case_folder / "queries" / "labelled-1.nii.gz", None, seed=7)
    ended = call(*segment(case_folder, tmp_path / "out", *fast, "--dry-run"))
    assert "segmented though a support case has the same name: labelled-1" in ended.out
    assert "cases      3: labelled-1, query-3, query-4" in ended.out


@pytest.mark.parametrize("words", [("--labels", "organ 2"), ("--labels", "2"), ("--labels", "2", "ORGAN 2")])
def test_a_class_is_chosen_by_name_or_value(call, case_folder, fast, tmp_path, words):
    ended = call(*segment(case_folder, tmp_path / "out", *fast, *words, "--dry-run"))
    assert ended.code == 0
    assert "classes    2 organ 2\n" in ended.out


def test_only_the_chosen_class_is_segmented(call, case_folder, fast, tmp_path):
    out = tmp_path / "out"
    assert call(*segment(case_folder, out, *fast, "--labels", "organ 2", "-q")).code == 0
    assert set(np.unique(read_labels(out / "query-3.nii.gz").labels)) <= {0, 2}
    assert list(json.loads((out / "labels.json").read_text())) == ["2"]


@pytest.mark.parametrize("word", ["A", "coronal", "a"])
def test_the_slice_axis_has_a_letter_and_a_word(call, case_folder, fast, tmp_path, word):
    ended = call(*segment(case_folder, tmp_path / "out", *fast, "--axis", word, "--dry-run"))
    assert "axis       coronal slices (A)" in ended.out
    assert "48 labelled" in ended.out  # 24 rows of two cases


def test_another_axis_keeps_the_stored_grid(call, case_folder, fast, tmp_path):
    out = tmp_path / "out"
    (case_folder / "queries" / "query-4.nii.gz").unlink()
    assert call(*segment(case_folder, out, *fast, "--axis", "sagittal", "--labels", "1")).code == 0
    image = read_image(case_folder / "queries" / "query-3.nii.gz")
    assert read_labels(out / "query-3.nii.gz").grid.same_space(image.grid)
    assert (out / "quality.csv").read_text().count("query-3,") == 24 + 2


def test_sparse_takes_slices_without_labels_as_unlabelled(call, case_folder, fast, tmp_path):
    from unprompted.images import LabelMap
    from unprompted.io.base import write_labels

    for number in (1, 2):
        path = case_folder / "support" / "labels" / f"labelled-{number}.nii.gz"
        labels = read_labels(path)
        kept = labels.labels.copy()
        kept[1:] = 0
        image = case_folder / "support" / "images" / path.name
        write_labels(LabelMap(kept, labels.grid, labels.classes), path, image)
    dense = call(*segment(case_folder, tmp_path / "out", *fast, "--dry-run"))
    sparse = call(*segment(case_folder, tmp_path / "out", *fast, "--dry-run", "--sparse"))
    assert "12 labelled of" in dense.out
    assert "2 labelled of" in sparse.out


def test_settings_come_from_a_file_and_from_words_which_win(call, case_folder, fast, tmp_path):
    file = tmp_path / "settings.toml"
    file.write_text("[sam2-mask]\nsupports = 5\n")
    words = segment(case_folder, tmp_path / "out", *fast[:4], "--settings", file, "--dry-run")
    assert "sam2-mask (supports 5)" in call(*words).out
    assert "sam2-mask (supports 3)" in call(*words, "--set", "supports=3").out


def test_quiet_prints_nothing(call, case_folder, fast, finished):
    ended = call(*segment(case_folder, finished, *fast, "-q"))
    assert (ended.code, ended.out, ended.err) == (0, "", "")


def test_no_progress_bar_is_drawn_where_stderr_is_no_terminal(call, case_folder, fast, tmp_path):
    ended = call(*segment(case_folder, tmp_path / "out", *fast))
    assert ended.code == 0
    assert ended.err == ""
    assert "2 of 2 cases segmented" in ended.out


def test_an_interruption_exits_130_and_keeps_what_is_written(call, case_folder, fast, tmp_path, monkeypatch):
    import unprompted.apps.batch.work as batch

    real, out = batch.load_case, tmp_path / "out"

    def interrupted_at_the_second(files):
        if files.name == "query-4":
            raise KeyboardInterrupt
        return real(files)

    monkeypatch.setattr(batch, "load_case", interrupted_at_the_second)
    ended = call(*segment(case_folder, out, *fast))
    assert ended.code == 130
    assert "interrupted" in ended.err
    assert (out / "query-3.nii.gz").is_file()
    assert "query-3" in (out / "quality.csv").read_text()
    assert json.loads((out / "run.json").read_text())["counts"]["not reached"] == 1


def test_pictures_give_indexed_pictures(call, fast, tmp_path):
    from PIL import Image

    support = tmp_path / "support"
    for folder in ("images", "masks"):
        (support / folder).mkdir(parents=True)
    pixels = np.zeros((32, 40, 3), np.uint8)
    pixels[8:20, 10:30] = 200
    Image.fromarray(pixels).save(support / "images" / "a.png")
    Image.fromarray((pixels[..., 0] > 0).astype(np.uint8)).save(support / "masks" / "a.png")
    shutil.copytree(support / "images", tmp_path / "queries")
    out = tmp_path / "out"
    ended = call("segment", "-s", support, "-i", tmp_path / "queries", "-o", out, *fast)
    assert ended.code == 0
    assert "intensity  as stored, 0 to 255" in ended.out
    with Image.open(out / "a.png") as mask:
        assert (mask.mode, mask.size) == ("P", (40, 32))


def test_review_asked_for_after_a_run_keeps_what_it_needs_and_touches_no_mask(
    call, case_folder, finished, fast
):
    before = bytes_of_masks(finished)
    assert call(*segment(case_folder, finished, "--review"), *fast).code == 0
    assert (finished / "review" / "task" / "task.json").is_file()
    known = json.loads((finished / "review" / "sources.json").read_text())
    assert known["images"] == str((case_folder / "queries").resolve())
    assert bytes_of_masks(finished) == before


def test_several_processes_started_together_do_not_write_the_same_results(
    call, case_folder, fast, tmp_path, monkeypatch
):
    monkeypatch.setenv("WORLD_SIZE", "2")
    words = ("-s", case_folder / "support", "-i", case_folder / "queries", "-o", tmp_path / "out")
    ended = call("segment", *words, *fast)
    assert ended.code == 2
    assert "start `fit` so, then segment with -t in one process" in " ".join(ended.err.split())
    assert not (tmp_path / "out").exists()
