"""What an experiment leaves behind: `result.json` and `report.html` in its workdir.

The JSON is for tables that join many runs; the page is for a reader, in one file that
needs no network. Both are written whole or not at all, the JSON last: where there is a
`result.json`, the run is finished.
"""

import base64
import dataclasses
import html
import importlib.metadata
import json
import math
import os
import pathlib
import platform
import shutil
import struct
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.harness.results import METRICS, Pivot, Results
from experiments.harness.results import Metric as Metric
from experiments.harness.results import metric as metric


class Table(NamedTuple):
    """A table for the page; columns of numbers are aligned at the point."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str | float | None]]


class Picture(NamedTuple):
    """A PNG for the page, with what there is to see in it."""

    path: str | os.PathLike
    caption: str


@dataclasses.dataclass(frozen=True)
class Page:
    """All that a reader is told, in the order of the page.

    Attributes:
      title: of the page.
      verdict: two sentences: what was recovered, compared with what.
      lead: the picture that the page opens with.
      caption: of the table.
      table: a row a method, a column a metric.
      attacked: a sentence or two: which model, of whose data.
      knowledge: what the adversary has, and what it has not.
      baseline: which adversary without a target the baselines are of.
      n: examples attacked.
      results: all records.
      tables: further ones.
      pictures: further PNG files.
      differences: from the paper's set-up, one a line.
      caveats: one a line.
    """

    title: str
    verdict: str
    lead: Picture
    caption: str
    table: Pivot
    attacked: str
    knowledge: str
    baseline: str
    n: int
    results: Results
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()
    differences: Sequence[str] = ()
    caveats: Sequence[str] = ()


def publish(
    workdir: pathlib.Path,
    page: Page,
    *,
    experiment: str,
    flags: Mapping[str, Any],
    seconds: Mapping[str, float],
    command: str,
) -> pathlib.Path:
    """Writes `report.html`, and then `result.json` with the records.

    Args:
      workdir: the folder, as `prepare_workdir` made it.
      page: what to tell.
      experiment: the paper's name, `zhang2020_gmi`.
      flags: every flag of the run, by name.
      seconds: of `compile` and `run`.
      command: that makes the result again.

    Returns:
      The path of the page.

    Raises:
      ValueError: a number is not finite, or `seconds` lacks an entry. Nothing is
        written then.
      OSError: the disk is full; the message says what was not written.
    """
    result = _result(experiment, flags, seconds, page.n)
    result["records"] = page.results.to_json()
    failures = [
        f"{record.metric} of {' '.join(record.labels.values())}: {record.value.failed} "
        f"of {record.value.n} attempts gave no finite value and count as failures."
        for record in page.results
        if record.value.failed
    ]
    facts = {"Attacked": page.attacked, "The adversary has": page.knowledge}
    sections = [
        f'<p class="verdict">{html.escape(page.verdict)}</p>{_picture(page.lead)}',
        _section(page.caption, _pivot(page.table)),
        _section("Who was attacked, with which knowledge", _facts(facts)),
        *(_section(table.caption, _table(table)) for table in page.tables),
        _section("Further figures", "".join(map(_picture, page.pictures))),
        _section(
            "Compared with the paper",
            _list(page.differences),
            "Its set-up differs from ours:",
        ),
        _section("Caveats", _list([*failures, *page.caveats])),
        _section("All numbers", _folded(page.results, page.baseline)),
        _section("How to make it again", _reproduce(result, command)),
    ]
    return _write_both(workdir, result, page.title, f"mijax, {experiment}", sections)


def _pivot(table: Pivot) -> str:
    """A row a method, a column a metric, with the interval in small below the value."""
    heads, columns = ["<th></th>"], []
    for index, column in enumerate(table.columns):
        lines = [row[index] for row in table.cells]
        decimals = _decimals(line.value for line in lines if line)
        columns.append([_cell(line, decimals) for line in lines])
        heads.append(f'<th class="n">{_words(column)}</th>')
    body = "".join(
        f"<tr><th>{_words(name)}</th>{''.join(cells)}</tr>"
        for name, cells in zip(table.rows, zip(*columns, strict=True), strict=True)
    )
    defined = "".join(
        f"<dt>{_words((name,))}</dt><dd>{html.escape(METRICS[name])}</dd>"
        for name in dict.fromkeys(n for column in table.columns for n in column)
        if name in METRICS
    )
    return (
        f'<div class="wide"><table class="methods"><thead><tr>{"".join(heads)}</tr>'
        f"</thead><tbody>{body}</tbody></table></div>"
        f'<p class="note">Small: 95 % intervals.</p><dl class="note">{defined}</dl>'
    )


def _cell(line: Metric | None, decimals: int) -> str:
    if line is None:
        return '<td class="n"></td>'
    ends = ""
    if line.low is not None and line.high is not None:
        ends = f"{_number(line.low, decimals)} to {_number(line.high, decimals)}"
    return f'<td class="n">{_number(line.value, decimals)}<small>{ends}</small></td>'


def _words(labels: Sequence[str]) -> str:
    return html.escape(", ".join(label for label in labels if label).replace("_", " "))


def _folded(results: Results, baseline: str) -> str:
    names = list(dict.fromkeys(name for record in results for name in record.labels))
    heads = [*names, "metric", "value", "low", "high", "n", "baseline", "leakage"]
    rows = []
    for record in results:
        line = record.value
        decimals = _decimals([line.value])
        numbers = line.value, line.low, line.high, line.n, line.baseline, line.leakage
        cells = [*(record.labels.get(name, "") for name in names), record.metric]
        rows.append(
            "".join(f"<td>{_words((cell,))}</td>" for cell in cells)
            + "".join(f'<td class="n">{_number(x, decimals)}</td>' for x in numbers)
        )
    return (
        f"<details><summary>{len(rows)} numbers, with 95 % intervals</summary>"
        f'<div class="wide"><table><thead><tr>'
        f"{''.join(f'<th>{html.escape(head)}</th>' for head in heads)}</tr></thead>"
        f"<tbody>{''.join(f'<tr>{row}</tr>' for row in rows)}</tbody></table></div>"
        '<p class="note">Leakage = (value − baseline) / (perfect − baseline): 0 is '
        "what the same adversary achieves without the target. Baseline: "
        f"{html.escape(baseline)}</p></details>"
    )


def prepare_workdir(workdir: str | os.PathLike, free_mib: int = 64) -> pathlib.Path:
    """Makes the folder and proves that a result can be written there.

    Programs that are compiled from then on are kept in the folder's parent, so that
    the next run beside it, such as another of a sweep, need not compile them again;
    $JAX_COMPILATION_CACHE_DIR names another place.

    Args:
      workdir: the folder, made with its parents if there is none.
      free_mib: how much the run will write.

    Returns:
      The folder.

    Raises:
      ValueError: it cannot be made or written, or the disk is too full.
    """
    path = pathlib.Path(workdir).expanduser()
    try:
        (path / "figures").mkdir(parents=True, exist_ok=True)
        probe = path / f".writable.{os.getpid()}"  # Another run may look at once.
        _replace(probe, "yes")
        probe.unlink()
        free = shutil.disk_usage(path).free >> 20
    except OSError as error:
        raise ValueError(
            f"--workdir={workdir} cannot be written ({error.strerror}): give a folder "
            "of your own"
        ) from error
    if free < free_mib:
        raise ValueError(
            f"--workdir={workdir} has {free} MiB left and the run needs {free_mib}: "
            "make room or give a folder on another disk"
        )
    keep_compiled(path.resolve().parent)
    return path


def keep_compiled(parent: pathlib.Path) -> None:
    """Keeps compiled programs in a folder, where nothing else says where."""
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ and os.access(parent, os.W_OK):
        folder = parent / ".compiled"
        jax.config.update("jax_compilation_cache_dir", str(folder))


def _result(
    experiment: str, flags: Mapping[str, Any], seconds: Mapping[str, float], n: int
) -> dict[str, Any]:
    try:
        json.dumps([n, dict(flags)], allow_nan=False, default=_plain)
    except ValueError as error:
        raise ValueError(
            f"flags or n hold a number that is not finite: {n}, {flags}"
        ) from error
    return {
        "experiment": experiment,
        "flags": dict(flags),
        "commit": commit(),
        "versions": versions(),
        "device": device(),
        "seconds": _seconds(seconds),
        "n": n,
    }


def _write_both(
    workdir: pathlib.Path,
    result: Mapping[str, Any],
    title: str,
    kicker: str,
    sections: Sequence[str],
) -> pathlib.Path:
    page = _PAGE.format(
        style=_STYLE,
        title=html.escape(title),
        kicker=html.escape(kicker),
        body="".join(sections),
    )
    text = json.dumps(result, indent=2, allow_nan=False, default=_plain)
    _replace(workdir / "report.html", page)
    _replace(workdir / "result.json", text + "\n")
    return workdir / "report.html"


def commit() -> str | None:
    """The checkout's commit, with `-dirty` after uncommitted changes, if it has one."""
    root = pathlib.Path(__file__).resolve().parents[2]

    def git(*words):
        return subprocess.run(
            ["git", *words], cwd=root, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        if pathlib.Path(git("rev-parse", "--show-toplevel")).resolve() != root:
            return None
        return git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    except (OSError, subprocess.CalledProcessError):
        return None


def versions() -> dict[str, str | None]:
    """Versions of python and of the packages that decide a result's bits."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for package in ("mijax", "jax", "jaxlib", "flax", "optax", "numpy", "scipy"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = None
    return found


def device() -> str:
    """The devices that computed, as `8 x NVIDIA H100` or `1 x cpu (2 cores)`."""
    devices = jax.devices()
    text = f"{len(devices)} x {devices[0].device_kind}"
    if devices[0].platform == "cpu":
        affinity = getattr(os, "sched_getaffinity", None)
        cores = len(affinity(0)) if affinity else os.cpu_count()
        text += f" ({cores} {'core' if cores == 1 else 'cores'})"
    return text


def _seconds(seconds: Mapping[str, float]) -> dict[str, float]:
    if set(seconds) != {"compile", "run"}:
        raise ValueError(f"seconds has {sorted(seconds)}: give compile and run")
    if not all(math.isfinite(x) and x >= 0 for x in seconds.values()):
        raise ValueError(f"seconds are {dict(seconds)}: give finite times")
    return {name: float(seconds[name]) for name in ("compile", "run")}


def _plain(value):
    """Numbers of numpy and JAX as Python's, paths as text."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return np.asarray(value).item()


def _replace(path: pathlib.Path, text: str):
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise OSError(
            error.errno, f"{error.strerror}; {path.name} is not written", str(path)
        ) from error


def _section(heading: str, body: str, introduction: str = "") -> str:
    if not body:
        return ""
    lead = f"<p>{html.escape(introduction)}</p>" if introduction else ""
    return f"<section><h2>{html.escape(heading)}</h2>{lead}{body}</section>\n"


def _facts(facts: Mapping[str, str]) -> str:
    entries = (
        f"<dt>{html.escape(name)}</dt><dd>{html.escape(text)}</dd>"
        for name, text in facts.items()
    )
    return f"<dl>{''.join(entries)}</dl>"


def _list(items: Sequence[str]) -> str:
    entries = "".join(f"<li>{html.escape(item)}</li>" for item in items)
    return f"<ul>{entries}</ul>" if entries else ""


def _table(table: Table) -> str:
    if any(len(row) != len(table.columns) for row in table.rows):
        raise ValueError(f"rows of {table.caption!r} do not have {table.columns}")
    heads, columns = [], []
    for index, name in enumerate(table.columns):
        column = [row[index] for row in table.rows]
        numbers = [x for x in column if not isinstance(x, str) and x is not None]
        numeric = len(numbers) > 0 and not any(isinstance(x, str) for x in column)
        if numeric:
            decimals = _decimals(numbers)
            columns.append(_align([_number(x, decimals) for x in column]))
        else:
            columns.append([f"<td>{html.escape(str(x or ''))}</td>" for x in column])
        kind = ' class="n"' if numeric else ""
        heads.append(f"<th{kind}>{html.escape(name)}</th>")
    body = "".join(f"<tr>{''.join(row)}</tr>" for row in zip(*columns, strict=True))
    return (
        f"<table><thead><tr>{''.join(heads)}</tr></thead><tbody>{body}</tbody></table>"
    )


def _decimals(numbers) -> int:
    """How many decimals show the largest of the numbers with three digits or four."""
    largest = max((abs(x) for x in numbers if x is not None), default=0)
    if 0 < largest < 0.1:
        return min(2 - math.floor(math.log10(largest)), 8)
    return 3 if largest < 2 else 2 if largest < 100 else 1


def _number(x, decimals: int) -> str:
    if x is None:
        return ""
    if isinstance(x, int | np.integer):
        return f"{x}".replace("-", "−")
    if x != 0 and abs(x) < 0.5 * 10**-decimals:
        return f"{x:.1e}".replace("-", "−")
    return f"{x:.{decimals}f}".replace("-", "−")


def _align(column: Sequence[str]) -> list[str]:
    """Cells with unseen digits after the shorter numbers, so that points line up."""
    tails = [text.partition(".")[1] + text.partition(".")[2] for text in column]
    longest = max((t for t in tails if "e" not in t), key=len, default="")
    cells = []
    for text, tail in zip(column, tails, strict=True):
        missing = longest[len(tail) :] if text and "e" not in tail else ""
        unseen = f'<span class="unseen">{missing}</span>' if missing else ""
        cells.append(f'<td class="n">{text}{unseen}</td>')
    return cells


def _picture(picture: Picture) -> str:
    data = pathlib.Path(picture.path).read_bytes()
    if data[:8] != b"\x89PNG\r\n\x1a\n":
        raise ValueError(f"{picture.path} is not a PNG file")
    width, height = struct.unpack(">II", data[16:24])
    caption = html.escape(picture.caption)
    return (
        f'<figure><img width="{width}" height="{height}" alt="{caption}" '
        f'src="data:image/png;base64,{base64.b64encode(data).decode()}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _reproduce(result: Mapping[str, Any], command: str) -> str:
    seconds = result["seconds"]
    known = (f"{name} {x}" for name, x in result["versions"].items() if x)
    facts = {
        "Commit": result["commit"] or "unknown: not run from a git checkout",
        "Versions": ", ".join(known),
        "Device": result["device"],
        "Seconds": f"{seconds['compile']:.1f} to compile, {seconds['run']:.1f} to run",
    }
    return f"<pre>{html.escape(command)}</pre>{_facts(facts)}"


_STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 48px 32px 72px; max-width: 1100px; background: #fff;
  color: #1c1c1c; font: 16px/1.55 "Source Serif 4", Charter, "Bitstream Charter",
  Georgia, "DejaVu Serif", serif; }
.kicker, dt, th, td, figcaption, .note { font-family: "Source Sans 3", "Segoe UI",
  "Helvetica Neue", "Liberation Sans", Arial, sans-serif; }
.kicker { margin: 0; color: #666; font-size: 14px; }
h1 { margin: 4px 0 32px; font-size: 32px; line-height: 1.2; font-weight: 600;
  max-width: 30em; }
h2 { margin: 44px 0 14px; font-size: 20px; line-height: 1.3; font-weight: 600; }
p, ul { max-width: 44em; margin: 0 0 12px; }
ul { padding-left: 1.2em; }
li { margin-bottom: 4px; }
dl { display: grid; grid-template-columns: 10em minmax(0, 44em); gap: 8px 20px;
  margin: 0; }
dt { color: #666; font-size: 14px; line-height: 1.77; }
dd { margin: 0; overflow-wrap: anywhere; }
table { border-collapse: collapse; font-size: 14px; line-height: 1.4;
  font-variant-numeric: tabular-nums; border-bottom: 1px solid #1c1c1c; }
th, td { padding: 5px 12px; text-align: left; vertical-align: top; }
th:first-child, td:first-child { padding-left: 0; }
th { font-weight: 600; }
thead th { border-top: 1px solid #1c1c1c; border-bottom: 1px solid #1c1c1c;
  white-space: nowrap; vertical-align: bottom; }
th.n, td.n { text-align: right; white-space: nowrap; }
small { display: block; color: #666; font-size: 12.5px; font-weight: 400; }
.verdict { font-size: 19px; margin-bottom: 24px; }
.wide { overflow-x: auto; }
.methods tbody th { font-weight: 400; }
dl.note { grid-template-columns: 13em minmax(0, 44em); gap: 2px 16px; }
dl.note dt, dl.note dd { font-size: 13px; line-height: 1.5; }
summary { cursor: pointer; margin-bottom: 12px; }
details table { font-size: 12.5px; }
details th, details td { padding: 3px 8px; }
.unseen { visibility: hidden; }
.note { margin: 10px 0 0; color: #555; font-size: 13.5px; }
figure { margin: 0 0 32px; break-inside: avoid; }
img { display: block; max-width: 100%; height: auto; }
figcaption { max-width: 50em; margin-top: 8px; color: #444; font-size: 14px; }
pre { margin: 0 0 16px; padding: 12px 16px; background: #f5f5f3; font-size: 13.5px;
  line-height: 1.5; white-space: pre-wrap; overflow-wrap: anywhere; }
tr, li { break-inside: avoid; }
h2 { break-after: avoid; }
@media print { @page { margin: 16mm; } body { padding: 0; font-size: 10.5pt; }
  table { font-size: 8.5pt; } th, td { padding: 3px 6px; }
  small { font-size: 7.5pt; } .verdict { font-size: 12pt; }
  img { width: auto; max-height: 150mm; }
  h1 { font-size: 20pt; } h2 { font-size: 13pt; margin-top: 28px; } }
"""

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<p class="kicker">{kicker}</p>
<h1>{title}</h1>
{body}</body>
</html>
"""
