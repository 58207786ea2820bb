"""What plays with the example shop, and is not meant to be copied: see the README here."""
