"""Records keep what they are of, and pivots lose nothing."""

import json
import subprocess
import sys

import numpy as np
import pytest

from experiments import catalog
from experiments.harness import report, results, stages
from experiments.harness.results import Metric, Record, Results

RECORDS = [
    Record({"images": images, "judge": judge}, metric, Metric(float(number)))
    for number, (images, judge, metric) in enumerate(
        [
            ("gmi", "evaluator", "top1"),
            ("gmi", "pixels", "identity_1nn"),
            ("noise", "evaluator", "top1"),
            ("noise", "pixels", "identity_1nn"),
        ]
    )
] + [Record({}, "target_test_accuracy", Metric(0.75, n=4))]


def test_a_pivot_holds_every_record_at_its_place():
    table = Results(RECORDS[:4]).pivot(rows=("images",), columns=("judge", "metric"))
    assert table.rows == [("gmi",), ("noise",)]
    assert table.columns == [("evaluator", "top1"), ("pixels", "identity_1nn")]
    values = [[cell.value for cell in row if cell] for row in table.cells]
    assert values == [[0, 1], [2, 3]]


def test_a_pivot_leaves_what_was_not_measured_empty():
    table = Results(RECORDS[:3]).pivot(rows=("images",), columns=("metric",))
    assert table.cells[1][1] is None
    assert Results().pivot(rows=("images",), columns=("metric",)).cells == []


def test_a_pivot_of_too_few_labels_raises():
    with pytest.raises(ValueError, match="Two records fall into row"):
        Results(RECORDS).pivot(rows=("judge",), columns=("metric",))


def test_filter_takes_labels_metric_and_absence():
    whole = Results(RECORDS)
    assert [r.value.value for r in whole.filter(images="noise", metric="top1")] == [2]
    assert len(whole.filter(images=("gmi", "noise"))) == 4
    assert [r.metric for r in whole.filter(judge="")] == ["target_test_accuracy"]
    assert whole.value("top1", images="gmi").value == 0
    with pytest.raises(ValueError, match="2 records of top1"):
        whole.value("top1")


def test_json_there_and_back():
    entries = json.loads(json.dumps(Results(RECORDS).to_json()))
    assert entries[4] == {
        "labels": {},
        "metric": "target_test_accuracy",
        "value": 0.75,
        "low": None,
        "high": None,
        "n": 4,
        "baseline": None,
        "leakage": None,
        "paper": None,
        "leakage_low": None,
        "leakage_high": None,
    }
    assert list(results.from_json(entries)) == RECORDS


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (Record({}, "top1/gmi", Metric(0.5)), "no metric's name"),
        (Record({"images": ""}, "top1", Metric(0.5)), "none may be empty"),
        (Record({"metric": "top1"}, "top1", Metric(0.5)), "named metric"),
        (Record({}, "top1", Metric(0.5, baseline=np.nan)), "baseline of top1"),
        (RECORDS[0], "two records of top1"),
    ],
)
def test_a_wrong_record_raises(record, words):
    with pytest.raises(ValueError, match=words):
        Results([*RECORDS, record])


def test_the_page_opens_with_verdict_and_picture(tmp_path):
    (tmp_path / "lead.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + bytes(8) + b"\0\0\0\1" * 2
    )
    lost = Record({"images": "x"}, "top5", report.metric([1, np.nan], failure=0.0))
    whole = Results([*RECORDS, lost])
    path = report.publish(
        tmp_path,
        report.Page(
            title="Faces",
            verdict="Half of <them> are known. None is without the target.",
            lead=report.Picture(tmp_path / "lead.png", "The first."),
            caption="Methods",
            table=Results(RECORDS[:4]).pivot(rows=("images",), columns=("metric",)),
            attacked="A classifier.",
            knowledge="White box.",
            baseline="chance",
            n=4,
            results=whole,
            differences=["Ours is gray."],
        ),
        experiment="paper",
        flags={"seed": 0},
        seconds={"compile": 1.0, "run": 2.0},
        command="python -m experiments paper",
    )
    page = path.read_text()
    order = ["Half of &lt;them&gt;", "<img", "Methods", "Who was attacked", "<details>"]
    places = [page.index(text) for text in order]
    assert places == sorted(places)
    assert "top5 of x: 1 of 2 attempts" in page and "Ours is gray." in page
    for tag in ("section", "table", "tr", "td", "th", "dl", "details", "div"):
        assert page.count(f"<{tag}>") + page.count(f"<{tag} ") == page.count(
            f"</{tag}>"
        )
    result = json.loads((tmp_path / "result.json").read_text())
    assert "metrics" not in result
    assert results.from_json(result["records"]).value("top1", images="noise").value == 2


@pytest.mark.process
def test_a_second_run_in_a_workdir_gets_one_line(tmp_path):
    program = (
        "import pathlib, sys; from experiments.harness import stages; "
        f"stages.claim(pathlib.Path({str(tmp_path)!r}), {{}}, True); "
        "print('claimed', flush=True); sys.stdin.read()"
    )
    first = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert first.stdout and first.stdout.readline() == "claimed\n"
    with pytest.raises(ValueError, match=r"Another run works in .*another --workdir"):
        stages.claim(tmp_path, {}, True)
    first.kill()
    first.communicate()
    stages.claim(tmp_path, {}, True)
    stages.claim(tmp_path, {}, True)  # The same process may look again.


def test_the_catalog_finds_papers_and_packages():
    known = catalog.entries()
    assert known["zhang2020_gmi"].module == "experiments.inversion.zhang2020_gmi"
    assert known["mehnaz2022"].module == "experiments.attributes.mehnaz2022"
    assert not {"harness", "studies", "catalog", "run"} & set(known)
    assert catalog.module_of("package.module") == "package.module"
    with pytest.raises(ValueError, match="There is no experiment 'gmi_'"):
        catalog.module_of("gmi_")
    assert "zhang2020_gmi: GMI: recovers faces" in catalog.listing()
