"""An experiment that trains a small target and inverts it, to be run in packs."""

import dataclasses
import json

import jax
import numpy as np
import optax
from absl import flags

from experiments.harness import flags as common
from experiments.harness import programs, report, resumable, stages
from mijax import training
from mijax.attacks import mi_face
from mijax.core import Target
from mijax.knowledge import WhiteBox
from mijax.models.mlp import MLP

common.common("packed", dataset=None)
CONFIG = common.from_config(mi_face.Config(steps=30), "mi_face")
flags.DEFINE_float("fails_above", 1e9, "A learning rate above this fails.")


def main():
    workdir = report.prepare_workdir(flags.FLAGS.workdir)
    stages.claim(workdir, common.given(), flags.FLAGS.resume)
    config = CONFIG(mi_face.Config(steps=30))
    if config.learning_rate > flags.FLAGS.fails_above:
        raise ValueError("This learning rate fails.")
    start_key, fit_key, key = jax.random.split(jax.random.key(flags.FLAGS.seed), 3)
    rng = np.random.default_rng(0)
    labels = np.arange(60, dtype=np.int32) % 3
    images = rng.uniform(0, 0.4, (60, 8, 8, 1)).astype(np.float32)
    images[np.arange(60), labels] += 0.5
    module, optimizer = MLP(3, widths=(6,)), optax.adam(1e-2)
    learner = resumable.train(
        fit_key,
        training.train_state(start_key, module, (8, 8, 1), optimizer),
        training.supervised(module, optimizer),
        (images, labels),
        name="target",
        folder=workdir / "checkpoints" / "target",
        batch_size=20,
        steps=40,
        chunk=20,
    )
    target = Target.from_linen(module, learner.variables, (8, 8, 1))
    knowledge = WhiteBox(target, np.arange(3, dtype=np.int32))

    program = programs.program(mi_face.attack)
    longer = dataclasses.replace(config, steps=config.steps + 5)

    def attack():
        found, seconds = program(key, knowledge, config)
        other, _ = program(key, knowledge, longer)  # The same program, of another form.
        assert other.trace.shape[-1] == found.trace.shape[-1] + 5
        return {"x": found.x, "loss": found.loss, "longer": other.x} | seconds

    found = stages.once(workdir, "attack", attack)
    print(f"seed {flags.FLAGS.seed} is done", flush=True)
    mse = {"labels": {}, "metric": "mse", "value": float(np.mean(found["x"] ** 2))}
    result = {"experiment": "packed", "flags": common.given(), "records": [mse]}
    (workdir / "result.json").write_text(json.dumps(result))


if __name__ == "__main__":
    common.run(main)
