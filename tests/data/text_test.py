import numpy as np
import pytest

from mijax.data import text


def test_numbers_and_back():
    small = text.of("small", "banana", also="12")
    assert small.alphabet == "12abn"
    np.testing.assert_array_equal(small.encode("nab1"), [5, 3, 4, 1])
    assert small.decode([0, 0, 5, 3, 4, 1]) == "nab1"
    with pytest.raises(ValueError, match="'z', which is not in the alphabet of small"):
        small.encode("jazz"[2:])


def test_records_and_padding():
    np.testing.assert_array_equal(text.records(np.arange(7), 3), [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(text.right_aligned(np.array([4, 5]), 4), [0, 0, 4, 5])
    with pytest.raises(ValueError, match="it must be 1 to 2"):
        text.records(np.arange(2), 3)
    with pytest.raises(ValueError, match="3 characters do not fit a record of 2"):
        text.right_aligned(np.arange(3), 2)


def test_the_text_that_python_carries():
    manual = text.python_manual(also="0123456789")
    assert len(manual.content) > 300_000
    assert "expression" in manual.content
    assert {*"0123456789"} <= {*manual.alphabet}


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="tinyshakespeare"):
        text.tiny_shakespeare(tmp_path)
    (tmp_path / "tinyshakespeare.txt.xz").write_bytes(b"none of it")
    with pytest.raises(ValueError, match="is not the expected data"):
        text.tiny_shakespeare(tmp_path)


@pytest.mark.real_data
def test_tiny_shakespeare(data_dir):
    plays = text.tiny_shakespeare(data_dir)
    assert len(plays.content) == 1_115_394
    assert len(plays.alphabet) == 65
    assert plays.content.startswith("First Citizen:")
