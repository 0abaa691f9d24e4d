"""Passthrough: what a reseller bought in one channel against what it sold in others."""
