"""Signature schemes, on raw bytes.

None of them raises, whatever a stranger sends: if something goes wrong inside, the
delivery isn't verified. Signatures are compared as bytes, in constant time, and never
decoded.
"""

from __future__ import annotations

from .adyen import AdyenVerifier
from .hmacs import HMACVerifier
from .libraries import StandardWebhooksLibraryVerifier, StripeLibraryVerifier
from .standard import StandardWebhooksVerifier
from .twilio import TwilioVerifier

__all__ = [
    "AdyenVerifier",
    "HMACVerifier",
    "StandardWebhooksLibraryVerifier",
    "StandardWebhooksVerifier",
    "StripeLibraryVerifier",
    "TwilioVerifier",
]
