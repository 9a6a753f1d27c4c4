"""The examinations of a job: each measures one section of the evidence, in numbers.

Knows: how every measurement is made: on made-up uploads, on the job's own rounds, on its data, network and reports.
Does not know: which cause a number speaks for, or what mends it.
Offers: nothing by import; each module offers its own examination.
"""
