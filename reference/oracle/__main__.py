"""`python -m deformable_convnets.reference.oracle` is `dcn-verify`."""

import sys

from .cli import main

sys.exit(main())
