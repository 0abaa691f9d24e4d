"""The verifier as one page: what `tally verify` checks, in any browser, with nothing installed.

Its scripts are named after the modules of `protocol` that they follow; `page` puts them together.
"""
