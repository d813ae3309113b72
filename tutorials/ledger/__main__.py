"""`python -m ledger`, in tutorials/: writes CLAIMS.md, and the lines of APPENDIX_A.md's links."""

from ledger import complaints, lines, page
from ledger.rows import claims, load

if __name__ == "__main__":
    found = complaints.of_all(claims(load()))
    if found:
        raise SystemExit("\n".join(found))
    page.write()
    lines.write()
