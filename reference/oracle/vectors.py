"""Test vectors: problems of every operator, with all their results, for those without Python.

    python -m deformable_convnets.reference.oracle.vectors [folder]

writes `index.json` and, for each case of `vector_list`, one `.npz` and one `.json` that say the
same. `VECTORS.md` tells how to read them.
"""

import argparse
import json
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray as Array

from .vector_cases import Case, Recipe
from .vector_list import recipes

FORMAT = 1  # changes when a program that reads the files would have to change
PACKAGE = "deformable-convnets"


def head(name: str, recipe: Recipe) -> dict[str, Any]:
    """What the index and the case itself say of a case."""
    return {
        "name": name,
        "operator": recipe.operator,
        "family": "ordinary" if recipe.ordinary else recipe.family,
        "exact": not recipe.ordinary,
        "dtype": recipe.dtype,
        "code": recipe.code(),
    }


def as_arrays(case: Case) -> dict[str, Any]:
    """The members of the .npz: the arrays and options by name, a text as bytes."""
    options = {k: v.encode() if isinstance(v, str) else v for k, v in case.options.items()}
    return {"format": FORMAT, **options, **case.inputs, **case.results, **case.bounds}


def as_json(name: str, recipe: Recipe, case: Case) -> str:
    """A key or an array per line, in an order that never changes."""
    fields = {key: json.dumps(value) for key, value in head(name, recipe).items()}
    fields["options"] = json.dumps(case.options)
    for section in ("inputs", "results", "bounds"):
        arrays = getattr(case, section)
        fields[section] = _object({key: _array(key, a) for key, a in arrays.items()})
    return _object({"format": str(FORMAT), **fields}) + "\n"


def _object(fields: dict[str, str]) -> str:
    if not fields:
        return "{}"
    return "{\n" + ",\n".join(f'"{key}": {value}' for key, value in fields.items()) + "\n}"


def _array(name: str, a: Array) -> str:
    """dtype, shape, and the values in C order, each as its shortest text in float64."""
    if not np.isfinite(a).all():
        raise ValueError(f"{name} has a value that is not finite, and JSON has no word for it")
    values = ", ".join(map(repr, a.ravel().tolist()))
    return f'{{"dtype": "{a.dtype}", "shape": {list(a.shape)}, "values": [{values}]}}'


def write(folder: Path) -> list[dict[str, Any]]:
    """Write all cases and the index; returns what the index says of each."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = []
    for name, recipe in recipes().items():
        case = recipe.case()
        (folder / f"{name}.json").write_text(as_json(name, recipe, case), newline="\n")
        np.savez(folder / f"{name}.npz", **as_arrays(case))
        files = {"json": f"{name}.json", "npz": f"{name}.npz"}
        entries.append({**head(name, recipe), **files})
    about = {"format": FORMAT, "package": PACKAGE, "version": _version()}
    fields = {key: json.dumps(value) for key, value in about.items()}
    fields["cases"] = "[\n" + ",\n".join(map(json.dumps, entries)) + "\n]"
    (folder / "index.json").write_text(_object(fields) + "\n", newline="\n")
    return entries


def _version() -> str:
    try:
        return metadata.version(PACKAGE)
    except metadata.PackageNotFoundError:  # a checkout on the path
        return "not installed"


def main() -> None:
    parser = argparse.ArgumentParser(description="Write test vectors for other languages.")
    parser.add_argument("folder", nargs="?", type=Path, default=Path("vectors"))
    folder = parser.parse_args().folder
    cases = write(folder)
    size = sum(path.stat().st_size for path in folder.iterdir()) / 1e6
    print(f"{len(cases)} cases in {folder}, {size:.1f} MB; VECTORS.md says how to read them")


if __name__ == "__main__":
    main()
