"""`python -m state.store.dump_schema`: write schema.sql anew, from a database migrated just now."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import tempfile
from pathlib import Path

from state.secret_files import write_new_secret
from state.store import embedded
from state.store.embedded.binaries import wheel_binaries
from state.store.migrate import migrate

SCHEMA_FILE = Path(__file__).with_name("schema.sql")
HEADER = """\
-- Today's database whole: what migrations/ and sql/functions/ lead to, as pg_dump shows it, with
-- comments, owners, policies and privileges. Written by `python -m state.store.dump_schema`; tests
-- compare it with a database made anew.
"""
LOG_OWNER = "mana_sync"
DUMPED_BY = "18"
"""Major version whose pg_dump writes the file; others word some clauses differently."""

# Comment frames, settings and the session key of pg_dump; what stands in function bodies stays.
_NOISE = re.compile(
    r"^(--|-- (Name|Dumped|PostgreSQL).*|SET \w+ = .*|SELECT pg_catalog\.set_config.*"
    r"|\\(un)?restrict .*)$\n",
    re.MULTILINE,
)


def normalised(dump: str) -> str:
    """A dump without what differs between two dumps of one schema."""
    quiet = _NOISE.sub("", dump)
    return HEADER + "\n" + re.sub(r"\n{3,}", "\n\n", quiet).strip() + "\n"


def dump(dsn: str, password_file: Path, programs: Path) -> str:
    """The schema of a database by the `pg_dump` in `programs`, normalised."""
    with tempfile.TemporaryDirectory() as folder:
        passes = Path(folder) / "pgpass"
        write_new_secret(passes, f"*:*:*:*:{embedded.read_password(password_file)}")
        schemas = ["--schema=public", "--schema=mana_ai", "--schema=auth"]
        done = subprocess.run(
            [programs / "pg_dump", "--schema-only", *schemas, dsn],
            env={"PGPASSFILE": str(passes), "PATH": os.defpath},
            capture_output=True,
            text=True,
            check=True,
        )
    return normalised(done.stdout)


def fresh_dump() -> str:
    """The schema of a new database on a server of our own, started and stopped for it."""
    programs = next(one for one in wheel_binaries() if one.major == DUMPED_BY)
    with tempfile.TemporaryDirectory(prefix="mana-schema-") as folder:
        root = Path(folder)
        root.chmod(0o711)
        server = embedded.start(root, progress=lambda _: None, major=DUMPED_BY)
        try:
            owner = server.secret(LOG_OWNER)
            password = embedded.read_password(owner)
            work = migrate(server.dsn(LOG_OWNER), secrets_dir=owner.parent, password=password)
            asyncio.run(work)
            return dump(server.dsn("postgres"), server.password_file, programs.folder)
        finally:
            embedded.stop(root, mode="immediate")


if __name__ == "__main__":
    SCHEMA_FILE.write_text(fresh_dump(), "utf-8")
