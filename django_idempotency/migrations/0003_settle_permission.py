from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("django_idempotency", "0002_processed_event")]

    operations = [
        migrations.AlterModelOptions(
            name="idempotencyrecord",
            options={
                "permissions": [
                    ("settle_idempotencyrecord", "Can settle a held operation"),
                    ("release_idempotencyrecord", "Can release a stuck key"),
                    (
                        "forget_idempotencyrecord",
                        "Can let a stored answer be forgotten",
                    ),
                    (
                        "erase_idempotencyrecord",
                        "Can erase what is stored of a person",
                    ),
                ],
                "verbose_name": "idempotency record",
                "verbose_name_plural": "idempotency records",
            },
        ),
    ]
