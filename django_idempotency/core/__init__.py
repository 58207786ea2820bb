"""Plain values and pure rules: no database and no request."""
