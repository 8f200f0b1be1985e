"""Runs an experiment by its name.

python -m experiments zhang2020_gmi --preset=paper
python -m experiments --list
"""

import runpy
import sys

from experiments import catalog


def main() -> None:
    """Runs the experiment that the first argument names."""
    if len(sys.argv) < 2 or sys.argv[1] in ("--list", "--help", "-h"):
        print(f"{__doc__}\n{catalog.listing()}")
        return
    try:
        module = catalog.module_of(sys.argv.pop(1))
    except ValueError as error:
        sys.exit(f"error: {error}")
    runpy.run_module(module, run_name="__main__", alter_sys=True)


main()
