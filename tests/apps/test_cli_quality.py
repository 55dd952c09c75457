import csv
import json


def means(folder):
    """The rows of quality.csv that sum up a class of a case: (case, class) to row."""
    with (folder / "quality.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["slice"] == "mean"]
    return {(row["case"], row["class"]): row for row in rows}


def test_every_class_and_case_has_a_predicted_dice_and_the_parts_it_came_from(
    call, case_folder, fast, tmp_path
):
    out, query = tmp_path / "out", case_folder / "queries" / "query-3.nii.gz"
    assert (
        call("segment", "-s", case_folder / "support", "-i", query, "-o", out, "--round-trip", *fast).code
        == 0
    )
    rows = means(out)
    record = json.loads((out / "cases" / "query-3.json").read_text())["predicted_dice"]
    assert list(record) == ["organ 1", "organ 2"]
    for name, told in record.items():
        row = rows["query-3", name]
        for column, part in (("predicted_dice", "dice"), ("own_dice", "own"), ("round_trip", "round_trip")):
            assert row[column] == ("" if told[part] is None else str(told[part]))
        assert row["review"] == ("yes" if told["dice"] < 0.5 else "")
    mean = sum(told["dice"] for told in record.values()) / 2
    assert abs(float(rows["query-3", "mean"]["predicted_dice"]) - mean) < 1e-4


def test_without_the_round_trip_the_models_own_estimate_is_all_there_is(call, case_folder, fast, tmp_path):
    out, query = tmp_path / "out", case_folder / "queries" / "query-3.nii.gz"
    ended = call("segment", "-s", case_folder / "support", "-i", query, "-o", out, *fast)
    assert ended.code == 0
    for name in ("organ 1", "organ 2"):
        row = means(out)["query-3", name]
        assert row["round_trip"] == ""
        assert row["own_dice"] in (row["predicted_dice"], "")
    assert "mean predicted Dice" in ended.out
    assert "lowest     query-3" in ended.out


def test_cases_to_review_are_named_at_the_end(call, case_folder, tiny_model_folder, tmp_path):
    out = tmp_path / "out"
    words = ("-i", case_folder / "queries", "-o", out, "--backbone", tiny_model_folder)
    ended = call("segment", "-s", case_folder / "support", *words, "--method", "sam2-mask")
    run = json.loads((out / "run.json").read_text())
    flagged = [case["case"] for case in run["cases"] if case["review"]]
    assert flagged == sorted({case for (case, name), row in means(out).items() if row["review"]})
    said = [line for line in ended.out.splitlines() if line.startswith("review")]
    assert [line.split()[1] for line in said] == ([str(len(flagged))] if flagged else [])
