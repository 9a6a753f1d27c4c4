"""The clients' and the test examples, and what can be computed of them alone.

Knows: how examples are read, compared, hashed and answered by a quick classifier.
Does not know: models, rounds, or which numbers of it are evidence.
Offers: tables (reading), inputs (M17), rows (M29), answers and meaning (M16).
"""
