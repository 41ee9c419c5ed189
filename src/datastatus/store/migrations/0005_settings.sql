-- How data types are synchronised: what differs from the defaults that the service is born with.

CREATE TYPE sync_frequency AS ENUM ('NONE', 'HOURLY', 'DAILY', 'WEEKLY', 'MONTHLY');

CREATE TABLE sync_setting (
    -- NULL: the default for everybody. A company's own setting of a type replaces the default as a whole, unless that
    -- is locked.
    company_id uuid REFERENCES company,
    data_type text NOT NULL,
    fetch_on_first_link boolean NOT NULL,
    frequency sync_frequency NOT NULL,
    sync_order integer NOT NULL,
    sync_from timestamptz,
    sync_from_window_months integer CHECK (sync_from_window_months > 0),
    months_to_sync integer CHECK (months_to_sync > 0),
    locked boolean NOT NULL,
    UNIQUE NULLS NOT DISTINCT (company_id, data_type),
    CHECK (num_nulls(sync_from, sync_from_window_months) > 0),
    CHECK (company_id IS NULL OR NOT locked)
);

-- As company.revision, of the defaults for everybody.
CREATE TABLE default_settings (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    revision bigint NOT NULL DEFAULT 1
);

INSERT INTO default_settings DEFAULT VALUES;

-- Goes up with whatever queueing must know of a company: its connections, its settings, and the defaults.
CREATE VIEW company_revision AS
SELECT k.id AS company_id, k.revision + s.revision AS revision FROM company k CROSS JOIN default_settings s;

CREATE FUNCTION revise_default_settings() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    UPDATE default_settings SET revision = revision + 1 WHERE coalesce(NEW.company_id, OLD.company_id) IS NULL;
    RETURN NULL;
END
$$;

CREATE TRIGGER revise_company AFTER INSERT OR UPDATE OR DELETE ON sync_setting
FOR EACH ROW EXECUTE FUNCTION revise_company();

CREATE TRIGGER revise_default_settings AFTER INSERT OR UPDATE OR DELETE ON sync_setting
FOR EACH ROW EXECUTE FUNCTION revise_default_settings();

-- Delete a company and its settings: DELETED, UNKNOWN where there is none, or CONNECTED and untouched where it has
-- connections. Those go before it, each in a call of its own, so that a company that is gone has left nothing behind.
CREATE FUNCTION delete_company(company uuid) RETURNS text
LANGUAGE plpgsql AS $$
#variable_conflict use_variable
BEGIN
    -- From here on nobody gives it a connection.
    PERFORM FROM company c WHERE c.id = company AND c.deleted IS NULL FOR UPDATE;
    IF NOT FOUND THEN
        RETURN 'UNKNOWN';
    END IF;
    -- A statement of its own, which sees what the one before has waited for.
    IF EXISTS (SELECT FROM connection c WHERE c.company_id = company AND c.deleted IS NULL) THEN
        RETURN 'CONNECTED';
    END IF;
    DELETE FROM sync_setting s WHERE s.company_id = company;
    UPDATE company c SET deleted = clock_timestamp(), external_id = NULL WHERE c.id = company;
    RETURN 'DELETED';
END
$$;
