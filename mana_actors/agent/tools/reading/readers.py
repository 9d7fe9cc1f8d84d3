"""What each reading tool tells of the records it sees. Fields that are absent are left out.

A tool is here if what its records look like is known; the table is in `state.log.tables`.
"""

from datetime import date

from mana_actors.agent.tools.reading.answer import NOTHING, Answer, Question, Reader, listed
from mana_actors.agent.tools.reading.records import Records
from mana_actors.agent.tools.reading.values import (
    day_of,
    number,
    part,
    readable_text,
    shown,
    shown_value,
)
from mana_actors.json_values import JsonObject

_NEVER = date.max


def list_tasks(records: Records, asked: Question) -> Answer:
    """Tasks by due date; open ones unless another filter is given."""
    wanted = asked.text("filter", "open")
    tasks = [task for task in records.found if _is_task(task, wanted, asked)]
    tasks.sort(key=lambda task: day_of(task.get("dueDate"), asked.zone) or _NEVER)
    fields = ("title", "dueDate", "priority", "isCompleted")
    return listed([shown(task, fields) for task in tasks], asked.limit(20), records)


def get_task_stats(records: Records, asked: Question) -> Answer:
    """How many tasks there are of each kind."""
    kinds = ("all", "open", "completed", "overdue", "today")
    counts = {kind: sum(_is_task(t, kind, asked) for t in records.found) for kind in kinds}
    return Answer(_of(records, "tasks"), counts)


def _is_task(task: JsonObject, wanted: str, asked: Question) -> bool:
    is_done = task.get("isCompleted") is True
    due = day_of(task.get("dueDate"), asked.zone)
    match wanted:
        case "completed":
            return is_done
        case "overdue":
            return not is_done and due is not None and due < asked.today
        case "today":
            return not is_done and due == asked.today
        case "open":
            return not is_done
        case _:
            return True


def list_notes(records: Records, asked: Question) -> Answer:
    """Notes, the latest changed first: id, title, beginning of the text."""
    with_archived = asked.arguments.get("includeArchived") is True
    notes = [
        note
        for note in records.found
        if (with_archived or note.get("isArchived") is not True)
        and _mentions(note, ("title", "content"), asked.text("query"))
    ]
    return listed([shown(n, ("title", "content")) for n in notes], asked.limit(30), records)


def _mentions(record: JsonObject, fields: tuple[str, ...], query: str) -> bool:
    """Whether a readable field holds `query`; sealed ones cannot be searched."""
    words = query.strip().lower()
    return not words or any(words in readable_text(record.get(field)) for field in fields)


def list_goals(records: Records, asked: Question) -> Answer:
    """Goals with how far they have come."""
    wanted = asked.text("filter", "all")
    goals = [
        _goal(goal)
        for goal in records.found
        if wanted in ("all", shown_value(goal.get("status")) or "active")
    ]
    return listed(goals, asked.limit(30), records)


def get_goal_progress(records: Records, asked: Question) -> Answer:
    """One goal, known by its id."""
    wanted = asked.text("goalId")
    goal = next((_goal(g) for g in records.found if g["id"] == wanted), None)
    if goal is None:
        return Answer("There is no such goal among the records that this run may read.", ok=False)
    return Answer("Progress of the goal.", goal, (goal["id"],))


def _goal(goal: JsonObject) -> JsonObject:
    target = part(goal, "target")
    extra = {
        "target": shown_value(target.get("value")),
        "period": shown_value(target.get("period")),
    }
    basics = shown(goal, ("title", "status", "currentValue"))
    return {**basics, **{name: value for name, value in extra.items() if value != ""}}


def get_habits(records: Records, asked: Question) -> Answer:
    """Habits that are being tracked."""
    return _every(records, asked, ("title", "icon", "color"))


def get_contacts(records: Records, asked: Question) -> Answer:
    """The address book."""
    return _every(records, asked, ("firstName", "lastName", "email", "phone", "company"))


def get_places(records: Records, asked: Question) -> Answer:
    """Remembered places."""
    return _every(records, asked, ("name", "category", "address", "latitude", "longitude"))


def _every(records: Records, asked: Question, fields: tuple[str, ...]) -> Answer:
    return listed([shown(record, fields) for record in records.found], asked.limit(100), records)


def list_articles(records: Records, asked: Question) -> Answer:
    """Saved articles, the latest changed first."""
    wanted, query = asked.text("status", "all"), asked.text("query")
    fields = ("title", "siteName", "status", "readingTimeMinutes", "originalUrl", "excerpt")
    articles = [
        shown(article, fields)
        for article in records.found
        if wanted in ("all", article.get("status"))
        and _mentions(article, ("title", "excerpt", "siteName"), query)
    ]
    return listed(articles, asked.limit(30), records)


def list_transactions(records: Records, asked: Question) -> Answer:
    """Money earned and spent, the latest day first."""
    entries = [
        entry
        for entry in records.found
        if asked.text("type", str(entry.get("type"))) == str(entry.get("type"))
        and _in_month(entry, asked.text("month"), asked)
    ]
    entries.sort(key=lambda e: day_of(e.get("date"), asked.zone) or date.min, reverse=True)
    fields = ("type", "amount", "description", "date", "category")
    return listed([shown(entry, fields) for entry in entries], asked.limit(20), records)


def get_month_summary(records: Records, asked: Question) -> Answer:
    """Income, expenses and balance of a month, and expenses by category."""
    month = asked.text("month", f"{asked.today:%Y-%m}")
    entries = [entry for entry in records.found if _in_month(entry, month, asked)]
    income, expenses = _sum(entries, "income"), _sum(entries, "expense")
    spent = [entry for entry in entries if entry.get("type") == "expense"]
    categories = list(dict.fromkeys(_category(entry) for entry in spent))[:50]
    by_category = {
        name: _sum([entry for entry in spent if _category(entry) == name], "expense")
        for name in categories
    }
    totals = {"month": month, "income": income, "expenses": expenses}
    unread = sum(number(entry.get("amount")) is None for entry in entries)
    data = {
        **totals,
        "balance": round(income - expenses, 2),
        "expensesByCategory": by_category,
        "entries": len(entries),
        **({"entriesWithUnreadableAmount": unread} if unread else {}),
    }
    return Answer(_of(records, "entries"), data)


def _in_month(entry: JsonObject, month: str, asked: Question) -> bool:
    day = day_of(entry.get("date"), asked.zone)
    return not month or (day is not None and f"{day:%Y-%m}" == month)


def _sum(entries: list[JsonObject], kind: str) -> float:
    return round(sum(number(e.get("amount")) or 0 for e in entries if e.get("type") == kind), 2)


def _category(entry: JsonObject) -> str:
    return str(shown_value(entry.get("category")) or "none")


def _of(records: Records, what: str) -> str:
    if not records.found:
        return NOTHING
    left_out = f"; {records.left_out} more could not be read" if records.left_out else ""
    return f"Counted over {len(records.found)} {what}{left_out}."


READERS: dict[str, Reader] = {
    "list_tasks": list_tasks,
    "get_task_stats": get_task_stats,
    "list_notes": list_notes,
    "list_goals": list_goals,
    "get_goal_progress": get_goal_progress,
    "get_habits": get_habits,
    "get_contacts": get_contacts,
    "get_places": get_places,
    "list_articles": list_articles,
    "list_transactions": list_transactions,
    "get_month_summary": get_month_summary,
}
"""By tool; none has a side effect, so they may run together and again."""
