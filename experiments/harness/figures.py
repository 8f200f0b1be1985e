"""The figures of a report, drawn without a display: each function writes one PNG.

A figure is at most 1160 pixels wide, the width of the report's page, so that it is
shown at 100 %, with text of 12 pixels or more.
"""

import os
import pathlib
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:  # Matplotlib takes a second to import: `_figure` does it.
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DOTS = 100  # pixels an inch
_WIDTH = 1160  # pixels
_TEXT = 9  # points: 12.5 pixels
_LINE = 16  # pixels from one line of text to the next
_LETTER = 7.5  # pixels, of a wide one
_INK, _QUIET = "#222222", "#8a8a8a"
# Okabe and Ito's, told apart by the color-blind and in this order also in grey.
_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
_MARKERS = "osD^vP"
_LOST = (1.0, 0.0, 1.0)  # a pixel that is not finite


def image_grid(
    rows: Sequence[tuple[str, ArrayLike]],
    path: str | os.PathLike,
    column_titles: Sequence[str] | None = None,
    *,
    tile: int = 96,
):
    """Draws rows of images, one column for each victim, in exact pixels.

    Images are magnified by a whole number, each pixel a square; columns that do not fit
    go on in another band below. Values outside [0, 1] are clipped; pixels that are
    not finite are magenta.

    Args:
      rows: pairs of a label and images `[n, H, W, C]`, C of 1 or 3, with one n for all
        rows ("private person", "recovered", "nearest public image").
      path: of the PNG.
      column_titles: `n` titles above the first row.
      tile: pixels that the longer side of an image has at least.

    Raises:
      ValueError: there is no image, or the rows do not match.
    """
    labels = [label for label, _ in rows]
    stacks = [_colors(label, images) for label, images in rows]
    counts = {len(stack) for stack in stacks}
    if len(counts) != 1 or 0 in counts:
        raise ValueError(
            f"rows {labels} hold {[len(stack) for stack in stacks]} images: give each "
            "the same number, at least one"
        )
    count = counts.pop()
    if column_titles is not None and len(column_titles) != count:
        raise ValueError(f"{len(column_titles)} column titles for {count} columns")

    longest = max(max(stack.shape[1:3]) for stack in stacks)
    scale = max(1, -(-tile // longest))
    stacks = [s.repeat(scale, axis=1).repeat(scale, axis=2) for s in stacks]
    width = max(stack.shape[2] for stack in stacks)
    heights = [stack.shape[1] for stack in stacks]

    gap = 4
    names = [textwrap.wrap(label, 13) for label in labels]
    letters = max((len(line) for name in names for line in name), default=0)
    gutter = round(_LETTER * letters) + 14
    titles = [
        textwrap.wrap(title, max(int(width / _LETTER), 4))
        for title in column_titles or ()
    ]
    head = _LINE * max((len(title) for title in titles), default=0) + 2 * gap
    fit = max((_WIDTH - gutter) // (width + gap), 1)
    bands = -(-count // fit)
    columns = -(-count // bands)
    band = head + sum(heights) + gap * len(heights)
    space = 20
    total_width = gutter + columns * (width + gap)
    total_height = bands * band + (bands - 1) * space

    figure = _figure(total_width, total_height)

    def write(x, y, text, **alignment):
        """Writes at pixel (x, y), y counted from the top."""
        figure.text(
            x / total_width,
            1 - y / total_height,
            text,
            fontsize=_TEXT,
            color=_INK,
            **alignment,
        )

    for column in range(count):
        line, place = divmod(column, columns)
        left, top = gutter + place * (width + gap), line * (band + space)
        if titles:
            write(
                left + width / 2,
                top + head - gap,
                "\n".join(titles[column]),
                ha="center",
                va="bottom",
            )
        top += head
        for name, stack, height in zip(names, stacks, heights, strict=True):
            if place == 0:
                write(
                    gutter - 8,
                    top + height / 2,
                    "\n".join(name),
                    ha="right",
                    va="center",
                )
            figure.figimage(
                stack[column],
                xo=left + (width - stack.shape[2]) // 2,
                yo=total_height - top - height,
                origin="upper",
            )
            top += height + gap
    _save(figure, path)


def curves(
    series: Mapping[str, ArrayLike],
    path: str | os.PathLike,
    *,
    xlabel: str = "step",
    ylabel: str = "loss",
    log_y: bool = False,
):
    """Draws traces: the median over restarts in a band of the middle 80 %.

    Args:
      series: label to trace `[steps]` or `[restarts, steps]`. A restart that is not
        finite at a step is left out there, and the label says of how many.
      path: of the PNG.
      xlabel: what is counted.
      ylabel: what is traced.
      log_y: whether the trace has a logarithmic axis.

    Raises:
      ValueError: a trace is empty or never finite.
    """
    figure, axes = _axes(720, 400, xlabel, ylabel)
    names = []
    for (label, trace), color in zip(series.items(), _cycle(series), strict=True):
        values = np.atleast_2d(np.asarray(trace, np.float64))
        finite = np.isfinite(values)
        if values.ndim != 2 or not finite.any(axis=0).all():
            raise ValueError(
                f"{label!r}, {values.shape}, must be [steps] or [restarts, steps] with "
                "a finite value at each step"
            )
        lost = len(values) - int(finite.all(axis=1).sum())
        label += f" ({lost} of {len(values)} restarts not finite)" if lost else ""
        names.append(label)
        low, middle, high = np.nanquantile(
            np.where(finite, values, np.nan), (0.1, 0.5, 0.9), axis=0
        )
        steps = np.arange(1, values.shape[1] + 1)
        if len(values) > 1:
            axes.fill_between(steps, low, high, color=color, alpha=0.18, linewidth=0)
        axes.plot(steps, middle, color=color, linewidth=1.6, label=label)
    if log_y:
        axes.set_yscale("log")
    axes.margins(x=0.01)
    _legend(axes, names)
    _save(figure, path)


def bars(
    labels: Sequence[str],
    values: ArrayLike,
    path: str | os.PathLike,
    *,
    low: ArrayLike | None = None,
    high: ArrayLike | None = None,
    baseline: float | None = None,
    baseline_label: str = "chance",
    xlabel: str = "",
):
    """Draws one horizontal bar for each label, with its interval.

    Args:
      labels: of the bars, from the top.
      values: `[n]`, the lengths.
      path: of the PNG.
      low: `[n]`, the lower ends of the intervals.
      high: `[n]`, the upper ends.
      baseline: where a dashed line stands: what needs no target.
      baseline_label: what the dashed line says.
      xlabel: the metric.

    Raises:
      ValueError: the lengths differ, or a value is not finite.
    """
    values = _finite("values", values, (len(labels),))
    figure, axes = _axes(720, 90 + 34 * len(labels), xlabel, "")
    places = np.arange(len(labels))
    axes.barh(places, values, height=0.62, color=_COLORS[0], alpha=0.85)
    ends = values
    if low is not None and high is not None:
        low = _finite("low", low, values.shape)
        ends = _finite("high", high, values.shape)
        axes.hlines(places, low, ends, color=_INK, linewidth=1.4)
        for edge in (low, ends):
            axes.plot(edge, places, "|", color=_INK, markersize=9)
    for place, value, end in zip(places, values, ends, strict=True):
        axes.annotate(
            f"{value:.3g}",
            (max(end, value, 0), place),
            xytext=(8, 0),
            textcoords="offset points",
            va="center",
            fontsize=_TEXT,
            color=_INK,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},  # over the line
        )
    if baseline is not None:
        axes.axvline(baseline, color=_COLORS[1], linestyle="--", linewidth=1.4)
        axes.annotate(
            baseline_label,
            (baseline, 1),
            xycoords=("data", "axes fraction"),
            xytext=(0, 4),
            textcoords="offset points",
            ha="center",
            fontsize=_TEXT,
            color=_COLORS[1],
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
        )
    axes.set_yticks(places, labels)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.invert_yaxis()
    axes.margins(x=0.09)
    if values.min() >= 0:
        axes.set_xlim(left=0)
    _save(figure, path)


def lines(
    x: ArrayLike,
    series: Mapping[str, ArrayLike],
    path: str | os.PathLike,
    *,
    xlabel: str,
    ylabel: str,
    log_x: bool = False,
    baseline: float | None = None,
    baseline_label: str = "chance",
):
    """Draws several series over one variable, as in a sweep of a defense's strength.

    Args:
      x: `[n]`, increasing. On a logarithmic axis a leading 0, the case without a
        defense, stands apart, left of a dotted line.
      series: label to values `[n]`, or `[n, 3]` of value, low and high, which are NaN
        where there is no interval.
      path: of the PNG.
      xlabel: the variable.
      ylabel: the metric.
      log_x: whether the axis is logarithmic.
      baseline: where a dashed line stands: what needs no target.
      baseline_label: what the dashed line says.

    Raises:
      ValueError: lengths differ, x does not increase or is negative on a logarithmic
        axis, or a value is not finite.
    """
    x = _finite("x", x, np.shape(x))
    if x.ndim != 1 or not len(x) or (np.diff(x) <= 0).any():
        raise ValueError(f"x must increase: got {x}")
    figure, axes = _axes(720, 420, xlabel, ylabel)
    places, start = x, 0
    if log_x:
        start = int(x[0] == 0)
        if (x[start:] <= 0).any() or len(x) == start:
            raise ValueError(f"a logarithmic axis needs values above 0: got {x}")
        places = np.log10(x[start:])
        if start:
            places = np.concatenate([[places[0] - 0.5], places])
            axes.axvline(places[0] + 0.25, color=_QUIET, linestyle=":", linewidth=1.2)
    # Ever smaller markers, so that equal values of two series both show.
    styles = zip(
        _cycle(series), _MARKERS, np.linspace(10, 4, len(series)), strict=False
    )
    for (label, values), (color, marker, size) in zip(
        series.items(), styles, strict=True
    ):
        values = np.asarray(values, np.float64)
        if values.shape not in ((len(x),), (len(x), 3)):
            raise ValueError(
                f"{label!r} has shape {values.shape}: give ({len(x)},) or ({len(x)}, 3)"
            )
        values = values.reshape(len(x), -1)
        _finite(label, values[:, 0], (len(x),))
        style = {"color": color, "marker": marker, "markersize": size, "linewidth": 1.6}
        if values.shape[1] == 3:
            axes.vlines(places, values[:, 1], values[:, 2], color=color, linewidth=1.2)
        axes.plot(places[start:], values[start:, 0], label=label, **style)
        axes.plot(places[:start], values[:start, 0], **style)
    if baseline is not None:
        axes.axhline(
            baseline, color=_QUIET, linestyle="--", linewidth=1.2, label=baseline_label
        )
    if log_x:
        axes.set_xticks(places, [f"{value:g}" for value in x])
    _legend(axes, [*series, baseline_label] if baseline is not None else series)
    _save(figure, path)


class Point(NamedTuple):
    """A point of a trade-off: x and y, each with the ends of its interval, if any."""

    label: str
    x: tuple[float, float | None, float | None]
    y: tuple[float, float | None, float | None]


def tradeoff(
    series: Mapping[str, Sequence[Point]],
    path: str | os.PathLike,
    *,
    xlabel: str,
    ylabel: str,
):
    """Draws what is given up against what is gained, a point for each setting.

    Args:
      series: label, such as the attack, to its points, such as one a defense.
      path: of the PNG.
      xlabel: what is gained, to the right.
      ylabel: what is given up, upward.

    Raises:
      ValueError: there is no series, or too many to tell apart.
    """
    figure, axes = _axes(720, 440, xlabel, ylabel)
    every = [point.x[0] for points in series.values() for point in points]
    middle = (min(every, default=0) + max(every, default=0)) / 2
    for (name, points), color, marker in zip(
        series.items(), _cycle(series), _MARKERS, strict=False
    ):
        x = np.array([[p.x[0] if e is None else e for e in p.x] for p in points])
        y = np.array([[p.y[0] if e is None else e for e in p.y] for p in points])
        axes.errorbar(
            x[:, 0],
            y[:, 0],
            xerr=abs(x[:, 1:] - x[:, :1]).T,
            yerr=abs(y[:, 1:] - y[:, :1]).T,
            fmt=marker,
            color=color,
            markersize=6,
            elinewidth=1.2,
            label=name,
        )
        for point in points:
            inward = -1 if point.x[0] > middle else 1
            axes.annotate(
                point.label,
                (point.x[0], point.y[0]),
                xytext=(7 * inward, 5),
                textcoords="offset points",
                ha="right" if inward < 0 else "left",
                fontsize=_TEXT,
                color=_INK,
            )
    axes.margins(0.16)
    _legend(axes, series)
    _save(figure, path)


def panels(
    points: Mapping[str, Mapping[str, ArrayLike]],
    path: str | os.PathLike,
    *,
    xlabel: str,
    columns: int = 3,
):
    """Draws clouds of points side by side, over one variable.

    Args:
      points: a panel's title to its series, a label to points `[n, 2]`; all panels have
        the same labels.
      path: of the PNG.
      xlabel: of all panels.
      columns: panels in a row.

    Raises:
      ValueError: a point is not finite, or there are too many series to tell apart.
    """
    rows = -(-len(points) // columns)
    figure = _figure(340 * columns, 300 * rows + 40)
    figure.set_layout_engine("constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, (title, series) in zip(grid, points.items(), strict=False):
        _dress(axes, xlabel, "")
        axes.set_title(title, fontsize=_TEXT + 1, color=_INK, loc="left")
        for (name, xy), color, marker in zip(
            series.items(), _cycle(series), _MARKERS, strict=False
        ):
            xy = _finite(name, xy, (len(np.asarray(xy)), 2))
            axes.plot(*xy.T, marker, color=color, label=name, alpha=0.75, markersize=6)
    handles, labels = grid[0].get_legend_handles_labels()
    for axes in grid[len(points) :]:
        axes.axis("off")
    figure.legend(
        handles,
        labels,
        frameon=False,
        fontsize=_TEXT,
        loc="outside lower right",
        ncols=len(labels),
    )
    _save(figure, path)


def roofline(
    kernels: Mapping[str, tuple[float, float]],
    path: str | os.PathLike,
    *,
    flops: float,
    bandwidth: float,
):
    """Draws kernels below what the machine allows at their intensity.

    Args:
      kernels: label to FLOPs a byte and FLOP/s achieved.
      path: of the PNG.
      flops: FLOP/s of the machine's matrix product.
      bandwidth: bytes/s of the machine's copy.

    Raises:
      ValueError: a number is not finite, or there are too many kernels to tell apart.
    """
    points = _finite("kernels", list(kernels.values()), (len(kernels), 2))
    ridge = flops / bandwidth
    xlabel, ylabel = "FLOPs for each byte of memory", "GFLOP/s"
    figure, axes = _axes(720, 440, xlabel, ylabel)
    left = min(points[:, 0].min(), ridge) / 4
    right = max(points[:, 0].max(), ridge) * 4
    x = np.array([left, ridge, right])
    bound = np.minimum(flops, x * bandwidth)
    axes.plot(x, bound / 1e9, color=_INK, linewidth=1.6)
    for text, at in (
        (f"copy {bandwidth / 1e9:.3g} GB/s", np.sqrt(left * ridge)),
        (f"matrix product {flops / 1e9:.3g} GFLOP/s", np.sqrt(ridge * right)),
    ):
        axes.annotate(
            text,
            (at, min(flops, at * bandwidth) / 1e9),
            xytext=(0, 8),
            textcoords="offset points",
            ha="right" if at < ridge else "center",
            fontsize=_TEXT,
            color=_INK,
        )
    for (name, (intensity, achieved)), color, marker in zip(
        kernels.items(), _cycle(kernels), _MARKERS, strict=False
    ):
        limit = min(flops, intensity * bandwidth) / 1e9
        axes.vlines(intensity, achieved / 1e9, limit, color=color, linestyle=":")
        axes.plot(intensity, achieved / 1e9, marker, color=color, label=name)
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("{x:g}")
    axes.tick_params(which="minor", colors=_INK, labelsize=_TEXT - 1)
    _legend(axes, kernels)
    _save(figure, path)


def _colors(label: str, images: ArrayLike) -> NDArray[np.float64]:
    images = np.asarray(images, np.float64)
    if images.ndim != 4 or images.shape[-1] not in (1, 3):
        raise ValueError(
            f"images of {label!r} have shape {images.shape}: give [n, H, W, C] with C "
            "of 1 or 3"
        )
    images = np.broadcast_to(images, (*images.shape[:3], 3))
    lost = ~np.isfinite(images).all(axis=-1, keepdims=True)
    return np.where(lost, _LOST, np.clip(images, 0, 1))


def _finite(name: str, values: ArrayLike, shape: tuple) -> NDArray[np.float64]:
    values = np.asarray(values, np.float64)
    if values.shape != shape or not np.isfinite(values).all():
        raise ValueError(f"{name} must be finite and of shape {shape}: got {values}")
    return values


def _cycle(series: Mapping[str, Any]) -> tuple[str, ...]:
    if not 1 <= len(series) <= len(_COLORS):
        raise ValueError(
            f"{len(series)} series in one figure: give 1 to {len(_COLORS)}, which can "
            "be told apart"
        )
    return _COLORS[: len(series)]


def _figure(width: int, height: int) -> "Figure":
    from matplotlib.figure import Figure

    return Figure(figsize=(width / _DOTS, height / _DOTS), dpi=_DOTS)


def _axes(width: int, height: int, xlabel: str, ylabel: str) -> "tuple[Figure, Axes]":
    figure = _figure(width, height)
    figure.set_layout_engine("constrained")
    axes = figure.add_subplot()
    _dress(axes, xlabel, ylabel)
    return figure, axes


def _dress(axes: "Axes", xlabel: str, ylabel: str):
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_QUIET)
    axes.tick_params(colors=_INK, labelsize=_TEXT, color=_QUIET)
    axes.set_xlabel(xlabel, fontsize=_TEXT + 1, color=_INK)
    axes.set_ylabel(ylabel, fontsize=_TEXT + 1, color=_INK)
    axes.grid(color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)


def _legend(axes: "Axes", labels: Iterable[str]):
    """Puts the legend above the axes, in as many columns as the labels leave."""
    if len(labels := list(labels)) > 1:
        entry = 48 + _LETTER * max(len(label) for label in labels)
        axes.legend(
            frameon=False,
            fontsize=_TEXT,
            loc="lower left",
            bbox_to_anchor=(0, 1),
            ncols=max(int(640 / entry), 1),
        )


def _save(figure: "Figure", path: str | os.PathLike):
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    figure.savefig(partial, format="png", metadata={"Software": None})
    os.replace(partial, path)
