"""The doctor: derives everything anew from the records and compares, and mends what it can."""
