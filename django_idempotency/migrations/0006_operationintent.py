from django.db import migrations, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.state import StateApps

from django_idempotency.fields import DigestField, MomentField


def hold_any_text(apps: StateApps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """As in the migrations before."""
    if schema_editor.connection.vendor == "mysql":  # pragma: no cover - MariaDB
        table = apps.get_model("django_idempotency", "OperationIntent")._meta.db_table
        schema_editor.execute(
            f"ALTER TABLE {table} CONVERT TO CHARACTER SET utf8mb4"
            " COLLATE utf8mb4_nopad_bin"
        )


class Migration(migrations.Migration):
    dependencies = [("django_idempotency", "0005_hourlycount")]

    operations = [
        migrations.CreateModel(
            name="OperationIntent",
            fields=[
                (
                    "id",
                    DigestField(
                        editable=False,
                        help_text="Digest of principal, method, path and signed "
                        "fingerprint.",
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("first_id", DigestField(help_text="The id of the record.")),
                (
                    "confirmed_id",
                    DigestField(  # type: ignore[misc]
                        help_text="The id of the record beside which it was confirmed.",
                        null=True,
                    ),
                ),
                ("created_at", MomentField()),
                ("expires_at", MomentField()),
            ],
            options={
                "verbose_name": "intent of operations",
                "verbose_name_plural": "intents of operations",
                "default_permissions": (),
                "indexes": [
                    models.Index(
                        fields=["expires_at"], name="idempotency_intent_expires"
                    ),
                ],
            },
        ),
        # MariaDB changes no table inside a transaction.
        migrations.RunPython(hold_any_text, migrations.RunPython.noop, atomic=False),
    ]
