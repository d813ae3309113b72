"""The widgets in JupyterLab, in a real browser: `make test-browser` runs these tests.

Plain pytest collects none of them (`conftest.py`), because they need Chromium and Playwright.
"""
