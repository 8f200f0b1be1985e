"""The study of payloads: what is hidden, read back and reported."""

import dataclasses
import types

import jax
import numpy as np
import pytest
from flax import linen as nn

from experiments.harness.run import Run
from experiments.studies import pipeline
from mijax import data
from mijax.data import Dataset
from mijax.defenses.released_weights import round_fraction
from mijax.models.mlp import MLP


@pytest.mark.parametrize("kept", [8, 3])
def test_pixels_of_bits(kept):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 1)).astype(np.uint8)
    world = types.SimpleNamespace(pixels=pixels)
    found = pipeline._pixels(pipeline._bits(pixels, kept), world, kept)
    assert found.shape == pixels.shape
    assert np.abs(found - pixels).max() <= (2 ** (8 - kept) - 1) / 2


def test_a_small_study(tmp_path, monkeypatch):
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
    run = Run(tmp_path, jax.random.key(0))
    for folder in ("figures", "results"):
        (tmp_path / folder).mkdir()
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
    assert len(page.results) == 1 + 3 * 3 + 2 + 2 * 2 * 3
    assert dataclasses.is_dataclass(study) and (tmp_path / "figures").iterdir()
