"""Several clients at once, in forked processes of one thread each.

Knows: processes, pipes, shared memory, groups of visits.
Does not know: what a visit does.
Offers: Workers, check_workers, can_fork.
"""

from fedlens.engine.workers.workers import Workers, can_fork, check_workers

__all__ = ["Workers", "can_fork", "check_workers"]
