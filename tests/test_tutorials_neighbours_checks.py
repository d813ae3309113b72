"""The checks of notebook 12 can fail: each layer is spoilt, and then a claim about it is false."""

import copy

import pytest
from tutorial_files import SOURCES, code_cells, helper

SOURCE = next(s for s in SOURCES if s.stem == "12_neighbours")

FAULTS = {  # what is put in place of what
    "by hand: the row": ("row = np.array([1.0, 2, 0, 3", "row = np.array([1.0, 2, 0, 2"),
    "transformer: A transposed": ("return p @ A.T + t", "return p @ A + t"),
    "transformer: its shift": ("field(affine(p, A, t) - p)", "field(affine(p, A) - p)"),
    "transformer: the grid stays": ("field(0 * p + affine(R(3), A) - R(3))", "field(0 * p)"),
    "transformer: offsets backwards": ("moveaxis(places - q,", "moveaxis(q - places,"),
    "inverse: shifts added up": ("A8 @ shift + t8", "shift + t8"),
    "inverse: warped again": ("again = sample(again,", "again = sample(face,"),
    "active: the mean": ("w).offset.sum(axis", "w).offset.mean(axis"),
    "field: its square": ("influence_spread(f)[0]", "influence_spread(f**2)[0]"),
    "atrous: d p_n on top": ("((d - 1.0) * R(3))", "(1.0 * d * R(3))"),
    "transform: a reward": ("D = f[q] - a *", "D = f[q] + a *"),
    "parts: all in one place": ("q[tuple(p0 + v)]", "q[tuple(p0)]"),
    "parts: too dear": ("distance_transform(s, 0.01)", "distance_transform(s, 10)"),
    "def-pooling: not squared": ("c * (d**2).sum", "c * np.abs(d).sum"),
    "def-pooling: the middle alone": (".sum(axis=1)).max(axis=-1)", ".sum(axis=1))[..., 12]"),
    "pyramid: other levels": ("levels=(1, 2, 4)", "levels=(1, 2, 3)"),
    "pyramid: without gamma": ("move / (0.1 * 64)", "move / 64"),
    "turns: none": ("np.rot90(w, k, axes", "np.rot90(w, 0 * k, axes"),
    "offsets: told wrong": ("response(A, taps @ A.T)", "response(A, taps @ A)"),
    "dynamic: the opposite shift": ("G(2 + shift", "G(2 - shift"),
    "steered: the sign": ("np.cos(alpha) * Gx + np.sin", "np.cos(alpha) * Gx - np.sin"),
    "steered: the grid": ("[[c, s], [-s, c]]", "[[c, -s], [s, c]]"),
    "derivatives: their order": ("np.eye(5)[n]", "np.eye(5)[4 - n]"),
    "derivatives: the sum": ("combined = np.tensordot(coeff", "combined = np.tensordot(1 + coeff"),
    "v2: no mask": ("padding=1, mask=mask)\nv1", "padding=1)\nv1"),
    "v3: softmax of groups": ("softmax(logits, axis=2)", "softmax(logits, axis=1)"),
    "v3: no offsets": ("deform_conv2d(x, offset, each", "deform_conv2d(x, 0 * offset, each"),
    "v4: not sharper": ("-1, 5, -1", "-1, 4.5, -1"),
    "attention: half a pixel": ("shape[1:] - 0.5)[:, None]", "shape[1:])[:, None]"),
    "attention: softmax of heads": ("L * K), axis=2)", "L * K), axis=1)"),
    "attention: no offset": ("+ offset[:, m, l]\n", "+ 0 * offset[:, m, l]\n"),
    "attention: one matrix": ("y += W_out[m] @", "y += W_out[0] @"),
    "attention: without the grid": ("reshape(9, 2, -1), 2, 0) + R(3)", "reshape(9, 2, -1), 2, 0)"),
    "attention: all points alike": ("np.arange(1, 5)[:, None]", "np.ones(4)[:, None]"),
}  # fmt: skip


@pytest.fixture(scope="module")
def states():
    """The code cells, and what the notebook knows before each of them; figures are not drawn."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(helper("figures"), "show", helper("figures").plt.close)
        cells, known = code_cells(helper("build").read(SOURCE)), [{}]
        for cell in cells:
            known.append(after(cell.source, known[-1]))
        yield cells, known


def after(source, known):
    """What is known after a cell; what was known before stays as it was."""
    known = known | {"rng": copy.deepcopy(known["rng"])} if "rng" in known else dict(known)
    exec(source, known)
    return known


def a_claim_is_false(cells, known, at, source):
    """Whether one is, in a spoilt cell or in the eleven after it."""
    now = known[at]
    try:
        for text in (source, *(cell.source for cell in cells[at + 1 : at + 12])):
            now = after(text, now)
    except AssertionError:
        return True
    return False


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_makes_a_claim_false(fault, states):
    (cells, known), (right, wrong) = states, FAULTS[fault]
    (at,) = (i for i, cell in enumerate(cells) if right in cell.source)
    assert cells[at].source.count(right) == 1
    assert a_claim_is_false(cells, known, at, cells[at].source.replace(right, wrong))


def test_the_cells_as_they_are_claim_nothing_false(states):
    """From any place on; that they all ran is what the fixture saw."""
    cells, known = states
    assert len(known) == len(cells) + 1
    assert not a_claim_is_false(cells, known, 3, cells[3].source)
