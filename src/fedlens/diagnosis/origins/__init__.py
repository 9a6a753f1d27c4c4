"""Where in the author's code things come from: who made the data, who does a stage's work, where a number is written.

Knows: how the author's functions are told from others', listened to, and found again by what they gave back.
Does not know: whether anything is wrong with what they made.
Offers: Trace (trace), Passing (passing), examine_origins (examine), numbers_written (written).
"""
