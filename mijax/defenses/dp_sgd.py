"""DP-SGD: clipped examples, Gaussian noise on their sum, and what that guarantees.

Guarantees (epsilon, delta)-differential privacy of an example, with the epsilon of
`epsilon`: with `noise_multiplier` times `norm` as the noise's deviation, whoever sees
the updates learns almost the same whether or not any one example took part. It holds
against every attack, of this library or of the future, on the number of
updates that it was computed for.

`epsilon` is for batches drawn by Poisson sampling (every example by itself, with the
same probability), as published accountants assume. Batches of a shuffled epoch, as of
`mijax.training`, are commonly reported with the same figure, which is not proved for
them.

References:
  Abadi et al. Deep learning with differential privacy. CCS 2016. arXiv:1607.00133.
  Doroshenko et al. Connect the dots: tighter discrete approximations of privacy loss
  distributions. PETS 2022. arXiv:2207.04380.
"""

import math
from typing import Any

import jax
import numpy as np
from jax import Array
from jax.tree_util import Partial

from mijax.core import Defense, chain
from mijax.defenses import strength
from mijax.defenses.clipping import clip_examples
from mijax.defenses.noise import gaussian

_EPSILONS = 400  # at which the bound is evaluated; more can only lower it
_MOST = 700.0  # the largest of them, whose exponential is a number


def dp_sgd(
    norm: float | Array,
    noise_multiplier: float | Array,
    batch_size: int,
    seed: int | Array = 0,
) -> Defense:
    """Clips each example's gradient, and adds noise to the sum of the batch.

    What is shared is that sum over `batch_size`, whatever the size of the batch at
    hand, and so is its noise: `norm * noise_multiplier / batch_size`. It guards one
    gradient: `federation.client_update` refuses it beside local steps and shared
    statistics.

    Args:
      norm: the longest gradient of an example.
      noise_multiplier: deviation of the sum's noise, in units of `norm`.
      batch_size: what the sum is divided by: the expected size of a batch, not that of
        the batch at hand, which would tell who took part.
      seed: see `noise.randomized`.

    Raises:
      ValueError: if `norm` or `batch_size` is not positive, `noise_multiplier` is
        negative, or one of them is not finite.
    """
    expected = strength.at_least_one("batch_size", batch_size)
    clip = clip_examples(norm)
    multiplier = strength.non_negative("noise_multiplier", noise_multiplier)
    rescale = Defense(example_gradient=Partial(_over_expected_size, expected))
    return chain(clip, rescale, gaussian(norm * multiplier / expected, seed))


def _over_expected_size(expected: Array, gradients: Any) -> Any:
    """Makes the mean of a batch at hand the sum over the batch's expected size."""
    return jax.tree.map(
        lambda leaf: leaf * (leaf.shape[0] / expected).astype(leaf.dtype), gradients
    )


def epsilon(
    noise_multiplier: float, sampling_probability: float, updates: int, delta: float
) -> float:
    """Returns the epsilon of DP-SGD, by `dp-accounting`'s privacy loss distributions.

    Neighboring data sets differ by one example, added or removed.

    Args:
      noise_multiplier: as in `dp_sgd`.
      sampling_probability: of an example's taking part in an update; 1 where the
        adversary knows that it did.
      updates: how many the adversary sees.
      delta: the probability with which the guarantee may fail.

    Raises:
      ModuleNotFoundError: if `dp-accounting` is not installed.
      ValueError: if an argument is out of its range.
    """
    if not 0 < delta < 1:
        raise ValueError(f"delta={delta}: such probabilities lie above 0, below 1.")
    accountant = _accountant(noise_multiplier, sampling_probability, updates)
    return float(accountant.get_epsilon(delta))


def reconstruction_bound(
    prior: float, noise_multiplier: float, sampling_probability: float, updates: int
) -> float:
    """Returns the highest probability with which anyone reconstructs a record.

    It holds for every adversary, one who knows all other records and sees all updates
    included. With P the updates of a training that the record took part in, and Q those
    of one that it did not, an event of probability `prior` under Q has at most

        min over e of  prior exp(e) + delta(e)

    under P, where delta(e) is that of `dp-accounting`'s privacy loss distributions,
    which round upwards. Departure: Hayes et al. estimate that minimum from samples.

    Args:
      prior: the probability with which the best guess without the training reconstructs
        the record: 1 / n where n records are equally likely, and only the right one
        counts.
      noise_multiplier: as in `epsilon`.
      sampling_probability: as in `epsilon`.
      updates: as in `epsilon`.

    Raises:
      ModuleNotFoundError: if `dp-accounting` is not installed.
      ValueError: if an argument is out of its range.

    References:
      Hayes, Mahloujifar, Balle. Bounding training data reconstruction in DP-SGD.
      NeurIPS 2023. arXiv:2302.07225.
    """
    if not 0 < prior < 1:
        raise ValueError(f"prior={prior}: it is a probability above 0 and below 1.")
    accountant = _accountant(noise_multiplier, sampling_probability, updates)
    bound, most = 1.0, min(accountant.get_epsilon(1e-3 * prior), _MOST)
    for e in np.linspace(0, most, _EPSILONS):
        delta = float(accountant.get_delta(e))
        # The second is of -e, as neighbors may be exchanged.
        either = prior * math.exp(e) + delta, 1 - math.exp(-e) * (1 - prior - delta)
        bound = min(bound, *either)
    return bound


def _accountant(
    noise_multiplier: float, sampling_probability: float, updates: int
) -> Any:
    if not (0 <= sampling_probability <= 1 and updates > 0):
        raise ValueError(
            f"sampling_probability={sampling_probability} and updates={updates}: "
            "probabilities are 0 to 1, and updates is 1 or more."
        )
    if not 0 <= noise_multiplier < float("inf"):
        raise ValueError(
            f"The noise multiplier is {noise_multiplier}: it must be 0 or more, and "
            "finite."
        )
    try:
        import dp_accounting
        from dp_accounting import pld
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "An epsilon needs a published accountant: pip install 'mijax[accounting]'."
        ) from error
    one = dp_accounting.GaussianDpEvent(noise_multiplier)
    sampled = dp_accounting.PoissonSampledDpEvent(sampling_probability, one)
    # Losses grow as 1 / noise_multiplier**2; so does the grid, or it would not end.
    grain = 1e-4 * max(1.0, noise_multiplier**-2 if noise_multiplier else 1.0)
    accountant = pld.PLDAccountant(value_discretization_interval=grain)
    accountant.compose(sampled, updates)
    return accountant
