"""What people see can be translated: words go through gettext, and whole sentences do.

For programs, developers and those who run the site it stays English, see the page for
contributors: errors of misuse, checks, logs, commands, metrics and API schemas.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib import admin
from django.db.models import Field
from django.utils.functional import Promise

from django_idempotency.models import IdempotencyRecord, ProcessedEvent

PACKAGE = Path(__file__).parents[2] / "django_idempotency"
FOR_PEOPLE = [
    *(PACKAGE / "admin").glob("*.py"),
    *(PACKAGE / "stories").glob("*.py"),
    *(PACKAGE / "templatetags").glob("*.py"),
    *PACKAGE.rglob("apps.py"),
    *(
        PACKAGE / each
        for each in (
            "contrib/admin.py",
            "core/keys.py",
            "core/seen.py",
            "http/asking.py",
            "http/people.py",
            "http/problems.py",
            "models.py",
            "store/forgetting.py",
            "store/reruns.py",
        )
    ),
]
TEMPLATES = sorted(PACKAGE.rglob("*.html"))

GETTEXT = {"gettext", "gettext_lazy", "_", "ngettext", "ngettext_lazy", "pgettext"}
FOR_DEVELOPERS = {
    *("BadRequest", "ImportError", "ImproperlyConfigured", "TypeError"),
    "TemplateSyntaxError",
}
SHOWN = {
    *("verbose_name", "verbose_name_plural", "help_text", "short_description"),
    *("description", "label", "title", "heading", "badge", "known", "next", "short"),
    *("text", "caption", "summary", "detail", "effect", "look_for", "explanation"),
    *("reason_help", "result_help", "done", "no_relation", "empty_label"),
}
"""Names of what is shown, in which a single word is one for people."""
SENTENCE = re.compile(r"[A-Za-z']{2,}[,;:.]? [A-Za-z]{2,}")
WORD = re.compile(r"[A-Za-z]{3}")
INLINE = re.compile(r"\b(aria-label|placeholder|title|alt)=\"([^\"]*)\"")


def called(node: ast.AST) -> str:
    if not isinstance(node, ast.Call):
        return ""
    function = node.func
    if isinstance(function, ast.Attribute):
        is_log = isinstance(function.value, ast.Name) and function.value.id == "logger"
        return "logger" if is_log else function.attr
    return function.id if isinstance(function, ast.Name) else ""


def is_ours_to_read(node: ast.AST) -> bool:
    """Whether what is below isn't for people: documentation, types, logs, misuse."""
    if isinstance(node, ast.Raise) and node.exc is not None:
        return called(node.exc) in FOR_DEVELOPERS
    if isinstance(node, ast.Assign):
        # Stored by migrate in English, as Django's own permissions are.
        return [getattr(each, "id", "") for each in node.targets] == ["permissions"]
    is_docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return is_docstring or called(node) in ("logger", "cast", "TypeVar", "Literal")


def literal(node: ast.AST | None) -> str:
    """Return the words of a text, with {} for what is put in; no HTML, no names."""
    match node:
        case ast.Constant(value=str() as text):
            return re.sub(r"<[^>]*>|{\w*}", "", text)
        case ast.JoinedStr(values=parts):
            return "".join(
                str(each.value) if isinstance(each, ast.Constant) else "{}"
                for each in parts
            )
        case _:
            return ""


def untranslated(node: ast.AST) -> Iterator[tuple[int, str]]:
    if is_ours_to_read(node):
        return
    line = getattr(node, "lineno", 0)
    if called(node) in GETTEXT:
        assert isinstance(node, ast.Call)
        count = 2 if called(node).startswith("ngettext") else 1
        if not all(isinstance(each, ast.Constant) for each in node.args[:count]):
            yield line, "what is no literal is in no catalogue"
        return
    text = literal(node)
    if isinstance(node, ast.JoinedStr):
        if " " in text and WORD.search(text):
            yield line, text
    elif SENTENCE.search(text):
        yield line, text
    if isinstance(node, ast.keyword | ast.Assign | ast.AnnAssign):
        names = [node.arg] if isinstance(node, ast.keyword) else targets(node)
        text = literal(node.value)
        is_name = "_" in text  # such as the label of an app
        if SHOWN.intersection(map(str, names)) and WORD.search(text) and not is_name:
            yield line, text
    if pieces_of_sentences(node):
        yield line, "put together from translated pieces"
    for child in ast.iter_child_nodes(node):
        if child is not getattr(node, "annotation", None):
            yield from untranslated(child)


def targets(node: ast.Assign | ast.AnnAssign) -> list[str]:
    every = node.targets if isinstance(node, ast.Assign) else [node.target]
    return [getattr(each, "id", "") for each in every]


def pieces_of_sentences(node: ast.AST) -> bool:
    """Languages have other orders: no two pieces are joined, only sentences."""
    match node:
        case ast.JoinedStr() | ast.BinOp(op=ast.Add()):
            parts = list(ast.walk(node))
        case ast.AugAssign(op=ast.Add(), value=value):
            parts = list(ast.walk(value))
        case _:
            return False
    return any(called(each) in GETTEXT for each in parts)


def of(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


@pytest.mark.parametrize("path", FOR_PEOPLE, ids=of)
def test_words_in_code_go_through_gettext(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))

    assert sorted(set(untranslated(tree))) == []


@pytest.mark.parametrize(
    "code",
    [
        'messages.info(request, "Nothing was done")',
        'raise ValueError("Nothing was done")',
        'raise ValueError(f"The {row} is gone")',
        'verbose_name = "record"',
        'CharField(help_text="record")',
        'Row(text="done")',
        "gettext(text)",
        'ngettext("once", text, 2)',
        'gettext("Step") + name',
        "text += gettext('more')",
        "f\"{gettext('Step')}: {name}\"",
        'f"{count} after"',
    ],
)
def test_word_that_is_forgotten_is_found(code: str) -> None:
    assert list(untranslated(ast.parse(code)))


def words_of(template: str) -> list[str]:
    inner = r"{% blocktranslate.*?{% endblocktranslate %}|{#.*?#}|{%.*?%}|{{.*?}}"
    style = r"{% block coltype %}.*?{% endblock %}"
    bare = re.sub(f"{style}|{inner}", "", template, flags=re.DOTALL)
    told = [text for _name, text in INLINE.findall(bare)]
    told += re.split(r"<[^>]*>", re.sub(r"<style.*?</style>", "", bare, flags=re.S))
    return [text.strip() for text in told if re.search(r"[^\W\d_]", text)]


@pytest.mark.parametrize("path", TEMPLATES, ids=of)
def test_words_in_templates_go_through_gettext(path: Path) -> None:
    text = path.read_text(encoding="utf-8")

    assert words_of(text.replace("&rsaquo;", "").replace("<!doctype html>", "")) == []


@pytest.mark.parametrize(
    "template", ["<p>Done</p>", '<a title="Done"></a>', "{{ count }} rows"]
)
def test_word_that_is_forgotten_in_a_template_is_found(template: str) -> None:
    assert words_of(template)


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.css")), ids=of)
def test_styles_know_a_start_and_an_end_and_no_sides(path: Path) -> None:
    """What is read from the right begins there."""
    style = re.sub(r"/\*.*?\*/", "", path.read_text(encoding="utf-8"), flags=re.S)

    assert re.findall(r".*\b(?:left|right)\b.*", style) == []


@pytest.mark.parametrize("model", [IdempotencyRecord, ProcessedEvent])
def test_columns_and_filters_have_names_that_are_translated(model: type) -> None:
    """Else Django makes one of the field's name, in English."""
    ours: Any = admin.site.get_model_admin(model)
    names = {*ours.list_display, *(each for each in ours.list_filter)}
    fields = [each for each in model._meta.get_fields() if each.name in names]  # type: ignore[attr-defined]

    assert len(fields) > 3
    assert [
        each.name
        for each in fields
        if isinstance(each, Field) and not isinstance(each._verbose_name, Promise)  # type: ignore[attr-defined]
    ] == []
