"""Federated learning: what one client shares, what a round does, whole trainings.

`client_update` is written once. The victim computes what is shared with it, and an
adversary who searches for the batch matches the same function: at the true batch the
two agree. `Federation.advance` is a round of a training; `simulate` runs many of them
as one program.

Letters: V clients, M of them in a round, B examples of each.
"""

from mijax.federation.client import (
    Recipe,
    Update,
    batch_losses,
    client_update,
    share,
)
from mijax.federation.selective import Selective
from mijax.federation.server import aggregate, round_of
from mijax.federation.training import Clients, Federation, Round, simulate

__all__ = [
    "Clients",
    "Federation",
    "Recipe",
    "Round",
    "Selective",
    "Update",
    "aggregate",
    "batch_losses",
    "client_update",
    "round_of",
    "share",
    "simulate",
]
