"""The library that devices, scripts and imports are built on: `Client.open` is where to begin.

It needs no Ray and no Postgres, works without a server, and loses nothing when it is killed.
"""
