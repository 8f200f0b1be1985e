"""A black box that fails in mid-run loses no answer that was paid for."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mijax.attacks import mi_face
from mijax.knowledge import Kept, Labels, Scores, asking

KEY = jax.random.key(0)
SHAPE = (3, 2, 1)
CONFIG = mi_face.Config(steps=2)
ATTACK = jax.jit(mi_face.attack)


class Server:
    """A model behind a counter, which fails at some image."""

    def __init__(self, fail=lambda: None, at=None):
        self.fail, self.at, self.paid = fail, at, 0

    def __call__(self, x):
        if self.at is not None and self.paid + len(x) > self.at:
            self.fail()
        self.paid += len(x)
        sums = x.reshape(len(x), -1) @ np.arange(18.0).reshape(6, 3) / 18
        return np.exp(sums) / np.exp(sums).sum(1, keepdims=True)


def told(function, **options):
    return Scores.from_callable(function, jnp.array([0, 2]), SHAPE, 3, **options)


class Line:
    """Leads to any server: one callable, and so one program, for all of them."""

    def __call__(self, x):
        return self.server(x)


LINE = Line()


def found(server):
    LINE.server = server
    with asking():
        return ATTACK(KEY, told(LINE), CONFIG)


def raises(error):
    def fail():
        raise error

    return fail


FAILURES = [
    (
        raises(TimeoutError("no answer\nin 30 s")),
        "raised TimeoutError: no answer in",
    ),
    (raises(RuntimeError("429: slow down")), "raised RuntimeError: 429: slow down"),
    (raises(KeyboardInterrupt()), "was interrupted"),
    (raises(SystemExit(3)), "raised SystemExit: 3"),
]


@pytest.mark.parametrize(("fail", "message"), FAILURES)
def test_a_failure_keeps_what_was_answered(tmp_path, capfd, fail, message):
    whole, path = Server(), tmp_path / "answers"
    undisturbed = found(Kept(whole, tmp_path / "undisturbed"))
    first, second = Server(fail, at=20), Server()
    expected = f"The black box {message}.*after 20 answers, .*kept in {path}: run the"
    with pytest.raises(ValueError, match=expected) as caught:
        found(Kept(first, path))
    assert "\n" not in str(caught.value)
    assert "Traceback" not in capfd.readouterr().err
    resumed = found(Kept(second, path))
    assert first.paid == 20 and first.paid + second.paid == whole.paid
    assert resumed.queries == undisturbed.queries == 2 * 13 * 3
    np.testing.assert_array_equal(resumed.x, undisturbed.x)


def test_without_a_file_the_remedy_is_one():
    with pytest.raises(ValueError, match=r"raised OSError: down: run the same again"):
        found(Server(raises(OSError("down")), at=20))


def test_without_asking_the_error_of_jax_ends_with_the_remedy(tmp_path):
    for server, remedy in (
        (Server(raises(OSError("down")), at=20), "keeps what it answered."),
        (Kept(Server(raises(OSError("down")), at=20), tmp_path / "a"), "others alone."),
    ):
        LINE.server = server
        with pytest.raises(jax.errors.JaxRuntimeError) as caught:
            jax.block_until_ready(ATTACK(KEY, told(LINE), CONFIG))
        *_, last = str(caught.value).strip().splitlines()
        assert last.startswith("ValueError: The black box raised OSError: down")
        assert last.endswith(remedy)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda x: np.ones(3), r"answered \(3,\) for 2 images"),
        (lambda x: np.full((len(x), 3), np.nan), "answered nan: expected confidences"),
        (lambda x: np.full((len(x), 3), 4.0), "answered 4.0: expected confidences"),
    ],
)
def test_an_answer_amiss_is_one_error(tmp_path, answer, message):
    with pytest.raises(ValueError, match=message):
        found(answer)
    with pytest.raises(ValueError, match=message):
        found(Kept(answer, tmp_path / "answers", at_most=8))


def test_a_budget_is_one_error():
    with pytest.raises(RuntimeError, match="query budget is 5"), asking():
        ATTACK(KEY, told(Server(), budget=5), CONFIG)


def test_labels_are_kept_as_well(tmp_path):
    server = Server()
    kept = Kept(lambda x: server(x).argmax(1), tmp_path / "answers", at_most=4)
    box = Labels.from_callable(kept, jnp.array([0]), SHAPE, 3)
    x = np.linspace(0, 1, 30, dtype=np.float32).reshape(5, *SHAPE)
    with asking():
        answers = [box.query(jnp.asarray(rows))[0] for rows in (x, x[::-1])]
    np.testing.assert_array_equal(answers[0], answers[1][::-1])
    assert server.paid == kept.asked == 5


def test_what_cannot_keep_answers(tmp_path):
    (tmp_path / "file").write_text("no answers")
    for path in (tmp_path / "file", tmp_path, tmp_path / "file" / "below"):
        with pytest.raises(ValueError, match=re.escape(str(path))):
            Kept(Server(), path)
    with pytest.raises(ValueError, match="at_most is 0"):
        Kept(Server(), tmp_path / "answers", at_most=0)


def test_a_torn_file_gives_what_is_whole(tmp_path):
    path = tmp_path / "answers"
    found(Kept(Server(), path))
    path.write_bytes(path.read_bytes()[:-30])
    again = Server()
    found(Kept(again, path))
    assert again.paid == 1
