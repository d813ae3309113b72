"""The exercises of notebook 8, on a segmentation network and its tables; see `exercises`."""

import numpy as np

import deformable_convnets.reference as reference
from deformable_convnets.reference.networks import metrics
from deformable_convnets.reference.oracle.mistakes import Mistake

from .grading import Exercise


def counts(rng, classes=6):
    """A confusion matrix: mostly background; one class is neither there nor predicted, another is
    never predicted, and a third is predicted where it is not."""
    absent, missed, invented = rng.permutation(np.arange(1, classes))[:3]
    matrix = rng.integers(1, 30, (classes, classes)) + np.diag(rng.integers(30, 90, classes))
    matrix[0, 0] *= 20
    matrix[:, [absent, missed]] = 0
    matrix[[absent, invented]] = 0
    return (matrix,)


def ratios(over, of=np.mean, twice=1):
    """A mean over classes of right cells / `over`(rows, columns, right), for those with any."""

    def run(matrix):
        right = np.diag(matrix).astype(float)
        total = over(matrix.sum(axis=1), matrix.sum(axis=0), right)
        there = total > 0
        return float(of(twice * right[there] / total[there]))

    return run


def union(rows, columns, right):
    return rows + columns - right


def absent_as(value):
    """The mean over all classes, with this for one that is neither there nor predicted."""

    def run(matrix):
        there = matrix.sum(axis=0) + matrix.sum(axis=1) > 0
        return float((metrics.mean_iou(matrix) * there.sum() + value * (~there).sum()) / len(there))

    return run


def of_those_there(matrix):
    """The mean over the classes that have a label."""
    right, there = np.diag(matrix), matrix.sum(axis=1) > 0
    each = right / np.maximum(union(matrix.sum(axis=1), matrix.sum(axis=0), right), 1)
    return float(each[there].mean())


def one_ratio(matrix):
    right = np.diag(matrix)
    return float(right.sum() / union(matrix.sum(axis=0), matrix.sum(axis=1), right).sum())


def labelled(rng, N=3, H=6, W=7):
    """Offsets of a 3x3 layer of dilation 2, larger at things, and a class for each cell; one of
    the classes 0 to 4 is on no picture, and the pictures have things of different areas."""
    labels, kinds = np.zeros((N, H, W), int), rng.permutation([1, 2, 3, 4])[:3]
    for picture, size in zip(labels, rng.permutation([2, 3, 5]), strict=True):
        for kind, row in zip(kinds, (0, 2, 4), strict=True):
            picture[row : row + 2, :size] = kind
    wide = np.moveaxis(labels[..., None] * reference.R(3).ravel() / 4, -1, 1)
    return wide + rng.normal(size=wide.shape) / 2, labels


def by_class(dilations, labels):
    """The mean over the cells of each class 0 to 4, NaN where there is none."""
    cells = [dilations[labels == k] for k in range(5)]
    return np.array([each.mean() if each.size else np.nan for each in cells])


def dilation_of(offset, dilation=2):
    return reference.effective_dilation(offset, 3, dilation=dilation)[:, 0]


def by_class_of_pictures(offset, labels):
    each = [by_class(d, at) for d, at in zip(dilation_of(offset), labels, strict=True)]
    found = np.array(each)
    there = ~np.isnan(found)
    total = np.where(there, found, 0).sum(axis=0)
    return np.where(there.any(axis=0), total / np.maximum(there.sum(axis=0), 1), np.nan)


def where_the_centre_reads(offset, labels):
    """The class at the place that the moved centre tap reads, to the nearest cell of the map."""
    p = reference.sampling_points(offset, 3, padding=2, dilation=2)[:, 0, 4]
    y, x = np.moveaxis(np.clip(np.round(p), 0, np.array(labels.shape[1:]) - 1).astype(int), -1, 0)
    return by_class(dilation_of(offset), labels[np.arange(len(labels))[:, None, None], y, x])


def shares_of_all(offset, labels):
    """Sums over the cells of a class, divided by the number of all cells."""
    counted = np.bincount(labels.ravel(), minlength=5)
    share = np.where(counted, counted / labels.size, np.nan)
    return by_class(dilation_of(offset), labels) * share


NAMES = [f"{layer}.{last}" for layer in ("res5c", "res5c.branch", "stem.0") for last in
         ("weight", "bias")]  # fmt: skip


def step_of_a_run(rng):
    """A parameter, an iteration that is often at the end of a third of the run, and the rest."""
    iterations = 3 * int(rng.integers(5, 20))
    third = iterations // 3
    i = rng.choice((third, 2 * third, 2 * third - 1, rng.integers(iterations)))
    return str(rng.choice(NAMES)), int(i), iterations, 0.001, 0.01


def rates(name, i, iterations, rate, beta, *, chosen=".branch.", drops=(2,), late=0):
    """The paper's schedule: a tenth from each of the `drops`, in thirds of the run."""
    factor = beta if chosen in name else 1
    passed = sum(3 * (i - late) >= third * iterations for third in drops)
    return rate * factor * 0.1**passed


def rates_as(name, **options):
    return Mistake(name, lambda *args: rates(*args, **options))


def of_bias_too(name, *args):
    return rates(name, *args, chosen=".branch.weight")


def never_dropped_for_branches(name, i, iterations, rate, beta):
    if ".branch." in name:
        return rate * beta
    return rates(name, i, iterations, rate, beta)


def seeds_of_rows(rng):
    """Values of three or five rows in four seeds, which increase, more or less, or decrease."""
    rows, slope = int(rng.choice([3, 5])), int(rng.choice([-3, 1, 2, 3]))
    values = slope * np.arange(rows)[:, None] + rng.integers(0, 4, (rows, 4))
    return ((values + 20) / 8,)  # exact, so equal means are equal


def orders(values, *, strictly=True, mean=np.mean, axis=0, of=np.all):
    """Whether the means of the seeds increase, and in how many seeds the values do."""
    values = np.moveaxis(values, axis, 0)
    compare = np.greater if strictly else np.greater_equal
    means = mean(values, axis=1)
    steps = compare(values[1:], values[:-1])
    return bool((means[1:] > means[:-1]).all()), int(of(steps, axis=0).sum())


def ends_alone(values):
    return orders(values[[0, -1]])


def every_seed(values):
    count = orders(values)[1]
    return count == values.shape[1], count


def most_seeds(values):
    count = orders(values)[1]
    return 2 * count > values.shape[1], count


EXERCISES = {
    "mean_iou": Exercise(
        metrics.mean_iou,
        counts,
        (
            "np.diag(matrix) are the intersections; rows sum to the labels, columns to what was"
            " predicted.",
            "The union has the cells of the row and of the column, and the diagonal once.",
            "Leave out the classes whose union is empty before you divide.",
        ),
        (
            Mistake("the share of right cells, most of which are background",
                    lambda matrix: float(np.trace(matrix) / matrix.sum())),
            Mistake("a class that is neither there nor predicted counted as 0", absent_as(0)),
            Mistake("a class that is neither there nor predicted counted as 1", absent_as(1)),
            Mistake("the classes without a label left out, also those that were predicted",
                    of_those_there),
            Mistake("divided by the labels of a class: what is predicted too much costs nothing",
                    ratios(lambda rows, columns, right: rows)),
            Mistake("divided by what was predicted: what is missed costs nothing",
                    ratios(lambda rows, columns, right: columns)),
            Mistake("a union that counts the intersection twice",
                    ratios(lambda rows, columns, right: rows + columns)),
            Mistake("twice the intersection over both areas (Dice)",
                    ratios(lambda rows, columns, right: rows + columns, twice=2)),
            Mistake("the background left out: it is a class",
                    lambda matrix: ratios(union, of=lambda each: each[1:].mean())(matrix)),
            Mistake("one ratio of sums, not the mean of the classes' ratios", one_ratio),
            Mistake("the median of the classes", ratios(union, of=np.median)),
        ),
        signs=(
            ("0 / 0, for a class that is neither there nor predicted",
             lambda result, right: bool(np.isnan(result))),
        ),
        problems=4,
    ),
    "dilation_by_class": Exercise(
        lambda offset, labels: by_class(dilation_of(offset), labels),
        labelled,
        (
            "effective_dilation(offset, 3, dilation=2) has one number a filter: N 1 H W.",
            "The filter of output cell (y, x) has its centre in that cell: labels[n, y, x] says"
            " in which class. A boolean map chooses its filters: values[labels == k].",
        ),
        (
            Mistake("the layer's dilation of 2 forgotten, the offsets added to a grid of 1",
                    lambda offset, labels: by_class(dilation_of(offset, 1), labels)),
            Mistake("the mean of the pictures' means: each filter counts the same",
                    by_class_of_pictures),
            Mistake("the first picture alone",
                    lambda offset, labels: by_class(dilation_of(offset)[:1], labels[:1])),
            Mistake("the class where the moved centre tap reads, not where the filter is",
                    where_the_centre_reads),
            Mistake("0 for a class that is on no picture: there is no mean, so NaN",
                    lambda offset, labels: np.nan_to_num(by_class(dilation_of(offset), labels))),
            Mistake("sums divided by the number of all cells", shares_of_all),
        ),
    ),
    "learning_rate": Exercise(
        rates,
        step_of_a_run,
        (
            "Iterations count from 0: the first one of the last third is 2 * iterations / 3.",
            'The parameters of a branch have ".branch." in their names, weight and bias.',
            "The two factors do not know of each other: multiply both.",
        ),
        (
            rates_as("beta forgotten", chosen="no such name"),
            rates_as("beta on all of the layer, not on its branch alone", chosen="res5c"),
            rates_as("beta on all parameters", chosen=""),
            Mistake("beta on the weight of a branch, but not on its bias", of_bias_too),
            Mistake("beta on all parameters but those of a branch", lambda name, *args: rates(
                "res5c.weight" if ".branch." in name else "a.branch.b", *args)),
            rates_as("the step after the first third", drops=(1,)),
            rates_as("a step after each third", drops=(1, 2)),
            rates_as("no step", drops=()),
            rates_as("the step one iteration too late", late=1),
            rates_as("the step one iteration too early", late=-1),
            Mistake("a rate of branches that does not fall", never_dropped_for_branches),
        ),
        problems=24,
    ),
    "ordered": Exercise(
        orders,
        seeds_of_rows,
        (
            "values.mean(axis=1) has a mean for each row; np.diff of it, the steps down the table.",
            "np.diff(values, axis=0) has the steps of each seed in a column of its own.",
            "(steps > 0).all(axis=0) says for each seed whether all of its steps go up.",
        ),
        (
            Mistake("equal values of a seed counted as an increase",
                    lambda values: orders(values, strictly=False)),
            Mistake("the first row and the last alone", ends_alone),
            Mistake("a claim that holds if it does in every seed, not in the mean", every_seed),
            Mistake("a claim that holds if it does in most seeds, not in the mean", most_seeds),
            Mistake("the steps that go up counted, not the seeds",
                    lambda values: orders(values, of=np.sum)),
            Mistake("a seed counted if any of its steps goes up",
                    lambda values: orders(values, of=np.any)),
            Mistake("rows and seeds exchanged", lambda values: orders(values, axis=1)),
            Mistake("values that decrease", lambda values: orders(values[::-1])),
            Mistake("the median of the seeds",
                    lambda values: orders(values, mean=np.median)),
            Mistake("the best seed of each row", lambda values: orders(values, mean=np.max)),
        ),
        problems=24,
    ),
}  # fmt: skip
