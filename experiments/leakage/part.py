"""What every figure of the experiment takes and gives."""

import dataclasses
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from experiments.harness import report
from experiments.leakage import nulls, recovery, verdicts
from experiments.leakage.clients import Clients
from experiments.leakage.recovery import Setting


@dataclasses.dataclass(frozen=True)
class Run:
    """The run that a figure is a part of.

    Attributes:
      workdir: where it all lands.
      key: all randomness follows from it.
      seed: chooses the victims.
      data_dir: folder of data files.
      chunk: victims of one call of a program.
      null: which of `nulls.CHANGES` the knowledge goes through.
      shown: victims in the figures, the first.
    """

    workdir: pathlib.Path
    key: jax.Array
    seed: int
    data_dir: str | None
    chunk: int
    null: str
    shown: int

    def recover(self, clients: Clients, setting: Setting) -> dict[str, np.ndarray]:
        """Attacks all clients, or takes what a killed run has finished."""
        change = nulls.CHANGES[self.null]
        return recovery.recover(
            self.workdir, self.key, clients, setting, chunk=self.chunk, null=change
        )

    def path(self, name: str) -> pathlib.Path:
        """Where a figure of this name is drawn."""
        return self.workdir / "figures" / f"{name}.png"


@dataclasses.dataclass
class Part:
    """A figure's share of the report; it grows as cells are finished."""

    metrics: dict[str, report.Metric] = dataclasses.field(default_factory=dict)
    tables: list[report.Table] = dataclasses.field(default_factory=list)
    pictures: list[report.Picture] = dataclasses.field(default_factory=list)
    attacked: list[str] = dataclasses.field(default_factory=list)
    differences: list[str] = dataclasses.field(default_factory=list)
    caveats: list[str] = dataclasses.field(default_factory=list)
    seconds: dict[str, float] = dataclasses.field(
        default_factory=lambda: {"compile": 0.0, "run": 0.0}
    )
    n: int = 0

    def add(
        self,
        clients: Clients,
        setting: Setting,
        found: Mapping[str, Any],
        baseline: verdicts.Values,
        paper: float | None = None,
    ) -> None:
        """Takes a cell's results in: metrics, seconds, and victims that diverged.

        Labels that the adversary was told are not scored.
        """
        name = setting.name
        self.metrics |= verdicts.lines(clients, found["x"], name, baseline, paper)
        if "labels" in found and not setting.labels_known:
            self.metrics |= verdicts.label_lines(clients, found["labels"], name)
        self.n += clients.labels.size
        for kind in self.seconds:
            self.seconds[kind] += float(found[kind])
        lost = int(np.sum(~np.isfinite(found["loss"])))
        if lost:
            self.caveats.append(
                f"{name}: {lost} of {len(found['loss'])} searches diverged; they "
                "count, with the images that they started from."
            )

    def add_baselines(
        self, key: jax.Array, clients: Clients, prefix: str
    ) -> dict[str, np.ndarray]:
        """Takes in what needs no update; returns those images."""
        images = verdicts.without_update(key, clients)
        for name, x in images.items():
            variant = f"{prefix}/{name}"
            self.metrics |= verdicts.lines(clients, x, variant, None)
        return images

    def value(self, name: str) -> float | None:
        """A metric's value, or None where there is none of that name."""
        return self.metrics[name].value if name in self.metrics else None


def refuse_unknown(flag: str, names: Sequence[str], known: Iterable[str]) -> None:
    """Refuses names that are not known.

    Raises:
      ValueError: if there is one, or if there is no name.
    """
    known = tuple(known)
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise ValueError(f"{flag}={','.join(names)}: give some of {', '.join(known)}.")


def joined(parts: list[Part]) -> Part:
    """One part of several figures'."""
    whole = Part()
    for part in parts:
        whole.metrics |= part.metrics
        for name in ("tables", "pictures", "attacked", "differences", "caveats"):
            own = getattr(whole, name)
            own += [each for each in getattr(part, name) if each not in own]
        for kind in whole.seconds:
            whole.seconds[kind] += part.seconds[kind]
        whole.n += part.n
    return whole
