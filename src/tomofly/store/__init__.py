"""The database: tables, queries, migrations."""

from tomofly.store.database import Database, retry_while_locked
from tomofly.store.sessions import SessionRow, TrackRow

__all__ = ["Database", "SessionRow", "TrackRow", "retry_while_locked"]
