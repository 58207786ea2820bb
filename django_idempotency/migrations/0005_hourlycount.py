from django.db import migrations, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.state import StateApps

from django_idempotency.fields import DigestField, MomentField


def hold_any_text(apps: StateApps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """As in the migrations before."""
    if schema_editor.connection.vendor == "mysql":  # pragma: no cover - MariaDB
        table = apps.get_model("django_idempotency", "HourlyCount")._meta.db_table
        schema_editor.execute(
            f"ALTER TABLE {table} CONVERT TO CHARACTER SET utf8mb4"
            " COLLATE utf8mb4_nopad_bin"
        )


class Migration(migrations.Migration):
    dependencies = [("django_idempotency", "0004_operationlink")]

    operations = [
        migrations.CreateModel(
            name="HourlyCount",
            fields=[
                (
                    "id",
                    DigestField(
                        editable=False,
                        help_text="Digest of hour, endpoint, outcome and currency.",
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("hour", MomentField(help_text="When it begins, in UTC.")),
                (
                    "endpoint",
                    models.CharField(
                        help_text="Method and pattern of the URL, or the name of a "
                        "receiver.",
                        max_length=255,
                    ),
                ),
                (
                    "outcome",
                    models.CharField(
                        help_text="The name of the signal that says it.",
                        max_length=32,
                    ),
                ),
                ("currency", models.CharField(blank=True, default="", max_length=8)),
                ("count", models.BigIntegerField()),
                (
                    "waited",
                    models.FloatField(
                        help_text="Seconds since each was asked for or received, in "
                        "all."
                    ),
                ),
                (
                    "amount",
                    models.DecimalField(
                        decimal_places=4,
                        help_text="What the repeated answers were about, in all.",
                        max_digits=24,
                    ),
                ),
            ],
            options={
                "verbose_name": "count of an hour",
                "verbose_name_plural": "counts of hours",
                "default_permissions": (),
                "indexes": [models.Index(fields=["hour"], name="idempotency_hour")],
            },
        ),
        # MariaDB changes no table inside a transaction.
        migrations.RunPython(hold_any_text, migrations.RunPython.noop, atomic=False),
    ]
