"""Kills an instance's processes at random while it runs processes, and compares every exit status
and every byte with what these processes recorded.

`tests/survival` runs it: `instance` kills, `plans` describes the processes, `compare` judges
results, `loop` does it all at once.
"""
