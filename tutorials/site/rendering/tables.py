"""For Sphinx: tables of prose, which on a phone are read cell by cell, with the columns' names."""

from docutils import nodes

LONG = 60  # letters of a cell; tables of numbers have none so long and scroll sideways


def label(app, doctree):
    """Puts the names of the columns into the cells; the style sheet shows them on a phone."""
    for table in doctree.findall(nodes.table):
        body = next(table.findall(nodes.tbody))
        cells = [list(row) for row in body]
        ours = {"where", "arguments"} & set(table["classes"])
        if ours or max(len(c.astext()) for row in cells for c in row) <= LONG:
            continue
        head = next(table.findall(nodes.thead), nodes.thead())
        heads = [e.astext() for e in head.findall(nodes.entry)]
        table["classes"].append("prose")
        for row in cells:
            for name, cell in zip(heads, row, strict=False):
                if name and cell.astext():
                    cell[0].insert(0, nodes.inline("", f"{name}: ", classes=["column"]))


def setup(app):
    app.connect("doctree-read", label)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
