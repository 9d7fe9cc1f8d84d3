"""One agent of one person: when it may run, what it reads, how it plans."""
