"""The end of tasks and what follows them, in one statement: for a pipe, where nobody waits for one before the next.

A successor may be born in the hands of the worker whose task it follows: then it runs at once, without a claim, and
the claim number that is written with it is its fence. It is given back as any claim is whose answer was lost.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, LiteralString, NamedTuple

from djtasks.db.arrays import Bigints, Blobs, Booleans, Integers, Smallints, Texts, Uuids
from djtasks.db.finish import FINISH, finish_params
from djtasks.db.pipe import Question, Statement
from djtasks.messages import Claimed, Message, Outcome

#: `me` is held FOR KEY SHARE, as by a claim: who declares this worker dead waits this out, and sees what was born.
_SUCCESSION: LiteralString = """
    ), me AS (
        SELECT incarnation FROM djtasks_worker WHERE incarnation = %(owner)s FOR KEY SHARE
    ), successor AS (
        INSERT INTO djtasks_message (
            id, name, queue, lane, body, content_type, content_encoding, priority, retries, headers, root_id, parent_id,
            group_id, chord, part, periodic, owner, claim, rerun
        )
        SELECT
            next.id, next.name, next.queue, next.queue, next.body, next.content_type, next.content_encoding,
            next.priority, next.retries, next.headers, next.root_id, next.parent_id, next.group_id, next.chord,
            next.part, next.periodic, me.incarnation, CASE WHEN me.incarnation IS NOT NULL THEN next.claim END,
            next.rerun
        FROM unnest(
            %(next_ofs)s::uuid[], %(next_ids)s::uuid[], %(next_names)s::text[], %(next_queues)s::text[],
            %(next_bodies)s::bytea[], %(next_types)s::text[], %(next_encodings)s::text[],
            %(next_priorities)s::smallint[], %(next_retries)s::integer[], %(next_headers)s::text[],
            %(next_roots)s::uuid[], %(next_parents)s::uuid[], %(next_groups)s::uuid[], %(next_chords)s::uuid[],
            %(next_parts)s::integer[], %(next_periodics)s::bigint[], %(next_claims)s::bigint[],
            %(next_reruns)s::boolean[]
        ) AS next (
            of, id, name, queue, body, content_type, content_encoding, priority, retries, headers, root_id, parent_id,
            group_id, chord, part, periodic, claim, rerun
        )
        JOIN gone ON gone.id = next.of
        LEFT JOIN me ON next.claim IS NOT NULL
        ON CONFLICT (id) DO NOTHING
        RETURNING id, claim, created
    ), forgotten AS (
        DELETE FROM djtasks_result AS r
        USING unnest(%(next_ofs)s::uuid[], %(next_ids)s::uuid[]) AS next (of, id), gone
        WHERE r.id = next.id AND gone.id = next.of AND r.done IS NOT NULL
    )
    SELECT id::text, NULL::bigint, NULL::float8, false FROM gone
    UNION ALL
    SELECT id::text, claim, extract(epoch FROM created)::float8, EXISTS (SELECT FROM djtasks_revocation)
    FROM successor
    WHERE claim IS NOT NULL
"""
SUCCEED: LiteralString = FINISH.replace("    )\n    SELECT id::text FROM gone\n", _SUCCESSION)
_SUCCEED = Statement(SUCCEED)

#: What a message that may be written so has none of: eta, countdown, expires, expires_in.
_AT_ONCE = (None, None, None, None)


class Birth(NamedTuple):
    """A claim number for a successor that is to run here, and whether it runs again when its process is lost."""

    claim: int
    rerun: bool


def is_simple(successor: Sequence[Any]) -> bool:
    """Whether a successor (a message as a tuple) may run at once, and has no key that could stand against that."""
    message = Message._make(successor)
    return message[7:11] == _AT_ONCE and message.unique_key is None and message.limit_key is None


def is_succession(outcome: Outcome) -> bool:
    """Whether its end is a finish and the successors, all of them simple, and nothing more."""
    if outcome.dead is not None or outcome.fallen or outcome.opened or outcome.replaced:
        return False
    return all(map(is_simple, outcome.successors))


def succeeding(
    owner: int,
    outcomes: Sequence[Outcome],
    worker: str | None,
    births: Mapping[str, Birth],
    answered: Callable[[Question], None],
) -> Question:
    """End the messages, and write the successors of those whose fence held, all of them simple ones.

    Those of `births`, by their ids, are born claimed; `born` reads them from the answer, of which the first column are
    the ids of what has ended where the second one is null.
    """
    nexts = [(outcome.id, Message._make(each)) for outcome in outcomes for each in outcome.successors]
    found = [births.get(message.id) for _, message in nexts]
    params: dict[str, Any] = {
        "next_ofs": Uuids([of for of, _ in nexts]),
        "next_ids": Uuids([message.id for _, message in nexts]),
        "next_names": Texts([message.name for _, message in nexts]),
        "next_queues": Texts([message.queue for _, message in nexts]),
        "next_bodies": Blobs([message.body for _, message in nexts]),
        "next_types": Texts([message.content_type for _, message in nexts]),
        "next_encodings": Texts([message.content_encoding for _, message in nexts]),
        "next_priorities": Smallints([message.priority for _, message in nexts]),
        "next_retries": Integers([message.retries for _, message in nexts]),
        "next_headers": Texts([message.headers for _, message in nexts]),
        "next_roots": Uuids([message.root_id for _, message in nexts]),
        "next_parents": Uuids([message.parent_id for _, message in nexts]),
        "next_groups": Uuids([message.group_id for _, message in nexts]),
        "next_chords": Uuids([message.chord for _, message in nexts]),
        "next_parts": Integers([message.part for _, message in nexts]),
        "next_periodics": Bigints([message.periodic for _, message in nexts]),
        "next_claims": Bigints([None if birth is None else birth.claim for birth in found]),
        "next_reruns": Booleans([birth is not None and birth.rerun for birth in found]),
    }
    return Question(_SUCCEED, {**finish_params(owner, outcomes, worker), **params}, answered)


def born(outcomes: Sequence[Outcome], births: Mapping[str, Birth], rows: Sequence[tuple[Any, ...]]) -> list[Claimed]:
    """The successors that are in the worker's hands, as a claim would have brought them."""
    messages = {each[0]: Message._make(each) for outcome in outcomes for each in outcome.successors}
    found = []
    for task_id, claim, created, suspect in rows:
        if claim is None:
            continue
        message = messages[task_id]
        found.append(
            Claimed(
                claim=claim,
                id=task_id,
                name=message.name,
                queue=message.queue,
                priority=message.priority,
                retries=message.retries,
                crashes=0,
                rerun=births[task_id].rerun,
                body=message.body,
                content_type=message.content_type,
                content_encoding=message.content_encoding,
                headers=message.headers,
                eta=None,
                expires=None,
                created=created,
                suspect=suspect,
                chord=message.chord,
                part=message.part,
            )
        )
    return found
