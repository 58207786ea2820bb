from importlib.util import find_spec

# Django's own tasks came with 6.0. Not a skip, which should always be a surprise.
collect_ignore = [] if find_spec("django.tasks") else ["test_django_tasks.py"]
