"""Audits every sensitive field of a table: preflight, queries, attacks, verdicts."""

import dataclasses
import os
import pathlib
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mijax.audit import adversaries, learned, models, planning, rows, verdicts
from mijax.audit.adversaries import Answers
from mijax.audit.answers import Kept
from mijax.audit.models import Reader
from mijax.audit.planning import Field, Plan
from mijax.audit.releases import WHAT_IF, Release
from mijax.audit.rows import Frame
from mijax.audit.verdicts import Attack
from mijax.evaluation import imputation
from mijax.metrics.intervals import Interval, proportion

_BAR = 1e-9  # accuracies that differ by more do differ
_SAID = 5.0  # seconds between two words of progress
Beliefs = tuple[NDArray[np.float64], NDArray[np.float64]]


@dataclasses.dataclass(frozen=True)
class WhatIf:
    """What an adversary would name if the model released its scores otherwise.

    Attributes:
      release: its name.
      accuracy: of what would be released, on members and others, by the likeliest
        class; of a regression its root mean squared error.
      attack: of the adversary who knows it and the outcome.
    """

    release: str
    accuracy: tuple[float, float]
    attack: Attack


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
      what_if: other releases than those that adversaries know.
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
    what_if: tuple[WhatIf, ...]
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


def table(
    model: Any,
    frame: Frame,
    *,
    sensitive: str | Sequence[str],
    target: str,
    members: str | NDArray,
    knows: str | Sequence[str] | None = None,
    hidden: str | Sequence[str] = (),
    without: str | Sequence[str] = (),
    numeric: str | Sequence[str] = (),
    categorical: str | Sequence[str] = (),
    bins: Mapping[str, Sequence[float]] | None = None,
    tolerance: Mapping[str, float] | None = None,
    groups: str | Sequence[str] | None = None,
    unknown: str = "keep",
    neurons: Callable[[Frame], Any] | None = None,
    answers: str | os.PathLike[str] | None = None,
    batch: int = adversaries.BLOCK,
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
        (nothing), or what the model released about the person, "label", "score",
        "score:2" for two digits, "top:2", "noise:0.1"; None for outcome, label and
        score:2.
      hidden: columns that the adversary does not know either; the model is asked about
        every completion.
      without: columns that neither model nor adversary has; "auto" also leaves what no
        imputation can use to the model alone.
      numeric: columns that are numbers, however few their values.
      categorical: columns that are not, however many.
      bins: edges that cut a numeric sensitive field; it is asked at the bin's median.
      tolerance: the distance within which a guess of a numeric sensitive field is
        right; it is asked at values of the file about that far apart.
      groups: fields whose groups are compared; None for all small ones.
      unknown: "keep" asks about all others; "drop" leaves out those with a text that
        no member has.
      neurons: of a network, `(rows) -> activations [B, M]`, for an adversary who holds
        its weights; a `mijax.core.Target` or a PyTorch module as `model` has them.
      answers: a file that keeps what the model answers: what stands there is not asked
        again, also if the model or the audit breaks down. Delete it when the model
        changes.
      batch: how many rows the model is asked about at a time; what a call that fails
        would have answered is lost.
      seed: of folds, noise and ties.
      progress: is told what is going on, a line at a time.

    Raises:
      ValueError: the table, the names or the model do not fit; one line says all that
        is wrong, and what to do.
    """
    if not isinstance(batch, int | np.integer) or batch < 1:
        raise ValueError(f"--batch={batch}: give a positive number of rows")
    if not isinstance(seed, int | np.integer) or not 0 <= seed < 2**31:
        raise ValueError(f"--seed={seed}: give an integer from 0 to 2147483647")
    adapted = models.adapt(model)
    if neurons is not None:
        adapted = dataclasses.replace(adapted, neurons=neurons)
    cut = {"bins": bins, "tolerance": tolerance}
    for flag, given in cut.items():
        if given is not None and not isinstance(given, Mapping):
            raise ValueError(f"{flag} is no dict: give numbers by a column's name")
    planned = planning.make(
        adapted,
        rows.checked(frame),
        sensitive=planning.listed(sensitive),
        target=target,
        members=members,
        hidden=planning.listed(hidden),
        knows=None if knows is None else planning.listed(knows),
        without=planning.listed(without),
        numeric=planning.listed(numeric),
        categorical=planning.listed(categorical),
        bins=bins or {},
        tolerance=tolerance or {},
        groups=None if groups is None else planning.listed(groups),
        unknown=unknown,
    )
    if answers is not None:
        if not isinstance(answers, str | os.PathLike):
            raise ValueError(f"answers={answers!r} is no path: give that of a file")
        path = pathlib.Path(answers)
        kept = Kept(adapted.predict, adapted.name, path)
        asked = dataclasses.replace(adapted, predict=kept)
        planned = dataclasses.replace(planned, model=asked)
        progress(f"{path} keeps {kept.size:,} answers")
    return _audit(planned, batch, seed, progress)


def _audit(
    plan: Plan, batch: int, seed: int, progress: Callable[[str], None]
) -> Report:
    columns = _columns(plan)
    some = adversaries.blocks(len(plan.sides[0]), batch)[0]
    first = models.answer(
        plan.model, rows.take(plan.frame, plan.sides[0][some], columns)
    )
    reader = Reader.of(plan.model, plan.categories, first)
    if plan.model.neurons is not None:
        few = rows.take(plan.frame, plan.sides[0][:8], columns)
        models.activations(plan.model, few)
    released = [
        adversaries.released_answers(
            reader, plan.frame, people, columns, batch, answered
        )
        for people, answered in zip(plan.sides, (first, None), strict=True)
    ]
    accuracy = tuple(
        adversaries.accuracy(scores, plan.outcome[people])
        for scores, people in zip(released, plan.sides, strict=True)
    )
    knows = _releases(plan)
    notes = [*plan.notes, *_doubts(plan, (accuracy[0], accuracy[1]))]
    fields = []
    for number, field in enumerate(plan.fields, 1):
        where = f"{field.name} ({number} of {len(plan.fields)})"
        completions = plan.completions(field)
        told = _Progress(progress, where, sum(map(len, plan.sides)) * len(completions))
        answers = [
            adversaries.ask(
                reader,
                plan.frame,
                people,
                columns,
                (field.name, *(other.name for other in plan.hidden)),
                completions,
                plan.outcome[people],
                scores,
                knows,
                scale=plan.scale,
                seed=seed + side,
                block=batch,
                progress=told,
            )
            for side, (people, scores) in enumerate(
                zip(plan.sides, released, strict=True)
            )
        ]
        progress(f"{where}: imputing and attacking")
        with warnings.catch_warnings():  # What scikit-learn says helps nobody here.
            warnings.filterwarnings("ignore", module="sklearn")
            judged = _judge(plan, field, (answers[0], answers[1]), batch, seed)
        fields.append(judged)
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


def _columns(plan: Plan) -> tuple[str, ...]:
    """What the model is given, as the table spells it, in the model's order."""
    takes = plan.model.takes
    if takes is None:
        return plan.given
    spelled = {name.strip(): name for name in plan.given}
    return tuple(spelled[name.strip()] for name in takes)


def _releases(plan: Plan) -> tuple[Release, ...]:
    """What adversaries know, and what they would know if."""
    what_if = [Release.of(name) for name in WHAT_IF]
    if not plan.categories:
        what_if = [release for release in what_if if not release.of_classes]
    return tuple(dict.fromkeys((*plan.releases, *what_if)))


class _Progress:
    """Says now and then how many rows the model was asked about."""

    def __init__(self, say: Callable[[str], None], where: str, total: int):
        self.say, self.where, self.total = say, where, total
        self.asked, self.last = 0, time.monotonic()
        say(f"{where}: asking about {total:,} rows")

    def __call__(self, asked: int) -> None:
        self.asked += asked
        if time.monotonic() - self.last > _SAID:
            self.last = time.monotonic()
            self.say(f"{self.where}: asked about {self.asked:,} of {self.total:,} rows")


def _doubts(plan: Plan, accuracy: tuple[float, float]) -> list[str]:
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


@dataclasses.dataclass(frozen=True)
class _Known:
    """What an imputation of a field reads of all rows, without and with the outcome."""

    plan: Plan
    uninformed: NDArray[np.float64]
    informed: NDArray[np.float64]
    seed: int

    @classmethod
    def of(cls, plan: Plan, field: Field, seed: int) -> "_Known":
        """All known fields, and the other sensitive ones."""
        names = [name for name in plan.given if name in plan.known]
        names += [other.name for other in plan.fields if other.name != field.name]
        members = plan.sides[0]
        fitted_to = np.zeros(rows.size(plan.frame), bool)
        fitted_to[members] = True
        x = rows.features(plan.frame, names, fitted_to, plan.numeric, plan.categorical)
        if plan.categories:
            outcome = np.eye(len(plan.categories))[plan.outcome]
        else:
            center = np.mean(plan.outcome[members])
            outcome = np.nan_to_num((plan.outcome - center) / plan.scale)[:, None]
        both = np.concatenate([x, outcome], 1, dtype=np.float64)
        known = both[:, : x.shape[1]]  # A view: half the memory of a second array.
        # Nothing known of anybody is one constant.
        return cls(plan, known if x.shape[1] else np.zeros((len(x), 1)), both, seed)

    def impute(
        self, x: NDArray, codes: NDArray[np.intp], size: int, **options: Any
    ) -> imputation.Imputation:
        """Imputes codes of all rows, `[N]`, from what is known of them, `[N, D]`."""
        members, others = self.plan.sides
        return imputation.impute(
            x[members], codes[members], x[others], size, self.seed, **options
        )


def _judge(
    plan: Plan,
    field: Field,
    answers: tuple[Answers, Answers],
    batch: int,
    seed: int,
) -> FieldReport:
    size = len(field.values)
    truth = field.truth(plan.sides[0]), field.truth(plan.sides[1])
    asked, unaltered = _accuracies(plan, field, answers)
    known = _Known.of(plan, field, seed)
    uninformed = known.impute(known.uninformed, field.codes, size)
    informed = known.impute(known.informed, field.codes, size)
    kind, best = imputation.better(informed, uninformed)
    baseline = best.members, best.others
    blind = uninformed.members, uninformed.others
    joint = plan.joint(field)
    completed = baseline
    if plan.hidden:
        ways = int(np.prod([len(other.values) for other in plan.hidden]))
        every = known.impute(known.uninformed, joint, size * ways)
        blind = _completed(blind, (every.members, every.others))
        every = known.impute(known.informed, joint, size * ways)
        completed = _completed(baseline, (every.members, every.others))

    def bayes(name: str, how: Callable[[Answers], NDArray]) -> Beliefs:
        prior = blind if name.startswith("map") else completed
        inside, outside = (
            adversaries.posterior(how(answer), share, size)
            for answer, share in zip(answers, prior, strict=True)
        )
        return inside, outside

    beliefs = {
        name: bayes(name, how)
        for name, how in adversaries.likelihoods(answers[0], plan.knows).items()
    }
    beliefs |= _learned(plan, field, known, answers, baseline, seed)
    if plan.model.neurons is not None and not plan.hidden:
        beliefs["neurons"] = learned.neurons(
            plan.model,
            plan.frame,
            plan.sides,
            _columns(plan),
            (field.name,),
            field.examples[:, None],
            field.codes,
            baseline,
            batch,
            seed,
        )
    looks = len(beliefs) * len(plan.fields)
    attacks = tuple(
        verdicts.attack(name, said, truth, baseline, looks)
        for name, said in beliefs.items()
    )
    released = [release.name for release in _releases(plan)]
    released.sort(key=lambda name: WHAT_IF.index(name) if name in WHAT_IF else -1)
    what_if = tuple(
        WhatIf(
            name,
            (answers[0].accuracy[name], answers[1].accuracy[name]),
            verdicts.attack(name, bayes(name, how), truth, baseline, len(released)),
        )
        for name, how in adversaries.likelihoods(answers[0], released).items()
    )
    moves = float(np.concatenate([a.moves for a in answers]).mean())
    doubts = []
    if moves == 0:
        doubts.append(
            f"The model's answers move for no candidate of {field.name}: it does not "
            "use the field, or does not recognize the values."
        )
    if kind != "imputation with outcome":
        doubts.append(
            "The imputation that knows the outcome is worse out of fold than the one "
            "that does not: the latter is the baseline."
        )
    if not _exact(plan, field):
        doubts.append(
            f"{field.name} is asked at {_where(plan, field)}: the model's accuracy so "
            f"asked is {asked[0]:.3f} of members and {asked[1]:.3f} of others, and "
            f"{unaltered[0]:.3f} and {unaltered[1]:.3f} on unaltered rows."
        )
    name = f"{kind} ({best.imputer})"
    leaks = any(a.adds or a.remembers for a in attacks)

    def rightly(said: Beliefs, side: int) -> NDArray[np.bool_]:
        return truth[side].hits(truth[side].guess(said[side]))

    without = uninformed.members, uninformed.others
    report = FieldReport(
        field.name,
        field.values,
        verdicts.sentence(field.name, attacks, name, moves),
        None if moves == 0 else leaks,
        name,
        (proportion(rightly(baseline, 0)), proportion(rightly(baseline, 1))),
        (float(rightly(without, 0).mean()), float(rightly(without, 1).mean())),
        attacks,
        what_if,
        asked,
        moves,
        tuple(doubts),
        np.concatenate(plan.sides),
        np.concatenate([one.codes for one in truth]),
        (),
    )
    return dataclasses.replace(report, groups=_groups(plan, report))


def _completed(values: Beliefs, completions: Beliefs) -> Beliefs:
    """Beliefs in completions whose sums are those in the values, `[V, K]`."""
    made = []
    for share, joint in zip(values, completions, strict=True):
        joint = joint.reshape(*share.shape, -1)
        total = joint.sum(2, keepdims=True)
        rest = joint.sum(1, keepdims=True)
        each = np.where(total > 0, joint / np.where(total > 0, total, 1.0), rest)
        made.append((share[:, :, None] * each).reshape(len(share), -1))
    return made[0], made[1]


def _learned(
    plan: Plan,
    field: Field,
    known: _Known,
    answers: tuple[Answers, Answers],
    baseline: Beliefs,
    seed: int,
) -> dict[str, Beliefs]:
    """Attacks that have no likelihood: CSMIA, and models of the field."""
    size = len(field.values)
    found: dict[str, Beliefs] = {}
    if plan.categories and "outcome" in plan.knows:
        inside, outside = (
            adversaries.csmia(answer, size, seed + side)
            for side, answer in enumerate(answers)
        )
        found["csmia"] = inside, outside
        inside, outside = (
            learned.lomia(answer, known.informed[people], prior, seed)
            for answer, people, prior in zip(answers, plan.sides, baseline, strict=True)
        )
        found["lomia"] = inside, outside
    for number, release in enumerate(plan.releases):
        if release.kind in ("score", "noise"):
            random = np.random.default_rng([seed, number])
            scores = np.zeros((rows.size(plan.frame), answers[0].released.shape[1]))
            for people, answer in zip(plan.sides, answers, strict=True):
                scores[people] = release.shown(answer.released, random, plan.scale)
            said = known.impute(
                np.concatenate([known.informed, scores], 1),
                field.codes,
                size,
                imputers=["gradient boosting"],
            )
            found[f"learned {release.name}"] = said.members, said.others
    return found


def _exact(plan: Plan, field: Field) -> bool:
    return all(each.exact for each in (field, *plan.hidden))


def _where(plan: Plan, field: Field) -> str:
    if field.tolerance is not None:
        return f"values of the file about {field.tolerance:g} apart"
    return "the median of each bin"


def _accuracies(
    plan: Plan, field: Field, answers: tuple[Answers, Answers]
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Of members and others, as asked and on unaltered rows.

    Raises:
      ValueError: they differ and should not.
    """
    joint = plan.joint(field)
    inside, outside = (
        _as_asked(a, joint[people])
        for a, people in zip(answers, plan.sides, strict=True)
    )
    asked = inside, outside
    inside, outside = (adversaries.accuracy(a.released, a.outcome) for a in answers)
    unaltered = inside, outside
    if _exact(plan, field) and max(np.abs(np.subtract(asked, unaltered))) > _BAR:
        raise ValueError(
            f"{field.name!r}: the model's accuracy is {asked[0]:.4f} of members and "
            f"{asked[1]:.4f} of others as asked, and {unaltered[0]:.4f} and "
            f"{unaltered[1]:.4f} on unaltered rows: no verdict would hold. If it "
            "answers otherwise each time, fix its seed; else give the rows as it takes "
            "them by --rows=MODULE:FUNCTION"
        )
    return asked, unaltered


def _as_asked(answers: Answers, truth: NDArray[np.intp]) -> float:
    people = np.arange(len(truth))
    if answers.regression:
        said = answers.confidence[people, truth]
        return float(np.sqrt(np.mean((said - answers.outcome) ** 2)))
    return float(np.mean(answers.label[people, truth] == answers.outcome))


def _groups(plan: Plan, report: FieldReport) -> tuple[tuple[str, str, Interval], ...]:
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
