-- Everything that changes a dataset's status. Rules that hold for all of it:
--
-- * Lock order: connection, dataset, journal. The journal lock is taken last and is held until the commit; no
--   client round trip happens under it, since each function here is one call in autocommit.
-- * The status, the transition and the data status change under the journal lock, with one timestamp, so that
--   `started`, `completed` and `last_successful_sync` are exactly the journal's `occurred`.
-- * Results are per item: a bad, illegal, duplicate or conflicting item changes nothing and fails alone.
--   RETRY means "not looked at: somebody else has it locked just now, or it stands twice in this call".
-- * Nested loops over indexes are forced: the plans are cached when the tables are still small, and a plan
--   that scans would stay until the next ANALYZE. Forcing makes plans look dear, for which some installations
--   compile them each time; that takes longer than running them and is switched off.

CREATE FUNCTION refuse_other_isolation() RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    -- Under a snapshot older than the journal lock, max(seq) would be stale and seq would double.
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'statuses change under READ COMMITTED only, not under %',
            upper(current_setting('transaction_isolation'))
            USING ERRCODE = 'invalid_transaction_state';
    END IF;
END
$$;

-- Take the journal lock and return the last seq. The read must be a statement of its own, after the lock.
CREATE FUNCTION lock_journal() RETURNS bigint
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM refuse_other_isolation();
    PERFORM pg_advisory_xact_lock(7308321, 1);
    -- An emptied journal does not begin again at 1.
    RETURN (
        SELECT greatest((SELECT max(seq) FROM transition), r.oldest_seq - 1) FROM journal_retention r
    );
END
$$;

CREATE TYPE appended AS (dataset_id uuid, seq bigint, version integer, occurred timestamptz);

-- Journal the first transition of datasets that this transaction has inserted as QUEUED, in array order.
CREATE FUNCTION append_queued(dataset_ids uuid[], description text) RETURNS SETOF appended
LANGUAGE plpgsql
SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off SET jit = off
AS $$
DECLARE
    last_seq constant bigint := lock_journal();
    moment constant timestamptz := clock_timestamp();
BEGIN
    RETURN QUERY
    WITH journaled AS (
        INSERT INTO transition
        SELECT last_seq + row_number() OVER (ORDER BY item.ordinal), d.id, d.company_id, d.connection_id, d.data_type, 1, NULL, 'QUEUED',
            moment, d.trigger, description, NULL, NULL
        FROM unnest(dataset_ids) WITH ORDINALITY AS item (dataset_id, ordinal)
        JOIN dataset d ON d.id = item.dataset_id
        RETURNING transition.*
    ), pointed AS (
        INSERT INTO data_status (connection_id, data_type, latest_dataset_id, latest_seq)
        SELECT j.connection_id, j.data_type, j.dataset_id, j.seq FROM journaled j
        ON CONFLICT (connection_id, data_type) DO UPDATE
        SET latest_dataset_id = excluded.latest_dataset_id, latest_seq = excluded.latest_seq
    )
    SELECT j.dataset_id, j.seq, j.version, j.occurred FROM journaled j;
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
    grant_seconds double precision
);

-- Carry out and journal changes, in array order, on rows that the caller has locked and found fit.
CREATE FUNCTION append_transitions(changes change[]) RETURNS SETOF appended
LANGUAGE plpgsql
SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off SET jit = off
AS $$
DECLARE
    last_seq constant bigint := lock_journal();
    moment constant timestamptz := clock_timestamp();
BEGIN
    RETURN QUERY
    WITH changed AS (
        UPDATE dataset d SET
            status = item.to_status,
            version = d.version + 1,
            attempt = d.attempt + (item.to_status = 'QUEUED')::integer,
            started = CASE WHEN item.to_status = 'FETCHING' THEN coalesce(d.started, moment) ELSE d.started END,
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
            records_fetched = CASE WHEN item.to_status = 'QUEUED' THEN 0 ELSE d.records_fetched END,
            records_mapped = CASE WHEN item.to_status = 'QUEUED' THEN 0 ELSE d.records_mapped END,
            records_validated = CASE WHEN item.to_status = 'QUEUED' THEN 0 ELSE d.records_validated END,
            records_stored = CASE WHEN item.to_status = 'QUEUED' THEN 0 ELSE d.records_stored END,
            validation_errors = CASE WHEN item.to_status <> 'QUEUED' THEN d.validation_errors END,
            validation_warnings = CASE WHEN item.to_status <> 'QUEUED' THEN d.validation_warnings END
        FROM unnest(changes) WITH ORDINALITY AS item (
            dataset_id, from_status, to_status, description, error_message, error_code,
            grant_token, grant_holder, grant_seconds, ordinal)
        WHERE d.id = item.dataset_id
        RETURNING item.ordinal, item.from_status, item.to_status, item.description, item.error_message,
            item.error_code, d.id, d.company_id, d.connection_id, d.data_type, d.version, d.trigger
    ), journaled AS (
        INSERT INTO transition
        SELECT last_seq + row_number() OVER (ORDER BY c.ordinal), c.id, c.company_id, c.connection_id, c.data_type, c.version,
            c.from_status, c.to_status, moment, c.trigger, c.description,
            c.error_message, c.error_code
        FROM changed c
        RETURNING transition.*
    ), pointed AS (
        UPDATE data_status s
        SET successful_dataset_id = j.dataset_id, successful_seq = j.seq, last_successful_sync = moment
        FROM journaled j
        WHERE j.to_status = 'COMPLETE' AND s.connection_id = j.connection_id AND s.data_type = j.data_type
    )
    SELECT j.dataset_id, j.seq, j.version, j.occurred FROM journaled j;
END
$$;

-- Whether a request was carried out before: REPLAYED with its dataset, REUSED where it was another request, or
-- nothing.
CREATE FUNCTION recall_request(
    caller text, request_id uuid, fingerprint bytea, forgotten timestamptz,
    OUT outcome text, OUT dataset_id uuid
)
LANGUAGE plpgsql
AS $$
BEGIN
    SELECT CASE WHEN r.fingerprint = recall_request.fingerprint THEN 'REPLAYED' ELSE 'REUSED' END, r.dataset_id
    INTO outcome, dataset_id
    FROM sync_request r
    WHERE r.caller = recall_request.caller AND r.request_id = recall_request.request_id AND r.created > forgotten;
END
$$;

-- Queue datasets; one row an item, in item order. With `supported` false a dataset is queued and ends
-- NOT_SUPPORTED in one go; with `attach` an active dataset is the answer instead of a refusal; `request_id` is
-- NULL where the caller gave none. Outcomes:
--   QUEUED        a new dataset; `completed` is set where it ended NOT_SUPPORTED at once
--   ATTACHED      `dataset_id` is the active dataset
--   REPLAYED      the same request made `dataset_id` before
--   ACTIVE        refused: `dataset_id` is running
--   REUSED        refused: the request_id belongs to another request
--   NO_CONNECTION refused: the company has no such connection
--   NOT_LINKED    refused: see `link`
--   RETRY         not decided; call again
CREATE FUNCTION queue_datasets(
    dataset_ids uuid[], company_ids uuid[], connection_ids uuid[], data_types text[], triggers sync_trigger[],
    sync_orders integer[], supported boolean[], attach boolean[], mass_deletions boolean[], callers text[],
    request_ids uuid[], fingerprints bytea[], queued_description text, not_supported_description text, request_id_hours integer
) RETURNS TABLE (
    outcome text, dataset_id uuid, link connection_status, requested timestamptz, completed timestamptz
)
LANGUAGE plpgsql
SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off SET jit = off
AS $$
DECLARE
    outcomes text[] := array_fill(NULL::text, ARRAY[cardinality(dataset_ids)]);
    answers uuid[] := dataset_ids;
    links connection_status[] := array_fill(NULL::connection_status, ARRAY[cardinality(dataset_ids)]);
    forgotten constant timestamptz := clock_timestamp() - make_interval(hours => request_id_hours);
    item record;
    verdict text;
    answer uuid;
    state connection_status;
    source text;
    winners uuid[];
    unsupported change[];
BEGIN
    PERFORM refuse_other_isolation();

    -- In the order of the unique index, so that two calls cannot wait for each other's datasets.
    FOR item IN
        SELECT u.* FROM unnest(dataset_ids, company_ids, connection_ids, data_types, triggers, sync_orders, attach,
            mass_deletions, callers, request_ids, fingerprints) WITH ORDINALITY AS u (
            dataset_id, company_id, connection_id, data_type, trigger, sync_order, attach, allow_mass_deletion,
            caller, request_id, fingerprint, ordinal)
        ORDER BY u.connection_id, u.data_type, u.ordinal
    LOOP
        <<decision>>
        BEGIN
            verdict := NULL;
            answer := NULL;
            state := NULL;
            IF item.request_id IS NOT NULL THEN
                SELECT r.outcome, r.dataset_id INTO verdict, answer
                FROM recall_request(item.caller, item.request_id, item.fingerprint, forgotten) r;
                EXIT decision WHEN verdict IS NOT NULL;
            END IF;

            -- FOR SHARE: a deauthorisation cannot slip in between this check and the commit.
            SELECT c.status, c.integration_key INTO state, source FROM connection c
            WHERE c.id = item.connection_id AND c.company_id = item.company_id AND c.deleted IS NULL
            FOR SHARE SKIP LOCKED;
            IF state IS NULL THEN
                verdict := CASE WHEN EXISTS (
                    SELECT FROM connection c
                    WHERE c.id = item.connection_id AND c.company_id = item.company_id AND c.deleted IS NULL
                ) THEN 'RETRY' ELSE 'NO_CONNECTION' END;
                EXIT decision;
            ELSIF state <> 'LINKED' THEN
                verdict := 'NOT_LINKED';
                EXIT decision;
            END IF;

            INSERT INTO dataset (id, company_id, connection_id, integration_key, data_type, trigger, sync_order,
                allow_mass_deletion)
            VALUES (item.dataset_id, item.company_id, item.connection_id, source, item.data_type, item.trigger,
                item.sync_order, item.allow_mass_deletion)
            ON CONFLICT (connection_id, data_type) WHERE dataset.completed IS NULL DO NOTHING;
            IF FOUND THEN
                verdict := 'QUEUED';
                answer := item.dataset_id;
                EXIT decision;
            END IF;

            -- The winner may be this very request, sent twice; or it stands in this call and is not decided yet;
            -- or it has just finished.
            IF item.request_id IS NOT NULL THEN
                SELECT r.outcome, r.dataset_id INTO verdict, answer
                FROM recall_request(item.caller, item.request_id, item.fingerprint, forgotten) r;
                EXIT decision WHEN verdict IS NOT NULL;
            END IF;
            SELECT d.id INTO answer FROM dataset d
            WHERE d.connection_id = item.connection_id AND d.data_type = item.data_type AND d.completed IS NULL;
            verdict := CASE
                WHEN answer IS NULL OR answer = ANY (dataset_ids) THEN 'RETRY'
                WHEN item.attach THEN 'ATTACHED'
                ELSE 'ACTIVE'
            END;
        END;
        outcomes[item.ordinal] := verdict;
        answers[item.ordinal] := answer;
        links[item.ordinal] := state;
    END LOOP;

    -- After all datasets and in an order of their own, again so that two calls cannot wait for each other.
    FOR item IN
        SELECT u.* FROM unnest(outcomes, answers, callers, request_ids, fingerprints) WITH ORDINALITY AS u (
            outcome, dataset_id, caller, request_id, fingerprint, ordinal)
        WHERE u.outcome IN ('QUEUED', 'ATTACHED') AND u.request_id IS NOT NULL
        ORDER BY u.caller, u.request_id, u.ordinal
    LOOP
        INSERT INTO sync_request (caller, request_id, fingerprint, dataset_id)
        VALUES (item.caller, item.request_id, item.fingerprint, item.dataset_id)
        ON CONFLICT (caller, request_id) DO UPDATE
        SET fingerprint = excluded.fingerprint, dataset_id = excluded.dataset_id, created = excluded.created
        WHERE sync_request.created <= forgotten;
        IF NOT FOUND THEN
            -- Its twin was quicker; the next call finds it.
            DELETE FROM dataset d WHERE d.id = item.dataset_id AND item.outcome = 'QUEUED';
            outcomes[item.ordinal] := 'RETRY';
        END IF;
    END LOOP;

    SELECT array_agg(u.dataset_id ORDER BY u.ordinal) FILTER (WHERE u.outcome = 'QUEUED'),
        array_agg(ROW(u.dataset_id, 'QUEUED', 'NOT_SUPPORTED', not_supported_description, NULL, NULL, NULL, NULL,
            NULL)::change ORDER BY u.ordinal) FILTER (WHERE u.outcome = 'QUEUED' AND NOT u.supported)
    INTO winners, unsupported
    FROM unnest(outcomes, answers, supported) WITH ORDINALITY AS u (outcome, dataset_id, supported, ordinal);
    IF winners IS NOT NULL THEN
        PERFORM append_queued(winners, queued_description);
    END IF;
    IF unsupported IS NOT NULL THEN
        PERFORM append_transitions(unsupported);
    END IF;

    RETURN QUERY
    SELECT u.outcome, u.dataset_id, u.link, d.requested, d.completed
    FROM unnest(outcomes, answers, links) WITH ORDINALITY AS u (outcome, dataset_id, link, ordinal)
    LEFT JOIN dataset d ON d.id = u.dataset_id AND u.outcome = 'QUEUED'
    ORDER BY u.ordinal;
END
$$;

-- Whether a change asked for may be made to a dataset as it is now: DONE, LEASE_LOST, NOT_EXPIRED or ILLEGAL. The
-- nil token is that of callers without a lease: it fits where nobody has one, and where they themselves do.
CREATE FUNCTION judge_change(
    current dataset, to_status dataset_status, held_token uuid, only_expired boolean, grant_token uuid
) RETURNS text
LANGUAGE sql STABLE
AS $$
    SELECT CASE
        WHEN held_token <> coalesce(current.lease_token, '00000000-0000-0000-0000-000000000000')
            THEN 'LEASE_LOST'
        WHEN only_expired AND coalesce(current.lease_expires > clock_timestamp(), true) THEN 'NOT_EXPIRED'
        WHEN NOT is_legal_transition(current.status, to_status) THEN 'ILLEGAL'
        -- Nobody would hold the lease that such a status needs.
        WHEN is_leased_status(to_status) AND current.lease_token IS NULL AND grant_token IS NULL THEN 'ILLEGAL'
        ELSE 'DONE'
    END
$$;

-- Change the status of many datasets; one row an item, in item order. `held_tokens` is the lease that the caller
-- claims to hold, NULL for what needs none (claim, cancel, reap); `only_expired` asks for an expired lease. The
-- grant_* are those of type change. Outcomes:
--   DONE         changed, as transition `seq` and `version`
--   UNKNOWN      there is no such dataset
--   ILLEGAL      refused: the table of transitions has no way from `status` to there
--   LEASE_LOST   refused: the lease is another's by now
--   NOT_EXPIRED  refused: the lease was renewed meanwhile
--   RETRY        not looked at: locked by somebody else, or twice in this call
CREATE FUNCTION transition_datasets(
    dataset_ids uuid[], to_statuses dataset_status[], held_tokens uuid[], only_expired boolean[],
    descriptions text[], error_messages text[], error_codes text[],
    grant_tokens uuid[], grant_holders uuid[], grant_seconds double precision[]
) RETURNS TABLE (
    outcome text, status dataset_status, seq bigint, version integer, occurred timestamptz
)
LANGUAGE plpgsql
SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off SET jit = off
AS $$
DECLARE
    outcomes text[];
    statuses dataset_status[];
    changes change[];
BEGIN
    PERFORM refuse_other_isolation();

    WITH locked AS MATERIALIZED (
        SELECT d FROM dataset d WHERE d.id = ANY (dataset_ids) ORDER BY d.id FOR NO KEY UPDATE SKIP LOCKED
    ), judged AS (
        SELECT u.*, (l.d).status AS status,
            CASE
                WHEN l.d IS NULL AND NOT EXISTS (SELECT FROM dataset x WHERE x.id = u.dataset_id) THEN 'UNKNOWN'
                WHEN l.d IS NULL OR row_number() OVER (PARTITION BY u.dataset_id ORDER BY u.ordinal) > 1
                    THEN 'RETRY'
                ELSE judge_change(l.d, u.to_status, u.held_token, u.only_expired, u.grant_token)
            END AS outcome
        FROM unnest(dataset_ids, to_statuses, held_tokens, only_expired, descriptions, error_messages, error_codes,
            grant_tokens, grant_holders, grant_seconds) WITH ORDINALITY AS u (
            dataset_id, to_status, held_token, only_expired, description, error_message, error_code,
            grant_token, grant_holder, grant_seconds, ordinal)
        LEFT JOIN locked l ON (l.d).id = u.dataset_id
    )
    SELECT array_agg(j.outcome ORDER BY j.ordinal), array_agg(j.status ORDER BY j.ordinal),
        array_agg(ROW(j.dataset_id, j.status, j.to_status, j.description, j.error_message, j.error_code,
            j.grant_token, j.grant_holder, j.grant_seconds)::change ORDER BY j.ordinal)
            FILTER (WHERE j.outcome = 'DONE')
    INTO outcomes, statuses, changes
    FROM judged j;

    IF changes IS NULL THEN
        RETURN QUERY SELECT u.outcome, u.status, NULL::bigint, NULL::integer, NULL::timestamptz
        FROM unnest(outcomes, statuses) WITH ORDINALITY AS u (outcome, status, ordinal) ORDER BY u.ordinal;
        RETURN;
    END IF;

    RETURN QUERY
    WITH done AS MATERIALIZED (SELECT * FROM append_transitions(changes))
    SELECT u.outcome, CASE WHEN u.outcome = 'DONE' THEN u.to_status ELSE u.status END,
        done.seq, done.version, done.occurred
    FROM unnest(outcomes, statuses, dataset_ids, to_statuses) WITH ORDINALITY AS u (
        outcome, status, dataset_id, to_status, ordinal)
    LEFT JOIN done ON done.dataset_id = u.dataset_id AND u.outcome = 'DONE'
    ORDER BY u.ordinal;
END
$$;
