-- Roles of a database that do no more than they must. Run it as the owner of the database or a superuser, with the
-- schema of the tables first in search_path, once before the first `manage.py migrate` and after each one that made a
-- table: it may be run again and again.
--
--     psql -v ON_ERROR_STOP=1 -f roles.sql "$DATABASE_URL"
--
-- The roles have no password and cannot log in. Grant them to those who can:
--
--     GRANT tasks_producer TO web;   -- or OPTIONS = {"assume_role": "tasks_producer"} in DATABASES
--
--   tasks_migrator   makes and changes the tables: manage.py migrate
--   tasks_worker     runs tasks, sends periodic ones, revokes, requeues, and saves what the admin changes
--   tasks_producer   enqueues and waits for results; cannot change, end or delete what is enqueued
--   tasks_viewer     reads, payload included
--
-- What tasks do to the tables of the project needs rights of its own.

DO $roles$
DECLARE
    schema text := quote_ident(current_schema());
    each text;
BEGIN
    FOREACH each IN ARRAY ARRAY['tasks_migrator', 'tasks_worker', 'tasks_producer', 'tasks_viewer'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = each) THEN
            EXECUTE 'CREATE ROLE ' || each || ' NOLOGIN';
        END IF;
        EXECUTE 'GRANT USAGE ON SCHEMA ' || schema || ' TO ' || each;
    END LOOP;
    EXECUTE 'GRANT CREATE ON SCHEMA ' || schema || ' TO tasks_migrator';

    -- A worker looks whether its tables are there.
    IF to_regclass('django_migrations') IS NOT NULL THEN
        GRANT SELECT ON django_migrations TO tasks_worker, tasks_viewer;
    END IF;
    IF to_regclass('djtasks_message') IS NULL THEN
        RAISE NOTICE 'there are no tables yet: run this again after manage.py migrate';
        RETURN;
    END IF;

    FOR each IN
        SELECT tablename FROM pg_tables WHERE schemaname = current_schema() AND tablename LIKE 'djtasks\_%'
    LOOP
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %I TO tasks_worker', each);
        EXECUTE format('GRANT SELECT ON %I TO tasks_producer, tasks_viewer', each);
    END LOOP;
    FOR each IN
        SELECT sequencename FROM pg_sequences WHERE schemaname = current_schema() AND sequencename LIKE 'djtasks\_%'
    LOOP
        EXECUTE format('GRANT USAGE ON SEQUENCE %I TO tasks_worker', each);
    END LOOP;

    GRANT USAGE ON SEQUENCE djtasks_message_position TO tasks_producer;
    GRANT INSERT ON djtasks_message, djtasks_chord, djtasks_part TO tasks_producer;
    -- The ids of unique calls that stand for another one, and groups that are saved.
    GRANT INSERT, UPDATE, DELETE ON djtasks_alias, djtasks_group TO tasks_producer;
    -- Events: task-sent, and what a process sends of its own. The table is younger than the others.
    IF to_regclass('djtasks_event') IS NOT NULL THEN
        GRANT INSERT ON djtasks_event TO tasks_producer;
    END IF;
    -- Who waits for results says so.
    GRANT INSERT, UPDATE, DELETE ON djtasks_waiter TO tasks_producer;
END
$roles$;
