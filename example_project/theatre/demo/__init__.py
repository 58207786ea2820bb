"""The demo: bad days of a web shop, played over real HTTP against real processes.

``stage`` sets up the database and the servers, ``scenarios`` and ``webhook_scenarios``
play, ``ledger`` counts what really happened, and ``report`` shows it.
"""
