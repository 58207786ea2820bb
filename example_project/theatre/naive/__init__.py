"""Checkout and webhooks as they are usually written first. For comparison; don't copy it.

It looks whether the cart was ordered and does nothing if so. Between the look and the
insert there is time for a copy of the request to look too, and both charge the card.
The webhooks look and mark in the same manner, and lose what they marked too soon.
"""
