"""Networks in Flax Linen, a family a file, sized by their fields.

Every classifier is called alike:

    prediction = module.apply(variables, x, train=False)

with images `x` `[B, H, W, C]` in [0, 1]. A family with batch normalization takes
`mutable=["batch_stats"]` when `train=True`. No network needs a random key after its
initialization. Modules are hashable, so that they may be static arguments of `jit`.
"""

from mijax.core import Prediction

__all__ = ["Prediction"]
