"""Costs in closed form, ceilings beside NumPy's, and programs that would not fit."""

import json
import os
import pathlib
import statistics
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import profile
from experiments.harness import figures, memory, report

ROOT = pathlib.Path(__file__).parents[1]
SIZE = 256


def product_of(steps):
    def run(a, b):
        return jax.lax.scan(lambda c, _: (jnp.tanh(c @ b), None), a, length=steps)[0]

    return run


def test_a_products_cost_is_the_closed_form():
    a = jnp.ones((SIZE, SIZE))
    flops, size = profile.cost(profile.of_function(jnp.matmul, a, a))
    assert flops == pytest.approx(2 * SIZE**3, rel=0.02)
    assert size == pytest.approx(3 * 4 * SIZE**2, rel=0.02)


def test_a_loop_costs_its_body_times_its_iterations():
    a = jnp.ones((SIZE, SIZE))
    flops, size = profile.cost(profile.Kernel(product_of, (a, a), steps=10))
    assert flops == pytest.approx(10 * 2 * SIZE**3, rel=0.02)
    assert size > 10 * 3 * 4 * SIZE**2


def test_rates_are_those_of_the_roofline():
    limits = profile.Ceilings(flops=100e9, bandwidth=10e9)
    measures = {"run ms": 2000.0, "GFLOP": 50.0, "GB": 1.0}
    rates = profile.rates(measures, limits)
    assert rates["GFLOP/s"] == pytest.approx(25)
    assert rates["bound ms"] == pytest.approx(500)
    assert rates["share"] == pytest.approx(0.25)
    starved = profile.rates(measures | {"GB": 10.0}, limits)
    assert starved["bound ms"] == pytest.approx(1000)


@pytest.mark.parametrize("name", sorted(profile.KERNELS))
def test_each_attack_of_the_table_is_profiled_whole(name):
    def run():
        kernels = profile.KERNELS[name](2, 3)
        assert next(iter(kernels)) == "attack" and len(kernels) > 1
        return [k.of_steps(k.steps and 5)(*k.arguments) for k in kernels.values()]

    found, *_ = jax.eval_shape(run)
    if hasattr(found, "trace"):
        assert found.trace.shape[::2] == (2, 6)


@pytest.mark.process
def test_the_command_leaves_table_roofline_trace_and_hlo(tmp_path):
    command = [sys.executable, "-m", "experiments.profile", "--attack=mi_face"]
    command += ["--victims=2", "--steps=3", "--repeats=2", "--trace", "--hlo"]
    ended = subprocess.run(
        [*command, f"--workdir={tmp_path / 'profile'}"],
        cwd=ROOT,
        env=os.environ | {"JAX_ENABLE_COMPILATION_CACHE": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert ended.returncode == 0, ended.stderr
    workdir = tmp_path / "profile"
    assert (workdir / "table.txt").read_text() in ended.stdout
    found = json.loads((workdir / "profile.json").read_text())
    assert set(found["kernels"]) == {"attack", "target"}
    row = found["kernels"]["attack"]
    assert 0 < row["again s"] < row["compile s"]
    assert row["from ms"] <= row["run ms"] <= row["to ms"]
    assert row["memory MiB"] > 0 and row["share"] > 0
    forward = 2 * 2 * (56 * 46 * 300 + 300 * 40)  # of two victims
    expected = (3 * 2 + 1) * forward  # three steps there and back, and the last loss
    assert 1e9 * row["GFLOP"] == pytest.approx(expected, rel=0.02)
    hlo = (workdir / "hlo" / "attack.txt").read_text()
    assert all(
        f"/{phase}/" in hlo for phase in ("value_and_gradient", "keep_best", "update")
    )
    assert list(workdir.glob("trace/attack/**/*.xplane.pb"))
    assert (workdir / "figures" / "roofline.png").is_file()
    assert any((workdir / "compiled").iterdir())


def test_programs_are_kept_beside_the_workdir(tmp_path, monkeypatch):
    updates = {}
    monkeypatch.setattr(jax.config, "update", updates.__setitem__)
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "elsewhere")
    report.prepare_workdir(tmp_path / "runs" / "one")
    assert not updates
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    report.prepare_workdir(tmp_path / "runs" / "one")
    assert updates == {"jax_compilation_cache_dir": f"{tmp_path}/runs/.compiled"}


@pytest.mark.slow
def test_the_ceilings_are_near_numpys():
    """On a quiet machine: it fails where other work shares the cores."""
    found = profile.ceilings(7)
    rng = np.random.default_rng(0)
    a = rng.normal(size=(2048, 2048)).astype(np.float32)
    took = statistics.median(profile.seconds_of(lambda: a @ a, 7))
    assert found.flops == pytest.approx(2 * 2048**3 / took, rel=0.15)
    x, y = np.ones(2**26, np.float32), np.zeros(2**26, np.float32)
    took = statistics.median(profile.seconds_of(lambda: np.copyto(y, x), 7))
    assert found.bandwidth == pytest.approx(2 * x.nbytes / took, rel=0.15)


# Memory ------------------------------------------------------------------------------


def compile_for(size):
    def run(x):
        def widest(row):
            return jnp.sort(jnp.outer(row, row), 0).max()

        return jax.lax.map(widest, x, batch_size=size)

    return jax.jit(run).lower(jnp.ones((64, 64))).compile()


def test_a_programs_need_holds_its_arguments_and_results():
    program = jax.jit(lambda x: x + 1).lower(jnp.ones(1000)).compile()
    assert 8000 <= memory.need(program) <= 8200
    donated = jax.jit(lambda x: x + 1, donate_argnums=0).lower(jnp.ones(1000))
    assert 4000 <= memory.need(donated.compile()) <= 4200


def test_the_largest_half_that_fits_is_taken_and_said(capsys):
    needs = {size: memory.need(compile_for(size)) for size in (64, 32, 16, 1)}
    assert needs[64] > needs[32] > needs[16]
    assert memory.fitting(compile_for, 64, most=needs[64])[0] == 64
    assert capsys.readouterr().out == ""
    assert memory.fitting(compile_for, 64, most=needs[16])[0] == 16
    assert "taking 16 at a time" in capsys.readouterr().out
    with pytest.raises(ValueError, match="One example at a time needs"):
        memory.fitting(compile_for, 64, most=100)


def test_a_program_that_does_not_fit_is_refused_before_it_runs(monkeypatch):
    assert memory.limit() > 2**20
    program = compile_for(64)
    memory.check(program)
    monkeypatch.setattr(memory, "limit", lambda: 1000)
    with pytest.raises(ValueError, match=r"The attack needs .* GiB and the device has"):
        memory.check(program, "The attack")


def test_the_roofline_refuses_what_is_no_number(tmp_path):
    with pytest.raises(ValueError, match="kernels must be finite"):
        figures.roofline(
            {"a": (1.0, np.nan)}, tmp_path / "x.png", flops=1.0, bandwidth=1.0
        )
