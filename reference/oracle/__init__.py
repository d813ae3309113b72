"""What every implementation of the operators must satisfy, ours and everybody's.

    from deformable_convnets.reference.oracle import verify
    print(verify(my_deform_conv2d, dtype="float32"))

    verify.py          hold an implementation to the laws; `check` is one law on one problem
    report.py          what comes of it, as text, JSON or a test's failure
    page.py, page_style, pictures, probes, sites, stages   as one HTML page with pictures
    summary.py         what a picture shows, in a sentence
    implementation.py  what is tested: callables on NumPy arrays, and what they lack
    features.py        the words for what an implementation may lack
    problems.py, shapes, draws   exact problems, certified: any right implementation agrees bit for
                       bit
    strategies.py      Hypothesis strategies of problems, by what they try
    laws*.py, law.py   the laws, each a function of an implementation and a problem
    laws_of_volumes, volume_shapes, mistakes_of_volumes   what `deform_conv3d` has of its own
    bounds.py          how far an honest float result may be from the exact one, element by element
    roi_problems, roi_shapes, roi_draws, roi_laws, roi_bounds   the same for RoI pooling
    roi_coordinates.py the points of its bins, one by one, and how far rounding may move them
    compare.py         the three assertions: the same bits, within a bound, between two values
    mistakes.py        wrong variants that people write, and which of them explains a result
    calls.py, lifted, hunt, smaller, example   how `verify` calls, searches, and shows it again
    diagnosis.py, lost_writes   how it explains what it found
    child.py, peers/   implementations in a process of their own, and those of other libraries
    cli.py             dcn-verify
    vectors.py, vector_cases, vector_list   test vectors for those without Python; VECTORS.md

`verify` needs Hypothesis (the extra `oracle`); the rest needs NumPy and SciPy alone.
"""

from .implementation import Implementation
from .laws import LAWS
from .mistakes import diagnose
from .report import Failure, Report
from .verify import check, verify

__all__ = ["LAWS", "Failure", "Implementation", "Report", "check", "diagnose", "verify"]
