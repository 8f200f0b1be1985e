"""The studies of decoders, of split defenses and of updates: what is told of what."""

import dataclasses

import jax
import numpy as np
import pytest
from flax import linen as nn

from experiments.harness.run import Run
from experiments.studies import decoding, split_defenses, surrogates, updates
from experiments.studies.classifiers import Classifier
from experiments.studies.decoding import Release, World
from experiments.studies.split_defenses import Setting
from mijax import attacks, data
from mijax.attacks import cbm_gan, gamin, inverse_network, updates_leak
from mijax.data import Dataset
from mijax.defenses import feature_noise, mid, nopeek, posterior_noise, top_k
from mijax.knowledge.explained import gradient_times_input
from mijax.models.cut import CutNetwork, flatten
from mijax.models.decoders import DenseDecoder
from mijax.models.mlp import MLP
from mijax.models.variational import VariationalMLP
from mijax.priors import decoder

SPLIT_DECODER = attacks.split_inverse_network.Config(steps=300)


def loaded(number=120):
    """Noise around three images."""
    rng = np.random.default_rng(0)
    labels = (np.arange(number) % 3).astype(np.int32)
    templates = rng.uniform(size=(3, 12, 12, 1))
    images = templates[labels] + rng.normal(0, 0.05, (number, 12, 12, 1))
    images = images.clip(0, 1).astype(np.float32)
    return Dataset("blobs", images, labels, ("a", "b", "c"))


def network(classes):
    return MLP(classes, (8,), nn.relu)


SMALL = Classifier(network, steps=60)


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "load", lambda *arguments, **options: loaded())
    for folder in ("figures", "results"):
        (tmp_path / folder).mkdir()
    return Run(tmp_path, jax.random.key(0))


def world(run):
    del run
    split = data.train_test(loaded(), test_fraction=0.5)
    return World("blobs", split, split.test, {"same": split.test.images}, split)


def test_decoding(run):
    study = decoding.Study(
        "blobs",
        world,
        SMALL,
        SMALL,
        {
            "all": Release(),
            "1 largest": Release(lambda made: top_k.top_k(1), trained=True),
            "MID": Release(
                None, lambda classes: VariationalMLP(classes, (8,), 2), mid.mid(0.1)
            ),
            "explained": Release(explain=gradient_times_input),
            "null: explained": Release(explain=gradient_times_input, foreign=True),
            "joint": Release(joint=10.0),
        },
        inverse_network.Config(steps=300),
        "same",
        victims=30,
    )
    results = decoding.measure(run, study).results
    mse = results.value("mse", released="all", auxiliary="same")
    assert mse.value < 0.5 * mse.baseline
    null = results.value("mse", released=decoding.NULL, auxiliary="same")
    assert null.value > null.baseline
    assert results.value("score_distortion", released="all").value == 0
    assert results.value("score_distortion", released="1 largest").value > 0
    assert results.value("training_seconds", released="1 largest").value > 0
    members = results.value("membership_auc", released="all")
    assert members.n == 60 and members.baseline == 0.5 and 0.4 < members.value < 0.7
    explained, foreign = (
        results.value("mse", released=name).value
        for name in ("explained", "null: explained")
    )
    assert explained < foreign
    joint = results.value("mse", released="joint", auxiliary="the owner's")
    assert joint.value < 0.5 * joint.baseline
    assert results.value("target_test_accuracy", released="joint").value > 0.9
    assert (run.figures / "mse.png").is_file()


@pytest.mark.slow
def test_surrogates(run):
    better = Classifier(network, steps=300)
    config = gamin.Config(
        steps=300,
        batch_size=16,
        restarts=4,
        learning_rate=3e-3,
        generator_rate=3e-3,
    )
    study = surrogates.Study("blobs", "blobs", better, better, config)
    page = surrogates.measure(run, study)
    results = page.results
    taken = results.value("acceptance", attacked=surrogates.TRUE, label="")
    assert taken.value > 0.6 and taken.n == 12
    copied = results.value("fidelity", attacked="target", on="generated images")
    assert copied.value > 0.8
    null = results.value("target_test_accuracy", attacked=surrogates.NULL, label="")
    assert null.value < 0.7
    for name in ("class_accuracy", "top1", "correlation"):
        assert len(results.filter(metric=name, attacked="target", label="b")) == 1
    assert len(page.tables[0].rows) == 3
    assert (run.figures / "generated.png").is_file()


def test_members_are_told_by_the_confidence_in_their_class():
    inside = np.array([[0.9, 0.1], [0.5, 0.5]])
    outside = np.array([[0.05, 0.95], [0.5, 0.5], [0.2, 0.8], [0.95, 0.05]])
    found = decoding._members(
        "all", inside, np.array([0, 1]), outside, np.array([1, 0, 0, 0])
    )
    # The first beats .5 and .2, the second .2 and half of .5.
    assert found.value.value == pytest.approx((2 / 4 + 1.5 / 4) / 2)


def test_correlations():
    a = np.array([[0, 1, 2], [1, 1, 1]])
    found = surrogates._correlations(a, np.array([[0, 2, 4], [2, 1, 0], [1, 0, 1]]))
    np.testing.assert_allclose(found, [[1, -1, 0], [0, 0, 0]], atol=1e-12)


def test_split_defenses(run):
    study = split_defenses.Study(
        "blobs",
        "blobs",
        Classifier(
            lambda classes: CutNetwork(
                ("flatten", "fc", "tanh", "logits"),
                (flatten, nn.Dense(6), nn.tanh, nn.Dense(classes)),
            ),
            steps=60,
        ),
        "tanh",
        SMALL,
        {
            "none": Setting(),
            "noise": Setting(
                None, lambda key: feature_noise.laplace_features(key, 20.0)
            ),
            "NoPeek": Setting(lambda key: nopeek.nopeek(1.0)),
        },
        SPLIT_DECODER,
        victims=20,
    )
    results = split_defenses.measure(run, study).results
    plain, noised = (results.value("mse", setting=name) for name in ("none", "noise"))
    assert plain.value < 0.5 * plain.baseline < noised.value
    assert results.value("target_test_accuracy", setting="none").value > 0.9
    correlated = results.filter(metric="distance_correlation", setting="none")
    assert {record.labels["with"] for record in correlated} == {"features", "recovered"}


@pytest.mark.slow
def test_updates(run):
    config = updates_leak.Config(
        shadow=network, clones=60, shadow_steps=30, steps=60, widths=(8,)
    )
    several = dataclasses.replace(config, set_size=4, summary=updates_leak.class_means)
    sets = cbm_gan.Config(
        shadow=network,
        clones=60,
        set_size=3,
        shadow_steps=30,
        steps=60,
        widths=(8,),
        generator_widths=(8,),
        critic_widths=(8,),
        samples=6,
    )
    study = updates.Study(
        "blobs",
        updates.images("blobs", 110),
        network,
        {
            "single": updates.Case(config, image=True),
            "noise": updates.Case(
                config, lambda key: posterior_noise.posterior_noise(key, 0.5)
            ),
            "several": updates.Case(several),
            "sets": updates.Case(sets),
        },
        victims=20,
        probes=10,
        steps=30,
        autoencoder=decoder.Config(lambda shape: DenseDecoder(shape, (16,)), 300),
    )
    page = updates.measure(run, study)
    single = page.results.value("label_accuracy", case="single")
    null = page.results.value("label_accuracy", case=f"single, {updates.NULL}")
    noised = page.results.value("label_accuracy", case="noise")
    assert single.value > max(null.value, noised.value)
    assert page.results.value("label_kl", case="several").baseline > 0
    assert page.results.value("mse", case="single").n == 20
    copied = page.results.value("mse", case=updates.COPY)
    assert copied.value < 0.5 * copied.baseline
    copied = page.results.value("mse", case=f"sets, {updates.COPY}")
    assert copied.value < 0.5 * copied.baseline
    for case in ("sets", "sets, null: of another update", "sets, null: public images"):
        assert page.results.value("mse", case=case).n == 20
    ratio = page.results.value("null_ratio", case="sets")
    assert ratio.n == 20 and ratio.low <= ratio.value <= ratio.high
    assert (run.figures / "sets.png").is_file()
    assert "shadow updates a minute" in page.knowledge


def test_divergence_of_distributions():
    found = updates._divergence(
        np.array([[0.5, 0.5], [1, 0]]), np.array([[0.25, 0.75]])
    )
    expected = [0.5 * np.log(2) + 0.5 * np.log(2 / 3), np.log(4)]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
