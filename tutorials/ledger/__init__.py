"""The ledger: every claim of the paper, what was seen of it, and where (../CLAIMS.md)."""
