"""What a reduction of uploads does, found with uploads that were made up.

Knows: how to make up a cohort whose coefficients can be told exactly, and how to read them off the result.
Does not know: whose reduction it is, how it is called, or which of its ways are faults.
Offers: Form, Cohort, make_cohort, Bench, Done, examine.
"""

from fedlens.diagnosis.reduction.cohort import Cohort, Form, make_cohort
from fedlens.diagnosis.reduction.examine import examine
from fedlens.diagnosis.reduction.experiments import Bench, Done

__all__ = ["Bench", "Cohort", "Done", "Form", "examine", "make_cohort"]
