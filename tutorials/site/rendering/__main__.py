"""Write the site: `python -m rendering`, in tutorials/site. Any complaint of Sphinx is an error."""

import json
import os
import shutil
import sys
import time
from pathlib import Path

from sphinx.cmd.build import build_main

from rendering import stage

BUILD = stage.ROOT / "build" / "site"


def main(arguments, root=stage.ROOT, build=BUILD):
    """Options of sphinx-build may be added."""
    begun, html = time.monotonic(), Path(build) / "html"
    shutil.rmtree(html, ignore_errors=True)
    stage.write(root, build / "source")
    options = ["-b", "html", "-W", "--keep-going", "-n", "-E", "-j", "2", "-q"]
    folders = ["-c", stage.HERE, "-d", build / "doctrees", build / "source", html]
    status = build_main([*options, *arguments, *map(str, folders)])
    made = {
        "pages": len(list(html.rglob("*.html"))),
        "seconds": round(time.monotonic() - begun),
        "seconds of CPU": round(sum(os.times()[:4])),
    }
    (build / "built.json").write_text(json.dumps(made))
    print(f"{made['pages']} pages in {made['seconds']} s: {html / 'index.html'}")
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
