"""The study of split networks: who attacks what, and what is told of it."""

import jax
import numpy as np

from experiments.harness.run import Run
from experiments.studies import split
from experiments.studies.classifiers import Classifier
from mijax import attacks, data
from mijax.attacks import query_free, regularized_mle
from mijax.data import Dataset
from mijax.models import cut

SMALL = attacks.split_inverse_network.Config(steps=3)


def test_a_small_study(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    images = rng.uniform(size=(60, 12, 12, 1)).astype(np.float32)
    labels = (np.arange(60) % 3).astype(np.int32)
    loaded = Dataset("noise", images, labels, ("a", "b", "c"))
    monkeypatch.setattr(data, "load", lambda *arguments, **options: loaded)
    study = split.Study(
        "noise",
        "noise",
        Classifier(
            lambda classes: cut.lenet(classes, ((2,),), (4,), 3, "SAME"), steps=3
        ),
        {"conv1": regularized_mle.Config(steps=80, learning_rate=0.05)},
        {
            "white box": split.white_box,
            "queries": split.queries(split.same_distribution, {"conv1": SMALL}),
            "query-free": split.no_query(
                lambda world: world.others,
                split.same_network,
                query_free.Config(steps=2),
            ),
        },
        shown="conv1",
        weights=(0.0, 10.0),
        victims=4,
        published={("white box", "conv1", "psnr"): 40.0},
    )
    for folder in ("figures", "results"):
        (tmp_path / folder).mkdir()
    results = split.measure(Run(tmp_path, jax.random.key(0)), study).results
    assert len(results) == 1 + 3 * 5
    psnr = lambda name: results.value("psnr", adversary=name, layer="conv1")
    assert psnr("white box").value > psnr("white box").baseline + 6
    assert psnr("white box").paper == 40
    assert psnr(split.NULL).value < psnr(split.NULL).baseline
    assert (tmp_path / "figures" / "recovered.png").is_file()
