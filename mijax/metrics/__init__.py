"""What was recovered: functions of arrays, one value for each example.

Means, intervals and n are made once, where a result is reported.
"""

from mijax.metrics import distribution, identity, images, intervals

__all__ = ["distribution", "identity", "images", "intervals"]
