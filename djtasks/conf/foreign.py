"""Celery's settings that are no settings here, and why.

They are accepted and do nothing, so that a configuration can be carried over as it is.
"""

from collections.abc import Mapping
from typing import Final

#: Why, and which ones.
_GROUPS: Final = (
    (
        "messages are rows of PostgreSQL, so there is no broker to connect to",
        """
        BROKER_FAILOVER_STRATEGY BROKER_HEARTBEAT BROKER_HEARTBEAT_CHECKRATE BROKER_HOST BROKER_LOGIN_METHOD
        BROKER_NATIVE_DELAYED_DELIVERY_QUEUE_TYPE BROKER_PASSWORD BROKER_POOL_ACQUIRE_TIMEOUT BROKER_POOL_LIMIT
        BROKER_PORT BROKER_READ_URL BROKER_TRANSPORT BROKER_TRANSPORT_OPTIONS BROKER_URL BROKER_USE_SSL BROKER_USER
        BROKER_VHOST BROKER_WRITE_URL
        """,
    ),
    (
        "a worker that has lost the database tries again for ever, at intervals of up to 5 seconds",
        """
        BROKER_CHANNEL_ERROR_RETRY BROKER_CONNECTION_MAX_RETRIES BROKER_CONNECTION_RETRY
        BROKER_CONNECTION_RETRY_ON_STARTUP BROKER_CONNECTION_TIMEOUT
        """,
    ),
    (
        "results are rows of the same PostgreSQL, so there is no other store to connect to",
        """
        ARANGODB_BACKEND_SETTINGS AZUREBLOCKBLOB_BASE_PATH AZUREBLOCKBLOB_CONNECTION_TIMEOUT
        AZUREBLOCKBLOB_CONTAINER_NAME AZUREBLOCKBLOB_READ_TIMEOUT AZUREBLOCKBLOB_RETRY_INCREMENT_BASE
        AZUREBLOCKBLOB_RETRY_INITIAL_BACKOFF_SEC AZUREBLOCKBLOB_RETRY_MAX_ATTEMPTS CACHE_BACKEND CACHE_BACKEND_OPTIONS
        CASSANDRA_AUTH_KWARGS CASSANDRA_AUTH_PROVIDER CASSANDRA_BUNDLE_PATH CASSANDRA_ENTRY_TTL CASSANDRA_KEYSPACE
        CASSANDRA_OPTIONS CASSANDRA_PORT CASSANDRA_READ_CONSISTENCY CASSANDRA_SERVERS CASSANDRA_TABLE
        CASSANDRA_WRITE_CONSISTENCY COSMOSDBSQL_COLLECTION_NAME COSMOSDBSQL_CONSISTENCY_LEVEL COSMOSDBSQL_DATABASE_NAME
        COSMOSDBSQL_MAX_RETRY_ATTEMPTS COSMOSDBSQL_MAX_RETRY_WAIT_TIME COUCHBASE_BACKEND_SETTINGS
        ELASTICSEARCH_MAX_RETRIES ELASTICSEARCH_RETRY_ON_TIMEOUT ELASTICSEARCH_SAVE_META_AS_TEXT ELASTICSEARCH_TIMEOUT
        GCS_BASE_PATH GCS_BUCKET GCS_PROJECT GCS_TTL MONGODB_BACKEND_SETTINGS
        REDIS_BACKEND_USE_SSL REDIS_DB REDIS_HOST REDIS_MAX_CONNECTIONS REDIS_PASSWORD REDIS_PORT
        REDIS_RETRY_ON_TIMEOUT REDIS_SOCKET_CONNECT_TIMEOUT REDIS_SOCKET_KEEPALIVE REDIS_SOCKET_TIMEOUT REDIS_USERNAME
        RESULT_BACKEND RESULT_BACKEND_THREAD_SAFE RESULT_BACKEND_TRANSPORT_OPTIONS RESULT_EXCHANGE RESULT_EXCHANGE_TYPE
        RESULT_PERSISTENT S3_ACCESS_KEY_ID S3_BASE_PATH S3_BUCKET S3_ENDPOINT_URL S3_REGION S3_SECRET_ACCESS_KEY
        """,
    ),
    (
        "the tables are Django's models: its DATABASES say where they are, and its migrations make them",
        """
        DATABASE_CREATE_TABLES_AT_SETUP DATABASE_ENGINE_CALLBACK DATABASE_ENGINE_OPTIONS DATABASE_SHORT_LIVED_SESSIONS
        DATABASE_TABLE_NAMES DATABASE_TABLE_SCHEMAS DATABASE_URL
        """,
    ),
    (
        "a worker keeps an outcome and writes it again, until the database has taken it",
        """
        RESULT_BACKEND_ALWAYS_RETRY RESULT_BACKEND_BASE_SLEEP_BETWEEN_RETRIES_MS RESULT_BACKEND_MAX_RETRIES
        RESULT_BACKEND_MAX_SLEEP_BETWEEN_RETRIES_MS
        """,
    ),
    ("an AsyncResult keeps its own result once it has ended, and nothing else does", "RESULT_CACHE_MAX"),
    (
        "the body of a chord is written in the transaction that ends the last part, so nobody joins or polls",
        "RESULT_CHORD_JOIN_TIMEOUT RESULT_CHORD_RETRY_INTERVAL",
    ),
    (
        "a queue is a name in a row: it has no exchange, no type and no mode, and is as durable as the database",
        """
        TASK_CREATE_MISSING_QUEUE_EXCHANGE_TYPE TASK_CREATE_MISSING_QUEUE_TYPE TASK_DEFAULT_DELIVERY_MODE
        TASK_DEFAULT_EXCHANGE TASK_DEFAULT_EXCHANGE_TYPE TASK_DEFAULT_QUEUE_TYPE TASK_DEFAULT_ROUTING_KEY
        WORKER_DETECT_QUORUM_QUEUES
        """,
    ),
    ("every queue has all priorities, from -32768 to 32767", "TASK_QUEUE_MAX_PRIORITY"),
    ("a message is a row, and has one form", "TASK_PROTOCOL"),
    (
        "commands and answers are rows: COMMAND_EXPIRES says how long they are kept",
        "CONTROL_EXCHANGE CONTROL_QUEUE_DURABLE CONTROL_QUEUE_EXCLUSIVE CONTROL_QUEUE_EXPIRES CONTROL_QUEUE_TTL",
    ),
    (
        "events are rows: EVENTS_MAX and EVENTS_EXPIRES say how many are kept, and for how long",
        """
        EVENT_EXCHANGE EVENT_QUEUE_DURABLE EVENT_QUEUE_EXCLUSIVE EVENT_QUEUE_EXPIRES EVENT_QUEUE_PREFIX EVENT_QUEUE_TTL
        """,
    ),
    (
        "when what has run is written in the transaction that enqueues it, and every beat reads it there",
        "BEAT_SCHEDULE_FILENAME BEAT_SYNC_EVERY",
    ),
    (
        "beat is asked by `djtasks check --beat`, and obeys what is written into its tables",
        "BEAT_ENABLE_REMOTE_CONTROL BEAT_REMOTE_CONTROL_MAX_TICK_AGE",
    ),
    (
        "RESULT_EXPIRES goes for all that has ended; DEAD_LETTER_EXPIRES for dead letters",
        "RESULT_CHORD_EXPIRES RESULT_FAILURE_EXPIRES",
    ),
    (
        "a late-ack task whose process was lost runs again, TASK_MAX_CRASHES times at the most",
        "TASK_RETRY_ON_WORKER_LOST",
    ),
    ("arguments are shown up to a length, whatever their depth", "TASK_REPR_MAXLEVELS"),
    ("children are forked by a small process that has imported the project once", "WORKER_POOL_START_METHOD"),
    ("revocations are rows of the database, and outlive every worker", "WORKER_STATE_DB"),
    (
        "what waits for its time is a row that no worker holds, so no worker has a timer for it",
        "WORKER_ETA_TASK_LIMIT WORKER_TIMER WORKER_TIMER_PRECISION",
    ),
    (
        "a worker claims what it has room for, before and after a lost connection",
        "WORKER_ENABLE_PREFETCH_COUNT_REDUCTION WORKER_POOL_PUTLOCKS",
    ),
    (
        "what a lost process has said is read to its end before its task counts as lost, so there is no time to wait",
        "WORKER_LOST_WAIT",
    ),
    (
        "claiming and finishing are what keeps the promises of this project, and cannot be exchanged",
        "WORKER_AGENT WORKER_CONSUMER",
    ),
)

#: Of each, why: it completes «… has no meaning here: ».
REASONS: Final[Mapping[str, str]] = {name: why for why, names in _GROUPS for name in names.split()}
IGNORED: Final[frozenset[str]] = frozenset(REASONS)
#: Old names that are more than another prefix.
FORMERLY_IGNORED: Final[Mapping[str, str]] = {
    "CELERY_MAX_CACHED_RESULTS": "RESULT_CACHE_MAX",
    "CELERY_RESULT_DBURI": "DATABASE_URL",
    "CELERY_RESULT_DB_SHORT_LIVED_SESSIONS": "DATABASE_SHORT_LIVED_SESSIONS",
    "CELERY_RESULT_DB_TABLENAMES": "DATABASE_TABLE_NAMES",
    "CELERY_RESULT_ENGINE_OPTIONS": "DATABASE_ENGINE_OPTIONS",
}


def by_reason(names: Mapping[str, str]) -> dict[str, list[str]]:
    """Reasons to those of `names` (Celery's upper-case name to what it is called where it stands) that have them."""
    found: dict[str, list[str]] = {}
    for name, shown in sorted(names.items()):
        found.setdefault(REASONS[name], []).append(shown)
    return found
