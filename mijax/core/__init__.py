"""The vocabulary that everything else is written in: pytrees, targets, results.

Letters: B batch, V victims, R restarts, K classes, F features; images are
`[H, W, C]` in [0, 1]. Of records: D columns, S values of the sensitive field.
"""

from mijax.core.auxiliary import Glimpse, Paths, Prior, TemplateDecoder
from mijax.core.defense import Defense, Objective, chain
from mijax.core.keys import independent, key_of
from mijax.core.networks import AffineFirst, Network, Prediction
from mijax.core.payload import Coding, Payload, compressed, restored, to_bits, to_bytes
from mijax.core.pytrees import concrete, hyper_parameters, in_chunks, pytree, static
from mijax.core.results import Inference, Reconstruction, choose, infer
from mijax.core.target import Target, refuse_one_output, split_columns

__all__ = [
    "AffineFirst",
    "Coding",
    "Defense",
    "Glimpse",
    "Inference",
    "Network",
    "Objective",
    "Paths",
    "Payload",
    "Prediction",
    "Prior",
    "Reconstruction",
    "Target",
    "TemplateDecoder",
    "chain",
    "choose",
    "compressed",
    "concrete",
    "hyper_parameters",
    "in_chunks",
    "independent",
    "infer",
    "key_of",
    "pytree",
    "refuse_one_output",
    "restored",
    "split_columns",
    "static",
    "to_bits",
    "to_bytes",
]
