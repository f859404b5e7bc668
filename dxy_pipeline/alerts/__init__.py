"""Alerts: from failing checks to incidents by root cause, and from incidents to messages that arrive once.

`case` and `causes` are pure; `incidents` keeps the state in the database; `delivery` has messages sent, each by a process of its
own (`messenger`). Checks themselves are not known here: a finding is anything that looks like one.
"""

from dxy_pipeline.alerts.case import Cause
from dxy_pipeline.alerts.causes import root_causes
from dxy_pipeline.alerts.delivery import Target, deliver, targets
from dxy_pipeline.alerts.incidents import Policy, Transition, advance, beat, last_beat, prune, recent

__all__ = [
    "Cause",
    "Policy",
    "Target",
    "Transition",
    "advance",
    "beat",
    "deliver",
    "last_beat",
    "prune",
    "recent",
    "root_causes",
    "targets",
]
