"""What becomes of an answer, row by row: the mirror of `test_decisions`."""

from typing import Any

from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.http import Http404, HttpResponse, HttpResponseRedirect
from django.test import RequestFactory

from django_idempotency.http.outcomes import Answer, outcome_of
from django_idempotency.policies import IdempotencyPolicy
from tests.support.cases import cases

PLAIN = IdempotencyPolicy()
REQUEST = RequestFactory().post("/pay/")
KEEPS_ERRORS = IdempotencyPolicy(keep_errors=True)
NOTHING = IdempotencyPolicy(keep=lambda response: False)

# Of an answer: is its work committed, is it stored, does it claim success, what is noted.
COMMITTED = (True, True, True, None)
COMMITTED_REFUSAL = (True, True, False, None)
RELEASED = (False, False, False, "")
COMMITTED_AND_RELEASED = (True, False, True, "")
ASKS_AGAIN = (True, False, True, None)
WITHOUT_A_TRACE = (False, False, False, None)
STORED_AFTERWARDS = (False, True, False, None)


def of(answer: Any, raised: Exception | None = None) -> Answer:
    """The answer, of which a number is the status."""
    if isinstance(answer, int):
        answer = HttpResponse(status=answer)
    return Answer(answer, raised)


SENT_AWAY = HttpResponseRedirect("/accounts/login/?next=/pay/")
each_answer = cases(
    "answer, policy, becomes",
    {
        "success": (of(201), PLAIN, COMMITTED),
        "redirect": (of(HttpResponseRedirect("/thanks/")), PLAIN, COMMITTED),
        "returned refusal": (of(403), PLAIN, COMMITTED_REFUSAL),
        "come again": (of(429), PLAIN, RELEASED),
        "failure": (of(503), PLAIN, RELEASED),
        "success that the policy refuses": (of(201), NOTHING, COMMITTED_AND_RELEASED),
        "refusal that the policy refuses": (of(402), NOTHING, RELEASED),
        "sent away to sign in": (of(SENT_AWAY), PLAIN, ASKS_AGAIN),
        "raised refusal": (of(404, Http404()), PLAIN, WITHOUT_A_TRACE),
        "denial": (of(403, PermissionDenied()), PLAIN, WITHOUT_A_TRACE),
        "suspicion": (of(400, SuspiciousOperation()), PLAIN, WITHOUT_A_TRACE),
        "raised error": (
            of(500, ZeroDivisionError()),
            PLAIN,
            (False, False, False, "builtins.ZeroDivisionError"),
        ),
        "raised refusal that is kept": (
            of(404, Http404()),
            KEEPS_ERRORS,
            STORED_AFTERWARDS,
        ),
        "raised error that is never kept": (
            of(503, OSError()),
            KEEPS_ERRORS,
            (False, False, False, "builtins.OSError"),
        ),
    },
)


def summary(answer: Answer, policy: IdempotencyPolicy, *, has_key: bool) -> Any:
    outcome = outcome_of(answer, policy, REQUEST, has_key=has_key)
    assert outcome.value is answer.response
    return (
        outcome.commits,
        outcome.answer is not None,
        outcome.claims_success,
        outcome.failure,
    )


@each_answer
def test_what_becomes_of_an_answer(
    answer: Answer, policy: IdempotencyPolicy, becomes: tuple[Any, ...]
) -> None:
    assert summary(answer, policy, has_key=True) == becomes


@each_answer
def test_same_answers_are_committed_without_a_key_and_none_is_stored(
    answer: Answer, policy: IdempotencyPolicy, becomes: tuple[Any, ...]
) -> None:
    is_committed, _, claims_success, _ = becomes

    committed, stored, claims, _ = summary(answer, policy, has_key=False)

    assert (committed, claims) == (is_committed, claims_success)
    assert not stored
