"""Audit of a model of yours; the same as the command `mijax-audit`.

python -m experiments.audit_table --help
"""

import sys

from mijax.audit.__main__ import main

if __name__ == "__main__":
    sys.exit(main(name="python -m experiments.audit_table"))
