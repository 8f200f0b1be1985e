"""How far a long run is: a bar on a terminal, plain lines in a log."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")

_SECONDS = 10.0  # between two lines of a log


def track(
    chunks: Iterable[T], name: str, *, sizes: list[int], done: int, unit: str
) -> Iterator[T]:
    """Yields chunks, and says after each how many are done, how fast, and what is left.

    Args:
      chunks: what is left to do, one after the other.
      name: what is done, for the line.
      sizes: of each chunk, in units.
      done: units that an earlier run did.
      unit: such as "victims".
    """
    total = done + sum(sizes)
    if sys.stdout.isatty():
        with tqdm(
            total=total, initial=done, desc=name, unit=f" {unit}", file=sys.stdout
        ) as bar:
            for chunk, size in zip(chunks, sizes, strict=True):
                yield chunk
                bar.update(size)
        return
    start = said = time.monotonic()
    now = done
    for chunk, size in zip(chunks, sizes, strict=True):
        yield chunk
        now += size
        time_now = time.monotonic()
        if now == total or time_now - said >= _SECONDS:
            said = time_now
            rate = (now - done) / max(time_now - start, 1e-9)
            print(
                f"{name}: {now:,}/{total:,} {unit}  {rate:.3g}/s  "
                f"{(total - now) / rate:.0f} s left",
                flush=True,
            )
