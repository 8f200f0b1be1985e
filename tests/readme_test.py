"""The README's code runs, and its tables are what the code says."""

import pathlib
import re
import types

import jax
import jax.numpy as jnp
import pytest
from flax import linen

from experiments import methods_table
from mijax import attacks, core, defenses, priors

ROOT = pathlib.Path(__file__).parents[1]
PAGE = (ROOT / "README.md").read_text()


def _code(name: str) -> str:
    block = rf"<!-- test: {name} -->\n```python\n(.*?)```"
    (code,) = re.findall(block, PAGE, re.DOTALL)
    return code


def _gray(pixels, z):
    return jax.nn.sigmoid(z @ pixels).reshape(-1, 64, 64, 1)


def _indifferent(params, x):
    return jnp.zeros(len(x))


def test_the_white_box_audit_runs(tmp_path, monkeypatch):
    class Linear(linen.Module):
        @linen.compact
        def __call__(self, x):
            return linen.Dense(10)(x.reshape(len(x), -1))

    pixels = jax.random.normal(jax.random.key(0), (2, 64 * 64))
    prior = core.Prior(pixels, {}, _gray, _indifferent, 2, (64, 64, 1))
    loaded = []
    monkeypatch.setattr(priors, "load", lambda name: loaded.append(name) or prior)
    monkeypatch.chdir(tmp_path)
    model = Linear()
    variables = model.init(jax.random.key(1), jnp.zeros((1, 64, 64, 1)))
    given = {"model": model, "variables": variables}
    exec(_code("white box").replace("steps=1500", "steps=2"), given)

    assert loaded == ["faces64"]
    assert given["found"].trace.shape[-1] == 3  # The two steps were taken.
    assert given["found"].x.shape == (10, 64, 64, 1)
    assert (tmp_path / "recovered.png").is_file()


def test_the_black_box_audit_runs_and_finds_each_digit(capsys):
    given = {}
    exec(_code("black box"), given)
    assert int(capsys.readouterr().out) <= 100_000
    answers = given["scores"](jax.device_get(given["found"].x))
    assert (answers.argmax(1) == range(10)).all()


def test_the_audit_of_a_client_runs_and_recovers_its_label(capsys):
    class Linear(linen.Module):
        @linen.compact
        def __call__(self, x):
            return linen.Dense(10)(x.reshape(len(x), -1))

    model = Linear()
    images = jax.random.uniform(jax.random.key(0), (8, 1, 32, 32, 1))
    labels = jnp.arange(8)[:, None]
    given = {
        "model": model,
        "variables": model.init(jax.random.key(1), images[0]),
        "batches": (images, labels),
    }
    exec(_code("shared update").replace("steps=2_000", "steps=2"), given)
    assert given["found"].x.shape == (8, 1, 32, 32, 1)
    assert jnp.array_equal(given["found"].labels, labels)


def test_the_page_is_finished_and_its_links_lead_somewhere():
    assert re.findall(r"<<.*?>>", PAGE) == []
    links = re.findall(r"\]\((?!https:)([^)]+)\)", PAGE)
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_tables_are_those_of_the_code():
    assert methods_table.inserted(PAGE) == PAGE, "run `make methods`"


def test_the_table_has_a_row_for_each_attack():
    rows = methods_table.table().splitlines()[2:]
    assert len(rows) == len(attacks.ALL)
    for row, method in zip(rows, attacks.ALL, strict=True):
        assert row.count(" | ") == 3
        assert f"({method.__name__.replace('.', '/')}.py)" in row


def test_the_table_has_a_row_for_each_defense():
    rows = methods_table.table_of_defenses().splitlines()[2:]
    functions = [*defenses.ALL, *defenses.TRAINERS]
    assert len(rows) == len(functions)
    for row, function in zip(rows, functions, strict=True):
        assert row.count(" | ") == 3
        assert f"[`{function.__name__}`]" in row


def test_a_defense_that_states_no_guarantee_is_refused():
    with pytest.raises(ValueError, match="does not say what it guarantees"):
        methods_table.guarantee(_method)


def _method(references: str, first_line: str) -> types.ModuleType:
    method = types.ModuleType("mijax.attacks.planted", f"Planted: x.\n\n{references}")
    method.attack = types.SimpleNamespace(__doc__=first_line)
    return method


def test_references_are_read_with_their_links():
    references = """References:
      Zhang et al. The secret: models, in
        two lines. CVPR 2020. arXiv:1911.07135.
      Fredrikson, Jha. Exploits. CCS 2015. doi:10.1145/2810103.2813677.
    """
    assert methods_table.papers(_method(references, "")) == (
        "Zhang et al., [The secret: models, in two lines]"
        "(https://arxiv.org/abs/1911.07135), CVPR 2020; "
        "Fredrikson, Jha, [Exploits]"
        "(https://doi.org/10.1145/2810103.2813677), CCS 2015"
    )


def test_an_attack_that_does_not_introduce_itself_is_refused():
    method = _method("References:\n  Somebody, somewhere.", "Does things.")
    with pytest.raises(ValueError, match="names no paper"):
        methods_table.papers(method)
    with pytest.raises(ValueError, match="begin with 'Recovers'"):
        methods_table.recovers(method)
    with pytest.raises(ValueError, match="once each"):
        methods_table.inserted("a page without markers")
