"""Students see faces much as their teacher does, and nobody private was shown."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mijax import pretrained
from mijax.core import Prediction
from mijax.data import roles
from mijax.models import face_students, mobile_face_net_ms1m


def embeddings(name, x):
    embed, variables = face_students.load(name)
    return embed(variables, x)


@pytest.mark.parametrize("name", face_students.STUDENTS)
def test_embeds_faces(name):
    x = np.random.default_rng(0).uniform(size=(2, *face_students.SHAPE))
    seen = embeddings(name, jnp.asarray(x, jnp.float32))
    assert seen.shape == (2, face_students.EMBEDDING) and np.isfinite(seen).all()
    card = pretrained.card(face_students.STUDENTS[name][0])
    assert {"data", "licence", "command", "commit"} <= card.keys()


def test_an_unknown_student_is_refused():
    with pytest.raises(ValueError, match="no student 'large'"):
        face_students.load("large")


def test_distance_is_that_of_directions():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(3, 5)), jnp.float32)
    other = jnp.asarray(np.random.default_rng(1).normal(size=(3, 5)), jnp.float32)
    prediction = Prediction(x, x)
    np.testing.assert_allclose(face_students.distance(prediction, 2 * x), 0, atol=1e-5)
    expected = 1 - optax.cosine_similarity(x, other)
    np.testing.assert_allclose(
        face_students.distance(prediction, other), expected, rtol=1e-5
    )


@pytest.mark.real_data
@pytest.mark.parametrize("name", face_students.STUDENTS)
def test_agrees_with_its_teacher_about_private_people(name, data_dir):
    """None of them was in its training; embeddings of other faces are the null."""
    images = roles.faces("lfw64", str(data_dir)).private.images[:64]
    taught = mobile_face_net_ms1m.embed(mobile_face_net_ms1m.load(), images)
    seen = embeddings(name, images)
    assert optax.cosine_similarity(seen, taught).mean() > 0.5
    assert optax.cosine_similarity(seen, np.roll(taught, 20, 0)).mean() < 0.3
