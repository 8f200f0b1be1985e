"""Gradient leakage: what a federated server recovers from what its clients share.

Papers, one a figure (`--figure`):
- `cpl`: Wei et al., A framework for evaluating gradient leakage attacks in federated
  learning, ESORICS 2020 (arXiv:2004.10397): the table of attack success by first guess,
  CPL beside DLG (Zhu et al. 2019, arXiv:1906.08935), on AT&T, MNIST, CIFAR-10 and LFW;
- `batch_size`: Geiping et al., Inverting gradients, NeurIPS 2020 (arXiv:2003.14053):
  DLG, iDLG and Inverting Gradients by batch size, on trained and untrained networks;
- `defenses`: success against the strength of a defense, with what it costs the task;
- `imprint`: Fowl et al., Robbing the fed, ICLR 2022 (arXiv:2110.13057): a malicious
  server's recovery against bins, beside the expected rate.

    python -m experiments.gradient_leakage --figure=cpl
    python -m experiments.gradient_leakage --figure=all --preset=paper
    python -m experiments.gradient_leakage --figure=cpl --null=others  # finds nothing

Expected: CPL's patterned first guess recovers at least 0.8 of AT&T's faces, and DLG's
normal one fewer; noise of deviation 0.01, or pruning 90 %, leaves at most 0.2; no null
case is better than the mean image. Measured figures, and the minutes that each takes
on which device: BUILD_NOTES.md.
"""

import contextlib
import dataclasses
from collections.abc import Callable
from typing import Any

import jax
from absl import flags

from experiments.harness import flags as common
from experiments.harness import report, stages
from experiments.leakage import batch_size, cpl, defenses, imprint, nulls, verdicts
from experiments.leakage.part import Part, Run, joined

FIGURES: dict[str, Callable[[Run, Any], Part]] = {
    "cpl": cpl.figure,
    "batch_size": batch_size.figure,
    "defenses": defenses.figure,
    "imprint": imprint.figure,
}
PRESETS: dict[str, dict[str, Any]] = {
    "quick": {
        "cpl": cpl.Sizes(),
        "batch_size": batch_size.Sizes(),
        "defenses": defenses.Sizes(),
        "imprint": imprint.Sizes(),
    },
    "paper": {
        "cpl": cpl.PAPER_SIZES,
        "batch_size": batch_size.PAPER_SIZES,
        "defenses": defenses.PAPER_SIZES,
        "imprint": imprint.PAPER_SIZES,
    },
}
FREE_MIB = {"quick": 512, "paper": 8192}
CHUNKS = {"quick": 10, "paper": 128}

_FIGURE = flags.DEFINE_enum("figure", "all", [*FIGURES, "all"], "What to redraw.")
_NULL = flags.DEFINE_enum(
    "null", "none", list(nulls.CHANGES), "Attack updates that say nothing instead."
)
_CHUNK = flags.DEFINE_integer(
    "chunk",
    None,
    "Victims of one call of a program, which is what a kill loses: by default, "
    + ", ".join(f"{number} of --preset={name}" for name, number in CHUNKS.items())
    + ". Those that do not fit in memory together are attacked in turn.",
    lower_bound=1,
)
_SHOWN = flags.DEFINE_integer(
    "num_shown", 8, "Victims in the pictures: the first.", lower_bound=1
)
common.common("gradient_leakage", dataset=None)
_SIZES = {
    name: common.from_sizes(sizes, name) for name, sizes in PRESETS["quick"].items()
}


def sizes(preset: str, dataset: str | None) -> dict[str, Any]:
    """A preset's sizes with the flags that were given, on `--dataset` alone if given.

    Raises:
      ValueError: if a flag is negative.
    """
    chosen = {name: _SIZES[name](own) for name, own in PRESETS[preset].items()}
    if dataset is not None:
        chosen["cpl"] = dataclasses.replace(chosen["cpl"], datasets=(dataset,))
        chosen["defenses"] = dataclasses.replace(chosen["defenses"], dataset=dataset)
    return chosen


def main() -> None:
    """Attacks, judges, and writes the report."""
    values = flags.FLAGS
    preset = sizes(values.preset, values.dataset)
    workdir = report.prepare_workdir(values.workdir, FREE_MIB[values.preset])
    stages.claim(workdir, common.given(), values.resume)
    run = Run(
        workdir,
        jax.random.key(values.seed),
        values.seed,
        values.data_dir,
        _CHUNK.value or CHUNKS[values.preset],
        _NULL.value,
        _SHOWN.value,
    )
    profiled = jax.profiler.trace(str(workdir / "profile"))
    with profiled if values.profile else contextlib.nullcontext():
        names = list(FIGURES) if _FIGURE.value == "all" else [_FIGURE.value]
        whole = joined([FIGURES[name](run, preset[name]) for name in names])
    null = "" if run.null == "none" else f" Null case: updates of {run.null}."
    page = report.write(
        workdir,
        experiment="gradient_leakage",
        title="What a federated server recovers from what its clients share",
        attacked=" ".join(whole.attacked) + null,
        knowledge="The model that was sent, how clients train, and each one's update; "
        "public images of the same kind, of others. No image of the client.",
        flags=common.given(),
        seconds=whole.seconds,
        n=whole.n,
        metrics=whole.metrics,
        baseline=verdicts.BASELINE,
        tables=whole.tables,
        pictures=whole.pictures,
        differences=whole.differences,
        caveats=[*whole.caveats, verdicts.PRECISION],
        command=common.command("gradient_leakage"),
    )
    print(f"report: {page}", flush=True)


if __name__ == "__main__":
    common.run(main)
