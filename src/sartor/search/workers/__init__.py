"""Many processes on one study: each asks the store what there is to do, on one machine or on many.

``work`` is one worker; ``run_workers`` starts some on this machine. ``claims`` says who evaluates what.
"""

from sartor.search.workers.processes import run_workers
from sartor.search.workers.work import work

__all__ = ["run_workers", "work"]
