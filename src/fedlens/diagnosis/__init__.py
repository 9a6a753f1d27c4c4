"""Why a federated job fails: examined by measurement, told with evidence, mended and proven.

Knows: what is measured of anybody's job, what it says of causes, what a remedy is worth.
Does not know: engines from within, or how anything is drawn or printed to a terminal.
Offers: Job, Declared, Upload, Finding, Certainty, Evidence.
"""

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.job import Declared, Job, Upload

__all__ = ["Certainty", "Declared", "Evidence", "Finding", "Job", "Measured", "Upload"]
