"""Decides, and nothing else: no clock, no I/O. Times are arguments, so the same code runs in the routing task, in property
tests and in the simulator.

    decide(signals, rules, before, now_s) -> (after, decision)
"""
