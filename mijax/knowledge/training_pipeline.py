"""A training pipeline whose code the adversary wrote, and the model it released."""

from mijax.core import Target, pytree, static


@pytree
class TrainingPipeline:
    """The adversary supplied the training code, and later sees the released model.

    What the training code did (a penalty, synthetic examples, rewritten weights) is
    the method's; the private data are not here. Where the adversary may only query the
    released model, the knowledge is `Labels` instead.

    Attributes:
      target: the released model.
      length: how many values the training code hid in it, N.
    """

    target: Target
    length: int = static()
