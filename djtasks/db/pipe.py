"""Pipes: statements sent one behind the other, each its own transaction, without waiting for one before the next.

A round trip costs a small statement more than the server's work on it. What is asked through a pipe costs one for all
of it, and none that anybody waits for when the answers are read as they come (libpq's pipeline mode). Each statement
is prepared once a session and takes its parameters as text, bytes or binary arrays, without a detour over adapters.

Source: https://www.postgresql.org/docs/current/libpq-pipeline-mode.html
"""

import hashlib
import re
import weakref
from collections import deque
from collections.abc import Callable, Generator, Mapping
from typing import Any, LiteralString

import psycopg
from psycopg.adapt import Transformer
from psycopg.pq import ConnStatus, ExecStatus, Format, PipelineStatus
from psycopg.waiting import Ready, Wait

from djtasks.db.arrays import Array
from djtasks.db.connections import Rows

_PARAMETER = re.compile(r"%\((\w+)\)s")
Encoded = tuple[bytes | None, Format]
#: The session does not know the prepared statement any more (DEALLOCATE, DISCARD), or is another one than it was,
#: behind a proxy that nobody has told us of. The statement did nothing.
FORGOTTEN = (psycopg.errors.InvalidSqlStatementName, psycopg.errors.DuplicatePreparedStatement)


class Statement:
    """A statement with named parameters, as the server wants it: numbered ones, and a name."""

    __slots__ = ("label", "names", "text")

    def __init__(self, query: LiteralString) -> None:
        names: list[str] = list(dict.fromkeys(_PARAMETER.findall(query)))
        numbered = _PARAMETER.sub(lambda found: f"${names.index(found[1]) + 1}", query)
        self.names = names
        self.text = numbered.encode()
        self.label = b"djtasks_" + hashlib.blake2s(self.text, digest_size=8).hexdigest().encode()


def _encode(value: Any) -> Encoded:
    """A parameter as the server takes it; its type follows from the statement."""
    if value is None:
        return None, Format.TEXT
    if isinstance(value, Array):
        return value.data, Format.BINARY
    if isinstance(value, bytes):
        return value, Format.BINARY
    if isinstance(value, str):
        if "\0" in value:
            raise psycopg.DataError("PostgreSQL text fields cannot contain NUL (0x00) bytes")
        return value.encode(), Format.TEXT
    return str(value).encode(), Format.TEXT


class Question:
    """A statement on its way, and its answer: `rows`, or `error`; `answered` is called when either is there."""

    __slots__ = ("answered", "error", "parameters", "preparing", "rows", "settled", "statement")

    def __init__(
        self,
        statement: Statement,
        parameters: Mapping[str, Any],
        answered: "Callable[[Question], None] | None" = None,
    ) -> None:
        self.statement = statement
        #: Raises psycopg.DataError and the like for what cannot be encoded, before anything is sent.
        self.parameters = [_encode(parameters[name]) for name in statement.names]
        self.answered = answered
        self.rows: Rows | None = None
        self.error: Exception | None = None
        #: The statement has been committed, or has failed. Rows that come before that say nothing yet.
        self.settled = False
        #: The session does not know the statement yet, and has not said that it does now.
        self.preparing = False

    def answer(self) -> Rows:
        """The rows. Raises what the server said instead."""
        if self.error is not None:
            raise self.error
        return self.rows or []

    def settle(self) -> None:
        """The answer is there."""
        self.settled = True
        answered, self.answered = self.answered, None
        if answered is not None:
            answered(self)

    def fail(self, error: Exception) -> None:
        """No answer will come, unless there was one before: the statement may or may not have happened."""
        if not self.settled:
            self.error = error
            self.settle()


#: The labels of the statements that each session knows; None for one that had forgotten some, and gets no more.
_prepared: "weakref.WeakKeyDictionary[psycopg.Connection[Any], set[bytes] | None]" = weakref.WeakKeyDictionary()


class Pipe:
    """The pipe of one connection, which must be in autocommit and outside of a transaction.

    While anything is asked and not answered, the connection is no good for anything else: `settle` first.
    """

    def __init__(self, conn: psycopg.Connection[Any], *, prepares: bool = True) -> None:
        self.conn = conn
        self._asked: deque[Question] = deque()
        # Behind a transaction-pooling proxy the next statement may reach another session.
        self._known = _prepared.setdefault(conn, set()) if prepares else None

    @property
    def busy(self) -> bool:
        """Whether an answer is still to come."""
        return bool(self._asked)

    def send(self, *questions: Question) -> None:
        """Ask, without waiting for the answers. Raises psycopg.OperationalError when the connection is lost."""
        pgconn = self.conn.pgconn
        with self.conn.lock:
            if pgconn.pipeline_status == PipelineStatus.OFF:
                pgconn.enter_pipeline_mode()
            for question in questions:
                self._queue(question)
            if pgconn.flush():
                self.conn.wait(self._sending())

    def _queue(self, question: Question) -> None:
        pgconn, statement = self.conn.pgconn, question.statement
        values = [value for value, _ in question.parameters]
        formats = [form for _, form in question.parameters]
        if self._known is not None:
            if statement.label not in self._known:
                pgconn.send_prepare(statement.label, statement.text)
                self._known.add(statement.label)
                question.preparing = True
            pgconn.send_query_prepared(statement.label, values, formats, Format.BINARY)
        else:
            pgconn.send_query_params(statement.text, values, None, formats, Format.BINARY)
        pgconn.pipeline_sync()
        self._asked.append(question)

    def _sending(self) -> Generator[Wait, Ready | int, None]:
        pgconn = self.conn.pgconn
        while pgconn.flush():
            if (yield Wait.RW) & Ready.R:
                # The server may wait for us to read before it reads on.
                pgconn.consume_input()

    def receive(self) -> None:
        """Take in what has come, without waiting. Raises psycopg.OperationalError when the connection is lost."""
        pgconn = self.conn.pgconn
        pgconn.consume_input()
        ready: list[Question] = []
        while self._asked and not pgconn.is_busy():
            result = pgconn.get_result()
            if result is None:
                if pgconn.status == ConnStatus.BAD:
                    break
                continue
            question = self._asked[0]
            if result.status == ExecStatus.PIPELINE_SYNC:
                ready.append(self._asked.popleft())
            elif result.status == ExecStatus.TUPLES_OK:
                rows = Transformer(self.conn)
                rows.set_pgresult(result)
                question.rows = rows.load_rows(0, result.ntuples, tuple)
            elif result.status == ExecStatus.COMMAND_OK:
                question.preparing = False
            elif result.status == ExecStatus.FATAL_ERROR:
                question.error = psycopg.errors.error_from_result(result, encoding="utf-8")
                if question.preparing and self._known is not None:
                    self._known.discard(question.statement.label)
                if isinstance(question.error, FORGOTTEN):
                    self._known = _prepared[self.conn] = None
        if not self._asked and pgconn.pipeline_status != PipelineStatus.OFF:
            pgconn.exit_pipeline_mode()
        for question in ready:
            question.settle()
        if self._asked and pgconn.status == ConnStatus.BAD:
            raise psycopg.OperationalError(f"the connection is lost: {self._asked[0].error or 'no answer came'}")

    def _receiving(self) -> Generator[Wait, Ready | int, None]:
        while self._asked:
            yield Wait.R
            self.receive()

    def settle(self) -> None:
        """Wait until everything is answered. Raises psycopg.OperationalError when the connection is lost."""
        if self._asked:
            with self.conn.lock:
                self.conn.wait(self._receiving())

    def fail(self, error: Exception) -> None:
        """The connection is lost, and all answers that are still to come with it."""
        while self._asked:
            self._asked.popleft().fail(error)


def ask(conn: psycopg.Connection[Any], *questions: Question, prepares: bool = True) -> None:
    """Ask, and wait until all are answered; each has its own answer. What the server has forgotten is asked again.

    Raises psycopg.OperationalError when the connection is lost.
    """
    pipe = Pipe(conn, prepares=prepares)
    try:
        pipe.send(*questions)
        pipe.settle()
        for question in questions:
            if isinstance(question.error, FORGOTTEN):
                question.error = None
                pipe.send(question)
                pipe.settle()
    finally:
        if pipe.busy:
            # Broken off: what still comes would be taken for the answer to something else.
            conn.close()
