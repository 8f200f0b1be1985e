"""Splits of a data set among federated clients: rows for each, disjoint.

References:
  McMahan et al. Communication-efficient learning of deep networks from decentralized
  data. AISTATS 2017. arXiv:1602.05629. (By class: each client has few of them.)
  Hsu, Qi, Brown. Measuring the effects of non-identical data distribution for federated
  visual classification. 2019. arXiv:1909.06335. (Dirichlet.)
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

_DRAWS = 100  # of a Dirichlet split, before it is given up


def by_class(
    labels: ArrayLike, classes: Sequence[Sequence[int]], *, seed: int = 0
) -> list[NDArray[np.int64]]:
    """Gives each client the examples of its own classes.

    Args:
      labels: `[N]`.
      classes: those of each client. A class of several clients is shared out evenly.
      seed: of who gets which examples of a shared class.

    Returns:
      The rows of each client, ascending.

    Raises:
      ValueError: if a class has too few examples for those who share it, or a client
        has no class.
    """
    labels = np.asarray(labels)
    rng = np.random.default_rng(seed)
    parts: list[list[NDArray]] = [[] for _ in classes]
    for number in sorted({each for own in classes for each in own}):
        owners = [client for client, own in enumerate(classes) if number in own]
        rows = rng.permutation(np.flatnonzero(labels == number))
        if len(rows) < len(owners):
            raise ValueError(
                f"{len(owners)} clients share class {number}, of which there are "
                f"{len(rows)} examples: give it to fewer clients."
            )
        for client, share in zip(
            owners, np.array_split(rows, len(owners)), strict=True
        ):
            parts[client].append(share)
    return _ascending(parts)


def by_group(groups: ArrayLike) -> list[NDArray[np.int64]]:
    """Makes each group (a writer, a person) a client.

    Args:
      groups: the group of each example, `[N]`.

    Returns:
      The rows of each group, in the order of `np.unique(groups)`.
    """
    groups = np.asarray(groups)
    return [np.flatnonzero(groups == each) for each in np.unique(groups)]


def dirichlet(
    labels: ArrayLike,
    clients: int,
    concentration: float,
    *,
    at_least: int = 1,
    seed: int = 0,
) -> list[NDArray[np.int64]]:
    """Shares out each class by proportions drawn from a Dirichlet distribution.

    Args:
      labels: `[N]`.
      clients: how many.
      concentration: small for clients of few classes each, large for clients alike.
      at_least: the examples of the smallest client; proportions are drawn anew until
        each has as many.
      seed: of the draws.

    Returns:
      The rows of each client, ascending.

    Raises:
      ValueError: if a number is out of its range, or no draw gives each client enough.
    """
    labels = np.asarray(labels)
    if clients < 1 or not concentration > 0:
        raise ValueError(
            f"clients is {clients} and concentration {concentration}: both must be "
            "positive."
        )
    rng = np.random.default_rng(seed)
    for _ in range(_DRAWS):
        parts: list[list[NDArray]] = [[] for _ in range(clients)]
        for each in np.unique(labels):
            rows = rng.permutation(np.flatnonzero(labels == each))
            shares = rng.dirichlet(np.full(clients, concentration))
            ends = np.round(np.cumsum(shares)[:-1] * len(rows)).astype(int)
            for client, share in enumerate(np.split(rows, ends)):
                parts[client].append(share)
        if min(sum(map(len, part)) for part in parts) >= at_least:
            return _ascending(parts)
    raise ValueError(
        f"No draw gave each of {clients} clients {at_least} or more of {len(labels)} "
        f"examples at concentration {concentration}: take fewer clients, or a larger "
        "concentration."
    )


def _ascending(parts: list[list[NDArray]]) -> list[NDArray[np.int64]]:
    empty = [client for client, part in enumerate(parts) if not sum(map(len, part))]
    if empty:
        raise ValueError(f"Client {empty[0]} has no example: give it a class.")
    return [np.sort(np.concatenate(part)) for part in parts]
