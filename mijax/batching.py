"""Many victims: a key for each, chunks that fit the memory, a mesh of devices.

An attack attacks all the victims of its knowledge at once. How many fit in memory is
the machine's affair: what is here bounds that, and changes no result.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from mijax.core import Reconstruction, independent

Attack = Callable[[Array, Any, Any], Reconstruction]

AXIS = "victims"


def keys_of(key: Array, victims: int) -> Array:
    """Returns a key for each victim, `[V]`, that does not depend on how many there are.

    Args:
      key: one key, or already one a victim, `[V]`; it is consumed.
      victims: V.

    Raises:
      ValueError: if there are keys but not V of them, or if it is no key.
    """
    key = independent(key)
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
        number = _divisible(knowledge)
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
    several hosts call `jax.distributed.initialize()` first, and pass the arguments
    through `everywhere`.

    Args:
      attack: as for `in_chunks`.
      mesh: with one axis, named `AXIS`, of the type `Auto`.
    """
    devices = mesh.shape[AXIS]

    def spread(key: Array, knowledge: Any, config: Any) -> Reconstruction:
        number = _divisible(knowledge)
        each = _each(key, knowledge, -(-number // devices) * devices)
        common = _replaced(knowledge, dict.fromkeys(knowledge.VICTIMS))

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
    return jax.make_mesh((jax.device_count(),), (AXIS,), (AxisType.Auto,))


def everywhere(tree: Any, mesh: Mesh) -> Any:
    """Puts arrays whole onto every device of a mesh; each host calls it."""
    sharding = NamedSharding(mesh, PartitionSpec())

    def put(leaf: Any) -> Array:
        leaf = jnp.asarray(leaf)
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            numbers = put(jax.random.key_data(leaf))
            return jax.random.wrap_key_data(numbers, impl=jax.random.key_impl(leaf))
        value = np.asarray(leaf)
        return jax.make_array_from_callback(value.shape, sharding, lambda i: value[i])

    return jax.tree.map(put, tree)


def _divisible(knowledge: Any) -> int:
    """The number of victims, whom a knowledge may be divided by."""
    if not hasattr(knowledge, "VICTIMS"):
        raise ValueError(
            f"{type(knowledge).__name__} cannot be divided by its victims, as its "
            "queries are counted in one run: give a WhiteBox or a SharedUpdate, or "
            "attack fewer victims."
        )
    return knowledge.victims


def _each(key: Array, knowledge: Any, number: int) -> tuple[Array, dict[str, Any]]:
    """The keys and fields of victims, of whom the first are repeated up to `number`."""
    fields = {name: _field(knowledge, name) for name in knowledge.VICTIMS}
    rows = jnp.arange(number) % knowledge.victims
    each = keys_of(key, knowledge.victims), fields
    return jax.tree.map(lambda leaf: leaf[rows], each)


def _field(tree: Any, name: str) -> Any:
    """A field, or a field of a field (`glimpse.image`); None where there is none."""
    first, _, rest = name.partition(".")
    field = getattr(tree, first)
    return _field(field, rest) if rest and field is not None else field


def _replaced(tree: Any, fields: dict[str, Any]) -> Any:
    """The tree with other values of fields, and of fields of fields."""
    for name, value in fields.items():
        first, _, rest = name.partition(".")
        if rest and (inner := getattr(tree, first)) is not None:
            value = _replaced(inner, {rest: value})
        tree = dataclasses.replace(tree, **{first: value})
    return tree


def _rows(
    attack: Attack, each: tuple[Array, dict[str, Any]], knowledge: Any, config: Any
) -> tuple[dict[str, Any], Array]:
    """Attacks some victims; returns results that start with their axis, and queries."""
    keys, fields = each
    found = attack(keys, _replaced(knowledge, fields), config)
    rows = {f.name: getattr(found, f.name) for f in dataclasses.fields(found)}
    return rows, rows.pop("queries")


def _gathered(rows: dict[str, Any], queries: Array, number: int) -> Reconstruction:
    rows = jax.tree.map(lambda leaf: leaf[:number], rows)
    return Reconstruction(**rows, queries=jnp.sum(queries))
