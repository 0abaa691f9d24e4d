"""Causes: what is systematic in how two lists of events differ, one family of detectors a file.

`hypotheses` are made from pairs that are sure without them (`hints`), `adjusting` shows pairing both
lists as they would be without the causes, and `effects` splits what remains of each pair exactly.
"""
