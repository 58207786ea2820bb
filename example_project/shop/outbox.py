"""The mails that Django's file backend has written to a folder."""

from __future__ import annotations

import email
import email.policy
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

__all__ = ["Mail", "newest_mails"]

#: What the backend writes below each mail of a file.
_LINE = b"\n" + b"-" * 79 + b"\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    to: str
    subject: str
    body: str
    sent_at: datetime


def newest_mails(folder: Path, *, limit: int) -> list[Mail]:
    """The newest first."""
    mails = [mail for file in folder.glob("*.log") for mail in _read(file)]
    return sorted(mails, key=lambda mail: mail.sent_at, reverse=True)[:limit]


def _read(file: Path) -> Iterator[Mail]:
    *whole, _ = file.read_bytes().split(_LINE)
    for source in whole:
        message = email.message_from_bytes(source, policy=email.policy.default)
        yield Mail(
            to=str(message["To"]),
            subject=str(message["Subject"]),
            body=message.get_content(),
            sent_at=parsedate_to_datetime(str(message["Date"])),
        )
