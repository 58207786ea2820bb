"""The package's translations: `python -m tests.support.catalogues` writes them anew.

It reads the words of code and templates as Django's `makemessages` does, and compiles as
`compilemessages` does, with Babel in place of GNU gettext, which not everybody has. What is
translated stays, what is gone is removed, and nothing is guessed from what is similar.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

from babel.messages import Catalog
from babel.messages.catalog import Message
from babel.messages.extract import extract
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po
from django.utils.translation.template import templatize

PACKAGE = Path(__file__).parents[2] / "django_idempotency"
LOCALE = PACKAGE / "locale"
LANGUAGES = ("ar", "de", "es", "fr", "ja", "pt_BR")

KEYWORDS = {
    "_": None,
    "gettext": None,
    "gettext_lazy": None,
    "gettext_noop": None,
    "ngettext": (1, 2),
    "ngettext_lazy": (1, 2),
    "pgettext": ((1, "c"), 2),
    "npgettext": ((1, "c"), 2, 3),
}


def catalogue_of(language: str) -> Path:
    return LOCALE / language / "LC_MESSAGES" / "django.po"


def template() -> Catalog:
    """Return all words of the package, without translations."""
    catalogue = Catalog()
    for path in sorted(PACKAGE.rglob("*")):
        name = path.relative_to(PACKAGE).as_posix()
        for text, context in _texts(path):
            old = catalogue.get(text, context=context)
            if old is None or (name, 0) not in old.locations:
                catalogue.add(text, locations=[(name, 0)], context=context)
    return catalogue


def _texts(path: Path) -> Iterator[tuple[str | tuple[str, ...], str | None]]:
    if path.suffix == ".html":
        code = templatize(path.read_text(encoding="utf-8"), origin=str(path))
    elif path.suffix == ".py":
        code = path.read_text(encoding="utf-8")
    else:
        return
    source = io.BytesIO(code.encode())
    for _line, text, _comments, context in extract(
        "python", source, keywords=KEYWORDS, options={"encoding": "utf-8"}
    ):
        yield text, context


def read(language: str) -> Catalog:
    with catalogue_of(language).open("rb") as file:
        return read_po(file)


def forms(message: Message) -> tuple[str, ...]:
    """Return the translation, in each of its plural forms."""
    text = message.string or ""
    return (text,) if isinstance(text, str) else tuple(text)


def compiled(language: str) -> bytes:
    catalogue, file = read(language), io.BytesIO()
    # An empty plural form would be shown, in place of the original.
    for message in [each for each in catalogue if each.id and not all(forms(each))]:
        catalogue.delete(message.id, message.context)
    write_mo(file, catalogue)
    return file.getvalue()


def write(language: str, catalogue: Catalog) -> None:
    words = template()
    words.creation_date = catalogue.creation_date  # nothing changes by itself
    catalogue.update(words, no_fuzzy_matching=True, update_header_comment=False)
    catalogue.obsolete.clear()
    for message in catalogue:
        if message.id and message.pluralizable and not message.string:
            message.string = ("",) * catalogue.num_plurals
        message.flags.discard("fuzzy")
    path = catalogue_of(language)
    with path.open("wb") as file:
        write_po(file, catalogue, width=88, include_lineno=False, sort_output=False)
    path.with_suffix(".mo").write_bytes(compiled(language))


if __name__ == "__main__":
    for each in LANGUAGES:
        write(each, read(each))
