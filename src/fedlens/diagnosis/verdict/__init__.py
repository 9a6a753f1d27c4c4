"""From findings and trials to what the page says first: suspects, what is ruled out, where accuracy is lost.

Knows: what outranks what.
Does not know: how anything was measured, or how the page is drawn.
Offers: judged and ruled_out (judgement), waterfall (gap), plain (plain).
"""
