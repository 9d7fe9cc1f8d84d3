"""The key holder: the one process with the runner's private key, and how agents ask it for keys.

It is no Ray actor: whoever can reach a worker of Ray can run code in it.
"""
