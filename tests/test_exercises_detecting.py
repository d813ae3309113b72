"""The exercises of notebook 9: what is wrong is named, and the hidden problems show it."""

import pytest
from tutorial_files import helper, hidden_problems, spoilt

WRONG = {  # solution, what is put in place of what, and what the check then has to say
    "no log": ("box_targets", "np.log(size / side)", "size / side", "the logarithm forgotten"),
    "of the object": ("box_targets", "(goal - centre) / side", "(goal - centre) / size",
                      "by the sides of the object"),
    "pixels": ("box_targets", "(goal - centre) / side", "goal - centre", "dx and dy in pixels"),
    "corners": ("box_targets", "moves = ", "centre, goal = proposals[:, :2], truths[:, :2]\n"
                "    moves = ", "corners that move, not centres"),
    "back": ("box_targets", "moves = ", "centre, goal, side, size = goal, centre, size, side\n"
             "    moves = ", "the way back"),
    "as they are": ("box_targets", "moves / (0.1, 0.1, 0.2, 0.2)", "moves", "not divided by 0.1"),
    "times": ("box_targets", "moves / ", "moves * ", "multiplied by 0.1 and 0.2"),
    "y first": ("box_targets", "return moves", "return moves[:, [1, 0, 3, 2]]", "y before x"),
    "negative": ("overlap_table", "np.maximum(high - low, 0)", "(high - low)",
                 "the negative sides"),
    "twice": ("overlap_table", " - both)", ")", "counts the intersection twice"),
    "inclusive": ("overlap_table", "low = ",
                  "e = [0, 0, 1, 1]\n    a, b = a + e, b + e\n    low = ",
                  "a pixel added to every side"),
    "of a": ("overlap_table", "(of_a[:, None] + of_b - both)", "of_a[:, None]",
             "the box of a alone"),
    "smaller": ("overlap_table", "(of_a[:, None] + of_b - both)",
                "np.minimum(of_a[:, None], of_b)", "over the smaller of both"),
    "turned": ("overlap_table", "low = ", "a, b = b, a\n    low = ", "a row for each box of b"),
    "not sorted": ("all_point_ap", "right[np.argsort(-scores)]", "right",
                   "in the order they came"),
    "ascending": ("all_point_ap", "-scores", "scores", "the lowest score first"),
    "no envelope": ("all_point_ap", "largest[right]", "precision[right]", "not made decreasing"),
    "so far": ("all_point_ap", "np.maximum.accumulate(precision[::-1])[::-1]",
               "np.maximum.accumulate(precision)", "the largest precision so far"),
    "found": ("all_point_ap", "/ total", "/ right.sum()", "over the objects that were found"),
    "detections": ("all_point_ap", "/ total", "/ len(right)", "a recall over the detections"),
    "lowest": ("kept_boxes", "-scores", "scores", "the lowest score first"),
    "at it": ("kept_boxes", "> threshold", ">= threshold", "at the threshold itself"),
    "in order": ("kept_boxes", "np.argsort(-scores)", "range(len(scores))",
                 "whatever their scores"),
    "sorted": ("kept_boxes", "np.array(kept, int)", "np.array(sorted(kept), int)",
               "not best first"),
    "all of them": ("kept_boxes", "if not (overlaps(boxes[[row]], boxes[kept]) > threshold).any():",
                    "if True:", "no box removed"),
    "by the removed": ("kept_boxes", "boxes[kept]", "boxes[scores > scores[row]]",
                       "and remove others"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_spoilt_solution_is_diagnosed(case):
    name, right, wrong, words = WRONG[case]
    assert words in helper("exercises").verdict(name, spoilt(name, right, wrong))


def test_the_hidden_problems_meet_what_their_exercise_is_about():
    overlaps = helper("exercises.detecting").overlaps
    for a, b in hidden_problems("overlap_table"):
        assert a.shape != b.shape
        assert (overlaps(a, b) == 0).any()
        assert (overlaps(a, b) == 1).any()
    for found, _, threshold in hidden_problems("kept_boxes"):
        assert (overlaps(found, found) == threshold).any()
    for right, scores, total in hidden_problems("all_point_ap"):
        assert not right[scores.argmax()]
        assert total > right.sum()
