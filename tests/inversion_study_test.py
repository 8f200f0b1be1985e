"""The verdict of an inversion study is that of judges unrelated to the target."""

import numpy as np
import pytest

from experiments import judging
from experiments.harness.results import Metric, Record, Results
from experiments.inversion import struppek2022_ppa
from experiments.studies import inversion
from mijax.evaluation.judges import Provenance

TARGET = struppek2022_ppa.FINE_TUNED.target.provenance("private")


def judge(name, design, *data):
    reference = np.eye(3, dtype=np.float32)
    return judging.Judge(
        name,
        Provenance(design, frozenset(data)),
        lambda x: x,
        reference,
        np.arange(3),
        3,
    )


KIN = judge("kin", "MobileFaceNet", "CASIA-WebFace")
PUPIL = judge("pupil", "ResNet", "private")
STRICT = judge("strict", "ResNet", "VGG-Face")
LENIENT = judge("lenient", "VGG", "VGG-Face")


def identified(by_row):
    return Results(
        [
            Record(
                {
                    "images": row,
                    "judge": judge,
                    "among": "private",
                    "by": "nearest image",
                },
                "identity_1nn",
                Metric(value, 0.0, 1.0, 10),
            )
            for row, by_judge in by_row.items()
            for judge, value in by_judge.items()
        ]
    )


def strongest(by_row, judges):
    weak = {"template_inversion": {judge.name: 0.0 for judge in judges}}
    return inversion.strongest(
        struppek2022_ppa.FINE_TUNED, identified(by_row | weak), judges, TARGET
    )


def test_the_lowest_of_the_unrelated_judges_is_believed():
    everyone = [KIN, PUPIL, LENIENT, STRICT]
    verdict = strongest(
        {
            "ppa": {"kin": 1.0, "pupil": 0.9, "lenient": 0.9, "strict": 0.1},
            "ppa_mean": {"kin": 0.2, "pupil": 0.2, "lenient": 0.3, "strict": 0.2},
        },
        everyone,
    )
    assert verdict.attack == "ppa_mean" and verdict.judge == "strict"
    assert verdict.related == {"kin": ("design",), "pupil": ("data",)}


def test_related_judges_alone_are_said_to_be():
    rows = {"ppa": {"kin": 1.0}, "ppa_mean": {"kin": 0.5}}
    verdict = strongest(rows, [KIN])
    assert verdict.judge == "kin"
    others = {row: {"kin": 0.1} for row in ("random_latents", "real_test")}
    text = inversion.in_words(
        struppek2022_ppa.FINE_TUNED,
        identified(rows | others | {"null_shuffled": {"kin": 0.0}}),
        verdict,
        10,
        62,
    )
    assert "shares layers or data with the target" in text
    assert "the same attack on a target that cannot leak (shuffled) 0," in text


def test_a_mean_of_restarts_has_the_null_s_mean_beside_it():
    candidates = np.arange(2 * 3 * 16, dtype=np.float32).reshape(2, 3, 4, 4, 1)
    found = {
        "x": candidates[:, 0],
        "loss": np.zeros(2),
        "candidates": candidates,
        "losses": np.zeros((2, 3)),
        "trace": np.zeros((2, 3, 1)),
        "queries": np.zeros((), np.int32),
    }
    found_by = {"ppa": found, "template_inversion": found, "null_shuffled": found}
    rows = inversion.images_of(struppek2022_ppa.FINE_TUNED, found_by, False)
    assert set(rows) == {*found_by, "ppa_mean", "null_shuffled_mean"}
    np.testing.assert_allclose(rows["null_shuffled_mean"], candidates.mean(1))
    by_row = {"ppa": {"kin": 0.1}, "ppa_mean": {"kin": 0.5}}
    verdict = strongest(by_row, [KIN])
    others = ("random_latents", "real_test", "null_shuffled")
    text = inversion.in_words(
        struppek2022_ppa.FINE_TUNED,
        identified(
            by_row
            | {row: {"kin": 1.0} for row in others}
            | {"null_shuffled_mean": {"kin": 0.2}}
        ),
        verdict,
        10,
        62,
    )
    assert "cannot leak (shuffled) 20," in text


def test_the_nearest_mean_is_of_private_people_alone():
    people = judging.Judge(
        "two and a stranger",
        Provenance("none", frozenset()),
        lambda x: x,
        np.array([[1, 0], [0.8, 0.6], [0, 1], [0.7, 0.7]], np.float32),
        np.array([0, 0, 1, 2]),
        2,
    )
    assert people.knows_everyone
    seen = np.array([[0.7, 0.69], [0.1, 1.0]], np.float32)
    labels = np.array([0, 1])
    np.testing.assert_array_equal(people.nearest_mean(seen, labels), [1, 1])
    np.testing.assert_array_equal(people.nearest(seen, labels, "everyone"), [0, 1])
    np.testing.assert_array_equal(people.nearest(seen, labels, "private"), [1, 1])


@pytest.mark.process
@pytest.mark.slow
def test_ppa_runs_from_its_command(tmp_path):
    from experiments_test import run

    flags = "--num_victims=2 --ppa.samples=8 --ppa.restarts=2 --ppa.steps=1"
    code, output = run(
        ("inversion.struppek2022_ppa", "--dataset=att_faces", *flags.split()), tmp_path
    )
    assert code == 0, output
    assert "of 2 victims" in output
