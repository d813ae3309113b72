"""The exercises of notebook 5, on learning the offsets; see `exercises`."""

import numpy as np
from learning import everywhere, smooth

import deformable_convnets.reference as reference
from deformable_convnets.reference.oracle.mistakes import MISTAKES, Mistake

from .grading import Exercise


def module(rng):
    """grad_output, x, offset_weight, offset_bias and weight; every other branch is zero."""
    zero = int(rng.integers(2))
    branch = rng.normal(size=(18, 4, 3, 3)) / 6 * zero, rng.normal(size=18) / 3 * zero
    x, weight = rng.normal(size=(2, 4, 6, 8)), rng.normal(size=(3, 4, 3, 3))
    return rng.normal(size=(2, 3, 4, 6)), x, *branch, weight


def of_branch(offset_gradient=None, weight_gradient=None):
    """The gradient of the branch's weight by the chain rule, with one of its two steps replaced."""

    def run(grad_output, x, offset_weight, offset_bias, weight):
        offset = reference.conv2d(x, offset_weight, offset_bias)
        backward = offset_gradient or reference.deform_conv2d_backward
        grad_offset = np.asarray(backward(grad_output, x, offset, weight).offset)
        backward = weight_gradient or reference.conv2d_backward
        return backward(grad_offset, x, offset_weight, offset_bias).weight

    return run


def forgetting_the_bias(*args):
    return of_branch()(*args[:3], 0 * args[3], args[4])


def of_image_0(*args):
    return of_branch()(args[0][:1], args[1][:1], *args[2:])


def centre_alone(*args):
    """The branch as if it read x at p0 and nowhere else."""
    grad, kept = of_branch()(*args), np.zeros((3, 3))
    kept[1, 1] = 1
    return grad * kept


def field(rng):
    """Offsets of a 3x3 layer with padding 1 on a map of 6x9 or 9x6, none at a limit itself."""
    size = tuple(int(v) for v in rng.permutation([6, 9]))
    return rng.uniform(-4, 4, (1, 18, *size)), size


def dead(offset, size, low=-1.0, high=0.0, of=np.any, padding=1):
    """Whether p is at most `low`, or at least size + `high`, along any axis (or all)."""
    p = reference.sampling_points(offset, 3, padding=1) + (padding - 1)
    return of((p <= low) | (p >= np.array(size) + high), axis=-1)


def stepping(rng):
    return *module(rng), float(rng.choice([0.5, 0.25])), float(rng.choice([0.1, 0.01]))


def stepped(grad_output, x, offset_weight, offset_bias, weight, rate, of_branch, of_layer):
    """The three arrays after a step, each rate multiplied by what is given."""
    arrays = offset_weight, offset_bias, weight
    grads = reference.deform_conv_module_backward(grad_output, x, *arrays)
    steps = of_branch * grads.offset_weight, of_branch * grads.offset_bias, of_layer * grads.weight
    return tuple(a - rate * step for a, step in zip(arrays, steps, strict=True))


def without_beta_on_the_bias(*args):
    quick, slow = (step(lambda b, m=m: b**m, lambda b: 1)(*args) for m in (0, 1))
    return slow[0], quick[1], slow[2]


def step(of_branch, of_layer, only=(0, 1, 2)):
    """A step with multipliers that depend on beta; the arrays not in `only` stay."""

    def run(*args):
        *given, beta = args
        moved = stepped(*given, of_branch(beta), of_layer(beta))
        return tuple(moved[i] if i in only else given[2 + i] for i in range(3))

    return run


def swapped(*args):
    """The step with dy and dx of the branch's gradients exchanged."""
    moved = step(lambda b: b, lambda b: 1)(*args)

    def other(new, old):
        change = (new - old).reshape(9, 2, *new.shape[1:])[:, ::-1]
        return old + change.reshape(new.shape)

    return other(moved[0], args[2]), other(moved[1], args[3]), moved[2]


def one_after_the_other(grad_output, x, offset_weight, offset_bias, weight, rate, beta):
    """The layer's weight first, and the branch from gradients at the new weight."""
    branch = offset_weight, offset_bias
    weight = stepped(grad_output, x, *branch, weight, rate, 0, 1)[2]
    return *stepped(grad_output, x, *branch, weight, rate, beta, 0)[:2], weight


def quarter(rng):
    """x, the target of a filter turned by 90 degrees to either side, and the weight."""
    x, weight = smooth(rng, (1, 1, 20, 20), 1.5), rng.normal(size=(12, 1, 3, 3))
    moves = everywhere(turned(int(rng.choice([-1, 1]))), (18, 18))
    return x, reference.deform_conv2d(x, moves, weight), weight


def turned(sign):
    """(A - I) p_n for a turn by 90 degrees."""
    return reference.R(3) @ (sign * np.array([[0.0, 1], [-1, 0]]) - np.eye(2)).T


def moved_by(share):
    """Whether the offsets have gone from zero to the right ones, by a share of the way."""

    def shown(result, right):
        gone = (result * right).sum() / (right * right).sum()
        return share[0] < gone < share[1] and not np.array_equal(np.round(result), right)

    return shown


def which_turn(x, target, weight):
    for sign in (1, -1):
        move = turned(sign)
        if np.allclose(reference.deform_conv2d(x, everywhere(move, (18, 18)), weight), target):
            return move


EXERCISES = {
    "branch_gradient": Exercise(
        of_branch(),
        module,
        (
            "The branch is a convolution of x, and what it returns is the offset: call conv2d.",
            "deform_conv2d_backward(...).offset is dL/d(offset): the grad_output of the branch.",
            "conv2d_backward(grad_offset, x, offset_weight, offset_bias).weight is the rest.",
        ),
        (
            Mistake("a gradient of zero, where only the branch is zero", lambda *a: 0 * a[2]),
            Mistake("the bias of the branch forgotten", forgetting_the_bias),
            Mistake("the first image alone", of_image_0),
            Mistake("the gradient of a branch that reads x at p0 alone", centre_alone),
            *(Mistake(m.name, of_branch(None, m.run)) for m in MISTAKES["conv2d_backward"]),
            *(
                Mistake(m.name, of_branch(m.run))
                for m in MISTAKES["deform_conv2d_backward"]
                if m.name not in {n.name for n in MISTAKES["conv2d_backward"]}
            ),
        ),
        problems=4,
    ),
    "stops_learning": Exercise(
        dead,
        field,
        (
            "sampling_points(offset, 3, padding=1) are the points p, (y, x) in pixels of x.",
            "g(q, p) = max(0, 1 - |q - p|): p is out of reach of pixel 0 from -1 downwards.",
            "G is a product: one axis out of reach is enough.",
        ),
        (
            Mistake(
                "every point outside the pixels, though one that is less than a pixel away from "
                "them still reads and learns",
                lambda o, s: dead(o, s, 0, -1),
            ),
            Mistake(
                "the authors' border (dcnv1), where all points with p < 0 read nothing",
                lambda o, s: dead(o, s, 0, 0),
            ),
            Mistake("the points that are out along both axes", lambda o, s: dead(o, s, of=np.all)),
            Mistake("the test with H and W exchanged", lambda o, s: dead(o, s[::-1])),
            Mistake("a map with its padding", lambda o, s: dead(o, s, -2, 1)),
            Mistake("points counted from the padded corner", lambda o, s: dead(o, s, padding=2)),
            Mistake("the points that still learn", lambda o, s: ~dead(o, s)),
            Mistake(
                "the test of the offsets alone, not of the points",
                lambda o, s: dead(o - reference.sampling_points(0 * o, 3, padding=1)
                                  .transpose(0, 1, 2, 5, 3, 4).reshape(o.shape), s),
            ),
        ),
    ),
    "one_step": Exercise(
        step(lambda b: b, lambda b: 1),
        stepping,
        (
            "All gradients at once: deform_conv_module_backward(grad_output, x, ..., weight).",
            "The rate of the weight is rate; that of the branch's two arrays is beta * rate.",
        ),
        (
            Mistake("the bias of the branch without beta", without_beta_on_the_bias),
            Mistake("a step that forgets beta", step(lambda b: 1, lambda b: 1)),
            Mistake("beta on the layer's weight too", step(lambda b: b, lambda b: b)),
            Mistake("beta on the weight, not on the branch", step(lambda b: 1, lambda b: b)),
            Mistake("beta twice", step(lambda b: b * b, lambda b: 1)),
            Mistake("a step up the gradient", step(lambda b: -b, lambda b: -1)),
            Mistake("a step of the branch up the gradient", step(lambda b: -b, lambda b: 1)),
            Mistake("a step of the branch alone", step(lambda b: b, lambda b: 1, only=(0, 1))),
            Mistake("a step of the layer alone", step(lambda b: b, lambda b: 1, only=(2,))),
            Mistake("a branch whose bias stays", step(lambda b: b, lambda b: 1, only=(0, 2))),
            Mistake("a branch whose weight stays", step(lambda b: b, lambda b: 1, only=(1, 2))),
            Mistake("the offset gradient with dy and dx swapped", swapped),
            Mistake(
                "a step of the weight, and then the branch's gradient at the new weight",
                one_after_the_other,
            ),
        ),
    ),
    "quarter_turn": Exercise(
        which_turn,
        quarter,
        (
            "The loop of learning.learn_shared: field, error, backward, step; 18 numbers learn.",
            "Plain steps do: about 150 of them, of the mean squared error, with a rate of 1.",
            "The gradient of a shared offset is .offset.sum(axis=(0, 2, 3)), in the order (9, 2).",
        ),
        (
            Mistake("the points p_n + the offsets", lambda *a: which_turn(*a) + reference.R(3)),
            Mistake("the turned grid's (x, y)", lambda *a: which_turn(*a)[:, ::-1]),
            Mistake("the opposite sign of the offset", lambda *a: -which_turn(*a)),
            Mistake("offsets that never moved", lambda *a: 0 * which_turn(*a)),
            Mistake(
                "offsets of taps numbered column by column",
                lambda *a: which_turn(*a).reshape(3, 3, 2).swapaxes(0, 1).reshape(9, 2),
            ),
        ),
        (
            (
                "offsets that are right, but not rounded to whole pixels",
                lambda result, right: np.array_equal(np.round(result), right),
            ),
            ("steps that are too long", lambda result, right: not np.abs(result).max() < 20),
            ("steps that go the right way and end too early", moved_by((0.1, 1))),
            ("steps up the gradient", moved_by((-np.inf, -0.1))),
        ),
        problems=2,
        limit=60.0,
    ),
}  # fmt: skip
