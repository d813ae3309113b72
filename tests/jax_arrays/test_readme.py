"""The README's block for JAX runs, and prints what it says."""

import re
from pathlib import Path

import pytest

pytest.importorskip("jax", reason="JAX is in the extra `jax`; `make test-jax` installs it")


def test_the_readme_runs(capsys):
    text = (Path(__file__).parents[2] / "README.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    (block,) = [block for block in blocks if "import jax" in block]
    exec(compile(block, "README.md", "exec"), {})
    assert capsys.readouterr().out == "True\n"
