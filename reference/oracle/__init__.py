"""What every implementation of the operators must satisfy, ours and everybody's.

    implementation.py  what is tested: six callables on NumPy arrays, and what they support
    problems.py        exact problems, certified: any right implementation agrees bit for bit
    bounds.py          how far an honest float result may be from the exact one, element by element
    laws.py            the laws, each a function of an implementation and a problem
    roi_problems, roi_bounds, roi_laws   the same for RoI pooling
    compare.py         the three assertions: the same bits, within a bound, between two values
    mistakes.py        wrong variants that people write, and which of them explains a result

`problems.recipes` needs Hypothesis (the extra `oracle`); the rest needs NumPy and SciPy alone.
"""
