"""The cells of a recipe as a page: tables, plots, worst cases; what others published stands apart."""

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from unprompted.evaluation.benchmark import PICTURES, Done
from unprompted.evaluation.files import number
from unprompted.evaluation.foretold import agreement, cases_of
from unprompted.evaluation.groups import Group, groups_of, methods_of
from unprompted.evaluation.pages import Section, html_page, markdown_page
from unprompted.evaluation.recipe import Recipe
from unprompted.io.atomic import replacing

_HEADLINE = {"volume": "Dice", "pooled": "Dice_pooled", "slice": "Dice_slice"}
_MEANING = {
    "volume": "3D Dice of each whole case, mean over cases per class, then over classes",
    "pooled": "Dice over the voxels of all cases taken as one, mean over classes",
    "slice": "Dice of each slice that shows the class in truth or prediction, then means as above",
}
_COLUMNS = ["method", "Dice", "over supports", "95 % over cases", "NSD", "HD95 mm", "missed", "spurious",
            "fit s", "s a case", "supports", "published"]  # fmt: skip
_FORETOLD = ["method", "cases", "rank correlation: cases", "cases and classes", "predicted less measured",
             "absolute error", "worst fifth found"]  # fmt: skip


def write_report(recipe: Recipe, outcomes: Sequence[Done], output: Path, name: str) -> list[Path]:
    """Write ``NAME.md``, ``NAME.html`` and, where matplotlib is installed, the plots.

    Args:
        recipe: what was asked.
        outcomes: every cell.
        output: the folder of the results.
        name: of the files.
    """
    groups = groups_of(recipe, outcomes)
    plots = _plots(recipe, groups, output, name)
    pictures = sorted(p for done in outcomes for p in _pictures_of(done, output))
    sections = _sections(recipe, groups, outcomes)
    pages = {
        output / f"{name}.md": markdown_page(recipe.title, sections, plots, pictures, output),
        output / f"{name}.html": html_page(recipe.title, sections, plots, pictures, output),
    }
    for path, text in pages.items():
        with replacing(path) as partial:
            partial.write_text(text, encoding="utf-8")
    return [*pages, *plots]


def _sections(recipe: Recipe, groups: Sequence[Group], outcomes: Sequence[Done]) -> list[Section]:
    sections = [Section("How to read this", _protocol(recipe)), *_at_a_glance(recipe, groups)]
    for dataset in recipe.datasets:
        for shots in sorted({g.shots for g in groups if g.dataset == dataset.name}):
            here = [g for g in groups if (g.dataset, g.shots) == (dataset.name, shots)]
            title = f"{dataset.name}, {shots} labelled case{'' if shots == 1 else 's'}"
            rows = [_row(recipe, group) for group in here] + _only_published(
                recipe, dataset.name, shots, here
            )
            sections.append(Section(title, _asked(here), tuple(_COLUMNS), tuple(rows)))
            sections += [_per_class(title, here), *_foretold(title, here)]
    sections += _foretold("All sets together", groups) if len(recipe.datasets) > 1 else []
    failed = tuple(f"{d.planned.cell.label}: {d.problem}" for d in outcomes if d.result is None)
    old = tuple(d.planned.cell.label for d in outcomes if d.outdated)
    if failed:
        sections.append(Section("Cells without result", failed))
    if old:
        sections.append(Section("Cells made by other code than today's (--refresh runs them again)", old))
    return sections


def _at_a_glance(recipe: Recipe, groups: Sequence[Group]) -> list[Section]:
    """Methods against datasets, where there are several."""
    most: dict[tuple[str, int], int] = {}  # choices of the support, by dataset and shots
    table: dict[str, dict[tuple[str, int], Group]] = {}
    for group in groups:
        place = (group.dataset, group.shots)
        most[place] = max(most.get(place, 0), len(group.results))
        table.setdefault(group.method, {})[place] = group

    def cell(group: Group | None, choices: int) -> str:
        if group is None:
            return ""
        few = f" ({len(group.results)} of {choices})" if len(group.results) < choices else ""
        return number(group.mean(_HEADLINE[recipe.dice])) + few

    if len(most) < 2:
        return []
    remark = "Means over the choices of the support; in brackets how many, where fewer than of others."
    columns = ("method", *(f"{dataset}, {shots} labelled" for dataset, shots in most))
    rows = ((m, *(cell(table[m].get(place), most[place]) for place in most)) for m in methods_of(groups))
    return [Section("Dice at a glance", (remark,), columns, tuple(rows))]


def _protocol(recipe: Recipe) -> tuple[str, ...]:
    cut = "queries CUT to the slices that show a label, which tells a method where to look"
    seeds = "Support seed 0 is the first cases by name; other seeds draw patients at random."
    return (
        f"Dice: {_MEANING[recipe.dice]}. A missed or spurious class counts as 0; a class in neither is "
        "left out.",
        f"Slices: {recipe.slices} ({'whole cases' if recipe.slices == 'all' else cut}).",
        f"NSD at {recipe.tolerance_mm:g} mm; HD95 is the image's diagonal for a missed or spurious class; a "
        "dash where the images have no true voxel size.",
        "Over supports: standard deviation over the choices of the support. 95 % over cases: bootstrap of "
        "the 3D Dice. Missed, spurious: added up over cases, classes and choices.",
        f"Seeds are folds of {recipe.folds}, by patient." if recipe.folds else seeds,
        "No patient is both support and query.",
        "Published: quoted from the source named, on other cases and supports, never measured here.",
    )


def _asked(groups: Sequence[Group]) -> tuple[str, ...]:
    result = groups[0].results[0]
    some = "" if result["queries"] == result["candidates"] else f" of {result['candidates']}, spread by name"
    sizes = sorted({r["machine"]["threads"] for g in groups for r in g.results})
    return (f"{result['queries']} queries{some}; classes {', '.join(result['classes'])}; "
            f"CPU threads {', '.join(sizes)}.",)  # fmt: skip


def _row(recipe: Recipe, group: Group) -> tuple[str, ...]:
    headline, interval = _HEADLINE[recipe.dice], group.interval
    return (
        group.method,
        number(group.mean(headline)),
        number(group.spread(headline)),
        "-" if interval is None else f"{interval[0]:.3f}-{interval[1]:.3f}",
        number(group.mean("NSD")),
        number(group.mean("HD95"), 1),
        str(group.total("n_missed")),
        str(group.total("n_spurious")),
        f"{group.fit_s:.0f}",
        f"{group.case_s:.1f}",
        str(len(group.results)),
        _published(recipe, group.dataset, group.results[0]["method"], group.shots),
    )


def _published(recipe: Recipe, dataset: str, method: str, shots: int) -> str:
    found = [
        p for p in recipe.published
        if (p.dataset, p.method) == (dataset, method) and p.shots in (None, shots)
    ]  # fmt: skip
    return "; ".join(f"{p.dice:.3f} ({p.source})" for p in found)


def _only_published(
    recipe: Recipe, dataset: str, shots: int, groups: Sequence[Group]
) -> list[tuple[str, ...]]:
    measured = {group.results[0]["method"] for group in groups}
    names = sorted(
        {p.method for p in recipe.published if p.dataset == dataset and p.shots in (None, shots)} - measured
    )
    blank = ("-",) * (len(_COLUMNS) - 2)
    return [(name, *blank, _published(recipe, dataset, name, shots)) for name in names]


def _per_class(title: str, groups: Sequence[Group]) -> Section:
    classes = groups[0].results[0]["classes"]
    rows = []
    for group in groups:
        cells = []
        for name in classes:
            dices = [r["per_class"][name]["Dice"] for r in group.results if name in r["per_class"]]
            known = [dice for dice in dices if dice is not None]
            cells.append(number(fmean(known) if known else None))
        rows.append((group.method, *cells))
    return Section(f"{title}: 3D Dice per class", (), ("method", *classes), tuple(rows))


def _foretold(title: str, groups: Sequence[Group]) -> list[Section]:
    """How well Dice was predicted without truth, method by method over all choices of the support."""
    rows = []
    for method in methods_of(groups):
        results = [result for group in groups if group.method == method for result in group.results]
        found = agreement(cases_of(results))
        if found is not None:
            rows.append(
                (
                    method,
                    str(found.cases),
                    number(found.spearman_cases, 2),
                    number(found.spearman_classes, 2),
                    number(found.mean_error),
                    number(found.mean_absolute_error),
                    f"{found.worst_fifth_found} of {found.worst_fifth}",
                )
            )
    remarks = (
        "Predicted without truth, as in quality.csv, against measured Dice. Spearman's rank correlation over "
        "cases, each the mean of its classes, and over pairs of case and class.",
        "Worst fifth found: how many of the worst fifth of cases are among as many lowest predicted; chance "
        "finds a fifth of them.",
    )
    return (
        [Section(f"{title}: Dice predicted without truth", remarks, tuple(_FORETOLD), tuple(rows))]
        if rows
        else []
    )


def _pictures_of(done: Done, output: Path) -> list[Path]:
    if done.result is None:
        return []
    return sorted((output / PICTURES).glob(f"{done.planned.path.stem}-*.png"))


def _plots(recipe: Recipe, groups: Sequence[Group], output: Path, name: str) -> list[Path]:
    try:
        from unprompted.evaluation.plots import draw_plots
    except ImportError:  # matplotlib is an extra
        return []
    return draw_plots(groups, _HEADLINE[recipe.dice], output / "plots", name)
