"""One table of many results: joined, averaged over seeds, drawn; damage is named."""

import csv
import json
import pathlib
import subprocess
import sys

import numpy as np
import pyarrow.parquet
import pytest

from launch import collect

ROOT = pathlib.Path(__file__).parents[2]


def record(metric, value, leakage=None, **labels):
    numbers = {"value": value, "n": 10, "leakage": leakage}
    return {"labels": labels, "metric": metric, **numbers}


def write(folder, records, **flags):
    folder.mkdir(parents=True)
    result = {
        "experiment": "planted",
        "flags": flags | {"workdir": str(folder)},
        "commit": "abc",
        "device": "1 x cpu",
        "seconds": {"compile": 1.0, "run": 2.0},
        "records": records,
    }
    (folder / "result.json").write_text(json.dumps(result))


@pytest.fixture
def workdir(tmp_path):
    for defense, lost in (("none", 0.0), ("noise", 0.2)):
        for seed in range(3):
            leakage = 0.5 - lost + 0.1 * seed
            records = [
                record("target_test_accuracy", 0.9 - lost),
                record("top1", leakage, leakage, images="a"),
                record("top1", 0.1, 0.0, images="b"),
                record("psnr", 20.0, images="a"),
            ]
            write(
                tmp_path / f"{defense}{seed}",
                records,
                seed=seed,
                defense=defense,
                steps=5,
                losses=["x"] if seed else None,
            )
    return tmp_path


def test_the_utility_is_that_of_the_attacked_target(tmp_path):
    known = {"target": "deep", "adversary": "naive"}
    records = [
        record("target_test_accuracy", 0.9, target="deep"),
        record("target_test_accuracy", 0.7, target="deep", adversary="naive"),
        record("target_test_accuracy", 0.5, target="flat"),
        record("psnr", 0.3, 0.2, images="a", **known) | {"leakage_low": 0.1},
        record("psnr", 0.3, 0.2, images="a", target="flat"),
        record("psnr", 0.3, 0.2, images="b"),
    ]
    write(tmp_path / "run", records, seed=0)
    table, _ = collect.rows(tmp_path)
    leaks = collect.leakage(table, "target_test_accuracy")
    found = {row["of"]: row["utility"] for row in leaks}
    assert found == {"deep, naive, a": 0.7, "flat, a": 0.5, "b": None}
    assert leaks[0]["leakage_low"] == 0.1


def test_a_row_a_record_with_the_flags_that_differ(workdir):
    table, problems = collect.rows(workdir)
    assert problems == [] and len(table) == 6 * 4
    row = next(r for r in table if r["run"] == "noise2" and r["of.images"] == "a")
    assert (row["seed"], row["defense"], row["commit"]) == (2, "noise", "abc")
    assert (row["compile"], row["run_seconds"], row["n"]) == (1.0, 2.0, 10)
    assert "steps" not in row and "workdir" not in row


def test_leakage_is_averaged_over_seeds_with_students_interval(workdir):
    table, _ = collect.rows(workdir)
    for row in table:
        del row["losses"]  # It differs by seed here, which would part the seeds.
    rows = collect.leakage(table, "target_test_accuracy")
    assert [(r["of"], r["setting"], r["seeds"]) for r in rows] == [
        ("a", "defense=noise", 3),
        ("b", "defense=noise", 3),
        ("a", "defense=none", 3),
        ("b", "defense=none", 3),
    ]
    half = 4.302653 * 0.1 / np.sqrt(3)  # t of 2 degrees of freedom at 0.975
    assert rows[0]["leakage"] == pytest.approx(0.4)
    assert rows[0]["leakage_low"] == pytest.approx(0.4 - half, abs=1e-6)
    assert rows[0]["utility"] == pytest.approx(0.7)
    single = collect.leakage([r for r in table if r["seed"] == 0], "accuracy")
    assert single[0]["leakage_low"] is None and single[0]["utility"] is None


@pytest.mark.process
def test_the_command_writes_both_tables_and_the_figure(workdir):
    (workdir / "none0" / "result.json").write_text('{"flags": ')
    command = [sys.executable, "-m", "launch.collect", f"--workdir={workdir}"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert "left out: " in ended.stderr and "none0/result.json" in ended.stderr
    assert "5 results of 20 records" in ended.stdout
    with (workdir / "table.csv").open() as file:
        lines = list(csv.DictReader(file))
    table = pyarrow.parquet.read_table(workdir / "table.parquet")
    assert len(lines) == table.num_rows == 20
    assert table.column("value").to_pylist() == [float(r["value"]) for r in lines]
    assert table.schema.field("losses").type == "string"
    assert (workdir / "figures" / "tradeoff-top1.png").stat().st_size > 1000
    assert (workdir / "leakage.csv").is_file()


def test_a_folder_without_results_is_refused_by_name(tmp_path):
    (tmp_path / "result.json").write_text("[]")
    with pytest.raises(ValueError, match=r"holds no result\.json to be read") as error:
        collect.rows(tmp_path)
    assert f"{tmp_path / 'result.json'} is not a result" in str(error.value)
