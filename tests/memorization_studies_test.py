"""The studies of unintended memorization and informed adversaries, at tiny sizes."""

import jax
import numpy as np
import pytest
from flax import linen as nn

from experiments.harness.run import Run
from experiments.studies import exposure, informed, reconstruction_bound
from mijax import data
from mijax.attacks import informed_adversary
from mijax.data import Dataset
from mijax.defenses import dp_sgd
from mijax.models.causal_conv import CausalConv
from mijax.models.mlp import MLP, SoftmaxRegression


@pytest.fixture
def run(tmp_path):
    for folder in ("figures", "results"):
        (tmp_path / folder).mkdir()
    return Run(tmp_path, jax.random.key(0))


@pytest.fixture
def noise(monkeypatch):
    rng = np.random.default_rng(0)
    images = rng.uniform(size=(90, 4, 4, 1)).astype(np.float32)
    labels = (np.arange(90) % 3).astype(np.int32)
    loaded = Dataset("noise", images, labels, ("a", "b", "c"))
    monkeypatch.setattr(data, "load", lambda *arguments, **options: loaded)


def test_exposure(run):
    study = exposure.Study(
        "canaries",
        lambda symbols: CausalConv(symbols, width=8, dilations=(1, 2)),
        prefix="{} is ",
        digits=2,
        characters=600,
        length=12,
        insertions=(0, 30),
        canaries=1,
        never=3,
        epochs=(1, 6),
        batch_size=8,
        learning_rate=1e-2,
        noise_multipliers=(2.0,),
        private_batch_size=40,
    )
    page = exposure.measure(run, study)
    last = {"training": "Adam", "epochs": "6"}
    inserted = page.results.value("exposure", **last, insertions="30")
    assert inserted.value == pytest.approx(np.log2(100), abs=1.5)
    private = {"training": "DP-SGD, noise 2", "epochs": "6"}
    assert 0 < page.results.value("epsilon", **private).value < 20
    bits = [r.value.value for r in page.results.filter(metric="bits_per_character")]
    assert len(bits) == 3 and bits[1] < bits[0]
    assert len(list(run.figures.iterdir())) == 2


def test_informed(run, noise):
    study = informed.Study(
        "records",
        "noise",
        lambda classes: MLP(classes, (3,), nn.elu),
        known=10,
        shadows=40,
        victims=12,
        steps=3,
        config=informed_adversary.Config(widths=(8,), steps=10, batch_size=8),
    )
    page = informed.measure(run, study)
    errors = page.results.filter(metric="mse")
    assert [record.labels["adversary"] for record in errors] == [
        "informed adversary",
        "null: other records",
        "guess: mean image",
        "guess: mean of its class",
    ]
    assert all(0 < record.value.value < 1 for record in errors)
    assert page.n == 12


def test_reconstruction_bound(run, noise):
    study = reconstruction_bound.Study(
        "records",
        "noise",
        lambda classes: SoftmaxRegression(classes),
        side=2,
        known=8,
        candidates=4,
        tested=20,
        trials=200,
        updates=2,
        samplings=(1.0,),
        epsilons=(0.5, 200.0),
        chunk=50,
    )
    page = reconstruction_bound.measure(run, study)
    for privacy in ("0.5", "200"):
        success = page.results.value("success_rate", privacy=privacy)
        assert success.low <= page.results.value("success_bound", privacy=privacy).value
    assert page.results.value("success_rate", privacy="200").value > 0.4
    with pytest.raises(ValueError, match="it must divide 4"):
        reconstruction_bound._smaller(np.zeros((1, 4, 4, 1)), 3)


def test_noise_is_what_the_accountant_asks_for():
    noise = reconstruction_bound.noise_for(3.0, 1.0, 2, 1e-3)
    assert dp_sgd.epsilon(noise, 1.0, 2, 1e-3) <= 3.0
    assert dp_sgd.epsilon(noise / 1.02, 1.0, 2, 1e-3) > 3.0
