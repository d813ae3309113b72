"""The page "Equations", and for other pages the equations that they are about."""

import posixpath

from rendering import sources, table

PACKAGE = "deformable_convnets"
HEAD = """# The equations

Each equation of the paper, and where it is: the same sum as plain loops, the functions of the
reference and of the GPU package, the kernels, the laws and tests that hold them together, and the
notebooks that explain it. Positions are (y, x) in the code.
"""
ROWS = [
    ("reference", "Reference"), ("gpu", "GPU"), ("numba", "Numba kernels"),
    ("cuda", "CUDA C++ and array programs"), ("laws", "Laws"), ("tests", "Tests"),
    ("notebooks", "Notebooks"),
]  # fmt: skip


def page(equations, root):
    """The page, at the root of the site."""
    return HEAD + "\n" + "\n".join(_section(e, root) for e in equations)


def overview(equations):
    """The table of the first page."""
    rows = ["| Equation | Reference | Notebook |", "|---|---|---|"]
    for e in equations:
        notebook = table.notebooks(e)[0][0]
        names = _names("reference", e["reference"][:1])
        rows.append(
            f"| [({e['number']}) {e['title']}](#{table.label(e['number'])}) | {names} "
            f"| [{int(notebook[:2])}](tutorials/{notebook}.ipynb) |"
        )
    return "\n".join(rows)


def _section(e, root):
    literal = ", ".join(f"`{name}`" for name in e["literal"])
    out = [
        f"({table.label(e['number'])})=\n## ({e['number']}) {e['title']}",
        f"$$ {e['formula']} \\tag{{{e['number']}}} $$",
        e["says"],
        f"Read aloud, {literal} in {_file('reference/equations.py', e['literal'][0], root)}:",
    ]
    out += [_code(root, name) for name in e["literal"]]
    rows = [(title, _row(e, kind, root)) for kind, title in ROWS]
    listed = [f"* - {title}\n  - {cell}" for title, cell in rows if cell]
    options = ":class: where\n:widths: auto\n"
    out += ["```{list-table}\n" + options + "\n" + "\n".join(listed) + "\n```"]
    return "\n\n".join(out) + "\n"


def _code(root, name):
    file = "reference/equations.py"
    part = next(p for p in sources.parts(root / file) if p.name == name)
    lines = (root / file).read_text().splitlines()[part.first - 1 : part.last]
    return "```python\n" + "\n".join(lines).strip() + "\n```"


def _row(e, kind, root):
    if kind in ("reference", "gpu"):
        return _names(kind, e[kind])
    if kind == "notebooks":
        return ", ".join(
            f"[{int(n[:2])}: {heading}](tutorials/{n}.ipynb#{table.slug(heading)})"
            for n, heading in table.notebooks(e)
        )
    if kind == "laws":
        files = table.law_files(root)
        return ", ".join(_function(files[name], name, root) for name in e["laws"])
    by_file = {}
    for file, name in table.functions(e, kind):
        by_file.setdefault(file, []).append(_function(file, name, root))
    return "; ".join(f"{_file(f, None, root)}: {', '.join(names)}" for f, names in by_file.items())


def _names(package, names):
    return ", ".join(f"{{py:obj}}`~{PACKAGE}.{package}.{name}`" for name in names)


def _file(file, name, root, folder=""):
    """A link to a file, from a page in a folder of the site."""
    target = posixpath.relpath(f"{sources.docname(file)}.md", folder or ".")
    fragment = f"#{sources.anchor(root / file, name)}" if name else ""
    return f"[`{posixpath.basename(file)}`]({target}{fragment})"


def _function(file, name, root):
    return f"[`{name}`]({sources.docname(file)}.md#{sources.anchor(root / file, name)})"


def files(equations, root):
    """The files that the page links to."""
    kinds = [f for e in equations for kind in table.FOLDERS for f, _ in table.functions(e, kind)]
    laws = [table.law_files(root)[name] for e in equations for name in e["laws"]]
    return {"reference/equations.py", *kinds, *laws}


def of_function(equations, root):
    """By (file, function), the numbers of the equations that it stands under on the page."""
    found, laws = {}, table.law_files(root)
    for e in equations:
        here = [pair for kind in table.FOLDERS for pair in table.functions(e, kind)]
        here += [(laws[name], name) for name in e["laws"]]
        here += [("reference/equations.py", name) for name in e["literal"]]
        for pair in here:
            found.setdefault(pair, []).append(e["number"])
    return found


def numbers(these):
    """Links to equations, in a sentence."""
    links = [f"[({n})](#{table.label(n)})" for n in these]
    return ("Equation " if len(links) == 1 else "Equations ") + " and ".join(
        filter(None, [", ".join(links[:-1]), links[-1]])
    )


def note(equations, notebook, root):
    """Under the title of a notebook: its equations, their functions and their kernels."""
    about = [e for e in equations if notebook in [n for n, _ in table.notebooks(e)]]
    if not about:
        return ""
    names = list(dict.fromkeys(n for e in about for n in e["reference"]))
    files = dict.fromkeys(
        f for e in about for k in ("numba", "cuda") for f, _ in table.functions(e, k)
    )
    kernels = ", ".join(_file(f, None, root, "tutorials") for f in files)
    text = f"{numbers([e['number'] for e in about])}. "
    text += f"Reference: {_names('reference', names)}. Kernels: {kernels}."
    return f":::{{container}} about\n{text}\n:::\n"
