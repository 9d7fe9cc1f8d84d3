"""The library that devices, scripts and imports are built on: `Client.open` is where to begin.

It needs no Ray and no Postgres, works without a server, and loses nothing when it is killed.
"""

from mana_actors.client.client import AppStatus, Client
from mana_actors.client.errors import (
    NotSignedIn,
    ServerAway,
    ServerRefused,
    StoreFull,
    StoreUnusable,
    SyncInactive,
    WriteRefused,
)
from mana_actors.client.local.kept import FieldMeta, Overwritten, derive_updated_at
from mana_actors.client.local.store import HistoryBounds
from mana_actors.client.server.credentials import Credentials, FixedToken, SignInFile
from mana_actors.client.table import ShownRecord, Table, TypedTable
from mana_actors.client.table_names import APPS, TableName, TypedTableName

__all__ = [
    "APPS",
    "AppStatus",
    "Client",
    "Credentials",
    "FieldMeta",
    "FixedToken",
    "HistoryBounds",
    "NotSignedIn",
    "Overwritten",
    "ServerAway",
    "ServerRefused",
    "ShownRecord",
    "SignInFile",
    "StoreFull",
    "StoreUnusable",
    "SyncInactive",
    "Table",
    "TableName",
    "TypedTable",
    "TypedTableName",
    "WriteRefused",
    "derive_updated_at",
]
