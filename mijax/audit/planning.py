"""What is asked, of whom: everything that is wrong is found before any long work."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mijax.audit import models, rows
from mijax.audit.models import Model
from mijax.audit.releases import Release
from mijax.audit.rows import Frame
from mijax.audit.verdicts import Truth
from mijax.evaluation import imputation

KNOWS = "outcome", "label", "score:2"
_KNOWS_OF_NUMBERS = "outcome", "score:2"
_MANY = 50  # candidates of a sensitive field
_MOST = 200  # completions of all fields that the adversary does not know
_SMALL = 6  # categories, up to which groups of a field are compared


@dataclasses.dataclass(frozen=True)
class Field:
    """One field that somebody does not know: its candidates, and where they stand.

    Attributes:
      name: of the column.
      values: the candidates, as the file writes them.
      codes: of all rows, `[N]`.
      examples: a row that has each candidate, `[S]`.
      exact: whether people are asked about at their own value, rather than at one of
        the same bin or nearby.
      numbers: of all rows, `[N]`, where a guess within `tolerance` is right.
      tolerance: None of categories.
    """

    name: str
    values: tuple[str, ...]
    codes: NDArray[np.intp]
    examples: NDArray[np.intp]
    exact: bool
    numbers: NDArray[np.float64] | None = None
    tolerance: float | None = None

    def truth(self, people: NDArray[np.intp]) -> Truth:
        """What people really have."""
        codes = self.codes[people]
        if self.numbers is None or self.tolerance is None:
            return Truth.of(codes, len(self.values))
        points, within = self.numbers[self.examples], self.tolerance * (1 + 1e-9)
        right = np.abs(self.numbers[people][:, None] - points) <= within
        return Truth(codes, right, np.abs(points[:, None] - points) <= within)


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is asked, of whom, and what the imputation reads."""

    model: Model
    frame: Frame
    fields: tuple[Field, ...]
    hidden: tuple[Field, ...]  # that the adversary does not know either
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

    @property
    def scale(self) -> float:
        """The unit of what is released: deviations of a regression's outcome."""
        if self.categories:
            return 1.0
        return float(np.std(self.outcome[self.sides[0]])) or 1.0

    @property
    def releases(self) -> tuple[Release, ...]:
        """What adversaries know of what the model released."""
        return tuple(Release.of(name) for name in self.knows if name != "outcome")

    def completions(self, field: Field) -> NDArray[np.intp]:
        """Rows that have what each completion holds in each column, `[K, d]`."""
        every = [field.examples, *(other.examples for other in self.hidden)]
        return np.array(list(itertools.product(*every)))

    def joint(self, field: Field) -> NDArray[np.intp]:
        """The completion that each row really has, `[N]`."""
        codes = field.codes
        for other in self.hidden:
            codes = codes * len(other.values) + other.codes
        return codes


def listed(names: str | Sequence[str]) -> tuple[str, ...]:
    """Names, each once; one may stand alone.

    Raises:
      ValueError: they are no text.
    """
    try:
        every: tuple[Any, ...] = (names,) if isinstance(names, str) else tuple(names)
    except TypeError:
        every = (None,)
    if not all(isinstance(name, str) for name in every):
        raise ValueError(f"{names!r} is no name: give a text, or a list of texts.")
    return tuple(dict.fromkeys(every))


def make(
    model: Model,
    frame: Frame,
    *,
    sensitive: tuple[str, ...],
    target: str,
    members: str | NDArray,
    hidden: tuple[str, ...],
    knows: tuple[str, ...] | None,
    without: tuple[str, ...],
    numeric: tuple[str, ...],
    categorical: tuple[str, ...],
    bins: Mapping[str, Sequence[float]],
    tolerance: Mapping[str, float],
    groups: tuple[str, ...] | None,
    unknown: str,
) -> Plan:
    """Finds everything that is wrong before any long work, and raises it as one.

    Raises:
      ValueError: the table, the names or the model do not fit.
    """
    every = rows.names(frame)
    auto = "auto" in without
    without = tuple(name for name in without if name != "auto")
    wrong = _misnamed(
        every,
        {
            "sensitive": sensitive,
            "target": (target,),
            "members": (members,) if isinstance(members, str) else (),
            "hidden": hidden,
            "without": without,
            "numeric": numeric,
            "categorical": categorical,
            "bins": tuple(bins),
            "tolerance": tuple(tolerance),
            "groups": groups or (),
        },
    )
    wrong += _contradictory(
        frame, sensitive, target, members, hidden, knows, without, numeric, categorical
    )
    wrong += [
        f"--{flag}={name} is neither sensitive nor hidden: only such a field is cut"
        for flag, cut in (("bins", bins), ("tolerance", tolerance))
        for name in cut
        if name not in (*sensitive, *hidden)
    ]
    wrong += [
        f"--bins={name} and --tolerance={name} exclude each other: choose"
        for name in bins
        if name in tolerance
    ]
    wrong += [
        f"--tolerance={name} is of a hidden field: give --bins={name}:EDGE,EDGE"
        for name in tolerance
        if name in hidden
    ]
    if unknown not in ("keep", "drop"):
        wrong.append(f"--unknown={unknown} is neither keep nor drop")
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
    known = tuple(name for name in given if name not in (*sensitive, *hidden))
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
    outcome, categories = _outcome(frame, target, numeric, categorical)
    if categories and len(categories) > max(_MANY, len(outcome) // 10):
        wrong.append(
            f"the target {target!r} has {len(categories)} different texts: name a "
            "target of fewer classes"
        )
    if not categories and not np.isfinite(outcome[keep]).all():
        wrong.append(f"the target {target!r} holds infinite numbers: leave them out")
    elif len(np.unique(outcome[sides[0]])) < 2:
        wrong.append(
            f"the target {target!r} has one value in all members: name another target"
        )
    if not categories:
        wrong += [
            f"--knows={name} is of classes and {target!r} is numeric: give score, or "
            f"--categorical={target}"
            for name in knows or ()
            if name != "outcome" and Release.of(name).of_classes
        ]
    fields: dict[str, Field] = {}
    for name in (*sensitive, *hidden):
        try:
            field = _field(frame, name, bins.get(name), tolerance.get(name), keep)
            present = np.unique(field.codes[sides[0]])
            if len(present) < 2:
                said = ", ".join(field.values[code] for code in present)
                raise ValueError(
                    f"{name!r} is {said!r} in all {len(sides[0])} members: there is "
                    "nothing to infer; leave it out"
                )
            fields[name] = field
        except ValueError as error:
            wrong.append(str(error))
    _raise(wrong)
    ways = int(np.prod([len(fields[name].values) for name in hidden], initial=1))
    wrong += [
        f"{name!r} and the hidden {', '.join(hidden)} have "
        f"{ways * len(fields[name].values):,} completions, more than {_MOST}: hide "
        "fewer, or cut them by --bins"
        for name in sensitive
        if hidden and ways * len(fields[name].values) > _MOST
    ]
    _raise(wrong)
    small = [
        name
        for name in (*known, *sensitive)
        if len(rows.coded(rows.column(frame, name))[0]) <= _SMALL
    ]
    return Plan(
        model,
        frame,
        tuple(fields[name] for name in sensitive),
        tuple(fields[name] for name in hidden),
        target,
        outcome,
        categories,
        sides,
        given,
        known,
        numeric,
        categorical,
        knows or (KNOWS if categories else _KNOWS_OF_NUMBERS),
        tuple(small) if groups is None else groups,
        tuple(notes),
    )


def _misnamed(every: Sequence[str], flags: Mapping[str, Sequence[str]]) -> list[str]:
    there = ", ".join(map(str, every[:30])) + ", ..." * (len(every) > 30)
    return [
        f"--{flag} names no column {name!r}: give one of {there}"
        for flag, given in flags.items()
        for name in given
        if name not in every
    ]


def _contradictory(
    frame: Frame,
    sensitive: Sequence[str],
    target: str,
    members: str | NDArray,
    hidden: Sequence[str],
    knows: Sequence[str] | None,
    without: Sequence[str],
    numeric: Sequence[str],
    categorical: Sequence[str],
) -> list[str]:
    wrong = []
    for name in knows or ():
        if name != "outcome":
            Release.of(name)
    if not sensitive:
        wrong.append("no field is sensitive: name one by --sensitive")
    if knows is not None and not knows:
        wrong.append("no adversary is named: give --knows=outcome")
    if target in sensitive:
        wrong.append(f"{target!r} is both sensitive and the target: name another field")
    roles = {"target": (target,), "sensitive": tuple(sensitive), "hidden": hidden}
    if isinstance(members, str):
        wrong += [
            f"--members={members} is the {role} as well: name the column that says "
            "who was trained on"
            for role, taken in roles.items()
            if members in taken
        ]
    wrong += [
        f"{name!r} is hidden and sensitive or the target: drop it from --hidden"
        for name in hidden
        if name in (target, *sensitive)
    ]
    wrong += [
        f"{name!r} is {role} and left out: drop it from --without"
        for role, taken in roles.items()
        for name in taken
        if name in without
    ]
    wrong += [
        f"--numeric={name} holds what is no number: drop it from --numeric"
        for name in numeric
        if name in rows.names(frame) and rows.numbers(rows.column(frame, name)) is None
    ]
    wrong += [
        f"{name!r} is both --numeric and --categorical: choose"
        for name in numeric
        if name in categorical
    ]
    return wrong


def _outcome(
    frame: Frame, target: str, numeric: Sequence[str], categorical: Sequence[str]
) -> tuple[NDArray, tuple[str, ...]]:
    """Codes of all rows and their categories, or numbers and none."""
    values = rows.column(frame, target)
    if rows.is_numeric(values, target, numeric, categorical):
        numbers = rows.numbers(values)
        assert numbers is not None
        return numbers, ()
    labels, codes = rows.coded(values)
    return codes, tuple(labels)


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
    tolerance: float | None,
    keep: NDArray[np.bool_],
) -> Field:
    """Codes of a field that somebody does not know, and its candidates."""
    values = rows.column(frame, name)
    numbers = rows.numbers(values)
    flag = "bins" if edges is not None else "tolerance"
    cut = edges is not None or tolerance is not None
    if cut and (numbers is None or not np.isfinite(numbers[keep]).all()):
        missing = numbers is not None
        raise ValueError(
            f"--{flag}={name}: the column holds "
            f"{'missing or infinite numbers' if missing else 'what is no number'}: "
            f"{'leave those rows out' if missing else f'drop the --{flag}'}"
        )
    if edges is not None and numbers is not None:
        return _binned(name, numbers, edges)
    if tolerance is not None and numbers is not None:
        return _grid(name, numbers, tolerance)
    labels, codes = rows.coded(values)
    if len(labels) > _MANY:
        how = (
            f"cut it into categories, --bins={name}:EDGE,EDGE, or take guesses nearby "
            f"as right, --tolerance={name}:DISTANCE"
            if numbers is not None
            else f"no more than {_MANY} can be candidates; group its values first"
        )
        raise ValueError(f"{name!r} has {len(labels):,} different values: {how}")
    examples = np.unique(codes, return_index=True)[1]
    return Field(name, tuple(labels), codes, examples, True)


def _binned(name: str, numbers: NDArray[np.float64], edges: Sequence[float]) -> Field:
    try:
        edges = [float(edge) for edge in edges]
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"--bins={name}: {edges!r} is no list of numbers: give the edges"
        ) from error
    if not edges or not np.isfinite(edges).all() or (np.diff(edges) <= 0).any():
        said = ",".join(f"{edge:g}" for edge in edges)
        raise ValueError(
            f"--bins={name}:{said}: give at least one edge, each above the one before"
        )
    if len(edges) >= _MANY:
        raise ValueError(
            f"--bins={name}: {len(edges)} edges are too many: give fewer than {_MANY}"
        )
    codes = np.searchsorted(edges, numbers, side="right")
    present, codes = np.unique(codes, return_inverse=True)
    order = [np.flatnonzero(codes == code) for code in range(len(present))]
    # The lower median is a value that the file has.
    examples = [
        inside[np.argsort(numbers[inside], kind="stable")[(len(inside) - 1) // 2]]
        for inside in order
    ]
    bounds = ["-inf", *(f"{edge:g}" for edge in edges), "inf"]
    labels = tuple(f"[{bounds[c]}, {bounds[c + 1]})" for c in present)
    return Field(name, labels, codes, np.array(examples), False)


def _grid(name: str, numbers: NDArray[np.float64], tolerance: float) -> Field:
    """Values of the file that lie about a tolerance apart, as candidates."""
    if not isinstance(tolerance, int | float) or not 0 < tolerance < np.inf:
        raise ValueError(
            f"--tolerance={name}:{tolerance}: give a positive distance within which "
            "a guess is right"
        )
    low, high = float(numbers.min()), float(numbers.max())
    if (high - low) / tolerance > _MANY - 1:
        raise ValueError(
            f"--tolerance={name}:{tolerance:g} makes {(high - low) / tolerance:.0f} "
            f"candidates from {low:g} to {high:g}: give at least "
            f"{(high - low) / (_MANY - 1):.4g}"
        )
    distinct, first = np.unique(numbers, return_index=True)
    nearest = _nearest(distinct, np.arange(low, high + tolerance, tolerance))
    examples = first[np.unique(nearest)]
    points = numbers[examples]
    labels = tuple(f"{point:g}" for point in points)
    codes = _nearest(points, numbers)
    return Field(name, labels, codes, examples, False, numbers, tolerance)


def _nearest(points: NDArray, numbers: NDArray) -> NDArray[np.intp]:
    """The place of the point nearest to each number; points ascend."""
    after = np.clip(np.searchsorted(points, numbers), 1, max(len(points) - 1, 1))
    after = np.minimum(after, len(points) - 1)
    before = np.maximum(after - 1, 0)
    closer = np.abs(points[after] - numbers) < np.abs(points[before] - numbers)
    return np.where(closer, after, before)
