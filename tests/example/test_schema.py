"""The OpenAPI schema that drf-spectacular makes of the shop."""

from typing import Any

import pytest

pytest.importorskip("drf_spectacular")

from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.validation import validate_schema


def test_schema_of_the_example_project_is_valid() -> None:
    """With the demo's tests, since they bring what the example needs."""
    generator: Any = SchemaGenerator
    validate: Any = validate_schema

    validate(generator(urlconf="example_project.urls").get_schema(public=True))
