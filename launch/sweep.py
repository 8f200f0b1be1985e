r"""Runs an experiment once for each element of a product of flags.

    python -m launch.sweep --experiment=gmi --workdir=runs/seeds --jobs=2 \
      seed=0,1,2 gmi.steps=500,1500
    python -m launch.collect --workdir=runs/seeds

Each element gets a folder below `--workdir`, named for its flags. One that holds a
`result.json` is finished and is not run again, so the same command resumes a sweep.
On a cluster, `--executor=slurm` writes one array script, whose task k runs element k,
and leaves it to you to submit; `--slurm` gives it further options:

    python -m launch.sweep --experiment=gmi --workdir=runs/seeds --executor=slurm \
      --slurm=gpus=1 --slurm=time=01:00:00 seed=0,1,2 && sbatch runs/seeds/sweep.sbatch
"""

import concurrent.futures
import hashlib
import importlib.util
import itertools
import pathlib
import shlex
import subprocess
import sys
import urllib.parse
from collections.abc import Sequence

from absl import app, flags

Element = dict[str, str]

_LONGEST = 200  # characters of a folder's name; file systems allow 255 bytes


def product(axes: Sequence[str]) -> list[Element]:
    """Returns every combination of `name=value,value` axes, the last varying fastest.

    Raises:
      ValueError: if an axis is not of that form, has an empty value, is given twice,
        or is `workdir`, which the sweep chooses.
    """
    names, values = [], []
    for axis in axes:
        name, equals, listed = axis.removeprefix("--").partition("=")
        choices = listed.split(",")
        if not name or not equals or not all(choices):
            raise ValueError(f"{axis!r} is no axis: write name=value or name=a,b,c.")
        if name in names or name == "workdir":
            raise ValueError(
                f"--{name} is given twice: leave {axis!r} out, or join the values."
            )
        names.append(name)
        values.append(choices)
    return [
        dict(zip(names, chosen, strict=True)) for chosen in itertools.product(*values)
    ]


def folder(workdir: pathlib.Path, element: Element) -> pathlib.Path:
    """Returns where an element's results land: the same flags, the same folder."""
    words = (f"{name}={value}" for name, value in sorted(element.items()))
    label = urllib.parse.quote(",".join(words) or "default", safe="=,.:+")
    if len(label) > _LONGEST:
        digest = hashlib.sha256(label.encode()).hexdigest()[:12]
        label = f"{label[: _LONGEST - 13]}-{digest}"
    return workdir / label


def command(module: str, element: Element, path: pathlib.Path) -> list[str]:
    """Returns the words that run one element."""
    given = [f"--{name}={value}" for name, value in element.items()]
    return [sys.executable, "-m", module, f"--workdir={path}", *given]


def is_finished(path: pathlib.Path) -> bool:
    """Whether a folder holds a result."""
    return (path / "result.json").is_file()


def run_here(
    module: str, elements: Sequence[Element], workdir: pathlib.Path, jobs: int
) -> list[pathlib.Path]:
    """Runs what is not finished on this machine, each element in a process of its own.

    Args:
      module: the experiment, `experiments.gmi`.
      elements: of `product`.
      workdir: of the sweep; each element's output goes to its folder's `log.txt`.
      jobs: processes at a time.

    Returns:
      The folders of the elements that failed; the others have run all the same.
    """

    def run(element: Element) -> pathlib.Path | None:
        path = folder(workdir, element)
        if is_finished(path):
            print(f"finished before: {path}", flush=True)
            return None
        path.mkdir(parents=True, exist_ok=True)
        with (path / "log.txt").open("a") as log:
            words = command(module, element, path)
            ended = subprocess.run(words, stdout=log, stderr=subprocess.STDOUT)
        if ended.returncode == 0 and is_finished(path):
            print(f"finished: {path}", flush=True)
            return None
        print(f"failed ({ended.returncode}): see {path / 'log.txt'}", flush=True)
        return path

    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        return [path for path in pool.map(run, elements) if path]


def slurm_script(
    module: str,
    elements: Sequence[Element],
    workdir: pathlib.Path,
    options: Sequence[str] = (),
) -> str:
    """Returns an `sbatch` script whose array task k runs element k.

    Args:
      module: the experiment, `experiments.gmi`.
      elements: of `product`; those that are finished are left out of the array.
      workdir: of the sweep, on a disk that the cluster's machines share.
      options: of sbatch, `name=value` without the dashes.

    Raises:
      ValueError: if every element is finished.
    """
    folders = [folder(workdir, element) for element in elements]
    left = [str(k) for k, path in enumerate(folders) if not is_finished(path)]
    if not left:
        raise ValueError(f"All {len(elements)} elements in {workdir} are finished.")
    options = [f"array={','.join(left)}", f"output={workdir}/slurm-%a.txt", *options]
    tasks = (
        f"  {k}) exec {shlex.join(command(module, element, path))} ;;"
        for k, (element, path) in enumerate(zip(elements, folders, strict=True))
    )
    return "\n".join(
        [
            "#!/bin/bash",
            *(f"#SBATCH --{option}" for option in options),
            f"cd {shlex.quote(str(pathlib.Path.cwd()))} || exit 1",
            'case "$SLURM_ARRAY_TASK_ID" in',
            *tasks,
            "esac",
            "exit 1  # There is no such element.\n",
        ]
    )


def main(arguments: list[str]) -> None:
    """Runs the sweep that the command line describes."""
    given = flags.FLAGS
    module = f"experiments.{given.experiment}"
    workdir = pathlib.Path(given.workdir).expanduser().resolve()
    try:
        if importlib.util.find_spec(module) is None:
            raise ValueError(f"--experiment={given.experiment}: there is no {module}.")
        elements = product(arguments[1:])
        if given.executor == "slurm":
            script = slurm_script(module, elements, workdir, given.slurm)
            workdir.mkdir(parents=True, exist_ok=True)
            path = workdir / "sweep.sbatch"
            path.write_text(script)
            print(f"sbatch {shlex.quote(str(path))}")
            return
    except (ValueError, ModuleNotFoundError) as error:
        sys.exit(f"error: {error}")
    failed = run_here(module, elements, workdir, given.jobs)
    print(f"{len(elements) - len(failed)} of {len(elements)} elements are finished.")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    flags.DEFINE_string("experiment", None, "NAME of `python -m experiments.NAME`.")
    flags.DEFINE_string("workdir", None, "Folder of the sweep.")
    flags.DEFINE_enum("executor", "here", ["here", "slurm"], "What runs the elements.")
    flags.DEFINE_integer("jobs", 1, "Processes at a time, here.", lower_bound=1)
    flags.DEFINE_multi_string("slurm", [], "An option of sbatch: time=01:00:00.")
    flags.mark_flags_as_required(["experiment", "workdir"])
    app.run(main)
