"""What a log gives away alone, before anything of a job is run.

Knows: how people keep logs, and what numbers of right answers look like as decimals.
Does not know: jobs, models, data, or which cause a number speaks for.
Offers: read_log and Row; examine_log; precision and quantum, of any values; is_accuracy and standing, of names.
"""

from fedlens.diagnosis.forensics.printed import Row, is_accuracy, read_log, standing
from fedlens.diagnosis.forensics.series import examine_log, precision, quantum

__all__ = ["Row", "examine_log", "is_accuracy", "precision", "quantum", "read_log", "standing"]
