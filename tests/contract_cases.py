"""The worlds in which `contract_test.py` asks of every attack what all promise.

Each family of attacks has a file of them.
"""

import attribute_cases
import federated_cases
import inversion_cases
import leakage_cases
import pipeline_cases
import property_cases
import split_cases
import updates_cases

from mijax.knowledge import (
    AllButOne,
    Explained,
    Labels,
    PartialRecord,
    PartialText,
    ReleasedParameters,
    Scores,
    SplitQueries,
    TrainingPipeline,
    UpdatedModel,
)

CASES = [
    *inversion_cases.CASES,
    *leakage_cases.CASES,
    *federated_cases.CASES,
    *attribute_cases.CASES,
    *pipeline_cases.CASES,
    *property_cases.CASES,
    *split_cases.CASES,
    *updates_cases.CASES,
]
BLACK_BOXES = {Scores, Labels}
COUNTED = {
    *BLACK_BOXES,
    Explained,
    PartialRecord,
    PartialText,
    SplitQueries,
    UpdatedModel,
}
# The model need not be run.
WEIGHTS_READ = {AllButOne, ReleasedParameters, TrainingPipeline}
