"""What waits and what was stopped, as JSON: include `health.urls` in your URLconf."""
