"""What reading texts of strangers costs: each pattern and function with its own worst input."""

from tests.bench.figures import Figure, Say
from tests.growth.subjects import subjects
from tests.growth.trial import tried


async def measure(say: Say, *, quick: bool) -> list[Figure]:
    """One row for each: 100 kB beside 10 kB of the input that is dearest; linear is 10."""
    found: dict[str, Figure] = {}
    for subject in subjects():
        grown = tried(*subject)
        if grown.guilty:
            say(f"{grown.name}: {grown.guilty}")
        row = Figure(
            name=grown.name,
            value=grown.middle_ms,
            unit="ms",
            beside="10 kB, here 100 kB",
            other=grown.small_ms,
            ratio=grown.middle_ms / grown.small_ms if grown.small_ms else None,
            target="in line",
            met=not grown.guilty,
        )
        dearest = found.get(grown.name)
        if dearest is None or (dearest.met and (grown.guilty or dearest.value < row.value)):
            found[grown.name] = row  # rows of one table of patterns are one line
    return sorted(found.values(), key=lambda row: -row.value)[: 20 if quick else None]
