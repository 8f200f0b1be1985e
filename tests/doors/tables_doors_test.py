"""Files and columns as people have them are read, or refused by name."""

import jax.numpy as jnp
import joblib
import numpy as np
import pytest

from mijax.audit import models, networks, rows
from mijax.core import Target
from mijax.data import tables
from mijax.data.tables import Encoder
from mijax.knowledge import Candidates, SharedUpdate, normal

PLAIN = "age,dose,smokes\n30,1.5,no\n41,2,yes\n52,0.5,no\n"
READABLE = {
    "blank last lines": PLAIN + "\n  \n\n",
    "blank lines between": PLAIN.replace("\n", "\n\n"),
    "blank first lines": "\n\n" + PLAIN,
    "line ends of Windows": PLAIN.replace("\n", "\r\n"),
    "semicolons": PLAIN.replace(",", ";"),
    "decimal commas": PLAIN.replace(",", ";").replace(".", ","),
    "a mark of byte order": "\ufeff" + PLAIN,
}


@pytest.fixture(params=READABLE)
def written(request, tmp_path):
    path = tmp_path / "people.csv"
    path.write_bytes(READABLE[request.param].encode())
    return path


class TestReading:
    def test_of_a_table(self, written):
        found = tables.read(written)
        assert list(found) == ["age", "dose", "smokes"]
        assert found["age"] == ["30", "41", "52"]
        assert found["dose"] == ["1.5", "2", "0.5"]
        assert found["smokes"] == ["no", "yes", "no"]

    def test_of_an_audit(self, written):
        found = rows.read(str(written))
        np.testing.assert_array_equal(rows.column(found, "age"), [30, 41, 52])
        np.testing.assert_array_equal(rows.column(found, "dose"), [1.5, 2, 0.5])
        assert rows.column(found, "smokes").tolist() == ["no", "yes", "no"]

    @pytest.mark.parametrize("read", [tables.read, rows.read])
    def test_a_folder(self, read, tmp_path):
        with pytest.raises((ValueError, OSError), match=r"a folder.* give") as caught:
            read(str(tmp_path))
        assert str(tmp_path) in str(caught.value)

    def test_a_row_of_another_length_is_named_by_its_line(self, tmp_path):
        path = tmp_path / "people.csv"
        path.write_text("age,dose\n\n30,1\n41\n")
        with pytest.raises(ValueError, match=r"row 4, has 1 values and the header 2"):
            tables.read(path)

    @pytest.mark.parametrize("content", [b"", b"\n\n", b"age,dose\n", b"age\n\n\n"])
    def test_nothing(self, content, tmp_path):
        path = tmp_path / "people.csv"
        path.write_bytes(content)
        for read in (tables.read, rows.read):
            with pytest.raises(ValueError, match=r"holds no row.* give a table"):
                read(str(path))


class TestModelFiles:
    @pytest.mark.parametrize(
        "content", [b"", b"\x80", b"no pickle", b"\x80\x04\x95", bytes(256)]
    )
    def test_damaged(self, content, tmp_path):
        path = tmp_path / "model.joblib"
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"cannot be opened: \w+.* Give a file th"):
            models.load(str(path), trust=True)

    @pytest.mark.parametrize("keep", [0.2, 0.9])
    def test_cut_off(self, keep, tmp_path):
        path = tmp_path / "model.joblib"
        joblib.dump({"weights": np.arange(1000.0)}, path)
        content = path.read_bytes()
        path.write_bytes(content[: int(keep * len(content))])
        with pytest.raises(ValueError, match=r"cannot be opened: .* Give a file that"):
            models.load(str(path), trust=True)

    def test_of_a_class_that_a_script_defined(self, tmp_path):
        path = tmp_path / "model.joblib"
        path.write_bytes(b"c__main__\nMyModel\n.")  # A pickle of that class.
        with pytest.raises(ValueError, match=r"MyModel.* define it in a module, and"):
            models.load(str(path), trust=True)


def table(values, sensitive="sex"):
    columns = {"dose": values, "sex": ["f", "m"] * (len(values) // 2)}
    columns["risk"] = ["low"] * (len(values) // 2) + ["high"] * (len(values) // 2)
    return tables.from_columns(
        "people", columns, sensitive=[sensitive], target="risk", numeric=["dose"]
    )


class TestNumbers:
    MANY = 1e9 + np.arange(240.0)  # few different ones in float32, of 7 digits

    def test_float32_merges_candidates(self):
        with pytest.raises(
            ValueError, match=r"240 candidates of columns \[3\] are 5 i"
        ):
            Candidates.of(3, self.MANY)
        assert Candidates.of(3, self.MANY - 1e9).encodings.shape == (240, 1)

    def test_float32_merges_a_sensitive_field(self):
        people = table(self.MANY, "dose")
        with pytest.raises(ValueError, match=r"240 different numbers of 'dose' are 5"):
            Encoder.fit(people, standardize=False).encode(people)
        assert len(np.unique(Encoder.fit(people).encode(people)[:, 0])) == 240

    def test_float32_merges_what_a_network_is_asked(self):
        target = Target.from_function(lambda w, x: x @ w, jnp.ones((1, 2)), (1,))
        predict, _ = networks.read(target)
        with pytest.raises(ValueError, match=r"240 different numbers of 'dose' are 5"):
            predict({"dose": self.MANY})

    @pytest.mark.parametrize("wrong", [np.inf, -np.inf])
    def test_an_infinite_number_is_named_with_its_column(self, wrong):
        with pytest.raises(ValueError, match=r"'dose' holds 1 infinite numbers"):
            table([wrong, *np.arange(11.0)])

    def test_so_is_a_deviation_that_is_none(self):
        people = table([1e308, -1e308] * 6)
        with pytest.raises(ValueError, match=r"deviation of 'dose' is inf: leave out"):
            Encoder.fit(people)
        frame = {"dose": np.array([1e308, -1e308] * 6)}
        assert rows.unusable(frame, ["dose"]) == {
            "dose": "numbers too large for a deviation"
        }

    @pytest.mark.parametrize("deviation", [0.0, -1.0, np.nan, np.inf])
    def test_a_deviation_of_errors(self, deviation):
        with pytest.raises(ValueError, match=r"deviation is .*positive and finite"):
            normal(deviation)

    @pytest.mark.parametrize(
        ("mean", "deviation", "message"),
        [
            (0.5, 0.0, "deviation is 0: it must be finite and above 0"),
            (0.5, np.inf, "deviation is inf"),
            (0.5, jnp.array([0.2, np.nan, 0.2]), "deviation of channel 1 is nan"),
            (jnp.array([0.2, 0.2, -np.inf]), 0.2, "mean of channel 2 is -inf"),
            (jnp.array([0.2, 0.2]), 0.2, r"mean is \(2,\): give a number, or one a c"),
        ],
    )
    def test_a_deviation_of_images(self, mean, deviation, message):
        target = Target.from_function(
            lambda w, x: jnp.sum(x, (1, 2)) @ w, jnp.ones((3, 2)), (2, 2, 3)
        )
        known = SharedUpdate(
            target, jnp.ones((1, 3, 2)), mean=mean, deviation=deviation
        )
        with pytest.raises(ValueError, match=message):
            known.checked()
