from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("django_idempotency", "0002_processed_event")]

    operations = [
        migrations.AlterModelOptions(
            name="idempotencyrecord",
            options={
                "permissions": [
                    ("settle_idempotencyrecord", "Can settle a held operation")
                ],
                "verbose_name": "idempotency record",
                "verbose_name_plural": "idempotency records",
            },
        ),
        migrations.AlterField(
            model_name="idempotencyrecord",
            name="effects",
            field=models.JSONField(
                default=dict, help_text="What the operation remembers of its steps."
            ),
        ),
    ]
