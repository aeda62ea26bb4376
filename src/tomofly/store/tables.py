"""The tables. Files hold pixels; these hold everything said about them.

Times are seconds since the epoch, UTC. Text columns that hold states take the words of ``tomofly.model``.
"""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

Id = BigInteger().with_variant(Integer, "sqlite")


def _session_id() -> Column[int]:
    return Column("session_id", Id, ForeignKey("sessions.id", ondelete="CASCADE"), nullable=False)


def _task_id() -> Column[int]:
    return Column("task_id", Id, ForeignKey("tasks.id", ondelete="CASCADE"), nullable=False)


sessions = Table(
    "sessions",
    metadata,
    Column("id", Id, primary_key=True),
    Column("name", String(200), nullable=False, unique=True),
    Column("kind", String(40), nullable=False),
    Column("folder", Text, nullable=False, unique=True),
    Column("owner_group", String(200), nullable=False, default=""),
    Column("created_at", Float, nullable=False),
    Column("state", String(20), nullable=False),
    Column("desired", String(20), nullable=False),
    Column("closed", Boolean, nullable=False, default=False),
    Column("revision", Integer, nullable=False, default=1),
    Column("conductor", String(200), nullable=False, default=""),
    Column("heartbeat_at", Float, nullable=False, default=0.0),
    Column("note", Text, nullable=False, default=""),
    Column("vitals", JSON, nullable=False, default=dict),
    Column("planned", String(64), nullable=False, default=""),
)

settings = Table(
    "settings",
    metadata,
    Column(
        "session_id", Id, ForeignKey("sessions.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    ),
    Column("revision", Integer, primary_key=True, autoincrement=False),
    Column("saved_at", Float, nullable=False),
    Column("document", JSON, nullable=False),
)

tracks = Table(
    "tracks",
    metadata,
    Column(
        "session_id", Id, ForeignKey("sessions.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    ),
    Column("name", String(100), primary_key=True),
    Column("desired", String(20), nullable=False),
    Column("revision", Integer, nullable=False),
    Column("clear_requested", Boolean, nullable=False, default=False),
    Column("paused", Text, nullable=False, default=""),
)

items = Table(
    "items",
    metadata,
    Column("id", Id, primary_key=True),
    _session_id(),
    Column("kind", String(40), nullable=False),
    Column("key", Text, nullable=False),
    Column("source", Text, nullable=False, default=""),
    Column("content", String(200), nullable=False, default=""),
    Column("attributes", JSON, nullable=False, default=dict),
    Column("acquired_at", Float),
    Column("detected_at", Float, nullable=False),
    Column("shown_at", Float),
    Column("live", Boolean, nullable=False, default=True),
    Column("dirty", Boolean, nullable=False, default=True),
    Column("wake_at", Float),
    Column("waiting_for", Text, nullable=False, default=""),
    # When a person last asked for the group to be made of what is there; 0: never.
    Column("requested_at", Float, nullable=False, default=0.0, server_default="0"),
    Column("excluded", Text, nullable=False, default=""),
    # What people have decided of the views of this item: see ``store.requests``.
    Column("decisions", JSON, nullable=False, default=dict, server_default="{}"),
    UniqueConstraint("session_id", "kind", "key"),
    Index(None, "session_id", "dirty", "id"),
    Index(None, "session_id", "wake_at"),
    Index(None, "session_id", "detected_at"),
)

tasks = Table(
    "tasks",
    metadata,
    Column("id", Id, primary_key=True),
    _session_id(),
    Column("item_id", Id, ForeignKey("items.id", ondelete="CASCADE"), nullable=False),
    Column("stage", String(100), nullable=False),
    Column("state", String(20), nullable=False),
    Column("wanted", String(64)),
    Column("fingerprint", String(64)),
    Column("identity", String(64)),
    Column("mode", String(20), nullable=False, default=""),
    Column("checkpoint", String(64)),
    Column("attempts", Integer, nullable=False, default=0),
    Column("losses", Integer, nullable=False, default=0),
    Column("permanent", Boolean, nullable=False, default=False),
    Column("reason", Text, nullable=False, default=""),
    Column("priority", BigInteger, nullable=False, default=0),
    Column("queued_at", Float),
    Column("started_at", Float),
    Column("done_at", Float),
    Column("worker", String(200), nullable=False, default=""),
    UniqueConstraint("item_id", "stage"),
    Index(None, "session_id", "state", "priority"),
    Index(None, "session_id", "stage", "state", "done_at"),
)

members = Table(
    "members",
    metadata,
    Column(
        "parent_id", Id, ForeignKey("items.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    ),
    Column("child_id", Id, ForeignKey("items.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("stage", String(100), nullable=False),
    Column("state", String(20), nullable=False),
    Column("identity", String(64)),
    Column("consumed", String(64)),
    # As the item itself says; kept here as well, so that a large fold is counted by its index alone.
    Column("excluded", Boolean, nullable=False, default=False),
    Index(None, "child_id", "stage"),
    Index(None, "parent_id", "excluded", "state", "consumed"),
)

products = Table(
    "products",
    metadata,
    _task_id(),
    Column("name", String(100), nullable=False),
    Column("path", Text, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    UniqueConstraint("task_id", "name"),
    Index(None, "path"),
)

metrics = Table(
    "metrics",
    metadata,
    _task_id(),
    _session_id(),
    Column("item_id", Id, ForeignKey("items.id", ondelete="CASCADE"), nullable=False),
    Column("stage", String(100), nullable=False),
    Column("name", String(100), nullable=False),
    Column("value", Float, nullable=False),
    UniqueConstraint("task_id", "name"),
    Index(None, "session_id", "stage", "name", "value"),
    Index(None, "item_id"),
)

flags = Table(
    "flags",
    metadata,
    _task_id(),
    _session_id(),
    Column("item_id", Id, ForeignKey("items.id", ondelete="CASCADE"), nullable=False),
    Column("stage", String(100), nullable=False),
    Column("code", String(100), nullable=False),
    Column("message", Text, nullable=False),
    Index(None, "task_id"),
    Index(None, "session_id", "code"),
    Index(None, "item_id"),
)

alerts = Table(
    "alerts",
    metadata,
    Column("id", Id, primary_key=True),
    _session_id(),
    Column("at", Float, nullable=False),
    Column("ended_at", Float),
    Column("level", String(20), nullable=False),
    Column("code", String(100), nullable=False),
    Column("message", Text, nullable=False),
    Column("item_key", Text, nullable=False, default=""),
    Index(None, "session_id", "at"),
)
