"""What happens when the machine fails: a tiny run is broken at every point, continued, and compared with a whole one.

    python -m tests.faults --help

lists the campaigns. The short ones also run among the tests, the others take minutes to hours.
"""
