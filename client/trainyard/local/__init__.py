"""The local runner: the operator's own planner, with processes in place of pods."""
