from django.db import migrations, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.state import StateApps

from django_idempotency.fields import DigestField, MomentField

WAITING = {"IdempotencyRecord": "held_since", "ProcessedEvent": "dead_since"}
"""What says of a row that it waits for a person."""


def hold_any_text(apps: StateApps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """As in the migration before, and find what waits: MariaDB has no partial indexes."""
    if schema_editor.connection.vendor == "mysql":  # pragma: no cover - MariaDB
        table = _table(apps, "OperationLink")
        schema_editor.execute(
            f"ALTER TABLE {table} CONVERT TO CHARACTER SET utf8mb4"
            " COLLATE utf8mb4_nopad_bin"
        )
        for model, column in WAITING.items():
            schema_editor.execute(
                f"CREATE INDEX idempotency_{column} ON {_table(apps, model)} ({column})"
            )


def drop_indexes(apps: StateApps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    if schema_editor.connection.vendor == "mysql":  # pragma: no cover - MariaDB
        for model, column in WAITING.items():
            schema_editor.execute(
                f"DROP INDEX idempotency_{column} ON {_table(apps, model)}"
            )


def _table(apps: StateApps, model: str) -> str:  # pragma: no cover - MariaDB
    return str(apps.get_model("django_idempotency", model)._meta.db_table)


class Migration(migrations.Migration):
    dependencies = [("django_idempotency", "0003_settle_permission")]

    operations = [
        migrations.CreateModel(
            name="OperationLink",
            fields=[
                (
                    "id",
                    DigestField(
                        editable=False,
                        help_text="Digest of the row, kind and value.",
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                (
                    "row_id",
                    DigestField(help_text="The id of the record or event."),
                ),
                (
                    "kind",
                    models.CharField(
                        choices=[
                            ("object", "object"),
                            ("call", "key of a call"),
                            ("reference", "reference"),
                            ("word", "word of the other side"),
                        ],
                        max_length=16,
                    ),
                ),
                (
                    "value",
                    models.CharField(
                        help_text="A model and primary key, a derived key, or what the "
                        "other side calls it.",
                        max_length=255,
                    ),
                ),
                (
                    "label",
                    models.CharField(
                        blank=True,
                        default="",
                        help_text="The same for people.",
                        max_length=255,
                    ),
                ),
                (
                    "amount",
                    models.CharField(blank=True, default="", max_length=64),
                ),
                (
                    "result",
                    models.TextField(
                        blank=True,
                        default="",
                        editable=False,
                        help_text="What the other side's word says that the call has "
                        "returned.",
                    ),
                ),
                ("created_at", MomentField()),
                ("expires_at", MomentField()),
            ],
            options={
                "verbose_name": "link of an operation",
                "verbose_name_plural": "links of operations",
                "default_permissions": (),
                "indexes": [
                    models.Index(fields=["row_id"], name="idempotency_link_row"),
                    models.Index(fields=["value"], name="idempotency_link_value"),
                    models.Index(
                        fields=["expires_at"], name="idempotency_link_expires"
                    ),
                ],
            },
        ),
        # MariaDB changes no table inside a transaction.
        migrations.RunPython(hold_any_text, drop_indexes, atomic=False),
    ]
