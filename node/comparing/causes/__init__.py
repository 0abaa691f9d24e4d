"""Causes: what is systematic in how two lists of events differ, one family of detectors a file.

Detectors make hypotheses (`found`) of pairs that are sure without them (`hints`), pairing is shown
both lists as they would be without the causes (`preparing`), `effects` splits what remains of each
pair exactly, and `alone` explains what has no partner.
"""
