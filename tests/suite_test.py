"""What the suite holds itself to."""

import subprocess
import sys

import pytest


def test_only_a_test_marked_process_starts_python():
    with pytest.raises(RuntimeError, match="needs @pytest"):
        subprocess.run([sys.executable, "-c", ""])


@pytest.mark.process
def test_a_test_marked_process_does():
    assert subprocess.run([sys.executable, "-c", ""]).returncode == 0
