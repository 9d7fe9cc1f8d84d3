"""Every reason that an owner or operator reads: what happened, and what they can do.

Each entry is what happened, what happens next (a key of `NEXT`) and what they can do, in English
and in German. What stands in braces is filled in. The English of what happened is what rows keep.
"""

from typing import Literal

Next = Literal["next-run", "again", "by-itself", "your-turn", "goes-on", "done"]

NEXT: dict[Next, tuple[str, str]] = {
    "next-run": (
        "The mission runs again at its next time.",
        "Die Mission läuft wieder zu ihrem nächsten Termin.",
    ),
    "again": (
        "It is tried again by itself a few times; then the mission waits for its next time.",
        (
            "Es wird von selbst einige Male wieder versucht; danach wartet die Mission auf ihren"
            " nächsten Termin."
        ),
    ),
    "by-itself": (
        "It goes on by itself as soon as that is over.",
        "Es geht von selbst weiter, sobald das vorbei ist.",
    ),
    "your-turn": (
        "It waits until that is changed, and then runs at once.",
        "Die Mission wartet, bis das geändert ist, und läuft dann sofort.",
    ),
    "goes-on": (
        "What was planned so far is kept.",
        "Was bis dahin geplant war, bleibt erhalten.",
    ),
    "done": ("Nothing more happens for this time.", "Für diesen Termin geschieht nichts weiter."),
}

OPERATOR = (
    "If it lasts, tell who runs this server.",
    "Wenn es so bleibt, sag es dem Betreiber dieses Servers.",
)
NOTHING = ("Nothing has to be done.", "Es ist nichts zu tun.")
SETTING = (
    "Who runs this server finds the cause with `mana llm status` and `mana llm test`.",
    "Wer diesen Server betreibt, findet die Ursache mit `mana llm status` und `mana llm test`.",
)
SHORTER = (
    "Give the mission fewer or shorter inputs, or choose a model with more room.",
    "Gib der Mission weniger oder kürzere Eingaben, oder wähle ein Modell, in das mehr passt.",
)
CAP = (
    "Raise the limit, or let the mission run less often.",
    "Erhöhe das Limit, oder lass die Mission seltener laufen.",
)
GRANT = ("Grant the access anew in the app.", "Erteile den Zugriff in der App neu.")
OPEN_APP = ("Open the app once.", "Öffne die App einmal.")
REWORD = (
    "Word the mission's title, objective or concept differently, or look at its inputs.",
    "Formuliere Titel, Ziel oder Konzept der Mission anders, oder sieh dir ihre Eingaben an.",
)
TRY_AGAIN = (
    "Run the mission again, or choose another model.",
    "Starte die Mission noch einmal, oder wähle ein anderes Modell.",
)
SMALLER = (
    "Divide the mission into smaller ones, or run it again.",
    "Teile die Mission in kleinere auf, oder starte sie noch einmal.",
)
RESUME_AGENT = (
    "Resume the agent, if it shall run.",
    "Setze den Agenten fort, wenn er laufen soll.",
)

Entry = tuple[str, str, Next, tuple[str, str]]
ReasonCode = Literal[
    # why a mission that is due does not run
    "left-space", "unreadable", "missing-agent", "agent-of-another", "agent-archived",
    "agent-paused", "agent-busy", "agent-taken", "user-busy", "budget-zero",
    "budget-used", "limit-used", "browser-runs", "disk-full", "inputs-too-many", "agent-barred",
    "slot-missed",
    "room-above-cap", "room-left", "room-of-others",
    # why a run is withdrawn
    "mission-deleted", "mission-state", "mission-moved-agent", "agent-deleted", "agent-state",
    "browser-served", "slot-moved", "cancelled", "cancelled-by-owner",
    # why encrypted inputs cannot be read
    "no-grant", "grant-older-than-input", "grant-narrower", "grant-ended-amid", "grant-expired",
    "grant-malformed", "grant-gone", "grant-not-configured", "grant-rejected", "key-too-often",
    "copies-absent", "copies-stale", "copies-not-opened", "key-holder-silent",
    # why there is no plan
    "process-died", "always-changing", "not-storable", "empty", "empty-rounds", "empty-cut",
    "empty-filtered", "empty-unread", "refused", "inputs-too-long", "too-many-steps",
    "field-missing",
    # what a plan lacks
    "cut-rounds", "cut-length", "cut-filtered", "cut-budget", "cut-empty", "cut-refused",
    "cut-torn", "cut-unread", "cut-dropped", "undone-twice",
    # what became of a model call
    "model-unconfigured", "model-settings", "model-unreachable", "model-network", "model-timeout",
    "model-broken", "model-overloaded", "model-rate-limit", "model-auth", "model-quota",
    "model-missing-model", "model-capability", "model-too-long", "model-too-long-by",
    "model-too-large", "model-refused", "model-malformed", "model-blocked",
    "model-invalid-answer", "model-failed-answer", "model-truncated", "model-exposure",
    "model-no-healthy-provider", "model-lacks-tools", "model-lacks-images",
    "model-lacks-parameter", "model-lacks-token-limit-name", "model-lacks-output-limit",
    "model-lacks-system-first", "model-lacks-call-ids", "model-lacks-reasoning",
    "model-lacks-schema", "model-lacks-context",
]  # fmt: skip

WORDS: dict[ReasonCode, Entry] = {
    "left-space": (
        "the mission is in a shared space that you are no member of any more",
        "die Mission liegt in einem geteilten Raum, in dem du nicht mehr Mitglied bist",
        "your-turn",
        (
            "Make it anew in a space of yours, or have yourself added again.",
            "Lege sie in einem eigenen Raum neu an, oder lass dich wieder aufnehmen.",
        ),
    ),
    "unreadable": (
        "title, objective or concept is encrypted and cannot be read here",
        "Titel, Ziel oder Konzept ist verschlüsselt und hier nicht lesbar",
        "your-turn",
        (
            "Save the mission's texts unencrypted, if it shall run here.",
            "Speichere die Texte der Mission unverschlüsselt, wenn sie hier laufen soll.",
        ),
    ),
    "missing-agent": (
        "the mission's agent is deleted or unknown",
        "der Agent der Mission ist gelöscht oder unbekannt",
        "your-turn",
        ("Give the mission another agent.", "Gib der Mission einen anderen Agenten."),
    ),
    "agent-of-another": (
        "the mission's agent is another member's, and agents run only for their own maker",
        "der Agent der Mission gehört einem anderen Mitglied, und Agenten laufen nur für dieses",
        "your-turn",
        (
            "Give the mission an agent of your own, or let that member make the mission.",
            "Gib der Mission einen eigenen Agenten, oder lass das andere Mitglied sie anlegen.",
        ),
    ),
    "agent-archived": (
        "the agent is archived",
        "der Agent ist archiviert",
        "your-turn",
        (
            "Take the agent out of the archive, or give the mission another one.",
            "Hol den Agenten aus dem Archiv, oder gib der Mission einen anderen.",
        ),
    ),
    "agent-paused": ("the agent is paused", "der Agent pausiert", "your-turn", RESUME_AGENT),
    "agent-busy": (
        "{running} of {places} missions of this agent are running",
        "{running} von {places} Missionen dieses Agenten laufen",
        "by-itself",
        (
            "Let the agent run more missions at once, if it should not wait.",
            "Lass den Agenten mehr Missionen zugleich ausführen, wenn sie nicht warten soll.",
        ),
    ),
    "agent-taken": (
        "another mission of this agent is running",
        "eine andere Mission dieses Agenten läuft",
        "by-itself",
        NOTHING,
    ),
    "user-busy": (
        "as many runs of this user are under way as one user may have",
        "es laufen so viele Missionen dieser Person, wie zugleich laufen dürfen",
        "by-itself",
        NOTHING,
    ),
    "budget-zero": (
        "the agent's daily token budget is 0",
        "das tägliche Token-Budget des Agenten ist 0",
        "your-turn",
        ("Give the agent a budget.", "Gib dem Agenten ein Budget."),
    ),
    "budget-used": (
        "{used} of {most} tokens of the last 24 hours are used",
        "{used} von {most} Token der letzten 24 Stunden sind verbraucht",
        "by-itself",
        CAP,
    ),
    "limit-used": (
        "the {scope}'s limit in {unit} is used up for these 24 hours",
        "das Limit ({scope}, {unit}) ist für diese 24 Stunden verbraucht",
        "by-itself",
        CAP,
    ),
    "browser-runs": (
        "a browser is running this mission",
        "ein Browser führt diese Mission gerade aus",
        "by-itself",
        NOTHING,
    ),
    "disk-full": (
        "a disk of this server is nearly full, so nothing begins",
        "eine Platte dieses Servers ist fast voll, deshalb beginnt nichts",
        "by-itself",
        OPERATOR,
    ),
    "inputs-too-many": (
        "the active missions of this agent list more inputs than one agent may read",
        "die aktiven Missionen dieses Agenten nennen mehr Eingaben, als ein Agent lesen darf",
        "your-turn",
        (
            "Take inputs out of its missions, or spread the missions over several agents.",
            "Nimm Eingaben aus seinen Missionen, oder verteile sie auf mehrere Agenten.",
        ),
    ),
    "agent-barred": (
        "this agent held up others twice, so it begins nothing for up to an hour",
        "dieser Agent hat andere zweimal aufgehalten und beginnt bis zu einer Stunde nichts",
        "by-itself",
        OPERATOR,
    ),
    "slot-missed": (
        "nobody could run it in time, and its owner wants no late runs",
        "niemand konnte sie rechtzeitig ausführen, und verspätete Läufe sind nicht gewünscht",
        "by-itself",
        (
            "Let the mission make up for missed runs, if it should.",
            "Lass die Mission verpasste Läufe nachholen, wenn sie das soll.",
        ),
    ),
    "room-above-cap": (
        "one call needs up to {need}, the {scope}'s cap is {most_amount}",
        "ein Aufruf braucht bis zu {need}, das Limit ({scope}) ist {most_amount}",
        "your-turn",
        CAP,
    ),
    "room-left": (
        "one call needs up to {need}, {left} left of the {scope}'s {most_amount} in 24 hours",
        (
            "ein Aufruf braucht bis zu {need}, übrig sind {left} von {most_amount} in 24 Stunden"
            " ({scope})"
        ),
        "by-itself",
        CAP,
    ),
    "room-of-others": (
        "one call needs up to {need}, more than is left of the {scope}'s limit",
        "ein Aufruf braucht bis zu {need}, mehr, als vom Limit ({scope}) übrig ist",
        "by-itself",
        OPERATOR,
    ),
    "mission-deleted": ("the mission was deleted", "die Mission wurde gelöscht", "done", NOTHING),
    "mission-state": (
        "the mission is {state}",
        "die Mission ist nicht aktiv ({state})",
        "done",
        ("Set it to active, if it shall run.", "Setze sie auf aktiv, wenn sie laufen soll."),
    ),
    "mission-moved-agent": (
        "the mission belongs to another agent now",
        "die Mission gehört jetzt einem anderen Agenten",
        "next-run",
        NOTHING,
    ),
    "agent-deleted": (
        "the agent is deleted",
        "der Agent ist gelöscht",
        "your-turn",
        ("Give the mission another agent.", "Gib der Mission einen anderen Agenten."),
    ),
    "agent-state": (
        "the agent is {state}",
        "der Agent ist nicht aktiv ({state})",
        "your-turn",
        RESUME_AGENT,
    ),
    "browser-served": (
        "a browser served this occurrence",
        "ein Browser hat diesen Termin schon erledigt",
        "next-run",
        NOTHING,
    ),
    "slot-moved": (
        "the owner moved the next run",
        "der nächste Termin wurde verschoben",
        "next-run",
        NOTHING,
    ),
    "cancelled": (
        "cancelled by an operator",
        "der Betreiber hat diesen Lauf abgebrochen",
        "next-run",
        (
            "Ask who runs this server, if you want to know why.",
            "Frag den Betreiber, wenn du wissen willst, warum.",
        ),
    ),
    "cancelled-by-owner": (
        "cancelled by its owner",
        "vom Eigentümer abgebrochen",
        "next-run",
        NOTHING,
    ),
    "no-grant": (
        "its encrypted inputs need a grant, and it has none",
        "ihre verschlüsselten Eingaben brauchen eine Freigabe, und es gibt keine",
        "your-turn",
        (
            "Grant the access in the app, or take these inputs out of the mission.",
            "Erteile den Zugriff in der App, oder nimm diese Eingaben aus der Mission.",
        ),
    ),
    "grant-older-than-input": (
        "its grant does not cover {count} of its encrypted inputs",
        "ihre Freigabe gilt nicht für {count} ihrer verschlüsselten Eingaben",
        "your-turn",
        GRANT,
    ),
    "grant-narrower": (
        "its signed grant does not cover all that it lists",
        "ihre unterschriebene Freigabe gilt nicht für alles, was sie nennt",
        "your-turn",
        GRANT,
    ),
    "grant-ended-amid": (
        "its grant ended while its encrypted inputs were being read",
        "ihre Freigabe endete, während ihre verschlüsselten Eingaben gelesen wurden",
        "your-turn",
        GRANT,
    ),
    "grant-expired": ("its grant has ended", "ihre Freigabe ist abgelaufen", "your-turn", GRANT),
    "grant-malformed": (
        "its grant is damaged and cannot be used",
        "ihre Freigabe ist beschädigt und nicht zu gebrauchen",
        "your-turn",
        GRANT,
    ),
    "grant-gone": (
        "its grant is gone",
        "ihre Freigabe ist nicht mehr da",
        "your-turn",
        GRANT,
    ),
    "grant-not-configured": (
        "this server has no key that could open grants",
        "dieser Server hat keinen Schlüssel, der Freigaben öffnen kann",
        "your-turn",
        (
            "Who runs this server makes one with `mana keys new`.",
            "Wer diesen Server betreibt, legt ihn mit `mana keys new` an.",
        ),
    ),
    "grant-rejected": (
        "its grant was made for another key than this server's",
        "ihre Freigabe wurde für einen anderen Schlüssel als den dieses Servers erteilt",
        "your-turn",
        GRANT,
    ),
    "key-too-often": (
        "it asked for the key of its grant too often",
        "der Lauf hat zu oft nach dem Schlüssel der Freigabe gefragt",
        "next-run",
        OPERATOR,
    ),
    "copies-absent": (
        "{count} of its encrypted inputs were not handed over yet: {advice}",
        "{count} ihrer verschlüsselten Eingaben wurden noch nicht übergeben: {advice}",
        "your-turn",
        OPEN_APP,
    ),
    "copies-stale": (
        "{count} of its encrypted inputs changed since they were handed over: {advice}",
        "{count} ihrer verschlüsselten Eingaben haben sich seit der Übergabe geändert: {advice}",
        "your-turn",
        OPEN_APP,
    ),
    "copies-not-opened": (
        "{count} of its encrypted inputs could not be opened: {advice}",
        "{count} ihrer verschlüsselten Eingaben ließen sich nicht öffnen: {advice}",
        "your-turn",
        GRANT,
    ),
    "key-holder-silent": (
        "the key holder did not answer: {trouble}",
        "der Schlüsselhalter hat nicht geantwortet ({trouble})",
        "again",
        (
            "Who runs this server finds the cause with `mana keys check`.",
            "Wer diesen Server betreibt, findet die Ursache mit `mana keys check`.",
        ),
    ),
    "process-died": (
        "its process died {count} times in this run",
        "der Prozess ist in diesem Lauf {count} Mal gestorben",
        "next-run",
        OPERATOR,
    ),
    "always-changing": (
        "the mission was changed again and again while its plan was written",
        "die Mission wurde immer wieder geändert, während ihr Plan geschrieben wurde",
        "again",
        NOTHING,
    ),
    "not-storable": (
        "the plan has something that cannot be stored",
        "der Plan enthält etwas, das sich nicht speichern lässt",
        "next-run",
        TRY_AGAIN,
    ),
    "empty": (
        "the model answered with neither a plan nor a summary",
        "das Modell hat weder einen Plan noch eine Zusammenfassung geliefert",
        "next-run",
        TRY_AGAIN,
    ),
    "empty-rounds": (
        "the model made no call that could be accepted before its rounds were used up",
        "das Modell hat nichts Brauchbares vorgeschlagen, bevor seine Runden verbraucht waren",
        "next-run",
        TRY_AGAIN,
    ),
    "empty-cut": (
        "the model's answer was cut off at its longest before it planned anything",
        "die Antwort des Modells brach bei ihrer größten Länge ab, bevor etwas geplant war",
        "next-run",
        SMALLER,
    ),
    "empty-filtered": (
        "the model service held the answer back because of its content",
        "der Modelldienst hat die Antwort wegen ihres Inhalts zurückgehalten",
        "next-run",
        REWORD,
    ),
    "empty-unread": (
        "the model wrote its calls in a form that could not be read",
        "das Modell hat seine Aufrufe in einer Form geschrieben, die nicht lesbar war",
        "next-run",
        TRY_AGAIN,
    ),
    "refused": ("the model declined", "das Modell hat abgelehnt", "next-run", REWORD),
    "inputs-too-long": (
        "inputs hold {size} characters, {most} are allowed",
        "die Eingaben haben {size} Zeichen, erlaubt sind {most}",
        "next-run",
        SHORTER,
    ),
    "too-many-steps": (
        "plan has {count} steps, {most} are allowed",
        "der Plan hat {count} Schritte, erlaubt sind {most}",
        "next-run",
        SMALLER,
    ),
    "field-missing": (
        "{tool} without {field}",
        "{tool} ohne {field}",
        "next-run",
        TRY_AGAIN,
    ),
    "cut-rounds": (
        "plan cut short: its rounds with the model were used up",
        "Plan unvollständig: Die Runden mit dem Modell waren verbraucht",
        "goes-on",
        SMALLER,
    ),
    "cut-length": (
        "plan cut short: the model's answer was cut off at its longest",
        "Plan unvollständig: Die Antwort des Modells brach bei ihrer größten Länge ab",
        "goes-on",
        SMALLER,
    ),
    "cut-filtered": (
        "plan cut short: the model service held back the rest because of its content",
        "Plan unvollständig: Der Modelldienst hat den Rest wegen seines Inhalts zurückgehalten",
        "goes-on",
        REWORD,
    ),
    "cut-budget": (
        "plan cut short: no tokens were left for another round with the model",
        "Plan unvollständig: Für eine weitere Runde mit dem Modell waren keine Token übrig",
        "goes-on",
        CAP,
    ),
    "cut-empty": (
        "plan cut short: the model said nothing more",
        "Plan unvollständig: Das Modell hat nichts mehr gesagt",
        "goes-on",
        TRY_AGAIN,
    ),
    "cut-refused": (
        "plan cut short: the model declined to go on",
        "Plan unvollständig: Das Modell hat abgelehnt, weiterzumachen",
        "goes-on",
        REWORD,
    ),
    "cut-torn": (
        "plan cut short: an answer broke off amid its calls",
        "Plan unvollständig: Eine Antwort brach mitten in ihren Aufrufen ab",
        "goes-on",
        SMALLER,
    ),
    "cut-unread": (
        "plan cut short: {count} calls could not be read",
        "Plan unvollständig: {count} Aufrufe waren nicht lesbar",
        "goes-on",
        TRY_AGAIN,
    ),
    "cut-dropped": (
        "plan cut short: {count} calls too many",
        "Plan unvollständig: {count} Aufrufe zu viel",
        "goes-on",
        SMALLER,
    ),
    "undone-twice": (
        "undo_drink is in the plan twice",
        "undo_drink steht zweimal im Plan",
        "goes-on",
        ("Look at the plan before you agree.", "Sieh dir den Plan an, bevor du zustimmst."),
    ),
    "model-unconfigured": (
        "the key of the model service is not there",
        "der Schlüssel für den Modelldienst fehlt",
        "again",
        SETTING,
    ),
    "model-settings": (
        "a setting for reaching the model service cannot be used",
        "eine Einstellung für den Weg zum Modelldienst ist nicht zu gebrauchen",
        "again",
        SETTING,
    ),
    "model-unreachable": (
        "the model service could not be reached",
        "der Modelldienst war nicht erreichbar",
        "again",
        OPERATOR,
    ),
    "model-network": (
        "the connection to the model service broke",
        "die Verbindung zum Modelldienst ist abgebrochen",
        "again",
        OPERATOR,
    ),
    "model-timeout": (
        "the model service did not answer in time",
        "der Modelldienst hat nicht rechtzeitig geantwortet",
        "again",
        OPERATOR,
    ),
    "model-broken": (
        "the model service had an error of its own",
        "beim Modelldienst gab es einen Fehler",
        "again",
        OPERATOR,
    ),
    "model-overloaded": (
        "the model service has too much to do",
        "der Modelldienst ist überlastet",
        "again",
        OPERATOR,
    ),
    "model-rate-limit": (
        "the model service takes no more requests for now",
        "der Modelldienst nimmt gerade keine weiteren Anfragen an",
        "again",
        OPERATOR,
    ),
    "model-auth": (
        "the model service does not accept the key of this server",
        "der Modelldienst nimmt den Schlüssel dieses Servers nicht an",
        "next-run",
        SETTING,
    ),
    "model-quota": (
        "the account at the model service is used up",
        "das Guthaben beim Modelldienst ist aufgebraucht",
        "next-run",
        (
            "Who runs this server has to see to its account there.",
            "Wer diesen Server betreibt, muss sich um das Konto dort kümmern.",
        ),
    ),
    "model-missing-model": (
        "the model service does not have the model that was asked for",
        "der Modelldienst hat das verlangte Modell nicht",
        "next-run",
        SETTING,
    ),
    "model-capability": (
        "no model here can do what this mission needs",
        "kein Modell hier kann, was diese Mission braucht",
        "next-run",
        SETTING,
    ),
    "model-too-long": (
        "the prompt is longer than any model here takes",
        "der Prompt ist länger, als ein Modell hier annimmt",
        "next-run",
        SHORTER,
    ),
    "model-too-long-by": (
        "the prompt has {size} tokens, the model takes {most}",
        "der Prompt hat {size} Token, das Modell nimmt {most} an",
        "next-run",
        SHORTER,
    ),
    "model-too-large": (
        "the request is larger than the account at the model service allows",
        "die Anfrage ist größer, als das Konto beim Modelldienst erlaubt",
        "next-run",
        SHORTER,
    ),
    "model-refused": (
        "the model service did not take the request",
        "der Modelldienst hat die Anfrage nicht angenommen",
        "next-run",
        SETTING,
    ),
    "model-malformed": (
        "this server sent the model service something that is no request",
        "dieser Server hat dem Modelldienst etwas geschickt, das keine Anfrage ist",
        "next-run",
        OPERATOR,
    ),
    "model-blocked": (
        "the model service refuses this content",
        "der Modelldienst lehnt diesen Inhalt ab",
        "next-run",
        REWORD,
    ),
    "model-invalid-answer": (
        "the model service's answer made no sense",
        "die Antwort des Modelldienstes war nicht zu verstehen",
        "again",
        SETTING,
    ),
    "model-failed-answer": (
        "the model service broke its answer off with an error",
        "der Modelldienst hat seine Antwort mit einem Fehler abgebrochen",
        "again",
        OPERATOR,
    ),
    "model-truncated": (
        "only half of an answer came from the model service",
        "vom Modelldienst kam nur eine halbe Antwort",
        "again",
        OPERATOR,
    ),
    "model-exposure": (
        "no model here may see what this mission reads",
        "kein Modell hier darf sehen, was diese Mission liest",
        "next-run",
        (
            (
                "Allow more in the mission's grant, or ask who runs this server for a model that is"
                " closer."
            ),
            (
                "Erlaube in der Freigabe der Mission mehr, oder frag den Betreiber nach einem"
                " Modell, das näher ist."
            ),
        ),
    ),
    "model-no-healthy-provider": (
        "no model service could answer",
        "kein Modelldienst konnte antworten",
        "again",
        SETTING,
    ),
    "model-lacks-tools": (
        "the model cannot call tools, so it cannot plan",
        "das Modell kann keine Werkzeuge aufrufen und deshalb nicht planen",
        "next-run",
        SETTING,
    ),
    "model-lacks-images": (
        "the model cannot look at images",
        "das Modell kann keine Bilder ansehen",
        "next-run",
        SETTING,
    ),
    "model-lacks-parameter": (
        "the model service does not know a parameter of the request",
        "der Modelldienst kennt einen Parameter der Anfrage nicht",
        "next-run",
        SETTING,
    ),
    "model-lacks-token-limit-name": (
        "the model service wants another name for the limit of the answer",
        "der Modelldienst verlangt einen anderen Namen für die Grenze der Antwort",
        "next-run",
        SETTING,
    ),
    "model-lacks-output-limit": (
        "the model cannot give answers as long as was asked for",
        "so lange Antworten, wie verlangt, kann das Modell nicht geben",
        "next-run",
        SETTING,
    ),
    "model-lacks-system-first": (
        "the model service takes instructions only at the beginning",
        "der Modelldienst nimmt Anweisungen nur am Anfang an",
        "next-run",
        SETTING,
    ),
    "model-lacks-call-ids": (
        "the model service does not take the ids of earlier calls",
        "der Modelldienst nimmt die Kennungen früherer Aufrufe nicht an",
        "next-run",
        SETTING,
    ),
    "model-lacks-reasoning": (
        "the model service wants the thinking behind earlier answers, which are not its own",
        "der Modelldienst verlangt die Überlegungen zu früheren Antworten, die nicht von ihm sind",
        "next-run",
        SETTING,
    ),
    "model-lacks-schema": (
        "the model service does not take the description of a tool",
        "der Modelldienst nimmt die Beschreibung eines Werkzeugs nicht an",
        "next-run",
        SETTING,
    ),
    "model-lacks-context": (
        "the model has too little room for this mission",
        "das Modell hat zu wenig Platz für diese Mission",
        "next-run",
        SHORTER,
    ),
}

GERMAN = {
    "agent": "Agent",
    "user": "Person",
    "installation": "Server",
    "tokens": "Token",
    "money": "Geld",
    "paused": "pausiert",
    "archived": "archiviert",
    "done": "erledigt",
    "draft": "Entwurf",
    "timeout": "keine Antwort in der Zeit",
    "busy": "gerade beschäftigt",
    "unavailable": "gerade nicht verfügbar",
    "in zero-knowledge mode only your own device can: open the app once": (
        "im Zero-Knowledge-Modus kann das nur dein eigenes Gerät, öffne die App einmal"
    ),
    "the grant cannot be used: grant them anew": (
        "die Freigabe ist nicht zu gebrauchen, gib sie neu frei"
    ),
    "the grant is older than your key: grant them anew": (
        "die Freigabe ist älter als dein Schlüssel, gib sie neu frei"
    ),
    "they are not sealed with your key: open the app once": (
        "sie sind nicht mit deinem Schlüssel versiegelt, öffne die App einmal"
    ),
    "some are too large to be handed over": "manche sind zu groß dafür",
    "grant them anew": "gib sie neu frei",
    "open the app once": "öffne die App einmal",
}
"""What is filled in, in German; what is not here stays as it is."""

LABELS: dict[str, tuple[str, str]] = {
    "ran": ("planned", "geplant"),
    "failed": ("failed", "fehlgeschlagen"),
    "withdrawn": ("withdrawn", "zurückgezogen"),
    "skipped-left-space": ("waits: not your space any more", "wartet: nicht mehr dein Raum"),
    "skipped-unreadable": ("waits: encrypted texts", "wartet: verschlüsselte Texte"),
    "skipped-missing-agent": ("waits: no such agent", "wartet: kein solcher Agent"),
    "skipped-archived": ("waits: agent archived", "wartet: Agent archiviert"),
    "skipped-paused": ("waits: agent paused", "wartet: Agent pausiert"),
    "skipped-concurrency": ("waits for a place", "wartet auf einen Platz"),
    "skipped-budget": ("waits for budget", "wartet auf Budget"),
    "skipped-grant": ("waits for a grant", "wartet auf eine Freigabe"),
    "skipped-inputs": ("waits: too many inputs", "wartet: zu viele Eingaben"),
    "skipped-missed": ("not run: too late", "nicht ausgeführt: zu spät"),
    "deferred-browser-run": ("a browser runs it", "ein Browser führt sie aus"),
    "deferred-disk-full": ("waits for room on the server", "wartet auf Platz auf dem Server"),
    "deferred-barred": ("waits: agent held back", "wartet: Agent zurückgehalten"),
    "open": ("running", "läuft"),
    "waiting": ("waiting", "wartet"),
    "committed": ("planned", "geplant"),
}
"""Decisions and states of runs in two or three words."""
