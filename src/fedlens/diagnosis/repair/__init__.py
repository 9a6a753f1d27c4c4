"""Repairs of an author's job: which remedy is tried, when it is proven, and what the job shows with it.

Knows: treatments by cause, intervals of paired gains, what else must stay sound, a job with one part replaced,
    repairs on top of each other, and which settings of an experiment a treatment means.
Does not know: how a fault is found, how a remedy is run, or how any of it looks on a page.
Offers: repaired (chain), treat (treatment), Treated (treated), CLEAR and interval (proof), health and sides (health),
    OF and changed (changes).
"""
