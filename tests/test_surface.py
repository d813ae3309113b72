"""What a visitor sees of the code: public names, signatures, who imports whom, and its size.

Each rule is a function that returns a list of complaints, and has a test on a made-up source of
which it complains.
"""

import ast
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deformable_convnets import gpu, reference

ROOT = Path(__file__).parents[1]
PACKAGE = "deformable_convnets"

REFERENCE_NAMES = [
    "ConvGrads", "ConvLayer", "DeformConvGrads", "DeformConvModuleGrads",
    "DeformPsRoiPoolModuleGrads", "DeformRoiPoolGrads", "DeformRoiPoolModuleGrads", "G", "GridFit",
    "Layout", "R", "RoiPoolGrads", "SampleGrads", "conv2d", "conv2d_backward", "conv3d",
    "conv3d_backward", "dG", "deform_conv2d", "deform_conv2d_backward", "deform_conv3d",
    "deform_conv3d_backward", "deform_conv_module", "deform_conv_module_backward",
    "deform_ps_roi_pool", "deform_ps_roi_pool_backward", "deform_ps_roi_pool_module",
    "deform_ps_roi_pool_module_backward", "deform_roi_pool", "deform_roi_pool_backward",
    "deform_roi_pool_module", "deform_roi_pool_module_backward", "disordered_offset",
    "effective_dilation", "effective_receptive_field", "equations", "from_layout", "g", "grid_fit",
    "influence_spread", "ps_roi_pool", "ps_roi_pool_backward", "roi_pool", "roi_pool_backward",
    "sample", "sample_backward", "sampling_points", "stacked_points", "stacked_shares",
    "to_layout", "zero_offset_branch",
]  # fmt: skip
GPU_FUNCTIONS = [
    "conv2d", "conv2d_backward", "deform_conv2d", "deform_conv2d_backward", "deform_conv3d",
    "deform_conv3d_backward", "deform_ps_roi_pool", "deform_ps_roi_pool_backward",
    "deform_roi_pool", "deform_roi_pool_backward", "ps_roi_pool", "ps_roi_pool_backward",
    "roi_pool", "roi_pool_backward", "sample", "sample_backward",
]  # fmt: skip
GPU_CLASSES = ["ConvGrads", "DeformConvGrads", "DeformRoiPoolGrads", "RoiPoolGrads", "SampleGrads"]
GPU_NAMES = GPU_CLASSES + GPU_FUNCTIONS
GPU_KEYWORDS = {
    "backend": None, "version": None, "precision": "exact", "workspace_limit": None,
}  # fmt: skip
GPU_BACKWARD_KEYWORDS = GPU_KEYWORDS | {"wrt": None, "deterministic": False}

ALLOWED = {  # what each part may import, besides the standard library and itself
    "reference": {"numpy", "scipy", "jaxtyping"},
    "reference.oracle": {"numpy", "scipy", "jaxtyping", "hypothesis"},
    "reference.oracle.peers": {
        "numpy",
        "torch",
        "torchvision",
        "onnx",
        "mxnet",
        "openvino",
        "paddle",
    },
    "gpu": {"numpy", "numba", "cupy", "cuda", "torch", "jax", "onnx", "ml_dtypes"},
}
# The modules of `reference` that `gpu` may use.
SHARED = {"checks", "geometry", "roi_checks", "volume_checks"}
SHARED_CLASSES = re.compile(r"\w+Grads|Border|Rule|Side")  # and these types from any of them
CALLS_IT = {  # may call the reference: one judges kernels by it, two run it on the CPU
    "gpu/bench_errors.py",
    "gpu/jax/operators.py",
    "gpu/torch/operators.py",
}

MAX_FILE, MAX_FUNCTION, MAX_KERNEL, MAX_EQUATIONS = 300, 40, 80, 240
SAYS_WHICH = re.compile(r"[Ee]quations? \(\d|[Ff]igure \d|[Ss]ection \d|\(\d\)|dG/dp|`\w+`")


def sources(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


CODE = sources("reference", "gpu", "tests", "tutorials/site")
CODE += sorted((ROOT / "tutorials").glob("*.py"))


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imports(source: str, path: str) -> Iterator[tuple[str, str]]:
    """(module, name) of every import in the file at `path`, relative ones resolved."""
    package = [PACKAGE, *Path(path).parent.parts]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else []
            module = ".".join([*above, *filter(None, [node.module])])
            yield from ((module, alias.name) for alias in node.names)


def import_complaints(source: str, path: str) -> list[str]:
    nested = ("reference/oracle/peers/", "reference/oracle/")
    part = next((f for f in nested if path.startswith(f)), path.split("/")[0] + "/")
    part = part.rstrip("/").replace("/", ".")
    complaints = []
    for module, name in imports(source, path):
        top = module.split(".")[0]
        if top == PACKAGE:
            wrong = _within(f"{module}.{name}".split(".")[1:], part, path)
        else:
            wrong = top not in ALLOWED[part] | sys.stdlib_module_names
        if wrong:
            complaints.append(f"{path} imports {name or 'all'} of {module}")
    return complaints


def _within(words: list[str], part: str, path: str) -> bool:
    """Whether an import of our own package, in words without its name, goes the wrong way."""
    if part == "reference":
        return words[0] != "reference" or words[1:2] == ["oracle"]
    if part.startswith("reference.oracle") or words[0] == "gpu":
        return words[0] != part.split(".")[0]
    if path in CALLS_IT or words == ["reference"]:
        return path not in CALLS_IT
    return not (words[1] in SHARED or SHARED_CLASSES.fullmatch(words[-1]))


def size_complaints(source: str, path: str) -> list[str]:
    limit = MAX_EQUATIONS if path == "reference/equations.py" else MAX_FILE
    lines = len(source.splitlines())
    complaints = [f"{path} has {lines} lines, expected at most {limit}"] if lines > limit else []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            kernel = any("cuda.jit" in ast.unparse(d) for d in node.decorator_list)
            limit = MAX_KERNEL if kernel else MAX_FUNCTION
            if (length := _length(node)) > limit:
                complaints.append(f"{path}: {node.name} has {length} lines, expected {limit}")
    return complaints


def _length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its docstring and decorators."""
    assert node.end_lineno is not None
    length = node.end_lineno - node.lineno + 1
    if ast.get_docstring(node) is not None:
        assert node.body[0].end_lineno is not None
        length -= node.body[0].end_lineno - node.body[0].lineno + 1
    return length


def docstring_complaints(name: str, docstring: str | None) -> list[str]:
    first = (docstring or "").strip().split("\n")[0]
    if SAYS_WHICH.search(first):
        return []
    return [f"{name}: the first line {first!r} names no equation, figure, section or function"]


def signature_complaints(
    name: str, ours: inspect.Signature, theirs: inspect.Signature
) -> list[str]:
    """`theirs`, of `gpu`, must be `ours` and then the documented keywords."""
    extra = GPU_BACKWARD_KEYWORDS if name.endswith("_backward") else GPU_KEYWORDS

    def shape(signature: inspect.Signature) -> list[tuple[str, object, object]]:
        return [(p.name, p.kind, p.default) for p in signature.parameters.values()]

    expected = shape(ours) + [
        (keyword, inspect.Parameter.KEYWORD_ONLY, default) for keyword, default in extra.items()
    ]
    if shape(theirs) == expected:
        return []
    return [f"gpu.{name} has {shape(theirs)}, expected {expected}"]


@pytest.mark.parametrize(
    ("module", "names"), [(reference, REFERENCE_NAMES), (gpu, GPU_NAMES)], ids=["reference", "gpu"]
)
def test_public_names(module: object, names: list[str]) -> None:
    assert sorted(module.__all__) == names  # type: ignore[attr-defined]
    assert all(hasattr(module, name) for name in names)


@pytest.mark.parametrize("name", GPU_FUNCTIONS)
def test_gpu_signatures(name: str) -> None:
    ours, theirs = (inspect.signature(getattr(m, name)) for m in (reference, gpu))
    assert signature_complaints(name, ours, theirs) == []


@pytest.mark.parametrize("path", sources("reference", "gpu"), ids=named)
def test_imports_run_one_way(path: Path) -> None:
    assert import_complaints(path.read_text(), named(path)) == []


@pytest.mark.parametrize("path", CODE, ids=named)
def test_sizes(path: Path) -> None:
    assert size_complaints(path.read_text(), named(path)) == []


@pytest.mark.parametrize("module", [reference, gpu], ids=["reference", "gpu"])
def test_docstrings_name_what_they_compute(module: object) -> None:
    for name in module.__all__:  # type: ignore[attr-defined]
        if inspect.isfunction(f := getattr(module, name)):
            assert docstring_complaints(name, f.__doc__) == []


def test_top_level_holds_only_what_is_named() -> None:
    """The folders of the design, and the files that tools and people look for."""
    folders = {p.name for p in ROOT.iterdir() if p.is_dir() and (any(p.glob("*.py")))}
    assert folders - {"build"} <= {"reference", "gpu", "tests", "tutorials"}


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("reference/bilinear.py", "import numba"),
        ("reference/bilinear.py", "def f():\n    from hypothesis import given"),
        ("reference/bilinear.py", "from .oracle import laws"),
        ("reference/bilinear.py", "from deformable_convnets import gpu"),
        ("reference/bilinear.py", "import implementations"),
        ("reference/oracle/laws.py", "from deformable_convnets.gpu import conv2d"),
        ("reference/oracle/laws.py", "from ...gpu import conv2d"),
        ("reference/oracle/laws.py", "import tests.bugs"),
        ("gpu/operators.py", "import deformable_convnets.reference"),
        ("gpu/operators.py", "from deformable_convnets import reference"),
        ("gpu/operators.py", "from ..reference.bilinear import axis"),
        ("gpu/operators.py", "from deformable_convnets.reference import sample"),
        ("gpu/numba_kernels/sample.py", "from ...reference.layout import columns"),
        ("gpu/operators.py", "import scipy"),
        ("gpu/torch/modules.py", "from deformable_convnets import reference"),
        ("gpu/jax/functions.py", "from deformable_convnets import reference"),
    ],
)
def test_import_complaints_complain(path: str, source: str) -> None:
    assert import_complaints("import math\n" + source, path) != []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        (
            "reference/bilinear.py",
            "import numpy as np\nfrom . import checks\nfrom .geometry import R",
        ),
        ("reference/oracle/laws.py", "from hypothesis import given\nfrom .. import bilinear"),
        ("gpu/operators.py", "from deformable_convnets.reference import checks, DeformConvGrads"),
        ("gpu/numba_kernels/sample.py", "from numba import cuda\nfrom ..arrays import stream"),
        ("gpu/numba_kernels/sample.py", "from ...reference.geometry import Geometry"),
        ("gpu/bench_errors.py", "from deformable_convnets import reference"),
        ("gpu/torch/operators.py", "import torch\nfrom deformable_convnets import gpu, reference"),
    ],
)
def test_import_complaints_let_pass(path: str, source: str) -> None:
    assert import_complaints(source, path) == []


def test_size_complaints_complain() -> None:
    def function(lines: int, decorator: str = "") -> str:
        docstring = '    """One.\n\n    Two.\n    """\n'
        return f"{decorator}def f():\n{docstring}" + "    x = 0\n" * (lines - 1)

    jit = "@cuda.jit(device=True)\n"
    assert size_complaints(function(40) + function(80, jit), "gpu/a.py") == []
    assert len(size_complaints(function(41), "gpu/a.py")) == 1
    assert len(size_complaints(function(81, jit), "gpu/a.py")) == 1
    assert len(size_complaints("class A:\n    pass\n" + "# x\n" * 299, "gpu/a.py")) == 1
    assert len(size_complaints("# x\n" * (MAX_EQUATIONS + 1), "reference/equations.py")) == 1


def test_docstring_complaints_complain() -> None:
    assert docstring_complaints("f", "Equation (3): a sum.") == []
    assert docstring_complaints("f", "Computes things.\n\nEquation (3).") != []
    assert docstring_complaints("f", None) != []


def test_signature_complaints_complain() -> None:
    def ours(x, *, stride=1): ...  # type: ignore[no-untyped-def]
    def right(x, *, stride=1, backend=None, version=None, precision="exact",
              workspace_limit=None): ...  # type: ignore[no-untyped-def]  # fmt: skip
    def order(x, *, backend=None, stride=1, version=None, precision="exact",
              workspace_limit=None): ...  # type: ignore[no-untyped-def]  # fmt: skip
    def default(x, *, stride=2, backend=None, version=None, precision="exact",
                workspace_limit=None): ...  # type: ignore[no-untyped-def]  # fmt: skip

    def of(theirs: object, name: str = "f") -> list[str]:
        return signature_complaints(name, inspect.signature(ours), inspect.signature(theirs))  # type: ignore[arg-type]

    assert of(right) == []
    assert of(order) != []
    assert of(default) != []
    assert of(right, "f_backward") != []
