"""The rehearsal model: a rule-based planner behind a chat-completions API, over real HTTP."""
