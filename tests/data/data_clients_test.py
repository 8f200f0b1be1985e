"""Splits among clients: disjoint, complete, and as alike as was asked."""

import numpy as np
import pytest

from mijax.data import clients

LABELS = np.repeat(np.arange(5), 200)


def is_partition(parts, number=len(LABELS)):
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(number))


def test_by_class_shares_out_evenly():
    parts = clients.by_class(LABELS, [(0, 1), (1, 2), (2, 3, 4)])
    is_partition(parts)
    held = [np.bincount(LABELS[part], minlength=5).tolist() for part in parts]
    assert held == [[200, 100, 0, 0, 0], [0, 100, 100, 0, 0], [0, 0, 100, 200, 200]]
    same = clients.by_class(LABELS, [(0, 1), (1, 2), (2, 3, 4)])
    assert all(map(np.array_equal, parts, same))


def test_by_group():
    writers = np.array([7, 3, 7, 7, 3])
    parts = clients.by_group(writers)
    assert [part.tolist() for part in parts] == [[1, 4], [0, 2, 3]]


def test_dirichlet_nears_equal_shares_as_its_concentration_grows():
    def spread(concentration):
        parts = clients.dirichlet(LABELS, 4, concentration, at_least=5, seed=1)
        is_partition(parts)
        assert min(map(len, parts)) >= 5
        shares = [np.bincount(LABELS[part], minlength=5) / 200 for part in parts]
        return np.std(shares)

    assert spread(1e4) < 0.01
    # The standard deviation of a share of 4 is sqrt(1/4 * 3/4 / (4 c + 1)).
    assert spread(1.0) == pytest.approx(np.sqrt(3 / 16 / 5), rel=0.35)
    assert spread(0.1) > spread(1.0) > spread(10.0)


@pytest.mark.parametrize(
    ("split", "message"),
    [
        (lambda: clients.by_class(LABELS, [(0,), ()]), "Client 1 has no example"),
        (lambda: clients.by_class([0], [(0,), (0,)]), "2 clients share class 0"),
        (lambda: clients.dirichlet(LABELS, 0, 1.0), "clients is 0"),
        (lambda: clients.dirichlet(LABELS, 2, 0.0), "concentration 0.0"),
        (lambda: clients.dirichlet([0, 1], 3, 1.0), "No draw gave each of 3 clients 1"),
    ],
)
def test_bad_splits_are_refused(split, message):
    with pytest.raises(ValueError, match=message):
        split()
