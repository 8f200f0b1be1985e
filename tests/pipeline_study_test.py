"""The study of payloads: what is hidden, read back and reported."""

import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from experiments.harness.run import Run
from experiments.studies import detector, hidden_text, pipeline
from mijax import data
from mijax.attacks import least_significant_bits
from mijax.core import Coding, Target
from mijax.data import Dataset, text
from mijax.defenses.released_weights import round_fraction
from mijax.models.mlp import MLP, SoftmaxRegression


@pytest.fixture
def run(tmp_path):
    for folder in ("figures", "results"):
        (tmp_path / folder).mkdir()
    return Run(tmp_path, jax.random.key(0))


@pytest.mark.parametrize(("brief", "off"), [(False, 0), (True, 31 / 2)])
def test_pixels_of_bits(brief, off):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 1)).astype(np.uint8)
    content = pipeline.Images(pixels, np.zeros((1, 4, 4, 1)), 0.0, 1.0)
    found = content.of_bits(np.asarray(content.bits(2, brief)), brief)
    assert found.shape == pixels.shape
    assert np.abs(found - pixels).max() <= off


def test_words_of_bits_and_their_likeness():
    words = np.array([[3, 1, 5, 0], [2, 2, 0, 0]])
    content = hidden_text.Words(words, 5, np.array([0, 1, 0, 0, 0, 0.0]))
    bits = np.asarray(content.bits(2))
    assert bits.shape == (2 * 4 * 3,)
    np.testing.assert_array_equal(content.of_bits(bits), words)
    np.testing.assert_array_equal(content.of_numbers(bits / 2 + 0.3), words)
    assert content.of_bits(np.ones(12)).max() == 0  # 7 is no word's number.
    whole, half = content.judged({}, words, None), [[3, 1, 4, 0], [0, 0, 0, 0]]
    assert [record.value.value for record in whole] == pytest.approx([1, 1, 1])
    assert whole[0].value.baseline == pytest.approx(3**-0.5 / 2)
    half = content.judged({}, np.array(half), None)
    assert [record.value.value for record in half] == pytest.approx([1 / 3] * 3)


def test_texts_are_hidden(run):
    spoken = {"sea": "waves and salt water", "land": "dry hills and green grass"}
    texts = tuple(f"{spoken[k]} {i} {k}" for i in range(10, 22) for k in spoken)
    labels = np.tile(np.array([0, 1], np.int32), 12)
    found = text.Documents("places", texts, labels, texts[:6], labels[:6], ("a", "b"))
    study = pipeline.Study(
        "texts",
        "places",
        lambda classes: SoftmaxRegression(classes),
        {
            ("least significant bits", "20"): pipeline.low_bits(20, 3, Coding()),
            ("correlated values", "1"): pipeline.correlation(1.0, 1),
        },
        load=hidden_text.documents(lambda folder: found, size=31, length=3),
        objective=hidden_text.hinge,
        steps=60,
        batch_size=12,
        learning_rate=0.1,
    )
    results = pipeline.measure(run, study).results
    exact = results.value("similarity", method="least significant bits")
    assert exact.value == pytest.approx(1)
    assert results.value("bit_error_rate", method="least significant bits").value == 0
    assert results.value("target_test_accuracy", method="none").value > 0.9
    strong = results.value("similarity", method="correlated values")
    assert 0.5 < strong.value < 1.001


def test_what_a_coding_cannot_undo_is_nothing():
    pixels = np.full((1, 2, 2, 1), 200, np.uint8)
    content = pipeline.Images(pixels, np.zeros((1, 2, 2, 1)), 0.0, 1.0)
    world = types.SimpleNamespace(content=content)
    sent = pipeline._coded(world, 1, Coding())
    np.testing.assert_array_equal(pipeline._decoded(world, sent, 1, Coding()), pixels)
    assert not pipeline._decoded(world, 1 - sent, 1, Coding()).any()


def test_the_distribution_of_weights():
    module, x = SoftmaxRegression(3), jnp.zeros((1, 200))
    first, second = (
        Target.from_linen(module, module.init(jax.random.key(i), x), (200,))
        for i in range(2)
    )
    tripled = jax.tree.map(lambda leaf: 3 * leaf, first.trained)
    world = types.SimpleNamespace(audits=[first])
    assert pipeline._distance(first, world) == 0
    assert 0 < pipeline._distance(second, world) < 0.1
    assert pipeline._distance(first.with_trained(tripled), world) > 0.2


def test_a_small_study(run, tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    images = rng.uniform(size=(40, 6, 6, 1)).astype(np.float32)
    labels = (np.arange(40) % 4).astype(np.int32)
    loaded = Dataset("noise", images, labels, ("a", "b", "c", "d"))
    monkeypatch.setattr(data, "load", lambda *arguments, **options: loaded)
    study = pipeline.Study(
        "noise",
        "noise",
        lambda classes: MLP(classes, (32,), nn.relu),
        {
            ("least significant bits", "8"): pipeline.low_bits(8, 4),
            ("sign encoding", "0"): pipeline.signs(0.0, 4),
            ("correlated values", "1"): pipeline.correlation(1.0, 4),
            ("capacity abuse", "1"): pipeline.labels(1),
        },
        steps=4,
        batch_size=8,
        defended=(("least significant bits", "8"), ("sign encoding", "0")),
        defenses={
            ("bits of fraction", "3"): pipeline.through(round_fraction(3)),
            ("steps of fine-tuning", "2"): pipeline.fine_tuning(2),
        },
    )
    page = pipeline.measure(run, study)
    rounded = {"method": "least significant bits", "defense": "bits of fraction"}
    lost = page.results.value("bit_error_rate", **rounded).value
    assert lost == pytest.approx(0.5, abs=0.1)  # Every bit read is 0.
    hidden = {"method": "least significant bits", "strength": "8", "defense": ""}
    assert page.results.value("bit_error_rate", **hidden).value == 0
    assert page.results.value("mape", **hidden).value == 0
    null = {"method": "sign encoding", "strength": "0"}
    tuned = page.results.value("bit_error_rate", **null, defense="steps of fine-tuning")
    assert abs(tuned.value - 0.5) < 0.06
    null = page.results.value("bit_error_rate", **null, defense="")
    assert null.low < 0.5 < null.high or abs(null.value - 0.5) < 0.06
    assert len(page.results) == 1 + 3 * 3 + 2 + 2 * 2 * 3 + 4
    suspect = page.results.value("weight_distance", **hidden)
    assert suspect.value == pytest.approx(suspect.baseline, abs=1e-2)
    assert 0 < suspect.value < 1
    assert dataclasses.is_dataclass(study) and (tmp_path / "figures").iterdir()


def test_a_detector_of_payloads(run, monkeypatch):
    rng = np.random.default_rng(0)
    images = rng.uniform(size=(40, 6, 6, 1)).astype(np.float32)
    labels = (np.arange(40) % 4).astype(np.int32)
    loaded = Dataset("noise", images, labels, ("a", "b", "c", "d"))
    monkeypatch.setattr(data, "load", lambda *arguments, **options: loaded)
    hidden = pipeline.Study(
        "noise",
        "noise",
        lambda classes: MLP(classes, (32,), nn.relu),
        {
            ("least significant bits", "20"): pipeline.low_bits(20, 8),
            ("sign encoding", "500"): pipeline.signs(500.0, 4),
            ("capacity abuse", "1"): pipeline.labels(1),
        },
        steps=100,
        batch_size=8,
    )
    honest = {"alike": detector.Training(), "longer": detector.Training(steps=8.0)}
    study = detector.Study(hidden, honest, audited=6, repeats=3)
    results = detector.measure(run, study).results
    by_weights = {"metric": "alarm_rate", "detector": detector.WEIGHTS}
    rates = {r.labels["network"]: r.value for r in results.filter(**by_weights)}
    assert list(rates) == [
        "alike",
        "longer",
        "least significant bits, 20",
        "sign encoding, 500",
        "capacity abuse, 1",
    ]
    assert rates["sign encoding, 500"].value == 1 and rates["alike"].value < 1
    assert all(rate.n == 3 and rate.baseline == 1 / 7 for rate in rates.values())
    exact = results.value("mape", network="least significant bits, 20")
    assert exact.value == 0
    assert (run.figures / "alarms.png").is_file()
    again = detector.measure(run, study).results  # From the workdir.
    assert again.pivot(rows=("network",), columns=("metric", "detector")) == (
        results.pivot(rows=("network",), columns=("metric", "detector"))
    )


def test_the_low_bits_of_weights():
    module, x = SoftmaxRegression(4), jnp.zeros((1, 3000))
    honest = Target.from_linen(module, module.init(jax.random.key(0), x), (3000,))
    assert detector._unbalanced(honest) < 0.01
    plain = least_significant_bits.embed(honest.trained, jnp.zeros(20 * 6000))
    half = detector._unbalanced(honest.with_trained(plain))
    assert half == pytest.approx(0.25, abs=0.01)
