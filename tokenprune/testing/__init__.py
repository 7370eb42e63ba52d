"""The laws that strategies, adapters and tasks keep, for whoever writes one elsewhere.

    from tokenprune.testing import check_strategy
    check_strategy(MyStrategy(keep=0.25))

Needs neither pytest nor hypothesis: inputs are drawn from a seed.
"""

from tokenprune.testing.adapter import check_adapter as check_adapter
from tokenprune.testing.law import Finding as Finding
from tokenprune.testing.report import BrokenLawsError as BrokenLawsError
from tokenprune.testing.report import Report as Report
from tokenprune.testing.strategy import check_strategy as check_strategy
from tokenprune.testing.task import check_task as check_task
