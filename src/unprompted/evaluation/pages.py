"""Sections, plots and pictures as a Markdown and as an HTML page."""

import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from unprompted.evaluation.files import markdown_table


@dataclass(frozen=True)
class Section:
    """A heading with remarks and a table; empty parts are left out."""

    title: str
    remarks: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()


def markdown_page(
    title: str, sections: Sequence[Section], plots: Sequence[Path], pictures: Sequence[Path], base: Path
) -> str:
    """A page of sections, plots and a word on the pictures, which are no part of it."""
    parts = [f"# {title}"]
    for section in sections:
        parts.append(f"## {section.title}")
        if section.remarks:
            parts.append("\n".join(f"- {remark}" for remark in section.remarks))
        if section.rows:
            parts.append(markdown_table(section.columns, section.rows))
    if plots:
        parts += ["## Plots", *(f"![{p.stem}]({p.relative_to(base).as_posix()})" for p in plots)]
    if pictures:
        parts.append(
            f"The worst cases of every cell are pictures in `{pictures[0].parent.name}/`, shown in the HTML "
            "page. They hold patients' images: do not publish them."
        )
    return "\n\n".join(parts) + "\n"


def html_page(
    title: str, sections: Sequence[Section], plots: Sequence[Path], pictures: Sequence[Path], base: Path
) -> str:
    """The same page with the pictures of the worst cases; all files are named relative to `base`."""
    parts = [f"<h1>{html.escape(title)}</h1>"]
    for section in sections:
        parts.append(f"<h2>{html.escape(section.title)}</h2>")
        if section.remarks:
            items = "".join(f"<li>{html.escape(remark)}</li>" for remark in section.remarks)
            parts.append(f"<ul>{items}</ul>")
        if section.rows:
            parts.append(_html_table(section))
    for heading, files in (("Plots", plots), ("Worst cases: image, truth, prediction", pictures)):
        if files:
            parts.append(f"<h2>{heading}</h2>")
            for path in files:
                where = html.escape(path.relative_to(base).as_posix())
                parts.append(f'<figure><img src="{where}" loading="lazy" alt="{where}">'
                             f"<figcaption>{html.escape(path.stem)}</figcaption></figure>")  # fmt: skip
    style = (
        "body{font:15px system-ui,sans-serif;margin:2rem auto;max-width:75rem;padding:0 1rem}"
        "table{border-collapse:collapse}td,th{padding:.2rem .7rem;border-bottom:1px solid #ccc;"
        "text-align:right}td:first-child,th:first-child{text-align:left}img{max-width:100%}"
    )
    head = f'<meta charset="utf-8"><title>{html.escape(title)}</title><style>{style}</style>'
    return (
        f'<!doctype html><html lang="en"><head>{head}</head><body>\n'
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def _html_table(section: Section) -> str:
    head = "".join(f"<th>{html.escape(column)}</th>" for column in section.columns)
    rows = ("".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in section.rows)
    return f"<table><tr>{head}</tr>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>"
