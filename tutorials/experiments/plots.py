"""The picture of an experiment: its rows, each with the mean of its seeds and every seed."""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

COLOURS = ("#3366aa", "#dd8833", "#559955", "#aa4466", "#777777")
SIZES = {"small": "#dd8833", "medium": "#559955", "large": "#aa4466"}  # the same in every table


def draw(told: dict[str, Any], columns: int = 2) -> Figure:
    """One panel for each section."""
    sections = told["sections"]
    down = -(-len(sections) // min(columns, len(sections)))
    across = min(columns, len(sections))
    figure = Figure(figsize=(6.4 * across, 0.6 + 2.6 * down), layout="constrained")
    axes = figure.subplots(down, across, squeeze=False).ravel()
    for ax, section in zip(axes, sections, strict=False):
        _panel(ax, section)
    for ax in axes[len(sections) :]:
        ax.set_axis_off()
    figure.suptitle(told["title"] + (" (quick form)" if told["quick"] else ""))
    return figure


def _panel(ax: Any, section: dict[str, Any]) -> None:
    factor = 100 if section["unit"] == "%" else 1
    labels = [row["label"] for row in section["rows"]]
    for column, other in zip(section["columns"], COLOURS, strict=False):
        colour = SIZES.get(column, other)
        spreads = [row["values"][column] for row in section["rows"]]
        there = [(i, s) for i, s in enumerate(spreads) if s["mean"] is not None]
        ax.plot([factor * s["mean"] for _, s in there], [i for i, _ in there], color=colour,
                marker="o", linewidth=0.7, label=column)  # fmt: skip
        for i, s in there:
            seeds = [factor * v for v in s["seeds"] if v is not None]
            ax.plot(seeds, [i] * len(seeds), "|", color=colour, alpha=0.6)
    ax.set_yticks(range(len(labels)), labels)
    ax.invert_yaxis()
    ax.set_title(section["title"], fontsize=10)
    ax.set_xlabel(section["unit"])
    ax.grid(axis="x", color="#dddddd")
    ax.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))  # beside the rows, not on them


def save(told: dict[str, Any], path: Path) -> None:
    """Write the picture as PNG."""
    draw(told).savefig(path, dpi=100)
