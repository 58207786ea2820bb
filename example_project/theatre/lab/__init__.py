"""The lab: a page that plays the demo's bad days, naive and protected side by side.

Only ``manage.py demo --serve`` opens it. It plays the demo's own scenarios on the demo's
own servers, from a server that none of them kills.
"""
