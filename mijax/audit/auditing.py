"""Audits every sensitive field of a table: preflight, queries, attacks, verdicts."""

import dataclasses
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mijax.audit import adversaries, models, rows, verdicts
from mijax.audit.adversaries import Answers
from mijax.audit.models import Model, Reader
from mijax.audit.rows import Frame
from mijax.audit.verdicts import Attack
from mijax.evaluation import imputation
from mijax.metrics.intervals import Interval, proportion

KNOWS = "outcome", "label", "score:2"
_MANY = 50  # candidates of a sensitive field
_SMALL = 6  # categories, up to which groups of a field are compared
_BAR = 1e-9  # accuracies that differ by more do differ


@dataclasses.dataclass(frozen=True)
class FieldReport:
    """What was inferred of one sensitive field.

    Attributes:
      field: its name.
      values: its candidates, as the file writes them.
      verdict: one sentence.
      leaks: whether an attack beats the baseline or shows memory of members; None
        where the model's answers move for no candidate.
      baseline: the imputation that attacks are compared with, and its imputer.
      baseline_accuracy: of members out of fold, and of others.
      uninformed_accuracy: of the imputation that does not know the outcome.
      attacks: every one.
      asked_accuracy: the model's accuracy on members and others as they were asked.
      moves: share of people for whom the answer differs between candidates.
      warnings: what a reader must know.
      people: rows of the frame, members first, `[V]`.
      truth: codes of their values, `[V]`.
      groups: (group, people, gain) of the best attack, members and others.
    """

    field: str
    values: tuple[str, ...]
    verdict: str
    leaks: bool | None
    baseline: str
    baseline_accuracy: tuple[Interval, Interval]
    uninformed_accuracy: tuple[float, float]
    attacks: tuple[Attack, ...]
    asked_accuracy: tuple[float, float]
    moves: float
    warnings: tuple[str, ...]
    people: NDArray[np.intp]
    truth: NDArray[np.intp]
    groups: tuple[tuple[str, str, Interval], ...]

    @property
    def best(self) -> Attack:
        """The attack that gains most of members or of others."""
        return max(
            self.attacks,
            key=lambda a: max(a.members.mean_gain.value, a.others.mean_gain.value),
        )


@dataclasses.dataclass(frozen=True)
class Report:
    """An audit: a report for each sensitive field.

    Attributes:
      fields: one each.
      model: its name.
      target: what it predicts.
      accuracy: the model's accuracy on members and others, on unaltered rows; for a
        regression its root mean squared error.
      metric: which of the two it is.
      members: how many were asked about.
      others: how many were asked about.
      notes: what was left out, and why.
    """

    fields: tuple[FieldReport, ...]
    model: str
    target: str
    accuracy: tuple[float, float]
    metric: str
    members: int
    others: int
    notes: tuple[str, ...]

    @property
    def verdicts(self) -> tuple[str, ...]:
        """One sentence a field."""
        return tuple(field.verdict for field in self.fields)

    def __getitem__(self, field: str) -> FieldReport:
        return {each.field: each for each in self.fields}[field]

    def write(
        self, folder: str | os.PathLike[str], settings: Mapping[str, Any] | None = None
    ) -> pathlib.Path:
        """Writes `report.html`, `result.json` and `people.csv`; returns the page."""
        from mijax.audit import page

        return page.write(self, pathlib.Path(folder), settings or {})


@dataclasses.dataclass(frozen=True)
class _Field:
    """One sensitive field: codes of all rows, and a row that has each value."""

    name: str
    values: tuple[str, ...]
    codes: NDArray[np.intp]
    examples: NDArray[np.intp]
    binned: bool


def table(
    model: Any,
    frame: Frame,
    *,
    sensitive: str | Sequence[str],
    target: str,
    members: str | NDArray,
    knows: str | Sequence[str] = KNOWS,
    without: Sequence[str] | str = (),
    numeric: Sequence[str] = (),
    categorical: Sequence[str] = (),
    bins: Mapping[str, Sequence[float]] | None = None,
    groups: Sequence[str] | None = None,
    unknown: str = "keep",
    seed: int = 0,
    progress: Callable[[str], None] = lambda said: None,
) -> Report:
    """Audits a model: what it adds to an imputation of each sensitive field.

    Args:
      model: an estimator as scikit-learn's, or a function of rows of the frame that
        returns labels, probabilities `[B, C]` in the order of the sorted categories,
        the probability of the second of two, or numbers of a numeric target.
      frame: a pandas data frame or a dict of columns, as the model takes them. It is
        asked these rows; the sensitive column alone is overwritten.
      sensitive: columns to infer.
      target: the column that the model predicts.
      members: the column that says who was trained on, or that for every row, `[N]`.
      knows: what adversaries know beside all other fields and the outcome: "outcome"
        (nothing), "label", "score", or "score:2" for two digits of what the model
        released about the person.
      without: columns that neither model nor adversary has; "auto" also leaves what no
        imputation can use to the model alone.
      numeric: columns that are numbers, however few their values.
      categorical: columns that are not, however many.
      bins: edges that cut a numeric sensitive field; it is asked at the bin's median.
      groups: fields whose groups are compared; None for all small ones.
      unknown: "keep" asks about all others; "drop" leaves out those with a text that
        no member has.
      seed: of folds and ties.
      progress: is told what is going on, a line at a time.

    Raises:
      ValueError: the table, the names or the model do not fit; one line says all that
        is wrong, and what to do.
    """
    frame = rows.checked(frame)
    sensitive = _listed(sensitive)
    knows = _listed(knows)
    plan = _preflight(
        models.adapt(model),
        frame,
        tuple(dict.fromkeys(sensitive)),
        target,
        members,
        tuple(dict.fromkeys(knows)),
        without,
        numeric,
        categorical,
        bins or {},
        groups,
        unknown,
    )
    return _audit(plan, seed, progress)


def _listed(names: str | Sequence[str]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)


@dataclasses.dataclass(frozen=True)
class _Plan:
    """What is asked, of whom, and what the imputation reads."""

    model: Model
    frame: Frame
    fields: tuple[_Field, ...]
    target: str
    outcome: NDArray  # [N], codes, or numbers of a regression
    categories: tuple[str, ...]  # of the target; empty of a regression
    sides: tuple[NDArray[np.intp], NDArray[np.intp]]
    given: tuple[str, ...]  # to the model
    known: tuple[str, ...]  # to the imputation
    numeric: tuple[str, ...]
    categorical: tuple[str, ...]
    knows: tuple[str, ...]
    groups: tuple[str, ...]
    notes: tuple[str, ...]


def _preflight(
    model: Model,
    frame: Frame,
    sensitive: tuple[str, ...],
    target: str,
    members: str | NDArray,
    knows: tuple[str, ...],
    without: Sequence[str] | str,
    numeric: Sequence[str],
    categorical: Sequence[str],
    bins: Mapping[str, Sequence[float]],
    groups: Sequence[str] | None,
    unknown: str,
) -> _Plan:
    """Finds everything that is wrong before any long work, and raises it as one."""
    every = rows.names(frame)
    auto = "auto" in _listed(without)
    without = tuple(name for name in _listed(without) if name != "auto")
    flags = {
        "sensitive": sensitive,
        "target": (target,),
        "members": (members,) if isinstance(members, str) else (),
        "without": without,
        "numeric": numeric,
        "categorical": categorical,
        "bins": tuple(bins),
        "groups": groups or (),
    }
    wrong = [
        f"--{flag} names no column {name!r} (there are {', '.join(every)})"
        for flag, given in flags.items()
        for name in given
        if name not in every
    ]
    for name in knows:
        adversaries.digits(name)
    if unknown not in ("keep", "drop"):
        wrong.append(f"--unknown={unknown} is neither keep nor drop")
    if not sensitive or not knows:
        wrong.append("no sensitive field or no adversary is named")
    if target in sensitive:
        wrong.append(f"{target!r} is both sensitive and the target")
    if isinstance(members, str) and members in (target, *sensitive):
        wrong.append(f"--members={members} is sensitive or the target as well")
    wrong += [
        f"--bins={name} is not sensitive" for name in bins if name not in sensitive
    ]
    wrong += [
        f"{name!r} is sensitive and left out" for name in sensitive if name in without
    ]
    _raise(wrong)
    trained = rows.membership(frame, members)
    given = tuple(
        name
        for name in every
        if name not in (target, *without)
        and not (isinstance(members, str) and name == members)
    )
    lacking = models.lacking(model, given)
    if lacking:
        wrong.append(
            f"the model takes {', '.join(map(repr, lacking))}, which the table lacks "
            "(it may be the target, the members' column, or left out)"
        )
    known = tuple(name for name in given if name not in sensitive)
    useless = rows.unusable(frame, known, categorical)
    if useless and not auto:
        all_of_them = ", ".join(f"{name} ({why})" for name, why in useless.items())
        wrong.append(
            f"no imputation can use {all_of_them}: add --without={','.join(useless)} "
            "if the model does not take them, or --without=auto to leave them to the "
            "model alone"
        )
    notes = [
        f"{name} ({why}) goes to the model and not into the imputation."
        for name, why in useless.items()
    ]
    known = tuple(name for name in known if name not in useless)
    keep, dropped = _complete(frame, target, known, trained, unknown, categorical)
    notes += dropped
    sides = np.flatnonzero(trained & keep), np.flatnonzero(~trained & keep)
    if min(map(len, sides)) < 2 * imputation.FOLDS:
        wrong.append(
            f"{len(sides[0])} members and {len(sides[1])} others are left: there must "
            f"be at least {2 * imputation.FOLDS} of each"
        )
        _raise(wrong)
    values = rows.column(frame, target)
    categories: tuple[str, ...] = ()
    if rows.is_numeric(values, target, numeric, categorical):
        numbers = rows.numbers(values)
        assert numbers is not None
        outcome: NDArray = numbers
    else:
        labels, outcome = rows.coded(values)
        categories = tuple(labels)
        if len(labels) > max(_MANY, len(values) // 10):
            wrong.append(
                f"the target {target!r} has {len(labels)} different texts: name a "
                "target of fewer classes"
            )
    if len(np.unique(outcome[sides[0]])) < 2:
        wrong.append(f"the target {target!r} has one value in all members")
    fields = []
    for name in sensitive:
        try:
            field = _field(frame, name, bins.get(name), categorical)
            present = np.unique(field.codes[sides[0]])
            if len(present) < 2:
                said = ", ".join(field.values[code] for code in present)
                raise ValueError(
                    f"{name!r} is {said!r} in all {len(sides[0])} members: there is "
                    "nothing to infer; leave it out"
                )
            fields.append(field)
        except ValueError as error:
            wrong.append(str(error))
    _raise(wrong)
    small = groups or [
        name
        for name in (*known, *sensitive)
        if len(rows.coded(rows.column(frame, name))[0]) <= _SMALL
    ]
    return _Plan(
        model,
        frame,
        tuple(fields),
        target,
        outcome,
        categories,
        sides,
        given,
        known,
        tuple(numeric),
        tuple(categorical),
        knows,
        tuple(small if groups is None else groups),
        tuple(notes),
    )


def _raise(wrong: Sequence[str]) -> None:
    if wrong:
        raise ValueError(f"{'; '.join(wrong)}.")


def _complete(
    frame: Frame,
    target: str,
    known: Sequence[str],
    trained: NDArray[np.bool_],
    unknown: str,
    categorical: Sequence[str],
) -> tuple[NDArray[np.bool_], list[str]]:
    """Rows that have an outcome and, where so asked, no text that members lack."""
    has = np.array([not rows.is_missing(v) for v in rows.column(frame, target)])
    notes = []
    if not has.all():
        notes.append(f"{int((~has).sum())} rows have no {target} and were left out.")
    strange = np.zeros(len(has), bool)
    for name in known:
        values = rows.column(frame, name)
        if rows.is_numeric(values, name, (), categorical):
            continue
        _, codes = rows.coded(values)
        new = ~np.isin(codes, codes[trained]) & ~trained
        if new.any():
            strange |= new
            done = "were left out" if unknown == "drop" else "were asked about"
            notes.append(
                f"{int(new.sum())} others have a {name} that no member has; they "
                f"{done}."
            )
    return (has & ~strange if unknown == "drop" else has), notes


def _field(
    frame: Frame,
    name: str,
    edges: Sequence[float] | None,
    categorical: Sequence[str],
) -> _Field:
    """Codes of a sensitive field, and where each value may be read from."""
    values = rows.column(frame, name)
    numbers = rows.numbers(values)
    if edges is not None:
        if numbers is None or not np.isfinite(numbers).all():
            raise ValueError(f"--bins={name}: it holds what is no number")
        codes = np.searchsorted(np.unique(edges), numbers, side="right")
        present, codes = np.unique(codes, return_inverse=True)
        order = [np.flatnonzero(codes == code) for code in range(len(present))]
        # The lower median is a value that the file has.
        examples = [
            inside[np.argsort(numbers[inside], kind="stable")[(len(inside) - 1) // 2]]
            for inside in order
        ]
        bounds = ["-inf", *(f"{edge:g}" for edge in np.unique(edges)), "inf"]
        labels = tuple(f"[{bounds[c]}, {bounds[c + 1]})" for c in present)
        return _Field(name, labels, codes, np.array(examples), True)
    labels, codes = rows.coded(values)
    if rows.is_numeric(values, name, (), categorical) or len(labels) > _MANY:
        how = (
            f"cut it into categories, --bins={name}:EDGE,EDGE"
            if numbers is not None
            else "group its values first"
        )
        raise ValueError(f"{name!r} has {len(labels):,} different values: {how}")
    examples = np.unique(codes, return_index=True)[1]
    return _Field(name, tuple(labels), codes, examples, False)


def _audit(plan: _Plan, seed: int, progress: Callable[[str], None]) -> Report:
    given = plan.model.takes
    stripped = {name.strip(): name for name in plan.given}
    columns = plan.given if given is None else [stripped[n.strip()] for n in given]
    columns = tuple(columns)
    first = models.answer(
        plan.model, rows.take(plan.frame, plan.sides[0][: adversaries.BLOCK], columns)
    )
    reader = Reader.of(plan.model, plan.categories, first)
    released = [
        adversaries.released_answers(reader, plan.frame, people, columns)
        for people in plan.sides
    ]
    accuracy = tuple(
        _accuracy(scores, plan.outcome[people])
        for scores, people in zip(released, plan.sides, strict=True)
    )
    notes = [*plan.notes, *_doubts(plan, (accuracy[0], accuracy[1]))]
    fields = []
    for number, field in enumerate(plan.fields, 1):
        where = f"{field.name} ({number} of {len(plan.fields)})"
        progress(f"{where}: imputing")
        known = [name for name in plan.given if name in plan.known]
        known += [other.name for other in plan.fields if other.name != field.name]
        uninformed, informed = _impute(plan, field, known, seed)
        answers = []
        for people, scores, who in zip(
            plan.sides, released, ("members", "others"), strict=True
        ):
            progress(f"{where}: asking about {len(people):,} {who}")
            answers.append(
                adversaries.ask(
                    reader,
                    plan.frame,
                    people,
                    columns,
                    field.name,
                    field.examples,
                    plan.outcome[people],
                    scores,
                    plan.knows,
                )
            )
        fields.append(
            _judge(plan, field, uninformed, informed, (answers[0], answers[1]), seed)
        )
        progress(fields[-1].verdict)
    return Report(
        tuple(fields),
        plan.model.name,
        plan.target,
        (accuracy[0], accuracy[1]),
        "accuracy" if plan.categories else "root mean squared error",
        len(plan.sides[0]),
        len(plan.sides[1]),
        tuple(notes),
    )


def _accuracy(scores: NDArray, outcome: NDArray) -> float:
    if scores.shape[1] == 1:
        return float(np.sqrt(np.mean((scores[:, 0] - outcome) ** 2)))
    return float(np.mean(scores.argmax(1) == outcome))


def _doubts(plan: _Plan, accuracy: tuple[float, float]) -> list[str]:
    """A model that knows nothing of its own members was probably asked otherwise."""
    outcome = plan.outcome[plan.sides[0]]
    if plan.categories:
        naive = float(np.bincount(outcome).max() / len(outcome))
        poor = accuracy[0] <= naive
    else:
        naive = float(np.std(outcome))
        poor = accuracy[0] >= naive
    if not poor:
        return []
    return [
        f"The model does no better on its own members ({accuracy[0]:.3f}) than a guess "
        f"that is the same for all ({naive:.3f}): are these the rows as it was trained "
        "on them? If not, no verdict holds; give --rows=MODULE:FUNCTION."
    ]


def _impute(
    plan: _Plan, field: _Field, known: Sequence[str], seed: int
) -> tuple[imputation.Imputation, imputation.Imputation]:
    """Imputes a field without the outcome, and with it."""
    members, others = plan.sides
    fitted_to = np.zeros(rows.size(plan.frame), bool)
    fitted_to[members] = True
    x = rows.features(plan.frame, known, fitted_to, plan.numeric, plan.categorical)
    if plan.categories:
        outcome = np.eye(len(plan.categories))[plan.outcome]
    else:
        scale = float(np.std(plan.outcome[members])) or 1.0
        outcome = ((plan.outcome - np.mean(plan.outcome[members])) / scale)[:, None]
    both = np.concatenate([x, np.nan_to_num(outcome)], 1)
    values, size = field.codes[members], len(field.values)
    # Nothing known of anybody is one constant.
    x = x if x.shape[1] else np.zeros((len(x), 1))
    uninformed, informed = (
        imputation.impute(known[members], values, known[others], size, seed)
        for known in (x, both)
    )
    return uninformed, informed


def _judge(
    plan: _Plan,
    field: _Field,
    uninformed: imputation.Imputation,
    informed: imputation.Imputation,
    answers: tuple[Answers, Answers],
    seed: int,
) -> FieldReport:
    kind, best = imputation.better(informed, uninformed)
    baseline = best.members, best.others
    blind = uninformed.members, uninformed.others
    truth = field.codes[plan.sides[0]], field.codes[plan.sides[1]]
    asked = _as_asked(answers[0], truth[0]), _as_asked(answers[1], truth[1])
    unaltered = tuple(_accuracy(a.released, a.outcome) for a in answers)
    if not field.binned and max(np.abs(np.subtract(asked, unaltered))) > _BAR:
        raise ValueError(
            f"{field.name!r}: the model's accuracy is {asked[0]:.4f} of members and "
            f"{asked[1]:.4f} of others as asked, and {unaltered[0]:.4f} and "
            f"{unaltered[1]:.4f} on unaltered rows: no verdict would hold. If it "
            "answers otherwise each time, fix its seed; else give the rows as it takes "
            "them by --rows=MODULE:FUNCTION"
        )
    likelihoods = {
        name: how
        for name, how in adversaries.likelihoods(answers[0]).items()
        if "outcome" in plan.knows or name in plan.knows
    }
    beliefs = {
        name: tuple(
            adversaries.posterior(how(a), prior)
            for a, prior in zip(
                answers, blind if name.startswith("map") else baseline, strict=True
            )
        )
        for name, how in likelihoods.items()
    }
    if not answers[0].regression and "outcome" in plan.knows:
        beliefs["csmia"] = tuple(
            adversaries.csmia(a, seed + side) for side, a in enumerate(answers)
        )
    attacks = tuple(
        verdicts.attack(name, (said[0], said[1]), truth, baseline, len(beliefs))
        for name, said in beliefs.items()
    )
    moves = float(np.concatenate([a.moves for a in answers]).mean())
    warnings = []
    if moves == 0:
        warnings.append(
            f"The model's answers move for no candidate of {field.name}: it does not "
            "use the field, or does not recognize the values."
        )
    if kind != "imputation with outcome":
        warnings.append(
            "The imputation that knows the outcome is worse out of fold than the one "
            "that does not: the latter is the baseline."
        )
    if field.binned:
        warnings.append(
            f"{field.name} is asked at the median of each bin: the model's accuracy so "
            f"asked is {asked[0]:.3f} of members and {asked[1]:.3f} of others, and "
            f"{unaltered[0]:.3f} and {unaltered[1]:.3f} on unaltered rows."
        )
    name = f"{kind} ({best.imputer})"
    leaks = any(a.adds or a.remembers for a in attacks)
    report = FieldReport(
        field.name,
        field.values,
        verdicts.sentence(field.name, attacks, name, moves),
        None if moves == 0 else leaks,
        name,
        (
            proportion(baseline[0].argmax(1) == truth[0]),
            proportion(baseline[1].argmax(1) == truth[1]),
        ),
        (
            float(np.mean(uninformed.members.argmax(1) == truth[0])),
            float(np.mean(uninformed.others.argmax(1) == truth[1])),
        ),
        attacks,
        asked,
        moves,
        tuple(warnings),
        np.concatenate(plan.sides),
        np.concatenate(truth),
        (),
    )
    return dataclasses.replace(report, groups=_groups(plan, report))


def _as_asked(answers: Answers, truth: NDArray[np.intp]) -> float:
    people = np.arange(len(truth))
    if answers.regression:
        said = answers.confidence[people, truth]
        return float(np.sqrt(np.mean((said - answers.outcome) ** 2)))
    return float(np.mean(answers.label[people, truth] == answers.outcome))


def _groups(plan: _Plan, report: FieldReport) -> tuple[tuple[str, str, Interval], ...]:
    """What the best attack gains in each group: disparate vulnerability."""
    found = []
    for name in plan.groups:
        labels, codes = rows.coded(rows.column(plan.frame, name))
        for code, label in enumerate(labels):
            for who, people, side in (
                ("members", plan.sides[0], report.best.members),
                ("others", plan.sides[1], report.best.others),
            ):
                gain = side.gain[codes[people] == code]
                if len(gain) >= verdicts.SMALL:
                    found.append((f"{name}: {label}", who, verdicts.mean_gain(gain)))
    return tuple(found)
