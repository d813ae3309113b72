"""The exercises of notebook 12, on the layers around the paper's; see `exercises`."""

import numpy as np

import deformable_convnets.reference as reference
from deformable_convnets.reference.oracle.mistakes import Mistake

from .grading import Exercise
from .problems import KERNELS


def warps(rng):
    """Three warps: matrices near one that turns and stretches, and shifts of some pixels."""
    return ([(np.eye(2) + rng.uniform(-0.6, 0.6, (2, 2)), rng.uniform(-5, 5, 2))
             for _ in range(3)],)  # fmt: skip


def composed(steps):
    A, t = np.eye(2), np.zeros(2)
    for A_step, t_step in steps:
        A, t = A @ A_step, A @ t_step + t
    return A, t


def shifts_as_they_are(steps):
    return composed(steps)[0], sum(t for _, t in steps)


def shifts_after_the_product(steps):
    """As if a warp were A (p + t)."""
    return composed([(A, A @ t) for A, t in steps])


def inverse(steps):
    A, t = composed(steps)
    return np.linalg.inv(A), -np.linalg.inv(A) @ t


COMPOSED_WARPS = Exercise(
    composed,
    warps,
    (
        "Take two: the first gives V(p) = x(A1 p + t1). What is V(A2 p + t2)? Put A2 p + t2 in"
        " place of p.",
        "A1 (A2 p + t2) + t1 = (A1 A2) p + (A1 t2 + t1).",
        "Start with A = np.eye(2), t = np.zeros(2); a step makes them A @ A_step, A @ t_step + t.",
    ),
    (
        Mistake("the warps in the other order: the first one applied to the places first",
                lambda steps: composed(steps[::-1])),
        Mistake("the shifts added up: those of later steps go through the matrices before them",
                shifts_as_they_are),
        Mistake("each shift multiplied by the matrix of its own step", shifts_after_the_product),
        Mistake("the inverse warp: where a pixel goes, not where it is read", inverse),
        Mistake("the matrices transposed, p @ A in place of A @ p",
                lambda steps: composed([(A.T, t) for A, t in steps])),
        Mistake("the last warp alone", lambda steps: steps[-1]),
        Mistake("the first warp alone", lambda steps: steps[0]),
        Mistake("the right matrix, but no shift",
                lambda steps: (composed(steps)[0], np.zeros(2))),
    ),
)  # fmt: skip


def shared_offsets(rng):
    x = rng.normal(size=(2, 3, 6, 8))
    kh, kw = rng.choice(KERNELS)
    weight = rng.normal(size=(4, 3, kh, kw))
    return rng.normal(size=(2, 4, 7 - kh, 9 - kw)), x, rng.uniform(-1.3, 1.3, (kh * kw, 2)), weight


def gradient_field(grad_output, x, theta, weight):
    """N K 2 Ho Wo: the gradient of every offset of a field that is the same everywhere."""
    N, _, Ho, Wo = grad_output.shape
    offset = np.tile(theta.reshape(1, -1, 1, 1), (N, 1, Ho, Wo))
    grads = reference.deform_conv2d_backward(grad_output, x, offset, weight)
    return grads.offset.reshape(N, len(theta), 2, Ho, Wo)


def of_theta(grad_output, x, theta, weight):
    return gradient_field(grad_output, x, theta, weight).sum(axis=(0, 3, 4))


def of_the_field(name, judge):
    return Mistake(name, lambda *args: judge(gradient_field(*args)))


def split(grad_output, x, theta, weight):
    return of_theta(grad_output, x, theta, weight).reshape(2, -1).T


def theta_as_split(grad_output, x, theta, weight):
    """The offsets laid down as all dy and then all dx."""
    return of_theta(grad_output, x, theta.T.reshape(-1, 2), weight)


ACTIVE_GRADIENT = Exercise(
    of_theta,
    shared_offsets,
    (
        "Make the offset array first: theta.reshape(1, -1, 1, 1), repeated by np.tile to"
        " N 2K Ho Wo; grad_output has N, Ho and Wo.",
        "One number moves the tap everywhere, so its gradient is the sum of the gradients at all"
        " places of all images.",
    ),
    (
        of_the_field("the mean over places and images, not the sum",
                     lambda grad: grad.mean(axis=(0, 3, 4))),
        of_the_field("the mean over places", lambda grad: grad.mean(axis=(3, 4)).sum(axis=0)),
        of_the_field("the mean over images", lambda grad: grad.sum(axis=(3, 4)).mean(axis=0)),
        of_the_field("the first image alone", lambda grad: grad[0].sum(axis=(2, 3))),
        of_the_field("the first output pixel alone", lambda grad: grad[..., 0, 0].sum(axis=0)),
        of_the_field("x before y", lambda grad: grad.sum(axis=(0, 3, 4))[:, ::-1]),
        Mistake("channels read as all dy, then all dx; dy and dx of a tap are neighbours", split),
        Mistake("theta laid down as all dy, then all dx", theta_as_split),
        Mistake("the gradient at offsets of zero: theta is not used",
                lambda gy, x, theta, weight: of_theta(gy, x, 0 * theta, weight)),
        Mistake("the opposite sign", lambda *args: -of_theta(*args)),
    ),
    problems=5,
)  # fmt: skip


def second_derivatives(rng, size=(7, 9)):
    """Gyy, Gxy, Gxx of a Gaussian as wide as it likes, and an angle."""
    y, x = np.indices(size) - np.array(size).reshape(2, 1, 1) // 2
    s = rng.uniform(1.2, 2)
    bell = np.exp(-(y**2 + x**2) / (2 * s * s))
    Gyy, Gxx = ((v**2 / s**4 - 1 / s**2) * bell for v in (y, x))
    return Gyy, y * x / s**4 * bell, Gxx, float(rng.uniform(0.2, 0.6) + rng.choice((0, 2, 4)))


def combination(Gyy, Gxy, Gxx, angle, *, mixed=2.0, power=2):
    c, s = np.cos(angle), np.sin(angle)
    return s**power * Gyy + mixed * s * c * Gxy + c**power * Gxx


def once(Gyy, Gxy, Gxx, angle):
    return np.cos(angle) * Gxx + np.sin(angle) * Gyy


STEERED_TWICE = Exercise(
    combination,
    second_derivatives,
    (
        "The direction is u = (u_y, u_x) = (sin, cos) of the angle.",
        "(u_y d/dy + u_x d/dx) twice: multiply the bracket by itself, as (a + b)^2.",
    ),
    (
        Mistake("the mixed derivative once: (a + b)^2 has 2 a b",
                lambda *args: combination(*args, mixed=1)),
        Mistake("the mixed derivative forgotten", lambda *args: combination(*args, mixed=0)),
        Mistake("the opposite angle", lambda *args: combination(*args[:3], -args[3])),
        Mistake("an angle from the y axis: sine and cosine exchanged",
                lambda Gyy, Gxy, Gxx, angle: combination(Gxx, Gxy, Gyy, angle)),
        Mistake("an angle from the y axis, the other way round",
                lambda Gyy, Gxy, Gxx, angle: combination(Gxx, -Gxy, Gyy, angle)),
        Mistake("the rule of the first derivative, cos and sin", once),
        Mistake("cos and sin not squared", lambda *args: combination(*args, power=1)),
    ),
)  # fmt: skip


def head(rng, Q=5, K=4):
    """A map, queries on it, offsets that leave it now and then, and logits."""
    x, p = rng.normal(size=(3, 7, 9)), rng.uniform((0, 0), (6, 8), (Q, 2))
    return x, p, rng.uniform(-2.5, 2.5, (Q, K, 2)), 1.5 * rng.normal(size=(Q, K))


def attended(x, p, offset, logits, *, weigh=None, at=lambda points: points):
    read = reference.sample(x, at(p[:, None] + offset))  # C Q K
    e = np.exp(logits)
    weights = e / e.sum(axis=1, keepdims=True) if weigh is None else weigh(logits, e)
    return np.ascontiguousarray((read * weights).sum(axis=-1).T)


def attended_as(name, **options):
    return Mistake(name, lambda *args: attended(*args, **options))


ONE_HEAD = Exercise(
    attended,
    head,
    (
        "The points are p[:, None] + offset: Q K 2. sample(x, points) is C Q K.",
        "Softmax over the last axis: e = np.exp(logits), divided by its sum over axis 1, with"
        " keepdims=True.",
        "Multiply, sum over K, and turn C Q round to Q C.",
    ),
    (
        attended_as("the logits as weights, without a softmax (DCNv4)",
                    weigh=lambda logits, e: logits),
        attended_as("a sigmoid in place of the softmax (DCNv2)",
                    weigh=lambda logits, e: e / (1 + e)),
        attended_as("the softmax over the queries, not over the points",
                    weigh=lambda logits, e: e / e.sum(axis=0)),
        attended_as("the softmax over queries and points together",
                    weigh=lambda logits, e: e / e.sum()),
        attended_as("the exponentials, not divided by their sum", weigh=lambda logits, e: e),
        attended_as("the plain mean of the points: logits not used",
                    weigh=lambda logits, e: np.full_like(e, 1 / e.shape[1])),
        attended_as("the weights of -logits", weigh=lambda logits, e: (1 / e) / (1 / e).sum(
            axis=1, keepdims=True)),
        attended_as("the nearest pixel", at=np.round),
        attended_as("the x-first order of the places", at=lambda points: points[..., ::-1]),
        Mistake("x-first offsets",
                lambda x, p, offset, logits: attended(x, p, offset[..., ::-1], logits)),
        Mistake("the offset forgotten",
                lambda x, p, offset, logits: attended(x, p, 0 * offset, logits)),
        Mistake("the query's place forgotten",
                lambda x, p, offset, logits: attended(x, 0 * p, offset, logits)),
        Mistake("the transposed result: Q C is asked for, and C Q given",
                lambda *args: np.ascontiguousarray(attended(*args).T)),
    ),
)  # fmt: skip

EXERCISES = {
    "composed_warps": COMPOSED_WARPS,
    "active_gradient": ACTIVE_GRADIENT,
    "steered_twice": STEERED_TWICE,
    "one_head": ONE_HEAD,
}
