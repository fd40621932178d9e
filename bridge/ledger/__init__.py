"""What happened to each call: one row per call, one line per event.

A ledger that is slow, locked, full or down never delays or drops a call: whatever a caller waits
for is bounded to 50 ms and answered from memory instead, whatever nobody waits for is written by
a thread of its own.
"""
