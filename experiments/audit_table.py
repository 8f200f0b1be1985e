r"""Audit of a model of yours: what it tells of one person's missing field.

    python -m experiments.audit_table --data=csv:answers.csv --sensitive=smokes \
        --target=premium --members=in_training --model=pricing:predict

For each sensitive field, and for the rows that the model was trained on and those that
it was not: how often an adversary who knows everything else of a person, and the true
outcome, names the value with the model, and how often without. The adversary without it
imputes the field from the known ones and the outcome, by a model of the same
population; the one with it takes an imputation from the known ones as its prior (MAP
inference, Fredrikson et al. 2014). What counts is the difference, and that it is larger
for members. An imputation that does not know the outcome has lines of its own: beside
it, what the outcome says of the field is laid to the model.

`--model=MODULE:FUNCTION` names `f(columns) -> predictions`: a dict of the table's
columns, name to array, in; out come numbers of a numeric target, or for a categorical
one probabilities `[B, K]` in the order of its sorted categories, or labels. Or give a
scikit-learn estimator, `--model=model.joblib --trust_model_file`: opening such a file
runs whatever program is in it.

It takes seconds for thousands of rows, on one CPU core.
"""

import time

import numpy as np
from absl import flags

from experiments import worlds
from experiments.attribute_inference import auditing
from experiments.harness import flags as common
from experiments.harness import report, stages
from mijax.data import tables

_DATA = flags.DEFINE_string(
    "data", None, "csv:PATH, or a table of mijax.data.tables.load.", required=True
)
_SENSITIVE = flags.DEFINE_list("sensitive", None, "Fields to infer.", required=True)
_TARGET = flags.DEFINE_string("target", None, "What the model predicts.", required=True)
_MEMBERS = flags.DEFINE_string(
    "members", None, "Column that says who was trained on: 1/0, yes/no.", required=True
)
_MODEL = flags.DEFINE_string(
    "model", None, "FILE.joblib or MODULE:FUNCTION.", required=True
)
_TRUST = flags.DEFINE_bool(
    "trust_model_file",
    False,
    "Open --model though it is a pickle: that runs whatever program is in the file.",
)
_WITHOUT = flags.DEFINE_list("without", [], "Columns that the model does not take.")
_GROUPS = flags.DEFINE_list(
    "groups", None, "Fields whose groups are compared; by default all small ones."
)
common.common("audit_table", dataset=None)


def main() -> None:
    """Attacks every sensitive field and writes the page."""
    values = flags.FLAGS
    workdir = report.prepare_workdir(values.workdir)
    stages.claim(workdir, common.given(), values.resume)
    table, members = auditing.load(
        _DATA.value,
        worlds.data_folder(values.data_dir),
        _SENSITIVE.value,
        _TARGET.value,
        _MEMBERS.value,
        _WITHOUT.value,
    )
    print(table.report(), flush=True)
    predict = auditing.open_model(_MODEL.value, _TRUST.value)
    auditing.check_model(table, predict)
    start = time.monotonic()
    rows = tables.Rows(np.flatnonzero(members), np.flatnonzero(~members))
    metrics: dict[str, report.Metric] = {}
    shown, caveats = [], []
    groups = (
        _GROUPS.value if _GROUPS.value is not None else auditing.small_fields(table)
    )
    for field in table.sensitive:
        found, setting = auditing.audit(table, field, rows, predict, values.seed)
        lines = auditing.judge(found, field)
        metrics |= lines
        shown.append(auditing.by_group(table, setting, found, field, groups))
        caveats += auditing.verdict(lines, field)
        if setting.dropped:
            caveats.append(
                f"{setting.dropped} rows of others have a category that no member has "
                "and were left out."
            )
    path = workdir / "figures" / "audit.png"
    auditing.draw(metrics, table.sensitive, path)
    page = report.write(
        workdir,
        experiment="audit_table",
        title=f"What the model tells of {', '.join(table.sensitive)}",
        attacked=f"{_MODEL.value}, which predicts {table.target}. {table.report()} "
        f"{members.sum():,} rows are members, {(~members).sum():,} are not.",
        knowledge="The model as a black box, how well it does on members, and of each "
        "person every other field and the true outcome. Imputation with outcome: the "
        "same without the model; imputation: without the outcome as well. The latter "
        "is the attack's prior.",
        baseline="imputation with outcome, which knows everything but the model.",
        flags=common.given(),
        seconds={"compile": 0.0, "run": time.monotonic() - start},
        n=len(table),
        metrics=metrics,
        tables=shown,
        pictures=[
            report.Picture(
                path,
                "What the model adds to an imputation of each field that knows the "
                "outcome: accuracy with it less accuracy without, 95 % intervals.",
            )
        ],
        caveats=[
            *caveats,
            "Leakage of members alone that others do not share is memory of the "
            "training data; leakage of both is what the model learned of everybody.",
            "Members are imputed out of fold, by models of three quarters of them, and "
            "others by a model of all members: a small gain of members over others may "
            "come of that.",
            "Missing numbers are asked about at the median of the members.",
            "Seconds include compiling.",
        ],
        command=common.command("audit_table"),
    )
    print("\n".join(caveats), f"report: {page}", sep="\n", flush=True)


if __name__ == "__main__":
    common.run(main)
