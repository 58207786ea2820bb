from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """How one thing is that the promise depends on."""

    OK = "ok"
    WARNING = "warning"
    FAILS = "fails"


@dataclass(frozen=True, slots=True)
class Finding:
    """What the doctor has found out about one thing."""

    name: str
    verdict: Verdict
    told: str
    remedy: str = ""

    def __str__(self) -> str:
        line = f"{self.verdict:<8} {self.name}: {self.told}"
        return f"{line}\n         → {self.remedy}" if self.remedy else line


def ok(name: str, told: str) -> Finding:
    return Finding(name, Verdict.OK, told)


def warning(name: str, told: str, remedy: str) -> Finding:
    return Finding(name, Verdict.WARNING, told, remedy)


def fails(name: str, told: str, remedy: str) -> Finding:
    return Finding(name, Verdict.FAILS, told, remedy)
