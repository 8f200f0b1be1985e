"""What was recovered: functions of arrays, one value for each example.

Means, intervals and n are made once, where a result is reported.
"""

from mijax.metrics import attributes, distribution, identity, images, intervals

__all__ = ["attributes", "distribution", "identity", "images", "intervals"]
