"""Order-invariant unrolling: images of FedAvg's clients after several epochs.

Dimitrov, Balunović, Konstantinov, Vechev. Data leakage in federated averaging. TMLR
2022. arXiv:2206.12395. Clients go through their images several times, each time in an
order that nobody knows, and share what that makes of the model. Beside the attack stand
what it makes of another client's update, and Inverting Gradients, which unrolls the
first epoch's order (told, with the labels) in every epoch.

    python -m experiments dimitrov2022_fedavg                   # 2 CPU cores, 13 min
    python -m experiments dimitrov2022_fedavg --preset=paper    # 50 images, for a GPU

Expected: 19.0 dB on MNIST (mean image 13.3, another client's update 12.5) and 15.6 on
CIFAR-10 (13.1 and 11.7).
"""

import dataclasses

import flax.linen as nn
import jax

from experiments.harness import flags
from experiments.studies import clients, leakage
from experiments.studies.leakage import Attack, Case, Model, Study
from mijax.attacks import inverting_gradients, order_invariant
from mijax.federation import Recipe
from mijax.models import Prediction
from mijax.models.layers import Conv

DATASETS = "mnist", "cifar10_jpeg75"


class Network(nn.Module):
    """The paper's for FEMNIST: two 3x3 convolutions, means of 2x2, two dense layers.

    Attributes:
      num_classes: K.
    """

    num_classes: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> Prediction:
        """Returns logits `[B, K]` and the hidden layer, of x `[B, H, W, C]`."""
        del train  # The same network either way.
        for index, width in enumerate((32, 64)):
            x = nn.relu(Conv(width, 3, name=f"conv_{index}")(x))
            halves = x.shape[1] // 2, 2, x.shape[2] // 2, 2
            x = x.reshape(len(x), *halves, width).mean((2, 4))
        features = nn.relu(nn.Dense(100, name="dense")(x.reshape(len(x), -1)))
        return Prediction(nn.Dense(self.num_classes, name="logits")(features), features)


def cases(victims: int, batch: int, taken: int, epochs: int) -> tuple[Case, ...]:
    """Clients of each data set, each of whom is sent a network of its own."""
    steps = epochs * batch // taken
    return tuple(
        Case(
            dataset,
            Model(Network, stream=6),
            victims,
            batch,
            {"local": f"{epochs} epochs of {batch // taken} steps of {taken}"},
            recipe=Recipe(local_steps=steps, local_batch=taken, learning_rate=0.004),
            epochs=epochs,
            networks=victims,
        )
        for dataset in DATASETS
    )


def attacks(steps: int) -> dict[str, Attack]:
    """The attack, its null, and who unrolls one order."""
    invariant = order_invariant.Config(steps=steps)
    one_order = inverting_gradients.Config(steps=steps, tv_weight=invariant.tv_weight)
    own = Attack(
        order_invariant, invariant, {"attack": "order_invariant"}, frozenset({"public"})
    )
    return {
        "own": own,
        "others": dataclasses.replace(
            own, labels={**own.labels, "updates": "others"}, null="others"
        ),
        "one_order": Attack(
            inverting_gradients,
            one_order,
            {"attack": "inverting_gradients"},
            frozenset({"labels"}),
        ),
    }


QUICK = Study(
    title="Data leakage in federated averaging: images after several epochs",
    cases=cases(3, 10, 5, 5),
    attacks=attacks(200),
    caption="PSNR in dB and labels, beside the mean image and another's update",
    table={"metric": ("psnr", "label_accuracy")},
    rows=("data", "attack", "updates"),
    columns=("metric",),
    grid=("data",),
    contrast={"data": "cifar10_jpeg75"},
    differences=(
        "MNIST stands in for FEMNIST, and CIFAR-10 for CIFAR-100",
        "--preset=quick has 10 images of 5 epochs of 2 steps where the paper has 50 of "
        "10 epochs of 5",
        "labels are read by the rule of this library, not by the paper's",
        "the prior on order is of pixels, not of a random convolution",
    ),
    caveats=(clients.LOSSY,),
)
PAPER = dataclasses.replace(QUICK, cases=cases(100, 50, 10, 10), attacks=attacks(1_000))
main = leakage.main("dimitrov2022_fedavg", quick=QUICK, paper=PAPER)

if __name__ == "__main__":
    flags.run(main)
