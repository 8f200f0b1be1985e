"""Attacks clients in chunks: what is finished is on disk, and is not done again.

A chunk is one call of a compiled program, which takes as many victims at a time as fit
in memory, and one file. A run of any number of victims that is killed loses the chunk
at hand, and resumes to the same bits.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from experiments.harness import programs, progress, stages
from experiments.leakage.clients import Clients
from mijax import batching, federation
from mijax.core import Reconstruction, Target
from mijax.defenses import Defense
from mijax.federation import Recipe
from mijax.knowledge import SharedUpdate, validate

Attack = Callable[[Array, SharedUpdate, Any], Reconstruction]
Change = Callable[[SharedUpdate], SharedUpdate]

_PROGRAMS: dict[Any, programs.Program] = {}  # One for all cells that differ in numbers.


@dataclasses.dataclass(frozen=True, eq=False)
class Setting:
    """A cell of a table: an attack on what one kind of client shares.

    Attributes:
      name: of its files and of its lines in the result.
      attack: of `mijax.attacks`.
      config: its hyper-parameters.
      target: the model that the server sent.
      recipe: how clients train.
      defense: of what a client shares; cells that differ in its strength share one
        compiled program.
      auxiliary: further fields of the knowledge that are no victim's.
      similar: `(clients, rows) -> images [V, B, *shape]` that the adversary has of
        each one's class, or starts from as if it did; None for none.
      labels_known: whether the adversary knows the labels.
    """

    name: str
    attack: Attack
    config: Any
    target: Target
    recipe: Recipe = Recipe()
    defense: Defense = Defense()
    auxiliary: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    similar: Callable[[Clients, np.ndarray], Array] | None = None
    labels_known: bool = False


def recover(
    workdir: pathlib.Path,
    key: Array,
    clients: Clients,
    setting: Setting,
    *,
    chunk: int,
    null: Change | None = None,
) -> dict[str, np.ndarray]:
    """Attacks all clients, those of finished chunks excepted.

    Args:
      workdir: of the run.
      key: of the defense and the attack; each victim has its own, whatever the chunk.
      clients: V of them.
      setting: what is shared, and the attack.
      chunk: victims of one call and one file.
      null: in a null case, what becomes of the knowledge of the clients before.

    Returns:
      `x` `[V, B, *shape]`, `labels` `[V, B]`, `loss` `[V]`, `trace`
      `[V, R, steps + 1]`, and the seconds of `compile` and `run`.
    """
    number = len(clients.x)
    sharing = clients if null is None else clients.before
    chunk = min(chunk, number)
    (workdir / "results" / setting.name).mkdir(parents=True, exist_ok=True)
    names = {start: f"{setting.name}/{start:06d}" for start in range(0, number, chunk)}
    sizes = {start: min(chunk, number - start) for start in names}
    left = [
        start
        for start, name in names.items()
        if not (workdir / "results" / f"{name}.npz").is_file()
    ]
    keys = batching.keys_of(key, number)
    done = number - sum(sizes[start] for start in left)

    def compute(start: int) -> dict[str, Any]:
        rows = (start + np.arange(chunk)) % number  # The last chunk is filled up.
        found = _attack(keys[rows], sharing, rows, setting, null)
        seconds = {"compile", "run"}
        return {k: v if k in seconds else v[: sizes[start]] for k, v in found.items()}

    tracked = progress.track(
        left,
        setting.name,
        sizes=[sizes[start] for start in left],
        done=done,
        unit="victims",
    )
    for start in tracked:
        stages.once(workdir, names[start], lambda start=start: compute(start))
    parts = [stages.once(workdir, name, dict) for name in names.values()]
    return {
        k: np.concatenate([part[k] for part in parts])
        if parts[0][k].ndim
        else np.sum([part[k] for part in parts])
        for k in parts[0]
    }


@jax.jit
def shared_updates(
    keys: Array,
    recipe: Recipe,
    target: Target,
    x: Array,
    labels: Array,
    defense: Defense,
) -> federation.Update:
    """What V clients share, one after the other, each with a key of its own."""

    def one(client: tuple[Array, Array, Array]) -> federation.Update:
        key, x, labels = client
        update = federation.share(key, recipe, target, x[None], labels[None], defense)
        return jax.tree.map(lambda leaf: leaf[0], update)

    return jax.lax.map(one, (keys, x, labels))


def _attack(
    keys: Array,
    clients: Clients,
    rows: np.ndarray,
    setting: Setting,
    null: Change | None,
) -> dict[str, Any]:
    x, labels = jnp.asarray(clients.x[rows]), jnp.asarray(clients.labels[rows])
    share_keys, attack_keys = jax.vmap(jax.random.split, out_axes=1)(keys)
    update = shared_updates(
        share_keys,
        setting.recipe,
        setting.target,
        x,
        labels,
        setting.defense,
    )
    knowledge = SharedUpdate(
        setting.target,
        update.change,
        x.shape[1],
        setting.recipe,
        statistics=update.statistics,
        labels=labels if setting.labels_known else None,
        similar=None if setting.similar is None else setting.similar(clients, rows),
        **setting.auxiliary,
    )
    arguments = attack_keys, validate(knowledge), setting.config
    found, seconds = _program(setting.attack, null, len(rows))(*arguments)
    fields = {"x": found.x, "loss": found.loss, "trace": found.trace}
    if found.labels is not None:
        fields["labels"] = found.labels
    return fields | seconds


def _program(attack: Attack, null: Change | None, number: int) -> programs.Program:
    """An attack on so many victims, of which it takes as many at a time as fit."""
    recipe = attack, null, number
    if recipe not in _PROGRAMS:

        def changed(key: Array, knowledge: SharedUpdate, config: Any) -> Reconstruction:
            return attack(key, knowledge if null is None else null(knowledge), config)

        _PROGRAMS[recipe] = programs.over_victims(changed, number)
    return _PROGRAMS[recipe]
