"""The site as a reader sees it: `make test-site` builds it and runs these tests.

Plain pytest collects none of them (`conftest.py`), because they need the site and Chromium.
"""
