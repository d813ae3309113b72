"""Every page of the site, on a screen and on a phone, and every link between them."""

import pytest

from website import files, look
from website.conftest import SHOWN, SITE


def test_every_link_leads_somewhere_and_nothing_needs_a_network(site):
    """All pages and styles: files, anchors, and what a browser would fetch."""
    assert list(files.complaints(site)) == []


def test_the_pages_are_there(site):
    """A page for each notebook, each kernel file and each package; the equations."""
    pages = set(files.pages(site))
    root = site.parents[2]
    expected = {f"tutorials/{p.stem}.html" for p in (root / "tutorials").glob("*.ipynb")}
    for pattern in ("gpu/numba_kernels/*.py", "gpu/cupy_kernels/*.cu*"):
        expected |= {f"sources/{p.relative_to(root)}.html" for p in root.glob(pattern)}
    expected |= {"api/reference.html", "api/gpu.html", "api/reference.oracle.html", *SHOWN}
    assert expected - pages == set()


@pytest.mark.parametrize("name", files.pages(SITE))
def test_a_page(context, site, keep, name):
    """No failed request, no error, no formula or image that is not seen, no sideways scrolling."""
    address = (site / name).as_uri() + ("?q=offset" if name == "search.html" else "")
    assert look.complaints(context, address, lambda page, size: keep(name, page, size)) == []


def test_from_an_equation_to_its_kernel_and_notebook(context, site):
    """Clicked: equation (2), its reference function, the source; its kernel; its notebook."""
    with look.opened(context, (site / "equations.html").as_uri() + "#eq-2") as (page, wrong):
        section = page.locator("section:has(> h2)", has_text="(2) Deformable convolution").first
        for text, landed in (
            ("deform_conv2d", "api/reference.html#deformable_convnets.reference.deform_conv2d"),
            ("columns", "deform_conv.cu.html#columns"),
            ("3: The equation", "03_deformable_convolution.html#the-equation"),
            ("forward_is_exact", "laws.py.html#forward-is-exact"),
        ):
            section.get_by_role("link", name=text, exact=True).first.click()
            page.wait_for_url(f"**/{landed}")
            assert page.locator(f"[id='{landed.split('#')[1]}']").count() == 1
            page.go_back()
        section.get_by_role("link", name="deform_conv2d", exact=True).first.click()
        page.locator(
            "dt[id='deformable_convnets.reference.deform_conv2d'] a .viewcode-link"
        ).click()
        page.wait_for_url("**/_modules/deformable_convnets/reference/deform_conv.html#*")
        assert wrong == []


def test_the_search_finds_a_function(context, site):
    """The search page, without a server: `effective_dilation`."""
    address = (site / "search.html").as_uri() + "?q=effective_dilation"
    with look.opened(context, address) as (page, wrong):
        page.locator("#search-results li a").first.wait_for()
        assert wrong == []
