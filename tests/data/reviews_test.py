"""Reviews as numbers of words."""

import numpy as np
import pytest

from mijax.data import reviews


def test_the_commonest_words_are_numbered_and_others_left_out():
    texts = ["A film, a film!", "It's a zebra"]
    found = reviews.of("two", texts, [1, 0], length=3, vocabulary=3)
    assert found.vocabulary == ("a", "film", "it's")
    np.testing.assert_array_equal(found.words, [[1, 2, 1], [3, 1, 0]])
    np.testing.assert_array_equal(found.labels, [1, 0])


def test_what_is_missing_or_no_number_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match="imdb_train_5000"):
        reviews.imdb(tmp_path, length=5, vocabulary=5)
    with pytest.raises(ValueError, match="length is 0"):
        reviews.imdb(tmp_path, length=0, vocabulary=5)


def test_imdb_is_balanced(data_dir):
    found = reviews.imdb(data_dir, length=100, vocabulary=5_000)
    assert found.words.shape == (5_000, 100) and found.labels.mean() == 0.5
    assert found.words.max() == 5_000 and found.vocabulary[0] == "the"
