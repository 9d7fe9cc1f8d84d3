"""From a mission and its inputs to a plan: prompt, loop, reminders, compaction, guardrails."""
