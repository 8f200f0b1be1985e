import json
import lzma

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


def test_texts_with_classes(tmp_path):
    """Files of the published form; here in a folder `text` of the data folder."""
    folder = tmp_path / "text"
    folder.mkdir()

    def write(name, *lines):
        (folder / name).write_bytes(lzma.compress("\n".join([*lines, ""]).encode()))

    post = {"y": 1, "subject": "the sea", "text": "Waves.\nSalt."}
    write("news20_train.jsonl.xz", json.dumps(post), json.dumps(post | {"y": 0}))
    write("news20_test.jsonl.xz", json.dumps(post))
    (folder / "news20_classes.json").write_text('["land", "sea"]')
    found = text.newsgroups(tmp_path)
    assert found.texts[0] == "the sea\nWaves.\nSalt." and found.names == ("land", "sea")
    np.testing.assert_array_equal(found.labels, [1, 0])
    assert len(found.test_texts) == len(found.test_labels) == 1
    write("imdb_train_5000.tsv.xz", "1\t9\tgood\tindeed", "0\t2\tbad")
    write("imdb_test_2500.tsv.xz", "0\t1\tworse")
    found = text.imdb(folder)
    assert found.texts == ("good\tindeed", "bad") and found.test_texts == ("worse",)
    np.testing.assert_array_equal(found.labels, [1, 0])
    (folder / "imdb_test_2500.tsv.xz").unlink()
    with pytest.raises(FileNotFoundError, match="imdb_test_2500"):
        text.imdb(tmp_path)


@pytest.mark.real_data
def test_tiny_shakespeare(data_dir):
    plays = text.tiny_shakespeare(data_dir)
    assert len(plays.content) == 1_115_394
    assert len(plays.alphabet) == 65
    assert plays.content.startswith("First Citizen:")
