r"""Audit of a model of yours: what it gives away of one person's missing field.

    mijax-audit --data=answers.csv --sensitive=smokes --target=premium \
        --members=in_training --model=pricing:predict

For each sensitive field, and for the rows that the model was trained on and those that
it was not: how often an adversary who knows everything else of a person, and the true
outcome, names the value with the model, and how often without it.

--model=MODULE:FUNCTION names f(rows) -> predictions. The rows are a pandas data frame
where pandas is installed, else a dict of arrays, exactly as the file has them, the
sensitive column alone overwritten. Out come numbers of a numeric target, or labels, or
probabilities [B, K] in the order of its sorted categories. Or give an estimator,
--model=model.joblib --trust_model_file: opening such a file runs whatever program is in
it.
"""

import argparse
import hashlib
import json
import pathlib
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from mijax.audit import adversaries, auditing, models, rows


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _bins(text: str) -> tuple[str, list[float]]:
    name, _, edges = text.rpartition(":")
    try:
        return name, [float(edge) for edge in edges.split(",")]
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not NAME:EDGE,EDGE such as age:18,30,45"
        ) from error


def _tolerance(text: str) -> tuple[str, float]:
    name, _, number = text.rpartition(":")
    try:
        return name, float(number)
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not NAME:NUMBER such as age:5"
        ) from error


def _once(flag: str, given: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    for name in dict(given):
        if [each for each, _ in given].count(name) > 1:
            raise ValueError(f"--{flag}={name} is there twice: choose one")
    return dict(given)


def _options(text: str) -> dict[str, Any]:
    try:
        options = json.loads(text)
    except json.JSONDecodeError:
        options = None
    if not isinstance(options, dict):
        raise argparse.ArgumentTypeError(
            f'{text!r} is no JSON object such as \'{{"sep": ";"}}\''
        )
    return options


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Ends the program."""
        self.exit(2, f"error: {message}; --help says what to give\n")


def _parser(name: str) -> argparse.ArgumentParser:
    parser = _Parser(
        name,
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--data", help="a CSV file; not needed with --rows")
    add("--rows", help="MODULE:FUNCTION that returns the frame, read as for training")
    add("--read_options", type=_options, default={}, help="JSON, of pandas.read_csv")
    add("--sensitive", type=_names, required=True, help="fields to infer")
    add("--target", required=True, help="what the model predicts")
    add("--members", required=True, help="column that says who was trained on: 1/0")
    add("--model", required=True, help="FILE.joblib or MODULE:FUNCTION")
    add("--trust_model_file", action="store_true", help="open --model, a pickle")
    add("--without", type=_names, default=[], help="columns to leave out, or auto")
    add("--numeric", type=_names, default=[], help="columns that are numbers")
    add("--categorical", type=_names, default=[], help="columns that are not")
    add("--bins", type=_bins, action="append", default=[], help="NAME:EDGE,EDGE")
    add("--tolerance", type=_tolerance, action="append", default=[], help="NAME:NUMBER")
    add("--groups", type=_names, help="fields whose groups are compared")
    add(
        "--knows",
        type=_names,
        help="of what the model released: outcome (nothing), label, score, score:2, "
        "top:2, noise:0.1",
    )
    add("--hidden", type=_names, default=[], help="fields not known to it either")
    add(
        "--unknown",
        default="keep",
        help="non-members of a category without members: keep or drop",
    )
    add("--batch", type=int, default=adversaries.BLOCK, help="rows asked at a time")
    add("--neurons", help="MODULE:FUNCTION of rows that returns activations [B, M]")
    add(
        "--resume",
        action="store_true",
        help="keep answers in the workdir and ask for none twice",
    )
    add("--workdir", default="runs/audit_table", help="where the report lands")
    add("--seed", type=int, default=0, help="random seed of folds, noise and ties")
    return parser


def _answers(model: str) -> str:
    """The name of a file of answers: another one for another file of a model."""
    file = pathlib.Path(model).expanduser()
    if not file.is_file():
        return "answers"
    return f"answers-{hashlib.sha256(file.read_bytes()).hexdigest()[:12]}"


def _folder(path: str) -> pathlib.Path:
    """Makes the workdir before any long work."""
    folder = pathlib.Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "result.json").touch()
    except OSError as error:
        raise ValueError(
            f"--workdir={path} cannot be written to ({error.strerror}): give another"
        ) from error
    return folder


def main(arguments: Sequence[str] | None = None, name: str = "mijax-audit") -> int:
    """Audits as the flags say; a mistake of the user's ends in one line and 2."""
    options = _parser(name).parse_args(arguments)
    try:
        if options.rows:
            frame = models.frame(options.rows)
        elif options.data:
            path = options.data.removeprefix("csv:")
            frame = rows.read(path, **options.read_options)
        else:
            raise ValueError(
                "Give the table: --data=FILE.csv or --rows=MODULE:FUNCTION."
            )
        workdir = _folder(options.workdir)
        report = auditing.table(
            models.load(options.model, options.trust_model_file),
            frame,
            sensitive=options.sensitive,
            target=options.target,
            members=options.members,
            knows=options.knows,
            without=options.without,
            numeric=options.numeric,
            categorical=options.categorical,
            bins=_once("bins", options.bins),
            tolerance=_once("tolerance", options.tolerance),
            hidden=options.hidden,
            batch=options.batch,
            neurons=options.neurons and models.function(options.neurons, "--neurons"),
            answers=workdir / _answers(options.model) if options.resume else None,
            groups=options.groups,
            unknown=options.unknown,
            seed=options.seed,
            progress=lambda said: print(said, flush=True),
        )
        page = report.write(options.workdir, vars(options))
    except KeyboardInterrupt:
        print("error: interrupted; --resume keeps what was answered", file=sys.stderr)
        return 2
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(*report.notes, f"report: {page}", sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
