"""The exercises of notebook 9, on boxes and average precision; see `exercises`."""

import numpy as np

from deformable_convnets.reference.networks import boxes
from deformable_convnets.reference.networks.metrics import overlaps
from deformable_convnets.reference.oracle.mistakes import Mistake

from .grading import Exercise

DEVIATIONS, PIXEL = boxes.DEVIATIONS, np.array([0, 0, 1, 1])


def pairs(rng):
    """Proposals, and the boxes of the objects that they are near."""
    first = rng.uniform(0, 30, (5, 2))
    proposals = np.hstack([first, first + rng.uniform(6, 24, (5, 2))])
    return proposals, proposals + rng.uniform(-2.5, 2.5, (5, 4))


def parts(found):
    return (found[:, :2] + found[:, 2:]) / 2, found[:, 2:] - found[:, :2]


def targets(of_centres=None, of_sides=None, places=parts):
    """The targets with one of their two halves computed otherwise."""

    def run(proposals, truths):
        (centre, side), (goal, size) = places(proposals), places(truths)
        moves = (of_centres or (lambda move, side, size: move / side))(goal - centre, side, size)
        scales = (of_sides or (lambda side, size: np.log(size / side)))(side, size)
        return np.hstack([moves, scales]) / DEVIATIONS

    return run


def corners(found):
    return found[:, :2], found[:, 2:] - found[:, :2]


def by_rows(run):
    """With x and y exchanged."""
    return lambda *args: run(*args)[:, [1, 0, 3, 2]]


BOX_TARGETS = Exercise(
    boxes.encode,
    pairs,
    (
        "The centres are (proposals[:, :2] + proposals[:, 2:]) / 2, the sides the difference.",
        "np.hstack of (goal - centre) / side and np.log(size / side), divided by (.1, .1, .2, .2).",
    ),
    (
        Mistake("the logarithm forgotten", targets(of_sides=lambda side, size: size / side)),
        Mistake(
            "the difference of the sides in place of the logarithm of their ratio",
            targets(of_sides=lambda side, size: (size - side) / side),
        ),
        Mistake(
            "dx and dy divided by the sides of the object, not of the proposal",
            targets(lambda move, side, size: move / size),
        ),
        Mistake("dx and dy in pixels", targets(lambda move, side, size: move)),
        Mistake("corners that move, not centres", targets(places=corners)),
        Mistake("the way back, from the object to the proposal", lambda p, t: boxes.encode(t, p)),
        Mistake("y before x", by_rows(boxes.encode)),
        Mistake(
            "targets that are not divided by 0.1 and 0.2", lambda *a: boxes.encode(*a) * DEVIATIONS
        ),
        Mistake(
            "targets that are multiplied by 0.1 and 0.2",
            lambda *a: boxes.encode(*a) * DEVIATIONS**2,
        ),
    ),
)


def two_lists(rng):
    """Boxes of two lists: some overlap, some are apart along one axis, some along both."""
    first = rng.uniform(0, 20, (9, 2))
    both = np.hstack([first, first + rng.uniform(4, 14, (9, 2))])
    both[8] = both[0]
    both[3, :], both[7, :] = (0, 0, 5, 6), (9, 11, 16, 15)
    return both[:4], both[4:]


def shared(sides, union):
    """The overlap table with other sides of the intersection, or with another union."""

    def run(a, b):
        low, high = np.maximum(a[:, None, :2], b[:, :2]), np.minimum(a[:, None, 2:], b[:, 2:])
        both = sides(high - low).prod(axis=-1)
        of_a, of_b = ((c[:, 2:] - c[:, :2]).prod(axis=-1) for c in (a, b))
        return both / union(of_a[:, None], of_b, both)

    return run


def positive(sides):
    return np.maximum(sides, 0)


def together(a, b, both):
    return a + b - both


OVERLAP_TABLE = Exercise(
    overlaps,
    two_lists,
    (
        "np.maximum(a[:, None, :2], b[:, :2]) are the upper left corners of all intersections.",
        "Boxes that are apart have a negative side there: np.maximum(sides, 0) before the product.",
    ),
    (
        Mistake("the negative sides of boxes that are apart", shared(lambda s: s, together)),
        Mistake(
            "a union that counts the intersection twice",
            shared(positive, lambda a, b, both: a + b + 0 * both),
        ),
        Mistake(
            "a pixel added to every side, for x2 and y2 that are inclusive",
            lambda a, b: overlaps(a + PIXEL, b + PIXEL),
        ),
        Mistake(
            "the intersection over the box of a alone",
            shared(positive, lambda a, b, both: a + 0 * b),
        ),
        Mistake(
            "the intersection over the box of b alone",
            shared(positive, lambda a, b, both: b + 0 * a),
        ),
        Mistake(
            "the intersection over the smaller of both boxes",
            shared(positive, lambda a, b, both: np.minimum(a, b)),
        ),
        Mistake("a row for each box of b, not of a", lambda a, b: overlaps(b, a)),
    ),
)


def ranked(rng):
    """Whether detections are right, their scores, and how many objects there are."""
    right = rng.permutation([True] * 5 + [False] * 5)
    scores = rng.permutation(10) / 10 + 0.05
    right[np.argsort(scores)[[-1, -3]]] = False, True  # the best is wrong: the precision rises
    return right, scores, int(right.sum() + rng.integers(1, 4))


def area_under(order=None, envelope=None, of=None):
    """All-point average precision with one of its steps replaced."""

    def run(right, scores, total):
        sort = order or (lambda scores: np.argsort(-scores, kind="stable"))
        right = right[sort(scores)]
        found = np.cumsum(right)
        precision = found / np.arange(1, len(found) + 1)
        made = envelope or (lambda p: np.maximum.accumulate(p[::-1])[::-1])
        return float(
            made(precision)[right].sum() / (of or (lambda right, total: total))(right, total)
        )

    return run


def eleven(right, scores, total):
    """VOC 2007's mean over eleven recalls."""
    found = np.cumsum(right[np.argsort(-scores)])
    precision = found / np.arange(1, len(found) + 1)
    reached = [precision[10 * found >= i * total] for i in range(11)]
    return float(np.mean([p.max() if len(p) else 0 for p in reached]))


ALL_POINT_AP = Exercise(
    area_under(),
    ranked,
    (
        "Sort by np.argsort(-scores); precision is np.cumsum(right) / (1, 2, ... R).",
        "np.maximum.accumulate(precision[::-1])[::-1] is the largest precision from there on.",
        "Each right detection adds a step of 1 / total to the recall: sum its precision.",
    ),
    (
        Mistake("detections in the order they came", area_under(order=lambda s: np.arange(len(s)))),
        Mistake("the lowest score first", area_under(order=np.argsort)),
        Mistake("the precision as it is, not made decreasing", area_under(envelope=lambda p: p)),
        Mistake(
            "the largest precision so far, not from there on",
            area_under(envelope=np.maximum.accumulate),
        ),
        Mistake(
            "a recall over the objects that were found, not over all",
            area_under(of=lambda right, total: right.sum()),
        ),
        Mistake(
            "a recall over the detections, not over the objects",
            area_under(of=lambda right, total: len(right)),
        ),
        Mistake("the mean at eleven recalls (VOC 2007)", eleven),
    ),
    problems=4,
)


def crowd(rng):
    """Rows of boxes, of which neighbours overlap; two more overlap by the threshold exactly."""
    threshold = float(rng.choice([0.25, 0.5]))
    step = (1.1 - threshold) * rng.uniform(4.3, 4.9, (3, 1))  # next but one is under the threshold
    x = (rng.uniform(0, 9, (3, 1)) + step * np.arange(3)).ravel()
    y = np.repeat([0.0, 20, 40], 3)
    rows = np.stack([x, y, x + 10, y + 10], axis=1)
    apart = np.array([[100.0, 100, 116, 104], [100, 100, 100 + 16 * threshold, 104]])
    found, scores = np.vstack([rows, apart]), rng.permutation(11) / 16 + 0.1
    scores[:3] = np.sort(scores[:3])  # the middle one is removed, and the first one is not
    order = rng.permutation(11)
    return found[order], scores[order], threshold


def greedy(order=None, near=None, removed=False):
    """Suppression with another order, another comparison, or by boxes that are removed too."""

    def run(found, scores, threshold):
        table = (near or np.greater)(overlaps(found, found), threshold)
        seen, kept = [], []
        for row in (order or (lambda scores: np.argsort(-scores, kind="stable")))(scores):
            if not table[row, seen if removed else kept].any():
                kept.append(int(row))
            seen.append(int(row))
        return np.array(kept, int)

    return run


KEPT_BOXES = Exercise(
    boxes.suppress,
    crowd,
    (
        "Go through np.argsort(-scores), with a list of the rows that are kept so far.",
        "Keep a row if overlaps(boxes[[row]], boxes[kept]) is nowhere greater than the threshold.",
    ),
    (
        Mistake("the lowest score first", greedy(order=np.argsort)),
        Mistake("boxes that are removed themselves, and remove others", greedy(removed=True)),
        Mistake("removal at the threshold itself, not only above it",
                greedy(near=np.greater_equal)),
        Mistake("the rows in the order of the boxes, not best first",
                lambda *a: np.sort(boxes.suppress(*a))),
        Mistake("the boxes in the order they came, whatever their scores",
                greedy(order=lambda scores: np.arange(len(scores)))),
        Mistake("no box removed", lambda found, scores, threshold: np.argsort(-scores)),
    ),
)  # fmt: skip

EXERCISES = {
    "box_targets": BOX_TARGETS,
    "overlap_table": OVERLAP_TABLE,
    "all_point_ap": ALL_POINT_AP,
    "kept_boxes": KEPT_BOXES,
}
