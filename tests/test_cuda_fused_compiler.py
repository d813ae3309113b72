"""The fused kernel compiled by NVRTC, with no GPU: registers, stack, and its instructions.

Its tiles are as large as registers allow, so that a change may well spill; every tile is compiled,
and those that use the most registers for every architecture. SASS is read if nvdisasm is installed.
"""

import re
import shutil
import subprocess
from collections import Counter
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest
from cuda_on_cpu import nvrtc

from deformable_convnets.gpu.cupy_kernels import compiler, tiles
from deformable_convnets.gpu.cupy_kernels.build import Build

KINDS = {"exact": ("float32", 2), "tf32": ("float32", 1), "float16": ("float16", 1),
         "bfloat16": ("bfloat16", 1)}  # fmt: skip
ONE = (512, 512, 1, 9)  # C, I, G and K: the layer conv5 of the paper
GROUPS = (512, 128, 2, 9)


def build(kind, tile, fixed=ONE, depth_bytes=64, resident=None):
    """What `fused.Fused` builds for such a layer."""
    dtype, operands = KINDS[kind]
    size = 4 if dtype == "float32" else 2
    macros = {
        "ROWS": tile.rows, "COLUMNS": tile.columns, "DEPTH": depth_bytes // size,
        "WARPS_DOWN": tile.down, "WARPS_ACROSS": tile.across,
        "RESIDENT": resident or tile.resident, "STAGES": tiles.STAGES, "PARTS": operands,
    }  # fmt: skip
    return Build(dtype, dtype, 16 // size, fixed=fixed, more=tuple(macros.items()),
                 block_bytes=tile.block_bytes(fixed[3], depth_bytes))  # fmt: skip


ALL = [(kind, tile) for kind, (_, operands) in KINDS.items() for tile in tiles.TILES[operands]]
VARIANTS = [("sm_90", build(kind, tile)) for kind, tile in ALL]
VARIANTS += [
    (name, build(kind, tiles.TILES[KINDS[kind][1]][i]))
    for name, kind, i in (
        ("sm_80", "exact", 0), ("sm_80", "bfloat16", 0), ("sm_90a", "exact", 0),
        ("sm_100", "exact", 0), ("sm_100", "bfloat16", 0), ("sm_100", "bfloat16", 2),
    )
] + [
    ("sm_90", build(kind, tiles.TILES[KINDS[kind][1]][i], fixed, depth))
    for kind, i, fixed, depth in (
        ("exact", 0, GROUPS, 64), ("exact", 2, GROUPS, 64), ("bfloat16", 2, GROUPS, 64),
        ("float16", 3, ONE, 32),
    )
]  # fmt: skip


@pytest.fixture(autouse=True)
def needs_nvrtc():
    if nvrtc.missing():
        pytest.skip(nvrtc.missing())


@cache
def compiled(architecture, built):
    """The cubin and the log."""
    return compiler.compiled("fused.cu", built, architecture, nvrtc)


def of_stack(log):
    """The lines of a log that tell of a stack or of spills."""
    lines = [line for line in log.splitlines() if "bytes stack frame" in line]
    return [line for line in lines if re.findall(r"(\d+) bytes", line) != ["0"] * 3]


def described(value):
    if not isinstance(value, Build):
        return value
    return f"{value.dtype}-{value.fixed}-" + "-".join(str(number) for _, number in value.more)


@pytest.mark.parametrize(("architecture", "built"), VARIANTS, ids=described)
def test_compiles_without_stack_or_spills(architecture, built):
    _, log = compiled(architecture, built)
    assert sorted(re.findall(r"entry function '(\w+)'", log)) == ["add_sums", "fused", "pack"]
    assert log.count("bytes stack frame") == 3
    assert of_stack(log) == []


def test_too_few_registers_are_seen():
    """Two blocks on a multiprocessor leave a thread half of the registers that it needs."""
    _, log = compiled("sm_90", build("exact", tiles.TILES[2][0], resident=2))
    assert of_stack(log)


def nvdisasm():
    """The program, of the nvidia-cuda-nvdisasm wheel or of a toolkit; None if there is none."""
    spec = find_spec("nvidia")
    places = [] if spec is None else spec.submodule_search_locations
    found = [f for place in places for f in Path(place).rglob("bin/nvdisasm")]
    return str(found[0]) if found else shutil.which("nvdisasm")


def main_loop(text):
    """The instructions, names with operands, of the shortest loop that has all HMMA of `fused`."""
    [body] = re.findall(r"\.section\s+\.text\.fused,.*?(?=\.section|\Z)", text, re.DOTALL)
    labels, found = {}, []
    for line in body.splitlines():
        if label := re.match(r"\s*(\.L_x_\d+):", line):
            labels[label[1]] = len(found)
        elif code := re.match(r"\s*/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]+)(.*);", line):
            found.append((code[1], code[2]))
    products = [i for i, (name, _) in enumerate(found) if name.startswith("HMMA")]
    loops = [
        (labels[to[0]], i) for i, (name, rest) in enumerate(found)
        if name.startswith("BRA") and (to := re.search(r"\.L_x_\d+", rest)) and to[0] in labels
        and labels[to[0]] <= products[0] and products[-1] <= i
    ]  # fmt: skip
    begin, end = min(loops, key=lambda at: at[1] - at[0])
    return found[begin : end + 1], found


def used_too_early(loop):
    """Instructions that wait for what was gathered before a product has hidden the way there."""
    loaded, found = set(), []
    for name, rest in loop * 2:  # round the loop
        if name.startswith("HMMA"):
            loaded = set()
        to, *others = [int(n) for n in re.findall(r"\bR(\d+)", rest)] or [-1]
        if loaded & set(others):
            found.append(f"{name}{rest}")
        if name.startswith("LDG.E.128"):
            loaded |= set(range(to, to + 4))
        else:
            loaded -= {to}
    return found


def test_what_is_used_too_early_is_seen():
    load, use = ("LDG.E.128", " R8, desc[UR6][R2.64]"), ("PRMT", " R22, R9, 0x7610, R22")
    product = ("HMMA.1688.F32.TF32", " R40, R44, R48, R40")
    assert used_too_early([load, use, product])
    assert not used_too_early([load, product, use])
    assert not used_too_early([load, ("MOV", " R9, R3"), use, product])


@pytest.mark.parametrize(
    ("kind", "i", "product"),
    [("exact", 0, "HMMA.1688.F32.TF32"), ("tf32", 1, "HMMA.1688.F32.TF32"),
     ("float16", 1, "HMMA.16816.F32"), ("bfloat16", 0, "HMMA.16816.F32.BF16")],
)  # fmt: skip
def test_the_main_loop(tmp_path, kind, i, product):
    """Products, four wide loads for each vector that nothing waits for, copies, and no stack."""
    program, tile = nvdisasm(), tiles.TILES[KINDS[kind][1]][i]
    if program is None:
        pytest.skip("nvdisasm is not installed")
    code, _ = compiled("sm_90", build(kind, tile))
    (tmp_path / "k.cubin").write_bytes(code)
    text = subprocess.run([program, "-c", tmp_path / "k.cubin"], capture_output=True, text=True)
    loop, whole = main_loop(text.stdout)
    found = Counter(name for name, _ in loop)
    products = tile.rows // tile.down // 16 * (tile.columns // tile.across // 8) * 2
    assert found[product] == products * (3 if kind == "exact" else 1)
    vectors = tile.rows * 4 // tile.threads
    assert sum(n for name, n in found.items() if re.match(r"LDG\.E\.128", name)) == 4 * vectors
    assert sum(n for name, n in found.items() if name.startswith("LDG.")) == 4 * vectors
    assert sum(n for name, n in found.items() if name.startswith("LDGSTS")) == tile.columns // 64
    assert found["BAR.SYNC.DEFER_BLOCKING"] == 1
    assert used_too_early(loop) == []
    assert not [name for name, _ in whole if name.startswith(("LDL", "STL", "CALL", "ATOM", "RED"))]
