"""What a job would reach if one thing were otherwise: short runs of the doctor's own in its place.

Knows: which counterfactuals there are, what each changes, how a run is scored and two are compared.
Does not know: what an outcome says of a cause.
Offers: run_trials, reference_settings, own_parts, run_job; reference_to_the_end, dealt_to_the_end; in_score, how
many evaluations make a score; KNOBS and LADDER, the names of trials.
"""

from fedlens.diagnosis.trials.course import in_score
from fedlens.diagnosis.trials.knobs import KNOBS
from fedlens.diagnosis.trials.own import own_parts, run_job
from fedlens.diagnosis.trials.settings import Assumed, reference_settings
from fedlens.diagnosis.trials.trials import LADDER, Ran, dealt_to_the_end, reference_to_the_end, run_trials

__all__ = [
    "KNOBS",
    "LADDER",
    "Assumed",
    "Ran",
    "dealt_to_the_end",
    "in_score",
    "own_parts",
    "reference_settings",
    "reference_to_the_end",
    "run_job",
    "run_trials",
]
