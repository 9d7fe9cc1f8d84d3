"""Core files: none of a process that holds keys, prompts or decrypted text."""

import resource


def leave_no_core_file() -> None:
    """From now on this process and its children leave none, however they end."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
