"""Black boxes are opaque, count their queries, and show nothing else."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mijax import search
from mijax.core import Glimpse, Target
from mijax.defenses.rounding import rounding
from mijax.knowledge import Labels, Scores, WhiteBox, validate

SHAPE = (8, 8, 1)
LABELS = jnp.array([0, 2])


@pytest.fixture(scope="module")
def x():
    return jax.random.uniform(jax.random.key(5), (4, *SHAPE))


def of_host(kind, answer, **options):
    return kind.from_callable(answer, LABELS, SHAPE, 3, **options)


def uniform(x):
    return np.full((len(x), 3), 1 / 3)


class TestAnswers:
    def test_scores_and_labels_of_a_target(self, target, x):
        expected = jax.nn.softmax(target.predict(x).logits)
        scores, left = Scores.of(target, LABELS).query(x)
        np.testing.assert_allclose(scores, expected, rtol=1e-6)
        labels, _ = Labels.of(target, LABELS).query(x)
        np.testing.assert_array_equal(labels, expected.argmax(1))
        assert labels.dtype == jnp.int32 and left.spent == 4

    def test_released_scores(self, target, x):
        release = rounding(0.25).output
        scores, _ = Scores.of(target, LABELS, release=release).query(x)
        np.testing.assert_allclose(scores * 4, jnp.round(scores * 4), atol=1e-5)

    @pytest.mark.parametrize("kind", [Scores, Labels])
    def test_a_host_callable(self, kind, target, x):
        def answer(images):
            assert type(images) is np.ndarray
            scores = np.asarray(expected)
            return scores if kind is Scores else scores.argmax(1)

        expected = jax.nn.softmax(target.predict(x).logits)
        for compiled in (kind.query, jax.jit(kind.query)):
            answered, _ = compiled(of_host(kind, answer), x)
            of_target, _ = kind.of(target, LABELS).query(x)
            np.testing.assert_allclose(answered, of_target, rtol=1e-6)

    def test_large_images_reach_the_host(self):
        box = Scores.from_callable(uniform, LABELS, (112, 92, 1), 3)
        scores, _ = jax.jit(Scores.query)(box, jnp.zeros((64, 112, 92, 1)))
        np.testing.assert_allclose(scores, 1 / 3)

    def test_equal_host_callables_compile_once(self, x):
        traces = []

        @jax.jit
        def query(knowledge, x):
            traces.append(1)
            return knowledge.query(x)

        query(of_host(Scores, uniform), x)
        query(dataclasses.replace(of_host(Scores, uniform), labels=LABELS[::-1]), x)
        assert len(traces) == 1


class TestCounting:
    def test_queries_add_up(self, target, x):
        knowledge = Labels.of(target, LABELS)
        _, knowledge = knowledge.query(x)
        _, knowledge = knowledge.query(x[:1])
        assert knowledge.spent == 5

    def test_label_search_counts_what_the_host_was_asked(self):
        asked = []

        def answer(images):
            asked.append(len(images))
            return (images.mean((1, 2, 3)) > 0.5).astype(int)

        def objective(x, knowledge):
            labels, knowledge = knowledge.query(x.reshape(-1, *SHAPE))
            return 1.0 - labels, knowledge

        found = jax.jit(
            lambda knowledge: search.evolve(
                jax.random.split(jax.random.key(0), 2),
                objective,
                jnp.full((2, 64), 0.5),
                search.elite_gaussian(6, 2, 0.2),
                generations=5,
                aux=knowledge,
            )
        )(of_host(Labels, answer))
        assert found.aux.spent == sum(asked) == 2 * 6 * 5
        np.testing.assert_array_equal(found.loss, 0)

    @pytest.mark.parametrize("compile_", [lambda f: f, jax.jit])
    @pytest.mark.parametrize("kind", [Scores, Labels])
    def test_a_budget_that_runs_out(self, kind, compile_, target, x):
        query = compile_(kind.query)
        _, left = query(kind.of(target, LABELS, budget=6), x)
        _, left = query(left, x[:2])
        with pytest.raises(Exception, match=r"budget is 6 .* asked for 7"):
            jax.block_until_ready(query(left, x[:1]))

    def test_what_the_budget_refuses_is_not_asked(self, x):
        asked = []

        def answer(images):
            asked.append(len(images))
            return uniform(images)

        with pytest.raises(Exception, match="budget is 3"):
            query = jax.jit(Scores.query)
            jax.block_until_ready(query(of_host(Scores, answer, budget=3), x))
        assert not asked


class TestOpacity:
    @pytest.mark.parametrize("kind", [Scores, Labels])
    def test_no_derivative(self, kind, target, x):
        def total(x, knowledge):
            return jnp.sum(1.0 * knowledge.query(x)[0])

        knowledge = kind.of(target, LABELS)
        for differentiate in (jax.grad, jax.jacfwd, jax.hessian):
            with pytest.raises(TypeError, match="cannot be differentiated"):
                jax.make_jaxpr(differentiate(total))(x, knowledge)
        with pytest.raises(TypeError, match="cannot be differentiated"):
            jax.make_jaxpr(jax.grad(total, argnums=1, allow_int=True))(x, knowledge)

    def test_no_derivative_of_a_host(self, x):
        with pytest.raises(TypeError, match="cannot be differentiated"):
            jax.grad(lambda x: jnp.sum(of_host(Scores, uniform).query(x)[0]))(x)

    @pytest.mark.parametrize("kind", [Scores, Labels])
    def test_no_public_attribute_reaches_the_parameters(self, kind, target):
        knowledge = kind.of(target, LABELS)
        fields = {"oracle", "labels", "spent", "budget", "public", "prior"}
        if kind is Scores:
            fields |= {"observed"}  # what was released of the victims
        assert {f.name for f in dataclasses.fields(kind)} == fields
        reached, todo = [], [knowledge]
        while todo:
            thing = todo.pop()
            for name in dir(thing):
                if name.startswith("_") or isinstance(thing, np.ndarray | jax.Array):
                    continue
                value = getattr(thing, name)
                if callable(value) and not dataclasses.is_dataclass(value):
                    assert name in (
                        *("oracle", "query", "of", "of_labels"),
                        *("from_callable", "from_label_callable"),
                        *("check_labels", "check_values"),
                    )
                if type(value).__module__.startswith("mijax"):
                    todo.append(value)
                reached.append(value)
        secrets = {id(leaf) for leaf in jax.tree.leaves(target.params)}
        assert not secrets & {id(leaf) for leaf in reached}
        assert not any(isinstance(value, Target) for value in reached)

    @pytest.mark.parametrize("kind", [Scores, Labels])
    def test_nobody_asks_past_the_count(self, kind, target):
        assert not callable(kind.of(target, LABELS).oracle)

    def test_confidences_do_not_hide_behind_labels(self, target, x):
        labels = Labels.of(target, LABELS)
        inside, _ = dataclasses.replace(
            Scores.of(target, LABELS), oracle=labels.oracle
        ).query(x)
        np.testing.assert_array_equal(inside, np.eye(3)[labels.query(x)[0]])


class TestChecks:
    def test_making_and_mapping_knowledge_copies_nothing_to_the_host(
        self, target, prior, monkeypatch
    ):
        copied = []
        monkeypatch.setattr(jax, "device_get", copied.append)
        for known in (
            WhiteBox(target, LABELS, prior),
            Scores.of(target, LABELS, prior=prior),
        ):
            jax.tree.map(lambda leaf: leaf, known)
            dataclasses.replace(known, labels=LABELS[::-1])
        assert not copied

    @pytest.mark.parametrize("kind", [Scores, Labels])
    def test_hidden_parameters_are_checked_once(self, kind, target):
        broken = jax.tree.map(lambda leaf: leaf * jnp.nan, target.params)
        hidden = kind.of(dataclasses.replace(target, params=broken), LABELS)
        with pytest.raises(ValueError, match=r"target's parameters.*NaN"):
            validate(hidden)
        known = kind.of(target, LABELS)
        assert validate(known) is known

    def test_lists_are_not_labels(self, target):
        with pytest.raises(ValueError, match="labels are a list"):
            validate(WhiteBox(target, [0, 1]))

    def test_glimpses_are_checked(self, target):
        glimpse = Glimpse(jnp.full((1, *SHAPE), jnp.nan), jax.tree_util.Partial(abs))
        with pytest.raises(ValueError, match=r"glimpse.* hold 64"):
            validate(WhiteBox(target, LABELS[:1], glimpse=glimpse))

    def test_half_precision_is_checked(self, target):
        public = jnp.full((1, *SHAPE), jnp.inf, jnp.bfloat16)
        with pytest.raises(ValueError, match="public images hold 64"):
            validate(WhiteBox(target, LABELS, public=public))

    @pytest.mark.parametrize("kind", [Scores, Labels])
    def test_images_of_another_shape(self, kind, target):
        with pytest.raises(ValueError, match=r"\(8, 8, 3\) but the black box takes"):
            kind.of(target, LABELS).query(jnp.zeros((1, 8, 8, 3)))

    def test_labels_of_a_host(self):
        with pytest.raises(ValueError, match="labels hold 2"):
            validate(Scores.from_callable(uniform, LABELS, SHAPE, 2))

    @pytest.mark.parametrize(
        ("kind", "answer", "message"),
        [
            (Scores, lambda x: np.zeros((len(x), 2)), r"answered \(4, 2\) for 4"),
            (
                Scores,
                lambda x: np.full((len(x), 3), 7.0),
                r"answered 7.0: .* in \[0, 1",
            ),
            (Scores, lambda x: np.full((len(x), 3), np.nan), "answered nan"),
            (Labels, lambda x: np.zeros((len(x), 3), int), r"\(4, 3\) for 4 images"),
            (Labels, lambda x: np.zeros(len(x)), "float64"),
            (Labels, lambda x: np.full(len(x), 7), "answered label 7"),
        ],
    )
    def test_wrong_answers_of_a_host(self, kind, answer, message, x):
        with pytest.raises(Exception, match=message):
            jax.block_until_ready(of_host(kind, answer).query(x))

    def test_trees_of_anything_may_be_made(self, target, prior):
        scores = Scores.of(target, LABELS, prior=prior)
        jax.tree.map(lambda leaf: None, scores)
        jax.tree.map(lambda leaf: None, WhiteBox(target, LABELS, prior))
        axes = jax.tree.map(lambda leaf: 0, scores)
        assert axes.labels == 0
