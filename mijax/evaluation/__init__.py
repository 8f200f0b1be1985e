"""Who says whether an attack succeeded: never the attacked model, nor its kin."""

from mijax.evaluation.judges import (
    DlibResNet,
    Gallery,
    Judge,
    MobileFaceNetCasia,
    Provenance,
    cached,
    gallery,
    shared,
    verdict,
)

__all__ = [
    "DlibResNet",
    "Gallery",
    "Judge",
    "MobileFaceNetCasia",
    "Provenance",
    "cached",
    "gallery",
    "shared",
    "verdict",
]
