"""A labeled image data set, held in memory as arrays."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """Images with the identity or class of each.

    N images of height H, width W and C channels, of K identities.

    Attributes:
      name: what the data set is called in messages and reports.
      images: `[N, H, W, C]` float32 in [0, 1].
      labels: `[N]` int32 in 0..K-1.
      names: the K names of the identities, in label order.

    Raises:
      ValueError: a field has another shape, type or range, or a name occurs twice.
    """

    name: str
    images: np.ndarray  # [N, H, W, C]
    labels: np.ndarray  # [N]
    names: tuple[str, ...]  # K of them

    def __post_init__(self):
        images, labels = self.images, self.labels
        if images.ndim != 4 or images.dtype != np.float32:
            raise ValueError(
                f"{self.name}: images must be float32 [N, H, W, C], "
                f"not {images.dtype} {list(images.shape)}"
            )
        if labels.shape != images.shape[:1] or labels.dtype != np.int32:
            raise ValueError(
                f"{self.name}: labels must be int32 [{len(images)}], one an image, "
                f"not {labels.dtype} {list(labels.shape)}"
            )
        # Written so that NaN fails too.
        if images.size and not (images.min() >= 0 and images.max() <= 1):
            raise ValueError(
                f"{self.name}: images must lie in [0, 1], "
                f"not in [{images.min()}, {images.max()}]"
            )
        if labels.size and not 0 <= labels.min() <= labels.max() < len(self.names):
            raise ValueError(
                f"{self.name}: labels must lie in 0..{len(self.names) - 1}, "
                f"not in {labels.min()}..{labels.max()}"
            )
        if len(set(self.names)) != len(self.names):
            raise ValueError(f"{self.name}: two identities share one name")

    def __len__(self) -> int:
        return len(self.images)

    def counts(self) -> np.ndarray:
        """Counts the images of each identity, `[K]`."""
        return np.bincount(self.labels, minlength=len(self.names))

    def first_of_each(self, number: int) -> "Dataset":
        """The first `number` images of each identity, in the order of identities."""
        classes = range(len(self.names))
        rows = np.concatenate(
            [np.flatnonzero(self.labels == k)[:number] for k in classes]
        )
        return dataclasses.replace(
            self, images=self.images[rows], labels=self.labels[rows]
        )

    def means(self) -> np.ndarray:
        """The mean image of each identity, `[K, H, W, C]`."""
        classes = range(len(self.names))
        return np.stack([self.images[self.labels == k].mean(0) for k in classes])

    def shrunk(self, factor: int) -> "Dataset":
        """The same with squares of `factor` pixels averaged into one.

        Rows and columns at the end that fill no square are cut.

        Raises:
          ValueError: no pixel would be left.
        """
        number, height, width, channels = self.images.shape
        if not 1 <= factor <= min(height, width):
            raise ValueError(
                f"factor is {factor}: {self.name} has images of {height}x{width}, so "
                f"give 1 to {min(height, width)}"
            )
        height, width = height // factor, width // factor
        cut = self.images[:, : height * factor, : width * factor]
        squares = cut.reshape(number, height, factor, width, factor, channels)
        images = squares.mean((2, 4)).astype(np.float32)
        return dataclasses.replace(self, images=images)
