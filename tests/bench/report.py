"""A measurement in words: for the terminal, and as a section of the README, which it replaces."""

from pathlib import Path
from typing import Any

README = Path(__file__).parents[2] / "README.md"
BEGIN = {
    "convolution": "<!-- measured, by make bench PEERS=1 -->\n",
    "roi": "<!-- RoI pooling measured, by make bench PEERS=1 -->\n",
    "networks": "<!-- networks measured, by make bench-networks PEERS=1 -->\n",
}
END = "<!-- end of measured -->\n"


def summary(results: dict[str, Any]) -> str:
    lines = [f"{results['cpu']}, {results['threads']} threads, {results['rounds']} rounds"]
    for name, t in results["milliseconds"].items():
        lines.append(f"{name:36}{t['median']:8.1f} ms, at least {t['least']:.1f}")
    verdicts = {True: "met", False: "missed", None: "not measured"}
    for target in results["targets"]:
        measured = "" if target["measured"] is None else f"{target['measured']:.2f}"
        verdict = f"at most {target['at most']}: {verdicts[target['met']]}"
        lines.append(f"{target['what']:36}{measured:>8} {verdict}")
    if results["load before"] > 0.5:
        lines.append(
            f"The load was {results['load before']} before: these are not a quiet machine's."
        )
    return "\n".join(lines)


def markdown(results: dict[str, Any]) -> str:
    """The README's section on convolution, every figure from `results`."""
    versions = results["versions"]
    times = {name: f"{t['median']:.0f}" for name, t in results["milliseconds"].items()}
    ratios = {t["what"]: t["measured"] for t in results["targets"]}
    both, torchvision = "forward and backward", versions["torchvision"].split("+")[0]
    return f"""\
One 38×63 map of 256 channels to 256, 3×3, padding 1, float32, offsets N(0, 1), {results["threads"]} threads on {results["cores"]} cores,
{results["cpu"]}. Medians of {results["rounds"]} calls, taken in turn, in milliseconds.

| | `reference` | ONNX Runtime {versions["onnxruntime"]} | torchvision {torchvision} |
|---|---|---|---|
| `deform_conv2d` | {times["forward"]} | {times["ONNX Runtime forward"]} | {times["torchvision forward"]} |
| with `deform_conv2d_backward` | {times[both]} | has none | {times[f"torchvision {both}"]} |
| `conv2d` | {times["conv2d"]} | | |

Forward takes {ratios["forward / ONNX Runtime"]:.2f} of ONNX Runtime's time and {ratios["forward / torchvision"]:.2f} of torchvision's; forward and backward take
{ratios["forward and backward / torchvision"]:.2f} of torchvision's. Beyond what goes in and comes out, forward needs {ratios["memory of forward"]:.1f} and backward
{ratios["memory of backward"]:.1f} times the memory of an im2col buffer. Measured on {results["date"]} at commit
{results["commit"]}, with Python {versions["python"]}, NumPy {versions["numpy"]} and SciPy {versions["scipy"]}
([all figures](tests/bench/results/cpu.json)).
"""  # noqa: E501, RUF001


def roi_markdown(results: dict[str, Any]) -> str:
    """The README's section on RoI pooling, every figure from `results`."""
    versions = results["versions"]
    times = {name: f"{t['median']:.0f}" for name, t in results["milliseconds"].items()}
    ratios = {t["what"]: t["measured"] for t in results["targets"]}
    both, torchvision = "forward and backward", versions["torchvision"].split("+")[0]
    return f"""\
300 RoIs × 256 channels × 7×7 bins on one 38×63 map, 4×4 points a bin, float32, {results["threads"]} threads on {results["cores"]} cores,
{results["cpu"]}. Medians of {results["rounds"]} calls, taken in turn, in milliseconds.

| | forward | forward and backward |
|---|---|---|
| `deform_roi_pool`, `bins="mxnet"`, with offsets | {times["forward"]} | {times[both]} |
| `roi_pool`, `bins="align"` | {times["align forward"]} | {times[f"align {both}"]} |
| the same in torchvision {torchvision}: `roi_align` | {times["torchvision forward"]} | {times[f"torchvision {both}"]} |

`deform_roi_pool` takes {ratios["forward / torchvision"]:.2f} of the time of `roi_align`, and {ratios[f"{both} / torchvision"]:.2f} with its gradients.
Measured on {results["date"]} at commit {results["commit"]}, with Python {versions["python"]},
NumPy {versions["numpy"]} and SciPy {versions["scipy"]} ([all figures](tests/bench/results/roi.json)).
"""  # noqa: E501, RUF001


def networks_markdown(results: dict[str, Any]) -> str:
    """The README's section on whole networks, every figure from `results`: a column per run."""
    versions, (H, W), runs = results["versions"], results["image"], results["runs"]
    names = [name for name in runs[0]["seconds"] if not name.endswith("runtime")]
    rows = [
        [name, *(f"{run['seconds'][name]:.2f} ({run['least'][name]:.2f})" for run in runs)]
        for name in names
    ]
    for i, target in enumerate(runs[0]["targets"]):
        met = [f"{t['measured']:.2f}, {'met' if t['met'] else 'missed'}"
               for t in (run["targets"][i] for run in runs)]  # fmt: skip
        rows.append([f"{target['what']}; asked: at most {target['at most']}", *met])
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return f"""\
Networks at full size, an image {H}×{W}, float32, random weights, {results["threads"]} threads on {results["cores"]} cores, {results["cpu"]}.
Medians of {results["rounds"]} forward passes, taken in turn, in seconds, the least in brackets; ratios of medians. Columns
are OpenBLAS's kernels: first those that it takes for this processor; the environment variable `OPENBLAS_CORETYPE` chooses.

| | {" | ".join(run["kernels"] for run in runs)} |
|---|{"---|" * len(runs)}
{table}

Measured on {results["date"]} at commit {results["commit"]}, with NumPy {versions["numpy"]} and PyTorch {versions["torch"]}
([all figures](tests/bench/results/full_networks.json)).
"""  # noqa: E501, RUF001


MARKDOWN = {"convolution": markdown, "roi": roi_markdown, "networks": networks_markdown}


def section(readme: str, what: str = "convolution") -> str:
    """A measured section of a README."""
    _, begin, rest = readme.partition(BEGIN[what])
    measured, end, after = rest.partition(END)
    if not (begin and end) or BEGIN[what] in after:
        raise ValueError(f"expected one section between {BEGIN[what]!r} and {END!r}")
    return measured


def write_section(what: str, results: dict[str, Any]) -> None:
    readme = README.read_text()
    before = BEGIN[what] + section(readme, what) + END
    README.write_text(readme.replace(before, BEGIN[what] + MARKDOWN[what](results) + END))
