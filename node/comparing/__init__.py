"""Comparing: two counts of the same usage, paired, explained and reported."""
