"""Tables of made-up times on made-up devices, for the tests of what chooses by them."""

from deformable_convnets.gpu.cupy_kernels import choices
from deformable_convnets.gpu.cupy_kernels.choices import FUSED, STAGED, Machine

H100, LAPTOP = Machine("NVIDIA H100"), Machine("NVIDIA GeForce RTX 4090")
ABOUT = {"device": H100.name, "driver": "1", "versions": {}, "commit": "abc", "date": "2026-11-23"}


def empty_folders(monkeypatch, tmp_path):
    """The packaged tables and the user's are in two folders of this one, both empty."""
    monkeypatch.setattr(choices, "PACKAGED", tmp_path / "packaged")
    monkeypatch.setenv("DEFORMABLE_CONVNETS_CACHE", str(tmp_path / "own"))
    choices.forget()
    yield tmp_path
    choices.forget()


def times(v2, v3):
    return {STAGED: v2, FUSED: v3}


def put(folder, *entries, machine=H100, **about):
    """Writes a table; returns its path."""
    path = folder / f"{choices.slug(machine.name)}.json"
    choices.write(path, ABOUT | {"device": machine.name} | about, list(entries))
    return path
