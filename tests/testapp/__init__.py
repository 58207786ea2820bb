"""An app with the models and views that only the tests need."""
