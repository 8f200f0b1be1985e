"""Many victims: a key for each, chunks that fit the memory, a mesh of devices.

An attack on a `SharedUpdate` attacks all its victims at once. How many fit in memory is
the machine's affair: what is here bounds that, and changes no result.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.sharding import Mesh, PartitionSpec

from mijax.core import Reconstruction

Attack = Callable[[Array, Any, Any], Reconstruction]

AXIS = "victims"


def keys_of(key: Array, victims: int) -> Array:
    """Returns a key for each victim, `[V]`, that does not depend on how many there are.

    Args:
      key: one key, or already one a victim, `[V]`; it is consumed.
      victims: V.

    Raises:
      ValueError: if there are keys but not V of them.
    """
    if key.ndim == 0:
        return jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(victims))
    if key.shape != (victims,):
        raise ValueError(
            f"There are {key.shape} keys for {victims} victims: give one key, or one a "
            "victim."
        )
    return key


def in_chunks(attack: Attack, size: int) -> Attack:
    """Returns the attack that takes `size` victims at a time; same results.

    Args:
      attack: an attack on a knowledge whose `VICTIMS` names the fields of victims.
      size: what fits in memory, or in a processor's cache.

    Raises:
      ValueError: if `size` is not positive.
    """
    if size < 1:
        raise ValueError(f"The chunk's size is {size}: it must be 1 or more.")

    def chunked(key: Array, knowledge: Any, config: Any) -> Reconstruction:
        number = knowledge.victims
        chunk = min(size, number)
        each = _each(key, knowledge, -(-number // chunk) * chunk)
        chunks = jax.tree.map(
            lambda leaf: leaf.reshape(-1, chunk, *leaf.shape[1:]), each
        )
        rows, queries = lax.map(lambda c: _rows(attack, c, knowledge, config), chunks)
        rows = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), rows)
        return _gathered(rows, queries, number)

    return chunked


def across(attack: Attack, mesh: Mesh) -> Attack:
    """Returns the attack that divides its victims over devices; same results.

    Compose as `across(in_chunks(attack, 8), over_devices())`, and compile that. On
    several hosts call `jax.distributed.initialize()` first.

    Args:
      attack: as for `in_chunks`.
      mesh: with one axis, named `AXIS`.
    """
    devices = mesh.shape[AXIS]

    def spread(key: Array, knowledge: Any, config: Any) -> Reconstruction:
        number = knowledge.victims
        each = _each(key, knowledge, -(-number // devices) * devices)
        common = dataclasses.replace(knowledge, **dict.fromkeys(knowledge.VICTIMS))

        def local(each: Any, common: Any, config: Any) -> Any:
            rows, queries = _rows(attack, each, common, config)
            return rows, queries[None]

        rows, queries = jax.shard_map(
            local,
            mesh=mesh,
            in_specs=(PartitionSpec(AXIS), PartitionSpec(), PartitionSpec()),
            out_specs=PartitionSpec(AXIS),
            check_vma=False,
        )(each, common, config)
        return _gathered(rows, queries, number)

    return spread


def over_devices() -> Mesh:
    """Returns the mesh of all devices along the one axis of victims."""
    return jax.make_mesh((jax.device_count(),), (AXIS,))


def _each(key: Array, knowledge: Any, number: int) -> tuple[Array, dict[str, Any]]:
    """The keys and fields of victims, of whom the first are repeated up to `number`."""
    fields = {name: getattr(knowledge, name) for name in knowledge.VICTIMS}
    rows = jnp.arange(number) % knowledge.victims
    each = keys_of(key, knowledge.victims), fields
    return jax.tree.map(lambda leaf: leaf[rows], each)


def _rows(
    attack: Attack, each: tuple[Array, dict[str, Any]], knowledge: Any, config: Any
) -> tuple[dict[str, Any], Array]:
    """Attacks some victims; returns results that start with their axis, and queries."""
    keys, fields = each
    found = attack(keys, dataclasses.replace(knowledge, **fields), config)
    rows = {f.name: getattr(found, f.name) for f in dataclasses.fields(found)}
    rows["trace"] = jnp.swapaxes(found.trace, 0, 1)
    return rows, rows.pop("queries")


def _gathered(rows: dict[str, Any], queries: Array, number: int) -> Reconstruction:
    rows = jax.tree.map(lambda leaf: leaf[:number], rows)
    rows["trace"] = jnp.swapaxes(rows["trace"], 0, 1)
    return Reconstruction(**rows, queries=jnp.sum(queries))
