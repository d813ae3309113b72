"""All experiments by name."""

from experiments.control_tables import controls, digits
from experiments.layer_tables import table1, table2, table3_upper
from experiments.roi_tables import table3_lower, table5

TABLES = {t.name: t for t in (table1, table2, table3_upper, table3_lower, table5, controls, digits)}
