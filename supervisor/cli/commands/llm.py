"""`mana llm`: which models serve which alias, how providers are, and whether an alias answers."""
# ruff: noqa: PLC0415 - a command imports what it needs when called, so that each answers at once

from datetime import UTC, datetime
from typing import Any

import typer

from supervisor.cli.failures import FAILED
from supervisor.cli.options import AsJson, DataDir, Url, gateway_of

_TEST_S = 75.0

app = typer.Typer(help="The models behind the aliases.", no_args_is_help=True)


@app.command()
def status(*, data_dir: DataDir = None, url: Url = None, as_json: AsJson = False) -> None:
    """Aliases and their chains, and the health of providers; exit 1 when something is wrong."""
    from supervisor.cli import output

    told = gateway_of(url, data_dir).get("/internal/llm")
    if as_json:
        output.json_out(told)
    else:
        output.line_out(f"{told['status']}: {told['source']} at {told['url']}")
        if told["problem"]:
            output.line_out(f"  not reloaded, the old state stays: {told['problem']}")
        output.table_out(output.ALIASES, told["aliases"], "no aliases")
        models = [each for each in told.get("models", []) if each.get("abilities") is not None]
        if models:
            output.table_out(output.MODELS, models, "no models")
        for each in told.get("warnings", []):
            output.line_out(f"warning: {each}")
        rows: list[dict[str, Any]] = []
        for name, health in told["providers"].items():
            ends = health["unhealthy_until_unix"]
            at = None if ends is None else datetime.fromtimestamp(ends, UTC).isoformat()
            rows.append({"provider": name, "until": output.local_time(at)} | health)
        output.table_out(output.PROVIDERS, rows, "no provider is configured")
    is_well = told["status"] == "healthy" and not told["problem"]
    raise typer.Exit(0 if is_well else FAILED)


@app.command("test")
def ask(alias: str, *, data_dir: DataDir = None, url: Url = None, as_json: AsJson = False) -> None:
    """Ask an alias or a model one tiny question; exit 1 with the reason when nobody answers."""
    from supervisor.cli import output

    gateway = gateway_of(url, data_dir)
    told: dict[str, Any] = gateway.call(
        "POST", "/internal/llm/test", content={"model": alias}, timeout_s=_TEST_S
    )
    if as_json:
        output.json_out(told)
    elif told["ok"]:
        tokens = f"{told['prompt_tokens'] or 0}+{told['completion_tokens'] or 0} tokens"
        took = f"{told['latency_ms']:.0f} ms"
        output.line_out(f"{alias}: {told['resolved']} ({told['exposure']}), {tokens}, {took}")
        if "calls_tools" in told:
            called = (
                "calls tools" if told["calls_tools"] else "did not call the tool it was told to"
            )
            output.line_out(f"  it {called}; its context and price: mana llm status")
        for each in told.get("warnings", []):
            output.line_out(f"  warning: {each}")
    else:
        output.line_out(f"{alias}: {told['kind']}: {told['error']}")
    raise typer.Exit(0 if told["ok"] else FAILED)
