"""The pages of the site, made from the notebooks, the documents, the docstrings and the sources.

python -m rendering            in tutorials/site: write the site to build/site/html

stage.py        a copy of the project's pages in build/site/source, with links that a site needs
table.py        equations.toml, and what is wrong with it
equations.py    the page "Equations" of that table, and the line under the title of a notebook
api.py          pages of the public names
sources.py      pages of files, a section a function
links.py        links between files, as links between pages
docstrings.py   for Sphinx: docstrings, which are plain text, as reStructuredText
listing.py      for Sphinx: the directive that shows lines of a file, each with an anchor
tables.py       for Sphinx: tables of prose, for a phone
"""
