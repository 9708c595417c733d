"""The storage of a study: SQLite tuned for several writers, or a database server; and a lock across processes."""

from __future__ import annotations

import fcntl
import functools
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SQLITE = "sqlite:///"
BUSY_SECONDS = 60
"""Seconds that a writer waits for another."""
SERVER_LOCKS = {
    "postgresql": ("select pg_advisory_lock(hashtext(:name))", "select pg_advisory_unlock(hashtext(:name))"),
    "mysql": ("select get_lock(sha1(:name), -1)", "select release_lock(sha1(:name))"),
}
"""SQL of each server for a lock that is released when its holder's connection ends."""


def absolute(url: str) -> str:
    """The URL of a storage with an absolute path, so that it does not depend on the working directory."""
    if not url.startswith(SQLITE):
        return url
    return SQLITE + os.path.abspath(url.removeprefix(SQLITE))


def open_storage(url: str) -> Any:
    """The storage at a URL; the same object at every call in a process.

    Args:
        url: in SQLAlchemy's form: ``sqlite:////folder/study.db``, ``postgresql+psycopg://host/name``.

    Raises:
        ValueError: it cannot be opened.
    """
    return _open(absolute(url), os.getpid())


@functools.cache
def _open(url: str, pid: int) -> Any:
    """``pid`` is part of the cache key, because a fork must not share a connection."""
    import optuna
    from sqlalchemy import NullPool, create_engine
    from sqlalchemy.exc import SQLAlchemyError

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        # without the lock two processes that create the tables at the same time fail
        if not url.startswith(SQLITE):
            with exclusive_engine(create_engine(url, poolclass=NullPool), "tables"):
                return optuna.storages.RDBStorage(url, engine_kwargs={"pool_pre_ping": True})
        Path(url.removeprefix(SQLITE)).parent.mkdir(parents=True, exist_ok=True)
        with _file_lock(url):
            return optuna.storages.RDBStorage(url, engine_kwargs={"creator": lambda: _connect(url)})
    except (SQLAlchemyError, ImportError, sqlite3.Error, OSError, RuntimeError, ValueError) as error:
        raise ValueError(
            f"storage={url} cannot be opened: {str(error).splitlines()[0]}. Type a file, sqlite:///study.db, or a "
            "server that runs, postgresql+psycopg://USER@HOST/NAME."
        ) from error


def close_storage(storage: Any) -> None:
    """Close the connections; SQLite then merges its write-ahead log into the database file."""
    storage.remove_session()
    storage.engine.dispose()


def _connect(url: str) -> sqlite3.Connection:
    """Connect with a write-ahead log: a commit survives the death of the process, and readers do not block writers."""
    connection = sqlite3.connect(url.removeprefix(SQLITE), timeout=BUSY_SECONDS, check_same_thread=False)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    return connection


@contextmanager
def exclusive(storage: Any, study_name: str) -> Iterator[None]:
    """Inside this block no other process, on any machine, asks the study for trials. A killed holder frees the lock."""
    with exclusive_engine(storage.engine, study_name):
        yield


@contextmanager
def exclusive_engine(engine: Any, what: str) -> Iterator[None]:
    """Inside this block no other process holds the lock of that name in the same database."""
    name = engine.dialect.name
    if name in SERVER_LOCKS:
        with _server_lock(engine, *SERVER_LOCKS[name], what):
            yield
    else:
        with _file_lock(str(engine.url)):
            yield


@contextmanager
def _file_lock(url: str) -> Iterator[None]:
    with open(url.removeprefix(SQLITE) + ".lock", "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # the lock is released when the file is closed, also by the end of the process
        yield


@contextmanager
def _server_lock(engine: Any, lock: str, unlock: str, what: str) -> Iterator[None]:
    from sqlalchemy import text

    with engine.connect() as connection:
        connection.execute(text(lock), {"name": f"mltricks {what}"})
        try:
            yield
        finally:
            connection.execute(text(unlock), {"name": f"mltricks {what}"})
