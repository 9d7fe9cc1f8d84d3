"""The key holder: the one process with the runner's private key, and how agents ask it for keys.

It is not a Ray actor, because whoever can reach a Ray worker can run code in it.
"""
