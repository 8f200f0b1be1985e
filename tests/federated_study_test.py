"""Studies of federated and of released models: what is measured, on tiny worlds."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from flax import linen as nn

from experiments.harness.run import Run
from experiments.studies import (
    federated,
    federated_properties,
    federations,
    properties,
    user_level,
    words,
)
from mijax import data
from mijax.attacks import deep_sets, feature_leakage, mgan_ai, participant_gan
from mijax.attacks.properties.deep_sets import DeepSets, Flat
from mijax.core import Defense, Target
from mijax.data import Dataset, reviews
from mijax.federation import Recipe, client_update
from mijax.models.mlp import MLP


@pytest.fixture
def run(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    images = rng.uniform(size=(80, 8, 8, 1)).astype(np.float32)
    labels = (np.arange(80) % 4).astype(np.int32)
    loaded = Dataset("noise", images, labels, ("a", "b", "c", "d"))
    monkeypatch.setattr(data, "load", lambda *arguments, **options: loaded)
    for folder in ("figures", "results"):
        (tmp_path / folder).mkdir()
    return Run(tmp_path, jax.random.key(0))


def small(classes):
    return MLP(classes, (8,), nn.relu)


def test_a_participants_gan(run):
    study = federated.Study(
        title="noise",
        dataset="noise",
        size=6,
        network=small,
        shares=((0, 1),),
        own=(2, 3),
        wanted=1,
        recipe=Recipe(local_steps=2, local_batch=4),
        batch_size=8,
        attack=participant_gan.Config(
            rounds=2, steps=2, batch_size=4, injected=2, samples=4, latent_size=3
        ),
        settings={
            "no defense": federated.Setting(),
            "no one has it": federated.Setting(present=False),
            "noise": federated.Setting(level=federations.ClientLevel(1.0, 0.5)),
        },
    )
    page = federated.measure(run, study)
    control = page.results.value(
        "mse", setting=federated.CONTROL, round="best, by the truth"
    )
    mse = page.results.value("mse", setting="no defense", round="chosen by its loss")
    assert mse.n == 4 and mse.baseline is not None and mse.baseline >= control.value
    assert page.results.value("target_test_accuracy", setting="honest").n == 16
    assert len(page.results) == 3 * 8 + 7 + 2 + 1
    epsilon = page.results.value("epsilon", setting="noise").value
    # Two rounds of a multiplier of .5: a Gaussian mechanism of .5 / sqrt 2.
    assert epsilon == pytest.approx(
        federations.ClientLevel(1, 0.5**1.5).epsilon(1), 0.01
    )


def test_where_no_one_has_the_class_no_client_does(run):
    images = data.train_test(data.load("noise"), test_fraction=0.2, seed=0)
    study = federated.Study(
        title="",
        dataset="",
        network=small,
        shares=((0, 1), (1,)),
        own=(2, 3),
        wanted=1,
        recipe=Recipe(),
        batch_size=4,
        attack=participant_gan.Config(),
        settings={},
    )
    for present, classes in ((True, [[0, 1], [1]]), (False, [[0]])):
        setting = federated.Setting(present=present)
        start = study.start(jax.random.key(0), images.train, extra=1)
        world, own = federated._world(study, images, start, setting, with_own=False)
        clients = world.clients
        held = [
            np.unique(labels[:count]).tolist()
            for labels, count in zip(clients.labels, clients.counts, strict=True)
        ]
        assert held == classes and set(images.train.labels[own]) == {2, 3}


def inked(images, data_dir):
    return federated_properties.Sample(
        images, properties.more_ink(images.images, images.labels), np.arange(80) // 2
    )


@pytest.mark.slow
def test_properties_of_batches(run):
    study = federated_properties.Study(
        title="noise",
        dataset="noise",
        network=small,
        sample=inked,
        property_name="ink",
        clients=(1,),
        shares=(1.0, 0.5),
        every=3,
        recipe=Recipe(),
        batch_size=4,
        attack=feature_leakage.Config(rounds=9, batches=2, steps=3),
        shuffles=3,
    )
    page = federated_properties.measure(run, study)
    numbers = {"shuffled": 3, "shuffled, lowest": 1, "shuffled, highest": 1}
    for record in page.results.filter(metric="property_auc"):
        assert 0 <= record.value.value <= 1
        assert record.value.n == numbers.get(record.labels["features"], 9)
    # Two federations by updates, the task alone and actively; a null, a phase.
    assert len(page.results.filter(metric="property_auc")) == 2 * (2 * 3 + 3 + 1)
    lowest, mean, highest = (
        page.results.value(
            "property_auc", features=f"shuffled{end}", classifier="random forest"
        ).value
        for end in (", lowest", "", ", highest")
    )
    assert lowest < mean < highest
    appears = federated_properties._appears(study)
    assert np.flatnonzero(appears).tolist() == [2, 5, 8]
    appears = federated_properties._appears(study, phase=True)
    assert np.flatnonzero(appears).tolist() == [3, 4, 5]
    world = federated_properties._world(run, study)
    sides = [world.victim, world.adversary, world.test, world.others]
    people = [set(side // 2) for side in sides]
    assert len(set.union(*people)) == sum(map(len, people))
    assert not world.has[world.others].any()
    seat = federated_properties._seat(study, world, 2, 0.5)
    clients = seat._world.clients
    rows = np.asarray(clients.rows)
    held = [clients.x[v, rows[:, v]] for v in (0, 1)]
    images = world.images.images
    has = {image.tobytes(): own for image, own in zip(images, world.has, strict=True)}
    counts = [[sum(has[np.asarray(x).tobytes()] for x in b) for b in c] for c in held]
    assert counts == [[0, 0, 2] * 3, [0] * 9]


def test_properties_of_a_training_set(run):
    study = properties.Study(
        title="noise",
        dataset="noise",
        size=6,
        task=lambda labels: labels % 2,
        has_property=properties.more_ink,
        shares=(0.2, 0.8),
        widths=(4, 3),
        shadows=6,
        released=4,
        examples=10,
        steps=2,
        batch_size=5,
        methods={
            "DeepSets": deep_sets.Config(DeepSets(3, 3), steps=2),
            "flat": deep_sets.Config(Flat(hidden=3), steps=2),
        },
    )
    page = properties.measure(run, study)
    assert page.results.value("property_accuracy", method="flat").n == 4
    assert page.results.value("target_test_accuracy", models="shadows").n == 6
    assert len(page.results) == 2 + 3 * 2


@pytest.mark.slow
def test_a_servers_view_of_one_client(run):
    study = user_level.Study(
        title="noise",
        dataset="noise",
        network=small,
        recipe=Recipe(),
        batch_size=2,
        clients=3,
        style=lambda images: images[:, ::-1],
        style_name="upside down",
        judge=small,
        training=3,
        attack=mgan_ai.Config(
            rounds=2, steps=1, inner=2, generator_steps=2, samples=12, batch_size=4
        ),
        settings={
            "passive": user_level.Setting(),
            "victim of noise alone": user_level.Setting(noise=True),
        },
        gans=3,
    )
    page = user_level.measure(run, study)
    style = page.results.value("style_rate", setting="passive")
    plain = page.results.value("style_rate", setting=user_level.PLAIN)
    assert style.baseline == plain.value and style.n == 3 * 12
    assert page.results.value("mse", setting="passive").n == 2 * 3 * 2
    assert len(page.results) == 2 + 3 * 7
    world, _ = user_level._world(run, study)
    x, labels = user_level._truth(study, world, study.settings["passive"])
    train = world.images.train
    first = world.parts[0][world.rows[1, 0]]
    np.testing.assert_array_equal(x[1, 0], train.images[first][:, ::-1])
    second = world.parts[2][world.rows[0, 2]]
    np.testing.assert_array_equal(x[0, 2], train.images[second])
    np.testing.assert_array_equal(labels[0, 2], train.labels[second])


def test_race_is_where_two_labels_agree():
    black = tiny.paper("federated.melis2019_feature_leakage").black
    said = {
        "k_black": np.array(["1", "1", "1", "0", "0", "0", ""]),
        "d_race": np.array(["black", "white", "", "asian", "black", "", "black"]),
    }
    assert black(said).tolist() == ["1", "", "", "0", "", "", ""]


def test_dropout_of_hidden_features():
    dropout = tiny.paper("federated.melis2019_feature_leakage").dropout
    module, x = small(3), jnp.asarray(np.random.default_rng(0).uniform(size=(4, 6)))
    target = Target.from_linen(module, module.init(jax.random.key(0), x), (6,))
    plain, kept, dropped = (
        client_update(
            Recipe(), target, x, jnp.arange(4) % 3, defense, jax.random.key(1)
        )
        for defense in (Defense(), dropout(0.0), dropout(0.9))
    )
    same = jax.tree.map(lambda a, b: jnp.allclose(a, b, atol=1e-6), plain, kept)
    assert all(jax.tree.leaves(same))
    # A feature that no example keeps has no part in the last layer's gradient.
    kernel = [each.change["logits"]["kernel"] for each in (plain, dropped)]
    assert (kernel[1] == 0).all(1).sum() > (kernel[0] == 0).all(1).sum()


def test_places_are_words(run, monkeypatch):
    columns = {"place_000": [1, 0], "place_001": [0, 0], "place_002": [1, 1]}
    columns = {name: np.array(own) for name, own in columns.items()}
    table = types.SimpleNamespace(name="x", columns=columns | {"cluster": [4, 0]})
    monkeypatch.setattr(words.location, "load", lambda data_dir: table)
    found = words.places(run)
    assert found.words.tolist() == [[1, 3], [3, 0]] and len(found.vocabulary) == 3
    assert found.labels == [4, 0]


def test_the_words_of_a_batch(run):
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(list("abcdefghij"), 4)) for _ in range(1_100)]
    made = reviews.of(
        "letters", texts, [i % 2 for i in range(1_100)], length=4, vocabulary=10
    )
    study = words.Study(
        title="letters",
        load=lambda run: made,
        width=3,
        batches=(2, 1),
        victims=3,
        settings={
            "gradient": words.Setting(),
            "sum": words.Setting(summed=2),
            "noise": words.Setting(level=federations.ClientLevel(1.0, 0.1)),
        },
        rate=0.1,
        rounds=2,
    )
    page = words.measure(run, study)
    for place in ({"batch": "2"}, {"batch": "1"}):
        for name in ("word_precision", "word_recall"):
            found = page.results.value(name, setting="gradient", **place)
            assert found.value == 1 and found.n == 3
    noisy = page.results.value("word_precision", setting="noise", batch="2")
    assert noisy.value < 1
    assert page.results.value("word_recall", setting="noise", batch="2").value == 1
    assert page.results.value("target_test_accuracy", setting="sum", batch="2").n
