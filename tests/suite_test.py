"""What the suite holds itself to."""

import subprocess
import sys
from types import SimpleNamespace

import conftest
import pytest


def test_only_a_test_marked_process_starts_python():
    with pytest.raises(RuntimeError, match="needs @pytest"):
        subprocess.run([sys.executable, "-c", ""])


@pytest.mark.process
def test_a_test_marked_process_does():
    assert subprocess.run([sys.executable, "-c", ""]).returncode == 0


@pytest.mark.parametrize(
    ("within", "kept"), [(None, "abcd"), (3, "acd"), (0.5, "cd"), (100, "abcd")]
)
def test_within_leaves_out_the_longest(within, kept):
    kept_before = {
        "mijax/times": {"a": 1.0, "b": 5.0, "c": 9.0},
        "cache/lastfailed": {"c": True},  # d was never run
    }
    config = SimpleNamespace(
        option=SimpleNamespace(within=within),
        cache=SimpleNamespace(get=kept_before.get),
        hook=SimpleNamespace(pytest_deselected=lambda items: None),
    )
    items = [SimpleNamespace(nodeid=name) for name in "abcd"]
    conftest.pytest_collection_modifyitems(config, items)
    assert "".join(item.nodeid for item in items) == kept
