"""Networks of numbers as models of a table: their neurons can be read."""

import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from mijax.audit import rows
from mijax.audit.rows import Frame
from mijax.core import Prediction, Target

Predict = Callable[[Frame], NDArray[Any]]


def read(model: Any) -> tuple[Predict, Predict] | None:
    """What a network predicts of rows, and its neurons, `[B, M]`; None of no network.

    A network is a `mijax.core.Target` (its features and logits are its neurons), or a
    PyTorch module (the outputs of all its layers). It is given the columns in their
    order as float32, and answers with logits, or with one number.
    """
    if isinstance(model, Target):
        return _target(model)
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(model, torch.nn.Module):
        return _torch(torch, model)
    return None


def _numbers(asked: Frame) -> NDArray[np.float32]:
    columns = {name: rows.column(asked, name) for name in rows.names(asked)}
    text = [n for n, values in columns.items() if values.dtype.kind not in "iufb"]
    if text:
        raise ValueError(
            f"the network takes numbers and {text[0]!r} holds text: give a function "
            "that encodes it as for training, and --neurons="
        )
    numbers = {name: values.astype(np.float32) for name, values in columns.items()}
    for name, values in columns.items():
        before, after = len(np.unique(values)), len(np.unique(numbers[name]))
        if after < before / 2:
            raise ValueError(
                f"the {before} different numbers of {name!r} are {after} in float32: "
                "give a function that standardizes them as for training"
            )
    return np.stack(list(numbers.values()), 1)


def _probabilities(logits: NDArray[Any]) -> NDArray[np.float64]:
    if logits.ndim < 2 or logits.shape[1] == 1:
        return logits.reshape(len(logits)).astype(np.float64)
    best = logits - logits.max(1, keepdims=True)
    shares = np.exp(best.astype(np.float64))
    return shares / shares.sum(1, keepdims=True)


def _target(target: Target) -> tuple[Predict, Predict]:
    @jax.jit
    def ask(target: Target, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        said: Prediction = target.predict(x)
        features = said.logits if said.features is None else said.features
        return said.logits, jnp.concatenate([features, said.logits], 1)

    def predict(asked: Frame) -> NDArray[Any]:
        return _probabilities(np.asarray(ask(target, jnp.asarray(_numbers(asked)))[0]))

    def neurons(asked: Frame) -> NDArray[Any]:
        return np.asarray(ask(target, jnp.asarray(_numbers(asked)))[1])

    return predict, neurons


def _torch(torch: Any, module: Any) -> tuple[Predict, Predict]:
    def ask(asked: Frame) -> tuple[Any, list[Any]]:
        seen: list[Any] = []

        def keep(layer: Any, given: Any, output: Any) -> None:
            if torch.is_tensor(output):
                seen.append(output.detach().reshape(len(output), -1))

        layers = [m for m in module.modules() if not list(m.children())]
        hooks = [layer.register_forward_hook(keep) for layer in layers]
        was = module.training
        try:
            module.eval()
            with torch.no_grad():
                return module(torch.from_numpy(_numbers(asked))), seen
        finally:
            module.train(was)
            for hook in hooks:
                hook.remove()

    def predict(asked: Frame) -> NDArray[Any]:
        return _probabilities(ask(asked)[0].numpy())

    def neurons(asked: Frame) -> NDArray[Any]:
        return torch.cat(ask(asked)[1], 1).numpy()

    return predict, neurons
