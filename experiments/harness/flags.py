"""Flags that all experiments share, and flags derived from a method's `Config`."""

import dataclasses
import functools
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax
from absl import app, flags, logging

C = TypeVar("C")

FLAGS = flags.FLAGS
_DEFINE: dict[type, Callable[..., Any]] = {
    bool: flags.DEFINE_bool,
    int: flags.DEFINE_integer,
    float: flags.DEFINE_float,
    str: flags.DEFINE_string,
}
flags.disclaim_key_flags()


def common(experiment: str, *, dataset: str | None) -> None:
    """Defines `--workdir`, `--seed`, `--dataset` and the others that all share."""
    flags.DEFINE_string("workdir", f"runs/{experiment}", "Where results land.")
    flags.DEFINE_integer("seed", 0, "All randomness follows from it.", lower_bound=0)
    flags.DEFINE_string(
        "dataset", dataset, "A data set of mijax.data.load, or image_folder:PATH."
    )
    flags.DEFINE_string("data_dir", None, "Folder with the data set's own files.")
    flags.DEFINE_enum("preset", "quick", ["quick", "paper"], "Sizes to run at.")
    flags.DEFINE_bool("profile", False, "Write a profiler trace to the workdir.")
    flags.DEFINE_bool("resume", True, "Reuse finished stages; --noresume starts over.")


def from_config(default: C, prefix: str) -> Callable[..., C]:
    """Defines `--prefix.field` for numbers and lists, and returns a reader.

    A flag that is not given leaves the preset's value alone, and is None in records:
    the method's own default, which its help shows, may be another.
    """
    names = {}
    for field in dataclasses.fields(default):  # type: ignore[arg-type]
        value = getattr(default, field.name)
        name = f"{prefix}.{field.name}"
        about = f"{type(default).__module__}: instead of the preset's; default {value}."
        if type(value) in _DEFINE:
            _DEFINE[type(value)](name, None, about)
        elif value and type(value) is tuple and {*map(type, value)} == {str}:
            flags.DEFINE_list(name, None, about)
        elif value and type(value) is tuple and {*map(type, value)} == {float}:
            flags.DEFINE_multi_float(name, None, about)
        else:
            continue
        names[field.name] = name

    def read(preset: C = default) -> C:
        given = {
            field: FLAGS[name].value
            for field, name in names.items()
            if FLAGS[name].present
        }
        for field, value in given.items():
            if isinstance(value, int | float) and value < 0 and field != "start":
                raise ValueError(
                    f"--{names[field]}={value} is negative: it must be 0 or more."
                )
        given = {k: tuple(v) if type(v) is list else v for k, v in given.items()}
        return dataclasses.replace(preset, **given)  # type: ignore[type-var]

    return read


def from_sizes(default: C, prefix: str) -> Callable[..., C]:
    """As `from_config`, with `--prefix.field.number` of each field that is a Config."""
    own = from_config(default, prefix)
    nested = {
        field.name: from_config(getattr(default, field.name), f"{prefix}.{field.name}")
        for field in dataclasses.fields(default)  # type: ignore[arg-type]
        if type(getattr(default, field.name)).__name__ == "Config"
    }

    def read(preset: C = default) -> C:
        parts = {name: part(getattr(preset, name)) for name, part in nested.items()}
        return dataclasses.replace(own(preset), **parts)  # type: ignore[type-var]

    return read


def given() -> dict[str, Any]:
    """Every flag of this experiment with its value, for the record.

    Flags are the paper's, or the study's where that defines the paper's `main`.
    """
    modules = FLAGS.flags_by_module_dict()
    studies = [name for name in modules if name.startswith("experiments.studies.")]
    return {
        flag.name: flag.value
        for module in (sys.argv[0], *studies)
        for flag in FLAGS.get_key_flags_for_module(module)
        if not flag.name.startswith("?")
    }


def command(experiment: str) -> str:
    """The command that makes this run again: the flags that were typed, less places."""
    typed = {
        name: _as_typed(name)
        for name in given()
        if FLAGS[name].present and name not in ("workdir", "data_dir", "install")
    }
    if FLAGS["data_dir"].present:
        typed["data_dir"] = "DIR"
    return f"python -m experiments.{experiment} {describe(typed)}".rstrip()


def _as_typed(name: str) -> Any:
    value = FLAGS[name].value
    if isinstance(value, list) and not isinstance(FLAGS[name], flags.MultiFlag):
        return ",".join(value)
    return value


def guarded(main: Callable[[], None]) -> Callable[[list[str]], None]:
    """Wraps `main` for `app.run`: a mistake of the user's ends in one line."""

    @functools.wraps(main)
    def checked(arguments: list[str]) -> None:
        if len(arguments) > 1:
            raise app.UsageError(f"Unknown argument {arguments[1]!r}.")
        if not FLAGS["verbosity"].present:
            logging.set_verbosity(logging.WARNING)  # Orbax tells a line a file
        try:
            main()
        except (ValueError, FileNotFoundError) as error:
            if FLAGS.is_parsed() and "-v" in sys.argv:
                raise
            print(f"\nerror: {error}", file=sys.stderr)
            sys.exit(2)
        except OSError as error:
            print(f"\nerror: {error}", file=sys.stderr)
            sys.exit(3)
        except (AssertionError, RuntimeError):
            try:
                jax.devices()
            except (AssertionError, RuntimeError) as error:  # JAX raises either.
                said = (str(error).splitlines() or ["it is not installed"])[0]
                platforms = os.environ.get("JAX_PLATFORMS", "")
                print(
                    f"\nerror: JAX_PLATFORMS={platforms} cannot be used ({said}): "
                    "name a device that is here, such as cpu",
                    file=sys.stderr,
                )
                sys.exit(2)
            raise

    return checked


def run(main: Callable[[], None]) -> None:
    """Runs `main` after parsing flags."""
    module = sys.modules["__main__"]
    module.__doc__ = literal(module.__doc__ or "")
    app.run(guarded(main))


def literal(text: str) -> str:
    """Returns what becomes `text` where it is formatted by `%`, as absl does help."""
    return text.replace("%", "%%") + "%.0s"


def describe(values: Mapping[str, Any]) -> str:
    """Flags as they would be typed."""
    words = []
    for name, value in values.items():
        several = value if isinstance(value, list) else [value]
        words += [f"--{name}={v}" for v in several if v is not None]
    return " ".join(words)
