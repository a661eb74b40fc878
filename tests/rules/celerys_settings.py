"""The settings of Celery 5.7.0: each one's name, and the name that it had before, where that was another one."""

SETTINGS = {
    name: tuple(old)
    for name, *old in map(
        str.split,
        """
        accept_content CELERY_ACCEPT_CONTENT
        arangodb_backend_settings CELERY_ARANGODB_BACKEND_SETTINGS
        azureblockblob_base_path
        azureblockblob_connection_timeout
        azureblockblob_container_name
        azureblockblob_read_timeout
        azureblockblob_retry_increment_base
        azureblockblob_retry_initial_backoff_sec
        azureblockblob_retry_max_attempts
        beat_cron_starting_deadline CELERYBEAT_CRON_STARTING_DEADLINE
        beat_enable_remote_control CELERYBEAT_ENABLE_REMOTE_CONTROL
        beat_max_loop_interval CELERYBEAT_MAX_LOOP_INTERVAL
        beat_remote_control_max_tick_age CELERYBEAT_REMOTE_CONTROL_MAX_TICK_AGE
        beat_schedule CELERYBEAT_SCHEDULE
        beat_schedule_filename CELERYBEAT_SCHEDULE_FILENAME
        beat_scheduler CELERYBEAT_SCHEDULER
        beat_sync_every CELERYBEAT_SYNC_EVERY
        broker_channel_error_retry
        broker_connection_max_retries
        broker_connection_retry
        broker_connection_retry_on_startup
        broker_connection_timeout
        broker_failover_strategy
        broker_heartbeat
        broker_heartbeat_checkrate
        broker_host
        broker_login_method
        broker_native_delayed_delivery_queue_type
        broker_password
        broker_pool_acquire_timeout
        broker_pool_limit
        broker_port
        broker_read_url
        broker_transport
        broker_transport_options
        broker_url
        broker_use_ssl
        broker_user
        broker_vhost
        broker_write_url
        cache_backend CELERY_CACHE_BACKEND
        cache_backend_options CELERY_CACHE_BACKEND_OPTIONS
        cassandra_auth_kwargs
        cassandra_auth_provider
        cassandra_bundle_path
        cassandra_entry_ttl
        cassandra_keyspace
        cassandra_options
        cassandra_port
        cassandra_read_consistency
        cassandra_servers
        cassandra_table
        cassandra_write_consistency
        control_exchange
        control_queue_durable
        control_queue_exclusive
        control_queue_expires
        control_queue_ttl
        cosmosdbsql_collection_name
        cosmosdbsql_consistency_level
        cosmosdbsql_database_name
        cosmosdbsql_max_retry_attempts
        cosmosdbsql_max_retry_wait_time
        couchbase_backend_settings CELERY_COUCHBASE_BACKEND_SETTINGS
        database_create_tables_at_setup
        database_engine_callback
        database_engine_options CELERY_RESULT_ENGINE_OPTIONS
        database_short_lived_sessions CELERY_RESULT_DB_SHORT_LIVED_SESSIONS
        database_table_names CELERY_RESULT_DB_TABLENAMES
        database_table_schemas
        database_url CELERY_RESULT_DBURI
        elasticsearch_max_retries CELERY_ELASTICSEARCH_MAX_RETRIES
        elasticsearch_retry_on_timeout CELERY_ELASTICSEARCH_RETRY_ON_TIMEOUT
        elasticsearch_save_meta_as_text CELERY_ELASTICSEARCH_SAVE_META_AS_TEXT
        elasticsearch_timeout CELERY_ELASTICSEARCH_TIMEOUT
        enable_utc
        event_exchange CELERY_EVENT_EXCHANGE
        event_queue_durable CELERY_EVENT_QUEUE_DURABLE
        event_queue_exclusive CELERY_EVENT_QUEUE_EXCLUSIVE
        event_queue_expires CELERY_EVENT_QUEUE_EXPIRES
        event_queue_prefix CELERY_EVENT_QUEUE_PREFIX
        event_queue_ttl CELERY_EVENT_QUEUE_TTL
        event_serializer CELERY_EVENT_SERIALIZER
        gcs_base_path
        gcs_bucket
        gcs_project
        gcs_ttl
        imports CELERY_IMPORTS
        include CELERY_INCLUDE
        mongodb_backend_settings CELERY_MONGODB_BACKEND_SETTINGS
        redis_backend_use_ssl CELERY_REDIS_BACKEND_USE_SSL
        redis_db CELERY_REDIS_DB
        redis_host CELERY_REDIS_HOST
        redis_max_connections CELERY_REDIS_MAX_CONNECTIONS
        redis_password CELERY_REDIS_PASSWORD
        redis_port CELERY_REDIS_PORT
        redis_retry_on_timeout CELERY_REDIS_RETRY_ON_TIMEOUT
        redis_socket_connect_timeout CELERY_REDIS_SOCKET_CONNECT_TIMEOUT
        redis_socket_keepalive CELERY_REDIS_SOCKET_KEEPALIVE
        redis_socket_timeout CELERY_REDIS_SOCKET_TIMEOUT
        redis_username CELERY_REDIS_USERNAME
        result_accept_content
        result_backend CELERY_RESULT_BACKEND
        result_backend_always_retry CELERY_RESULT_BACKEND_ALWAYS_RETRY
        result_backend_base_sleep_between_retries_ms CELERY_RESULT_BACKEND_BASE_SLEEP_BETWEEN_RETRIES_MS
        result_backend_max_retries CELERY_RESULT_BACKEND_MAX_RETRIES
        result_backend_max_sleep_between_retries_ms CELERY_RESULT_BACKEND_MAX_SLEEP_BETWEEN_RETRIES_MS
        result_backend_transport_options CELERY_RESULT_BACKEND_TRANSPORT_OPTIONS
        result_cache_max CELERY_MAX_CACHED_RESULTS
        result_chord_expires CELERY_RESULT_CHORD_EXPIRES
        result_chord_join_timeout CELERY_RESULT_CHORD_JOIN_TIMEOUT
        result_chord_retry_interval CELERY_RESULT_CHORD_RETRY_INTERVAL
        result_compression CELERY_RESULT_COMPRESSION
        result_exchange CELERY_RESULT_EXCHANGE
        result_exchange_type CELERY_RESULT_EXCHANGE_TYPE
        result_expires CELERY_TASK_RESULT_EXPIRES
        result_extended CELERY_RESULT_EXTENDED
        result_failure_expires CELERY_RESULT_FAILURE_EXPIRES
        result_persistent CELERY_RESULT_PERSISTENT
        result_serializer CELERY_RESULT_SERIALIZER
        s3_access_key_id
        s3_base_path
        s3_bucket
        s3_endpoint_url
        s3_region
        s3_secret_access_key
        security_cert_store CELERY_SECURITY_CERT_STORE
        security_certificate CELERY_SECURITY_CERTIFICATE
        security_digest CELERY_SECURITY_DIGEST
        security_key CELERY_SECURITY_KEY
        security_key_password CELERY_SECURITY_KEY_PASSWORD
        task_acks_late CELERY_ACKS_LATE
        task_acks_on_failure CELERY_ACKS_ON_FAILURE
        task_acks_on_failure_or_timeout CELERY_ACKS_ON_FAILURE_OR_TIMEOUT
        task_acks_on_timeout CELERY_ACKS_ON_TIMEOUT
        task_allow_error_cb_on_chord_header CELERY_ALLOW_ERROR_CB_ON_CHORD_HEADER
        task_always_eager CELERY_ALWAYS_EAGER
        task_annotations CELERY_ANNOTATIONS
        task_compression CELERY_MESSAGE_COMPRESSION
        task_create_missing_queue_exchange_type CELERY_CREATE_MISSING_QUEUE_EXCHANGE_TYPE
        task_create_missing_queue_type CELERY_CREATE_MISSING_QUEUE_TYPE
        task_create_missing_queues CELERY_CREATE_MISSING_QUEUES
        task_default_delivery_mode CELERY_DEFAULT_DELIVERY_MODE
        task_default_exchange CELERY_DEFAULT_EXCHANGE
        task_default_exchange_type CELERY_DEFAULT_EXCHANGE_TYPE
        task_default_priority CELERY_DEFAULT_PRIORITY
        task_default_queue CELERY_DEFAULT_QUEUE
        task_default_queue_type CELERY_DEFAULT_QUEUE_TYPE
        task_default_rate_limit CELERY_DEFAULT_RATE_LIMIT
        task_default_routing_key CELERY_DEFAULT_ROUTING_KEY
        task_eager_propagates CELERY_EAGER_PROPAGATES_EXCEPTIONS
        task_ignore_result CELERY_IGNORE_RESULT
        task_inherit_parent_priority CELERY_INHERIT_PARENT_PRIORITY
        task_protocol CELERY_TASK_PROTOCOL
        task_publish_retry CELERY_TASK_PUBLISH_RETRY
        task_publish_retry_policy CELERY_TASK_PUBLISH_RETRY_POLICY
        task_queue_max_priority CELERY_QUEUE_MAX_PRIORITY
        task_queues CELERY_QUEUES
        task_reject_on_worker_lost CELERY_REJECT_ON_WORKER_LOST
        task_remote_tracebacks CELERY_REMOTE_TRACEBACKS
        task_repr_maxlevels CELERY_REPR_MAXLEVELS
        task_retry_on_worker_lost CELERY_RETRY_ON_WORKER_LOST
        task_routes CELERY_ROUTES
        task_send_sent_event CELERY_SEND_TASK_SENT_EVENT
        task_serializer CELERY_TASK_SERIALIZER
        task_soft_time_limit CELERYD_TASK_SOFT_TIME_LIMIT
        task_store_eager_result CELERY_STORE_EAGER_RESULT
        task_store_errors_even_if_ignored CELERY_STORE_ERRORS_EVEN_IF_IGNORED
        task_time_limit CELERYD_TASK_TIME_LIMIT
        task_track_started CELERY_TRACK_STARTED
        timezone CELERY_TIMEZONE
        worker_agent CELERYD_AGENT
        worker_autoscaler CELERYD_AUTOSCALER
        worker_cancel_long_running_tasks_on_connection_loss CELERYD_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS
        worker_concurrency CELERYD_CONCURRENCY
        worker_consumer CELERYD_CONSUMER
        worker_deduplicate_successful_tasks CELERYD_DEDUPLICATE_SUCCESSFUL_TASKS
        worker_detect_quorum_queues CELERYD_DETECT_QUORUM_QUEUES
        worker_direct CELERY_WORKER_DIRECT
        worker_disable_prefetch CELERYD_DISABLE_PREFETCH
        worker_disable_rate_limits CELERY_DISABLE_RATE_LIMITS
        worker_enable_prefetch_count_reduction CELERYD_ENABLE_PREFETCH_COUNT_REDUCTION
        worker_enable_remote_control CELERY_ENABLE_REMOTE_CONTROL
        worker_enable_soft_shutdown_on_idle CELERYD_ENABLE_SOFT_SHUTDOWN_ON_IDLE
        worker_eta_task_limit CELERYD_ETA_TASK_LIMIT
        worker_hijack_root_logger CELERYD_HIJACK_ROOT_LOGGER
        worker_log_color CELERYD_LOG_COLOR
        worker_log_datefmt CELERYD_LOG_DATEFMT
        worker_log_format CELERYD_LOG_FORMAT
        worker_lost_wait CELERYD_WORKER_LOST_WAIT
        worker_max_memory_per_child CELERYD_MAX_MEMORY_PER_CHILD
        worker_max_tasks_per_child CELERYD_MAX_TASKS_PER_CHILD
        worker_pool CELERYD_POOL
        worker_pool_putlocks CELERYD_POOL_PUTLOCKS
        worker_pool_restarts CELERYD_POOL_RESTARTS
        worker_pool_start_method CELERYD_POOL_START_METHOD
        worker_prefetch_multiplier CELERYD_PREFETCH_MULTIPLIER
        worker_proc_alive_timeout CELERYD_PROC_ALIVE_TIMEOUT
        worker_redirect_stdouts CELERY_REDIRECT_STDOUTS
        worker_redirect_stdouts_level CELERY_REDIRECT_STDOUTS_LEVEL
        worker_send_task_events CELERY_SEND_EVENTS
        worker_soft_shutdown_timeout CELERYD_SOFT_SHUTDOWN_TIMEOUT
        worker_state_db CELERYD_STATE_DB
        worker_task_log_datefmt CELERYD_TASK_LOG_DATEFMT
        worker_task_log_format CELERYD_TASK_LOG_FORMAT
        worker_timer CELERYD_TIMER
        worker_timer_precision CELERYD_TIMER_PRECISION
        """.strip().splitlines(),
    )
}
