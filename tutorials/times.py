"""Measure the notebooks: `python tutorials/times.py [name ...]` writes the times into README.md.

Run   seconds for all cells, the start of the kernel included, up to the next multiple of 5
Read  minutes, an estimate: 120 words of prose or 3 cells of code a minute, and 5 minutes for each
      exercise, up to the next multiple of 5
"""

import re
import sys
import time
from math import ceil

from build import HERE, SOURCES, execute, read


def reading(notebook):
    """Minutes to read a notebook and to solve its exercises."""
    prose = [c.source for c in notebook.cells if c.cell_type == "markdown"]
    code = len(notebook.cells) - len(prose)
    exercises = sum(text.count("## Exercise ") for text in prose)
    return len(" ".join(prose).split()) / 120 + code / 3 + 5 * exercises


def fives(number):
    return 5 * ceil(number / 5)


def written(text, stem, minutes, seconds):
    """The index with the times of one notebook in the last two columns of its row."""
    row = rf"^(\|.*\({stem}\.ipynb\).*)\|[^|]*\|[^|]*\|$"
    new = rf"\1| {fives(minutes)} min | {fives(seconds)} s |"
    text, found = re.subn(row, new, text, flags=re.MULTILINE)
    if found != 1:
        raise ValueError(f"README.md has {found} rows for {stem}, expected 1")
    return text


def main(names):
    index = HERE / "README.md"
    text = index.read_text(encoding="utf-8")
    for source in SOURCES:
        if names and source.stem not in names:
            continue
        notebook, start = read(source), time.perf_counter()
        minutes = reading(notebook)
        execute(notebook, skip=("widget",))
        seconds = time.perf_counter() - start
        print(f"{source.stem}: read {minutes:.0f} min, run {seconds:.1f} s", flush=True)
        text = written(text, source.stem, minutes, seconds)
        total = sum(map(int, re.findall(r"\| (\d+) s \|$", text, re.MULTILINE)))
        text = re.sub(r"at most \d+ s together", f"at most {total} s together", text)
        index.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
