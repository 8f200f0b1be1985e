"""A sweep over an experiment that only writes down its flags."""

import csv
import json
import pathlib
import subprocess
import sys

import pytest

from launch import collect, sweep

EXPERIMENT = """
import json, pathlib, sys
flags = dict(word[2:].split("=", 1) for word in sys.argv[1:])
if flags["seed"] == "13":
    sys.exit("thirteen is refused")
metrics = {"top1": {"value": int(flags["seed"]) / 4, "low": None, "n": 4}}
result = {"experiment": "fake", "flags": flags, "metrics": metrics}
pathlib.Path(flags["workdir"], "result.json").write_text(json.dumps(result))
"""


@pytest.fixture
def fake(tmp_path, monkeypatch):
    (tmp_path / "fake_experiment.py").write_text(EXPERIMENT)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return "fake_experiment"


def test_a_product_has_every_combination_once_in_order():
    elements = sweep.product(["seed=0,1", "--loss=a,b", "steps=5"])
    assert [tuple(e.values()) for e in elements] == [
        ("0", "a", "5"),
        ("0", "b", "5"),
        ("1", "a", "5"),
        ("1", "b", "5"),
    ]
    assert sweep.product([]) == [{}]


@pytest.mark.parametrize("axis", ["seed", "=1", "seed=", "seed=1,,2", "workdir=x"])
def test_what_is_no_axis_is_refused(axis):
    with pytest.raises(ValueError, match=axis):
        sweep.product([axis])


def test_an_axis_may_not_be_given_twice():
    with pytest.raises(ValueError, match="twice"):
        sweep.product(["seed=0", "seed=1"])


def test_folders_tell_elements_apart_and_forget_the_order_of_flags():
    home = pathlib.Path("home")
    elements = [{"a": "x/y"}, {"a": "x%2Fy"}, {"a": "b" * 300}, {"a": "b" * 301}]
    folders = {sweep.folder(home, element) for element in elements}
    assert len(folders) == len(elements)
    assert all(f.parent == home and len(f.name) <= 200 for f in folders)
    assert sweep.folder(home, {"a": "1", "b": "2"}) == sweep.folder(
        home, {"b": "2", "a": "1"}
    )


def test_a_sweep_runs_here_resumes_and_outlives_a_failure(fake, tmp_path, capsys):
    elements = sweep.product(["seed=1,13,2"])
    failed = sweep.run_here(fake, elements, tmp_path, jobs=2)
    assert failed == [sweep.folder(tmp_path, {"seed": "13"})]
    assert "thirteen is refused" in (failed[0] / "log.txt").read_text()
    kept = sweep.folder(tmp_path, {"seed": "1"}) / "result.json"
    before = kept.stat().st_mtime_ns
    capsys.readouterr()
    assert sweep.run_here(fake, elements, tmp_path, jobs=1) == failed
    assert kept.stat().st_mtime_ns == before
    assert capsys.readouterr().out.count("finished before") == 2


def test_a_task_of_the_slurm_script_runs_its_own_element(fake, tmp_path):
    elements = sweep.product(["seed=1,2,3"])
    sweep.run_here(fake, elements[:1], tmp_path, jobs=1)
    options = ["gpus=1", "time=01:00:00"]
    script = sweep.slurm_script(fake, elements, tmp_path, options)
    header = [line for line in script.splitlines() if line.startswith("#SBATCH")]
    assert header[0] == "#SBATCH --array=1,2"
    assert header[2:] == ["#SBATCH --gpus=1", "#SBATCH --time=01:00:00"]
    path = sweep.folder(tmp_path, {"seed": "3"})
    path.mkdir()
    task = {"SLURM_ARRAY_TASK_ID": "2", "PYTHONPATH": str(tmp_path)}
    subprocess.run(["bash"], input=script, text=True, env=task, check=True)
    assert sweep.is_finished(path)
    assert not sweep.is_finished(sweep.folder(tmp_path, {"seed": "2"}))


def test_a_finished_sweep_makes_no_script(fake, tmp_path):
    elements = sweep.product(["seed=1"])
    sweep.run_here(fake, elements, tmp_path, jobs=1)
    with pytest.raises(ValueError, match="All 1 elements"):
        sweep.slurm_script(fake, elements, tmp_path)


def test_the_table_holds_each_metric_and_the_flags_that_differ(tmp_path):
    for seed in (0, 1):
        flags = {"seed": seed, "steps": 5, "workdir": f"w{seed}"}
        metrics = {"top1": {"value": seed / 3, "n": 6}, "psnr": {"value": 20.0}}
        folder = tmp_path / f"seed{seed}"
        folder.mkdir()
        result = {"experiment": "fake", "flags": flags, "metrics": metrics}
        (folder / "result.json").write_text(json.dumps(result))
    rows = collect.rows(tmp_path)
    assert [(r["seed"], r["metric"], r["value"]) for r in rows] == [
        (0, "top1", 0.0),
        (0, "psnr", 20.0),
        (1, "top1", 1 / 3),
        (1, "psnr", 20.0),
    ]
    assert "steps" not in rows[0] and "workdir" not in rows[0]
    assert "0.3333" in collect.text(rows)

    command = [sys.executable, "-m", "launch.collect", f"--workdir={tmp_path}"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True)
    assert printed.stdout.strip() == collect.text(rows)
    with (tmp_path / "table.csv").open() as file:
        assert [row["metric"] for row in csv.DictReader(file)] == ["top1", "psnr"] * 2


def test_what_is_no_result_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"holds no result\.json"):
        collect.rows(tmp_path)
    (tmp_path / "result.json").write_text('{"flags": ')
    with pytest.raises(ValueError, match=r"result\.json is not a result"):
        collect.rows(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--experiment=nothing"], "there is no experiments.nothing"),
        (["--experiment=report", "seed"], "'seed' is no axis"),
    ],
)
def test_mistakes_on_the_command_line_end_in_one_line(tmp_path, arguments, message):
    words = [sys.executable, "-m", "launch.sweep", f"--workdir={tmp_path}", *arguments]
    ended = subprocess.run(words, capture_output=True, text=True)
    assert ended.returncode == 1
    assert ended.stderr.startswith("error: ") and message in ended.stderr
