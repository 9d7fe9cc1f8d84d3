"""`python -m tests.growth [NAME]`: tries all, and prints what each cost as JSON, a line each."""

import sys

import msgspec

from tests.growth.subjects import subjects
from tests.growth.trial import tried

NAME = sys.argv[1] if len(sys.argv) > 1 else ""

for subject in subjects():
    if NAME in subject.name:
        sys.stdout.buffer.write(msgspec.json.encode(tried(*subject)) + b"\n")
        sys.stdout.flush()
