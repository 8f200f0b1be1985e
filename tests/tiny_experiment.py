"""An experiment of no time: it counts to `--steps` with a checkpoint after each."""

import json
import os
import pathlib
import sys
import time

from absl import app, flags

FLAGS = flags.FLAGS
flags.DEFINE_string("workdir", None, "Where results land.", required=True)
flags.DEFINE_integer("seed", 0, "What the results follow from.")
flags.DEFINE_float("rate", 1.0, "A number of a compiled program.")
flags.DEFINE_integer("steps", 4, "Steps, with a checkpoint after each.")
flags.DEFINE_float("pause", 0.0, "Seconds of a step.")
flags.DEFINE_enum("defense", "none", ["none", "noise"], "What the target does.")
flags.DEFINE_multi_string("losses", [], "A flag that may be given twice.")
flags.DEFINE_enum("mishap", "none", ["none", "error", "full_disk"], "What goes wrong.")


def replace(path, text):
    partial = path.with_suffix(".partial")
    partial.write_text(text)
    os.replace(partial, path)


def main(arguments):
    del arguments
    workdir = pathlib.Path(FLAGS.workdir)
    checkpoint = workdir / "checkpoint.json"
    step, value = json.loads(checkpoint.read_text()) if checkpoint.exists() else (0, 0)
    print(f"begins at step {step}", flush=True)
    while step < FLAGS.steps:
        time.sleep(FLAGS.pause)
        step, value = step + 1, value * 31 % 997 + FLAGS.seed + FLAGS.rate
        replace(checkpoint, json.dumps([step, value]))
    if FLAGS.mishap == "error":
        sys.exit("refused: this run was told to fail")
    if FLAGS.mishap == "full_disk":
        with open("/dev/full", "w") as file:
            file.write("no space for this")
    protected = FLAGS.defense == "noise"
    accuracy = 0.9 - 0.1 * protected + 0.001 * FLAGS.seed
    leaked = 0.6 - 0.4 * protected + 0.01 * FLAGS.seed
    leak = {"value": leaked, "n": 100, "baseline": 0.1, "leakage": leaked}
    records = [
        {
            "metric": "target_test_accuracy",
            "labels": {},
            "value": accuracy,
            "n": 100,
        },
        {"metric": "top1", "labels": {"variant": "tiny"}, **leak},
        {"metric": "mse", "labels": {}, "value": value},
    ]
    given = {f.name: f.value for f in FLAGS.get_key_flags_for_module(sys.argv[0])}
    seconds = {"compile": 0.0, "run": FLAGS.pause * FLAGS.steps}
    result = {"experiment": "tiny", "flags": given, "records": records}
    with (workdir / "finishes.txt").open("a") as file:
        file.write("finished\n")
    replace(workdir / "result.json", json.dumps(result | {"seconds": seconds}))


if __name__ == "__main__":
    app.run(main)
