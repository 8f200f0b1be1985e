"""How Americans like their steak: FiveThirtyEight's survey of 550 people.

Sensitive is whether one ever cheated on a significant other, and, in later papers,
whether one drinks. The target is how well done the steak shall be. CC BY 4.0.

References:
  Hickey. How Americans like their steak. FiveThirtyEight 2014.
"""

import os

from mijax.data.tables import files
from mijax.data.tables.columns import coded, read
from mijax.data.tables.table import Table, complete

_FILE = "steak-risk-survey.csv"
_SHA256 = "cc25080bf53209ba5034d738e857bd6106314f8e49ac7c203dbca9ff35474a1a"
_NO_YES = ("No", "Yes")
_QUESTIONS = {  # how the question begins, what it is called here, and its answers
    "Consider the following": ("lottery", ("Lottery A", "Lottery B")),
    "Do you ever smoke": ("smokes", _NO_YES),
    "Do you ever drink": ("drinks", _NO_YES),
    "Do you ever gamble": ("gambles", _NO_YES),
    "Have you ever been skydiving": ("skydived", _NO_YES),
    "Do you ever drive above": ("speeds", _NO_YES),
    "Have you ever cheated": ("cheated", _NO_YES),
    "How do you like your steak": (
        "steak",
        ("Rare", "Medium rare", "Medium", "Medium Well", "Well"),
    ),
    "Gender": ("gender", ("Female", "Male")),
    "Age": ("age", ("18-29", "30-44", "45-60", "> 60")),
    "Household Income": (
        "income",
        (
            "$0 - $24,999",
            "$25,000 - $49,999",
            "$50,000 - $99,999",
            "$100,000 - $149,999",
            "$150,000+",
        ),
    ),
    "Education": (
        "education",
        (
            "Less than high school degree",
            "High school degree",
            "Some college or Associate degree",
            "Bachelor degree",
            "Graduate degree",
        ),
    ),
    "Location": ("region", None),
}


def load(data_dir: str | os.PathLike[str] | None = None) -> Table:
    """Loads the complete answers of those who eat steak."""
    path = files.checked(files.find(_FILE, data_dir), _SHA256)
    columns = read(path)
    answers = {}
    for question, values in columns.items():
        for start, (name, categories) in _QUESTIONS.items():
            if question.startswith(start):
                # The first row below the header says only "Response".
                answers[name] = coded(name, values[1:], categories)
    table = Table(
        "FiveThirtyEight's steak survey",
        tuple(field for field, _ in answers.values()),
        {name: codes for name, (_, codes) in answers.items()},
        ("cheated", "drinks"),
        "steak",
    )
    eats = coded("eats", columns["Do you eat steak?"][1:], _NO_YES)[1]
    return complete(table.drop(eats == 0, "eats no steak"))
