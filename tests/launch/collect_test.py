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


def write(folder, metrics, **flags):
    folder.mkdir(parents=True)
    result = {
        "experiment": "planted",
        "flags": flags | {"workdir": str(folder)},
        "commit": "abc",
        "device": "1 x cpu",
        "seconds": {"compile": 1.0, "run": 2.0},
        "metrics": metrics,
    }
    (folder / "result.json").write_text(json.dumps(result))


@pytest.fixture
def workdir(tmp_path):
    for defense, lost in (("none", 0.0), ("noise", 0.2)):
        for seed in range(3):
            leakage = 0.5 - lost + 0.1 * seed
            metrics = {
                "target_test_accuracy": {"value": 0.9 - lost, "n": 10},
                "top1/a": {"value": leakage, "n": 10, "leakage": leakage},
                "top1/b": {"value": 0.1, "n": 10, "leakage": 0.0},
                "psnr/a": {"value": 20.0},
            }
            write(
                tmp_path / f"{defense}{seed}",
                metrics,
                seed=seed,
                defense=defense,
                steps=5,
                losses=["x"] if seed else None,
            )
    return tmp_path


def test_the_utility_is_that_of_the_attacked_target(tmp_path):
    metrics = {
        f"target_test_accuracy/{n}": {"value": v} for n, v in [("a", 0.9), ("ab", 0.5)]
    }
    leaking = {"value": 0.3, "leakage": 0.2, "leakage_low": 0.1, "leakage_high": 0.4}
    metrics |= {"psnr/a-naive": leaking, "psnr/ab-naive": leaking, "psnr/c": leaking}
    write(tmp_path / "run", metrics, seed=0)
    table, _ = collect.rows(tmp_path)
    leaks = {
        row["metric"]: row for row in collect.leakage(table, "target_test_accuracy")
    }
    found = {metric: row["utility"] for metric, row in leaks.items()}
    assert found == {"psnr/a-naive": 0.9, "psnr/ab-naive": 0.5, "psnr/c": None}
    assert leaks["psnr/c"]["leakage_low"] == 0.1


def test_a_row_a_metric_with_the_flags_that_differ(workdir):
    table, problems = collect.rows(workdir)
    assert problems == [] and len(table) == 6 * 4
    row = next(r for r in table if r["run"] == "noise2" and r["metric"] == "top1/a")
    assert (row["seed"], row["defense"], row["commit"]) == (2, "noise", "abc")
    assert (row["compile"], row["run_seconds"], row["n"]) == (1.0, 2.0, 10)
    assert "steps" not in row and "workdir" not in row


def test_leakage_is_averaged_over_seeds_with_students_interval(workdir):
    table, _ = collect.rows(workdir)
    for row in table:
        del row["losses"]  # It differs by seed here, which would part the seeds.
    rows = collect.leakage(table, "target_test_accuracy")
    assert [(r["metric"], r["setting"], r["seeds"]) for r in rows] == [
        ("top1/a", "defense=noise", 3),
        ("top1/b", "defense=noise", 3),
        ("top1/a", "defense=none", 3),
        ("top1/b", "defense=none", 3),
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
    assert "5 results of 20 metrics" in ended.stdout
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
