"""Judgement, without I/O: outcomes become verdicts, verdicts become decisions, failures become delays."""
