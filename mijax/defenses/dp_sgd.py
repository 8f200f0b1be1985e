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

from typing import Any

import jax
from jax import Array
from jax.tree_util import Partial

from mijax.core import Defense, chain
from mijax.defenses import strength
from mijax.defenses.clipping import clip_examples
from mijax.defenses.noise import gaussian


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
    if not (0 <= sampling_probability <= 1 and 0 < delta < 1 and updates > 0):
        raise ValueError(
            f"sampling_probability={sampling_probability}, delta={delta} and "
            f"updates={updates}: the first two are probabilities, delta above 0, and "
            "updates is 1 or more."
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
    return float(accountant.get_epsilon(delta))
