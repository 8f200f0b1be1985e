"""What an adversary has: the type of the knowledge is the threat model.

What an adversary may not see has no field to be read from. Auxiliary information, a
generator, public images, a glimpse of the private image, is a field of its own.
"""

from mijax.knowledge.all_but_one import AllButOne
from mijax.knowledge.black_box import BlackBox, Labels, Oracle, Scores
from mijax.knowledge.explained import Explained
from mijax.knowledge.federation_seat import FederationSeat
from mijax.knowledge.kept import Kept, asking
from mijax.knowledge.partial_record import (
    Asked,
    Candidates,
    PartialRecord,
    confusion,
    normal,
    reliability,
)
from mijax.knowledge.partial_text import PartialText
from mijax.knowledge.poisoned_training import PoisonedTraining
from mijax.knowledge.private_history import PrivateHistory
from mijax.knowledge.released_parameters import ReleasedParameters
from mijax.knowledge.secure_aggregation import securely_summed
from mijax.knowledge.server_seat import ServerSeat
from mijax.knowledge.shared_update import SharedUpdate
from mijax.knowledge.split_features import (
    Half,
    SplitFeatures,
    SplitQueries,
    SplitQueryFree,
    SplitWhiteBox,
)
from mijax.knowledge.training_pipeline import TrainingPipeline
from mijax.knowledge.updated_model import UpdatedModel
from mijax.knowledge.validation import validate
from mijax.knowledge.white_box import Codec, WhiteBox
from mijax.knowledge.white_box_record import WhiteBoxRecord

__all__ = [
    "AllButOne",
    "Asked",
    "BlackBox",
    "Candidates",
    "Codec",
    "Explained",
    "FederationSeat",
    "Half",
    "Kept",
    "Labels",
    "Oracle",
    "PartialRecord",
    "PartialText",
    "PoisonedTraining",
    "PrivateHistory",
    "ReleasedParameters",
    "Scores",
    "ServerSeat",
    "SharedUpdate",
    "SplitFeatures",
    "SplitQueries",
    "SplitQueryFree",
    "SplitWhiteBox",
    "TrainingPipeline",
    "UpdatedModel",
    "WhiteBox",
    "WhiteBoxRecord",
    "asking",
    "confusion",
    "normal",
    "reliability",
    "securely_summed",
    "validate",
]
