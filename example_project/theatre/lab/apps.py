from __future__ import annotations

from django.apps import AppConfig


class LabConfig(AppConfig):
    name = "example_project.theatre.lab"
    label = "lab"
