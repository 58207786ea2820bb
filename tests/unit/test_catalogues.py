"""The package's translations: complete, compiled, and with the places of the original."""

import re
from gettext import GNUTranslations
from pathlib import Path

import django
import pytest
from babel.messages import Catalog
from babel.messages.catalog import Message
from django.utils import translation

from django_idempotency.http.people import FOR_PEOPLE
from django_idempotency.http.problems import PROBLEMS
from tests.support.catalogues import (
    LANGUAGES,
    catalogue_of,
    compiled,
    forms,
    read,
    template,
)

WRITE = "run python -m tests.support.catalogues"
PLACE = re.compile(r"%\((\w+)\)s|%(s)|\{(\w*)\}")
NUMBERS = {"count", "requests", "done"}
"""What ngettext goes by: a form for one or two may say it in a word."""

each_language = pytest.mark.parametrize("language", LANGUAGES)


@pytest.fixture(scope="module")
def words() -> Catalog:
    return template()


def originals(message: Message) -> tuple[str, ...]:
    return (message.id,) if isinstance(message.id, str) else tuple(message.id)


def places(text: str) -> set[str]:
    return {"".join(each) for each in PLACE.findall(text)}


def named(catalogue: Catalog) -> set[object]:
    return {(each.id, each.context) for each in catalogue if each.id}


@each_language
def test_catalogue_has_the_words_of_the_package_and_no_others(
    language: str, words: Catalog
) -> None:
    catalogue = read(language)

    assert named(catalogue) == named(words), WRITE
    assert not catalogue.obsolete, WRITE


@each_language
def test_compiled_catalogue_is_the_same(language: str) -> None:
    path = catalogue_of(language).with_suffix(".mo")

    assert path.read_bytes() == compiled(language), WRITE
    with path.open("rb") as file:
        found = GNUTranslations(file)
    for each in read(language):
        first = originals(each)[0]
        expected = forms(each)[0] if all(forms(each)) else first
        if isinstance(each.id, str):
            assert found.gettext(first) == expected or not first
        else:
            one, many = each.id
            assert all(found.ngettext(one, many, number) for number in range(12)), one


@each_language
def test_nothing_is_guessed_and_whose_words_they_are_is_said(language: str) -> None:
    catalogue = read(language)

    assert not [each.id for each in catalogue if each.id and each.fuzzy]
    assert "UNREVIEWED" in catalogue.header_comment
    assert catalogue.num_plurals == {"ar": 6, "ja": 1}.get(language, 2)


@each_language
def test_translation_has_the_places_of_the_original(language: str) -> None:
    wrong = [
        (each.id, form)
        for each in read(language)
        for form in forms(each)
        if each.id and form
        for wanted in [places(originals(each)[-1])]
        if places(form) != wanted
        and not (
            len(originals(each)) == 2
            and wanted - NUMBERS <= places(form) <= wanted
            and form != forms(each)[-1]
        )
    ]

    assert wrong == []


def test_what_may_be_latin_stands_apart_in_arabic() -> None:
    """Else the signs around an error or an address change their places with it.

    Not around what people copy, since the marks would go with it, and not around numbers.
    """
    alone = NUMBERS | {
        *("again", "header", "hours", "key", "minutes", "n", "number", "reference"),
        *(
            "",
            "s",
            "seconds",
            "span",
            "state",
            "status",
            "times",
            "when",
            "zone",
            "age",
        ),
    }
    wrong = [
        form
        for each in read("ar")
        for form in forms(each)
        if each.id
        for name in places(form) - alone
        if f"\u2068%({name})s\u2069" not in form
    ]

    assert wrong == []


@each_language
def test_everything_is_translated(language: str) -> None:
    left = [each.id for each in read(language) if each.id and not all(forms(each))]

    assert left == []


@each_language
def test_problems_speak_the_language(language: str) -> None:
    texts = [
        text
        for problem in PROBLEMS
        for text in (
            *(problem.title, problem.detail),
            *FOR_PEOPLE[problem.code],
        )
        if text != "{reason}"
    ]
    with translation.override(language.replace("_", "-").lower()):
        translated = [str(text) for text in texts]
    with translation.override("en"):
        english = [str(text) for text in texts]

    assert not set(translated) & set(english)


def test_number_of_things_has_its_plural(words: Catalog) -> None:
    """But where the number is always the same, and large."""
    fixed = {
        "The key is longer than %(count)s characters.",
        "Looked for among the %(number)s rows that are kept longest.",
    }
    number = re.compile(r"%\((count|number|requests|done)\)s [a-z]{2,}s\b")

    assert {
        each.id for each in words if isinstance(each.id, str) and number.search(each.id)
    } == fixed


@each_language
def test_words_of_django_stay_as_they_are(language: str) -> None:
    """All applications share one catalogue, in which ours may come before Django's."""
    folder = Path(django.__file__).parent
    for path in folder.glob(f"**/locale/{language}/LC_MESSAGES/django.mo"):
        with path.open("rb") as file:
            theirs = GNUTranslations(file)
        for each in read(language):
            if isinstance(each.id, str) and each.id and each.string:
                assert theirs.gettext(each.id) in (each.id, each.string), path


def test_catalogues_are_those_of_the_languages() -> None:
    folder = Path(catalogue_of("de")).parents[2]

    assert sorted(each.name for each in folder.iterdir()) == sorted(LANGUAGES)
