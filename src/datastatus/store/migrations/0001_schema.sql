-- Companies, connections, datasets, the journal of their transitions, and the data status derived from it.

CREATE TYPE connection_status AS ENUM ('PENDING_AUTH', 'LINKED', 'DEAUTHORIZED', 'UNLINKED');

CREATE TYPE dataset_status AS ENUM (
    'QUEUED', 'FETCHING', 'MAPPING', 'VALIDATING', 'PROCESSING', 'COMPLETE',
    'NOT_SUPPORTED', 'FETCH_ERROR', 'MAP_ERROR', 'VALIDATION_ERROR', 'PROCESSING_ERROR',
    'INTERNAL_ERROR', 'PERMISSIONS_ERROR', 'AUTH_ERROR', 'RATE_LIMIT_ERROR', 'CANCELLED'
);

CREATE TYPE sync_trigger AS ENUM ('API', 'FIRST_LINK', 'RELINK', 'SCHEDULE', 'PORTAL');

-- The same table as domain/dataset.py; a test holds the two equal. NULL is "did not exist".
-- What checks rows is in PL/pgSQL, which keeps its plan: an expression in a CHECK, or one that is put in its place, is
-- read and prepared anew for each statement, which takes longer than to check a hundred rows. And it calls no function
-- of ours: where a dump is restored there is no search_path by which to find it.
CREATE FUNCTION is_legal_transition(from_status dataset_status, to_status dataset_status) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    RETURN CASE
        WHEN from_status IS NULL THEN to_status = 'QUEUED'
        WHEN from_status = 'QUEUED' THEN to_status IN
            ('FETCHING', 'NOT_SUPPORTED', 'AUTH_ERROR', 'CANCELLED', 'INTERNAL_ERROR')
        WHEN from_status = 'FETCHING' THEN to_status IN
            ('MAPPING', 'FETCH_ERROR', 'AUTH_ERROR', 'PERMISSIONS_ERROR', 'RATE_LIMIT_ERROR', 'NOT_SUPPORTED',
             'QUEUED', 'CANCELLED', 'INTERNAL_ERROR')
        WHEN from_status = 'MAPPING' THEN to_status IN
            ('VALIDATING', 'MAP_ERROR', 'QUEUED', 'CANCELLED', 'INTERNAL_ERROR')
        WHEN from_status = 'VALIDATING' THEN to_status IN
            ('PROCESSING', 'VALIDATION_ERROR', 'QUEUED', 'CANCELLED', 'INTERNAL_ERROR')
        WHEN from_status = 'PROCESSING' THEN to_status IN
            ('COMPLETE', 'PROCESSING_ERROR', 'QUEUED', 'CANCELLED', 'INTERNAL_ERROR')
        ELSE false
    END;
END
$$;

-- A worker holds a lease on the dataset in exactly these statuses.
CREATE FUNCTION is_leased_status(status dataset_status) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN status IN ('FETCHING', 'MAPPING', 'VALIDATING', 'PROCESSING');

CREATE FUNCTION is_terminal_status(status dataset_status) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN NOT is_leased_status(status) AND status <> 'QUEUED';

-- Leased in between, and terminal at the end; only what has ended, and not COMPLETE, has failed.
CREATE FUNCTION is_consistent_dataset(
    status dataset_status, version integer, attempt integer, started timestamptz, completed timestamptz,
    error_message text, error_code text, lease_token uuid, lease_holder uuid, lease_expires timestamptz
) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    RETURN version > 0 AND attempt > 0
        AND num_nulls(lease_token, lease_holder, lease_expires) IN (0, 3)
        AND (completed IS NOT NULL AND status <> 'COMPLETE' OR num_nulls(error_message, error_code) = 2)
        AND CASE
            WHEN status = 'QUEUED' THEN num_nulls(completed, lease_token) = 2
            WHEN status IN ('FETCHING', 'MAPPING', 'VALIDATING', 'PROCESSING')
                THEN num_nulls(started, lease_token) = 0 AND completed IS NULL
            ELSE completed IS NOT NULL AND lease_token IS NULL
        END;
END
$$;

CREATE TABLE company (
    id uuid PRIMARY KEY,
    name text NOT NULL CHECK (name <> ''),
    external_id text,
    created timestamptz NOT NULL DEFAULT clock_timestamp(),
    deleted timestamptz,
    -- Goes up with every change of its connections or of its own settings: what was read before it is out of date.
    revision bigint NOT NULL DEFAULT 1
);

CREATE UNIQUE INDEX company_external_id ON company (external_id) WHERE deleted IS NULL;

CREATE TABLE connection (
    id uuid PRIMARY KEY,
    company_id uuid NOT NULL REFERENCES company,
    integration_key text NOT NULL,
    status connection_status NOT NULL DEFAULT 'PENDING_AUTH',
    created timestamptz NOT NULL DEFAULT clock_timestamp(),
    first_linked timestamptz,
    -- When it was last linked, or given new credentials.
    authorized timestamptz,
    -- Kept, not removed: the transitions of its datasets stay readable.
    deleted timestamptz,
    -- When the last of what it had brought was gone: its records, and what its datasets said of them.
    erased timestamptz,
    UNIQUE (id, company_id, integration_key),
    CHECK (erased IS NULL OR deleted IS NOT NULL),
    CHECK (status <> 'LINKED' OR (first_linked IS NOT NULL AND deleted IS NULL)),
    CHECK (num_nulls(first_linked, authorized) IN (0, 2))
);

CREATE INDEX connection_company ON connection (company_id, id) WHERE deleted IS NULL;
CREATE INDEX connection_integration ON connection (integration_key, id) WHERE status = 'LINKED';
CREATE INDEX connection_not_linked ON connection (id) WHERE status <> 'LINKED';
CREATE INDEX connection_to_erase ON connection (deleted) WHERE deleted IS NOT NULL AND erased IS NULL;

CREATE FUNCTION revise_company() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    UPDATE company SET revision = revision + 1 WHERE id = coalesce(NEW.company_id, OLD.company_id);
    RETURN NULL;
END
$$;

CREATE TRIGGER revise_company AFTER INSERT OR UPDATE OR DELETE ON connection
FOR EACH ROW EXECUTE FUNCTION revise_company();

-- What a connection was authorised with, sealed under a key that lies elsewhere. Apart from the connection, so that
-- whatever reads connections never reads this.
CREATE TABLE connection_credentials (
    connection_id uuid PRIMARY KEY REFERENCES connection,
    sealed bytea NOT NULL,
    -- Tells which key opens it, and nothing of the key.
    key_id text NOT NULL
);

CREATE INDEX connection_credentials_key ON connection_credentials (key_id, connection_id);

CREATE TABLE connection_error (
    connection_id uuid NOT NULL REFERENCES connection,
    occurred timestamptz NOT NULL DEFAULT clock_timestamp(),
    code text NOT NULL,
    message text NOT NULL,
    resolved timestamptz,
    PRIMARY KEY (connection_id, occurred)
);

CREATE TABLE dataset (
    id uuid PRIMARY KEY,
    company_id uuid NOT NULL,
    connection_id uuid NOT NULL,
    -- That of its connection, which never changes: for the index of what connectors may claim.
    integration_key text NOT NULL,
    data_type text NOT NULL,
    trigger sync_trigger NOT NULL,
    sync_order integer NOT NULL,
    status dataset_status NOT NULL DEFAULT 'QUEUED',
    version integer NOT NULL DEFAULT 1,
    attempt integer NOT NULL DEFAULT 1,
    requested timestamptz NOT NULL DEFAULT clock_timestamp(),
    started timestamptz,
    -- When this attempt began, or the one before while it waits for another.
    claimed timestamptz,
    completed timestamptz,
    error_message text,
    error_code text,
    -- The worker that has it in hand. The holder is a connector's session or a server process.
    lease_token uuid,
    lease_holder uuid,
    lease_expires timestamptz,
    -- Not journaled: for GetDataset only.
    wait_reason text,
    retry_time timestamptz,
    records_fetched bigint NOT NULL DEFAULT 0,
    records_mapped bigint NOT NULL DEFAULT 0,
    records_validated bigint NOT NULL DEFAULT 0,
    records_stored bigint NOT NULL DEFAULT 0,
    records_total bigint,
    -- It may delete more of the cache than a sync usually may.
    allow_mass_deletion boolean NOT NULL DEFAULT false,
    -- How much validation found, also of what is not kept; NULL until it has been validated.
    validation_errors bigint,
    validation_warnings bigint,
    FOREIGN KEY (connection_id, company_id, integration_key) REFERENCES connection (id, company_id, integration_key),
    CHECK (is_consistent_dataset(
        status, version, attempt, started, completed, error_message, error_code, lease_token, lease_holder,
        lease_expires))
-- Room in a page for new versions of all its rows, as a batch changes datasets that lie together: so updates stay
-- heap-only. For the same reason no index below mentions status: their columns change only when a dataset is claimed,
-- released or ended.
) WITH (fillfactor = 50);

-- Single flight: one active dataset for each data type of a connection.
CREATE UNIQUE INDEX dataset_active ON dataset (connection_id, data_type) WHERE completed IS NULL;
-- What a connector may claim: which companies have something, and of each company what goes first.
CREATE INDEX dataset_claimable ON dataset (integration_key, company_id, sync_order, id)
    WHERE completed IS NULL AND lease_token IS NULL;
-- What a connector has in hand.
CREATE INDEX dataset_leased ON dataset (lease_holder, id) WHERE lease_token IS NOT NULL;
CREATE INDEX dataset_company_history ON dataset (company_id, id);
CREATE INDEX dataset_connection_history ON dataset (connection_id, id);

-- The journal. `seq` is dense and in commit order; `version` is dense for each dataset. There is no foreign key
-- to dataset: rows come only from queue_datasets and append_transitions, and outlive what they tell of. Partitioned,
-- so that what retention gives up goes by dropping a table.
CREATE TABLE transition (
    seq bigint PRIMARY KEY,
    dataset_id uuid NOT NULL,
    company_id uuid NOT NULL,
    connection_id uuid NOT NULL,
    data_type text NOT NULL,
    version integer NOT NULL,
    from_status dataset_status,
    to_status dataset_status NOT NULL,
    occurred timestamptz NOT NULL,
    trigger sync_trigger NOT NULL,
    description text NOT NULL,
    error_message text,
    error_code text,
    CHECK (is_legal_transition(from_status, to_status) AND (version = 1) = (from_status IS NULL))
) PARTITION BY RANGE (seq);

-- The partitions of the journal: from `from_seq` up to but without `to_seq`. Servers make them, of the size that they are
-- told, the first one too.
CREATE TABLE journal_partition (
    from_seq bigint PRIMARY KEY CHECK (from_seq > 0),
    to_seq bigint NOT NULL UNIQUE CHECK (to_seq > from_seq),
    attached timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Transitions before `oldest_seq` are no longer told of; their partitions go once nothing in them is.
CREATE TABLE journal_retention (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    oldest_seq bigint NOT NULL DEFAULT 1 CHECK (oldest_seq > 0)
);

INSERT INTO journal_retention DEFAULT VALUES;

-- Histories of the journal: the operator begins a new one after a restore that lost transitions past `fork_seq`. Their
-- numbers are of the clock, in milliseconds, so that no other database and no lost history has the same.
CREATE TABLE epoch (
    number bigint PRIMARY KEY CHECK (number > 0),
    fork_seq bigint NOT NULL CHECK (fork_seq >= 0),
    begun timestamptz NOT NULL DEFAULT clock_timestamp()
);

INSERT INTO epoch (number, fork_seq) VALUES ((extract(epoch FROM clock_timestamp()) * 1000)::bigint, 0);

-- The journal's newest transition, or the last that was given up where it is empty: it does not begin again at 1.
CREATE VIEW journal_head AS
SELECT (SELECT max(number) FROM epoch) AS epoch,
    greatest((SELECT max(seq) FROM transition), r.oldest_seq - 1) AS seq, r.oldest_seq
FROM journal_retention r;

-- The data status is read through these two pointers; only queueing and COMPLETE touch the row. No foreign keys, as for
-- the journal: a pointer is set by the statement that journals the dataset's transition.
CREATE TABLE data_status (
    connection_id uuid NOT NULL,
    data_type text NOT NULL,
    latest_dataset_id uuid NOT NULL,
    latest_seq bigint NOT NULL,
    successful_dataset_id uuid,
    successful_seq bigint,
    last_successful_sync timestamptz,
    PRIMARY KEY (connection_id, data_type),
    CHECK (num_nulls(successful_dataset_id, successful_seq, last_successful_sync) IN (0, 3))
) WITH (fillfactor = 80);

-- What makes a repeated QueueSync answer with the dataset of the first.
CREATE TABLE sync_request (
    caller text NOT NULL,
    request_id uuid NOT NULL,
    fingerprint bytea NOT NULL,
    dataset_id uuid NOT NULL,
    created timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (caller, request_id)
);

CREATE INDEX sync_request_created ON sync_request (created);

-- Connectors whose stream is open on some server now. A row that its server no longer renews means nothing.
CREATE TABLE connector_session (
    id uuid PRIMARY KEY,
    connector_name text NOT NULL,
    version text NOT NULL,
    address text NOT NULL,
    integration_keys text[] NOT NULL,
    connection_ids uuid[] NOT NULL,
    -- How many datasets it takes in hand, of all companies together and of one. 0 when it is about to leave.
    capacity integer NOT NULL,
    company_capacity integer NOT NULL,
    online_since timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires timestamptz NOT NULL
);

CREATE FUNCTION refuse_illegal_change() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'dataset % cannot go from % (version %) to % (version %)',
        OLD.id, OLD.status, OLD.version, NEW.status, NEW.version
        USING ERRCODE = 'check_violation';
END
$$;

CREATE TRIGGER refuse_illegal_change BEFORE UPDATE OF status, version ON dataset
FOR EACH ROW WHEN (
    NOT is_legal_transition(OLD.status, NEW.status) OR NEW.version <> OLD.version + 1
) EXECUTE FUNCTION refuse_illegal_change();

CREATE FUNCTION refuse_rewriting_history() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the journal of transitions is only ever appended to'
        USING ERRCODE = 'check_violation';
END
$$;

-- For each row, so that it holds in the partitions too.
CREATE TRIGGER refuse_rewriting_history BEFORE UPDATE OR DELETE ON transition
FOR EACH ROW EXECUTE FUNCTION refuse_rewriting_history();

CREATE TRIGGER refuse_truncating_history BEFORE TRUNCATE ON transition
FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewriting_history();

-- How many more transitions the partitions there are have room for.
CREATE FUNCTION spare_transitions() RETURNS bigint
LANGUAGE sql STABLE AS $$
    SELECT coalesce((SELECT max(to_seq) FROM journal_partition), 1) - 1
        - (SELECT seq FROM journal_head)
$$;

-- Add partitions of `size` transitions until that many are spare. Each is attached when it is complete, which takes
-- no lock that a writer would wait for.
CREATE FUNCTION make_journal_room(size bigint) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    start bigint;
    name text;
BEGIN
    IF spare_transitions() >= size THEN
        RETURN;
    END IF;
    -- Several servers may find at once that room is due.
    PERFORM pg_advisory_xact_lock(7308321, 2);
    WHILE spare_transitions() < size LOOP
        SELECT coalesce(max(to_seq), 1) INTO start FROM journal_partition;
        name := 'transition_' || start;
        EXECUTE format('CREATE TABLE %I (LIKE transition INCLUDING ALL)', name);
        EXECUTE format('ALTER TABLE transition ATTACH PARTITION %I FOR VALUES FROM (%s) TO (%s)',
            name, start, start + size);
        INSERT INTO journal_partition (from_seq, to_seq) VALUES (start, start + size);
    END LOOP;
END
$$;

-- Drop a partition below oldest_seq. The lock it needs would hold up every writer while it waits for a reader, so
-- it gives up soon: false, and the caller tries again later.
CREATE FUNCTION drop_journal_partition(start bigint) RETURNS boolean
LANGUAGE plpgsql
SET lock_timeout = '50ms'
AS $$
BEGIN
    DELETE FROM journal_partition p
    WHERE p.from_seq = start AND p.to_seq <= (SELECT oldest_seq FROM journal_retention);
    IF FOUND THEN
        EXECUTE format('DROP TABLE %I', 'transition_' || start);
    END IF;
    RETURN true;
EXCEPTION WHEN lock_not_available THEN
    RETURN false;
END
$$;
