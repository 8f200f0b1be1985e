"""GMI with cross-entropy and with the logit loss, three seeds each.

python -m launch.sweep --experiment=zhang2020_gmi --sweep=launch/sweeps/gmi_seeds.py
"""

from launch.grid import Sweep, each, product


def sweep() -> Sweep:
    """Six runs."""
    return product(
        each("attacks", ["gmi_cross_entropy", "gmi_logit"]), each("seed", range(3))
    )
