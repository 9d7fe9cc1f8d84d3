"""The tables of a local store, step by step: a file of any older version takes what it lacks."""

_FIRST = """
CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

-- How far an app was read. `is_whole`: once all of it was.
CREATE TABLE app (
  app TEXT PRIMARY KEY,
  since TEXT NOT NULL DEFAULT '',
  cursor TEXT NOT NULL DEFAULT '',
  is_whole INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;

-- The log as far as it has come here. Rows that are not folded are not shown: a push of somebody
-- else may have come in part.
CREATE TABLE change (
  id TEXT PRIMARY KEY,
  app TEXT NOT NULL,
  tbl TEXT NOT NULL,
  record TEXT NOT NULL,
  created_us INTEGER NOT NULL,
  is_folded INTEGER NOT NULL,
  body BLOB NOT NULL
);
CREATE INDEX change_of_record ON change (app, tbl, record, created_us, id);
CREATE INDEX change_to_fold ON change (app, tbl, record) WHERE NOT is_folded;

-- What was written here and not yet taken by the server; what was written in one transaction has
-- one `push`. `problem`: why the server refused it; then it is not shown and not pushed.
CREATE TABLE pending (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  push INTEGER NOT NULL,
  id TEXT NOT NULL UNIQUE,
  app TEXT NOT NULL,
  tbl TEXT NOT NULL,
  record TEXT NOT NULL,
  size INTEGER NOT NULL,
  body BLOB NOT NULL,
  problem TEXT,
  not_after_ms INTEGER -- from this time on it is held back
);
CREATE INDEX pending_of_record ON pending (app, tbl, record, seq) WHERE problem IS NULL;
CREATE INDEX pending_of_app ON pending (app, seq) WHERE problem IS NULL;

-- `base` is what the server's rows make, NULL without any; `shown` is that with what waits.
CREATE TABLE record (
  app TEXT NOT NULL,
  tbl TEXT NOT NULL,
  record TEXT NOT NULL,
  base BLOB,
  shown BLOB NOT NULL,
  is_hidden INTEGER NOT NULL,
  updated_at INTEGER NOT NULL, -- ms since the epoch
  PRIMARY KEY (app, tbl, record)
) WITHOUT ROWID;
CREATE INDEX record_updated ON record (app, tbl, updated_at) WHERE NOT is_hidden;

-- What is to be done beside rows, kept with them in one transaction: an answer to send, say.
CREATE TABLE errand (
  kind TEXT NOT NULL,
  id TEXT NOT NULL,
  body BLOB NOT NULL,
  PRIMARY KEY (kind, id)
) WITHOUT ROWID;

CREATE TABLE conflict (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  noted_at INTEGER NOT NULL, -- ms since the epoch
  app TEXT NOT NULL,
  body BLOB NOT NULL
);
"""

_PURGES = """
-- Old rows go; `floor` is what those of a record made, up to (floor_us, floor_id) in row order, and
-- `base` is NULL where no others are here. Where a row not after that comes, the app is read anew:
-- `anew` is how far, NULL where it is not. `purge_from_us`: nothing of it goes before then.
ALTER TABLE record ADD COLUMN floor BLOB;
ALTER TABLE record ADD COLUMN floor_us INTEGER;
ALTER TABLE record ADD COLUMN floor_id TEXT;
ALTER TABLE app ADD COLUMN anew TEXT;
ALTER TABLE app ADD COLUMN purge_from_us INTEGER NOT NULL DEFAULT 0;
CREATE INDEX change_by_age ON change (app, created_us) WHERE is_folded;
CREATE VIEW behind_floor AS SELECT c.app, c.tbl, c.record FROM change AS c
  JOIN record AS r USING (app, tbl, record)
  WHERE NOT c.is_folded AND (c.created_us, c.id) <= (r.floor_us, r.floor_id);

-- What the rows take, so that nobody has to count.
CREATE TABLE kept (bytes INTEGER NOT NULL);
INSERT INTO kept SELECT coalesce(sum(length(body)), 0) FROM change;
CREATE TRIGGER change_came AFTER INSERT ON change
  BEGIN UPDATE kept SET bytes = bytes + length(new.body); END;
CREATE TRIGGER change_went AFTER DELETE ON change
  BEGIN UPDATE kept SET bytes = bytes - length(old.body); END;
"""

STEPS = (_FIRST, _PURGES)
VERSION = len(STEPS)
