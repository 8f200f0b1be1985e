"""One run of an experiment: its workdir, its key, and what it does only once.

`main` is the one entry point. An experiment gives its presets, which are values of a
frozen dataclass; how flags change one; and a function that measures and tells.
"""

import contextlib
import dataclasses
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax
import numpy as np
import optax
from absl import flags
from flax import linen as nn

from experiments.harness import flags as common
from experiments.harness import programs, report, resumable, stages
from mijax import training
from mijax.core import Objective, Target
from mijax.data import TrainTest
from mijax.metrics import identity

S = TypeVar("S")

flags.disclaim_key_flags()


@dataclasses.dataclass(frozen=True)
class Run:
    """What a study needs to know of the run that it is measured in.

    Attributes:
      workdir: this run's alone.
      key: of all randomness.
      seed: that the key was made from.
      preset: `quick` or `paper`.
      dataset: of `mijax.data.load`, or None for the study's own.
      data_dir: the folder of data files, or None.
      seconds: of `compile` and `run`, added up over what `once` computed.
    """

    workdir: pathlib.Path
    key: jax.Array
    seed: int = 0
    preset: str = "quick"
    dataset: str | None = None
    data_dir: str | None = None
    seconds: dict[str, float] = dataclasses.field(
        default_factory=lambda: {"compile": 0.0, "run": 0.0}
    )

    @property
    def figures(self) -> pathlib.Path:
        """The folder of figures."""
        return self.workdir / "figures"

    def keys(self, *names: str) -> dict[str, jax.Array]:
        """A key for each name."""
        return dict(zip(names, jax.random.split(self.key, len(names)), strict=True))

    def once(
        self, name: str, compute: Callable[[], Mapping[str, Any]]
    ) -> dict[str, np.ndarray]:
        """The arrays that `compute` returns, from the workdir if it has them.

        Arrays named `compile` and `run` are seconds: they are added up.
        """
        arrays = stages.once(self.workdir, name, compute)
        for kind in self.seconds.keys() & arrays.keys():
            self.seconds[kind] += float(arrays[kind])
        return arrays

    def attack(
        self, name: str, program: programs.Program, *arguments: Any
    ) -> dict[str, np.ndarray]:
        """The fields of what an attack recovers, once, with the seconds it took.

        Args:
          name: of its file, and in what is printed.
          program: of `programs.program` or `programs.over_victims`.
          arguments: of the program.
        """

        def compute() -> dict[str, Any]:
            print(f"attack: {name}", flush=True)
            result, seconds = program(*arguments)
            fields = {
                f.name: getattr(result, f.name) for f in dataclasses.fields(result)
            }
            return {k: v for k, v in fields.items() if v is not None} | seconds

        return self.once(name, compute)

    def train(
        self,
        key: jax.Array,
        name: str,
        module: nn.Module,
        images: TrainTest,
        *,
        optimizer: optax.GradientTransformation,
        steps: int,
        batch_size: int,
        augment: Callable[[jax.Array, jax.Array], jax.Array] | None = None,
        objective: Callable[[Objective], Objective] | None = None,
        variables: Any = None,
        chunk: int = 100,
    ) -> tuple[Target, np.ndarray]:
        """Trains a classifier, from its last checkpoint.

        Args:
          key: is consumed.
          name: of its checkpoints, and in what is printed.
          module: the network.
          images: to train and to test on.
          optimizer: of optax.
          steps: in all.
          batch_size: examples a step; all of them where there are fewer.
          augment: of `training.supervised`.
          objective: a defense's, of the cross-entropy.
          variables: to start from, in place of the network's own initial ones.
          chunk: steps between checkpoints.

        Returns:
          The classifier, and whether it is right about each test image, `[N]`.
        """
        init_key, fit_key = jax.random.split(key)
        shape = images.train.images.shape[1:]
        learner = training.train_state(init_key, module, shape, optimizer)
        entropy = training.cross_entropy
        loss = entropy if objective is None else objective(entropy)
        if variables is not None:
            learner = dataclasses.replace(learner, variables=variables)
        learner = resumable.train(
            fit_key,
            learner,
            training.supervised(module, optimizer, loss, augment),
            (images.train.images, images.train.labels),
            name=name,
            folder=self.workdir / "checkpoints" / name,
            batch_size=min(batch_size, len(images.train)),
            steps=steps,
            chunk=chunk,
        )
        target = Target.from_linen(module, learner.variables, shape)
        logits = programs.batched(lambda x: target.predict(x).logits)(
            images.test.images
        )
        return target, identity.top_k(logits, images.test.labels, 1)


def data_folder(data_dir: str | None) -> str | None:
    """The folder of data files: `--data_dir`, $MIJAX_DATA_DIR or ../shared/data.

    Raises:
      ValueError: if the one that was given is no folder.
    """
    beside = pathlib.Path(__file__).resolve().parents[3] / "shared" / "data"
    chosen = data_dir or os.environ.get("MIJAX_DATA_DIR")
    if chosen and not pathlib.Path(chosen).expanduser().is_dir():
        raise ValueError(
            f"The data folder {chosen} is no folder: give another --data_dir, or none."
        )
    return chosen or (str(beside) if beside.is_dir() else None)


def main(
    name: str,
    *,
    quick: Mapping[str, S],
    paper: Mapping[str, S],
    measure: Callable[[Run, S], report.Page],
    changed: Callable[[S], S] | None = None,
    free_mib: int | Mapping[str, int] = 64,
) -> Callable[[], None]:
    """Defines the flags that all experiments share; returns the experiment's `main`.

    Args:
      name: of the experiment's module.
      quick: the studies of `--preset=quick` by their kind; the first is the default.
      paper: those of `--preset=paper`.
      measure: runs a study, and says what the page tells.
      changed: applies the flags that were given to a study, where it has its own.
      free_mib: how much a run writes, or a run of each preset.
    """
    common.common(name, dataset=None)
    kinds = list(dict.fromkeys([*quick, *paper]))
    if len(kinds) > 1:
        flags.DEFINE_enum("kind", kinds[0], kinds, "Which of the paper's experiments.")

    def run_one() -> None:
        values = flags.FLAGS
        kind = values.kind if len(kinds) > 1 else kinds[0]
        studies = {"quick": quick, "paper": paper}[values.preset]
        if kind not in studies:
            raise ValueError(
                f"--kind={kind} has no --preset={values.preset}: give another preset, "
                f"or one of {', '.join(studies)}."
            )
        study = studies[kind]
        if changed is not None:
            study = changed(study)  # Bad flags end here, before anything is done.
        free = free_mib if isinstance(free_mib, int) else free_mib[values.preset]
        workdir = report.prepare_workdir(values.workdir, free)
        stages.claim(workdir, common.given(), values.resume)
        run = Run(
            workdir,
            jax.random.key(values.seed),
            values.seed,
            values.preset,
            values.dataset,
            data_folder(values.data_dir),
        )
        profiled = jax.profiler.trace(str(workdir / "profile"))
        with profiled if values.profile else contextlib.nullcontext():
            page = measure(run, study)
        path = report.publish(
            workdir,
            page,
            experiment=name,
            flags=common.given(),
            seconds=run.seconds,
            command=common.command(name).replace("experiments.", "experiments ", 1),
        )
        print(f"\n{page.verdict}\nreport: {path}", flush=True)

    return run_one
