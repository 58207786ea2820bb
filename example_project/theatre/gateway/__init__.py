"""A payment gateway: the provider's side of an idempotency key.

It speaks Stripe's API in front of the test server localstripe, which takes no notice of
keys: there, one key sent twice makes two charges. The gateway adds what Stripe's own
servers do, with the same decorator as the shop. It is a service of its own, with its
own settings and its own database.
"""
