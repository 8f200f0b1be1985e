"""Whatever is wrong, the user reads one line: what it is, and what to do."""

import csv
import re
import textwrap

import joblib
import numpy as np
import pytest
from sklearn.tree import DecisionTreeClassifier

from mijax import audit
from mijax.audit import __main__, models

ROWS = 80
FOREIGN = (
    r"Traceback|sklearn|numpy|pandas\.\w|dtype|ndarray|n_splits|got one|reshape|"
    r"inhomogeneous|Unpickling"
)
REMEDY = (
    r"(?i)\b(give|name|add|drop|leave|choose|rename|mend|fix|install|must|group|cut|"
    r"delete|hide|save|none of|reads)\b"
)
MINE = """
import sys
import numpy as np

def table():
    random = np.random.default_rng(0)
    return {
        "age": random.integers(18, 90, 80),
        "sex": random.choice(["f", "m"], 80),
        "smokes": random.choice(["no", "yes"], 80),
        "risk": random.choice(["high", "low"], 80),
        "trained": np.repeat([1, 0], 40),
    }

def predict(rows):
    return np.where(rows["smokes"] == "yes", 0.7, 0.2)

calls = []
def size(rows): return len(rows["age"])
def raises(rows): raise RuntimeError("out of quota")
def leaves(rows): sys.exit("bye")
def short(rows): return ["high"]
def none(rows): return None
def scalar(rows): return 1.0
def text(rows): return "high"
def dictionary(rows): return {"high": 1}
def cube(rows): return np.ones((size(rows), 2, 2))
def three(rows): return np.full((size(rows), 3), 1 / 3)
def empty(rows): return np.ones((size(rows), 0))
def nan(rows): return np.full((size(rows), 2), np.nan)
def infinite(rows): return np.full((size(rows), 2), np.inf)
def nan_numbers(rows): return np.full(size(rows), np.nan)
def strange(rows): return ["middling"] * size(rows)
def logits(rows): return np.tile([[-3.0, 4.0]], (size(rows), 1))
def negative(rows): return np.tile([[-0.5, 1.5]], (size(rows), 1))
def beyond(rows): return np.full(size(rows), 1.5)
def words(rows): return np.full((size(rows), 2), "a")
def objects(rows): return [object()] * size(rows)
def complexes(rows): return np.full(size(rows), 1j)
def numbers_of_classes(rows): return np.arange(size(rows))
def ragged(rows): return [[1], [1, 2]] * (size(rows) // 2)
def coin(rows): return np.random.uniform(size=size(rows))
def key(rows): return rows["dose"]
def pairs(rows): return np.ones((size(rows), 2))
def once(rows):
    calls.append(1)
    return ["high"] * size(rows) if len(calls) == 1 else np.ones((size(rows), 2))
neither = 3

def no_table(): return None
def a_list(): return [1, 2]
def unequal(): return {"a": [1, 2], "b": [1]}
def nothing(): return {}
def deep(): return {"a": np.ones((3, 2))}
def broken(): raise FileNotFoundError("answers.db")
def needs(path): return path
def no_rows(): return {"a": []}

class Unreadable:
    def __array__(self, *how, **options): raise RuntimeError("detach me first")
def unreadable(rows): return Unreadable()

def neurons(rows): return np.ones((size(rows), 3))
def neurons_raise(rows): raise RuntimeError("no hook")
def neurons_short(rows): return np.ones((2, 3))
def neurons_nan(rows): return np.full((size(rows), 3), np.nan)
def neurons_text(rows): return ["a"] * size(rows)
"""


def people():
    random = np.random.default_rng(0)
    return {
        "age": random.permutation(ROWS) + 18,
        "sex": random.choice(["f", "m"], ROWS),
        "height": random.integers(150, 160, ROWS),
        "smokes": random.choice(["no", "yes"], ROWS),
        "risk": random.choice(["high", "low"], ROWS),
        "trained": np.repeat([1, 0], ROWS // 2),
    }


def write(path, frame):
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(frame)
        writer.writerows(zip(*frame.values(), strict=True))


def changed(column, values):
    return people() | {column: np.array(values(ROWS), object)}


FILES = {
    "same_field.csv": changed("smokes", lambda n: ["yes"] * n),
    "same_in_members.csv": changed(
        "smokes", lambda n: ["yes"] * (n // 2) + ["no"] * (n // 2)
    ),
    "many_values.csv": changed("smokes", lambda n: [f"t{i}" for i in range(n)]),
    "same_target.csv": changed("risk", lambda n: ["high"] * n),
    "many_targets.csv": changed("risk", lambda n: [f"t{i}" for i in range(n)]),
    "no_target.csv": changed("risk", lambda n: [""] * n),
    "infinite_target.csv": changed("risk", lambda n: ["inf", *range(1, n)]),
    "number_target.csv": changed("risk", lambda n: [i * 1.5 for i in range(n)]),
    "ids.csv": changed("height", lambda n: [f"id{i:04d}" for i in range(n)]),
    "infinite.csv": changed("height", lambda n: ["inf", *(i / 7 for i in range(1, n))]),
    "empty_column.csv": changed("height", lambda n: [""] * n),
    "missing_age.csv": changed("age", lambda n: ["", *range(1, n)]),
    "all_members.csv": changed("trained", lambda n: [1] * n),
    "no_members.csv": changed("trained", lambda n: [0] * n),
    "few_members.csv": changed("trained", lambda n: [1] * 7 + [0] * (n - 7)),
    "few_others.csv": changed("trained", lambda n: [0] * 7 + [1] * (n - 7)),
    "twos.csv": changed("trained", lambda n: [2, *([1, 0] * n)][:n]),
    "no_membership.csv": changed("trained", lambda n: ["", *([1, 0] * n)][:n]),
    "maybe.csv": changed("trained", lambda n: ["maybe", *(["yes", "no"] * n)][:n]),
    "three_rows.csv": {name: values[39:42] for name, values in people().items()},
    "ten_rows.csv": {name: values[35:45] for name, values in people().items()},
}
TEXTS = {
    "header.csv": b"age,sex,smokes,risk,trained\n",
    "nothing.csv": b"",
    "blank.csv": b"\n\n\n",
    "ragged.csv": b"age,sex\n1,f\n2\n",
    "longer.csv": b"age,sex\n1,f\n2,m,3\n",
    "twice.csv": b"age,age\n1,2\n3,4\n",
    "latin.csv": "age,name\n1,Zoë\n".encode("latin-1"),
    "binary.csv": bytes(range(256)),
    "nul.csv": b"age,sex\n1,\x00\n",
    "one_column.csv": b"age\n1\n2\n",
    "broken.joblib": b"no pickle",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bad")
    write(folder / "people.csv", people())
    for name, frame in FILES.items():
        write(folder / name, frame)
    for name, content in TEXTS.items():
        (folder / name).write_bytes(content)
    (folder / "bad_mine.py").write_text(textwrap.dedent(MINE))
    (folder / "bad_syntax.py").write_text("def predict(:\n")
    (folder / "bad_import.py").write_text("import nowhere_to_be_found\n")
    (folder / "bad_exit.py").write_text("raise SystemExit(3)\n")
    joblib.dump([1, 2], folder / "list.joblib")
    joblib.dump(DecisionTreeClassifier(), folder / "unfitted.joblib")
    tree = DecisionTreeClassifier().fit(people()["age"][:, None], people()["risk"])
    joblib.dump(tree, folder / "narrow.joblib")
    (folder / "file").write_text("in the way")
    (folder / "kept").mkdir()
    (folder / "kept" / "answers").write_text("no answers")
    (folder / "taken" / "answers").mkdir(parents=True)
    return folder


def data(file, *flags):
    return ({"data": file}, *flags)


def model(function, **more):
    return {"model": f"bad_mine:{function}", **more}


WITHOUT = object()
EDGES = ",".join(map(str, range(60)))
CASES = [
    # Flags that are missing, or unknown.
    *(
        ({flag: WITHOUT}, f"--{flag}")
        for flag in ("data", "sensitive", "target", "members", "model")
    ),
    ({"sensitiv": "age"}, "--sensitiv=age"),
    ({"fast": "1"}, "--fast=1"),
    # Options of the reader.
    ({"read_options": "sep"}, "'sep'"),
    ({"read_options": "[1]"}, r"'\[1\]'"),
    ({"read_options": "3"}, "'3'"),
    ({"read_options": '{"nope": 1}'}, "read_options"),
    # Columns that are not there.
    *(
        ({flag: "nope"}, f"--{flag} names no column 'nope'")
        for flag in (
            "sensitive",
            "target",
            "members",
            "hidden",
            "without",
            "numeric",
            "categorical",
            "groups",
        )
    ),
    ({"sensitive": "smokes,nope"}, "'nope'"),
    ({"sensitive": "Smokes"}, "'Smokes'"),
    ({"sensitive": ""}, "--sensitive"),
    ({"sensitive": ","}, "--sensitive"),
    # Bins.
    ({"bins": "age"}, "'age'"),
    ({"bins": "age:"}, "'age:'"),
    ({"bins": "age:x"}, "'age:x'"),
    ({"bins": "age:1,x"}, "'age:1,x'"),
    ({"sensitive": "age", "bins": "age:30,20"}, "--bins=age:30,20"),
    ({"sensitive": "age", "bins": "age:30,30"}, "--bins=age:30,30"),
    ({"sensitive": "age", "bins": "age:nan"}, "--bins=age:nan"),
    ({"sensitive": "age", "bins": "age:inf"}, "--bins=age:inf"),
    ({"sensitive": "age", "bins": f"age:{EDGES}"}, "--bins=age: 60 edges"),
    ({"sensitive": "age", "bins": "age:500"}, r"\[-inf, 500\)"),
    ({"bins": "age:3"}, "--bins=age is neither"),
    ({"bins": "nope:3"}, "'nope'"),
    ({"sensitive": "sex", "bins": "sex:3"}, "--bins=sex"),
    (
        {"data": "missing_age.csv", "sensitive": "age", "bins": "age:30"},
        "--bins=age: the column holds missing",
    ),
    # Tolerances.
    ({"tolerance": "age"}, "'age'"),
    ({"tolerance": "age:x"}, "'age:x'"),
    *(
        (
            {"sensitive": "age", "tolerance": f"age:{number}"},
            f"--tolerance=age:{number}",
        )
        for number in ("0", "-1", "nan", "inf", "0.001")
    ),
    ({"sensitive": "sex", "tolerance": "sex:1"}, "--tolerance=sex"),
    ({"tolerance": "nope:1"}, "'nope'"),
    ({"tolerance": "height:1"}, "--tolerance=height is neither"),
    (
        {"sensitive": "age", "tolerance": "age:5", "bins": "age:30"},
        "--bins=age and --tolerance=age",
    ),
    ({"hidden": "age", "tolerance": "age:5"}, "--tolerance=age is of a hidden"),
    # Adversaries.
    *(
        ({"knows": name}, f"--knows={name}")
        for name in (
            "scores",
            "score:x",
            "score:12",
            "label:2",
            "noise",
            "noise:-1",
            "noise:x",
            "top:x",
            "everything",
        )
    ),
    ({"knows": ""}, "--knows"),
    ({"data": "number_target.csv", "knows": "label"}, "--knows=label is of classes"),
    ({"hidden": "risk"}, "'risk' is hidden"),
    ({"hidden": "smokes"}, "'smokes' is hidden"),
    ({"hidden": "trained"}, "--members=trained"),
    ({"hidden": "age"}, "'age' has"),
    (
        {
            "sensitive": "height",
            "hidden": "age,sex",
            "bins": "age:25,30,35,40,45,50,55,60,65,70,75,80",
        },
        "'height' and the hidden age, sex have",
    ),
    # Fields that cannot be.
    ({"sensitive": "age"}, "'age' has .* different values"),
    ({"sensitive": "risk"}, "'risk' is both sensitive"),
    ({"sensitive": "trained"}, "--members=trained"),
    ({"members": "risk"}, "--members=risk"),
    ({"members": "sex"}, "'f'"),
    ({"members": "height"}, "'150'"),
    ({"without": "smokes"}, "'smokes' is sensitive and left out"),
    ({"without": "risk"}, "'risk' is target and left out"),
    ({"without": "sex", "hidden": "sex"}, "'sex' is hidden and left out"),
    ({"numeric": "sex"}, "--numeric=sex"),
    ({"numeric": "age", "categorical": "age"}, "'age' is both"),
    ({"unknown": "guess"}, "--unknown=guess"),
    # Numbers.
    ({"batch": "0"}, "--batch=0"),
    ({"batch": "-1"}, "--batch=-1"),
    ({"batch": "x"}, "'x'"),
    ({"batch": "1.5"}, "'1.5'"),
    ({"seed": "-1"}, "--seed=-1"),
    ({"seed": "x"}, "'x'"),
    ({"workdir": "file"}, "--workdir=file"),
    ({"workdir": "file/run"}, "--workdir=file/run"),
    ({"workdir": "/proc/run"}, "--workdir=/proc/run"),
    # Files.
    ({"data": "none.csv"}, "none.csv"),
    ({"data": "."}, r"no file \."),
    ({"data": ""}, "--data"),
    *(
        ({"data": name}, name)
        for name in TEXTS
        if name.endswith(".csv") and name != "one_column.csv"
    ),
    ({"data": "one_column.csv"}, "'smokes'"),
    # Tables.
    ({"data": "same_field.csv"}, "'smokes' is 'yes' in all"),
    ({"data": "same_in_members.csv"}, "'smokes' is 'yes' in all"),
    ({"data": "many_values.csv"}, "'smokes' has 80 different"),
    ({"data": "same_target.csv"}, "'risk' has one value"),
    ({"data": "many_targets.csv"}, "'risk' has 80 different"),
    ({"data": "no_target.csv"}, "'risk' has one value"),
    ({"data": "infinite_target.csv"}, "'risk' holds infinite"),
    ({"data": "ids.csv"}, "height .80 different"),
    ({"data": "infinite.csv"}, "height .1 infinite"),
    ({"data": "empty_column.csv"}, "height .no value"),
    ({"data": "all_members.csv"}, "'trained'"),
    ({"data": "no_members.csv"}, "'trained'"),
    ({"data": "few_members.csv"}, "7 members and 73 others"),
    ({"data": "few_others.csv"}, "73 members and 7 others"),
    ({"data": "twos.csv"}, "'2'"),
    ({"data": "no_membership.csv"}, "missing"),
    ({"data": "maybe.csv"}, "'maybe'"),
    ({"data": "three_rows.csv"}, "1 members and 2 others"),
    ({"data": "ten_rows.csv"}, "5 members and 5 others"),
    # Loaders.
    *(
        ({"rows": name}, name)
        for name in (
            "bad_nowhere:table",
            "bad_mine:nope",
            "bad_mine:neither",
            "bad_mine:",
            "bad_mine",
            "bad_mine:broken",
            "bad_mine:needs",
        )
    ),
    ({"rows": "bad_mine:no_table"}, "NoneType"),
    ({"rows": "bad_mine:a_list"}, "list"),
    ({"rows": "bad_mine:unequal"}, r"\[1, 2\]"),
    ({"rows": "bad_mine:nothing"}, "no row"),
    ({"rows": "bad_mine:no_rows"}, "no row"),
    ({"rows": "bad_mine:deep"}, "'a' has 2 dimensions"),
    # Models that cannot be loaded.
    *(
        ({"model": name}, name)
        for name in (
            "nothing.joblib",
            "broken.joblib",
            "bad_mine",
            "bad_mine:nope",
            "bad_mine:neither",
            "bad_nowhere:predict",
            "bad_syntax:predict",
            "bad_import:predict",
            "bad_exit:predict",
        )
    ),
    ({"model": "broken.joblib", "trust_model_file": None}, "broken.joblib"),
    ({"model": "list.joblib", "trust_model_file": None}, "list"),
    ({"model": "unfitted.joblib", "trust_model_file": None}, "DecisionTreeClassifier"),
    ({"model": "narrow.joblib", "trust_model_file": None}, "'sex' holds text"),
    # Models that answer amiss.
    (model("raises"), "RuntimeError: out of quota"),
    (model("leaves"), "SystemExit: bye"),
    (model("key"), "KeyError: 'dose'"),
    (model("short"), r"\(1,\) for 40 rows"),
    (model("none"), r"\(\) for 40 rows"),
    (model("scalar"), r"\(\) for 40 rows"),
    (model("text"), r"\(\) for 40 rows"),
    (model("dictionary"), r"\(\) for 40 rows"),
    (model("cube"), r"\(40, 2, 2\)"),
    (model("three"), r"\(40, 3\)"),
    (model("empty"), r"\(40, 0\)"),
    (model("nan"), "NaN or inf for 40 rows"),
    (model("infinite"), "NaN or inf for 40 rows"),
    (model("nan_numbers"), "NaN or inf for 40 rows"),
    (model("strange"), "'middling'"),
    (model("logits"), "-3|4"),
    (model("negative"), "-0.5|1.5"),
    (model("beyond"), "'1.5'"),
    (model("words"), r"\(40, 2\)"),
    (model("objects"), "object"),
    (model("complexes"), r"\(40,\)"),
    (model("numbers_of_classes"), "'0'"),
    (model("ragged"), "rows of different lengths"),
    (model("coin"), "as asked"),
    (model("once"), r"\(40, 2\)"),
    (model("pairs", data="number_target.csv"), r"\(40, 2\)"),
    (model("strange", data="number_target.csv"), r"\(40,\)"),
    (model("nan_numbers", data="number_target.csv"), "NaN or inf for 40 rows"),
    # Neurons and kept answers.
    ({"neurons": "bad_mine:nope"}, "--neurons=bad_mine:nope"),
    ({"neurons": "bad_mine:neurons_raise"}, "RuntimeError: no hook"),
    ({"neurons": "bad_mine:neurons_short"}, r"\(2, 3\)"),
    ({"neurons": "bad_mine:neurons_nan"}, "finite"),
    ({"neurons": "bad_mine:neurons_text"}, "cannot be read"),
    ({"resume": None, "workdir": "kept"}, "kept/answers"),
    ({"resume": None, "workdir": "taken"}, "taken/answers cannot keep"),
    ({"seed": "4294967296"}, "--seed=4294967296"),
    (model("unreadable"), "Unreadable that cannot be read"),
]


def even(rows):
    return np.full((len(rows["age"]), 2), 0.5)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"members": np.ones((ROWS, 2))}, "2 dimensions"),
        ({"members": None}, "0 dimensions"),
        ({"model": models.Model(even, "mine", None, ("a", "b"))}, "mine, a, b, are"),
        ({"sensitive": 3}, "3 is no name"),
        ({"sensitive": None}, "None is no name"),
        ({"knows": [2]}, "is no name"),
        ({"bins": [30]}, "bins is no dict"),
        ({"bins": {"age": 30}, "sensitive": "age"}, "30 is no list"),
        ({"tolerance": {"age": "5"}, "sensitive": "age"}, "--tolerance=age:5"),
        ({"answers": 3}, "answers=3"),
        ({"sensitive": "dose"}, "'dose' has 80 different"),
        ({"target": "dose"}, "'dose' has 80 different"),
    ],
    ids=lambda case: None if isinstance(case, dict) else case,
)
def test_a_mistake_in_python_raises_one_line(wrong, named):
    """Cells of the column `dose` are arrays."""
    frame = people() | {"dose": np.empty(ROWS, object)}
    frame["dose"][:] = list(np.arange(2 * ROWS).reshape(ROWS, 2))
    usual = {"sensitive": "smokes", "target": "risk", "members": "trained"}
    given = {"model": even, "frame": frame, **usual, "without": "auto"} | wrong
    with pytest.raises(ValueError, match=named) as raised:
        audit.table(**given)
    said = str(raised.value)
    assert "\n" not in said and re.search(REMEDY, said), said
    assert not re.search(FOREIGN, said), said


def test_there_are_enough_of_them():
    assert len(CASES) >= 120


@pytest.mark.parametrize(
    ("flags", "named"),
    CASES,
    ids=[f"{i}-{named}" for i, (_, named) in enumerate(CASES)],
)
def test_a_mistake_ends_in_one_line_that_says_what_to_do(
    folder, monkeypatch, capsys, flags, named
):
    monkeypatch.chdir(folder)
    usual = {
        "data": "people.csv",
        "sensitive": "smokes",
        "target": "risk",
        "members": "trained",
        "model": "bad_mine:predict",
        "workdir": "run",
    }
    chosen = {k: v for k, v in (usual | flags).items() if v is not WITHOUT}
    command = [f"--{k}" if v is None else f"--{k}={v}" for k, v in chosen.items()]
    try:
        code = __main__.main(command)
    except SystemExit as stopped:
        code = stopped.code
    said = capsys.readouterr().err
    assert code == 2, said
    assert said.startswith("error: ") and said.count("\n") == 1
    assert re.search(named, said), said
    assert re.search(REMEDY, said), said
    assert not re.search(FOREIGN, said), said
    assert len(said) < 700
