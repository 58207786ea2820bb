from __future__ import annotations

from django.db import migrations, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.state import StateApps

from django_idempotency.fields import DigestField, JSONText, MomentField


def leave_room_for_updates(
    apps: StateApps, schema_editor: BaseDatabaseSchemaEditor
) -> None:
    """Leave room for a row's updates on its page: see Note [Which columns are indexed].

    Every record is updated at least once, to keep its answer. On a full page the new
    version would go to another page and need new index entries.
    """
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(
            "ALTER TABLE django_idempotency_idempotencyrecord SET (fillfactor = 60)"
        )


def use_the_default_fillfactor(
    apps: StateApps, schema_editor: BaseDatabaseSchemaEditor
) -> None:
    # Reversed in the tests on PostgreSQL only.
    if schema_editor.connection.vendor == "postgresql":  # pragma: no branch - as said
        schema_editor.execute(
            "ALTER TABLE django_idempotency_idempotencyrecord RESET (fillfactor)"
        )


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="IdempotencyRecord",
            fields=[
                (
                    "id",
                    DigestField(
                        editable=False,
                        help_text="Digest of scope and key; identifies the record "
                        "and prevents a second one.",
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                (
                    "scope",
                    models.TextField(
                        help_text="Whose key it is and where: "
                        "principal | method | path."
                    ),
                ),
                (
                    "key",
                    models.CharField(help_text="The client's key.", max_length=255),
                ),
                ("method", models.CharField(max_length=32, verbose_name="method")),
                ("path", models.TextField()),
                (
                    "fingerprint",
                    models.CharField(
                        help_text="Keyed digest of query and payload.", max_length=128
                    ),
                ),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("in_flight", "in flight"),
                            ("kept", "kept"),
                            ("released", "released"),
                            ("held", "held"),
                            ("expired", "expired"),
                        ],
                        max_length=16,
                        verbose_name="state",
                    ),
                ),
                ("response_status", models.PositiveSmallIntegerField(null=True)),
                (
                    "response_headers",
                    models.JSONField(
                        help_text="List of name and value pairs.", null=True
                    ),
                ),
                (
                    "response_body",
                    models.BinaryField(
                        help_text="Null: the body was not kept.", null=True
                    ),
                ),
                (
                    "effects",
                    JSONText(
                        default=dict,
                        help_text="What the operation remembers of its last steps.",
                    ),
                ),
                (
                    "earlier_steps",
                    models.TextField(
                        editable=False,
                        help_text="The steps before those, if there are many.",
                        null=True,
                    ),
                ),
                (
                    "attempts",
                    models.PositiveIntegerField(default=0, verbose_name="attempts"),
                ),
                (
                    "last_error",
                    models.CharField(
                        blank=True,
                        default="",
                        help_text="Class of the exception that ended the last failed "
                        "attempt.",
                        max_length=255,
                    ),
                ),
                (
                    "replays",
                    models.PositiveIntegerField(default=0, verbose_name="repeats"),
                ),
                ("last_replayed_at", MomentField(null=True)),
                (
                    "history",
                    models.JSONField(
                        default=list,
                        help_text="The first thing that happened and the last ones, "
                        "with their times.",
                    ),
                ),
                (
                    "held_since",
                    MomentField(
                        help_text="Since when an outcome is unknown, or may be.",
                        null=True,
                    ),
                ),
                ("lease_token", models.UUIDField(null=True)),
                ("lease_expires_at", MomentField(null=True)),
                ("created_at", MomentField(verbose_name="first seen")),
                ("completed_at", MomentField(null=True)),
                ("expires_at", MomentField(verbose_name="kept until")),
                (
                    "remembered_until",
                    MomentField(
                        help_text="Until when a repeat is refused whose answer isn't "
                        "kept any more.",
                        null=True,
                    ),
                ),
            ],
            options={
                "verbose_name": "idempotency record",
                "verbose_name_plural": "idempotency records",
                "indexes": [
                    models.Index(
                        fields=["expires_at"], name="idempotency_record_expires"
                    ),
                    models.Index(fields=["key"], name="idempotency_record_key"),
                    models.Index(
                        condition=models.Q(held_since__isnull=False),
                        fields=["held_since"],
                        name="idempotency_record_held",
                    ),
                ],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(
                            state__in=[
                                "in_flight",
                                "kept",
                                "released",
                                "held",
                                "expired",
                            ]
                        ),
                        name="idempotency_record_state",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(state="kept", _negated=True)
                        | models.Q(
                            response_headers__isnull=False,
                            response_status__isnull=False,
                        ),
                        name="idempotency_record_kept_has_answer",
                    ),
                ],
            },
        ),
        migrations.RunPython(leave_room_for_updates, use_the_default_fillfactor),
    ]
