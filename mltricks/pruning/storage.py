"""Where a study is kept: SQLite tuned for several writers, or a server; and a lock around what must be exact."""

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
"""How long a writer waits for another."""
SERVER_LOCKS = {
    "postgresql": ("select pg_advisory_lock(hashtext(:name))", "select pg_advisory_unlock(hashtext(:name))"),
    "mysql": ("select get_lock(sha1(:name), -1)", "select release_lock(sha1(:name))"),
}
"""How a database server is asked for a lock that is gone when its holder is."""


def absolute(url: str) -> str:
    """A storage's URL that means the same in every working directory."""
    if not url.startswith(SQLITE):
        return url
    return SQLITE + os.path.abspath(url.removeprefix(SQLITE))


def open_storage(url: str) -> Any:
    """The storage at a URL; the same object whenever this process asks for it.

    Args:
        url: as SQLAlchemy has it: ``sqlite:////folder/study.db``, ``postgresql+psycopg://host/name``.

    Raises:
        ValueError: it cannot be opened.
    """
    return _open(absolute(url), os.getpid())


@functools.cache
def _open(url: str, pid: int) -> Any:
    """``pid`` is there because a connection must not be carried into a forked process."""
    import optuna
    from sqlalchemy import NullPool, create_engine
    from sqlalchemy.exc import SQLAlchemyError

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        # two processes that create the tables at once get in each other's way: hence the locks
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
    """Let go of the connections; SQLite then puts everything into the one file."""
    storage.remove_session()
    storage.engine.dispose()


def _connect(url: str) -> sqlite3.Connection:
    """A commit that survives the death of the process but does not wait for the disk; readers do not stop writers."""
    connection = sqlite3.connect(url.removeprefix(SQLITE), timeout=BUSY_SECONDS, check_same_thread=False)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    return connection


@contextmanager
def exclusive(storage: Any, study_name: str) -> Iterator[None]:
    """Inside this block no other process asks the study for trials, on whatever machine; a killed one lets go."""
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
        fcntl.flock(file, fcntl.LOCK_EX)  # let go when the file is closed, also by the end of the process
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
