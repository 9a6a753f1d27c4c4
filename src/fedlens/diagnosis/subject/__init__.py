"""Who is examined: anybody's job or a run of fedlens, called with care and read into one form.

Knows: how the author's functions are named, called, timed, stopped, and how their states and uploads are read.
Does not know: what is measured of them, or what it means.
Offers: Subject and Patient (patient), subject_of (target), of_run (ours), Ailing (guard).
"""
