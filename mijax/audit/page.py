"""The report of an audit: one page, its numbers, and a line for every person."""

import csv
import html
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mijax.audit import releases, verdicts
from mijax.metrics.intervals import Interval

if TYPE_CHECKING:
    from mijax.audit.auditing import FieldReport, Report, WhatIf

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto;
  padding: 0 1rem; color: #222; overflow-wrap: anywhere; }
.verdict { font-size: 1.15rem; font-weight: 600; }
.scroll { overflow-x: auto; max-width: 100%; }
table { border-collapse: collapse; font-size: 14px;
  font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid #ddd; text-align: right;
  overflow-wrap: normal; vertical-align: bottom; }
td:not(:first-child) { white-space: nowrap; }
summary { cursor: pointer; margin: .6rem 0; }
th:first-child, td:first-child { text-align: left; min-width: 11rem; }
@media print { .scroll { overflow-x: visible; } table { font-size: 11px; } }
svg { width: 100%; height: auto; }
"""
_WHAT_IF = (
    "released of a person",
    "model's score, members",
    "model's score, others",
    "members named",
    "others named",
    "gain, members",
    "gain, others",
)


def write(
    report: "Report", folder: pathlib.Path, settings: Mapping[str, Any]
) -> pathlib.Path:
    """Writes `report.html`, `result.json` and `people.csv`; returns the page."""
    folder.mkdir(parents=True, exist_ok=True)
    record = {"experiment": "audit_table", "flags": dict(settings), **record_of(report)}
    (folder / "result.json").write_text(json.dumps(record, indent=1) + "\n")
    with (folder / "people.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(
            ["row", "member", "field", "attack", "truth", "guess", "belief", "gain"]
        )
        for field in report.fields:
            writer.writerows(_people(field, report.members))
    page = folder / "report.html"
    page.write_text(_page(report))
    return page


def _people(field: "FieldReport", members: int) -> list[list[Any]]:
    lines = []
    best = field.best
    for place, (row, truth) in enumerate(zip(field.people, field.truth, strict=True)):
        member = place < members
        side = best.members if member else best.others
        at = place if member else place - members
        lines.append(
            [
                int(row),
                int(member),
                field.field,
                best.name,
                field.values[truth],
                field.values[side.guess[at]],
                f"{side.belief[at]:.6g}",
                int(side.gain[at]),
            ]
        )
    return lines


def record_of(report: "Report") -> dict[str, Any]:
    """Every number of a report, for JSON.

    `records` holds lines of `metric`, `labels` and `value`, with an interval (`low`,
    `high`, `n`) where there is one. The labels are `field`, `of` (members or others)
    and `attack`, which is `baseline` and `imputation` (without the outcome) of what
    needs no model; advantage and gain_difference are of members less others.
    `verdicts` holds, by field, the sentence and what goes with it.
    """
    records: list[dict[str, Any]] = []
    verdict: dict[str, Any] = {}
    for field in report.fields:
        name = field.field
        verdict[name] = {
            "sentence": field.verdict,
            "leaks": field.leaks,
            "baseline": field.baseline,
            "moves": field.moves,
            "asked_accuracy": field.asked_accuracy,
            "warnings": field.warnings,
            "groups": [[group, who, _line(line)] for group, who, line in field.groups],
            "what_if": [_what_if(each) for each in field.what_if],
        }
        for who, line, blind in zip(
            ("members", "others"),
            field.baseline_accuracy,
            field.uninformed_accuracy,
            strict=True,
        ):
            labels = {"field": name, "of": who}
            records += [
                _record("attribute_accuracy", line, labels | {"attack": "baseline"}),
                _record("attribute_accuracy", blind, labels | {"attack": "imputation"}),
            ]
        for attack in field.attacks:
            labels = {"field": name, "attack": attack.name}
            records += [
                _record("advantage", attack.advantage, labels),
                _record("gain_difference", attack.memory, labels),
            ]
            for who, side in (("members", attack.members), ("others", attack.others)):
                for metric, number in (
                    ("attribute_accuracy", side.accuracy),
                    ("attribute_gain", side.mean_gain),
                    ("attribute_gmean", side.g_mean),
                    ("attribute_mcc", side.mcc),
                    ("precision_at_100", side.precision_at_100),
                ):
                    records.append(_record(metric, number, labels | {"of": who}))
    return {
        "model": report.model,
        "target": report.target,
        report.metric.replace(" ", "_"): report.accuracy,
        "notes": report.notes,
        "verdicts": verdict,
        "records": records,
    }


def _record(
    metric: str, number: Interval | float, labels: Mapping[str, str]
) -> dict[str, Any]:
    line = _line(number) if isinstance(number, Interval) else {"value": number}
    return {"metric": metric, "labels": dict(labels), **line}


def _what_if(each: "WhatIf") -> dict[str, Any]:
    inside, outside = each.attack.members, each.attack.others
    return {
        "release": each.release,
        "accuracy": each.accuracy,
        "named": [_line(inside.accuracy), _line(outside.accuracy)],
        "gain": [_line(inside.mean_gain), _line(outside.mean_gain)],
    }


def _line(line: Interval) -> dict[str, Any]:
    return line._asdict()


def _page(report: "Report") -> str:
    title = f"What the model gives away of {', '.join(f.field for f in report.fields)}"
    inside, outside = report.accuracy
    parts = [
        f"<h1>{_text(title)}</h1>",
        *(f'<p class="verdict">{_text(said)}</p>' for said in report.verdicts),
        f"<p>{_text(report.model)} predicts {_text(report.target)}. Its "
        f"{report.metric} on unaltered rows is {inside:.3f} of {report.members:,} "
        f"members and {outside:.3f} of {report.others:,} others.</p>",
        *(f"<p>{_text(note)}</p>" for note in report.notes),
    ]
    for field in report.fields:
        parts += _field(field)
    parts.append(
        "<details><summary>How to read this</summary><p>A gain is how many more "
        "people of a hundred, as a share, an attack names than the baseline: the "
        "imputation named with each field, which knows all other fields and not the "
        "model. More of members than of others is memory of the training data; both "
        "alike is what the model learned of everybody. Intervals are 95 % of all "
        "attacks together (Bonferroni). Members are imputed out of fold, others by an "
        "imputation of all members.</p></details>"
    )
    body = "\n".join(parts)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{_text(title)}</title><style>{_STYLE}</style></head>\n"
        f"<body>\n{body}\n</body></html>\n"
    )


def _field(field: "FieldReport") -> list[str]:
    best = field.best
    inside, outside = field.baseline_accuracy
    attacks = [
        [
            attack.name,
            who,
            f"{side.accuracy.value:.3f}",
            verdicts.signed(side.mean_gain),
            f"{side.g_mean:.3f}",
            f"{side.mcc:.3f}",
            f"{side.precision_at_100:.3f}",
        ]
        for attack in field.attacks
        for who, side in (("members", attack.members), ("others", attack.others))
    ]
    head = "attack", "of", "accuracy", "gain", "G-mean", "MCC", "precision at 100"
    memory = [
        [a.name, verdicts.signed(a.memory), verdicts.signed(a.advantage)]
        for a in field.attacks
    ]
    groups = [
        [g, who, str(line.n), verdicts.signed(line)] for g, who, line in field.groups
    ]
    return [
        f"<h2>{_text(field.field)}</h2>",
        _chart(field),
        f"<p>The best attack is {_text(best.name)}, of an adversary "
        f"{releases.who_knows(best.name)}. Baseline: {_text(field.baseline)}, right "
        f"for {inside.value:.3f} of members and {outside.value:.3f} of others. The "
        f"model's score as asked: {field.asked_accuracy[0]:.3f} of members, "
        f"{field.asked_accuracy[1]:.3f} of others; its answers move with the field for "
        f"{field.moves:.3f} of people.</p>",
        *(f"<p><strong>{_text(said)}</strong></p>" for said in field.warnings),
        "<details><summary>What if the model released something else</summary>",
        _table(_WHAT_IF, [_released(each) for each in field.what_if]),
        "</details><details><summary>All attacks</summary>",
        _table(head, attacks),
        _table(("attack", "members' gain less others'", "same of accuracy"), memory),
        "</details><details><summary>Groups</summary>",
        _table(["group", "of", "people", f"gain of {best.name}"], groups),
        "</details>",
    ]


def _released(each: "WhatIf") -> list[str]:
    inside, outside = each.attack.members, each.attack.others
    return [
        releases.released(each.release),
        *(f"{accuracy:.3f}" for accuracy in each.accuracy),
        f"{inside.accuracy.value:.3f}",
        f"{outside.accuracy.value:.3f}",
        verdicts.signed(inside.mean_gain),
        verdicts.signed(outside.mean_gain),
    ]


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    def row(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{_text(c)}</{tag}>" for c in cells) + "</tr>"

    body = "\n".join(row(line, "td") for line in lines)
    return f'<div class="scroll"><table>{row(head, "th")}\n{body}</table></div>'


def _chart(field: "FieldReport") -> str:
    """Gains of the best attack, members and others side by side, as SVG."""
    best = field.best
    lines = ("members", best.members.mean_gain), ("others", best.others.mean_gain)
    reach = max(0.05, *(abs(v) for _, line in lines for v in line[:3]))
    center, unit = 340, 200 / reach

    def x(value: float) -> str:
        return f"{center + unit * value:.0f}"

    parts = [
        '<svg viewBox="0 0 680 110" role="img" '
        f'aria-label="gain of {_text(best.name)}, members and others">',
        f'<line x1="{center}" y1="8" x2="{center}" y2="84" stroke="#888"/>',
    ]
    for place, (who, line) in enumerate(lines):
        y = 14 + 36 * place
        left, right = sorted((center, center + unit * line.value))
        color = "#b5483a" if place == 0 else "#4a6fa5"
        parts += [
            f'<text x="8" y="{y + 18}" font-size="15">{who}</text>',
            f'<rect x="{left:.0f}" y="{y}" width="{right - left:.0f}" height="26" '
            f'fill="{color}"/>',
            f'<line x1="{x(line.low)}" y1="{y + 13}" x2="{x(line.high)}" '
            f'y2="{y + 13}" stroke="#222" stroke-width="2"/>',
            f'<text x="672" y="{y + 18}" font-size="15" text-anchor="end">'
            f"{line.value:+.3f}</text>",
        ]
    parts.append(
        f'<text x="{center}" y="104" font-size="13" text-anchor="middle">gain of '
        f"{_text(best.name)} over the baseline</text></svg>"
    )
    return "".join(parts)


def _text(said: str) -> str:
    return html.escape(str(said))
