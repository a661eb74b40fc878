"""The settings of the live monitor."""

# ruff: noqa: RUF009 -- option() is dataclasses.field() with its metadata put together

from dataclasses import dataclass
from typing import Any

from djtasks.conf.entries import option
from djtasks.conf.kinds import FLAG, number, whole
from djtasks.conf.monitor_tokens import TOKENS
from djtasks.conf.operations_options import OperationsSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitorSettings(OperationsSettings):
    """The part of the settings that the pages of the monitor read."""

    # -- the monitor
    MONITOR_READ_ONLY: bool = option(
        False, FLAG, "Whether the monitor only shows: nobody, superusers included, can do anything there."
    )
    MONITOR_REFRESH: float = option(
        3.0, number(1, 3600), "Seconds after which a page of the monitor that is looked at asks for what is new."
    )
    MONITOR_SEARCH_TIMEOUT: float = option(
        2.0, number(0.05, 300), "Seconds that a search of the monitor may take in the database before it is given up."
    )
    MONITOR_API: bool = option(
        False,
        FLAG,
        "Whether the monitor's API answers: to those who are logged in as staff, and to MONITOR_API_TOKENS.",
    )
    MONITOR_API_TOKENS: Any = option(
        {},
        TOKENS,
        "Who may use the monitor's API and its metrics without logging in: names to dicts with token, or its hash as"
        " token_sha256, and permissions, as ['view_worker']; or a function, or its dotted path, that is given the token"
        " and returns a user, a dict with name and permissions, or None.",
    )
    MONITOR_API_TIMEOUT: float = option(
        10.0, number(0.1, 300), "Seconds for which a request to the monitor's API waits for the end of a task, at most."
    )
    MONITOR_API_MAX_BYTES: int = option(
        1_000_000, whole(1), "The most bytes that a request to the monitor's API may have."
    )
    MONITOR_API_SEND_UNKNOWN: bool = option(
        False, FLAG, "Whether the monitor's API enqueues tasks that the process which answers does not know."
    )
    MONITOR_METRICS: bool = option(
        False,
        FLAG,
        "Whether the monitor's metrics are shown to anybody who asks; else to staff and tokens that may view workers.",
    )
