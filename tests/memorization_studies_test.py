"""The studies of unintended memorization and informed adversaries, at tiny sizes."""

import jax
import numpy as np
import pytest
from flax import linen as nn

from experiments.harness.run import Run
from experiments.studies import (
    exposure,
    generalization,
    informed,
    reconstruction_bound,
)
from mijax import data
from mijax.attacks import informed_adversary, mi_face
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


@pytest.mark.slow
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
        sizes={"wide": lambda symbols: CausalConv(symbols, 12, dilations=(1, 2))},
        batch_size=8,
        learning_rate=1e-2,
        noise_multipliers=(2.0,),
        private_batch_size=40,
    )
    page = exposure.measure(run, study)
    last = {"training": "Adam", "epochs": "6", "network": ""}
    inserted = page.results.value("exposure", **last, insertions="30")
    assert inserted.value == pytest.approx(np.log2(100), abs=1.5)
    private = {"training": "DP-SGD, noise 2", "epochs": "6"}
    assert 0 < page.results.value("epsilon", **private).value < 20
    bits = [r.value.value for r in page.results.filter(metric="bits_per_character")]
    assert len(bits) == 4 and bits[1] < bits[0]
    wide = page.results.value("exposure", **last | {"network": "wide"}, insertions="30")
    assert wide.value == pytest.approx(np.log2(100), abs=1.5)
    assert len(list(run.figures.iterdir())) == 3


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


@pytest.mark.slow
def test_generalization(run, monkeypatch):
    rng = np.random.default_rng(0)
    images = rng.uniform(size=(160, 20, 20, 1)).astype(np.float32)
    labels = (np.arange(160) % 2).astype(np.int32)
    images[labels == 1, 4:12, 4:12] = 1.0  # A class has a bright square.
    loaded = Dataset("squares", images, labels, ("dark", "bright"))
    monkeypatch.setattr(data, "load", lambda *arguments, **options: loaded)
    study = generalization.Study(
        "gaps",
        "squares",
        generalization.Setting(width=4, steps=5, known=6),
        {"steps": (60.0,), "decay": (0.1,)},
        repeats=1,
        canaries=4,
        candidates=32,
        pixels=2,
        tested=20,
        victims=3,
        shadows=30,
        informed=informed_adversary.Config(widths=(8,), steps=20, batch_size=8),
        inversion=mi_face.Config(steps=5),
        judge_steps=30,
    )
    page = generalization.measure(run, study)
    assert page.n == 3
    gaps = [r.value.value for r in page.results.filter(metric="generalization_gap")]
    assert all(-0.6 < gap < 0.6 for gap in gaps)
    canaries = page.results.filter(metric="disclosed", attack="canary")
    assert all(0 <= record.value.value <= 5 for record in canaries)
    overall = page.results.filter(metric="rank_correlation", axis="all")
    assert {record.labels["attack"] for record in overall} <= set(
        generalization._ATTACKS
    )
    assert (run.figures / "gap_against_success.png").stat().st_size > 1000


def test_what_is_told_of_a_target():
    """Planted: half of the members are told, no other; the canary is the likeliest."""
    found = {
        "right_known": np.ones(4),
        "right_test": np.array([1, 0, 0, 1.0]),
        "loss_known": np.array([0.1, 0.1, 0.9, 0.9]),
        "loss_test": np.full(4, 2.0),
        "pixel_known": np.array([[1, 1], [0, 0.0]]),
        "pixel_test": np.array([[1, 0], [0, 0.0]]),
        "recovered": np.zeros((4, 3)),
        "canary": np.array([0.5]),
        "others": np.arange(1.0, 8.0)[None],
        "error": np.full(3, 0.1),
        "guess": np.full(3, 0.4),
    }
    told = generalization._told(found, lambda x: np.array([0, 1, 0, 0]))
    assert told == pytest.approx(
        {
            "gap": 0.5,
            "accuracy": 0.5,
            "membership": 0.5,
            "attribute": 0.25,
            "class": 0.5,
            "canary": 3.0,
            "record": 0.75,
        }
    )
