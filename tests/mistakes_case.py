"""Gives one paper's command several lines of flags in one process.

Run as `python mistakes_case.py MODULE LINES`, where LINES is a JSON list of lists of
flags; prints a JSON list of exit codes and outputs.
"""

import contextlib
import io
import json
import runpy
import sys
import traceback

from absl import app
from absl import flags as absl_flags

from experiments.harness import flags


def said(main, line):
    """What the command exits with, and what it prints."""
    for name in absl_flags.FLAGS:
        absl_flags.FLAGS[name].unparse()
    absl_flags.FLAGS.unparse_flags()
    output, code = io.StringIO(), 0
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        try:
            app.run(flags.guarded(main), ["paper", *line])
        except SystemExit as end:
            code = end.code or 0
        except Exception:
            traceback.print_exc()
            code = 1
    return code, output.getvalue()


if __name__ == "__main__":
    _, module, lines = sys.argv
    sys.argv[1:], mains = [], []
    flags.run = mains.append  # What a paper's file does at its end.
    runpy.run_module(f"experiments.{module}", run_name="__main__")
    print(json.dumps([said(mains[0], line) for line in json.loads(lines)]))
