"""Reading exports of usage: from a file's rows to exact deltas, with a reason for each refusal."""
