from __future__ import annotations

from django.urls import path

from . import views

app_name = "lab"

urlpatterns = [
    path("", views.page, name="page"),
    path("runs/", views.start, name="start"),
    path("runs/<uuid:run_id>/events/", views.events, name="events"),
]
