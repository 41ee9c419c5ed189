-- Everything that changes a dataset's status. Rules that hold for all of it:
--
-- * Lock order: connection, dataset, journal. The journal lock is taken last and is held until the commit; no
--   client round trip happens under it, since each function here is one call in autocommit. A company's row is locked
--   with its connection's change, before or after datasets: who waits for it holds datasets of that connection only,
--   which nobody needs who has changed another connection.
-- * The status, the transition and the data status change under the journal lock, with one timestamp, so that
--   `started`, `completed` and `last_successful_sync` are exactly the journal's `occurred`.
-- * Results are per item: a bad, illegal, duplicate or conflicting item changes nothing and fails alone.
--   RETRY means "not looked at: somebody else has it locked just now, or it stands twice in this call".
-- * Nested loops over indexes are forced: the plans are cached when the tables are still small, and a plan
--   that scans would stay until the next ANALYZE. Forcing makes plans look dear, for which some installations
--   compile them each time; that takes longer than running them and is switched off. And they are planned once,
--   not for each call, which would take longer than running them too.

-- Take the journal lock and return the last seq. The read must be a statement of its own, after the lock.
CREATE FUNCTION lock_journal() RETURNS bigint
LANGUAGE plpgsql AS $$
BEGIN
    -- Under a snapshot older than the journal lock, max(seq) would be stale and seq would double. Nothing is journaled
    -- but under this lock.
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'statuses change under READ COMMITTED only, not under %',
            upper(current_setting('transaction_isolation'))
            USING ERRCODE = 'invalid_transaction_state';
    END IF;
    PERFORM pg_advisory_xact_lock(7308321, 1);
    RETURN (SELECT h.seq FROM journal_head h);
END
$$;

CREATE TYPE change AS (
    dataset_id uuid,
    from_status dataset_status,
    to_status dataset_status,
    description text,
    error_message text,
    error_code text,
    -- The lease that the change grants, or NULL to leave it with whoever has it.
    grant_token uuid,
    grant_holder uuid,
    grant_seconds double precision,
    -- What is told of its progress together with the change, or NULL: once it is made there may be no lease to tell it
    -- under.
    records_fetched bigint,
    records_total bigint
);

-- Carry out and journal changes on rows that the caller has locked and found fit, each of another dataset: the n-th
-- becomes transition `first_seq` + n - 1.
CREATE FUNCTION append_transitions(changes change[], OUT first_seq bigint, OUT occurred timestamptz)
LANGUAGE plpgsql
SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off SET jit = off
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    last_seq constant bigint := lock_journal();
    moment constant timestamptz := clock_timestamp();
    carried_out bigint;
BEGIN
    WITH changed AS (
        UPDATE dataset d SET
            status = item.to_status,
            version = d.version + 1,
            attempt = d.attempt + (item.to_status = 'QUEUED')::integer,
            started = CASE WHEN item.to_status = 'FETCHING' THEN coalesce(d.started, moment) ELSE d.started END,
            claimed = CASE WHEN item.to_status = 'FETCHING' THEN moment ELSE d.claimed END,
            completed = CASE WHEN is_terminal_status(item.to_status) THEN moment END,
            -- A dataset that goes back to QUEUED has not failed: the journal alone tells why.
            error_message = CASE WHEN is_terminal_status(item.to_status) THEN item.error_message END,
            error_code = CASE WHEN is_terminal_status(item.to_status) THEN item.error_code END,
            lease_token = CASE WHEN is_leased_status(item.to_status)
                THEN coalesce(item.grant_token, d.lease_token) END,
            lease_holder = CASE WHEN is_leased_status(item.to_status)
                THEN coalesce(item.grant_holder, d.lease_holder) END,
            lease_expires = CASE WHEN is_leased_status(item.to_status)
                THEN coalesce(moment + make_interval(secs => item.grant_seconds), d.lease_expires) END,
            wait_reason = NULL,
            retry_time = NULL,
            records_fetched = CASE WHEN item.to_status <> 'QUEUED'
                THEN greatest(d.records_fetched, item.records_fetched) ELSE 0 END,
            records_total = coalesce(item.records_total, d.records_total),
            records_mapped = CASE WHEN item.to_status = 'QUEUED' THEN 0 ELSE d.records_mapped END,
            records_validated = CASE WHEN item.to_status = 'QUEUED' THEN 0 ELSE d.records_validated END,
            validation_errors = CASE WHEN item.to_status <> 'QUEUED' THEN d.validation_errors END,
            validation_warnings = CASE WHEN item.to_status <> 'QUEUED' THEN d.validation_warnings END
        FROM unnest(changes) WITH ORDINALITY AS item (
            dataset_id, from_status, to_status, description, error_message, error_code,
            grant_token, grant_holder, grant_seconds, records_fetched, records_total, ordinal)
        WHERE d.id = item.dataset_id
        RETURNING item.ordinal, item.from_status, item.to_status, item.description, item.error_message,
            item.error_code, d.id, d.company_id, d.connection_id, d.data_type, d.version, d.trigger
    ), journaled AS (
        INSERT INTO transition
        SELECT last_seq + c.ordinal, c.id, c.company_id, c.connection_id, c.data_type, c.version,
            c.from_status, c.to_status, moment, c.trigger, c.description, c.error_message, c.error_code
        FROM changed c
    ), pointed AS (
        UPDATE data_status s
        SET successful_dataset_id = c.id, successful_seq = last_seq + c.ordinal, last_successful_sync = moment
        FROM changed c
        WHERE c.to_status = 'COMPLETE' AND s.connection_id = c.connection_id AND s.data_type = c.data_type
    )
    SELECT count(*) INTO carried_out FROM changed;
    IF carried_out <> cardinality(changes) THEN
        -- It would leave a gap in seq.
        RAISE EXCEPTION 'of % changes only % could be made', cardinality(changes), carried_out
            USING ERRCODE = 'cardinality_violation';
    END IF;
    first_seq := last_seq + 1;
    occurred := moment;
END
$$;

-- Whether a request was carried out before: REPLAYED with its dataset, REUSED where it was another request, or no
-- row.
CREATE FUNCTION recall_request(caller text, request_id uuid, fingerprint bytea, forgotten timestamptz)
RETURNS TABLE (outcome text, dataset_id uuid)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT CASE WHEN r.fingerprint = recall_request.fingerprint THEN 'REPLAYED' ELSE 'REUSED' END, r.dataset_id
    FROM sync_request r
    WHERE r.caller = recall_request.caller AND r.request_id = recall_request.request_id AND r.created > forgotten;
END;

-- A dataset to be queued under `dataset_id`. With `supported` false it is queued and ends NOT_SUPPORTED in one go; with
-- `attach` an active dataset is the answer instead of a refusal; `request_id` is NULL where the caller gave none;
-- `company_revision` is what company_states told of the company that the item was made for, NULL where it is all the
-- same. Types, not arrays for each of their columns: to take those apart costs four times as much.
CREATE TYPE queue_item AS (
    dataset_id uuid,
    company_id uuid,
    connection_id uuid,
    data_type text,
    trigger sync_trigger,
    sync_order integer,
    supported boolean,
    attach boolean,
    allow_mass_deletion boolean,
    caller text,
    request_id uuid,
    fingerprint bytea,
    company_revision bigint
);

-- What becomes of an item. `outcome` NULL: it is queued, and the places, from 1, are those among what is queued, and
-- among what of that ends NOT_SUPPORTED at once; NULL for everything else. Otherwise:
--   ATTACHED      `answer` is the active dataset
--   REPLAYED      the same request made `answer` before
--   ACTIVE        refused: `answer` is running
--   REUSED        refused: the request_id belongs to another request, which made `answer`
--   STALE         refused: the company or the settings have changed since `company_revision`
--   NO_CONNECTION refused: the company has no such connection
--   NOT_LINKED    refused: see `link`
--   RETRY         not decided; call again
CREATE TYPE queue_decision AS (
    outcome text,
    answer uuid,
    link connection_status,
    queued_place bigint,
    ended_place bigint
);

-- Queue datasets. One row, whatever the items are: to tell of each what they have in common costs as much as to
-- journal it.
--   called          when; what is queued was requested then
--   first_seq       the first transition of those that queued, all at `queued`; NULL where nothing was queued
--   first_ended_seq the first transition of those to NOT_SUPPORTED, all at `ended`; NULL where there are none
--   epoch           that of all of these
--   decisions       of each item, in item order; NULL where all are queued in their order and none has ended
CREATE FUNCTION queue_datasets(
    items queue_item[], queued_description text, not_supported_description text, request_id_hours integer,
    OUT called timestamptz, OUT first_seq bigint, OUT queued timestamptz, OUT first_ended_seq bigint,
    OUT ended timestamptz, OUT epoch bigint, OUT decisions queue_decision[]
)
LANGUAGE plpgsql
SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off SET jit = off
SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
DECLARE
    have_request_ids boolean;
    have_unsupported boolean;
    forgotten timestamptz;
    inserted_ids uuid[];
    undone uuid[] := '{}';
    unsupported change[];
    last_seq bigint;
BEGIN
    called := clock_timestamp();
    forgotten := called - make_interval(hours => request_id_hours);
    SELECT bool_or(u.request_id IS NOT NULL), bool_or(NOT u.supported) INTO have_request_ids, have_unsupported
    FROM unnest(items) u;

    IF have_request_ids THEN
        SELECT array_agg(ROW(r.outcome, r.dataset_id, NULL, NULL, NULL)::queue_decision ORDER BY u.ordinality)
        INTO decisions
        FROM unnest(items) WITH ORDINALITY u
        LEFT JOIN LATERAL recall_request(u.caller, u.request_id, u.fingerprint, forgotten) r ON true;
    END IF;

    -- FOR SHARE: a deauthorisation cannot slip in between this check and the commit. Inserted in the order of the
    -- unique index, so that two calls cannot wait for each other's datasets.
    WITH inserted AS (
        INSERT INTO dataset (
            id, company_id, connection_id, integration_key, data_type, trigger, sync_order,
            allow_mass_deletion, requested)
        SELECT u.dataset_id, u.company_id, u.connection_id, c.integration_key, u.data_type, u.trigger, u.sync_order,
            u.allow_mass_deletion, called
        FROM unnest(items, decisions) WITH ORDINALITY u
        CROSS JOIN LATERAL (
            SELECT c.status, c.integration_key FROM connection c
            WHERE c.id = u.connection_id AND c.company_id = u.company_id AND c.deleted IS NULL
            FOR SHARE SKIP LOCKED
        ) c
        WHERE c.status = 'LINKED' AND u.outcome IS NULL
            AND (u.company_revision IS NULL OR u.company_revision = (
                SELECT r.revision FROM company_revision r WHERE r.company_id = u.company_id))
        ORDER BY u.connection_id, u.data_type, u.ordinality
        ON CONFLICT (connection_id, data_type) WHERE dataset.completed IS NULL DO NOTHING
        RETURNING id
    )
    SELECT coalesce(array_agg(i.id), '{}') INTO inserted_ids FROM inserted i;

    IF cardinality(inserted_ids) < cardinality(items) THEN
        -- A statement of its own, which sees what the one before has waited for. The request may have been carried
        -- out meanwhile, sent twice; the dataset in the way may stand in this call and not be decided yet, or it has
        -- just finished; and a connection that looks fit was locked a moment ago.
        SELECT array_agg(ROW(
            CASE
                WHEN u.outcome IS NOT NULL THEN u.outcome
                WHEN u.dataset_id = ANY (inserted_ids) THEN NULL
                WHEN r.outcome IS NOT NULL THEN r.outcome
                WHEN u.company_revision <> (SELECT r.revision FROM company_revision r WHERE r.company_id = u.company_id)
                    THEN 'STALE'
                WHEN c.status IS NULL THEN 'NO_CONNECTION'
                WHEN c.status <> 'LINKED' THEN 'NOT_LINKED'
                WHEN d.id IS NULL OR d.id IN (SELECT i.dataset_id FROM unnest(items) i) THEN 'RETRY'
                WHEN u.attach THEN 'ATTACHED'
                ELSE 'ACTIVE'
            END,
            CASE
                WHEN u.outcome IS NOT NULL THEN u.answer
                WHEN u.dataset_id <> ALL (inserted_ids) THEN coalesce(r.dataset_id, d.id)
            END,
            c.status, NULL, NULL)::queue_decision ORDER BY u.ordinality)
        INTO decisions
        FROM unnest(items, decisions) WITH ORDINALITY u
        LEFT JOIN LATERAL recall_request(u.caller, u.request_id, u.fingerprint, forgotten) r ON true
        LEFT JOIN connection c ON c.id = u.connection_id AND c.company_id = u.company_id AND c.deleted IS NULL
        LEFT JOIN dataset d
            ON d.connection_id = u.connection_id AND d.data_type = u.data_type AND d.completed IS NULL;

        -- What the caller allows must be known before the dataset is validated, which looks once in each attempt: while it
        -- does, it is refused. Nobody waits for a lock here.
        IF (SELECT bool_or(u.attach AND u.allow_mass_deletion) FROM unnest(items) u) THEN
            WITH asked AS (
                SELECT u.*, d.status, d.is_allowed
                FROM unnest(items, decisions) WITH ORDINALITY u
                LEFT JOIN LATERAL (
                    SELECT d.status, d.allow_mass_deletion AS is_allowed FROM dataset d
                    WHERE d.id = u.answer AND d.completed IS NULL AND u.outcome = 'ATTACHED' AND u.allow_mass_deletion
                    FOR NO KEY UPDATE SKIP LOCKED
                ) d ON true
            ), allowed AS (
                UPDATE dataset d SET allow_mass_deletion = true FROM asked a
                WHERE d.id = a.answer AND NOT a.is_allowed AND a.status <> 'VALIDATING'
            )
            SELECT array_agg(ROW(
                CASE
                    WHEN a.outcome IS DISTINCT FROM 'ATTACHED' OR NOT a.allow_mass_deletion THEN a.outcome
                    WHEN a.status IS NULL THEN 'RETRY'
                    WHEN a.status = 'VALIDATING' AND NOT a.is_allowed THEN 'ACTIVE'
                    ELSE a.outcome
                END,
                a.answer, a.link, NULL, NULL)::queue_decision ORDER BY a.ordinality)
            INTO decisions
            FROM asked a;
        END IF;
    END IF;

    IF have_request_ids THEN
        -- After all datasets and in an order of their own, again so that two calls cannot wait for each other.
        INSERT INTO sync_request (caller, request_id, fingerprint, dataset_id)
        SELECT DISTINCT ON (u.caller, u.request_id) u.caller, u.request_id, u.fingerprint,
            coalesce(u.answer, u.dataset_id)
        FROM unnest(items, decisions) WITH ORDINALITY u
        WHERE coalesce(u.outcome, 'ATTACHED') = 'ATTACHED' AND u.request_id IS NOT NULL
        ORDER BY u.caller, u.request_id, u.ordinality
        ON CONFLICT (caller, request_id) DO UPDATE
        SET fingerprint = excluded.fingerprint, dataset_id = excluded.dataset_id, created = excluded.created
        WHERE sync_request.created <= forgotten;

        -- Where a twin was quicker, the next call finds it.
        SELECT coalesce(array_agg(u.dataset_id) FILTER (WHERE u.is_undone AND u.outcome IS NULL), '{}'),
            array_agg(ROW(CASE WHEN u.is_undone THEN 'RETRY' ELSE u.outcome END, u.answer, u.link, NULL, NULL)
                ::queue_decision ORDER BY u.ordinality)
        INTO undone, decisions
        FROM (
            SELECT u.*, u.request_id IS NOT NULL AND coalesce(u.outcome, 'ATTACHED') = 'ATTACHED'
                AND (r.dataset_id, r.fingerprint)
                    IS DISTINCT FROM (coalesce(u.answer, u.dataset_id), u.fingerprint) AS is_undone
            FROM unnest(items, decisions) WITH ORDINALITY u
            LEFT JOIN sync_request r ON r.caller = u.caller AND r.request_id = u.request_id
        ) u;
        DELETE FROM dataset d WHERE d.id = ANY (undone);
    END IF;

    IF decisions IS NOT NULL OR have_unsupported THEN
        SELECT array_agg(ROW(u.outcome, u.answer, u.link,
            CASE WHEN u.is_queued THEN u.queued_place END, CASE WHEN u.is_ended THEN u.ended_place END)
            ::queue_decision ORDER BY u.ordinality)
        INTO decisions
        FROM (
            SELECT u.outcome, u.answer, u.link, u.is_queued, u.is_ended, u.ordinality,
                count(*) FILTER (WHERE u.is_queued) OVER (ORDER BY u.ordinality) AS queued_place,
                count(*) FILTER (WHERE u.is_ended) OVER (ORDER BY u.ordinality) AS ended_place
            FROM (
                SELECT u.*, u.outcome IS NULL AS is_queued, u.outcome IS NULL AND NOT u.supported AS is_ended
                FROM unnest(items, decisions) WITH ORDINALITY u
            ) u
        ) u;
    END IF;

    IF cardinality(inserted_ids) > cardinality(undone) THEN
        last_seq := lock_journal();
        first_seq := last_seq + 1;
        queued := clock_timestamp();
        epoch := (SELECT max(e.number) FROM epoch e);
        WITH appended AS (
            INSERT INTO transition
            SELECT last_seq + coalesce(u.queued_place, u.ordinality), u.dataset_id, u.company_id, u.connection_id,
                u.data_type, 1, NULL, 'QUEUED', queued, u.trigger, queued_description, NULL, NULL
            FROM unnest(items, decisions) WITH ORDINALITY u
            WHERE u.outcome IS NULL
            RETURNING seq, dataset_id, connection_id, data_type
        )
        INSERT INTO data_status (connection_id, data_type, latest_dataset_id, latest_seq)
        SELECT a.connection_id, a.data_type, a.dataset_id, a.seq FROM appended a
        ON CONFLICT (connection_id, data_type) DO UPDATE
        SET latest_dataset_id = excluded.latest_dataset_id, latest_seq = excluded.latest_seq;
    END IF;

    IF have_unsupported THEN
        SELECT array_agg(ROW(u.dataset_id, 'QUEUED', 'NOT_SUPPORTED', not_supported_description, NULL, NULL, NULL,
            NULL, NULL, NULL, NULL)::change ORDER BY u.ended_place)
        INTO unsupported
        FROM unnest(items, decisions) u
        WHERE u.ended_place IS NOT NULL;
        IF unsupported IS NOT NULL THEN
            SELECT a.first_seq, a.occurred INTO first_ended_seq, ended FROM append_transitions(unsupported) a;
        END IF;
    END IF;
END
$$;

-- Whether a change asked for may be made to a dataset as it is now: DONE, LEASE_LOST, NOT_EXPIRED or ILLEGAL. The
-- nil token is that of callers without a lease: it fits where nobody has one, and where they themselves do. Volatile, as
-- the clock is that it reads: only so is it put in the place of its calls, which take longer than what they do.
CREATE FUNCTION judge_change(
    status dataset_status, lease_token uuid, lease_expires timestamptz,
    to_status dataset_status, held_token uuid, only_expired boolean, grant_token uuid
) RETURNS text
LANGUAGE sql
RETURN CASE
    WHEN held_token <> coalesce(lease_token, '00000000-0000-0000-0000-000000000000') THEN 'LEASE_LOST'
    WHEN only_expired AND coalesce(lease_expires > clock_timestamp(), true) THEN 'NOT_EXPIRED'
    WHEN NOT is_legal_transition(status, to_status) THEN 'ILLEGAL'
    -- Nobody would hold the lease that such a status needs.
    WHEN is_leased_status(to_status) AND lease_token IS NULL AND grant_token IS NULL THEN 'ILLEGAL'
    ELSE 'DONE'
END;

-- A change asked for. `held_token` is the lease that the caller claims to hold, NULL for what needs none (claim, cancel,
-- reap); `only_expired` asks for an expired lease. The grant_* and records_* are those of type change.
CREATE TYPE requested_change AS (
    dataset_id uuid,
    to_status dataset_status,
    held_token uuid,
    only_expired boolean,
    description text,
    error_message text,
    error_code text,
    grant_token uuid,
    grant_holder uuid,
    grant_seconds double precision,
    records_fetched bigint,
    records_total bigint
);

-- What becomes of it; what follows `outcome` is the dataset as it was before, NULL where its row was not had:
--   DONE         changed
--   UNKNOWN      there is no such dataset
--   ILLEGAL      refused: the table of transitions has no way from `status` to there
--   LEASE_LOST   refused: the lease is another's by now
--   NOT_EXPIRED  refused: the lease was renewed meanwhile
--   RETRY        not judged: locked by somebody else, or twice in this call
CREATE TYPE judged_change AS (
    outcome text,
    status dataset_status,
    version integer,
    company_id uuid,
    connection_id uuid,
    data_type text,
    trigger sync_trigger
);

-- Change the status of many datasets: `judged` tells of each change, in order, what became of it. The n-th that is DONE
-- is transition `first_seq` + n - 1 of `epoch`, at `occurred`; all of these are NULL where none is.
CREATE FUNCTION transition_datasets(
    requested requested_change[],
    OUT first_seq bigint, OUT occurred timestamptz, OUT epoch bigint, OUT judged judged_change[]
)
LANGUAGE plpgsql
SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off SET jit = off
SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
DECLARE
    changes change[];
BEGIN
    SELECT array_agg(ROW(j.outcome, j.status, j.version, j.company_id, j.connection_id, j.data_type, j.trigger)
            ::judged_change ORDER BY j.ordinality),
        array_agg(ROW(j.dataset_id, j.status, j.to_status, j.description, j.error_message, j.error_code,
            j.grant_token, j.grant_holder, j.grant_seconds, j.records_fetched, j.records_total)::change
            ORDER BY j.ordinality)
            FILTER (WHERE j.outcome = 'DONE')
    INTO judged, changes
    FROM (
        SELECT u.*, d.status, d.version, d.company_id, d.connection_id, d.data_type, d.trigger,
            CASE
                WHEN d.status IS NULL AND NOT EXISTS (SELECT FROM dataset x WHERE x.id = u.dataset_id) THEN 'UNKNOWN'
                WHEN d.status IS NULL OR row_number() OVER (PARTITION BY u.dataset_id ORDER BY u.ordinality) > 1
                    THEN 'RETRY'
                ELSE judge_change(d.status, d.lease_token, d.lease_expires, u.to_status, u.held_token,
                    u.only_expired, u.grant_token)
            END AS outcome
        FROM unnest(requested) WITH ORDINALITY u
        -- In whatever order: nobody waits for a lock here.
        LEFT JOIN LATERAL (
            SELECT d.status, d.version, d.company_id, d.connection_id, d.data_type, d.trigger, d.lease_token,
                d.lease_expires
            FROM dataset d
            WHERE d.id = u.dataset_id FOR NO KEY UPDATE SKIP LOCKED
        ) d ON true
    ) j;

    IF changes IS NOT NULL THEN
        SELECT a.first_seq, a.occurred INTO first_seq, occurred FROM append_transitions(changes) a;
        epoch := (SELECT max(e.number) FROM epoch e);
    END IF;
END
$$;
