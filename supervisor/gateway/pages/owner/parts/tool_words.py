"""What modules, tools and their parameters are called, in the reader's words. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from supervisor.gateway.pages.reader import Reader
from supervisor.gateway.pages.translations import translations_of


def N_(text: str) -> str:  # noqa: N802  # what catalogues' tools look for
    """Marks a text of a table for the catalogues; whoever shows it says it in a language."""
    return text


MODULES = {
    "articles": N_("Articles"),
    "augur": N_("Signs"),
    "broadcast": N_("Newsletters"),
    "calendar": N_("Calendar"),
    "comic": N_("Comics"),
    "contacts": N_("Contacts"),
    "drink": N_("Drinks"),
    "events": N_("Events nearby"),
    "finance": N_("Money"),
    "food": N_("Food"),
    "goals": N_("Goals"),
    "habits": N_("Habits"),
    "invoices": N_("Invoices"),
    "journal": N_("Journal"),
    "kontext": N_("Context document"),
    "lasts": N_("Last times"),
    "library": N_("Library"),
    "mood": N_("Mood"),
    "myday": N_("My day"),
    "news": N_("News"),
    "news-research": N_("News research"),
    "notes": N_("Notes"),
    "places": N_("Places"),
    "profile": N_("Profile"),
    "quiz": N_("Quizzes"),
    "times": N_("Time tracking"),
    "todo": N_("Tasks"),
    "website": N_("Websites"),
    "wetter": N_("Weather"),
    "writing": N_("Writing"),
}

ANOTHER = {"another": N_("a tool that is none")}
"""Who asked for it made the name up."""

VERBS = {
    "create_task": N_("Create a task"),
    "complete_task": N_("Complete a task"),
    "complete_tasks_by_title": N_("Complete tasks by their title"),
    "create_event": N_("Create an event"),
    "create_note": N_("Write a note"),
    "update_note": N_("Change a note"),
    "append_to_note": N_("Add to a note"),
    "add_tag_to_note": N_("Tag a note"),
    "create_journal_entry": N_("Write in the journal"),
    "create_goal": N_("Set a goal"),
    "pause_goal": N_("Pause a goal"),
    "resume_goal": N_("Take a goal up again"),
    "complete_goal": N_("Complete a goal"),
    "create_contact": N_("Add a contact"),
    "create_place": N_("Add a place"),
    "visit_place": N_("Note a visit"),
    "create_habit": N_("Begin a habit"),
    "log_habit": N_("Log a habit"),
    "log_mood": N_("Log a mood"),
    "add_transaction": N_("Add a transaction"),
    "undo_drink": N_("Remove the last drink"),
    "save_article": N_("Save an article"),
    "archive_article": N_("Archive an article"),
    "tag_article": N_("Tag an article"),
    "add_article_highlight": N_("Highlight in an article"),
    "import_articles_from_urls": N_("Import articles"),
    "list_articles": N_("Read the articles"),
    "capture_sign": N_("Note a sign"),
    "resolve_sign": N_("Resolve a sign"),
    "list_open_signs": N_("Read the open signs"),
    "consult_oracle": N_("Consult the oracle"),
    "augur_year_recap": N_("Look back at the year's signs"),
    "create_campaign_draft": N_("Draft a newsletter"),
    "list_campaigns": N_("Read the newsletters"),
    "get_campaign_stats": N_("Read a newsletter's numbers"),
    "get_todays_events": N_("Read today's events"),
    "list_comic_stories": N_("Read the comics"),
    "create_comic_story": N_("Begin a comic"),
    "generate_comic_panel": N_("Draw a panel"),
    "list_comic_characters": N_("Read the comic characters"),
    "create_comic_character": N_("Make a comic character"),
    "generate_character_variant": N_("Draw a character anew"),
    "pin_character_variant": N_("Choose a character's look"),
    "get_contacts": N_("Read the contacts"),
    "get_drink_progress": N_("Read what was drunk"),
    "log_drink": N_("Log a drink"),
    "discover_events": N_("Look for events"),
    "suggest_event": N_("Suggest an event"),
    "get_month_summary": N_("Read the month in numbers"),
    "list_transactions": N_("Read the transactions"),
    "nutrition_summary": N_("Read what was eaten"),
    "log_meal": N_("Log a meal"),
    "list_goals": N_("Read the goals"),
    "get_goal_progress": N_("Read how a goal goes"),
    "get_habits": N_("Read the habits"),
    "create_invoice": N_("Write an invoice"),
    "mark_invoice_paid": N_("Mark an invoice as paid"),
    "list_invoices": N_("Read the invoices"),
    "get_invoice_stats": N_("Read the invoices in numbers"),
    "create_last": N_("Note a last time"),
    "confirm_last": N_("Confirm a last time"),
    "reclaim_last": N_("Take a last time back"),
    "list_lasts": N_("Read the last times"),
    "suggest_lasts": N_("Find likely last times"),
    "create_library_entry": N_("Add to the library"),
    "update_library_entry_status": N_("Change where a library entry stands"),
    "rate_library_entry": N_("Rate a library entry"),
    "list_library_entries": N_("Read the library"),
    "get_mood_today": N_("Read today's mood"),
    "get_mood_insights": N_("Read how moods went"),
    "get_myday_summary": N_("Read the day in short"),
    "save_news_article": N_("Save a news article"),
    "research_news": N_("Research the news"),
    "list_notes": N_("Read the notes"),
    "get_places": N_("Read the places"),
    "get_current_location": N_("Read where you are"),
    "create_quiz": N_("Make a quiz"),
    "update_quiz": N_("Change a quiz"),
    "add_quiz_question": N_("Add a question"),
    "update_quiz_question": N_("Change a question"),
    "delete_quiz_question": N_("Delete a question"),
    "list_quizzes": N_("Read the quizzes"),
    "get_quiz_questions": N_("Read a quiz's questions"),
    "get_quiz_stats": N_("Read a quiz's numbers"),
    "start_timer": N_("Start the timer"),
    "stop_timer": N_("Stop the timer"),
    "get_timer_status": N_("Read the timer"),
    "get_time_stats": N_("Read the tracked time"),
    "list_projects": N_("Read the projects"),
    "get_task_stats": N_("Read the tasks in numbers"),
    "list_tasks": N_("Read the tasks"),
    "create_website": N_("Make a website"),
    "apply_website_template": N_("Apply a website's template"),
    "create_website_page": N_("Add a page to a website"),
    "add_website_block": N_("Add to a website's page"),
    "update_website_block": N_("Change a website's page"),
    "publish_website": N_("Publish a website"),
    "list_websites": N_("Read the websites"),
    "list_website_pages": N_("Read a website's pages"),
    "list_website_blocks": N_("Read what is on a website's page"),
    "get_weather": N_("Read the weather"),
    "get_rain_forecast": N_("Read when it rains"),
    "list_drafts": N_("Read the drafts"),
    "get_draft": N_("Read a draft"),
    "list_writing_styles": N_("Read the writing styles"),
    "create_draft": N_("Begin a draft"),
    "generate_draft_content": N_("Write a draft"),
    "refine_draft_selection": N_("Improve a passage of a draft"),
    "set_draft_status": N_("Change where a draft stands"),
    "save_draft_as_article": N_("Save a draft as an article"),
}

LABELS = {
    "title": N_("Title"),
    "name": N_("Name"),
    "description": N_("Description"),
    "dueDate": N_("Due"),
    "priority": N_("Priority"),
    "content": N_("Text"),
    "startTime": N_("From"),
    "endTime": N_("Until"),
    "isAllDay": N_("All day"),
    "location": N_("Where"),
    "level": N_("Level"),
    "emotion": N_("Mood"),
    "activity": N_("While"),
    "notes": N_("Notes"),
    "note": N_("Note"),
    "tag": N_("Tag"),
    "amount": N_("Amount"),
    "date": N_("Date"),
    "type": N_("Kind"),
    "email": N_("E-mail"),
    "phone": N_("Phone"),
    "company": N_("Company"),
    "period": N_("Period"),
    "targetValue": N_("Target"),
    "address": N_("Address"),
    "category": N_("Category"),
    "color": N_("Colour"),
    "currency": N_("Currency"),
    "icon": N_("Icon"),
    "language": N_("Language"),
    "status": N_("Where it stands"),
    "tags": N_("Tags"),
    "tagName": N_("Tag"),
    "topic": N_("Topic"),
    "url": N_("Address on the web"),
    "urls": N_("Addresses on the web"),
    "subject": N_("Subject"),
    "summary": N_("Summary"),
    "source": N_("Source"),
    "rating": N_("Rating"),
    "reason": N_("Reason"),
    "kind": N_("Kind"),
    "limit": N_("At most"),
    "query": N_("Search for"),
    "month": N_("Month"),
    "year": N_("Year"),
    "days": N_("Days"),
    "mealType": N_("Meal"),
    "drinkType": N_("Drink"),
    "quantityMl": N_("Amount in ml"),
    "calories": N_("Calories"),
    "protein": N_("Protein"),
    "firstName": N_("First name"),
    "lastName": N_("Last name"),
    "clientName": N_("Client"),
    "clientEmail": N_("Client's e-mail"),
    "clientAddress": N_("Client's address"),
    "lines": N_("Lines"),
    "paidAt": N_("Paid on"),
    "audience": N_("For whom"),
    "tone": N_("Tone"),
    "style": N_("Style"),
    "text": N_("Text"),
    "questionText": N_("Question"),
    "optionsJson": N_("Answers to choose from"),
    "explanation": N_("Explanation"),
    "genres": N_("Genres"),
    "creators": N_("By"),
    "claim": N_("What is foreseen"),
    "probability": N_("Probability"),
    "outcome": N_("Outcome"),
    "meaning": N_("Meaning"),
    "titleMatch": N_("Titles with"),
    "isPinned": N_("Pinned"),
    "caption": N_("Caption"),
    "dialogue": N_("Dialogue"),
    "instruction": N_("Instruction"),
    "slug": N_("Short name in the address"),
    "targetWords": N_("Length in words"),
    "targetLanguage": N_("Into which language"),
}


def module_said(module: str, reader: Reader) -> str:
    """What a module is called; one that nobody knows keeps its name."""
    return _said(MODULES.get(module), reader) or module.replace("-", " ").capitalize()


def verb_of(tool: str, reader: Reader) -> str:
    """What a tool does, in words."""
    return _said(VERBS.get(tool), reader) or tool.replace("_", " ").capitalize()


def tools_said(tools: Sequence[str], reader: Reader) -> str:
    """What an answer called, in words: each once, with how often."""
    counts = Counter(tools)
    named = (
        (_said(ANOTHER.get(tool), reader) or verb_of(tool, reader), counts[tool]) for tool in counts
    )
    return ", ".join(f"{verb} \u00d7{count}" if count > 1 else verb for verb, count in named)


def label_of(name: str, reader: Reader) -> str:
    """What a parameter is called, in words."""
    return _said(LABELS.get(name), reader) or re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).capitalize()


def _said(text: str | None, reader: Reader) -> str | None:
    return None if text is None else translations_of(reader.language).gettext(text)
