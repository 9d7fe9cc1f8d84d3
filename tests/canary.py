"""Where a text or a key can be found: in files, processes, tables and answers of a running node.

A needle is looked for as it may lie around: as UTF-8 (ASCII needles survive JSON and URLs as they
are), in the wider forms in which Python and others keep text, in base64 at all three offsets, and
as hex, which is how tables show bytes.
"""

import base64
import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import asyncpg
import msgspec

CHUNK_BYTES = 16 * 1024 * 1024
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_PRESENT_OR_SWAPPED = 0b11 << 62
ENDED = (FileNotFoundError, ProcessLookupError)
"""What /proc says of a process that is no more."""

TABLES = """
SELECT n.nspname, c.relname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'm') AND n.nspname <> 'pg_toast' ORDER BY 1, 2"""


class Needle(msgspec.Struct, frozen=True):
    """Something to look for, in all its forms."""

    name: str
    forms: tuple[bytes, ...]


class Hit(msgspec.Struct, frozen=True, order=True):
    """What was found where."""

    needle: str
    place: str


def text_needle(name: str, text: str) -> Needle:
    """A text; ASCII only, so that no escape changes it."""
    plain = text.encode("ascii")
    wide = (text.encode("utf-16-le"), text.encode("utf-16-be"), text.encode("utf-32-le"))
    return Needle(name, (plain, *wide, plain.hex().encode(), *_base64_forms(plain)))


def key_needle(name: str, key: bytes) -> Needle:
    """Key material."""
    return Needle(name, (key, key.hex().encode(), *_base64_forms(key)))


def _base64_forms(plain: bytes) -> Iterator[bytes]:
    """What is in every base64 text whose bytes hold `plain`, however many are before it."""
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + plain)
        first, last = -(-before * 8 // 6), (before + len(plain)) * 8 // 6
        yield encoded[first:last]
        yield encoded[first:last].translate(bytes.maketrans(b"+/", b"-_"))


def found(needles: Iterable[Needle], place: str, data: bytes) -> set[Hit]:
    """The needles that `data` holds."""
    return {
        Hit(needle.name, place) for needle in needles if any(form in data for form in needle.forms)
    }


# --- files ----------------------------------------------------------------------------------------


def in_files(needles: Sequence[Needle], places: Iterable[Path]) -> set[Hit]:
    """These files and those below these folders, with their names; a place is a path."""
    hits: set[Hit] = set()
    for path in (path for place in places for path in (place, *sorted(place.rglob("*")))):
        hits |= found(needles, str(path), os.fsencode(path))
        if path.is_file() and not path.is_symlink():
            with contextlib.suppress(FileNotFoundError):  # removed since it was listed
                hits |= found(needles, str(path), path.read_bytes())
    return hits


# --- processes ------------------------------------------------------------------------------------


def in_surroundings(needles: Sequence[Needle], pid: int) -> set[Hit]:
    """Environment and arguments of a process, which others of its account see; ended: nothing."""
    hits: set[Hit] = set()
    for name in ("environ", "cmdline"):
        hits |= found(needles, f"{name} of {pid}", shown_of(pid, name))
    return hits


def shown_of(pid: int, name: str) -> bytes:
    """A file of a process in /proc; ended: nothing."""
    with contextlib.suppress(*ENDED):
        return Path(f"/proc/{pid}/{name}").read_bytes()
    return b""


def in_memory(needles: Sequence[Needle], pid: int) -> set[str]:
    """Names of the needles in a process's memory, freed and shared parts included; ended: none."""
    overlap = max(len(form) for needle in needles for form in needle.forms)
    names: set[str] = set()
    with contextlib.suppress(*ENDED):
        for data in _memory(pid, overlap):
            names |= {hit.needle for hit in found(needles, "", data)}
    return names


def _memory(pid: int, overlap: int) -> Iterator[bytes]:
    """All that could hold data, in pieces that overlap."""
    with (
        Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory,
        Path(f"/proc/{pid}/pagemap").open("rb", buffering=0) as pages,
    ):
        for first, last in _mappings(pid):
            for begin, end in _resident(pages.fileno(), first, last):
                for at in range(begin, end, CHUNK_BYTES):
                    size = min(CHUNK_BYTES + overlap, end - at)
                    yield _read(memory.fileno(), at, size)


def _mappings(pid: int) -> Iterator[tuple[int, int]]:
    """Mappings of a process, but for files that it only reads."""
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        area, rights, _, _, _, *named = line.split(maxsplit=5)
        path = named[0] if named else ""
        is_a_file = path.startswith("/") and not path.startswith("/dev/shm/")
        if rights[0] == "r" and not (is_a_file and rights[1] == "-") and path != "[vvar]":
            first, _, last = area.partition("-")
            yield int(first, 16), int(last, 16)


def _resident(pages: int, first: int, last: int) -> Iterator[tuple[int, int]]:
    """The parts of a mapping that were ever touched."""
    count = (last - first) // PAGE_BYTES
    entries = memoryview(os.pread(pages, count * 8, first // PAGE_BYTES * 8)).cast("Q")
    begin = None
    for place, entry in enumerate([*entries, 0]):
        is_there = bool(entry & _PRESENT_OR_SWAPPED)
        if is_there and begin is None:
            begin = place
        elif not is_there and begin is not None:
            yield first + begin * PAGE_BYTES, first + place * PAGE_BYTES
            begin = None


def _read(memory: int, at: int, size: int) -> bytes:
    try:
        return os.pread(memory, size, at)
    except OSError:  # unmapped since it was listed, or a device's
        return b""


# --- the database ---------------------------------------------------------------------------------


async def in_tables(needles: Sequence[Needle], admin: asyncpg.Connection) -> set[Hit]:
    """Rows of every table of every schema, the catalogue's own included, and statements on show."""
    hits: set[Hit] = set()
    for schema, table in await admin.fetch(TABLES):
        rows = await admin.fetch(f'SELECT t::text FROM "{schema}"."{table}" AS t')
        place = f"{schema}.{table}"
        hits |= {hit for (row,) in rows for hit in found(needles, place, str(row).encode())}
    activity = await admin.fetch("SELECT a::text FROM pg_stat_activity AS a")
    return hits | {hit for (row,) in activity for hit in found(needles, "activity", row.encode())}
