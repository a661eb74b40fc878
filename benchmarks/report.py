"""The report: a table for people, and the same with every sample as JSON."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.figures import FIGURES, SIDES, Figure, Samples

Facts = Mapping[str, Any]


def heading(facts: Facts) -> str:
    """What is measured, where, and with which sizes."""
    machine, server, work = facts["machine"], facts["server"], facts["work"]
    memory = machine["memory_bytes"] / 2**30
    sizes = ", ".join(f"{title} {value}" for title, value in facts["sizes"].items())
    lines = [
        ", ".join(f"{name} {value}" for name, value in facts["versions"].items()),
        f"{machine['cores']} cores of {machine['cpu']}, {memory:.0f} GiB, {machine['system']}",
        f"Server: {', '.join(f'{name} {value}' for name, value in server.items())}",
        f"Sizes: {sizes}",
        f"Work: {', '.join(f'{name} {value:,}' for name, value in work.items())}",
    ]
    if machine["load_before"] > machine["cores"] / 4:
        lines.append(
            f"Something else runs here (load {machine['load_before']}): the figures will be too low, and shaky."
        )
    return "\n".join(lines)


def table(samples: Samples) -> str:
    """A row for each figure, a column for each side, and how many times better djtasks is than each rival."""
    sides = samples.sides()
    rivals = [side for side in sides if side.startswith("celery") and "djtasks" in sides]
    rows = [["", "", *(SIDES[side] for side in sides), *(f"× {SIDES[side]}" for side in rivals)]]
    for figure in FIGURES:
        cells = [_value(samples, side, figure) for side in sides]
        if any(cells):
            rows.append([figure.title, figure.unit, *cells, *(_ratio(samples, rival, figure) for rival in rivals)])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [_line(row, widths) for row in rows]
    if rivals:
        lines += ["", "×: how many times better djtasks is; below 1 it is worse"]
    return "\n".join(lines)


def _line(row: list[str], widths: list[int]) -> str:
    cells = [
        f"{cell:<{width}}" if column < 2 else f"{cell:>{width}}"
        for column, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]
    return "  ".join(cells).rstrip()


def _value(samples: Samples, side: str, figure: Figure) -> str:
    found = samples.samples(side, figure.key)
    median = samples.median(side, figure.key)
    if median is None:
        return ""
    text = f"{median:,.{figure.digits}f}"
    if len(found) == 1:
        return text
    return f"{text} ({min(found):,.{figure.digits}f}–{max(found):,.{figure.digits}f})"


def _ratio(samples: Samples, rival: str, figure: Figure) -> str:
    ratio = samples.ratio(figure, rival)
    return "" if ratio is None else f"{ratio:.2f}"


def as_data(facts: Facts, samples: Samples, failures: Mapping[str, str]) -> dict[str, Any]:
    """The whole report as plain data: facts, medians, samples, ratios, and what could not be measured."""
    units = {figure.key: figure.unit for figure in FIGURES}
    figures = {
        side: {
            key: {
                "median": samples.median(side, key),
                "samples": samples.samples(side, key),
                **({"unit": units[key]} if key in units else {}),
            }
            for key in samples.keys(side)
        }
        for side in samples.sides()
    }
    ratios = {
        rival: {figure.key: ratio for figure in FIGURES if (ratio := samples.ratio(figure, rival)) is not None}
        for rival in samples.sides()
        if rival != "djtasks"
    }
    return {**facts, "figures": figures, "ratios": ratios, "failures": dict(failures)}


def write(path: Path, data: Mapping[str, Any]) -> None:
    """Write the JSON file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.new")
    fresh.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    fresh.replace(path)
