"""Experiments over methods, budgets and seeds that go on where they were killed, and what they found as tables.

One run trains a config with the options of a method, slims the end, and evaluates the slim model clean and under all
corruptions. A finished run is a line of a record; a run whose line is there is not repeated, one that was killed goes
on from its last checkpoint and its last finished cell.
"""
