r"""MI-Face by seed and learning rate.

python -m launch.sweep --experiment=fredrikson2015_mi_face \
      --sweep=launch/sweeps/mi_face_rates.py
"""

from launch.grid import Sweep, each, product


def sweep() -> Sweep:
    """Twelve runs."""
    rates = each("mi_face.learning_rate", [1.0, 3.0, 10.0, 30.0])
    return product(each("seed", range(3)), rates)
