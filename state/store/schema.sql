-- Today's database whole: what migrations/ and sql/functions/ lead to, as pg_dump shows it, with
-- comments, owners, policies and privileges. Written by `python -m state.store.dump_schema`; tests
-- compare it with a database made anew.

CREATE SCHEMA auth;

ALTER SCHEMA auth OWNER TO mana_owner;

CREATE SCHEMA mana_ai;

ALTER SCHEMA mana_ai OWNER TO mana_owner;

CREATE SCHEMA public;

ALTER SCHEMA public OWNER TO pg_database_owner;

COMMENT ON SCHEMA public IS 'standard public schema';

CREATE FUNCTION mana_ai.acting_user() RETURNS text
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
  named text := current_setting('app.current_user_id', true);
  until text;
BEGIN
  IF session_user <> 'mana_agent' THEN
    RETURN named;
  END IF;
  until := current_setting('app.capability_until', true);
  IF current_setting('app.capability_proof', true) = mana_ai.capability_proof(named, until) THEN
    RETURN CASE WHEN until::bigint > extract(epoch FROM clock_timestamp()) THEN named END;
  END IF;
  RETURN mana_ai.capability() ->> 'u';
END $$;

ALTER FUNCTION mana_ai.acting_user() OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.acting_user() IS 'Whose rows a function owned by mana_owner may see. In an agent''s session that is the capability''s user, never a
setting: an agent can set any setting. Every statement of ours asks, so what require_capability has verified is not
verified again while its proof holds. In a trusted session (supervisor, gateway) it is the user named for this
transaction.';

CREATE FUNCTION mana_ai.pad(p_secret bytea, p_byte integer) RETURNS bytea
    LANGUAGE sql IMMUTABLE STRICT
    RETURN (SELECT string_agg(decode(lpad(to_hex((CASE WHEN (i.i < length(pad.p_secret)) THEN get_byte(pad.p_secret, i.i) ELSE 0 END # pad.p_byte)), 2, '0'::text), 'hex'::text), '\x'::bytea ORDER BY i.i) AS string_agg FROM generate_series(0, 63) i(i));

ALTER FUNCTION mana_ai.pad(p_secret bytea, p_byte integer) OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.pad(p_secret bytea, p_byte integer) IS 'The precomputed pad of an HMAC key (RFC 2104) for SHA-256: 64 bytes, the secret filled with zeros, xored with p_byte.
With both pads stored, HMAC needs only the core''s sha256() and no extension.';

CREATE TABLE mana_ai.capability_secrets (
    audience text NOT NULL,
    kid text NOT NULL,
    inner_pad bytea NOT NULL,
    outer_pad bytea NOT NULL,
    signs boolean DEFAULT true NOT NULL,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    verifies_until timestamp with time zone,
    CONSTRAINT capability_secrets_sign_or_end CHECK ((signs = (verifies_until IS NULL)))
);

ALTER TABLE mana_ai.capability_secrets OWNER TO mana_owner;

CREATE FUNCTION mana_ai.add_capability_secret(p_audience text, p_kid text, p_secret bytea) RETURNS void
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    BEGIN ATOMIC
 INSERT INTO mana_ai.capability_secrets (audience, kid, inner_pad, outer_pad)
   VALUES (add_capability_secret.p_audience, add_capability_secret.p_kid, mana_ai.pad(add_capability_secret.p_secret, 54), mana_ai.pad(add_capability_secret.p_secret, 92)) ON CONFLICT DO NOTHING;
END;

ALTER FUNCTION mana_ai.add_capability_secret(p_audience text, p_kid text, p_secret bytea) OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.add_capability_secret(p_audience text, p_kid text, p_secret bytea) IS 'Adds a signing secret for an audience from 32 random bytes. An audience that has one that signs keeps it, so callers
may run at once.';

CREATE FUNCTION mana_ai.answer_copies(p_user text, p_mission text, p_taken uuid, p_answer text) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
  asked mana_ai.copy_requests;
BEGIN
  PERFORM set_config('app.current_user_id', p_user, true);
  SELECT * INTO asked FROM mana_ai.copy_requests AS q
   WHERE q.user_id = p_user AND q.mission_id = p_mission AND q.taken = p_taken FOR UPDATE;
  IF asked.taken IS NULL THEN
    RETURN false;
  END IF;
  UPDATE mana_ai.copy_requests AS q
     SET answer = p_answer, answered_at = clock_timestamp(), tries = 0, taken = NULL,
         due_at = CASE WHEN asked.asked_at > asked.taken_at THEN clock_timestamp() END
   WHERE q.user_id = p_user AND q.mission_id = p_mission;
  IF p_answer NOT IN ('made', 'current') AND p_answer IS DISTINCT FROM asked.answer THEN
    UPDATE mana_ai.mission_snapshots SET wake_at = least(wake_at, clock_timestamp()), version = nextval('mana_ai.snapshot_version')
     WHERE user_id = p_user AND mission_id = p_mission;
  END IF;
  RETURN true;
END $$;

ALTER FUNCTION mana_ai.answer_copies(p_user text, p_mission text, p_taken uuid, p_answer text) OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.answer_copies(p_user text, p_mission text, p_taken uuid, p_answer text) IS 'Notes what became of a request for copies; only whoever still holds it may say so. A request repeated while it was
worked on is due again. News that no copies were made has the mission looked at again, so that its owner is told why;
copies that were made wake the mission themselves.';

CREATE FUNCTION mana_ai.audit_outcome(p_capability text, p_release uuid, p_iteration text, p_tables text[], p_records text[], p_statuses text[], p_reasons text[]) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
  held jsonb := mana_ai.require_capability(p_capability);
  release mana_ai.key_releases;
BEGIN
  SELECT * INTO release FROM mana_ai.key_releases AS k
   WHERE k.release_id = p_release AND k.user_id = held ->> 'u' AND k.agent_id = held ->> 'a' AND k.outcome = 'released';
  IF release.release_id IS NULL OR cardinality(p_tables) + (SELECT count(*) FROM mana_ai.decrypt_audit AS d
       WHERE d.release_id = p_release) > 4000 THEN
    RAISE EXCEPTION 'audit_outcome: no such release' USING ERRCODE = 'check_violation';
  END IF;
  INSERT INTO mana_ai.decrypt_audit (user_id, mission_id, iteration_id, table_name, record_id, status, reason, run_id, attempt, release_id)
  SELECT release.user_id, release.mission_id, left(p_iteration, 512), left(k.t, 512), left(k.r, 512), k.s, left(k.w, 512),
         release.run_id, release.attempt, p_release
    FROM unnest(p_tables, p_records, p_statuses, p_reasons) AS k (t, r, s, w);
END $$;

ALTER FUNCTION mana_ai.audit_outcome(p_capability text, p_release uuid, p_iteration text, p_tables text[], p_records text[], p_statuses text[], p_reasons text[]) OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.audit_outcome(p_capability text, p_release uuid, p_iteration text, p_tables text[], p_records text[], p_statuses text[], p_reasons text[]) IS 'Notes for an agent how reading under a released key went. An attempt that lost its run may still say so: what it read,
it read. At most 4,000 rows per release.';

CREATE FUNCTION mana_ai.base64url(p_bytes bytea) RETURNS text
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN translate(encode(p_bytes, 'base64'::text), '+/=
'::text, '-_'::text);

ALTER FUNCTION mana_ai.base64url(p_bytes bytea) OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.base64url(p_bytes bytea) IS 'Bytes as base64url without padding (RFC 4648, section 5).';

CREATE FUNCTION mana_ai.begin_call(p_capability text, p_run uuid, p_attempt integer, p_round integer, p_hash text, p_hold bigint, p_deadline_ms integer, p_micros bigint DEFAULT 0, OUT outcome text, OUT call_id uuid, OUT answer text, OUT used bigint, OUT held bigint, OUT cap bigint, OUT scope text, OUT unit text, OUT until text) RETURNS record
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
  token jsonb := mana_ai.require_capability(p_capability);
  scopes text[] := ARRAY['agent'];
  caps record;
  run mana_ai.runs;
BEGIN
  SELECT * INTO caps FROM mana_ai.caps_of(token ->> 'u', token ->> 'a');
  IF caps.installation_tokens IS NOT NULL OR caps.installation_micros IS NOT NULL THEN
    PERFORM mana_ai.lock_installation();
    scopes := scopes || 'installation'::text;
  END IF;
  IF caps.user_tokens IS NOT NULL OR caps.user_micros IS NOT NULL THEN
    PERFORM mana_ai.lock_ledger(token ->> 'u', '');
    scopes := scopes || 'user'::text;
  END IF;
  run := mana_ai.own_run(p_capability, p_run, p_attempt);
  SELECT j.answer INTO begin_call.answer FROM mana_ai.journal AS j
   WHERE j.run_id = p_run AND j.round = p_round AND j.request_hash = p_hash;
  IF begin_call.answer IS NOT NULL THEN
    outcome := 'journaled'; RETURN;
  END IF;
  PERFORM mana_ai.charge_expired_holds(run.user_id, run.agent_id);
  SELECT h.call_id INTO begin_call.call_id FROM mana_ai.token_holds AS h
   WHERE h.run_id = p_run AND h.attempt = p_attempt AND h.round = p_round;
  IF begin_call.call_id IS NOT NULL THEN
    outcome := 'go'; RETURN;  -- asked again because the answer to the first asking was lost
  END IF;
  SELECT r.scope, r.unit, r.cap, r.used, r.held, r.until
    INTO begin_call.scope, begin_call.unit, begin_call.cap, begin_call.used, begin_call.held, begin_call.until
    FROM mana_ai.refusal(run.user_id, run.agent_id, scopes, p_hold, p_micros) AS r;
  IF begin_call.scope IS NOT NULL THEN
    outcome := 'no-room';
    IF begin_call.scope = 'installation' THEN  -- what all users spent is no agent's business
      begin_call.cap := NULL; begin_call.used := NULL; begin_call.held := NULL;
    END IF;
    RETURN;
  END IF;
  INSERT INTO mana_ai.token_holds AS h (user_id, agent_id, mission_id, run_id, attempt, round, tokens, cost_micros, deadline)
  VALUES (run.user_id, run.agent_id, run.mission_id, p_run, p_attempt, p_round, p_hold, p_micros,
          clock_timestamp() + p_deadline_ms * interval '1 ms')
  RETURNING h.call_id INTO begin_call.call_id;
  UPDATE mana_ai.runs AS r SET model_calls = r.model_calls + 1 WHERE r.run_id = p_run;
  outcome := 'go';
END $$;

ALTER FUNCTION mana_ai.begin_call(p_capability text, p_run uuid, p_attempt integer, p_round integer, p_hash text, p_hold bigint, p_deadline_ms integer, p_micros bigint, OUT outcome text, OUT call_id uuid, OUT answer text, OUT used bigint, OUT held bigint, OUT cap bigint, OUT scope text, OUT unit text, OUT until text) OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.begin_call(p_capability text, p_run uuid, p_attempt integer, p_round integer, p_hash text, p_hold bigint, p_deadline_ms integer, p_micros bigint, OUT outcome text, OUT call_id uuid, OUT answer text, OUT used bigint, OUT held bigint, OUT cap bigint, OUT scope text, OUT unit text, OUT until text) IS 'Reserves room in every budget for one model call, or returns the journalled answer to the very same request. Without
this hold no call may start: usage, open holds and this hold must fit every cap. Locks in the order installation, user
(the ledger row without an agent), agent, run; the first two only where such a limit is set. A limit set at this very
moment counts from the next call.';

CREATE FUNCTION mana_ai.bucket_of(p_user text) RETURNS smallint
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN (get_byte(sha256(convert_to(p_user, 'UTF8'::name)), 0))::smallint;

ALTER FUNCTION mana_ai.bucket_of(p_user text) OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.bucket_of(p_user text) IS 'Which of the 256 buckets a user''s rows belong to: the first byte of SHA-256 of the user id.';

CREATE FUNCTION mana_ai.budget_facts(p_user text, p_agent text, OUT cap bigint, OUT used bigint, OUT back_at timestamp with time zone, OUT full_scope text, OUT full_unit text, OUT full_back_at timestamp with time zone) RETURNS record
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
  caps record;
BEGIN
  SELECT * INTO caps FROM mana_ai.caps_of(p_user, p_agent);
  used := 0;
  IF caps.agent_tokens IS NOT NULL THEN
    SELECT b.cap, b.used INTO budget_facts.cap, budget_facts.used FROM mana_ai.budgets_of(p_user, p_agent, ARRAY['agent']) AS b;
    back_at := mana_ai.room_at('agent', p_user, p_agent, clock_timestamp() - interval '24 hours', 'tokens',
                               greatest(1, budget_facts.used - budget_facts.cap + 1));
  END IF;
  IF caps.agent_micros IS NOT NULL OR caps.user_tokens IS NOT NULL OR caps.user_micros IS NOT NULL THEN
    SELECT f.scope, f.unit, f.back_at INTO full_scope, full_unit, full_back_at
      FROM mana_ai.used_up(p_user, p_agent, ARRAY['agent', 'user']) AS f;
  END IF;
END $$;

ALTER FUNCTION mana_ai.budget_facts(p_user text, p_agent text, OUT cap bigint, OUT used bigint, OUT back_at timestamp with time zone, OUT full_scope text, OUT full_unit text, OUT full_back_at timestamp with time zone) OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.budget_facts(p_user text, p_agent text, OUT cap bigint, OUT used bigint, OUT back_at timestamp with time zone, OUT full_scope text, OUT full_unit text, OUT full_back_at timestamp with time zone) IS 'What the gate asks about a due mission''s budget. Nothing is summed where nothing is capped.';

CREATE FUNCTION mana_ai.budgets_of(p_user text, p_agent text, p_scopes text[]) RETURNS TABLE(scope text, source text, cap bigint, used bigint, held bigint, micros_cap bigint, micros_used bigint, micros_held bigint)
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
  since timestamptz := clock_timestamp() - interval '24 hours';
  caps record;
BEGIN
  SELECT * INTO caps FROM mana_ai.caps_of(p_user, p_agent);
  IF 'agent' = ANY (p_scopes) THEN
    RETURN QUERY SELECT 'agent', caps.agent_source, caps.agent_tokens, u.tokens, h.tokens, caps.agent_micros, u.micros, h.micros
      FROM (SELECT coalesce(sum(t.tokens_used), 0)::bigint, coalesce(sum(t.cost_micros), 0)::bigint FROM mana_ai.token_usage AS t
             WHERE t.user_id = p_user AND t.agent_id = p_agent AND t.ts > since) AS u (tokens, micros),
           (SELECT coalesce(sum(o.tokens), 0)::bigint, coalesce(sum(o.cost_micros), 0)::bigint FROM mana_ai.token_holds AS o
             WHERE o.user_id = p_user AND o.agent_id = p_agent) AS h (tokens, micros);
  END IF;
  IF 'user' = ANY (p_scopes) AND (caps.user_tokens IS NOT NULL OR caps.user_micros IS NOT NULL) THEN
    RETURN QUERY SELECT 'user', 'operator', caps.user_tokens, u.tokens, h.tokens, caps.user_micros, u.micros, h.micros
      FROM (SELECT coalesce(sum(t.tokens_used), 0)::bigint, coalesce(sum(t.cost_micros), 0)::bigint FROM mana_ai.token_usage AS t
             WHERE t.user_id = p_user AND t.ts > since) AS u (tokens, micros),
           (SELECT coalesce(sum(o.tokens), 0)::bigint, coalesce(sum(o.cost_micros), 0)::bigint FROM mana_ai.token_holds AS o
             WHERE o.user_id = p_user) AS h (tokens, micros);
  END IF;
  IF 'installation' = ANY (p_scopes) AND (caps.installation_tokens IS NOT NULL OR caps.installation_micros IS NOT NULL) THEN
    RETURN QUERY SELECT 'installation', 'operator', caps.installation_tokens, i.used, i.held,
                        caps.installation_micros, i.micros_used, i.micros_held
      FROM mana_ai.installation_spent(since) AS i;
  END IF;
END $$;

ALTER FUNCTION mana_ai.budgets_of(p_user text, p_agent text, p_scopes text[]) OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.budgets_of(p_user text, p_agent text, p_scopes text[]) IS 'What was spent in 24 hours, what is held, and the caps, for the scopes asked for: ''agent'' always, ''user'' and
''installation'' where they are capped. Every sum comes from the caller''s one snapshot, so a call being settled is
counted exactly once.';

CREATE FUNCTION mana_ai.cancel_run(p_user text, p_run uuid, p_reason text, OUT outcome text, OUT state text, OUT agent_id text, OUT mission_id text) RETURNS record
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
  run mana_ai.runs;
BEGIN
  PERFORM set_config('app.current_user_id', p_user, true);
  SELECT * INTO run FROM mana_ai.runs AS r WHERE r.user_id = p_user AND r.run_id = p_run;
  IF run.run_id IS NULL THEN
    RETURN;
  END IF;
  PERFORM mana_ai.lock_ledger(p_user, run.agent_id);
  SELECT * INTO run FROM mana_ai.runs AS r WHERE r.user_id = p_user AND r.run_id = p_run FOR UPDATE;
  agent_id := run.agent_id;
  mission_id := run.mission_id;
  IF run.state NOT IN ('open', 'waiting') THEN
    state := run.state;
    outcome := CASE WHEN run.cancelled_at IS NOT NULL THEN 'already' ELSE 'over' END;
    RETURN;
  END IF;
  PERFORM mana_ai.close_run(run, 'withdrawn', p_reason);
  UPDATE mana_ai.runs AS r SET cancelled_at = clock_timestamp() WHERE r.run_id = p_run;
  -- Its slot is due still: the supervisor looks at once, and moves it on.
  PERFORM mana_ai.look_again(p_user, run.mission_id, (SELECT s.next_run_at FROM mana_ai.mission_snapshots AS s
    WHERE s.user_id = p_user AND s.mission_id = run.mission_id AND s.state = 'active' AND NOT s.hidden));
  PERFORM mana_ai.note_decision(p_user, run.mission_id, run.agent_id, run.due_at, 'withdrawn', p_reason);
  state := 'withdrawn';
  outcome := 'cancelled';
END $$;

ALTER FUNCTION mana_ai.cancel_run(p_user text, p_run uuid, p_reason text, OUT outcome text, OUT state text, OUT agent_id text, OUT mission_id text) OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.cancel_run(p_user text, p_run uuid, p_reason text, OUT outcome text, OUT state text, OUT agent_id text, OUT mission_id text) IS 'Ends a run now, open or waiting, and its occurrence with it; for the gateway. Its tokens stay charged: the process
that hears of the cancel settles its hold, else the hold is charged whole at its deadline. Outcome: ''cancelled'',
''already'' (cancelled before), ''over'' (it had ended), or null (no such run).';

CREATE FUNCTION mana_ai.capability(p_audience text DEFAULT 'db'::text) RETURNS jsonb
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
  token text := current_setting('app.capability', true);
  body text;
  payload jsonb;
BEGIN
  IF coalesce(token, '') = '' OR octet_length(token) > mana_ai.capability_chars() THEN
    RETURN NULL;
  END IF;
  body := split_part(token, '.', 1);
  IF NOT EXISTS (
       SELECT FROM mana_ai.capability_secrets AS k
        WHERE k.audience = p_audience AND (k.verifies_until IS NULL OR k.verifies_until > clock_timestamp())
          AND token = body || '.' || mana_ai.base64url(sha256(k.outer_pad || sha256(k.inner_pad || convert_to(body, 'UTF8'))))) THEN
    RETURN NULL;
  END IF;
  payload := convert_from(mana_ai.unbase64url(body), 'UTF8')::jsonb;
  IF payload ->> 'aud' IS DISTINCT FROM p_audience OR (payload ->> 'exp')::bigint <= extract(epoch FROM clock_timestamp()) THEN
    RETURN NULL;
  END IF;
  IF jsonb_typeof(payload -> 's') = 'array' AND payload -> 's' <> '[]' THEN
    payload := jsonb_set(payload, '{s}', coalesce((
      SELECT jsonb_agg(held.space) FROM jsonb_array_elements_text(payload -> 's') AS held (space)
       WHERE mana_ai.may_share(payload ->> 'u', held.space)), '[]'));
  END IF;
  RETURN payload;
EXCEPTION WHEN data_exception OR invalid_text_representation OR character_not_in_repertoire THEN
  RETURN NULL;  -- not a token of ours
END $$;

ALTER FUNCTION mana_ai.capability(p_audience text) OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.capability(p_audience text) IS 'The capability of this transaction, if its signature holds and the wall clock says it has not expired; else null. The
signature is checked first, so a text nobody signed costs one hash per secret and is never parsed. Of the spaces that it was
signed for, those are left that its user may read now.';

CREATE FUNCTION mana_ai.capability_agent() RETURNS text
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    RETURN (mana_ai.capability() ->> 'a'::text);

ALTER FUNCTION mana_ai.capability_agent() OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.capability_agent() IS 'The agent of this transaction''s capability, or null.';

CREATE FUNCTION mana_ai.capability_chars() RETURNS integer
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (512 * 1024);

ALTER FUNCTION mana_ai.capability_chars() OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.capability_chars() IS 'The longest capability that is accepted, in characters. It fits 3,000 ids of 36 characters in the table with the
longest name.';

CREATE FUNCTION mana_ai.capability_life() RETURNS interval
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN '02:00:00'::interval;

ALTER FUNCTION mana_ai.capability_life() OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.capability_life() IS 'The longest that a capability lives, whatever was asked for: what renew() gives for the longest lease.';

CREATE FUNCTION mana_ai.capability_proof(p_user text, p_until text) RETURNS text
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
  RETURN (SELECT encode(sha256(k.outer_pad || sha256(k.inner_pad || convert_to(
                   'proof:' || p_until || ':' || split_part(current_setting('app.capability', true), '.', 2) || ':' || p_user, 'UTF8'))), 'hex')
            FROM mana_ai.capability_secrets AS k WHERE k.audience = 'db' AND k.signs);
END $$;

ALTER FUNCTION mana_ai.capability_proof(p_user text, p_until text) OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.capability_proof(p_user text, p_until text) IS 'What says that this transaction''s capability was verified, names this user, and ends then (seconds since 1970). It is an
HMAC of ours and bound to the capability''s own: no capability is signed over a text with a colon.';

CREATE FUNCTION mana_ai.capability_scope() RETURNS text[]
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    RETURN ARRAY(SELECT jsonb_array_elements_text((mana_ai.capability() -> 'sc'::text)) AS jsonb_array_elements_text);

ALTER FUNCTION mana_ai.capability_scope() OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.capability_scope() IS 'What the capability''s scope lists outside app "ai", as "app/table/record".';

CREATE FUNCTION mana_ai.capability_secrets_now() RETURNS TABLE(audience text, kid text, created_at timestamp with time zone, verifies_until timestamp with time zone, asked_at timestamp with time zone)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  SELECT k.audience, k.kid, k.created_at, k.verifies_until, clock_timestamp()
    FROM mana_ai.capability_secrets AS k ORDER BY k.audience, k.created_at DESC
$$;

ALTER FUNCTION mana_ai.capability_secrets_now() OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.capability_secrets_now() IS 'Which signing secrets there are, and until when each verifies. It returns nothing of the secrets themselves.';

CREATE FUNCTION mana_ai.capability_user() RETURNS text
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    RETURN (mana_ai.capability() ->> 'u'::text);

ALTER FUNCTION mana_ai.capability_user() OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.capability_user() IS 'The user of this transaction''s capability, or null.';

CREATE TABLE mana_ai.agent_snapshots (
    user_id text NOT NULL,
    agent_id text NOT NULL,
    record jsonb NOT NULL,
    last_applied_at timestamp with time zone DEFAULT '1970-01-01 00:00:00+00'::timestamp with time zone NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    bucket smallint DEFAULT 0 NOT NULL,
    version bigint DEFAULT 0 NOT NULL,
    state text DEFAULT 'paused'::text NOT NULL,
    max_tokens_per_day bigint,
    max_concurrent integer DEFAULT 1 NOT NULL,
    space_id text,
    complete boolean DEFAULT false NOT NULL,
    present boolean DEFAULT true NOT NULL,
    hidden boolean DEFAULT false NOT NULL,
    problems text[] DEFAULT '{}'::text[] NOT NULL,
    newest_at timestamp with time zone DEFAULT '1970-01-01 00:00:00+00'::timestamp with time zone NOT NULL,
    newest_id uuid,
    folded_count bigint DEFAULT 0 NOT NULL,
    folded_digest bigint DEFAULT 0 NOT NULL
);

ALTER TABLE ONLY mana_ai.agent_snapshots FORCE ROW LEVEL SECURITY;

ALTER TABLE mana_ai.agent_snapshots OWNER TO mana_owner;

CREATE TABLE mana_ai.limits (
    kind text NOT NULL,
    user_id text DEFAULT ''::text NOT NULL,
    agent_id text DEFAULT ''::text NOT NULL,
    tokens bigint,
    micros bigint,
    set_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT limits_kind CHECK ((kind = ANY (ARRAY['installation'::text, 'each-user'::text, 'each-agent'::text, 'user'::text, 'agent'::text]))),
    CONSTRAINT limits_micros CHECK ((micros >= 0)),
    CONSTRAINT limits_named CHECK ((((user_id <> ''::text) = (kind = ANY (ARRAY['user'::text, 'agent'::text]))) AND ((agent_id <> ''::text) = (kind = 'agent'::text)))),
    CONSTRAINT limits_say_something CHECK (((tokens IS NOT NULL) OR (micros IS NOT NULL))),
    CONSTRAINT limits_tokens CHECK ((tokens >= 0))
);

ALTER TABLE ONLY mana_ai.limits FORCE ROW LEVEL SECURITY;

ALTER TABLE mana_ai.limits OWNER TO mana_owner;

CREATE FUNCTION mana_ai.caps_of(p_user text, p_agent text, OUT agent_tokens bigint, OUT agent_micros bigint, OUT agent_source text, OUT user_tokens bigint, OUT user_micros bigint, OUT installation_tokens bigint, OUT installation_micros bigint) RETURNS record
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    BEGIN ATOMIC
 SELECT
         CASE
             WHEN (a.tokens IS NULL) THEN COALESCE(l.named, l.default_tokens)
             ELSE LEAST(a.tokens, l.named)
         END AS "least",
     l.micros,
         CASE
             WHEN (a.tokens <= COALESCE(l.named, a.tokens)) THEN 'owner'::text
             WHEN (l.named IS NOT NULL) THEN 'operator'::text
             WHEN (l.default_tokens IS NOT NULL) THEN 'default'::text
             ELSE 'none'::text
         END AS "case",
     l.user_tokens,
     l.user_micros,
     l.installation_tokens,
     l.installation_micros
    FROM (( SELECT ( SELECT s.max_tokens_per_day
                    FROM mana_ai.agent_snapshots s
                   WHERE ((s.user_id = caps_of.p_user) AND (s.agent_id = caps_of.p_agent))) AS max_tokens_per_day) a(tokens)
      CROSS JOIN ( SELECT max(limits.tokens) FILTER (WHERE (limits.kind = 'agent'::text)) AS named,
             max(limits.tokens) FILTER (WHERE (limits.kind = 'each-agent'::text)) AS default_tokens,
             COALESCE(max(limits.micros) FILTER (WHERE (limits.kind = 'agent'::text)), max(limits.micros) FILTER (WHERE (limits.kind = 'each-agent'::text))) AS micros,
             COALESCE(max(limits.tokens) FILTER (WHERE (limits.kind = 'user'::text)), max(limits.tokens) FILTER (WHERE (limits.kind = 'each-user'::text))) AS user_tokens,
             COALESCE(max(limits.micros) FILTER (WHERE (limits.kind = 'user'::text)), max(limits.micros) FILTER (WHERE (limits.kind = 'each-user'::text))) AS user_micros,
             max(limits.tokens) FILTER (WHERE (limits.kind = 'installation'::text)) AS installation_tokens,
             max(limits.micros) FILTER (WHERE (limits.kind = 'installation'::text)) AS installation_micros
            FROM mana_ai.limits
           WHERE ((limits.user_id = ANY (ARRAY[''::text, caps_of.p_user])) AND (limits.agent_id = ANY (ARRAY[''::text, caps_of.p_agent])))) l);
END;

ALTER FUNCTION mana_ai.caps_of(p_user text, p_agent text, OUT agent_tokens bigint, OUT agent_micros bigint, OUT agent_source text, OUT user_tokens bigint, OUT user_micros bigint, OUT installation_tokens bigint, OUT installation_micros bigint) OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.caps_of(p_user text, p_agent text, OUT agent_tokens bigint, OUT agent_micros bigint, OUT agent_source text, OUT user_tokens bigint, OUT user_micros bigint, OUT installation_tokens bigint, OUT installation_micros bigint) IS 'The caps in force for an agent, its user and the installation; null means no cap. The owner''s cap and the operator''s
limit both hold, so the smaller one counts; the operator''s default counts only where neither is set.';

CREATE FUNCTION mana_ai.change_digest(p_id uuid) RETURNS bigint
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN (((('x'::text || "left"(replace((p_id)::text, '-'::text, ''::text), 16)))::bit(64))::bigint # ((('x'::text || "right"(replace((p_id)::text, '-'::text, ''::text), 16)))::bit(64))::bigint);

ALTER FUNCTION mana_ai.change_digest(p_id uuid) OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.change_digest(p_id uuid) IS 'One number per change row. A snapshot stores the xor of its rows'' numbers, so that the sweep can compare it with the
log; state/log/merge.py computes the same.';

CREATE TABLE mana_ai.token_holds (
    call_id uuid DEFAULT gen_random_uuid() NOT NULL,
    user_id text NOT NULL,
    agent_id text NOT NULL,
    mission_id text NOT NULL,
    run_id uuid NOT NULL,
    attempt integer NOT NULL,
    round integer NOT NULL,
    tokens bigint NOT NULL,
    deadline timestamp with time zone NOT NULL,
    opened_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    cost_micros bigint DEFAULT 0 NOT NULL,
    CONSTRAINT token_holds_cost CHECK ((cost_micros >= 0)),
    CONSTRAINT token_holds_tokens_check CHECK ((tokens >= 0))
);

ALTER TABLE ONLY mana_ai.token_holds FORCE ROW LEVEL SECURITY;

ALTER TABLE mana_ai.token_holds OWNER TO mana_owner;

CREATE TABLE mana_ai.token_usage (
    id bigint NOT NULL,
    user_id text NOT NULL,
    agent_id text NOT NULL,
    mission_id text NOT NULL,
    tokens_used bigint NOT NULL,
    ts timestamp with time zone DEFAULT now() NOT NULL,
    run_id uuid,
    call_id uuid,
    round integer,
    basis text DEFAULT 'reported'::text NOT NULL,
    cost_micros bigint DEFAULT 0 NOT NULL
);

ALTER TABLE ONLY mana_ai.token_usage FORCE ROW LEVEL SECURITY;

ALTER TABLE mana_ai.token_usage OWNER TO mana_owner;

CREATE FUNCTION mana_ai.charge_expired_holds(p_user text, p_agent text) RETURNS void
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    BEGIN ATOMIC
 WITH expired AS (
          DELETE FROM mana_ai.token_holds
           WHERE ((token_holds.user_id = charge_expired_holds.p_user) AND (token_holds.agent_id = charge_expired_holds.p_agent) AND (token_holds.deadline < clock_timestamp()))
           RETURNING token_holds.call_id,
             token_holds.user_id,
             token_holds.agent_id,
             token_holds.mission_id,
             token_holds.run_id,
             token_holds.attempt,
             token_holds.round,
             token_holds.tokens,
             token_holds.deadline,
             token_holds.opened_at,
             token_holds.cost_micros
         )
  INSERT INTO mana_ai.token_usage (user_id, agent_id, mission_id, tokens_used, cost_micros, run_id, call_id, round, basis, ts)  SELECT expired.user_id,
             expired.agent_id,
             expired.mission_id,
             expired.tokens,
             expired.cost_micros,
             expired.run_id,
             expired.call_id,
             expired.round,
             'expired-hold',
             expired.opened_at
            FROM expired ON CONFLICT DO NOTHING;
END;

ALTER FUNCTION mana_ai.charge_expired_holds(p_user text, p_agent text) OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.charge_expired_holds(p_user text, p_agent text) IS 'Charges a hold whole once its call''s deadline has passed. Deleting the hold is what charges it, so it happens once.';

CREATE FUNCTION mana_ai.claim(p_capability text, p_claim uuid, p_mission text, p_due timestamp with time zone, p_lease_ms integer, p_holder text, p_pinned jsonb, p_mission_version bigint DEFAULT NULL::bigint, p_agent_version bigint DEFAULT NULL::bigint, p_time_zone text DEFAULT NULL::text, p_inputs jsonb DEFAULT '[]'::jsonb, OUT outcome text, OUT run_id uuid, OUT attempt integer, OUT due_at timestamp with time zone, OUT look_at timestamp with time zone, OUT pinned jsonb, OUT failures integer, OUT lost integer, OUT requested boolean, OUT mission_version bigint, OUT agent_version bigint, OUT time_zone text, OUT record jsonb, OUT inputs jsonb, OUT now timestamp with time zone) RETURNS record
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
  room int := 65536;
  u text;
BEGIN
  SELECT t.outcome, t.run_id, t.attempt, t.due_at, t.look_at, t.pinned, t.failures, t.lost, t.requested,
         t.mission_version, t.agent_version, t.time_zone
    INTO claim.outcome, claim.run_id, claim.attempt, claim.due_at, claim.look_at, claim.pinned, claim.failures, claim.lost, claim.requested,
         claim.mission_version, claim.agent_version, claim.time_zone
    FROM mana_ai.take_run(p_capability, p_claim, p_mission, p_due, p_lease_ms, p_holder, p_pinned,
                          p_mission_version, p_agent_version, p_time_zone) AS t;
  IF claim.outcome = 'claimed' THEN
    u := mana_ai.capability_user();
    -- A statement of its own: it reads under the caller's policies with the capability that the one before presented.
    SELECT CASE WHEN octet_length(s.record::text) <= room THEN s.record END INTO claim.record
      FROM mana_ai.mission_snapshots AS s WHERE s.user_id = u AND s.mission_id = p_mission;
    inputs := '[]';
    IF p_inputs <> '[]' THEN
      room := room - coalesce(octet_length(claim.record::text), 0);
      WITH asked AS MATERIALIZED (
        SELECT i.place, i.value ->> 0 AS app, i.value ->> 1 AS of_table, i.value ->> 2 AS record_id
          FROM jsonb_array_elements(p_inputs) WITH ORDINALITY AS i (value, place)),
      stored AS MATERIALIZED (  -- as stored, so that nothing large is unpacked only to be measured
        SELECT a.*, (SELECT coalesce(sum(coalesce(pg_column_size(c.data), 0) + coalesce(pg_column_size(c.field_meta), 0)), 0) FROM public.sync_changes AS c
                      WHERE c.user_id = u AND c.app_id = a.app AND c.table_name = a.of_table
                        AND c.record_id = a.record_id) AS size
          FROM asked AS a),
      read AS MATERIALIZED (
        SELECT s.place, (SELECT coalesce(jsonb_agg(jsonb_build_object('id', c.id, 'op', c.op, 'data', c.data::text,
                                  'field_meta', c.field_meta::text, 'created_at', (extract(epoch FROM c.created_at) * 1000000)::bigint)
                                  ORDER BY c.created_at, c.id), '[]') FROM public.sync_changes AS c
                          WHERE c.user_id = u AND c.app_id = s.app AND c.table_name = s.of_table
                            AND c.record_id = s.record_id) AS changes
          FROM stored AS s WHERE s.size <= room)
      SELECT coalesce(jsonb_agg(sized.changes ORDER BY a.place), '[]') INTO claim.inputs
        FROM asked AS a LEFT JOIN (
             SELECT r.place, CASE WHEN sum(octet_length(r.changes::text)) OVER (ORDER BY r.place) <= room THEN r.changes END AS changes
               FROM read AS r) AS sized ON sized.place = a.place;
    END IF;
  END IF;
  now := clock_timestamp();
END $$;

ALTER FUNCTION mana_ai.claim(p_capability text, p_claim uuid, p_mission text, p_due timestamp with time zone, p_lease_ms integer, p_holder text, p_pinned jsonb, p_mission_version bigint, p_agent_version bigint, p_time_zone text, p_inputs jsonb, OUT outcome text, OUT run_id uuid, OUT attempt integer, OUT due_at timestamp with time zone, OUT look_at timestamp with time zone, OUT pinned jsonb, OUT failures integer, OUT lost integer, OUT requested boolean, OUT mission_version bigint, OUT agent_version bigint, OUT time_zone text, OUT record jsonb, OUT inputs jsonb, OUT now timestamp with time zone) OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.claim(p_capability text, p_claim uuid, p_mission text, p_due timestamp with time zone, p_lease_ms integer, p_holder text, p_pinned jsonb, p_mission_version bigint, p_agent_version bigint, p_time_zone text, p_inputs jsonb, OUT outcome text, OUT run_id uuid, OUT attempt integer, OUT due_at timestamp with time zone, OUT look_at timestamp with time zone, OUT pinned jsonb, OUT failures integer, OUT lost integer, OUT requested boolean, OUT mission_version bigint, OUT agent_version bigint, OUT time_zone text, OUT record jsonb, OUT inputs jsonb, OUT now timestamp with time zone) IS 'Takes an occurrence (take_run) and returns what its run reads first: the mission''s record and the log rows of the inputs
asked for ([app, table, record] each), 64 KiB together at most. What is larger is null, and read after it: a client that
leaves a large answer unread keeps the locks. It runs as its caller, so the policies decide what it reads; a definer that
read inputs returned another user''s note.';

CREATE TABLE mana_ai.runs (
    run_id uuid DEFAULT gen_random_uuid() NOT NULL,
    user_id text NOT NULL,
    agent_id text NOT NULL,
    mission_id text NOT NULL,
    due_at timestamp with time zone NOT NULL,
    state text NOT NULL,
    requested boolean DEFAULT false NOT NULL,
    attempt integer DEFAULT 1 NOT NULL,
    failures integer DEFAULT 0 NOT NULL,
    lost integer DEFAULT 0 NOT NULL,
    holder text,
    lease_until timestamp with time zone,
    not_before timestamp with time zone,
    waiting_for text,
    pinned jsonb,
    reason text,
    iteration_id text,
    steps integer,
    tokens bigint DEFAULT 0 NOT NULL,
    model_calls integer DEFAULT 0 NOT NULL,
    opened_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    claimed_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    closed_at timestamp with time zone,
    healed_at timestamp with time zone,
    cancelled_at timestamp with time zone,
    stop_reason text,
    duplicate_calls integer DEFAULT 0 NOT NULL,
    dropped_calls integer DEFAULT 0 NOT NULL,
    refused_calls integer DEFAULT 0 NOT NULL,
    answers jsonb DEFAULT '{}'::jsonb NOT NULL,
    claim_id uuid,
    CONSTRAINT runs_state CHECK ((state = ANY (ARRAY['open'::text, 'waiting'::text, 'committed'::text, 'failed'::text, 'withdrawn'::text])))
);

ALTER TABLE ONLY mana_ai.runs FORCE ROW LEVEL SECURITY;

ALTER TABLE mana_ai.runs OWNER TO mana_owner;

CREATE FUNCTION mana_ai.close_run(p_run mana_ai.runs, p_state text, p_reason text) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
  UPDATE mana_ai.runs SET state = p_state, reason = p_reason, closed_at = clock_timestamp(), lease_until = NULL WHERE run_id = p_run.run_id;
  DELETE FROM mana_ai.journal WHERE run_id = p_run.run_id;
  UPDATE mana_ai.run_requests SET closed_at = clock_timestamp()
   WHERE user_id = p_run.user_id AND mission_id = p_run.mission_id AND due_at = p_run.due_at;
  PERFORM mana_ai.wake_next(p_run.user_id, p_run.agent_id, p_run.mission_id);
END $$;

ALTER FUNCTION mana_ai.close_run(p_run mana_ai.runs, p_state text, p_reason text) OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.close_run(p_run mana_ai.runs, p_state text, p_reason text) IS 'Ends a live run for good: drops its journal, closes its request, and gives its place to the next mission of the agent.';

CREATE FUNCTION mana_ai.commit_run(p_capability text, p_run uuid, p_attempt integer, p_call text, p_note text, p_basis text, p_state text, p_data text, p_floor text, p_actor text, p_next timestamp with time zone, p_iteration text, p_steps integer, p_reason text, OUT outcome text, OUT charged bigint, OUT newer jsonb, OUT now timestamp with time zone) RETURNS record
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
DECLARE
  settled record := mana_ai.settled_run(p_capability, p_run, p_attempt, p_call);
  run mana_ai.runs := (SELECT r FROM mana_ai.runs AS r WHERE r.run_id = settled.run_id);
  data jsonb;
  actor jsonb;
BEGIN
  charged := settled.charged;
  IF settled.is_open THEN
    BEGIN
      IF NOT mana_ai.is_as_decided(run.user_id, run.mission_id, run.agent_id, p_basis::jsonb) THEN
        outcome := 'changed';
        newer := mana_ai.mission_now(run.user_id, run.mission_id, run.agent_id);
      ELSE
        data := p_data::jsonb;
        actor := p_actor::jsonb;
        IF (p_state IN ('committed', 'failed') AND data ? 'iterations' AND data - 'iterations' - 'nextRunAt' = '{}'
            AND actor ->> 'kind' = 'ai' AND actor ->> 'principalId' = run.agent_id
            AND p_floor ~ '^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3,9}Z$' AND isfinite(p_floor::timestamptz)) IS NOT TRUE THEN
          RAISE EXCEPTION 'commit_run: not a plan of this agent' USING ERRCODE = 'check_violation';
        END IF;
        PERFORM mana_ai.note_plan(p_run, p_note::jsonb);
        PERFORM mana_ai.write_mission(run.user_id, run.mission_id, data, mana_ai.stamp_now(p_floor), actor, 'agent');
        UPDATE mana_ai.runs AS r SET iteration_id = p_iteration, steps = p_steps WHERE r.run_id = p_run;
        PERFORM mana_ai.close_run(run, p_state, p_reason);
        DELETE FROM mana_ai.mission_research_jobs AS j WHERE j.user_id = run.user_id AND j.mission_id = run.mission_id;
        PERFORM mana_ai.look_again(run.user_id, run.mission_id, p_next);
        PERFORM mana_ai.note_decision(run.user_id, run.mission_id, run.agent_id, run.due_at,
                                      CASE p_state WHEN 'committed' THEN 'ran' ELSE 'failed' END, p_reason);
        outcome := 'done';
      END IF;
    EXCEPTION WHEN data_exception OR integrity_constraint_violation OR program_limit_exceeded THEN
      outcome := 'refused';
    END;
  ELSIF run.attempt = p_attempt AND run.state IN ('committed', 'failed') AND run.iteration_id = p_iteration THEN
    outcome := 'landed';
  ELSE
    outcome := 'superseded';
  END IF;
  now := clock_timestamp();
END $_$;

ALTER FUNCTION mana_ai.commit_run(p_capability text, p_run uuid, p_attempt integer, p_call text, p_note text, p_basis text, p_state text, p_data text, p_floor text, p_actor text, p_next timestamp with time zone, p_iteration text, p_steps integer, p_reason text, OUT outcome text, OUT charged bigint, OUT newer jsonb, OUT now timestamp with time zone) OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.commit_run(p_capability text, p_run uuid, p_attempt integer, p_call text, p_note text, p_basis text, p_state text, p_data text, p_floor text, p_actor text, p_next timestamp with time zone, p_iteration text, p_steps integer, p_reason text, OUT outcome text, OUT charged bigint, OUT newer jsonb, OUT now timestamp with time zone) IS 'Writes the plan and the next run time into the log and closes the run, in one statement: all of it or nothing but its last
answer''s price, which is settled first whatever becomes of the plan. It writes only what was decided on the mission as it
is; else the outcome is ''changed'' and newer has what to decide on. The stamp is the database''s clock, or p_floor where
that is later: a process''s clock must not beat its owner''s edits. It accepts nothing but iterations and nextRunAt, and only
as this agent. Other outcomes as of withdraw_run.';

CREATE FUNCTION mana_ai.compact_record(p_user text, p_app text, p_table text, p_record text, p_keep interval, p_after_at timestamp with time zone, p_after_id uuid, p_removes boolean, OUT outcome text, OUT removed bigint, OUT bytes bigint, OUT next_at timestamp with time zone, OUT next_id uuid) RETURNS record
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
DECLARE
  before timestamptz := clock_timestamp() - greatest(p_keep, interval '1 day');
  is_folded boolean := p_app = 'ai' AND p_table IN ('aiMissions', 'agents');
  owners text[] := '{}'::text[];
  snapshots jsonb := '{}'::jsonb;
  told jsonb := '{}'::jsonb;
  gone uuid[] := '{}'::uuid[];
  change record;
BEGIN
  removed := 0;
  bytes := 0;
  outcome := 'done';
  IF octet_length(p_user) > 512 OR octet_length(p_record) > 512 THEN
    RETURN;  -- no reader takes such rows
  END IF;

  -- A snapshot counts the rows that it was made of, so it is held, and has to agree with the log.
  IF is_folded THEN
    owners := ARRAY(SELECT DISTINCT CASE WHEN mana_ai.is_shared(c.space_id) THEN mana_ai.owner_of(p_user, p_table, p_record, c.space_id)
                                         ELSE p_user END
                      FROM mana_ai.compactor_log AS c
                     WHERE c.user_id = p_user AND c.app_id = p_app AND c.table_name = p_table AND c.record_id = p_record);
    IF p_table = 'aiMissions' THEN
      SELECT jsonb_object_agg(s.user_id, jsonb_build_array(s.folded_count, s.folded_digest)) INTO snapshots FROM (
        SELECT m.user_id, m.folded_count, m.folded_digest FROM mana_ai.mission_snapshots AS m
         WHERE m.mission_id = p_record AND m.user_id = ANY (owners) AND NOT m.heal FOR UPDATE SKIP LOCKED) AS s;
    ELSE
      SELECT jsonb_object_agg(s.user_id, jsonb_build_array(s.folded_count, s.folded_digest)) INTO snapshots FROM (
        SELECT a.user_id, a.folded_count, a.folded_digest FROM mana_ai.agent_snapshots AS a
         WHERE a.agent_id = p_record AND a.user_id = ANY (owners) FOR UPDATE SKIP LOCKED) AS s;
    END IF;
    IF EXISTS (SELECT FROM unnest(owners) AS o (owner) WHERE snapshots -> o.owner IS NULL) THEN
      outcome := 'held';
      RETURN;
    END IF;
  END IF;

  FOR change IN
    WITH old AS (
      SELECT c.*, CASE jsonb_typeof(c.data) WHEN 'object' THEN c.data ELSE '{}' END AS fields,
             row_number() OVER (ORDER BY c.created_at, c.id) AS n,
             coalesce(sum(c.stored * 8) OVER (ORDER BY c.created_at, c.id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS so_far
        FROM (SELECT l.*, coalesce(pg_column_size(l.data), 0)::bigint + coalesce(pg_column_size(l.field_meta), 0) AS stored
                FROM mana_ai.compactor_log AS l
               WHERE l.user_id = p_user AND l.app_id = p_app AND l.table_name = p_table AND l.record_id = p_record
                 AND l.created_at < before AND (l.created_at, l.id) > (p_after_at, p_after_id)
               ORDER BY l.created_at, l.id LIMIT 128) AS c),
    taken AS MATERIALIZED (
      SELECT o.*, (o.op = 'update' AND jsonb_typeof(o.data) = 'object' AND jsonb_typeof(o.field_meta) = 'object'
                   AND length(o.data::text) <= 2097152 AND length(o.field_meta::text) <= 1048576
                   AND o.data::text !~ '[0-9]{200}' AND o.field_meta::text !~ '[0-9]{200}'
                   AND NOT jsonb_path_exists(o.data, '$.**{64 to last}') AND NOT jsonb_path_exists(o.field_meta, '$.**{64 to last}')
                   AND NOT EXISTS (SELECT FROM mana_ai.quarantine AS q WHERE q.change_id = o.id)) IS TRUE AS is_sound
        FROM old AS o WHERE o.so_far < 25165824),
    resets AS MATERIALIZED (
      SELECT t.created_at, t.id FROM taken AS t WHERE t.op = 'delete' AND coalesce(t.fields ->> 'deletedAt', '') = ''
      UNION ALL
      SELECT c.created_at, c.id FROM mana_ai.compactor_log AS c
       WHERE (SELECT bool_or(mana_ai.is_shared(t.space_id)) FROM taken AS t)
         AND c.app_id = p_app AND c.table_name = p_table AND c.record_id = p_record AND c.user_id <> p_user AND c.op = 'delete'
         AND c.space_id IN (SELECT t.space_id FROM taken AS t) AND coalesce(c.data ->> 'deletedAt', '') = ''),
    placed AS MATERIALIZED (
      SELECT t.*, t.is_sound AND row_number() OVER (PARTITION BY t.space_id, t.is_sound,
                    (SELECT count(*) FROM resets AS r WHERE (r.created_at, r.id) < (t.created_at, t.id)) ORDER BY t.n) = 1 AS is_first
        FROM taken AS t),
    stamped AS (
      SELECT p.n, p.space_id, k.name, CASE WHEN s.at ~ ('^[12][0-9]{3}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)'
               || '|02-(0[1-9]|1[0-9]|2[0-8]))T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9][.][0-9]{3}Z$') THEN s.at COLLATE "C" END AS at
        FROM placed AS p CROSS JOIN LATERAL jsonb_object_keys(p.fields) AS k (name)
       CROSS JOIN LATERAL (SELECT CASE jsonb_typeof(p.field_meta -> k.name) WHEN 'object' THEN p.field_meta -> k.name ->> 'at'
                                                                             ELSE p.field_meta ->> k.name END AS at) AS s
       WHERE p.is_sound AND k.name NOT IN ('id', '__fieldMeta', '_updatedAtIndex')),
    overtaken AS (
      SELECT s.n, bool_and(coalesce(s.later > s.at, false)) AS is_whole FROM (
        SELECT x.n, x.at, max(x.at) OVER (PARTITION BY x.space_id, x.name ORDER BY x.n DESC
                                          ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS later FROM stamped AS x) AS s
       GROUP BY s.n),
    runs AS MATERIALIZED (
      SELECT p.n, coalesce(p.space_id, '') || ' ' || coalesce(e.value ->> 'id', md5(e.value::text)) AS name, md5(e.value::text) AS said,
             max(p.n) OVER (PARTITION BY p.space_id, coalesce(e.value ->> 'id', md5(e.value::text))) = p.n AS is_last
        FROM placed AS p CROSS JOIN LATERAL jsonb_array_elements(
               CASE WHEN p_table = 'aiMissions' AND jsonb_typeof(p.fields -> 'iterations') = 'array' THEN p.fields -> 'iterations' ELSE '[]' END) AS e
       WHERE jsonb_typeof(e.value) = 'object')
    SELECT p.id, p.created_at, p.stored, NOT p.is_sound OR p.is_first OR NOT coalesce(o.is_whole, true) AS stays,
           coalesce(r.says, '{}') AS says, coalesce(r.says_last, '{}') AS says_last
      FROM placed AS p LEFT JOIN overtaken AS o USING (n)
      LEFT JOIN (SELECT x.n, jsonb_object_agg(x.name, x.said) AS says, jsonb_object_agg(x.name, x.said) FILTER (WHERE x.is_last) AS says_last
                   FROM runs AS x GROUP BY x.n) AS r USING (n)
     ORDER BY p.n
  LOOP
    next_at := change.created_at;
    next_id := change.id;
    IF change.stays OR NOT told @> change.says_last THEN
      told := told || change.says;
    ELSE
      gone := gone || change.id;
      removed := removed + 1;
      bytes := bytes + change.stored + 150;
    END IF;
  END LOOP;

  -- Asked after all that was looked at: a row that came meanwhile is not folded, and must neither go nor overtake one that is.
  IF is_folded AND (
       EXISTS (SELECT FROM mana_ai.change_feed AS f WHERE f.record_id = p_record AND f.table_name = p_table)
       OR EXISTS (SELECT FROM unnest(owners) AS o (owner) WHERE snapshots -> o.owner IS DISTINCT FROM (
            SELECT jsonb_build_array(count(*), bit_xor(mana_ai.change_digest(r.id)))
              FROM mana_ai.record_rows(o.owner, p_table, p_record) AS r))) THEN
    removed := 0;
    bytes := 0;
    outcome := 'unfolded';
    RETURN;
  END IF;

  IF p_removes AND removed > 0 THEN
    WITH deleted AS (
      DELETE FROM mana_ai.compactor_log AS c WHERE c.id = ANY (gone) RETURNING c.id, c.space_id),
    late AS (
      DELETE FROM mana_ai.sync_late AS l USING deleted AS d WHERE l.change_id = d.id),
    counted AS (
      SELECT CASE WHEN mana_ai.is_shared(d.space_id) THEN mana_ai.owner_of(p_user, p_table, p_record, d.space_id) ELSE p_user END AS owner,
             count(*) AS n, bit_xor(mana_ai.change_digest(d.id)) AS digest FROM deleted AS d GROUP BY 1),
    missions AS (
      UPDATE mana_ai.mission_snapshots AS s SET folded_count = s.folded_count - d.n, folded_digest = s.folded_digest # d.digest
        FROM counted AS d WHERE is_folded AND p_table = 'aiMissions' AND s.user_id = d.owner AND s.mission_id = p_record),
    agents AS (
      UPDATE mana_ai.agent_snapshots AS s SET folded_count = s.folded_count - d.n, folded_digest = s.folded_digest # d.digest
        FROM counted AS d WHERE is_folded AND p_table = 'agents' AND s.user_id = d.owner AND s.agent_id = p_record)
    SELECT coalesce(sum(d.n), 0)::bigint INTO removed FROM counted AS d;
  END IF;
  IF next_at IS NOT NULL AND NOT EXISTS (
       SELECT FROM mana_ai.compactor_log AS l
        WHERE l.user_id = p_user AND l.app_id = p_app AND l.table_name = p_table AND l.record_id = p_record
          AND l.created_at < before AND (l.created_at, l.id) > (next_at, next_id)) THEN
    next_at := NULL;
    next_id := NULL;
  END IF;
END $_$;

ALTER FUNCTION mana_ai.compact_record(p_user text, p_app text, p_table text, p_record text, p_keep interval, p_after_at timestamp with time zone, p_after_id uuid, p_removes boolean, OUT outcome text, OUT removed bigint, OUT bytes bigint, OUT next_at timestamp with time zone, OUT next_id uuid) OWNER TO mana_compactor;

COMMENT ON FUNCTION mana_ai.compact_record(p_user text, p_app text, p_table text, p_record text, p_keep interval, p_after_at timestamp with time zone, p_after_id uuid, p_removes boolean, OUT outcome text, OUT removed bigint, OUT bytes bigint, OUT next_at timestamp with time zone, OUT next_id uuid) IS 'Removes updates of one person''s record that are older than p_keep and of which newer ones of that person in the same space, which
are that old too, wrote every field with a later stamp: whoever reads the rest, from whichever row on, ends with the same record. Inserts,
deletes, the first update of a space and after each hard delete (what seeds a record has no stamps), rows in quarantine and rows with
anything unusual stay. So does the last row that tells of an iteration of a mission. It looks at 128 rows after (p_after_at,
p_after_id); next_at and next_id say where to go on, null at the end. Without p_removes it only counts. A record of missions or agents
is passed over as long as its snapshot is held or differs from the log.';

CREATE FUNCTION mana_ai.copy_source(p_user text, p_mission text, p_taken uuid, p_app text, p_table text, p_record text) RETURNS TABLE(id uuid, op text, data text, field_meta text, created_us bigint)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
  PERFORM set_config('app.current_user_id', p_user, true);
  IF NOT EXISTS (SELECT FROM mana_ai.copy_requests AS q WHERE q.user_id = p_user AND q.mission_id = p_mission AND q.taken = p_taken
                    AND q.due_at > clock_timestamp())
     OR NOT EXISTS (SELECT FROM mana_ai.mission_snapshots AS s WHERE s.user_id = p_user AND s.mission_id = p_mission
                       AND s.record -> 'inputs' @> jsonb_build_array(jsonb_build_object('table', p_table, 'id', p_record))
                       AND s.record #> '{grant,derivation,recordIds}' ? (p_table || ':' || p_record)) THEN
    RAISE EXCEPTION 'superseded' USING ERRCODE = 'MA002';
  END IF;
  IF (SELECT sum(length(c.data::text)) FROM mana_ai.log_rows AS c
       WHERE c.user_id = p_user AND c.app_id = p_app AND c.table_name = p_table AND c.record_id = p_record) > 2097152 THEN
    RAISE EXCEPTION 'copy_source: over 2 MB of rows' USING ERRCODE = 'program_limit_exceeded';
  END IF;
  RETURN QUERY SELECT c.id, c.op, c.data::text, c.field_meta::text, (extract(epoch FROM c.created_at) * 1000000)::bigint
    FROM mana_ai.log_rows AS c
   WHERE c.user_id = p_user AND c.app_id = p_app AND c.table_name = p_table AND c.record_id = p_record ORDER BY c.created_at, c.id;
END $$;

ALTER FUNCTION mana_ai.copy_source(p_user text, p_mission text, p_taken uuid, p_app text, p_table text, p_record text) OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.copy_source(p_user text, p_mission text, p_taken uuid, p_app text, p_table text, p_record text) IS 'The rows of one record, for whoever took the request for copies. Only a record that is an input of that mission and
that its grant lists; at most 2 MB of rows.';

CREATE FUNCTION mana_ai.end_call(p_capability text, p_call uuid, p_attempt integer, p_hash text, p_answer text, p_tokens bigint, p_micros bigint DEFAULT NULL::bigint, p_answers jsonb DEFAULT '{}'::jsonb, OUT charged bigint, OUT journaled boolean) RETURNS record
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
  held jsonb := mana_ai.require_capability(p_capability);
BEGIN
  PERFORM mana_ai.lock_ledger(held ->> 'u', held ->> 'a');
  SELECT s.charged, s.journaled INTO end_call.charged, end_call.journaled
    FROM mana_ai.settle(held ->> 'u', held ->> 'a', p_call, p_attempt, p_hash, p_answer, p_tokens, p_micros,
                        mana_ai.noted_answers(p_answers)) AS s;
END $$;

ALTER FUNCTION mana_ai.end_call(p_capability text, p_call uuid, p_attempt integer, p_hash text, p_answer text, p_tokens bigint, p_micros bigint, p_answers jsonb, OUT charged bigint, OUT journaled boolean) OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.end_call(p_capability text, p_call uuid, p_attempt integer, p_hash text, p_answer text, p_tokens bigint, p_micros bigint, p_answers jsonb, OUT charged bigint, OUT journaled boolean) IS 'Settles a call by itself: what must be durable before a tool runs or the next call begins. A run''s last answer is settled
by the function that ends the run. p_answers says who answered and which tools were called, for whoever watches.';

CREATE FUNCTION mana_ai.old_sessions(p_older_s double precision) RETURNS TABLE(pid integer, application text, age_s double precision, xids xid[])
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    BEGIN ATOMIC
 SELECT a.pid,
     a.application_name,
     (EXTRACT(epoch FROM (clock_timestamp() - a.xact_start)))::double precision AS "extract",
     ARRAY( SELECT l.transactionid
            FROM pg_locks l
           WHERE ((l.pid = a.pid) AND (l.locktype = 'transactionid'::text) AND (l.mode = 'ExclusiveLock'::text) AND l.granted)) AS "array"
    FROM pg_stat_activity a
   WHERE ((a.usename = 'mana_agent'::name) AND (a.datname = current_database()) AND (a.xact_start < (clock_timestamp() - (old_sessions.p_older_s * '00:00:01'::interval))) AND ((a.wait_event_type IS DISTINCT FROM 'Lock'::text) OR (a.wait_event = 'advisory'::text) OR (a.xact_start < (clock_timestamp() - (((6)::double precision * old_sessions.p_older_s) * '00:00:01'::interval)))));
END;

ALTER FUNCTION mana_ai.old_sessions(p_older_s double precision) OWNER TO mana_ender;

COMMENT ON FUNCTION mana_ai.old_sessions(p_older_s double precision) IS 'Sessions of agents in this database whose transaction began longer ago than that, in whatever state, with the
transaction ids that they have. One that waits for a lock is somebody''s victim and not among them; but nothing of ours
waits for an advisory lock, and nobody waits six times as long.';

CREATE FUNCTION mana_ai.end_sessions(p_older_s double precision, p_pids integer[]) RETURNS SETOF integer
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    BEGIN ATOMIC
 WITH old AS MATERIALIZED (
          SELECT o_1.pid
            FROM mana_ai.old_sessions(end_sessions.p_older_s) o_1(pid, application, age_s, xids)
           WHERE (o_1.pid = ANY (end_sessions.p_pids))
         )
  SELECT o.pid
    FROM old o
   WHERE pg_terminate_backend(o.pid);
END;

ALTER FUNCTION mana_ai.end_sessions(p_older_s double precision, p_pids integer[]) OWNER TO mana_ender;

COMMENT ON FUNCTION mana_ai.end_sessions(p_older_s double precision, p_pids integer[]) IS 'Ends those of these sessions that are old still, and returns which; for the supervisor. Its owner is a member of
mana_agent and of nothing else, so it ends no other login''s sessions and needs no superuser.';

CREATE FUNCTION mana_ai.feed_changes() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
  INSERT INTO mana_ai.change_feed (bucket, change_id, user_id, table_name, record_id, space_id)
  SELECT mana_ai.bucket_of(user_id), id, user_id, table_name, record_id, CASE WHEN mana_ai.is_shared(space_id) THEN space_id END
    FROM added WHERE app_id = 'ai' AND table_name IN ('aiMissions', 'agents');
  RETURN NULL;
EXCEPTION WHEN OTHERS THEN
  RAISE WARNING 'mana_ai: change feed not written (%); the reconcile sweep will bring the rows in', SQLSTATE;
  RETURN NULL;
END $$;

ALTER FUNCTION mana_ai.feed_changes() OWNER TO mana_router;

COMMENT ON FUNCTION mana_ai.feed_changes() IS 'Copies pushed rows of missions and agents into the feed. It runs inside the pushing client''s transaction and must
never stop somebody''s sync, so it catches everything and warns. The reconcile sweep brings in what it misses.';

CREATE FUNCTION mana_ai.forget_revoked() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
  acting text := current_setting('app.current_user_id', true);
BEGIN
  PERFORM set_config('app.current_user_id', NEW.user_id, true);
  DELETE FROM mana_ai.sealed_copies WHERE user_id = NEW.user_id AND mission_id = NEW.mission_id;
  DELETE FROM mana_ai.journal WHERE (run_id, round) IN (  -- one that is locked is being dropped anyway
    SELECT j.run_id, j.round FROM mana_ai.journal AS j JOIN mana_ai.runs AS r ON r.run_id = j.run_id
     WHERE r.user_id = NEW.user_id AND r.mission_id = NEW.mission_id FOR UPDATE OF j SKIP LOCKED);
  PERFORM set_config('app.current_user_id', coalesce(acting, ''), true);
  RETURN NULL;
END $$;

ALTER FUNCTION mana_ai.forget_revoked() OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.forget_revoked() IS 'Deletes sealed copies and journalled answers when a fold shows that a grant was revoked or its mission is gone.';

CREATE TABLE mana_ai.mission_snapshots (
    user_id text NOT NULL,
    mission_id text NOT NULL,
    record jsonb NOT NULL,
    last_applied_at timestamp with time zone DEFAULT '1970-01-01 00:00:00+00'::timestamp with time zone NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    bucket smallint DEFAULT 0 NOT NULL,
    version bigint DEFAULT 0 NOT NULL,
    wake_at timestamp with time zone,
    next_run_at timestamp with time zone,
    state text DEFAULT 'paused'::text NOT NULL,
    agent_id text DEFAULT 'legacy:ai-default'::text NOT NULL,
    space_id text,
    complete boolean DEFAULT false NOT NULL,
    present boolean DEFAULT true NOT NULL,
    hidden boolean DEFAULT false NOT NULL,
    readable boolean DEFAULT true NOT NULL,
    problems text[] DEFAULT '{}'::text[] NOT NULL,
    newest_at timestamp with time zone DEFAULT '1970-01-01 00:00:00+00'::timestamp with time zone NOT NULL,
    newest_id uuid,
    folded_count bigint DEFAULT 0 NOT NULL,
    folded_digest bigint DEFAULT 0 NOT NULL,
    heal boolean DEFAULT false NOT NULL,
    decision text,
    reason text,
    decided_at timestamp with time zone,
    browser_since timestamp with time zone,
    awaits_staging boolean GENERATED ALWAYS AS (jsonb_path_exists(record, '$."iterations"[*]?(@."source" == "server")."plan"[*]?((@."intent"."kind" == "toolCall" && @."status" == "planned") && ((!(exists (@."proposalId")) || @."proposalId" == "") || @."proposalId" == null))'::jsonpath)) STORED NOT NULL
);

ALTER TABLE ONLY mana_ai.mission_snapshots FORCE ROW LEVEL SECURITY;

ALTER TABLE mana_ai.mission_snapshots OWNER TO mana_owner;

CREATE FUNCTION mana_ai.free_missions(p_users text[], p_missions text[]) RETURNS TABLE(user_id text, mission_id text)
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    BEGIN ATOMIC
 SELECT s.user_id,
     s.mission_id
    FROM (mana_ai.mission_snapshots s
      JOIN UNNEST(free_missions.p_users, free_missions.p_missions) k(user_id, mission_id) USING (user_id, mission_id))
  FOR UPDATE OF s SKIP LOCKED;
END;

ALTER FUNCTION mana_ai.free_missions(p_users text[], p_missions text[]) OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.free_missions(p_users text[], p_missions text[]) IS 'Locks the snapshots of these missions and returns them, but for those that somebody else holds: what the supervisor does
for many waits for no one. It runs with its caller''s rights.';

CREATE FUNCTION mana_ai.grant_end(p_user text, p_mission text) RETURNS timestamp with time zone
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
  given jsonb;
  most timestamptz := clock_timestamp() + interval '30 days';
BEGIN
  SELECT s.record -> 'grant' INTO given FROM mana_ai.mission_snapshots AS s
   WHERE s.user_id = p_user AND s.mission_id = p_mission AND s.complete AND NOT s.hidden;
  IF jsonb_typeof(given) IS DISTINCT FROM 'object' THEN
    RETURN NULL;
  END IF;
  RETURN least(most, (given ->> 'expiresAt')::timestamptz);
EXCEPTION WHEN data_exception THEN
  RETURN NULL;
END $$;

ALTER FUNCTION mana_ai.grant_end(p_user text, p_mission text) OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.grant_end(p_user text, p_mission text) IS 'When the grant in a mission''s snapshot ends, at most 30 days from now. Null without such a mission, without a grant,
or where its end cannot be read.';

CREATE FUNCTION mana_ai.granted_mission(p_run uuid, p_attempt integer, p_mission text, OUT outcome text, OUT user_id text, OUT agent_id text, OUT snapshot jsonb, OUT changes jsonb, OUT asked_at timestamp with time zone) RETURNS record
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
  held jsonb := mana_ai.require_keys_capability(p_run, p_attempt);
  wanted text[] := ARRAY['grant', 'deletedAt', 'createdAt', 'updatedAt'];
  run mana_ai.runs;
BEGIN
  user_id := held ->> 'u';
  agent_id := held ->> 'a';
  asked_at := clock_timestamp();
  SELECT * INTO run FROM mana_ai.runs AS r
   WHERE r.run_id = p_run AND r.user_id = held ->> 'u' AND r.agent_id = held ->> 'a' FOR SHARE;
  IF run.run_id IS NULL OR run.attempt <> p_attempt OR run.state <> 'open' OR run.lease_until <= clock_timestamp() THEN
    outcome := 'run-not-live'; RETURN;
  END IF;
  IF run.mission_id <> p_mission THEN
    outcome := 'other-mission'; RETURN;
  END IF;
  IF (SELECT count(*) FROM mana_ai.key_releases AS k WHERE k.run_id = p_run) >= 100 THEN
    outcome := 'too-many'; RETURN;
  END IF;
  outcome := 'live';
  SELECT jsonb_build_object('present', s.present, 'complete', s.complete, 'record',
           mana_ai.only_fields(s.record, wanted)
           || jsonb_build_object('__fieldMeta', mana_ai.only_fields(s.record -> '__fieldMeta', wanted)))
    INTO granted_mission.snapshot
    FROM mana_ai.mission_snapshots AS s WHERE s.user_id = run.user_id AND s.mission_id = p_mission;
  SELECT jsonb_agg(jsonb_build_object('id', c.id, 'op', c.op, 'data', mana_ai.only_fields(c.data, wanted)::text,
                                      'field_meta', mana_ai.only_fields(c.field_meta, wanted)::text,
                                      'created_at', (extract(epoch FROM c.created_at) * 1000000)::bigint) ORDER BY c.created_at, c.id)
    INTO granted_mission.changes
    FROM mana_ai.unfolded_rows(run.user_id, 'aiMissions', p_mission) AS c;
END $$;

ALTER FUNCTION mana_ai.granted_mission(p_run uuid, p_attempt integer, p_mission text, OUT outcome text, OUT user_id text, OUT agent_id text, OUT snapshot jsonb, OUT changes jsonb, OUT asked_at timestamp with time zone) OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.granted_mission(p_run uuid, p_attempt integer, p_mission text, OUT outcome text, OUT user_id text, OUT agent_id text, OUT snapshot jsonb, OUT changes jsonb, OUT asked_at timestamp with time zone) IS 'What the key holder may know of a live run''s mission: its grant with the rows not folded yet, and nothing else the
owner wrote. It locks the run until the caller''s transaction ends, so the run cannot close in between. Outcome:
''live'', ''run-not-live'', ''other-mission'', ''too-many''.';

CREATE FUNCTION mana_ai.heal_mission(p_mission text, p_version bigint, p_iterations jsonb, p_stamp text, p_actor jsonb, p_restored text[]) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
  held jsonb := mana_ai.require_capability();
BEGIN
  IF p_actor ->> 'kind' IS DISTINCT FROM 'ai' OR p_actor ->> 'principalId' IS DISTINCT FROM held ->> 'a' THEN
    RAISE EXCEPTION 'heal_mission: not by this agent' USING ERRCODE = 'check_violation';
  END IF;
  PERFORM mana_ai.lock_ledger(held ->> 'u', held ->> 'a');
  -- Locked by its version: a sweep that replays it leaves nothing in the feed to be seen by.
  PERFORM FROM mana_ai.mission_snapshots AS s
    WHERE s.user_id = held ->> 'u' AND s.mission_id = p_mission AND s.version = p_version FOR UPDATE;
  IF NOT FOUND OR EXISTS (SELECT FROM mana_ai.unfolded_rows(held ->> 'u', 'aiMissions', p_mission)) THEN
    RETURN false;
  END IF;
  UPDATE mana_ai.mission_snapshots SET heal = false
   WHERE user_id = held ->> 'u' AND mission_id = p_mission AND agent_id = held ->> 'a';
  IF NOT FOUND OR p_restored = '{}' THEN
    RETURN false;
  END IF;
  UPDATE mana_ai.runs SET healed_at = clock_timestamp()
   WHERE user_id = held ->> 'u' AND mission_id = p_mission AND iteration_id = ANY (p_restored) AND healed_at IS NULL;
  IF NOT FOUND THEN
    RETURN false;
  END IF;
  PERFORM mana_ai.write_mission(held ->> 'u', p_mission, jsonb_build_object('iterations', p_iterations), p_stamp, p_actor, 'agent');
  RETURN true;
END $$;

ALTER FUNCTION mana_ai.heal_mission(p_mission text, p_version bigint, p_iterations jsonb, p_stamp text, p_actor jsonb, p_restored text[]) OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.heal_mission(p_mission text, p_version bigint, p_iterations jsonb, p_stamp text, p_actor jsonb, p_restored text[]) IS 'Puts back iterations of ours that a client''s write dropped, at most once each: a second removal is the owner''s will.
p_version is the snapshot that the array was made from. Where the mission changed since, the change stands and the
mission is looked at again. The author must be the agent, as in commit_run.';

CREATE FUNCTION mana_ai.installation_room_at(p_since timestamp with time zone, p_unit text, p_need bigint) RETURNS timestamp with time zone
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    BEGIN ATOMIC
 SELECT (min(f.ts) + '24:00:00'::interval)
    FROM ( SELECT t.ts,
             sum(
                 CASE installation_room_at.p_unit
                     WHEN 'money'::text THEN t.cost_micros
                     ELSE t.tokens_used
                 END) OVER (ORDER BY t.ts, t.id) AS freed
            FROM mana_ai.token_usage t
           WHERE (t.ts > installation_room_at.p_since)) f
   WHERE (f.freed >= (installation_room_at.p_need)::numeric);
END;

ALTER FUNCTION mana_ai.installation_room_at(p_since timestamp with time zone, p_unit text, p_need bigint) OWNER TO mana_fleet;

COMMENT ON FUNCTION mana_ai.installation_room_at(p_since timestamp with time zone, p_unit text, p_need bigint) IS 'When p_need of what all users spent (p_unit: ''tokens'' or ''money'') will have left the window of 24 hours. Owned by
mana_fleet, which may read all users'' usage.';

CREATE FUNCTION mana_ai.installation_spent(p_since timestamp with time zone, OUT used bigint, OUT held bigint, OUT micros_used bigint, OUT micros_held bigint) RETURNS record
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    BEGIN ATOMIC
 SELECT u.tokens,
     h.tokens,
     u.micros,
     h.micros
    FROM ( SELECT (COALESCE(sum(t.tokens_used), (0)::numeric))::bigint AS "coalesce",
             (COALESCE(sum(t.cost_micros), (0)::numeric))::bigint AS "coalesce"
            FROM mana_ai.token_usage t
           WHERE (t.ts > installation_spent.p_since)) u(tokens, micros),
     ( SELECT (COALESCE(sum(o.tokens), (0)::numeric))::bigint AS "coalesce",
             (COALESCE(sum(o.cost_micros), (0)::numeric))::bigint AS "coalesce"
            FROM mana_ai.token_holds o) h(tokens, micros);
END;

ALTER FUNCTION mana_ai.installation_spent(p_since timestamp with time zone, OUT used bigint, OUT held bigint, OUT micros_used bigint, OUT micros_held bigint) OWNER TO mana_fleet;

COMMENT ON FUNCTION mana_ai.installation_spent(p_since timestamp with time zone, OUT used bigint, OUT held bigint, OUT micros_used bigint, OUT micros_held bigint) IS 'What all users spent since p_since, and what is held. Both are read in one statement, so a call being settled is
counted exactly once. Owned by mana_fleet, which may read all users'' usage.';

CREATE FUNCTION mana_ai.is_shared(p_space text) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN ((p_space IS NOT NULL) AND (p_space <> ''::text) AND (NOT starts_with(p_space, '_personal:'::text)));

ALTER FUNCTION mana_ai.is_shared(p_space text) OWNER TO mana_router;

COMMENT ON FUNCTION mana_ai.is_shared(p_space text) IS 'Whether a space is shared. A row of a shared space folds into the record of whoever inserted it; a personal row always
into its author''s.';

CREATE TABLE public.sync_changes (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    app_id text NOT NULL,
    table_name text NOT NULL,
    record_id text NOT NULL,
    user_id text NOT NULL,
    op text NOT NULL,
    data jsonb,
    field_meta jsonb DEFAULT '{}'::jsonb,
    client_id text NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    schema_version integer DEFAULT 1 NOT NULL,
    actor jsonb,
    origin text,
    space_id text,
    CONSTRAINT sync_changes_op_check CHECK ((op = ANY (ARRAY['insert'::text, 'update'::text, 'delete'::text])))
);

ALTER TABLE ONLY public.sync_changes FORCE ROW LEVEL SECURITY;

ALTER TABLE public.sync_changes OWNER TO mana_sync;

CREATE VIEW mana_ai.router_log AS
 SELECT id,
    app_id,
    table_name,
    record_id,
    user_id,
    op,
    data,
    field_meta,
    client_id,
    created_at,
    schema_version,
    actor,
    origin,
    space_id
   FROM public.sync_changes;

ALTER VIEW mana_ai.router_log OWNER TO mana_router;

CREATE FUNCTION mana_ai.owner_of(p_user text, p_table text, p_record text, p_space text) RETURNS text
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    RETURN CASE WHEN (EXISTS (SELECT FROM mana_ai.router_log WHERE ((router_log.app_id = 'ai'::text) AND (router_log.table_name = owner_of.p_table) AND (router_log.record_id = owner_of.p_record) AND (router_log.user_id = owner_of.p_user) AND (router_log.op = 'insert'::text)))) THEN p_user ELSE COALESCE((SELECT router_log.user_id FROM mana_ai.router_log WHERE ((router_log.app_id = 'ai'::text) AND (router_log.table_name = owner_of.p_table) AND (router_log.record_id = owner_of.p_record) AND (router_log.space_id = owner_of.p_space) AND (router_log.op = 'insert'::text)) ORDER BY router_log.created_at, router_log.id LIMIT 1), p_user) END;

ALTER FUNCTION mana_ai.owner_of(p_user text, p_table text, p_record text, p_space text) OWNER TO mana_router;

COMMENT ON FUNCTION mana_ai.owner_of(p_user text, p_table text, p_record text, p_space text) IS 'Whose record a row folds into: its author''s if the author inserted the record, else that of whoever inserted it first
in the same space.';

CREATE TABLE mana_ai.change_feed (
    seq bigint NOT NULL,
    bucket smallint NOT NULL,
    change_id uuid NOT NULL,
    user_id text NOT NULL,
    table_name text NOT NULL,
    record_id text NOT NULL,
    space_id text
);

ALTER TABLE ONLY mana_ai.change_feed FORCE ROW LEVEL SECURITY;

ALTER TABLE mana_ai.change_feed OWNER TO mana_owner;

CREATE FUNCTION mana_ai.unfolded_rows(p_user text, p_table text, p_record text) RETURNS SETOF mana_ai.router_log
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    BEGIN ATOMIC
 SELECT c.id,
     c.app_id,
     c.table_name,
     c.record_id,
     c.user_id,
     c.op,
     c.data,
     c.field_meta,
     c.client_id,
     c.created_at,
     c.schema_version,
     c.actor,
     c.origin,
     c.space_id
    FROM (mana_ai.change_feed f
      JOIN mana_ai.router_log c ON ((c.id = f.change_id)))
   WHERE ((f.record_id = unfolded_rows.p_record) AND (f.table_name = unfolded_rows.p_table) AND ((f.user_id = unfolded_rows.p_user) OR mana_ai.is_shared(f.space_id)) AND (unfolded_rows.p_user =
         CASE
             WHEN ((c.op = 'insert'::text) OR (NOT mana_ai.is_shared(c.space_id))) THEN c.user_id
             ELSE mana_ai.owner_of(c.user_id, unfolded_rows.p_table, unfolded_rows.p_record, c.space_id)
         END));
END;

ALTER FUNCTION mana_ai.unfolded_rows(p_user text, p_table text, p_record text) OWNER TO mana_router;

COMMENT ON FUNCTION mana_ai.unfolded_rows(p_user text, p_table text, p_record text) IS 'The rows of one user''s record that wait to be folded, whoever wrote them: in a shared space members write into it too.
It is STABLE, so it reads with the snapshot of the statement that calls it.';

CREATE TABLE mana_ai.owner_keys (
    user_id text NOT NULL,
    key_id text NOT NULL,
    public_key bytea NOT NULL,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT owner_keys_x25519 CHECK ((length(public_key) = 32))
);

ALTER TABLE ONLY mana_ai.owner_keys FORCE ROW LEVEL SECURITY;

ALTER TABLE mana_ai.owner_keys OWNER TO mana_owner;

CREATE TABLE mana_ai.user_settings (
    user_id text NOT NULL,
    time_zone text,
    updated_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);

ALTER TABLE ONLY mana_ai.user_settings FORCE ROW LEVEL SECURITY;

ALTER TABLE mana_ai.user_settings OWNER TO mana_owner;

CREATE FUNCTION mana_ai.is_as_decided(p_user text, p_mission text, p_agent text, p_basis jsonb) RETURNS boolean
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    BEGIN ATOMIC
 SELECT COALESCE(((((p_basis ->> 'mission_version'::text))::bigint = ( SELECT s.version
            FROM mana_ai.mission_snapshots s
           WHERE ((s.user_id = is_as_decided.p_user) AND (s.mission_id = is_as_decided.p_mission)))) AND (((p_basis ->> 'agent_version'::text))::bigint = COALESCE(( SELECT s.version
            FROM mana_ai.agent_snapshots s
           WHERE ((s.user_id = is_as_decided.p_user) AND (s.agent_id = is_as_decided.p_agent))), (0)::bigint)) AND ((p_basis ->> 'time_zone'::text) = COALESCE(( SELECT z.time_zone
            FROM mana_ai.user_settings z
           WHERE (z.user_id = is_as_decided.p_user)), ''::text)) AND ((NOT (p_basis ? 'owner_key'::text)) OR ((p_basis ->> 'owner_key'::text) = COALESCE(( SELECT k.key_id
            FROM mana_ai.owner_keys k
           WHERE (k.user_id = is_as_decided.p_user)), ''::text))) AND (NOT (EXISTS ( SELECT
            FROM mana_ai.unfolded_rows(is_as_decided.p_user, 'aiMissions'::text, is_as_decided.p_mission) c(id, app_id, table_name, record_id, user_id, op, data, field_meta, client_id, created_at, schema_version, actor, origin, space_id)
           WHERE (((is_as_decided.p_basis -> 'merged'::text) ? (c.id)::text) IS NOT TRUE)))) AND (NOT (EXISTS ( SELECT
            FROM mana_ai.unfolded_rows(is_as_decided.p_user, 'agents'::text, is_as_decided.p_agent) c(id, app_id, table_name, record_id, user_id, op, data, field_meta, client_id, created_at, schema_version, actor, origin, space_id)
           WHERE (((is_as_decided.p_basis -> 'merged'::text) ? (c.id)::text) IS NOT TRUE))))), false) AS "coalesce";
END;

ALTER FUNCTION mana_ai.is_as_decided(p_user text, p_mission text, p_agent text, p_basis jsonb) OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.is_as_decided(p_user text, p_mission text, p_agent text, p_basis jsonb) IS 'Whether a decision still fits: versions of mission and agent (0: no record), the zone, the owner''s key where it was
sealed for one, and no row waits to be folded but those that were merged already. One statement: asked apart, a fold in
between would hide a row from both. What p_basis leaves out does not fit.';

CREATE FUNCTION mana_ai.keys_capability(p_capability text, p_run uuid, p_attempt integer) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
  run mana_ai.runs := mana_ai.own_run(p_capability, p_run, p_attempt);
BEGIN
  RETURN mana_ai.sign_payload(jsonb_build_object('u', run.user_id, 'a', run.agent_id, 'm', run.mission_id, 'run', p_run,
    'attempt', p_attempt, 'aud', 'keys', 'exp', floor(extract(epoch FROM clock_timestamp()))::bigint + 60));
END $$;

ALTER FUNCTION mana_ai.keys_capability(p_capability text, p_run uuid, p_attempt integer) OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.keys_capability(p_capability text, p_run uuid, p_attempt integer) IS 'Signs a capability for the key holder: for this run''s attempt alone, and for one minute.';

CREATE TABLE mana_ai.proposals (
    user_id text NOT NULL,
    proposal_id uuid NOT NULL,
    mission_id text NOT NULL,
    iteration_id text NOT NULL,
    step_id text NOT NULL,
    agent_id text NOT NULL,
    agent_name text NOT NULL,
    tool text NOT NULL,
    params jsonb,
    rationale text NOT NULL,
    created_at timestamp with time zone NOT NULL,
    expires_at timestamp with time zone,
    state text DEFAULT 'pending'::text NOT NULL,
    not_before timestamp with time zone,
    edited jsonb,
    decided_by text,
    decided_at timestamp with time zone,
    decided_address text,
    decided_client text,
    approval_id uuid,
    feedback text DEFAULT ''::text NOT NULL,
    reason text DEFAULT ''::text NOT NULL,
    written jsonb DEFAULT '[]'::jsonb NOT NULL,
    claimed_by text DEFAULT ''::text NOT NULL,
    claimed_until timestamp with time zone,
    CONSTRAINT decided_unless_pending CHECK (((state = 'pending'::text) OR (decided_by IS NOT NULL))),
    CONSTRAINT decided_with_time CHECK (((decided_by IS NULL) = (decided_at IS NULL))),
    CONSTRAINT proposal_decider_known CHECK ((decided_by = ANY (ARRAY['user'::text, 'standing-approval'::text, 'auto-expire'::text, 'device'::text]))),
    CONSTRAINT proposal_state_known CHECK ((state = ANY (ARRAY['pending'::text, 'waiting-for-device'::text, 'done'::text, 'rejected'::text, 'expired'::text, 'refused'::text, 'undone'::text])))
);

ALTER TABLE ONLY mana_ai.proposals FORCE ROW LEVEL SECURITY;

ALTER TABLE mana_ai.proposals OWNER TO mana_owner;

CREATE FUNCTION mana_ai.late_proposals(p_limit integer) RETURNS TABLE(user_id text, mission_id text)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    BEGIN ATOMIC
 SELECT l.user_id,
     l.mission_id
    FROM ( SELECT p.user_id,
             p.mission_id,
             p.expires_at
            FROM mana_ai.proposals p
           WHERE ((p.state = ANY (ARRAY['pending'::text, 'refused'::text])) AND (p.expires_at <= clock_timestamp()))
           ORDER BY p.expires_at
          LIMIT late_proposals.p_limit) l
   GROUP BY l.user_id, l.mission_id
   ORDER BY (min(l.expires_at));
END;

ALTER FUNCTION mana_ai.late_proposals(p_limit integer) OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.late_proposals(p_limit integer) IS 'Missions with proposals that nobody answered in time, the latest first to have been so; for the gateway, which lets them
expire though their owner does not look.';

CREATE FUNCTION mana_ai.load_memory(p_capability text, p_missions text[], p_mission_fields text[], p_agent_fields text[], OUT agent jsonb, OUT missions jsonb, OUT time_zone text, OUT cap bigint, OUT slots_from timestamp with time zone, OUT charges jsonb, OUT holds jsonb, OUT requested jsonb, OUT now timestamp with time zone, OUT agent_record jsonb, OUT forgotten bigint) RETURNS record
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $$
DECLARE
  token jsonb := mana_ai.require_capability(p_capability);
  u text := token ->> 'u';
  a text := token ->> 'a';
BEGIN
  SELECT (SELECT jsonb_build_object('version', s.version, 'fields', mana_ai.only_fields(s.record, p_agent_fields),
                   'stamps', mana_ai.only_fields(s.record -> '__fieldMeta', p_agent_fields),
                   'columns', jsonb_build_object('state', s.state, 'space_id', s.space_id, 'max_tokens_per_day', s.max_tokens_per_day,
                     'max_concurrent', s.max_concurrent, 'complete', s.complete, 'present', s.present, 'hidden', s.hidden))
            FROM mana_ai.agent_snapshots AS s WHERE s.user_id = u AND s.agent_id = a),
         (SELECT jsonb_object_agg(m.mission_id, jsonb_build_object('version', m.version,
                   'fields', mana_ai.only_fields(m.record, p_mission_fields),
                   'stamps', mana_ai.only_fields(m.record -> '__fieldMeta', p_mission_fields),
                   'columns', jsonb_build_object('agent_id', m.agent_id, 'state', m.state, 'space_id', m.space_id,
                     'next_run_at', m.next_run_at, 'complete', m.complete, 'present', m.present, 'hidden', m.hidden,
                     'readable', m.readable, 'browser_since', m.browser_since)))
            FROM mana_ai.mission_snapshots AS m
           WHERE m.user_id = u AND (m.mission_id = ANY (p_missions)
                 OR p_missions IS NULL AND m.agent_id = a AND (NOT m.hidden OR EXISTS (
                      SELECT FROM mana_ai.runs AS r WHERE r.user_id = u AND r.mission_id = m.mission_id AND r.state IN ('open', 'waiting'))))),
         (SELECT z.time_zone FROM mana_ai.user_settings AS z WHERE z.user_id = u),
         (SELECT c.agent_tokens FROM mana_ai.caps_of(u, a) AS c),
         (SELECT i.slots_from FROM mana_ai.install AS i),
         (SELECT jsonb_agg(jsonb_build_object('at', t.ts, 'tokens', t.tokens_used, 'call_id', t.call_id))
            FROM mana_ai.token_usage AS t
           WHERE t.user_id = u AND t.agent_id = a AND t.ts > clock_timestamp() - interval '24 hours'),
         (SELECT jsonb_agg(jsonb_build_object('call_id', h.call_id, 'tokens', h.tokens, 'opened_at', h.opened_at, 'deadline', h.deadline))
            FROM mana_ai.token_holds AS h WHERE h.user_id = u AND h.agent_id = a),
         (SELECT jsonb_object_agg(q.mission_id, q.due_at)
            FROM (SELECT r.mission_id, min(r.due_at) AS due_at FROM mana_ai.run_requests AS r
                   WHERE r.user_id = u AND r.mission_id = ANY (p_missions) AND r.closed_at IS NULL GROUP BY r.mission_id) AS q),
         clock_timestamp(), (SELECT s.record FROM mana_ai.agent_snapshots AS s WHERE s.user_id = u AND s.agent_id = a),
         (SELECT max(m.version) FROM mana_ai.mission_snapshots AS m
           WHERE p_missions IS NULL AND m.user_id = u AND m.agent_id = a AND m.hidden)
    INTO agent, missions, time_zone, cap, slots_from, charges, holds, requested, now, agent_record, forgotten;
END $$;

ALTER FUNCTION mana_ai.load_memory(p_capability text, p_missions text[], p_mission_fields text[], p_agent_fields text[], OUT agent jsonb, OUT missions jsonb, OUT time_zone text, OUT cap bigint, OUT slots_from timestamp with time zone, OUT charges jsonb, OUT holds jsonb, OUT requested jsonb, OUT now timestamp with time zone, OUT agent_record jsonb, OUT forgotten bigint) OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.load_memory(p_capability text, p_missions text[], p_mission_fields text[], p_agent_fields text[], OUT agent jsonb, OUT missions jsonb, OUT time_zone text, OUT cap bigint, OUT slots_from timestamp with time zone, OUT charges jsonb, OUT holds jsonb, OUT requested jsonb, OUT now timestamp with time zone, OUT agent_record jsonb, OUT forgotten bigint) IS 'What an agent''s process holds, read at one moment: its record, its missions (or those named, whoever has them; null names
all of its own), the zone, its cap in force, what it spent in 24 hours and what is held. Of the records only the fields
asked for, and its own record whole. Of deleted missions, of which there may be any number, those that
a run is under way of come with all; forgotten is the newest version of one, so that news of what did not come is known to
be old. Nothing about other agents'' spending or the limits of user and installation.';

CREATE FUNCTION mana_ai.lock_installation() RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
  PERFORM FROM mana_ai.install FOR UPDATE;
END $$;

ALTER FUNCTION mana_ai.lock_installation() OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.lock_installation() IS 'Takes the lock for spending under the installation''s limit. It is a statement of its own, like lock_ledger. No login
may take this lock by itself.';

CREATE FUNCTION mana_ai.lock_ledger(p_user text, p_agent text) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
  IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
    RAISE EXCEPTION 'lock_ledger: needs read committed' USING ERRCODE = 'invalid_transaction_state';
  END IF;
  INSERT INTO mana_ai.ledger (user_id, agent_id) VALUES (p_user, p_agent) ON CONFLICT DO NOTHING;
  PERFORM FROM mana_ai.ledger WHERE user_id = p_user AND agent_id = p_agent FOR UPDATE;
END $$;

ALTER FUNCTION mana_ai.lock_ledger(p_user text, p_agent text) OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.lock_ledger(p_user text, p_agent text) IS 'Locks the agent''s ledger row. It is a statement of its own, so that the next one reads what the previous holder
wrote. A transaction that keeps one snapshot would read the state before that and pass every limit, so it is refused.';

CREATE TABLE mana_ai.run_requests (
    user_id text NOT NULL,
    request_key text NOT NULL,
    mission_id text NOT NULL,
    due_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    closed_at timestamp with time zone
);

ALTER TABLE ONLY mana_ai.run_requests FORCE ROW LEVEL SECURITY;

ALTER TABLE mana_ai.run_requests OWNER TO mana_owner;

CREATE FUNCTION mana_ai.look_again(p_user text, p_mission text, p_next timestamp with time zone) RETURNS void
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    BEGIN ATOMIC
 UPDATE mana_ai.mission_snapshots s SET wake_at = LEAST(look_again.p_next, ( SELECT min(q.due_at) AS min
            FROM mana_ai.run_requests q
           WHERE ((q.user_id = look_again.p_user) AND (q.mission_id = look_again.p_mission) AND (q.closed_at IS NULL))))
   WHERE ((s.user_id = look_again.p_user) AND (s.mission_id = look_again.p_mission));
END;

ALTER FUNCTION mana_ai.look_again(p_user text, p_mission text, p_next timestamp with time zone) OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.look_again(p_user text, p_mission text, p_next timestamp with time zone) IS 'Sets when to look at a mission again after a run: at a waiting request, else at p_next.';

CREATE FUNCTION mana_ai.may_share(p_user text, p_space text) RETURNS boolean
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
  RETURN NOT EXISTS (SELECT FROM mana_ai.spaces AS s WHERE s.space_id = p_space)
         OR EXISTS (SELECT FROM mana_ai.space_members AS m WHERE m.space_id = p_space AND m.user_id = p_user);
END $$;

ALTER FUNCTION mana_ai.may_share(p_user text, p_space text) OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.may_share(p_user text, p_space text) IS 'Whether a person may read a space now. Of a space that is kept here only its members may; of any other an auth service of the
deployment decides, so that what a capability says of it holds.';

CREATE TABLE mana_ai.space_members (
    space_id text NOT NULL,
    user_id text NOT NULL,
    added_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);

ALTER TABLE ONLY mana_ai.space_members FORCE ROW LEVEL SECURITY;

ALTER TABLE mana_ai.space_members OWNER TO mana_owner;

CREATE FUNCTION mana_ai.members_of(p_space text) RETURNS text[]
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    BEGIN ATOMIC
 SELECT ARRAY( SELECT m.user_id
            FROM mana_ai.space_members m
           WHERE (m.space_id = members_of.p_space)) AS "array";
END;

ALTER FUNCTION mana_ai.members_of(p_space text) OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.members_of(p_space text) IS 'Who shares a space that is kept here; nobody where it is kept elsewhere.';

CREATE FUNCTION mana_ai.unfolded(p_user text, p_table text, p_record text) RETURNS jsonb
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    BEGIN ATOMIC
 SELECT jsonb_agg(jsonb_build_object('id', c.id, 'op', c.op, 'data', (c.data)::text, 'field_meta', (c.field_meta)::text, 'created_at', ((EXTRACT(epoch FROM c.created_at) * (1000000)::numeric))::bigint) ORDER BY c.created_at, c.id) AS jsonb_agg
    FROM mana_ai.unfolded_rows(unfolded.p_user, unfolded.p_table, unfolded.p_record) c(id, app_id, table_name, record_id, user_id, op, data, field_meta, client_id, created_at, schema_version, actor, origin, space_id);
END;

ALTER FUNCTION mana_ai.unfolded(p_user text, p_table text, p_record text) OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.unfolded(p_user text, p_table text, p_record text) IS 'The rows of one record that wait to be folded, in fold order; null where there are none. Their JSON is text, so that one
that cannot be read is skipped alone. It is STABLE, so it reads with the snapshot of the statement that calls it.';

CREATE FUNCTION mana_ai.mission_now(p_user text, p_mission text, p_agent text) RETURNS jsonb
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    BEGIN ATOMIC
 SELECT jsonb_build_object('mission', ( SELECT jsonb_build_object('version', s.version, 'present', s.present, 'complete', s.complete, 'record', s.record) AS jsonb_build_object
            FROM mana_ai.mission_snapshots s
           WHERE ((s.user_id = mission_now.p_user) AND (s.mission_id = mission_now.p_mission))), 'mission_rows', COALESCE(mana_ai.unfolded(p_user, 'aiMissions'::text, p_mission), '[]'::jsonb), 'agent', ( SELECT jsonb_build_object('hidden', s.hidden, 'state', s.state, 'version', s.version, 'present', s.present, 'complete', s.complete, 'record', s.record) AS jsonb_build_object
            FROM mana_ai.agent_snapshots s
           WHERE ((s.user_id = mission_now.p_user) AND (s.agent_id = mission_now.p_agent))), 'agent_rows', COALESCE(mana_ai.unfolded(p_user, 'agents'::text, p_agent), '[]'::jsonb), 'time_zone', ( SELECT z.time_zone
            FROM mana_ai.user_settings z
           WHERE (z.user_id = mission_now.p_user))) AS jsonb_build_object;
END;

ALTER FUNCTION mana_ai.mission_now(p_user text, p_mission text, p_agent text) OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.mission_now(p_user text, p_mission text, p_agent text) IS 'Everything a commit is decided by, read in one statement so that a fold in between cannot split it: the two snapshots, the
rows of them that are not folded yet, whoever wrote them, and the zone. The agent''s rows count too: a pause that is in the
log is a pause.';

CREATE FUNCTION mana_ai.missions_to_stage(p_user text) RETURNS TABLE(mission_id text)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
  PERFORM set_config('app.current_user_id', p_user, true);
  RETURN QUERY
  (SELECT s.mission_id FROM mana_ai.mission_snapshots AS s
    WHERE s.user_id = p_user AND s.awaits_staging AND s.complete AND NOT s.hidden ORDER BY s.mission_id LIMIT 100)
  UNION
  (SELECT r.mission_id FROM mana_ai.runs AS r
    WHERE r.user_id = p_user AND r.closed_at > now() - interval '1 minute' AND r.steps > 0
      AND EXISTS (SELECT FROM mana_ai.change_feed AS f WHERE f.record_id = r.mission_id AND f.table_name = 'aiMissions' AND f.user_id = p_user)
    LIMIT 100)
  UNION
  (SELECT p.mission_id FROM mana_ai.proposals AS p
    WHERE p.user_id = p_user AND p.state IN ('pending', 'refused') AND p.expires_at <= clock_timestamp() LIMIT 100);
END $$;

ALTER FUNCTION mana_ai.missions_to_stage(p_user text) OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.missions_to_stage(p_user text) IS 'A person''s missions with plans that they were not asked about yet, or with proposals that nobody answered in time; for the
gateway. A plan that a run wrote a moment ago counts though it waits to be folded: who heard that the run ended finds its
proposals. Where folding lags by more than a minute, they are found once it is folded.';

CREATE FUNCTION mana_ai.model_word(p_text text) RETURNS text
    LANGUAGE sql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    BEGIN ATOMIC
 SELECT
         CASE
             WHEN (p_text ~ '^[A-Za-z0-9._:/@+-]{1,120}$'::text) THEN p_text
             ELSE 'unknown'::text
         END AS "case";
END;

ALTER FUNCTION mana_ai.model_word(p_text text) OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.model_word(p_text text) IS 'A model''s name as a provider may write it, else ''unknown''. Operators see it, so it must not carry a sentence.';

CREATE FUNCTION mana_ai.move_slot(p_user text, p_mission text, p_due timestamp with time zone, p_next text, p_stamp text, p_actor jsonb, p_missed_after interval, p_missed text) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
  agent text;
  is_over boolean;
BEGIN
  PERFORM set_config('app.current_user_id', p_user, true);
  SELECT s.agent_id INTO agent FROM mana_ai.mission_snapshots AS s
   WHERE s.user_id = p_user AND s.mission_id = p_mission AND s.next_run_at = p_due FOR UPDATE SKIP LOCKED;
  IF NOT FOUND
     OR EXISTS (SELECT FROM mana_ai.unfolded_rows(p_user, 'aiMissions', p_mission)) THEN
    RETURN false;
  END IF;
  is_over := EXISTS (SELECT FROM mana_ai.runs AS r WHERE r.user_id = p_user AND r.mission_id = p_mission AND r.due_at = p_due
                        AND (r.state IN ('committed', 'failed') OR r.cancelled_at IS NOT NULL))
             OR EXISTS (SELECT FROM mana_ai.install AS i WHERE p_due < i.slots_from);
  IF NOT is_over THEN
    IF NOT (EXISTS (SELECT FROM mana_ai.mission_snapshots AS s WHERE s.user_id = p_user AND s.mission_id = p_mission
                            AND s.record ->> 'missedRuns' = 'none' AND p_due < clock_timestamp() - p_missed_after)
            AND NOT EXISTS (SELECT FROM mana_ai.runs AS r WHERE r.user_id = p_user AND r.mission_id = p_mission
                               AND r.state IN ('open', 'waiting'))) THEN
      RETURN false;
    END IF;
    PERFORM mana_ai.note_decision(p_user, p_mission, agent, p_due, 'skipped-missed', p_missed);
  END IF;
  PERFORM mana_ai.write_mission(p_user, p_mission, jsonb_build_object('nextRunAt', p_next), p_stamp, p_actor, 'system');
  UPDATE mana_ai.mission_snapshots SET wake_at = NULL WHERE user_id = p_user AND mission_id = p_mission;
  RETURN true;
END $$;

ALTER FUNCTION mana_ai.move_slot(p_user text, p_mission text, p_due timestamp with time zone, p_next text, p_stamp text, p_actor jsonb, p_missed_after interval, p_missed text) OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.move_slot(p_user text, p_mission text, p_due timestamp with time zone, p_next text, p_stamp text, p_actor jsonb, p_missed_after interval, p_missed text) IS 'Moves a due slot on without a plan; for the supervisor. Only a slot that was served or cancelled already, that fell due
before the installation, or that nobody began within p_missed_after where the owner wants no run then, who is told so. While rows of the
mission wait to be folded nothing is moved: one of them may be the plan''s own next run, or a time that its owner or a member chose;
nor while somebody holds the mission: the supervisor waits for nobody.';

CREATE VIEW mana_ai.compactor_log AS
 SELECT id,
    app_id,
    table_name,
    record_id,
    user_id,
    op,
    data,
    field_meta,
    created_at,
    space_id
   FROM public.sync_changes;

ALTER VIEW mana_ai.compactor_log OWNER TO mana_compactor;

CREATE FUNCTION mana_ai.next_to_compact(p_user text, p_app text, p_table text, p_keep interval) RETURNS TABLE(user_id text, app_id text, table_name text, records text[])
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    BEGIN ATOMIC
 SELECT p.user_id,
     p.app_id,
     p.table_name,
     ARRAY( SELECT c.record_id
            FROM mana_ai.compactor_log c
           WHERE ((c.user_id = p.user_id) AND (c.app_id = p.app_id) AND (c.table_name = p.table_name) AND (c.created_at < (clock_timestamp() - GREATEST(next_to_compact.p_keep, '1 day'::interval))))
           GROUP BY c.record_id
          HAVING (count(*) FILTER (WHERE (c.op = 'update'::text)) > 1)
           ORDER BY c.record_id) AS "array"
    FROM ( SELECT l.user_id,
             l.app_id,
             l.table_name
            FROM mana_ai.compactor_log l
           WHERE (ROW(l.user_id, l.app_id, l.table_name) > ROW(next_to_compact.p_user, next_to_compact.p_app, next_to_compact.p_table))
           ORDER BY l.user_id, l.app_id, l.table_name
          LIMIT 1) p;
END;

ALTER FUNCTION mana_ai.next_to_compact(p_user text, p_app text, p_table text, p_keep interval) OWNER TO mana_compactor;

COMMENT ON FUNCTION mana_ai.next_to_compact(p_user text, p_app text, p_table text, p_keep interval) IS 'The next table of a person''s after one, with the ids of its records that have several updates older than p_keep.';

CREATE TABLE mana_ai.decisions (
    id bigint NOT NULL,
    user_id text NOT NULL,
    mission_id text NOT NULL,
    agent_id text NOT NULL,
    due_at timestamp with time zone,
    decision text NOT NULL,
    reason text,
    at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);

ALTER TABLE ONLY mana_ai.decisions FORCE ROW LEVEL SECURITY;

ALTER TABLE mana_ai.decisions OWNER TO mana_owner;

CREATE FUNCTION mana_ai.note_decision(p_user text, p_mission text, p_agent text, p_due timestamp with time zone, p_decision text, p_reason text) RETURNS void
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    BEGIN ATOMIC
 INSERT INTO mana_ai.decisions (user_id, mission_id, agent_id, due_at, decision, reason)
   VALUES (note_decision.p_user, note_decision.p_mission, note_decision.p_agent, note_decision.p_due, note_decision.p_decision, note_decision.p_reason);
 UPDATE mana_ai.mission_snapshots SET decision = note_decision.p_decision, reason = note_decision.p_reason, decided_at = clock_timestamp()
   WHERE ((mission_snapshots.user_id = note_decision.p_user) AND (mission_snapshots.mission_id = note_decision.p_mission));
END;

ALTER FUNCTION mana_ai.note_decision(p_user text, p_mission text, p_agent text, p_due timestamp with time zone, p_decision text, p_reason text) OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.note_decision(p_user text, p_mission text, p_agent text, p_due timestamp with time zone, p_decision text, p_reason text) IS 'Stores a decision about a mission: the newest with its snapshot, each one in the history.';

CREATE FUNCTION mana_ai.note_if_new(p_user text, p_mission text, p_agent text, p_due timestamp with time zone, p_decision text, p_reason text) RETURNS boolean
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
  IF NOT EXISTS (SELECT FROM mana_ai.mission_snapshots AS s WHERE s.user_id = p_user AND s.mission_id = p_mission
                    AND (s.decision, s.reason) IS DISTINCT FROM (p_decision, p_reason)) THEN
    RETURN false;
  END IF;
  PERFORM mana_ai.note_decision(p_user, p_mission, p_agent, p_due, p_decision, p_reason);
  RETURN true;
END $$;

ALTER FUNCTION mana_ai.note_if_new(p_user text, p_mission text, p_agent text, p_due timestamp with time zone, p_decision text, p_reason text) OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.note_if_new(p_user text, p_mission text, p_agent text, p_due timestamp with time zone, p_decision text, p_reason text) IS 'Stores a decision where it differs from the mission''s last, and returns whether it did: a mission that is told the
same again keeps its one row.';

CREATE FUNCTION mana_ai.note_plan(p_run uuid, p_note jsonb) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
  UPDATE mana_ai.runs SET stop_reason = mana_ai.model_word(p_note ->> 'stop'), duplicate_calls = coalesce((p_note ->> 'duplicates')::int, 0),
         dropped_calls = coalesce((p_note ->> 'dropped')::int, 0),
         refused_calls = coalesce((p_note ->> 'refused')::int, 0),
         answers = (
           SELECT coalesce(jsonb_object_agg(coalesce(o.key, n.key), coalesce(o.value, n.value)
                                            || CASE WHEN n.key IS NULL THEN '{}' ELSE jsonb_build_object('refused', n.value -> 'refused') END), '{}')
             FROM jsonb_each(answers) AS o FULL JOIN jsonb_each(mana_ai.noted_answers(p_note -> 'answers')) AS n ON n.key = o.key)
   WHERE run_id = p_run;
END $$;

ALTER FUNCTION mana_ai.note_plan(p_run uuid, p_note jsonb) OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.note_plan(p_run uuid, p_note jsonb) IS 'Stores what a run knows of its model calls, in the statement that ends it or lets it wait. Keys name a call. An answer
that a later attempt took from the journal is the same call, so what was stored first stands; which of its tools came back
as failed is known only now.';

CREATE FUNCTION mana_ai.note_release(p_run uuid, p_attempt integer, p_mission text, p_outcome text, p_reason text, p_version text, p_records text[], p_expires timestamp with time zone) RETURNS uuid
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
  held jsonb := mana_ai.require_keys_capability(p_run, p_attempt);
  release uuid;
BEGIN
  PERFORM set_config('synchronous_commit', 'on', true);
  INSERT INTO mana_ai.key_releases (user_id, agent_id, mission_id, run_id, attempt, outcome, reason, grant_version, record_ids, expires_at)
  VALUES (held ->> 'u', held ->> 'a', left(p_mission, 512), p_run, p_attempt, p_outcome, p_reason, p_version, p_records, p_expires)
  RETURNING release_id INTO release;
  RETURN release;
END $$;

ALTER FUNCTION mana_ai.note_release(p_run uuid, p_attempt integer, p_mission text, p_outcome text, p_reason text, p_version text, p_records text[], p_expires timestamp with time zone) OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.note_release(p_run uuid, p_attempt integer, p_mission text, p_outcome text, p_reason text, p_version text, p_records text[], p_expires timestamp with time zone) IS 'Writes the audit row of an attempt to get a key. It is durable with the caller''s commit whatever the server''s
default; a key leaves only after that.';

CREATE FUNCTION mana_ai.note_rows() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
  INSERT INTO mana_ai.sync_pending (feed, change_id, created_at)
  SELECT left('user:' || a.user_id, 512), a.id, a.created_at FROM added AS a
  UNION ALL
  SELECT left('space:' || a.space_id, 512), a.id, a.created_at FROM added AS a WHERE mana_ai.is_shared(a.space_id);
  RETURN NULL;
EXCEPTION WHEN OTHERS THEN
  RAISE WARNING 'mana_ai: rows not noted for devices (%)', SQLSTATE;
  RETURN NULL;
END $$;

ALTER FUNCTION mana_ai.note_rows() OWNER TO mana_router;

COMMENT ON FUNCTION mana_ai.note_rows() IS 'Notes new rows for the feeds that they belong to, whoever writes them. It runs inside the writer''s transaction: it waits for
nobody, and whatever goes wrong in it is a warning. A row that is not noted still reaches devices, unless it becomes visible
after a later one was sent.';

CREATE FUNCTION mana_ai.noted_answers(p_answers jsonb) RETURNS jsonb
    LANGUAGE sql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    RETURN COALESCE((SELECT jsonb_object_agg(a.key, jsonb_build_object('provider', mana_ai.model_word((a.value ->> 'provider'::text)), 'model', mana_ai.model_word((a.value ->> 'model'::text)), 'exposure', CASE WHEN ((a.value ->> 'exposure'::text) = ANY (ARRAY['local'::text, 'eu'::text, 'any'::text])) THEN (a.value ->> 'exposure'::text) ELSE ''::text END, 'tokens', ((a.value ->> 'tokens'::text))::bigint, 'cost_micros', ((a.value ->> 'cost_micros'::text))::bigint, 'cached_tokens', COALESCE(((a.value ->> 'cached_tokens'::text))::bigint, (0)::bigint), 'carried_lost', COALESCE(((a.value ->> 'carried_lost'::text))::bigint, (0)::bigint), 'wasted_tokens', COALESCE(((a.value ->> 'wasted_tokens'::text))::bigint, (0)::bigint), 'completion_tokens', COALESCE(((a.value ->> 'completion_tokens'::text))::bigint, (0)::bigint), 'took_ms', COALESCE(((a.value ->> 'took_ms'::text))::bigint, (0)::bigint), 'refused', (SELECT COALESCE(jsonb_agg(mana_ai.model_word(t.name)), '[]'::jsonb) AS "coalesce" FROM (SELECT e.name FROM jsonb_array_elements_text(CASE jsonb_typeof((a.value -> 'refused'::text)) WHEN 'array'::text THEN (a.value -> 'refused'::text) ELSE '[]'::jsonb END) e(name) LIMIT 50) t), 'tools', (SELECT COALESCE(jsonb_agg(mana_ai.model_word(t.name)), '[]'::jsonb) AS "coalesce" FROM (SELECT e.name FROM jsonb_array_elements_text(CASE jsonb_typeof((a.value -> 'tools'::text)) WHEN 'array'::text THEN (a.value -> 'tools'::text) ELSE '[]'::jsonb END) e(name) LIMIT 50) t), 'parts', (SELECT COALESCE(jsonb_object_agg(t.part, t.tokens), '{}'::jsonb) AS "coalesce" FROM (SELECT e.key AS part, (e.value)::bigint AS tokens FROM jsonb_each(CASE jsonb_typeof((a.value -> 'parts'::text)) WHEN 'object'::text THEN (a.value -> 'parts'::text) ELSE '{}'::jsonb END) e(key, value) WHERE ((e.key ~ '^[a-z]{1,12}$'::text) AND (jsonb_typeof(e.value) = 'number'::text)) LIMIT 12) t), 'inputs', (SELECT COALESCE(jsonb_agg(t.tokens ORDER BY t.place), '[]'::jsonb) AS "coalesce" FROM (SELECT (e.value)::bigint AS tokens, e.place FROM jsonb_array_elements(CASE jsonb_typeof((a.value -> 'inputs'::text)) WHEN 'array'::text THEN (a.value -> 'inputs'::text) ELSE '[]'::jsonb END) WITH ORDINALITY e(value, place) WHERE (jsonb_typeof(e.value) = 'number'::text) LIMIT 100) t))) AS jsonb_object_agg FROM jsonb_each(noted_answers.p_answers) a(key, value) WHERE (a.key ~ '^[0-9]{1,7}([.][0-9]{1,7})?$'::text)), '{}'::jsonb);

ALTER FUNCTION mana_ai.noted_answers(p_answers jsonb) OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.noted_answers(p_answers jsonb) IS 'What a run says of its model calls, by call, with nothing in it but numbers and words that names are made of.';

CREATE FUNCTION mana_ai.only_fields(p_value jsonb, p_names text[]) RETURNS jsonb
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN (jsonb_typeof(p_value) = 'object'::text) THEN (SELECT COALESCE(jsonb_object_agg(e.key, e.value), '{}'::jsonb) AS "coalesce" FROM jsonb_each(only_fields.p_value) e(key, value) WHERE (e.key = ANY (only_fields.p_names))) ELSE p_value END;

ALTER FUNCTION mana_ai.only_fields(p_value jsonb, p_names text[]) OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.only_fields(p_value jsonb, p_names text[]) IS 'An object reduced to these fields. Anything else is returned as it is, so that the merge sets it aside.';

CREATE FUNCTION mana_ai.only_state(p_fields jsonb) RETURNS jsonb
    LANGUAGE sql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    RETURN CASE WHEN (jsonb_typeof(p_fields) = 'object'::text) THEN COALESCE((SELECT jsonb_object_agg(jsonb_each.key, jsonb_each.value) AS jsonb_object_agg FROM jsonb_each(only_state.p_fields) jsonb_each(key, value) WHERE (jsonb_each.key = ANY (ARRAY['state'::text, 'deletedAt'::text]))), '{}'::jsonb) ELSE NULL::jsonb END;

ALTER FUNCTION mana_ai.only_state(p_fields jsonb) OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.only_state(p_fields jsonb) IS 'An object reduced to state and deletedAt; null for anything else.';

CREATE FUNCTION mana_ai.own_ids(p_user text, p_app text, p_table text, p_limit integer) RETURNS TABLE(record_id text)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
  PERFORM set_config('app.current_user_id', p_user, true);
  RETURN QUERY SELECT c.record_id FROM mana_ai.log_rows AS c
    WHERE c.user_id = p_user AND c.app_id = p_app AND c.table_name = p_table AND c.op = 'insert'
    GROUP BY c.record_id ORDER BY min(c.created_at) DESC, c.record_id LIMIT p_limit;
END $$;

ALTER FUNCTION mana_ai.own_ids(p_user text, p_app text, p_table text, p_limit integer) OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.own_ids(p_user text, p_app text, p_table text, p_limit integer) IS 'Ids of the records that a person made in a table, the newest first, deleted ones among them; for the gateway.';

CREATE FUNCTION mana_ai.own_is_sealed(p_user text, p_app text, p_table text) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
BEGIN
  PERFORM set_config('app.current_user_id', p_user, true);
  RETURN EXISTS (SELECT FROM mana_ai.owner_keys AS k WHERE k.user_id = p_user)
      OR EXISTS (SELECT FROM (SELECT c.data FROM mana_ai.log_rows AS c WHERE c.user_id = p_user AND c.app_id = p_app AND c.table_name = p_table
                                 AND c.op <> 'delete' ORDER BY c.created_at DESC LIMIT 500) AS latest
                  WHERE jsonb_path_exists(latest.data, '$.* ? (@.type() == "string" && @ starts with "enc:1:")'));
END $_$;

ALTER FUNCTION mana_ai.own_is_sealed(p_user text, p_app text, p_table text) OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.own_is_sealed(p_user text, p_app text, p_table text) IS 'Whether a person''s clients seal what they write into a table: they registered a key, or one of its last 500 writes holds a
sealed value. Then nothing of theirs is written there in plain.';

CREATE FUNCTION mana_ai.own_lock(p_name text) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
  INSERT INTO mana_ai.own_locks (name) VALUES (p_name) ON CONFLICT DO NOTHING;
  PERFORM FROM mana_ai.own_locks WHERE name = p_name FOR UPDATE;
END $$;

ALTER FUNCTION mana_ai.own_lock(p_name text) OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.own_lock(p_name text) IS 'Waits until nobody else writes as this person, or into this shared space. A row, since any login could hold an advisory
lock. It is a statement of its own, so that the next one reads what the previous holder wrote.';

CREATE FUNCTION mana_ai.own_record(p_user text, p_spaces text[], p_app text, p_table text, p_record text, p_hold text, OUT owner text, OUT space text, OUT is_member boolean, OUT snapshot jsonb, OUT changes jsonb, OUT now timestamp with time zone) RETURNS record
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
  IF p_hold <> 'nothing' THEN
    PERFORM mana_ai.own_lock('user:' || p_user);
  END IF;
  PERFORM set_config('app.current_user_id', p_user, true), set_config('app.current_user_space_ids', array_to_string(p_spaces, ','), true);
  SELECT c.user_id, c.space_id INTO owner, space FROM mana_ai.log_rows AS c
   WHERE c.app_id = p_app AND c.table_name = p_table AND c.record_id = p_record AND c.op = 'insert'
     AND (c.user_id = p_user OR mana_ai.is_shared(c.space_id) AND c.space_id = ANY (p_spaces))
   ORDER BY (c.user_id = p_user) DESC, c.created_at, c.id LIMIT 1;
  IF p_hold <> 'nothing' AND mana_ai.is_shared(space) THEN
    PERFORM mana_ai.own_lock('space:' || space);
  END IF;
  IF p_app = 'ai' AND p_table IN ('agents', 'aiMissions') AND owner IS NOT NULL THEN
    PERFORM set_config('app.current_user_id', owner, true);
    IF p_hold = 'plan' AND p_table = 'aiMissions' THEN
      PERFORM FROM mana_ai.mission_snapshots AS s WHERE s.user_id = owner AND s.mission_id = p_record FOR UPDATE;
    END IF;
    SELECT to_jsonb(k) INTO snapshot FROM (
      SELECT s.record, s.present, s.complete FROM mana_ai.mission_snapshots AS s
       WHERE p_table = 'aiMissions' AND s.user_id = owner AND s.mission_id = p_record
      UNION ALL SELECT s.record, s.present, s.complete FROM mana_ai.agent_snapshots AS s
       WHERE p_table = 'agents' AND s.user_id = owner AND s.agent_id = p_record) AS k;
    changes := mana_ai.unfolded(owner, p_table, p_record);
    PERFORM set_config('app.current_user_id', p_user, true);
  ELSIF owner IS NOT NULL THEN
    IF (SELECT sum(length(c.data::text)) FROM mana_ai.log_rows AS c
         WHERE c.app_id = p_app AND c.table_name = p_table AND c.record_id = p_record) > 16777216 THEN
      RAISE EXCEPTION 'own_record: over 16 MB of rows' USING ERRCODE = 'program_limit_exceeded';
    END IF;
    SELECT jsonb_agg(jsonb_build_object('id', c.id, 'op', c.op, 'data', c.data::text, 'field_meta', c.field_meta::text,
                                        'created_at', (extract(epoch FROM c.created_at) * 1000000)::bigint) ORDER BY c.created_at, c.id)
      INTO changes FROM mana_ai.log_rows AS c
     WHERE c.app_id = p_app AND c.table_name = p_table AND c.record_id = p_record
       AND (c.user_id = owner OR mana_ai.is_shared(space) AND c.space_id = space AND c.op <> 'insert');
  END IF;
  is_member := NOT mana_ai.is_shared(space) OR space = ANY (p_spaces);
  now := clock_timestamp();
END $$;

ALTER FUNCTION mana_ai.own_record(p_user text, p_spaces text[], p_app text, p_table text, p_record text, p_hold text, OUT owner text, OUT space text, OUT is_member boolean, OUT snapshot jsonb, OUT changes jsonb, OUT now timestamp with time zone) OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.own_record(p_user text, p_spaces text[], p_app text, p_table text, p_record text, p_hold text, OUT owner text, OUT space text, OUT is_member boolean, OUT snapshot jsonb, OUT changes jsonb, OUT now timestamp with time zone) IS 'One record as a person may read it, for the gateway: whose it is, its space, its snapshot and the rows to fold into that,
or all its rows where it has none. It is the person''s own record of that id, else the first that a member inserted in a
shared space of theirs; without any insert there is no record. is_member: it is personal, or they belong to its space. p_hold: ''nothing'', ''writers'' (nobody else writes as
this person or into that space until the transaction ends) or ''plan'' (no run ends meanwhile either, since it writes the
same iterations). A pause must reach an agent out of control, so it never asks for the last.';

CREATE FUNCTION mana_ai.own_records(p_user text, p_table text, p_after text, p_limit integer) RETURNS TABLE(id text, space text, snapshot jsonb, changes jsonb)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
  PERFORM set_config('app.current_user_id', p_user, true);
  RETURN QUERY
  WITH page AS (
    SELECT named.id FROM (
      SELECT s.mission_id AS id FROM mana_ai.mission_snapshots AS s WHERE p_table = 'aiMissions' AND s.user_id = p_user AND NOT s.hidden
      UNION SELECT s.agent_id FROM mana_ai.agent_snapshots AS s WHERE p_table = 'agents' AND s.user_id = p_user AND NOT s.hidden
      UNION SELECT f.record_id FROM mana_ai.change_feed AS f WHERE f.user_id = p_user AND f.table_name = p_table) AS named
     WHERE p_after IS NULL OR named.id > p_after ORDER BY named.id LIMIT p_limit)
  SELECT p.id, coalesce(m.space_id, a.space_id, (m.record ->> 'spaceId'), (a.record ->> 'spaceId')),
         CASE WHEN m.mission_id IS NOT NULL
              THEN jsonb_build_object('present', m.present, 'complete', m.complete, 'record', m.record - 'iterations')
              WHEN a.agent_id IS NOT NULL THEN jsonb_build_object('present', a.present, 'complete', a.complete, 'record', a.record) END,
         mana_ai.unfolded(p_user, p_table, p.id)
    FROM page AS p
    LEFT JOIN mana_ai.mission_snapshots AS m ON p_table = 'aiMissions' AND m.user_id = p_user AND m.mission_id = p.id
    LEFT JOIN mana_ai.agent_snapshots AS a ON p_table = 'agents' AND a.user_id = p_user AND a.agent_id = p.id
   ORDER BY p.id;
END $$;

ALTER FUNCTION mana_ai.own_records(p_user text, p_table text, p_after text, p_limit integer) OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.own_records(p_user text, p_table text, p_after text, p_limit integer) IS 'A page of a person''s own agents or missions by id, each with the rows that wait to be folded, those without a snapshot
yet among them; for the gateway. Iterations, which may be large, are left out.';

CREATE FUNCTION mana_ai.own_run(p_capability text, p_run uuid, p_attempt integer) RETURNS mana_ai.runs
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
  held jsonb := mana_ai.require_capability(p_capability);
  run mana_ai.runs;
BEGIN
  PERFORM mana_ai.lock_ledger(held ->> 'u', held ->> 'a');
  SELECT * INTO run FROM mana_ai.runs
   WHERE run_id = p_run AND user_id = held ->> 'u' AND agent_id = held ->> 'a' FOR UPDATE;
  IF run.run_id IS NULL OR run.attempt <> p_attempt OR run.state <> 'open' THEN
    RAISE EXCEPTION 'superseded' USING ERRCODE = 'MA002';
  END IF;
  RETURN run;
END $$;

ALTER FUNCTION mana_ai.own_run(p_capability text, p_run uuid, p_attempt integer) OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.own_run(p_capability text, p_run uuid, p_attempt integer) IS 'The caller''s run, locked, if this attempt is still the current one; raises MA002 otherwise. It locks the ledger row
first, as everyone does.';

CREATE FUNCTION mana_ai.own_table(p_user text, p_app text, p_table text, p_most integer) RETURNS TABLE(record_id text, id uuid, op text, data text, field_meta text, created_us bigint, left_out bigint)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
  PERFORM set_config('app.current_user_id', p_user, true);
  RETURN QUERY
    WITH sized AS MATERIALIZED (
      SELECT c.record_id, max(c.created_at) AS newest, sum(length(c.data::text) + 200) AS size FROM mana_ai.log_rows AS c
       WHERE c.user_id = p_user AND c.app_id = p_app AND c.table_name = p_table AND length(c.record_id) <= 512 GROUP BY c.record_id),
    ranked AS MATERIALIZED (
      SELECT s.record_id, row_number() OVER w AS place, sum(s.size) OVER w AS so_far FROM sized AS s
      WINDOW w AS (ORDER BY s.newest DESC, s.record_id)),
    chosen AS MATERIALIZED (SELECT r.record_id FROM ranked AS r WHERE r.place <= p_most AND coalesce(r.so_far, 0) <= 16777216)
    SELECT c.record_id, c.id, c.op, c.data::text, c.field_meta::text, (extract(epoch FROM c.created_at) * 1000000)::bigint,
           (SELECT count(*) FROM sized) - (SELECT count(*) FROM chosen)
      FROM mana_ai.log_rows AS c JOIN chosen USING (record_id)
     WHERE c.user_id = p_user AND c.app_id = p_app AND c.table_name = p_table
     ORDER BY c.record_id, c.created_at, c.id;
END $$;

ALTER FUNCTION mana_ai.own_table(p_user text, p_app text, p_table text, p_most integer) OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.own_table(p_user text, p_app text, p_table text, p_most integer) IS 'The rows of a person''s own records of one table, for what carrying out a proposal has to look through; for the gateway. The
newest records, whole ones only, up to 16 MB; left_out counts the others.';

CREATE FUNCTION mana_ai.own_write(p_user text, p_spaces text[], p_app text, p_table text, p_record text, p_op text, p_data text, p_meta text, p_client text, p_actor text, p_origin text, p_space text, OUT id uuid, OUT created_us bigint) RETURNS record
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
  actor jsonb := p_actor::jsonb;
  meta jsonb := p_meta::jsonb;
BEGIN
  IF (p_user <> '' AND p_app <> '' AND p_table <> '' AND p_record <> '' AND octet_length(p_record) <= 512
      AND octet_length(p_data) <= 4194304
      AND (p_origin = 'user' AND actor ->> 'kind' = 'user' AND actor ->> 'principalId' = p_user
           OR p_origin = 'agent' AND actor ->> 'kind' = 'ai' AND actor ->> 'principalId' <> '')
      AND NOT EXISTS (SELECT FROM jsonb_each(meta) AS stamp WHERE jsonb_typeof(stamp.value) <> 'string')
      AND (p_op = 'update' OR meta = '{}' OR p_op = 'insert' AND p_origin = 'agent')
      AND (p_space IS NULL OR p_space = '_personal:' || p_user OR NOT mana_ai.is_shared(p_space) AND p_op <> 'insert'
           OR p_space = ANY (p_spaces))) IS NOT TRUE THEN
    RAISE EXCEPTION 'own_write: not a change of this person' USING ERRCODE = 'check_violation';
  END IF;
  PERFORM set_config('app.current_user_id', p_user, true);
  -- Not the start of the transaction: what it writes twice is folded in the order of writing.
  INSERT INTO mana_ai.log_rows AS c (app_id, table_name, record_id, user_id, op, data, field_meta, client_id, schema_version,
                                     actor, origin, space_id, created_at)
  VALUES (p_app, p_table, p_record, p_user, p_op, p_data::jsonb, meta, p_client, 1, actor, p_origin, p_space, clock_timestamp())
  RETURNING c.id, (extract(epoch FROM c.created_at) * 1000000)::bigint INTO own_write.id, own_write.created_us;
END $$;

ALTER FUNCTION mana_ai.own_write(p_user text, p_spaces text[], p_app text, p_table text, p_record text, p_op text, p_data text, p_meta text, p_client text, p_actor text, p_origin text, p_space text, OUT id uuid, OUT created_us bigint) OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.own_write(p_user text, p_spaces text[], p_app text, p_table text, p_record text, p_op text, p_data text, p_meta text, p_client text, p_actor text, p_origin text, p_space text, OUT id uuid, OUT created_us bigint) IS 'Writes one row of a person''s into the log, as the sync service would; for the gateway. It is signed by that person, or by
an agent that carries out what they approved. Stamps are plain strings: one object among them makes every pull of the app
fail. A shared space has to be one of theirs.';

CREATE FUNCTION mana_ai.publish_feeds(p_feeds text[], p_since timestamp with time zone) RETURNS timestamp with time zone
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
  fresh text[];
  known bigint;
  upto timestamptz;
  farthest timestamptz;
  is_waiting boolean;
  moment timestamptz := clock_timestamp();
  told timestamptz := least(coalesce(p_since, 'epoch'), moment);
BEGIN
  -- One statement, so that all it sees is of one moment: what is noted nowhere was published before.
  SELECT count(*), min(f.until), max(f.until), EXISTS (SELECT FROM mana_ai.sync_pending AS p WHERE p.feed = ANY (p_feeds))
    INTO known, upto, farthest, is_waiting FROM mana_ai.sync_feeds AS f WHERE f.feed = ANY (p_feeds);
  -- Feeds that others share may be ahead: their rows come once all are lifted to the same position.
  IF known = cardinality(p_feeds) AND NOT is_waiting AND upto = farthest AND upto >= told THEN
    RETURN upto;
  END IF;
  WITH made AS (
    INSERT INTO mana_ai.sync_feeds (feed, until) SELECT f.feed, clock_timestamp() FROM unnest(p_feeds) AS f (feed) ORDER BY f.feed
    ON CONFLICT DO NOTHING RETURNING feed)
  SELECT coalesce(array_agg(m.feed), '{}') INTO fresh FROM made AS m;
  PERFORM FROM mana_ai.sync_feeds AS f WHERE f.feed = ANY (p_feeds) ORDER BY f.feed FOR UPDATE;
  moment := clock_timestamp();
  WITH taken AS (
    DELETE FROM mana_ai.sync_pending AS p WHERE p.feed = ANY (p_feeds) RETURNING p.feed, p.change_id, p.created_at),
  judged AS (
    -- Of a new feed nobody was told a position, but for the one that this device came with.
    SELECT t.feed, t.change_id, t.created_at, f.until,
           t.created_at <= CASE WHEN f.feed = ANY (fresh) THEN told ELSE f.until END OR t.created_at > moment AS is_late
      FROM taken AS t JOIN mana_ai.sync_feeds AS f ON f.feed = t.feed),
  next AS (
    SELECT greatest((SELECT max(f.until) FROM mana_ai.sync_feeds AS f WHERE f.feed = ANY (p_feeds)), told,
                    (SELECT max(j.created_at) FROM judged AS j WHERE NOT j.is_late),
                    (SELECT max(j.until) + interval '1 microsecond' FROM judged AS j WHERE j.is_late)) AS until),
  late AS (
    INSERT INTO mana_ai.sync_late (feed, position, change_id)
    SELECT j.feed, n.until, j.change_id FROM judged AS j CROSS JOIN next AS n
     WHERE j.is_late AND isfinite(j.created_at)),  -- no other is ever sent
  lifted AS (
    UPDATE mana_ai.sync_feeds AS f SET until = n.until FROM next AS n WHERE f.feed = ANY (p_feeds) AND f.until <> n.until)
  SELECT n.until INTO upto FROM next AS n;
  RETURN upto;
END $$;

ALTER FUNCTION mana_ai.publish_feeds(p_feeds text[], p_since timestamp with time zone) OWNER TO mana_router;

COMMENT ON FUNCTION mana_ai.publish_feeds(p_feeds text[], p_since timestamp with time zone) IS 'Publishes what was noted for these feeds, each named once, and returns the position up to which they may be read now:
whatever becomes visible later gets a later one. No position above it may be told to a device, so p_since, the one that a
device came with, lifts it (never above the clock). A feed that has nothing new is not locked.';

CREATE FUNCTION mana_ai.put_owner_key(p_user text, p_key_id text, p_public_key bytea, p_address text, p_agent text) RETURNS timestamp with time zone
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
  since timestamptz;
BEGIN
  PERFORM set_config('app.current_user_id', p_user, true);
  INSERT INTO mana_ai.owner_keys AS k (user_id, key_id, public_key) VALUES (p_user, p_key_id, p_public_key)
  ON CONFLICT (user_id) DO UPDATE SET key_id = excluded.key_id, public_key = excluded.public_key, created_at = clock_timestamp()
   WHERE k.public_key <> excluded.public_key
  RETURNING created_at INTO since;
  IF since IS NULL THEN
    SELECT created_at INTO since FROM mana_ai.owner_keys WHERE user_id = p_user;
  ELSE
    INSERT INTO mana_ai.owner_key_changes (user_id, key_id, action, ip_address, user_agent, at)
    VALUES (p_user, p_key_id, 'registered', p_address, p_agent, since);
  END IF;
  RETURN since;
END $$;

ALTER FUNCTION mana_ai.put_owner_key(p_user text, p_key_id text, p_public_key bytea, p_address text, p_agent text) OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.put_owner_key(p_user text, p_key_id text, p_public_key bytea, p_address text, p_agent text) IS 'Stores a person''s public key in place of the previous one and returns when it was registered. The same key again
changes nothing; a change leaves a row that no login can alter.';

CREATE FUNCTION mana_ai.put_sealed_copies(p_user text, p_mission text, p_copies jsonb) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
  until timestamptz;
BEGIN
  PERFORM set_config('app.current_user_id', p_user, true);
  PERFORM FROM mana_ai.mission_snapshots WHERE user_id = p_user AND mission_id = p_mission FOR UPDATE;  -- a revoke waits, then deletes
  until := mana_ai.grant_end(p_user, p_mission);
  IF until IS NULL OR until <= clock_timestamp() THEN
    RETURN false;
  END IF;
  INSERT INTO mana_ai.sealed_copies (user_id, mission_id, table_name, record_id, data, source, expires_at)
  SELECT DISTINCT ON (c ->> 'table', c ->> 'id') p_user, p_mission, c ->> 'table', c ->> 'id', c -> 'fields', c ->> 'source', until
    FROM jsonb_array_elements(p_copies) AS c
  ON CONFLICT (user_id, mission_id, table_name, record_id)
  DO UPDATE SET data = excluded.data, source = excluded.source, expires_at = excluded.expires_at, written_at = clock_timestamp();
  UPDATE mana_ai.sealed_copies SET expires_at = until WHERE user_id = p_user AND mission_id = p_mission;
  IF (SELECT count(*) FROM mana_ai.sealed_copies WHERE user_id = p_user AND mission_id = p_mission) > 1000 THEN
    RAISE EXCEPTION 'sealed_copies: over 1000 of one mission' USING ERRCODE = 'check_violation';
  END IF;
  UPDATE mana_ai.mission_snapshots SET wake_at = least(wake_at, clock_timestamp()), version = nextval('mana_ai.snapshot_version')
   WHERE user_id = p_user AND mission_id = p_mission;
  RETURN true;
END $$;

ALTER FUNCTION mana_ai.put_sealed_copies(p_user text, p_mission text, p_copies jsonb) OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.put_sealed_copies(p_user text, p_mission text, p_copies jsonb) IS 'Stores copies in place of those of the same records; false where the mission has no living grant. It locks the
snapshot first, so that a revoke waits and then deletes. The mission is looked at again, and gets a new version: a run
that missed the copies and ends at this moment asks by the old version, and is not listened to.';

CREATE FUNCTION mana_ai.receipt(p_answers jsonb) RETURNS jsonb
    LANGUAGE sql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    BEGIN ATOMIC
 SELECT COALESCE(jsonb_agg(jsonb_build_object('provider', g.provider, 'model', g.model, 'exposure', g.exposure, 'calls', g.calls, 'tokens', g.tokens, 'cost_micros', g.cost_micros, 'cached_tokens', g.cached, 'carried_lost', g.lost, 'wasted_tokens', g.wasted) ORDER BY g.provider, g.model, g.exposure), '[]'::jsonb) AS "coalesce"
    FROM ( SELECT (a.value ->> 'provider'::text) AS provider,
             (a.value ->> 'model'::text) AS model,
             (a.value ->> 'exposure'::text) AS exposure,
             count(*) AS calls,
             sum(((a.value ->> 'tokens'::text))::bigint) AS tokens,
             sum(COALESCE(((a.value ->> 'cached_tokens'::text))::bigint, (0)::bigint)) AS cached,
             sum(COALESCE(((a.value ->> 'carried_lost'::text))::bigint, (0)::bigint)) AS lost,
             sum(COALESCE(((a.value ->> 'wasted_tokens'::text))::bigint, (0)::bigint)) AS wasted,
                 CASE
                     WHEN (count((a.value ->> 'cost_micros'::text)) = count(*)) THEN sum(((a.value ->> 'cost_micros'::text))::bigint)
                     ELSE NULL::numeric
                 END AS cost_micros
            FROM jsonb_each(receipt.p_answers) a(key, value)
           GROUP BY (a.value ->> 'provider'::text), (a.value ->> 'model'::text), (a.value ->> 'exposure'::text)) g;
END;

ALTER FUNCTION mana_ai.receipt(p_answers jsonb) OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.receipt(p_answers jsonb) IS 'The receipt of a run: one entry per provider, model and exposure. The cost is null where one of its calls has no known
price. A release before these were noted left out cached, lost and wasted.';

CREATE FUNCTION mana_ai.record_rows(p_user text, p_table text, p_record text) RETURNS SETOF mana_ai.router_log
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    BEGIN ATOMIC
 SELECT own.id,
     own.app_id,
     own.table_name,
     own.record_id,
     own.user_id,
     own.op,
     own.data,
     own.field_meta,
     own.client_id,
     own.created_at,
     own.schema_version,
     own.actor,
     own.origin,
     own.space_id
    FROM mana_ai.router_log own
   WHERE ((own.app_id = 'ai'::text) AND (own.table_name = record_rows.p_table) AND (own.record_id = record_rows.p_record) AND (own.user_id = record_rows.p_user) AND ((own.op = 'insert'::text) OR (NOT mana_ai.is_shared(own.space_id)) OR (mana_ai.owner_of(own.user_id, record_rows.p_table, record_rows.p_record, own.space_id) = record_rows.p_user)))
 UNION ALL
  SELECT members.id,
     members.app_id,
     members.table_name,
     members.record_id,
     members.user_id,
     members.op,
     members.data,
     members.field_meta,
     members.client_id,
     members.created_at,
     members.schema_version,
     members.actor,
     members.origin,
     members.space_id
    FROM mana_ai.router_log members
   WHERE ((members.app_id = 'ai'::text) AND (members.table_name = record_rows.p_table) AND (members.record_id = record_rows.p_record) AND (members.user_id <> record_rows.p_user) AND (members.op <> 'insert'::text) AND mana_ai.is_shared(members.space_id) AND (members.space_id IN ( SELECT router_log.space_id
            FROM mana_ai.router_log
           WHERE ((router_log.app_id = 'ai'::text) AND (router_log.table_name = record_rows.p_table) AND (router_log.record_id = record_rows.p_record) AND (router_log.user_id = record_rows.p_user) AND (router_log.op = 'insert'::text)))) AND (mana_ai.owner_of(members.user_id, record_rows.p_table, record_rows.p_record, members.space_id) = record_rows.p_user));
END;

ALTER FUNCTION mana_ai.record_rows(p_user text, p_table text, p_record text) OWNER TO mana_router;

COMMENT ON FUNCTION mana_ai.record_rows(p_user text, p_table text, p_record text) IS 'Every row that folds into one user''s record: the user''s own, and in a shared space those of other members.';

CREATE FUNCTION mana_ai.reconcile(p_after text, p_users integer, p_lo integer, p_hi integer) RETURNS TABLE(user_id text, table_name text, record_id text)
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_sort TO 'off'
    BEGIN ATOMIC
 WITH RECURSIVE walk AS (
          SELECT LEAST(( SELECT l.user_id
                    FROM mana_ai.router_log l
                   WHERE (l.user_id > reconcile.p_after)
                   ORDER BY l.user_id
                  LIMIT 1), ( SELECT s.user_id
                    FROM mana_ai.mission_snapshots s
                   WHERE (s.user_id > reconcile.p_after)
                   ORDER BY s.user_id
                  LIMIT 1), ( SELECT s.user_id
                    FROM mana_ai.agent_snapshots s
                   WHERE (s.user_id > reconcile.p_after)
                   ORDER BY s.user_id
                  LIMIT 1)) AS user_id,
             1 AS n
         UNION ALL
          SELECT LEAST(( SELECT l.user_id
                    FROM mana_ai.router_log l
                   WHERE (l.user_id > w.user_id)
                   ORDER BY l.user_id
                  LIMIT 1), ( SELECT s.user_id
                    FROM mana_ai.mission_snapshots s
                   WHERE (s.user_id > w.user_id)
                   ORDER BY s.user_id
                  LIMIT 1), ( SELECT s.user_id
                    FROM mana_ai.agent_snapshots s
                   WHERE (s.user_id > w.user_id)
                   ORDER BY s.user_id
                  LIMIT 1)) AS "least",
             (w.n + 1)
            FROM walk w
           WHERE ((w.user_id IS NOT NULL) AND (w.n < reconcile.p_users))
         ), users AS (
          SELECT w.user_id
            FROM walk w
           WHERE ((w.user_id IS NOT NULL) AND (mana_ai.bucket_of(w.user_id) >= reconcile.p_lo) AND (mana_ai.bucket_of(w.user_id) < reconcile.p_hi))
         ), grouped AS (
          SELECT l.user_id,
             l.table_name,
             l.record_id,
             count(*) AS n,
             bit_xor(mana_ai.change_digest(l.id)) AS digest,
             bool_or(mana_ai.is_shared(l.space_id)) AS shared
            FROM (users u
              JOIN mana_ai.router_log l ON (((l.user_id = u.user_id) AND (l.app_id = 'ai'::text) AND (l.table_name = ANY (ARRAY['aiMissions'::text, 'agents'::text])))))
           GROUP BY l.user_id, l.table_name, l.record_id
         ), logged AS (
          SELECT g.user_id,
             g.table_name,
             g.record_id,
             g.n,
             g.digest
            FROM grouped g
           WHERE (NOT g.shared)
         UNION ALL
          SELECT g.user_id,
             g.table_name,
             g.record_id,
             r.n,
             r.digest
            FROM (grouped g
              CROSS JOIN LATERAL ( SELECT count(*) AS n,
                     bit_xor(mana_ai.change_digest(c.id)) AS digest
                    FROM mana_ai.record_rows(g.user_id, g.table_name, g.record_id) c(id, app_id, table_name, record_id, user_id, op, data, field_meta, client_id, created_at, schema_version, actor, origin, space_id)) r)
           WHERE (g.shared AND (r.n > 0))
         ), folded AS (
          SELECT s.user_id,
             'aiMissions'::text AS table_name,
             s.mission_id AS record_id,
             s.folded_count,
             s.folded_digest
            FROM (users u
              JOIN mana_ai.mission_snapshots s USING (user_id))
         UNION ALL
          SELECT s.user_id,
             'agents'::text,
             s.agent_id,
             s.folded_count,
             s.folded_digest
            FROM (users u
              JOIN mana_ai.agent_snapshots s USING (user_id))
         )
  SELECT COALESCE(l.user_id, f.user_id) AS "coalesce",
     COALESCE(l.table_name, f.table_name) AS "coalesce",
     COALESCE(l.record_id, f.record_id) AS "coalesce"
    FROM (logged l
      FULL JOIN folded f USING (user_id, table_name, record_id))
   WHERE ((l.n IS DISTINCT FROM f.folded_count) OR (l.digest IS DISTINCT FROM f.folded_digest))
 UNION ALL
  SELECT max(w.user_id) AS max,
     NULL::text,
     NULL::text
    FROM walk w;
END;

ALTER FUNCTION mana_ai.reconcile(p_after text, p_users integer, p_lo integer, p_hi integer) OWNER TO mana_router;

COMMENT ON FUNCTION mana_ai.reconcile(p_after text, p_users integer, p_lo integer, p_hi integer) IS 'Compares the snapshots of the next p_users users after p_after, in buckets [p_lo, p_hi), with the log, by count and
digest of change ids. The next user is the next entry of an index, whatever statistics say: those of tables just filled
make a planner read all that is left for each of them. Returns the records that differ, and one row without a table that names the last user looked at.';

CREATE FUNCTION mana_ai.refusal(p_user text, p_agent text, p_scopes text[], p_hold bigint, p_micros bigint) RETURNS TABLE(scope text, unit text, cap bigint, used bigint, held bigint, until text, back_at timestamp with time zone)
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
  RETURN QUERY
    SELECT b.scope, x.unit, x.cap, x.used, x.held, w.until, r.back_at
      FROM mana_ai.budgets_of(p_user, p_agent, p_scopes) AS b
     CROSS JOIN LATERAL (VALUES ('tokens', b.cap, b.used, b.held, p_hold),
                                ('money', b.micros_cap, b.micros_used, b.micros_held, p_micros)) AS x (unit, cap, used, held, asked)
     CROSS JOIN LATERAL (SELECT CASE WHEN x.asked > x.cap THEN 'change' WHEN x.used + x.asked > x.cap THEN 'window' ELSE 'holds' END) AS w (until)
     CROSS JOIN LATERAL (SELECT CASE w.until WHEN 'window' THEN
         mana_ai.room_at(b.scope, p_user, p_agent, clock_timestamp() - interval '24 hours', x.unit, x.used + x.asked - x.cap) END) AS r (back_at)
     WHERE x.used + x.held + x.asked > x.cap
     ORDER BY array_position(ARRAY['change', 'window', 'holds'], w.until), r.back_at DESC NULLS LAST LIMIT 1;
END $$;

ALTER FUNCTION mana_ai.refusal(p_user text, p_agent text, p_scopes text[], p_hold bigint, p_micros bigint) OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.refusal(p_user text, p_agent text, p_scopes text[], p_hold bigint, p_micros bigint) IS 'The scope and unit that a hold does not fit; no row where it fits all. until says what can change that: ''change'' (a
cap below this one hold), ''window'' (usage leaves it at back_at), or ''holds'' (they only have to be settled).';

CREATE FUNCTION mana_ai.remove_owner_key(p_user text, p_address text, p_agent text) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
  removed text;
BEGIN
  PERFORM set_config('app.current_user_id', p_user, true);
  DELETE FROM mana_ai.owner_keys WHERE user_id = p_user RETURNING key_id INTO removed;
  IF removed IS NULL THEN
    RETURN false;
  END IF;
  INSERT INTO mana_ai.owner_key_changes (user_id, key_id, action, ip_address, user_agent) VALUES (p_user, removed, 'removed', p_address, p_agent);
  RETURN true;
END $$;

ALTER FUNCTION mana_ai.remove_owner_key(p_user text, p_address text, p_agent text) OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.remove_owner_key(p_user text, p_address text, p_agent text) IS 'Removes a person''s public key; false where there is none. From now on output is plain text again.';

CREATE FUNCTION mana_ai.renew(p_capability text, p_runs uuid[], p_attempts integer[], p_lease_ms integer, OUT renewed uuid[], OUT capability text) RETURNS record
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
  held jsonb := mana_ai.require_capability(p_capability);
  lease_ms int := least(p_lease_ms, 3600000);  -- whoever holds a capability cannot make it last for days
  until timestamptz;
  missions text[];
BEGIN
  SELECT array_agg(k.run_id), array_agg(k.mission_id) INTO renewed, missions FROM (
    SELECT r.run_id, r.mission_id FROM mana_ai.runs AS r JOIN unnest(p_runs, p_attempts) AS k (run_id, attempt)
        ON r.run_id = k.run_id AND r.attempt = k.attempt
     WHERE r.state = 'open' AND r.user_id = held ->> 'u' AND r.agent_id = held ->> 'a' ORDER BY r.run_id FOR UPDATE OF r) AS k;
  until := clock_timestamp() + lease_ms * interval '1 ms';
  IF renewed IS NOT NULL THEN
    PERFORM FROM mana_ai.mission_snapshots AS s
      WHERE s.user_id = held ->> 'u' AND s.mission_id = ANY (missions) ORDER BY s.mission_id FOR UPDATE;
    UPDATE mana_ai.runs AS r SET lease_until = until WHERE r.run_id = ANY (renewed);
    UPDATE mana_ai.mission_snapshots AS s SET wake_at = until WHERE s.user_id = held ->> 'u' AND s.mission_id = ANY (missions);
    capability := mana_ai.sign_payload((held - 'kid') || jsonb_build_object('exp',
      floor(extract(epoch FROM clock_timestamp()))::bigint + greatest(900, 2 * lease_ms / 1000)));
  END IF;
END $$;

ALTER FUNCTION mana_ai.renew(p_capability text, p_runs uuid[], p_attempts integer[], p_lease_ms integer, OUT renewed uuid[], OUT capability text) OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.renew(p_capability text, p_runs uuid[], p_attempts integer[], p_lease_ms integer, OUT renewed uuid[], OUT capability text) IS 'Extends the leases that are still the caller''s and returns those, with a capability that outlives them. One hour is
the most: a holder cannot make it last for days. All runs are locked before any snapshot: locked in turns, they met a commit
of the same agent that holds its run and wakes another mission.';

CREATE FUNCTION mana_ai.replay_records(p_users text[], p_tables text[], p_records text[]) RETURNS TABLE(owner_id text, change_id uuid, table_name text, record_id text, op text, data jsonb, field_meta jsonb, created_at timestamp with time zone, space_id text)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
  DELETE FROM mana_ai.change_feed AS f
   USING unnest(p_users, p_tables, p_records) AS k (user_id, table_name, record_id)
   WHERE f.record_id = k.record_id AND f.table_name = k.table_name AND f.user_id = k.user_id;
  RETURN QUERY
    SELECT k.user_id, c.id, c.table_name, c.record_id, c.op, c.data, c.field_meta, c.created_at, c.space_id
      FROM unnest(p_users, p_tables, p_records) AS k (user_id, table_name, record_id)
     CROSS JOIN LATERAL mana_ai.record_rows(k.user_id, k.table_name, k.record_id) AS c
     ORDER BY c.created_at, c.id;
END $$;

ALTER FUNCTION mana_ai.replay_records(p_users text[], p_tables text[], p_records text[]) OWNER TO mana_router;

COMMENT ON FUNCTION mana_ai.replay_records(p_users text[], p_tables text[], p_records text[]) IS 'Reads records whole, in fold order, after dropping what the feed still holds of them. A row that commits between the
two statements is read here and stays in the feed; it comes again as a late row, and the record is replayed once more.';

CREATE FUNCTION mana_ai.request_copies(p_capability text, p_run uuid, p_attempt integer) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
  run mana_ai.runs := mana_ai.own_run(p_capability, p_run, p_attempt);
  at timestamptz := clock_timestamp();
  given text;
  told text;
BEGIN
  IF run.lease_until <= at THEN
    RAISE EXCEPTION 'superseded' USING ERRCODE = 'MA002';
  END IF;
  SELECT s.record ->> 'grant' INTO given FROM mana_ai.mission_snapshots AS s
   WHERE s.user_id = run.user_id AND s.mission_id = run.mission_id;
  given := encode(sha256(convert_to(coalesce(given, ''), 'UTF8')), 'hex');
  INSERT INTO mana_ai.copy_requests AS q (user_id, mission_id, asked_at, due_at, for_grant)
  VALUES (run.user_id, run.mission_id, at, at, given)
  ON CONFLICT (user_id, mission_id) DO UPDATE
     SET asked_at = at, for_grant = given, answer = CASE WHEN q.for_grant = given THEN q.answer END,
         due_at = CASE WHEN q.due_at IS NOT NULL THEN q.due_at
                       WHEN q.for_grant <> given THEN at
                       WHEN q.answer IN ('made', 'current') THEN greatest(at, q.answered_at + interval '10 seconds')
                       WHEN q.answered_at <= at - interval '10 minutes' THEN at END
  RETURNING q.answer INTO told;
  RETURN told;
END $$;

ALTER FUNCTION mana_ai.request_copies(p_capability text, p_run uuid, p_attempt integer) OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.request_copies(p_capability text, p_run uuid, p_attempt integer) IS 'Asks for copies for a live run''s own mission. Returns what the last request under this grant came to, or null. It is
due again ten seconds after copies were made, ten minutes after they could not be.';

CREATE FUNCTION mana_ai.request_run(p_user text, p_mission text, p_key text, OUT due_at timestamp with time zone, OUT created boolean) RETURNS record
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
  PERFORM set_config('app.current_user_id', p_user, true);
  IF NOT EXISTS (SELECT FROM mana_ai.mission_snapshots AS s WHERE s.user_id = p_user AND s.mission_id = p_mission AND s.complete AND NOT s.hidden) THEN
    RETURN;
  END IF;
  INSERT INTO mana_ai.run_requests AS q (user_id, request_key, mission_id) VALUES (p_user, p_key, p_mission)
  ON CONFLICT DO NOTHING RETURNING q.due_at INTO request_run.due_at;
  created := FOUND;
  IF NOT created THEN
    SELECT q.due_at INTO request_run.due_at FROM mana_ai.run_requests AS q
     WHERE q.user_id = p_user AND q.request_key = p_key AND q.mission_id = p_mission;
    RETURN;
  END IF;
  -- Also where it is due already: a look that has read it and not this request then finds another time, and leaves it.
  UPDATE mana_ai.mission_snapshots SET wake_at = request_run.due_at WHERE user_id = p_user AND mission_id = p_mission;
END $$;

ALTER FUNCTION mana_ai.request_run(p_user text, p_mission text, p_key text, OUT due_at timestamp with time zone, OUT created boolean) OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.request_run(p_user text, p_mission text, p_key text, OUT due_at timestamp with time zone, OUT created boolean) IS '"Run now", under the caller''s idempotency key; for the gateway. The same key gives the same occurrence.';

CREATE FUNCTION mana_ai.require_capability(p_capability text DEFAULT NULL::text) RETURNS jsonb
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
  held jsonb;
BEGIN
  IF p_capability IS NOT NULL THEN
    PERFORM set_config('app.capability', p_capability, true);
  END IF;
  held := mana_ai.capability();
  IF held IS NULL THEN
    RAISE EXCEPTION 'capability_invalid' USING ERRCODE = 'MA001';
  END IF;
  PERFORM set_config('app.current_user_id', held ->> 'u', true),
          set_config('app.current_user_space_ids', array_to_string(ARRAY(SELECT jsonb_array_elements_text(held -> 's')), ','), true),
          set_config('app.capability_until', held ->> 'exp', true),
          set_config('app.capability_proof', mana_ai.capability_proof(held ->> 'u', held ->> 'exp'), true);
  RETURN held;
END $$;

ALTER FUNCTION mana_ai.require_capability(p_capability text) OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.require_capability(p_capability text) IS 'The capability given, or else this transaction''s; raises MA001 where it is not valid. Functions that write must raise:
a capability that ran out must not look like nothing to do. It is presented for this transaction alone, with its user and
spaces for the log''s own policies.';

CREATE FUNCTION mana_ai.require_keys_capability(p_run uuid, p_attempt integer) RETURNS jsonb
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
  held jsonb := mana_ai.capability('keys');
BEGIN
  IF held IS NULL OR held ->> 'run' IS DISTINCT FROM p_run::text OR held ->> 'attempt' IS DISTINCT FROM p_attempt::text THEN
    RAISE EXCEPTION 'capability_invalid' USING ERRCODE = 'MA001';
  END IF;
  PERFORM set_config('app.current_user_id', held ->> 'u', true);
  RETURN held;
END $$;

ALTER FUNCTION mana_ai.require_keys_capability(p_run uuid, p_attempt integer) OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.require_keys_capability(p_run uuid, p_attempt integer) IS 'The same as require_capability for the key holder: its own audience, and only for the run and attempt that were
signed.';

CREATE FUNCTION mana_ai.room_at(p_scope text, p_user text, p_agent text, p_since timestamp with time zone, p_unit text, p_need bigint) RETURNS timestamp with time zone
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
  IF p_scope = 'installation' THEN
    RETURN mana_ai.installation_room_at(p_since, p_unit, p_need);
  END IF;
  RETURN (SELECT min(f.ts) + interval '24 hours'
            FROM (SELECT t.ts, sum(CASE p_unit WHEN 'money' THEN t.cost_micros ELSE t.tokens_used END) OVER (ORDER BY t.ts, t.id) AS freed
                    FROM mana_ai.token_usage AS t
                   WHERE t.user_id = p_user AND (p_scope = 'user' OR t.agent_id = p_agent) AND t.ts > p_since) AS f
           WHERE f.freed >= p_need);
END $$;

ALTER FUNCTION mana_ai.room_at(p_scope text, p_user text, p_agent text, p_since timestamp with time zone, p_unit text, p_need bigint) OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.room_at(p_scope text, p_user text, p_agent text, p_since timestamp with time zone, p_unit text, p_need bigint) IS 'When p_need of what one agent, one user or the installation spent (p_unit: ''tokens'' or ''money'') will have left the
window of 24 hours.';

CREATE FUNCTION mana_ai.room_for_call(p_capability text, p_run uuid, p_attempt integer, p_hold bigint, p_micros bigint, OUT outcome text, OUT used bigint, OUT held bigint, OUT cap bigint, OUT scope text, OUT unit text, OUT until text) RETURNS record
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
  run mana_ai.runs := mana_ai.own_run(p_capability, p_run, p_attempt);
BEGIN
  outcome := 'go';
  IF EXISTS (SELECT FROM mana_ai.journal AS j WHERE j.run_id = p_run) THEN
    RETURN;
  END IF;
  PERFORM mana_ai.charge_expired_holds(run.user_id, run.agent_id);
  SELECT 'no-room', r.scope, r.unit, r.cap, r.used, r.held, r.until
    INTO outcome, scope, unit, cap, used, held, until
    FROM mana_ai.refusal(run.user_id, run.agent_id, ARRAY['agent', 'user', 'installation'], p_hold, p_micros) AS r;
  outcome := coalesce(outcome, 'go');
  IF scope = 'installation' THEN  -- what all users spent is no agent's business
    cap := NULL; used := NULL; held := NULL;
  END IF;
END $$;

ALTER FUNCTION mana_ai.room_for_call(p_capability text, p_run uuid, p_attempt integer, p_hold bigint, p_micros bigint, OUT outcome text, OUT used bigint, OUT held bigint, OUT cap bigint, OUT scope text, OUT unit text, OUT until text) OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.room_for_call(p_capability text, p_run uuid, p_attempt integer, p_hold bigint, p_micros bigint, OUT outcome text, OUT used bigint, OUT held bigint, OUT cap bigint, OUT scope text, OUT unit text, OUT until text) IS 'Whether a call of this size has room now: outcome ''go'' or ''no-room'', the rest as begin_call returns it. A run that
has answers already goes on whatever is left, because it keeps the plan it has.';

CREATE FUNCTION mana_ai.rotate_capability_secrets(p_now boolean) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
  its_audience text;
  secret bytea;
BEGIN
  LOCK TABLE mana_ai.capability_secrets IN SHARE ROW EXCLUSIVE MODE;
  DELETE FROM mana_ai.capability_secrets WHERE p_now OR verifies_until <= clock_timestamp();
  IF EXISTS (SELECT FROM mana_ai.capability_secrets WHERE verifies_until IS NOT NULL) THEN
    RAISE EXCEPTION 'rotated_already' USING ERRCODE = 'MA003';
  END IF;
  -- A minute more: what is being signed at this moment lives that much longer.
  UPDATE mana_ai.capability_secrets
     SET signs = false, verifies_until = clock_timestamp() + mana_ai.capability_life() + interval '1 minute';
  FOREACH its_audience IN ARRAY ARRAY['db', 'keys'] LOOP
    secret := uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid());
    INSERT INTO mana_ai.capability_secrets (audience, kid, inner_pad, outer_pad)
    VALUES (its_audience, substr(md5(gen_random_uuid()::text), 1, 8), mana_ai.pad(secret, 54), mana_ai.pad(secret, 92));
  END LOOP;
END $$;

ALTER FUNCTION mana_ai.rotate_capability_secrets(p_now boolean) OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.rotate_capability_secrets(p_now boolean) IS 'Makes new secrets that sign from now on. The ones before verify as long as anything they signed can live; with p_now
they are refused from the commit on. At most two verify per audience, so a rotation within the overlap is refused. The
table lock makes rotations take turns, and lets others sign and verify. Not SECURITY DEFINER: only the table''s owner
gets anywhere with it.';

CREATE FUNCTION mana_ai.set_limit(p_kind text, p_user text, p_agent text, p_tokens bigint, p_micros bigint, p_sets_tokens boolean, p_sets_micros boolean) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
  before mana_ai.limits;
BEGIN
  PERFORM set_config('app.current_user_id', p_user, true);
  DELETE FROM mana_ai.limits WHERE kind = p_kind AND user_id = p_user AND agent_id = p_agent RETURNING * INTO before;
  IF NOT p_sets_tokens THEN
    p_tokens := before.tokens;
  END IF;
  IF NOT p_sets_micros THEN
    p_micros := before.micros;
  END IF;
  IF p_tokens IS NOT NULL OR p_micros IS NOT NULL THEN
    INSERT INTO mana_ai.limits (kind, user_id, agent_id, tokens, micros) VALUES (p_kind, p_user, p_agent, p_tokens, p_micros)
    ON CONFLICT (kind, user_id, agent_id) DO UPDATE SET tokens = excluded.tokens, micros = excluded.micros, set_at = clock_timestamp();
  END IF;
  INSERT INTO mana_ai.budget_wakes (whose, wake_at)
  VALUES (p_user, clock_timestamp()), (p_user, clock_timestamp() + interval '1 minute');
END $$;

ALTER FUNCTION mana_ai.set_limit(p_kind text, p_user text, p_agent text, p_tokens bigint, p_micros bigint, p_sets_tokens boolean, p_sets_micros boolean) OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.set_limit(p_kind text, p_user text, p_agent text, p_tokens bigint, p_micros bigint, p_sets_tokens boolean, p_sets_micros boolean) IS 'Sets one limit; for the gateway. p_sets_tokens and p_sets_micros say which of the two; null lifts it. Missions are
looked at now, and once more after a minute for those that were just deciding by the old limit.';

CREATE FUNCTION mana_ai.settle(p_user text, p_agent text, p_call uuid, p_attempt integer, p_hash text, p_answer text, p_tokens bigint, p_micros bigint, p_noted jsonb DEFAULT '{}'::jsonb, OUT charged bigint, OUT journaled boolean) RETURNS record
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
  told bigint := CASE WHEN p_tokens BETWEEN 0 AND 8589934592 THEN p_tokens END;  -- nobody earns tokens back
  cost bigint := CASE WHEN p_micros BETWEEN 0 AND 1000000000000 THEN p_micros END;
  hold mana_ai.token_holds;
  usage mana_ai.token_usage;
BEGIN
  journaled := false;
  DELETE FROM mana_ai.token_holds AS h WHERE h.call_id = p_call AND h.user_id = p_user AND h.agent_id = p_agent RETURNING * INTO hold;
  IF hold.call_id IS NOT NULL THEN
    charged := coalesce(told, hold.tokens);
    INSERT INTO mana_ai.token_usage AS t (user_id, agent_id, mission_id, tokens_used, cost_micros, run_id, call_id, round, basis)
    VALUES (p_user, p_agent, hold.mission_id, charged,
            CASE WHEN cost IS NOT NULL THEN cost WHEN charged = 0 THEN 0 ELSE hold.cost_micros END, hold.run_id, p_call, hold.round,
            CASE WHEN told IS NULL THEN 'hold' WHEN charged > hold.tokens THEN 'above-hold' ELSE 'reported' END)
    RETURNING * INTO usage;
  ELSE
    -- Its deadline passed: the larger of hold and report, once.
    UPDATE mana_ai.token_usage AS t SET tokens_used = greatest(t.tokens_used, told), cost_micros = greatest(t.cost_micros, cost),
           basis = CASE WHEN told > t.tokens_used THEN 'above-hold' ELSE 'hold' END
     WHERE t.call_id = p_call AND t.user_id = p_user AND t.agent_id = p_agent AND t.basis = 'expired-hold' RETURNING * INTO usage;
    IF usage.call_id IS NULL THEN  -- settled before, and the reply to that was lost
      charged := coalesce((SELECT t.tokens_used FROM mana_ai.token_usage AS t
                            WHERE t.call_id = p_call AND t.user_id = p_user AND t.agent_id = p_agent), 0);
      RETURN;
    END IF;
    charged := usage.tokens_used;
  END IF;
  UPDATE mana_ai.runs AS r SET tokens = r.tokens + charged,
         answers = CASE WHEN r.attempt = p_attempt AND r.state = 'open' THEN r.answers || p_noted ELSE r.answers END
   WHERE r.run_id = usage.run_id;
  PERFORM mana_ai.wake_for_room(p_user, p_agent);
  IF p_answer IS NOT NULL AND p_hash IS NOT NULL
     AND EXISTS (SELECT FROM mana_ai.runs AS r WHERE r.run_id = usage.run_id AND r.attempt = p_attempt AND r.state = 'open') THEN
    INSERT INTO mana_ai.journal AS j (run_id, round, user_id, request_hash, answer, tokens)
    VALUES (usage.run_id, usage.round, p_user, p_hash, p_answer, charged)
    ON CONFLICT (run_id, round) DO UPDATE SET request_hash = excluded.request_hash, answer = excluded.answer, tokens = excluded.tokens;
    journaled := true;
  END IF;
END $$;

ALTER FUNCTION mana_ai.settle(p_user text, p_agent text, p_call uuid, p_attempt integer, p_hash text, p_answer text, p_tokens bigint, p_micros bigint, p_noted jsonb, OUT charged bigint, OUT journaled boolean) OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.settle(p_user text, p_agent text, p_call uuid, p_attempt integer, p_hash text, p_answer text, p_tokens bigint, p_micros bigint, p_noted jsonb, OUT charged bigint, OUT journaled boolean) IS 'Charges a call what it cost and keeps its answer; the caller holds the ledger''s lock. It never fails: an attempt that was
superseded is charged all the same, and only journals nothing. Null tokens, or a number that no call can use, is no report:
the hold is charged. Null micros: nobody knows the price. The basis is ''reported'', ''above-hold'' (more than was held,
charged all the same), ''hold'', or ''expired-hold'' until a report comes. What is noted of the answer is so from this call on.';

CREATE FUNCTION mana_ai.settled_run(p_capability text, p_run uuid, p_attempt integer, p_call text, OUT run_id uuid, OUT is_open boolean, OUT charged bigint) RETURNS record
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
  held jsonb := mana_ai.require_capability(p_capability);
  run mana_ai.runs;
  call record;
BEGIN
  PERFORM mana_ai.lock_ledger(held ->> 'u', held ->> 'a');
  SELECT * INTO run FROM mana_ai.runs AS r
   WHERE r.run_id = p_run AND r.user_id = held ->> 'u' AND r.agent_id = held ->> 'a' FOR UPDATE;
  PERFORM FROM mana_ai.mission_snapshots AS s WHERE s.user_id = held ->> 'u' AND s.mission_id = run.mission_id FOR UPDATE;
  IF p_call IS NOT NULL THEN
    BEGIN
      SELECT * INTO call
        FROM jsonb_to_record(p_call::jsonb) AS c (call_id uuid, attempt int, digest text, answer text, tokens bigint, micros bigint);
      SELECT s.charged INTO settled_run.charged
        FROM mana_ai.settle(held ->> 'u', held ->> 'a', call.call_id, call.attempt, call.digest, call.answer, call.tokens, call.micros) AS s;
    EXCEPTION WHEN data_exception THEN
      charged := NULL;  -- it says nothing that can be read: the hold is charged at its deadline
    END;
  END IF;
  run_id := run.run_id;
  is_open := coalesce(run.attempt = p_attempt AND run.state = 'open', false);
END $$;

ALTER FUNCTION mana_ai.settled_run(p_capability text, p_run uuid, p_attempt integer, p_call text, OUT run_id uuid, OUT is_open boolean, OUT charged bigint) OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.settled_run(p_capability text, p_run uuid, p_attempt integer, p_call text, OUT run_id uuid, OUT is_open boolean, OUT charged bigint) IS 'The caller''s run, for one of its endings: locked with its mission after the ledger, and its last answer settled
whatever becomes of the run. is_open says whether this attempt may still end it. The tokens charged are null where
nothing was to settle.';

CREATE FUNCTION mana_ai.sign_capability(p_user text, p_agent text, p_spaces text[], p_scope text[], p_audience text, p_ttl_s integer) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
  token text := mana_ai.sign_payload(jsonb_build_object('u', p_user, 'a', p_agent, 's', p_spaces, 'sc', p_scope, 'aud', p_audience,
                                       'exp', floor(extract(epoch FROM clock_timestamp()))::bigint + p_ttl_s));
BEGIN
  IF octet_length(token) > mana_ai.capability_chars() - 1000 THEN
    RAISE EXCEPTION 'capability_too_long' USING ERRCODE = 'MA004';
  END IF;
  RETURN token;
END $$;

ALTER FUNCTION mana_ai.sign_capability(p_user text, p_agent text, p_spaces text[], p_scope text[], p_audience text, p_ttl_s integer) OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.sign_capability(p_user text, p_agent text, p_spaces text[], p_scope text[], p_audience text, p_ttl_s integer) IS 'Signs a capability for an agent; only the supervisor may call this. It leaves a thousand characters for a renewal,
whose secret may have a longer name, and refuses what is too long here, so that somebody hears of it.';

CREATE FUNCTION mana_ai.sign_payload(p_payload jsonb) RETURNS text
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    RETURN (SELECT ((body.text || '.'::text) || mana_ai.base64url(sha256((k.outer_pad || sha256((k.inner_pad || convert_to(body.text, 'UTF8'::name))))))) FROM (SELECT capability_secrets.audience, capability_secrets.kid, capability_secrets.inner_pad, capability_secrets.outer_pad, capability_secrets.signs, capability_secrets.created_at, capability_secrets.verifies_until FROM mana_ai.capability_secrets WHERE ((capability_secrets.audience = (sign_payload.p_payload ->> 'aud'::text)) AND capability_secrets.signs)) k, LATERAL (SELECT (sign_payload.p_payload || jsonb_build_object('kid', k.kid, 'exp', LEAST(((sign_payload.p_payload ->> 'exp'::text))::bigint, (floor(EXTRACT(epoch FROM (clock_timestamp() + mana_ai.capability_life()))))::bigint))) AS "?column?") signed(payload), LATERAL (SELECT mana_ai.base64url(convert_to((signed.payload)::text, 'UTF8'::name)) AS base64url) body(text));

ALTER FUNCTION mana_ai.sign_payload(p_payload jsonb) OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.sign_payload(p_payload jsonb) IS 'Signs a payload with the audience''s current secret: base64url(payload) "." base64url(HMAC-SHA-256). It cuts the
expiry to the longest life there is.';

CREATE FUNCTION mana_ai.skip_run(p_capability text, p_run uuid, p_attempt integer, p_call text, p_note text, p_reason text, p_look_s double precision, OUT outcome text, OUT charged bigint, OUT look_at timestamp with time zone, OUT is_news boolean, OUT now timestamp with time zone) RETURNS record
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
  settled record := mana_ai.settled_run(p_capability, p_run, p_attempt, p_call);
  run mana_ai.runs := (SELECT r FROM mana_ai.runs AS r WHERE r.run_id = settled.run_id);
BEGIN
  charged := settled.charged;
  IF settled.is_open THEN
    BEGIN
      look_at := clock_timestamp() + p_look_s * interval '1 second';
      PERFORM mana_ai.note_plan(p_run, p_note::jsonb);
      PERFORM mana_ai.close_run(run, 'withdrawn', p_reason);
      PERFORM mana_ai.look_again(run.user_id, run.mission_id, look_at);
      is_news := mana_ai.note_if_new(run.user_id, run.mission_id, run.agent_id, run.due_at, 'skipped-grant', p_reason);
      outcome := 'done';
    EXCEPTION WHEN data_exception OR integrity_constraint_violation OR program_limit_exceeded THEN
      outcome := 'refused';
    END;
  ELSIF run.attempt = p_attempt AND run.state = 'withdrawn' AND run.reason = p_reason AND run.cancelled_at IS NULL THEN
    is_news := mana_ai.was_told(run, 'skipped-grant');
    outcome := 'landed';
  ELSE
    outcome := 'superseded';
  END IF;
  now := clock_timestamp();
END $$;

ALTER FUNCTION mana_ai.skip_run(p_capability text, p_run uuid, p_attempt integer, p_call text, p_note text, p_reason text, p_look_s double precision, OUT outcome text, OUT charged bigint, OUT look_at timestamp with time zone, OUT is_news boolean, OUT now timestamp with time zone) OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.skip_run(p_capability text, p_run uuid, p_attempt integer, p_call text, p_note text, p_reason text, p_look_s double precision, OUT outcome text, OUT charged bigint, OUT look_at timestamp with time zone, OUT is_news boolean, OUT now timestamp with time zone) IS 'Closes a run that must not be planned and shows its owner why, in place of ''withdrawn''. is_news: that differs from what
was said last; a mission skipped again for the same reason keeps its one row. Outcomes as of withdraw_run.';

CREATE FUNCTION mana_ai.spent_under(p_kinds text[], p_users text[], p_agents text[]) RETURNS TABLE(place integer, scope text, source text, cap bigint, used bigint, held bigint, micros_cap bigint, micros_used bigint, micros_held bigint)
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
  FOR i IN 1 .. cardinality(p_kinds) LOOP
    PERFORM set_config('app.current_user_id', p_users[i], true);
    RETURN QUERY SELECT i, b.* FROM mana_ai.budgets_of(p_users[i], p_agents[i], p_kinds[i : i]) AS b;
  END LOOP;
  PERFORM set_config('app.current_user_id', '', true);
END $$;

ALTER FUNCTION mana_ai.spent_under(p_kinds text[], p_users text[], p_agents text[]) OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.spent_under(p_kinds text[], p_users text[], p_agents text[]) IS 'The last 24 hours under each of many limits, by their places in the arrays: each is read in the place of the person it
names, one after the other, so that row security holds as it does for one. Afterwards the transaction acts for nobody.';

CREATE FUNCTION mana_ai.stamp_now(p_floor text) RETURNS text
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    RETURN GREATEST((p_floor COLLATE "C"), (to_char((date_trunc('milliseconds'::text, (clock_timestamp() + '00:00:00.000999'::interval)) AT TIME ZONE 'UTC'::text), 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'::text) COLLATE "C"));

ALTER FUNCTION mana_ai.stamp_now(p_floor text) OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.stamp_now(p_floor text) IS 'The stamp of what is written now: the clock, rounded up to whole milliseconds, or p_floor where that is later. Both are
written alike, so the later text is the later instant.';

CREATE FUNCTION mana_ai.state_now(p_user text, p_table text, p_record text, OUT snapshot jsonb, OUT changes jsonb) RETURNS record
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
  record jsonb;
  present boolean;
  complete boolean;
BEGIN
  PERFORM set_config('app.current_user_id', p_user, true);
  IF p_table = 'agents' THEN
    SELECT s.record, s.present, s.complete INTO record, present, complete FROM mana_ai.agent_snapshots AS s
     WHERE s.user_id = p_user AND s.agent_id = p_record;
  ELSE
    SELECT s.record, s.present, s.complete INTO record, present, complete FROM mana_ai.mission_snapshots AS s
     WHERE s.user_id = p_user AND s.mission_id = p_record;
  END IF;
  IF record IS NOT NULL THEN
    snapshot := jsonb_build_object('present', present, 'complete', complete, 'record',
      mana_ai.only_state(record) || jsonb_build_object('__fieldMeta', mana_ai.only_state(record -> '__fieldMeta')));
  END IF;
  SELECT jsonb_agg(c || jsonb_build_object('data', mana_ai.only_state((c ->> 'data')::jsonb)::text,
                                           'field_meta', mana_ai.only_state((c ->> 'field_meta')::jsonb)::text))
    INTO changes FROM jsonb_array_elements(mana_ai.unfolded(p_user, p_table, p_record)) AS c;
END $$;

ALTER FUNCTION mana_ai.state_now(p_user text, p_table text, p_record text, OUT snapshot jsonb, OUT changes jsonb) OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.state_now(p_user text, p_table text, p_record text, OUT snapshot jsonb, OUT changes jsonb) IS 'What a pause decides by: state, deletion and their stamps, with the rows not folded yet; for the gateway. No other
word of the record is returned. It takes no lock that an agent could hold: an agent out of control must still be
stoppable.';

CREATE FUNCTION mana_ai.sync_feeds_of(p_user text, p_spaces text[]) RETURNS text[]
    LANGUAGE sql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    RETURN ARRAY(SELECT "left"(('user:'::text || sync_feeds_of.p_user), 512) AS "left" UNION SELECT "left"(('space:'::text || s.id), 512) AS "left" FROM unnest(sync_feeds_of.p_spaces) s(id) ORDER BY 1);

ALTER FUNCTION mana_ai.sync_feeds_of(p_user text, p_spaces text[]) OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.sync_feeds_of(p_user text, p_spaces text[]) IS 'The feeds that hold what a person may read: their own rows, and each space''s. note_rows names them the same way.';

CREATE FUNCTION mana_ai.sync_history(p_user text, p_spaces text[], p_app text, p_client text, p_rows jsonb, p_most integer, OUT table_name text, OUT record_id text, OUT id uuid, OUT created_us bigint, OUT op text, OUT data text, OUT field_meta text, OUT author text, OUT client text) RETURNS SETOF record
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
#variable_conflict use_column
BEGIN
  PERFORM set_config('app.current_user_id', p_user, true), set_config('app.current_user_space_ids', array_to_string(p_spaces, ','), true);
  RETURN QUERY
  SELECT a.in_table, a.record, h.id, (extract(epoch FROM h.created_at) * 1000000)::bigint, h.op,
         CASE jsonb_typeof(h.data) WHEN 'object' THEN coalesce((
           SELECT jsonb_object_agg(e.key, CASE WHEN e.key IN ('deletedAt', 'updatedAt', 'createdAt') THEN e.value END)
             FROM jsonb_each(h.data) AS e), '{}')::text ELSE h.data::text END,
         h.field_meta::text, h.user_id, h.client_id
    FROM (SELECT DISTINCT r.change ->> 'table' AS in_table, r.change ->> 'id' AS record FROM jsonb_array_elements(p_rows) AS r (change)) AS a
   -- Nobody loses to themselves.
   CROSS JOIN LATERAL (
     SELECT FROM mana_ai.log_rows AS c
      WHERE c.app_id = p_app AND c.table_name = a.in_table AND c.record_id = a.record AND isfinite(c.created_at)
        AND (c.user_id = p_user AND c.client_id <> p_client
             OR c.user_id <> p_user AND mana_ai.is_shared(c.space_id) AND c.space_id = ANY (p_spaces))
      LIMIT 1) AS others
   CROSS JOIN LATERAL (
     SELECT c.* FROM mana_ai.log_rows AS c
      WHERE c.app_id = p_app AND c.table_name = a.in_table AND c.record_id = a.record AND isfinite(c.created_at)
        AND (c.user_id = p_user OR mana_ai.is_shared(c.space_id) AND c.space_id = ANY (p_spaces))
      LIMIT p_most) AS h
   ORDER BY a.in_table, a.record, h.created_at, h.id;
END $$;

ALTER FUNCTION mana_ai.sync_history(p_user text, p_spaces text[], p_app text, p_client text, p_rows jsonb, p_most integer, OUT table_name text, OUT record_id text, OUT id uuid, OUT created_us bigint, OUT op text, OUT data text, OUT field_meta text, OUT author text, OUT client text) OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.sync_history(p_user text, p_spaces text[], p_app text, p_client text, p_rows jsonb, p_most integer, OUT table_name text, OUT record_id text, OUT id uuid, OUT created_us bigint, OUT op text, OUT data text, OUT field_meta text, OUT author text, OUT client text) IS 'All rows of the records that a push is about and that others wrote as well, as far as that person may read them, for the gateway:
what wins a field, and not what it says. Values are left out but for times that the merge looks at. p_most bounds the rows of a record.';

CREATE FUNCTION mana_ai.sync_page(p_user text, p_spaces text[], p_app text, p_table text, p_client text, p_since timestamp with time zone, p_slot integer, p_until timestamp with time zone, p_rows integer, p_bytes integer, OUT id uuid, OUT author text, OUT client text, OUT table_name text, OUT record_id text, OUT op text, OUT data text, OUT field_meta text, OUT created_us bigint, OUT schema_version integer, OUT actor text, OUT origin text, OUT space_id text, OUT at_us bigint, OUT slot integer, OUT is_more boolean) RETURNS SETOF record
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET plan_cache_mode TO 'force_generic_plan'
    AS $$
#variable_conflict use_column
DECLARE
  feeds text[] := mana_ai.sync_feeds_of(p_user, p_spaces);
BEGIN
  PERFORM set_config('app.current_user_id', p_user, true), set_config('app.current_user_space_ids', array_to_string(p_spaces, ','), true);
  RETURN QUERY
  WITH found AS (
    (SELECT c.created_at AS at, c.* FROM mana_ai.log_rows AS c
      WHERE p_table IS NULL AND c.user_id = p_user AND c.app_id = p_app AND c.client_id <> p_client
        AND c.created_at >= p_since AND c.created_at <= p_until AND (c.created_at > p_since OR mana_ai.sync_slot(c.id) > p_slot)
      ORDER BY c.created_at FETCH FIRST (p_rows + 1) ROWS WITH TIES)
    UNION ALL
    (SELECT c.created_at, c.* FROM mana_ai.log_rows AS c
      WHERE c.table_name = p_table AND c.user_id = p_user AND c.app_id = p_app AND c.client_id <> p_client
        AND c.created_at >= p_since AND c.created_at <= p_until AND (c.created_at > p_since OR mana_ai.sync_slot(c.id) > p_slot)
      ORDER BY c.created_at FETCH FIRST (p_rows + 1) ROWS WITH TIES)
    UNION ALL
    SELECT s.* FROM unnest(p_spaces) AS one (space) CROSS JOIN LATERAL (
      SELECT c.created_at, c.* FROM mana_ai.log_rows AS c
       WHERE c.space_id = one.space AND c.space_id IS NOT NULL AND NOT starts_with(c.space_id, '_personal:') AND c.app_id = p_app
         AND c.user_id <> p_user AND (p_table IS NULL OR c.table_name = p_table)
         AND c.created_at >= p_since AND c.created_at <= p_until AND (c.created_at > p_since OR mana_ai.sync_slot(c.id) > p_slot)
       ORDER BY c.created_at FETCH FIRST (p_rows + 1) ROWS WITH TIES) AS s
    UNION ALL
    -- What turned up behind the device's position; what is before it comes by the parts above, now or on a later page.
    (SELECT l.position, c.* FROM mana_ai.sync_late AS l JOIN mana_ai.log_rows AS c ON c.id = l.change_id
      WHERE l.feed = ANY (feeds) AND l.position >= p_since AND l.position <= p_until
        AND (l.position > p_since OR mana_ai.sync_slot(c.id) > p_slot)
        AND c.app_id = p_app AND (p_table IS NULL OR c.table_name = p_table) AND isfinite(c.created_at)
        AND (c.user_id = p_user AND c.client_id <> p_client
             OR c.user_id <> p_user AND mana_ai.is_shared(c.space_id) AND c.space_id = ANY (p_spaces))
        AND (c.created_at < p_since OR c.created_at = p_since AND mana_ai.sync_slot(c.id) <= p_slot OR c.created_at > p_until)
      ORDER BY l.position FETCH FIRST (p_rows + 1) ROWS WITH TIES)
    UNION ALL
    -- Older rows of a space that this device's person joined, all at one position.
    SELECT j.at, s.* FROM (
      SELECT o.key AS space, 'epoch'::timestamptz + o.value::bigint * interval '1 microsecond' AS at
        FROM mana_ai.sync_devices AS d CROSS JOIN LATERAL jsonb_each_text(d.joined) AS o
       WHERE d.user_id = p_user AND d.client_id = p_client AND o.key = ANY (p_spaces)) AS j
     CROSS JOIN LATERAL (
      SELECT c.* FROM mana_ai.log_rows AS c
       WHERE c.space_id = j.space AND c.space_id IS NOT NULL AND NOT starts_with(c.space_id, '_personal:') AND c.app_id = p_app
         AND c.user_id <> p_user AND (p_table IS NULL OR c.table_name = p_table) AND isfinite(c.created_at)
         AND (j.at > p_since OR mana_ai.sync_slot(c.id) > p_slot)
         AND (c.created_at < p_since OR c.created_at = p_since AND mana_ai.sync_slot(c.id) <= p_slot OR c.created_at > p_until)
       ORDER BY mana_ai.sync_slot(c.id) FETCH FIRST (p_rows + 1) ROWS WITH TIES) AS s
     WHERE j.at >= p_since AND j.at <= p_until),
  texts AS (
    SELECT f.at, f.id, f.user_id, f.client_id, f.table_name, f.record_id, f.op, f.data::text AS data, f.field_meta::text AS field_meta,
           f.created_at, f.schema_version, f.actor::text AS actor, f.origin, f.space_id
      FROM found AS f),
  once AS (  -- a row of a space comes by its author's feed and by the space's
    SELECT DISTINCT ON (t.at, t.id) t.*, mana_ai.sync_slot(t.id) AS slot,
           200 + coalesce(length(t.data), 0) + coalesce(length(t.field_meta), 0) + coalesce(length(t.actor), 0) AS size
      FROM texts AS t ORDER BY t.at, t.id),
  placed AS (
    SELECT o.*, row_number() OVER w AS place, sum(o.size) OVER w - o.size AS before,
           (lag(o.at) OVER w, lag(o.slot) OVER w) IS DISTINCT FROM (o.at, o.slot) AS is_next
      FROM once AS o WINDOW w AS (ORDER BY o.at, o.id ROWS UNBOUNDED PRECEDING)),
  ended AS (SELECT min(p.place) AS place FROM placed AS p WHERE (p.place > p_rows OR p.before >= p_bytes) AND p.is_next)
  SELECT p.id, p.user_id, p.client_id, p.table_name, p.record_id, p.op, p.data, p.field_meta,
         (extract(epoch FROM p.created_at) * 1000000)::bigint, p.schema_version, p.actor, p.origin, p.space_id,
         (extract(epoch FROM p.at) * 1000000)::bigint, p.slot, e.place IS NOT NULL
    FROM placed AS p CROSS JOIN ended AS e WHERE e.place IS NULL OR p.place < e.place ORDER BY p.place;
END $$;

ALTER FUNCTION mana_ai.sync_page(p_user text, p_spaces text[], p_app text, p_table text, p_client text, p_since timestamp with time zone, p_slot integer, p_until timestamp with time zone, p_rows integer, p_bytes integer, OUT id uuid, OUT author text, OUT client text, OUT table_name text, OUT record_id text, OUT op text, OUT data text, OUT field_meta text, OUT created_us bigint, OUT schema_version integer, OUT actor text, OUT origin text, OUT space_id text, OUT at_us bigint, OUT slot integer, OUT is_more boolean) OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.sync_page(p_user text, p_spaces text[], p_app text, p_table text, p_client text, p_since timestamp with time zone, p_slot integer, p_until timestamp with time zone, p_rows integer, p_bytes integer, OUT id uuid, OUT author text, OUT client text, OUT table_name text, OUT record_id text, OUT op text, OUT data text, OUT field_meta text, OUT created_us bigint, OUT schema_version integer, OUT actor text, OUT origin text, OUT space_id text, OUT at_us bigint, OUT slot integer, OUT is_more boolean) IS 'Rows of an app, or of one table, that a person may read, after a position up to a published one (sync_publish), in the order of
their positions; not those that this client of theirs wrote. A page ends after so many rows or bytes, never between rows of
one position; is_more says that there are later rows. Every plan reads by the same indexes, and a plan made for each call would
take longer than a page without news.';

CREATE FUNCTION mana_ai.sync_publish(p_user text, p_spaces text[], p_client text, p_since timestamp with time zone) RETURNS timestamp with time zone
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
  feeds text[] := mana_ai.sync_feeds_of(p_user, p_spaces);
  upto timestamptz := mana_ai.publish_feeds(feeds, p_since);
  is_new boolean;
  before jsonb;
BEGIN
  SELECT d.joined INTO before FROM mana_ai.sync_devices AS d WHERE d.user_id = p_user AND d.client_id = p_client;
  IF p_client = '' OR before ?& p_spaces
                      AND (SELECT count(*) FROM jsonb_object_keys(before)) = (SELECT count(DISTINCT s.id) FROM unnest(p_spaces) AS s (id)) THEN
    RETURN upto;
  END IF;
  -- The person's first, as whoever publishes does; so all their devices come here one by one.
  PERFORM FROM mana_ai.sync_feeds AS f WHERE f.feed = ANY (feeds) ORDER BY f.feed FOR UPDATE;
  SELECT d.joined INTO before FROM mana_ai.sync_devices AS d WHERE d.user_id = p_user AND d.client_id = p_client;
  is_new := NOT FOUND;
  IF NOT coalesce(before, '{}') ?& p_spaces AND NOT (is_new AND p_since <= 'epoch') THEN
    -- Behind all that any device of theirs was told, so that this one still comes past it.
    SELECT max(f.until) + interval '1 microsecond' INTO upto FROM mana_ai.sync_feeds AS f WHERE f.feed = ANY (feeds);
    UPDATE mana_ai.sync_feeds AS f SET until = upto WHERE f.feed = ANY (feeds);
  END IF;
  IF is_new THEN
    DELETE FROM mana_ai.sync_devices AS d WHERE d.user_id = p_user AND d.client_id IN (
      SELECT o.client_id FROM mana_ai.sync_devices AS o WHERE o.user_id = p_user ORDER BY o.made_at DESC OFFSET 999);
  END IF;
  INSERT INTO mana_ai.sync_devices AS d (user_id, client_id, joined)
  SELECT p_user, p_client, coalesce(jsonb_object_agg(s.id, coalesce(before -> s.id, to_jsonb(
           CASE WHEN is_new AND p_since <= 'epoch' THEN 0 ELSE (extract(epoch FROM upto) * 1000000)::bigint END))), '{}')
    FROM unnest(p_spaces) AS s (id)
  ON CONFLICT (user_id, client_id) DO UPDATE SET joined = excluded.joined;
  RETURN upto;
END $$;

ALTER FUNCTION mana_ai.sync_publish(p_user text, p_spaces text[], p_client text, p_since timestamp with time zone) OWNER TO mana_router;

COMMENT ON FUNCTION mana_ai.sync_publish(p_user text, p_spaces text[], p_client text, p_since timestamp with time zone) IS 'Up to which position a person''s feeds may be read now (publish_feeds), for the gateway. p_since is the position that their
device p_client came with. Of a space that this device was not in before, older rows get the returned position (sync_page), but for
a device that begins; p_client '''' is none.';

CREATE FUNCTION mana_ai.sync_push(p_user text, p_spaces text[], p_app text, p_client text, p_rows jsonb, OUT n integer, OUT status text, OUT created_us bigint) RETURNS SETOF record
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
  base timestamptz;
BEGIN
  IF (p_user <> '' AND p_app <> ''
      AND NOT EXISTS (SELECT FROM jsonb_array_elements(p_rows) AS r WHERE (r ->> 'table' <> '' AND r ->> 'id' <> ''
            AND (r ->> 'space' IS NULL OR r ->> 'space' = '_personal:' || p_user
                 OR mana_ai.is_shared(r ->> 'space') AND r ->> 'space' = ANY (p_spaces))) IS NOT TRUE)) IS NOT TRUE THEN
    RAISE EXCEPTION 'sync_push: not changes of this person' USING ERRCODE = 'check_violation';
  END IF;
  PERFORM set_config('app.current_user_id', p_user, true);
  -- Not the start of the transaction: within a push no two rows share a time.
  base := clock_timestamp();
  RETURN QUERY
  WITH given AS (
    SELECT r.n::int AS n, (r.change ->> 'changeId')::uuid AS id, r.change FROM jsonb_array_elements(p_rows) WITH ORDINALITY AS r (change, n)),
  written AS (
    INSERT INTO mana_ai.log_rows AS c (id, app_id, table_name, record_id, user_id, op, data, field_meta, client_id, created_at,
                                       schema_version, actor, origin, space_id)
    SELECT g.id, p_app, g.change ->> 'table', g.change ->> 'id', p_user, g.change ->> 'op', g.change -> 'data', g.change -> 'meta',
           p_client, base + g.n * interval '1 microsecond', (g.change ->> 'schema')::int,
           CASE WHEN jsonb_typeof(g.change -> 'actor') <> 'null' THEN g.change -> 'actor' END, g.change ->> 'origin', g.change ->> 'space'
      FROM given AS g ORDER BY g.id  -- two pushes of the same changes wait for each other, and never in a circle
    ON CONFLICT (id) DO NOTHING RETURNING c.id, c.created_at)
  SELECT g.n, CASE WHEN w.id IS NULL THEN 'there' ELSE 'written' END, (extract(epoch FROM w.created_at) * 1000000)::bigint
    FROM given AS g LEFT JOIN written AS w ON w.id = g.id ORDER BY g.n;
END $$;

ALTER FUNCTION mana_ai.sync_push(p_user text, p_spaces text[], p_app text, p_client text, p_rows jsonb, OUT n integer, OUT status text, OUT created_us bigint) OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.sync_push(p_user text, p_spaces text[], p_app text, p_client text, p_rows jsonb, OUT n integer, OUT status text, OUT created_us bigint) IS 'Writes a client''s changes into the log, for the gateway: each once, by the id that the client gave it. A shared space has to be
one of theirs. A change whose id is there already is not written; sync_there says whether it is the same.';

CREATE FUNCTION mana_ai.sync_settle(p_older_s double precision, p_most integer, OUT forgotten bigint, OUT published bigint, OUT oldest_s double precision) RETURNS record
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
  name text;
  until_then timestamptz := clock_timestamp() - p_older_s * interval '1 second';
BEGIN
  DELETE FROM mana_ai.sync_pending AS p
   WHERE p.noted_at < until_then AND NOT EXISTS (SELECT FROM mana_ai.sync_feeds AS f WHERE f.feed = p.feed);
  GET DIAGNOSTICS forgotten = ROW_COUNT;
  published := 0;
  FOR name IN
    SELECT DISTINCT p.feed FROM mana_ai.sync_pending AS p WHERE p.noted_at < until_then ORDER BY 1 LIMIT p_most
  LOOP
    PERFORM mana_ai.publish_feeds(ARRAY[name], 'epoch');
    published := published + 1;
  END LOOP;
  SELECT coalesce(extract(epoch FROM clock_timestamp() - min(p.noted_at)), 0)::double precision INTO oldest_s FROM mana_ai.sync_pending AS p;
END $$;

ALTER FUNCTION mana_ai.sync_settle(p_older_s double precision, p_most integer, OUT forgotten bigint, OUT published bigint, OUT oldest_s double precision) OWNER TO mana_router;

COMMENT ON FUNCTION mana_ai.sync_settle(p_older_s double precision, p_most integer, OUT forgotten bigint, OUT published bigint, OUT oldest_s double precision) IS 'Keeps what is noted short where no device asks, for the gateway: publishes feeds that waited for so long, and forgets what is
noted for feeds that no device ever asked for, since nobody has a position in them. oldest_s: how long the oldest has waited.';

CREATE FUNCTION mana_ai.sync_slot(p_id uuid) RETURNS integer
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN ((((get_byte(uuid_send(p_id), 0) * 256) + get_byte(uuid_send(p_id), 1)) * 1000) / 65536);

ALTER FUNCTION mana_ai.sync_slot(p_id uuid) OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.sync_slot(p_id uuid) IS '0 to 999, in the order of ids: tells rows of one microsecond apart in the last three digits of a position, so that a page
may end among them.';

CREATE FUNCTION mana_ai.sync_there(p_user text, p_app text, p_rows jsonb, OUT n integer, OUT created_us bigint) RETURNS SETOF record
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
  PERFORM set_config('app.current_user_id', p_user, true);
  RETURN QUERY
  SELECT r.n::int, (extract(epoch FROM c.created_at) * 1000000)::bigint
    FROM jsonb_array_elements(p_rows) WITH ORDINALITY AS r (change, n)
    JOIN mana_ai.log_rows AS c ON c.id = (r.change ->> 'changeId')::uuid
   WHERE c.user_id = p_user AND c.app_id = p_app AND c.table_name = r.change ->> 'table' AND c.record_id = r.change ->> 'id'
     AND c.op = r.change ->> 'op' AND c.space_id IS NOT DISTINCT FROM r.change ->> 'space'
     AND (c.op = 'delete' OR c.data IS NOT DISTINCT FROM r.change -> 'data');
END $$;

ALTER FUNCTION mana_ai.sync_there(p_user text, p_app text, p_rows jsonb, OUT n integer, OUT created_us bigint) OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.sync_there(p_user text, p_app text, p_rows jsonb, OUT n integer, OUT created_us bigint) IS 'Which of a client''s changes the log has already as the same change of the same person. Stamps may differ: what was too far
ahead of the clock was taken back when it was written.';

CREATE FUNCTION mana_ai.sync_touched(p_user text, p_spaces text[], p_since timestamp with time zone, p_until timestamp with time zone, OUT app_id text, OUT table_name text, OUT client text) RETURNS SETOF record
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
#variable_conflict use_column
BEGIN
  PERFORM set_config('app.current_user_id', p_user, true), set_config('app.current_user_space_ids', array_to_string(p_spaces, ','), true);
  RETURN QUERY
  -- By the index of each app: a person's rows are found by app and time.
  WITH RECURSIVE own_apps AS (
    (SELECT c.app_id FROM mana_ai.log_rows AS c WHERE c.user_id = p_user ORDER BY c.app_id LIMIT 1)
    UNION ALL
    SELECT (SELECT c.app_id FROM mana_ai.log_rows AS c WHERE c.user_id = p_user AND c.app_id > a.app_id ORDER BY c.app_id LIMIT 1)
      FROM own_apps AS a WHERE a.app_id IS NOT NULL),
  shared_apps AS (
    (SELECT s.space, c.app_id FROM unnest(p_spaces) AS s (space) CROSS JOIN LATERAL (
       SELECT c.app_id FROM mana_ai.log_rows AS c
        WHERE c.space_id = s.space AND c.space_id IS NOT NULL AND NOT starts_with(c.space_id, '_personal:')
        ORDER BY c.app_id LIMIT 1) AS c)
    UNION ALL
    SELECT a.space, (SELECT c.app_id FROM mana_ai.log_rows AS c
                      WHERE c.space_id = a.space AND c.space_id IS NOT NULL AND NOT starts_with(c.space_id, '_personal:')
                        AND c.app_id > a.app_id ORDER BY c.app_id LIMIT 1)
      FROM shared_apps AS a WHERE a.app_id IS NOT NULL)
  SELECT c.app_id, c.table_name, c.client_id FROM own_apps AS a JOIN mana_ai.log_rows AS c
      ON c.user_id = p_user AND c.app_id = a.app_id AND c.created_at > p_since AND c.created_at <= p_until
  UNION
  SELECT c.app_id, c.table_name, NULL FROM shared_apps AS a JOIN mana_ai.log_rows AS c
      ON c.space_id = a.space AND c.space_id IS NOT NULL AND NOT starts_with(c.space_id, '_personal:') AND c.app_id = a.app_id
     AND c.user_id <> p_user AND c.created_at > p_since AND c.created_at <= p_until
  UNION
  SELECT c.app_id, c.table_name, CASE WHEN c.user_id = p_user THEN c.client_id END
    FROM mana_ai.sync_late AS l JOIN mana_ai.log_rows AS c ON c.id = l.change_id
   WHERE l.feed = ANY (mana_ai.sync_feeds_of(p_user, p_spaces)) AND l.position > p_since AND l.position <= p_until
     AND (c.user_id = p_user OR mana_ai.is_shared(c.space_id) AND c.space_id = ANY (p_spaces));
END $$;

ALTER FUNCTION mana_ai.sync_touched(p_user text, p_spaces text[], p_since timestamp with time zone, p_until timestamp with time zone, OUT app_id text, OUT table_name text, OUT client text) OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.sync_touched(p_user text, p_spaces text[], p_since timestamp with time zone, p_until timestamp with time zone, OUT app_id text, OUT table_name text, OUT client text) IS 'In which tables a person has something new between two published positions, and which of their clients wrote it (null: somebody
else), for notices by the gateway.';

CREATE FUNCTION mana_ai.sync_watch(p_feeds text[], OUT feed text, OUT until timestamp with time zone, OUT is_noted boolean) RETURNS SETOF record
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  SELECT w.feed, f.until, EXISTS (SELECT FROM mana_ai.sync_pending AS p WHERE p.feed = w.feed)
    FROM unnest(p_feeds) AS w (feed) LEFT JOIN mana_ai.sync_feeds AS f ON f.feed = w.feed
$$;

ALTER FUNCTION mana_ai.sync_watch(p_feeds text[], OUT feed text, OUT until timestamp with time zone, OUT is_noted boolean) OWNER TO mana_router;

COMMENT ON FUNCTION mana_ai.sync_watch(p_feeds text[], OUT feed text, OUT until timestamp with time zone, OUT is_noted boolean) IS 'How far these feeds are published, and whether there is more to publish, for the gateway: what it asks every second while
devices listen, for all of them at once.';

CREATE FUNCTION mana_ai.take_changes(p_lo integer, p_hi integer, p_users text[], p_tables text[], p_records text[], p_shared boolean[], p_seqs bigint[], p_bytes bigint) RETURNS TABLE(owner_id text, change_id uuid, table_name text, record_id text, op text, data jsonb, field_meta jsonb, created_at timestamp with time zone, space_id text, left_out bigint)
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    BEGIN ATOMIC
 WITH wanted AS MATERIALIZED (
          SELECT k.owner_id,
             k.table_name,
             k.record_id,
             k.is_shared
            FROM UNNEST(take_changes.p_users, take_changes.p_tables, take_changes.p_records, take_changes.p_shared) k(owner_id, table_name, record_id, is_shared)
         ), near AS MATERIALIZED (
          SELECT n.seq,
             n.change_id,
             n.user_id,
             n.table_name,
             n.record_id
            FROM (( SELECT DISTINCT w.record_id
                    FROM wanted w) d
              CROSS JOIN LATERAL ( SELECT f.seq,
                     f.change_id,
                     f.user_id,
                     f.table_name,
                     f.record_id
                    FROM mana_ai.change_feed f
                   WHERE ((f.record_id = d.record_id) AND (f.bucket >= take_changes.p_lo) AND (f.bucket < take_changes.p_hi) AND ((take_changes.p_seqs IS NULL) OR (f.seq = ANY (take_changes.p_seqs))))
                  OFFSET 0) n)
         ), waiting AS MATERIALIZED (
          SELECT n.seq,
             n.change_id
            FROM (near n
              JOIN wanted w ON (((w.owner_id = n.user_id) AND (w.table_name = n.table_name) AND (w.record_id = n.record_id))))
         UNION
          SELECT n.seq,
             n.change_id
            FROM (near n
              JOIN wanted w ON ((w.is_shared AND ((w.table_name = n.table_name) AND (w.record_id = n.record_id)))))
         ), owned AS (
          SELECT f.seq,
             c.id,
             c.app_id,
             c.table_name,
             c.record_id,
             c.user_id,
             c.op,
             c.data,
             c.field_meta,
             c.client_id,
             c.created_at,
             c.schema_version,
             c.actor,
             c.origin,
             c.space_id,
                 CASE
                     WHEN ((c.op = 'insert'::text) OR (NOT mana_ai.is_shared(c.space_id))) THEN c.user_id
                     ELSE mana_ai.owner_of(c.user_id, c.table_name, c.record_id, c.space_id)
                 END AS owner_id
            FROM (waiting f
              JOIN mana_ai.router_log c ON ((c.id = f.change_id)))
         ), sized AS MATERIALIZED (
          SELECT o.seq,
             o.id,
             o.app_id,
             o.table_name,
             o.record_id,
             o.user_id,
             o.op,
             o.data,
             o.field_meta,
             o.client_id,
             o.created_at,
             o.schema_version,
             o.actor,
             o.origin,
             o.space_id,
             o.owner_id,
             (COALESCE(sum(((COALESCE(pg_column_size(o.data), 0))::bigint *
                 CASE
                     WHEN (pg_column_compression(o.data) IS NULL) THEN 1
                     ELSE 100
                 END)) OVER (ORDER BY o.seq ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), (0)::numeric) < (take_changes.p_bytes)::numeric) AS fits
            FROM owned o
           WHERE ((o.owner_id, o.table_name, o.record_id) IN ( SELECT w.owner_id,
                     w.table_name,
                     w.record_id
                    FROM wanted w))
         ), taken AS (
          DELETE FROM mana_ai.change_feed f
            USING sized s_1
           WHERE ((f.seq = s_1.seq) AND s_1.fits)
         )
  SELECT s.owner_id,
     s.id,
     s.table_name,
     s.record_id,
     s.op,
     s.data,
     s.field_meta,
     s.created_at,
     s.space_id,
     ( SELECT count(*) AS count
            FROM sized o
           WHERE (NOT o.fits)) AS count
    FROM sized s
   WHERE s.fits
   ORDER BY s.created_at, s.id;
END;

ALTER FUNCTION mana_ai.take_changes(p_lo integer, p_hi integer, p_users text[], p_tables text[], p_records text[], p_shared boolean[], p_seqs bigint[], p_bytes bigint) OWNER TO mana_router;

COMMENT ON FUNCTION mana_ai.take_changes(p_lo integer, p_hi integer, p_users text[], p_tables text[], p_records text[], p_shared boolean[], p_seqs bigint[], p_bytes bigint) IS 'Takes all that the feed holds of these records, in fold order; deleting is what consumes. Their snapshots have to be
locked before. p_seqs: these rows alone, null: all. p_shared: whether rows of members may belong to a record. Bounded by
estimated uncompressed bytes, at least one row; left_out says how many rows stay for that.';

CREATE TABLE mana_ai.copy_requests (
    user_id text NOT NULL,
    mission_id text NOT NULL,
    asked_at timestamp with time zone NOT NULL,
    due_at timestamp with time zone,
    for_grant text NOT NULL,
    taken uuid,
    taken_at timestamp with time zone,
    tries integer DEFAULT 0 NOT NULL,
    answer text,
    answered_at timestamp with time zone,
    CONSTRAINT copy_requests_answer CHECK ((answer = ANY (ARRAY['made'::text, 'current'::text, 'no-grant'::text, 'grant-refused'::text, 'grant-outdated'::text, 'zero-knowledge'::text, 'no-vault'::text, 'not-opened'::text, 'too-large'::text, 'failed'::text])))
);

ALTER TABLE ONLY mana_ai.copy_requests FORCE ROW LEVEL SECURITY;

ALTER TABLE mana_ai.copy_requests OWNER TO mana_owner;

CREATE FUNCTION mana_ai.take_copy_requests(p_limit integer, p_lease_s integer) RETURNS TABLE(user_id text, mission_id text, taken uuid)
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    BEGIN ATOMIC
 WITH oldest AS MATERIALIZED (
          SELECT d.user_id,
             d.mission_id,
             d.due_at,
             row_number() OVER (PARTITION BY d.user_id ORDER BY d.due_at, d.mission_id) AS turn
            FROM ( SELECT q_1.user_id,
                     q_1.mission_id,
                     q_1.due_at
                    FROM mana_ai.copy_requests q_1
                   WHERE (q_1.due_at <= ( SELECT clock_timestamp() AS clock_timestamp))
                   ORDER BY q_1.due_at
                  LIMIT 1000) d
         ), mine AS MATERIALIZED (
          SELECT q_1.user_id,
             q_1.mission_id
            FROM (mana_ai.copy_requests q_1
              JOIN oldest o ON (((o.user_id = q_1.user_id) AND (o.mission_id = q_1.mission_id))))
           WHERE (q_1.due_at <= ( SELECT clock_timestamp() AS clock_timestamp))
           ORDER BY o.turn, o.due_at, q_1.user_id
          LIMIT take_copy_requests.p_limit
          FOR UPDATE OF q_1 SKIP LOCKED
         )
  UPDATE mana_ai.copy_requests q SET taken = gen_random_uuid(), taken_at = clock_timestamp(), tries = (q.tries + 1), due_at = (clock_timestamp() + ((LEAST((take_copy_requests.p_lease_s * (1 << LEAST(q.tries, 10))), 3600))::double precision * '00:00:01'::interval))
    FROM mine
   WHERE ((q.user_id = mine.user_id) AND (q.mission_id = mine.mission_id))
   RETURNING q.user_id,
     q.mission_id,
     q.taken;
END;

ALTER FUNCTION mana_ai.take_copy_requests(p_limit integer, p_lease_s integer) OWNER TO mana_router;

COMMENT ON FUNCTION mana_ai.take_copy_requests(p_limit integer, p_lease_s integer) IS 'Takes the oldest requests for copies, one of each person before anybody''s second, for as long as a lease. One that
nobody answers comes back after its lease, each time later. It returns ids only.';

CREATE FUNCTION mana_ai.take_run(p_capability text, p_claim uuid, p_mission text, p_due timestamp with time zone, p_lease_ms integer, p_holder text, p_pinned jsonb, p_mission_version bigint, p_agent_version bigint, p_time_zone text, OUT outcome text, OUT run_id uuid, OUT attempt integer, OUT due_at timestamp with time zone, OUT look_at timestamp with time zone, OUT pinned jsonb, OUT failures integer, OUT lost integer, OUT requested boolean, OUT mission_version bigint, OUT agent_version bigint, OUT time_zone text) RETURNS record
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
  held jsonb := mana_ai.require_capability(p_capability);
  u text := held ->> 'u';
  a text := held ->> 'a';
  until timestamptz;
  mission mana_ai.mission_snapshots;
  agent mana_ai.agent_snapshots;
  live mana_ai.runs;
  slot mana_ai.runs;
  is_request boolean;
BEGIN
  PERFORM mana_ai.lock_ledger(u, a);
  PERFORM FROM mana_ai.runs AS r WHERE r.user_id = u AND r.mission_id = p_mission
      AND (r.state IN ('open', 'waiting') OR r.due_at = p_due) ORDER BY r.run_id FOR UPDATE;
  SELECT * INTO mission FROM mana_ai.mission_snapshots AS s WHERE s.user_id = u AND s.mission_id = p_mission FOR UPDATE;
  SELECT * INTO agent FROM mana_ai.agent_snapshots AS s WHERE s.user_id = u AND s.agent_id = a;
  SELECT * INTO live FROM mana_ai.runs AS r WHERE r.user_id = u AND r.mission_id = p_mission AND r.state IN ('open', 'waiting');
  mission_version := mission.version;
  agent_version := coalesce(agent.version, 0);
  time_zone := coalesce((SELECT z.time_zone FROM mana_ai.user_settings AS z WHERE z.user_id = u), '');
  until := clock_timestamp() + least(p_lease_ms, 3600000) * interval '1 ms';
  due_at := p_due;
  IF live.state = 'open' AND live.claim_id = p_claim AND live.holder = p_holder AND live.agent_id = a THEN
    -- Asked again, because the answer to the first asking was lost.
    UPDATE mana_ai.runs AS r SET lease_until = until WHERE r.run_id = live.run_id
    RETURNING r.run_id, r.attempt, r.due_at, r.lease_until, r.pinned, r.failures, r.lost, r.requested
         INTO take_run.run_id, take_run.attempt, take_run.due_at, take_run.look_at, take_run.pinned, take_run.failures, take_run.lost,
              take_run.requested;
    UPDATE mana_ai.mission_snapshots AS s SET wake_at = until WHERE s.user_id = u AND s.mission_id = p_mission;
    outcome := 'claimed'; RETURN;
  END IF;
  IF mission.mission_id IS NULL OR mission.agent_id <> a OR mission.hidden OR NOT mission.complete OR mission.state <> 'active' THEN
    outcome := 'unwanted'; RETURN;
  END IF;
  IF mana_ai.is_shared(mission.space_id) AND NOT mana_ai.may_share(u, mission.space_id) THEN
    outcome := 'stale'; RETURN;  -- they left the space since it was ordered; a new look says so
  END IF;
  IF p_mission_version <> take_run.mission_version OR p_agent_version <> take_run.agent_version OR p_time_zone <> take_run.time_zone THEN
    outcome := 'changed'; RETURN;
  END IF;
  IF live.run_id IS NOT NULL THEN
    IF live.state = 'open' AND live.lease_until > clock_timestamp() THEN
      outcome := 'held'; look_at := live.lease_until; RETURN;
    END IF;
    IF live.due_at = mission.next_run_at OR EXISTS (SELECT FROM mana_ai.run_requests AS q WHERE q.user_id = u
         AND q.mission_id = p_mission AND q.due_at = live.due_at AND q.closed_at IS NULL) THEN
      due_at := live.due_at;  -- one live run per mission: finish that occurrence first
      IF live.state = 'waiting' AND live.not_before > clock_timestamp() THEN
        outcome := 'waiting'; look_at := live.not_before; RETURN;
      END IF;
    ELSE
      UPDATE mana_ai.runs AS r SET state = 'withdrawn', reason = 'the owner moved the next run', closed_at = clock_timestamp()
       WHERE r.run_id = live.run_id;
      DELETE FROM mana_ai.journal AS j WHERE j.run_id = live.run_id;
      PERFORM mana_ai.note_decision(u, p_mission, live.agent_id, live.due_at, 'withdrawn', 'the owner moved the next run');
      live := NULL;
    END IF;
  END IF;
  is_request := EXISTS (SELECT FROM mana_ai.run_requests AS q WHERE q.user_id = u AND q.mission_id = p_mission
                           AND q.due_at = take_run.due_at AND q.closed_at IS NULL);
  IF NOT is_request AND take_run.due_at IS DISTINCT FROM mission.next_run_at THEN
    outcome := 'stale'; RETURN;
  END IF;
  IF take_run.due_at > clock_timestamp() THEN
    outcome := 'early'; look_at := take_run.due_at; RETURN;
  END IF;
  SELECT * INTO slot FROM mana_ai.runs AS r WHERE r.user_id = u AND r.mission_id = p_mission AND r.due_at = take_run.due_at;
  IF slot.state IN ('committed', 'failed') OR slot.cancelled_at IS NOT NULL THEN
    outcome := 'served'; RETURN;
  END IF;
  IF (SELECT count(*) FROM mana_ai.runs AS r WHERE r.user_id = u AND r.agent_id = a AND r.state = 'open'
         AND r.lease_until > clock_timestamp() AND r.mission_id <> p_mission) >= coalesce(agent.max_concurrent, 1) THEN
    outcome := 'concurrency'; RETURN;
  END IF;
  INSERT INTO mana_ai.runs AS r (user_id, agent_id, mission_id, due_at, state, requested, holder, lease_until, pinned, claim_id)
  VALUES (u, a, p_mission, take_run.due_at, 'open', is_request, p_holder, until, p_pinned, p_claim)
  ON CONFLICT ON CONSTRAINT runs_one_per_occurrence DO UPDATE
     SET state = 'open', agent_id = a, attempt = r.attempt + 1, lost = r.lost + (r.state = 'open')::int, holder = excluded.holder,
         lease_until = excluded.lease_until, pinned = coalesce(r.pinned, excluded.pinned), claim_id = excluded.claim_id,
         claimed_at = clock_timestamp(), closed_at = NULL, not_before = NULL, waiting_for = NULL, reason = NULL
  RETURNING r.run_id, r.attempt, r.lease_until, r.pinned, r.failures, r.lost, r.requested
       INTO take_run.run_id, take_run.attempt, take_run.look_at, take_run.pinned, take_run.failures, take_run.lost, take_run.requested;
  UPDATE mana_ai.mission_snapshots AS s SET wake_at = take_run.look_at WHERE s.user_id = u AND s.mission_id = p_mission;
  outcome := 'claimed';
END $$;

ALTER FUNCTION mana_ai.take_run(p_capability text, p_claim uuid, p_mission text, p_due timestamp with time zone, p_lease_ms integer, p_holder text, p_pinned jsonb, p_mission_version bigint, p_agent_version bigint, p_time_zone text, OUT outcome text, OUT run_id uuid, OUT attempt integer, OUT due_at timestamp with time zone, OUT look_at timestamp with time zone, OUT pinned jsonb, OUT failures integer, OUT lost integer, OUT requested boolean, OUT mission_version bigint, OUT agent_version bigint, OUT time_zone text) OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.take_run(p_capability text, p_claim uuid, p_mission text, p_due timestamp with time zone, p_lease_ms integer, p_holder text, p_pinned jsonb, p_mission_version bigint, p_agent_version bigint, p_time_zone text, OUT outcome text, OUT run_id uuid, OUT attempt integer, OUT due_at timestamp with time zone, OUT look_at timestamp with time zone, OUT pinned jsonb, OUT failures integer, OUT lost integer, OUT requested boolean, OUT mission_version bigint, OUT agent_version bigint, OUT time_zone text) IS 'Takes an occurrence of a mission for one attempt, with a lease; called by claim(), for which it presents the capability.
The ledger lock makes concurrent claims of an agent take turns, so its limit of runs holds. A live run of the mission is
finished first: its lease must be over, and it becomes the next attempt of the same row. Asked again with the same p_claim
by the same holder, it returns the same attempt. Outcome ''claimed'', or why not: ''unwanted'', ''changed'' (it was decided
by another version of mission or agent, or another zone; null is not compared), ''held'', ''waiting'', ''stale'',
''early'', ''served'', ''concurrency''; look_at says when to ask again.';

CREATE FUNCTION mana_ai.take_shard(p_shard text, p_lo integer, p_hi integer, p_holder text) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
  taken bigint;
BEGIN
  INSERT INTO mana_ai.shards AS s (shard, buckets, epoch, holder) VALUES (p_shard, int4range(p_lo, p_hi), 1, p_holder)
  ON CONFLICT (shard) DO UPDATE SET epoch = s.epoch + 1, holder = excluded.holder, buckets = excluded.buckets,
         reconcile_after = CASE WHEN s.buckets = excluded.buckets THEN s.reconcile_after END,
         taken_at = clock_timestamp(), heartbeat_at = clock_timestamp()
  RETURNING epoch INTO taken;
  PERFORM setval('mana_ai.snapshot_version',
                 greatest(v.last_value, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint) + 1000000)
     FROM mana_ai.snapshot_version AS v;
  RETURN taken;
END $$;

ALTER FUNCTION mana_ai.take_shard(p_shard text, p_lo integer, p_hi integer, p_holder text) OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.take_shard(p_shard text, p_lo integer, p_hi integer, p_holder text) IS 'Makes a supervisor the one of buckets [p_lo, p_hi): the newest wins, the one before finds its epoch gone and stands down. A
sweep under way goes on where it stood, unless the buckets are others: it compared none of those. Versions go on past the
clock in microseconds, so that a restored database repeats none that an agent has heard of; a second ahead, so that no
other shard''s version can come between.';

CREATE FUNCTION mana_ai.unbase64url(p_text text) RETURNS bytea
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN decode((replace(replace(p_text, '-'::text, '+'::text), '_'::text, '/'::text) || repeat('='::text, ((4 - (octet_length(p_text) % 4)) % 4))), 'base64'::text);

ALTER FUNCTION mana_ai.unbase64url(p_text text) OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.unbase64url(p_text text) IS 'Bytes from base64url without padding. It uses replace(), which on hundreds of kilobytes is several times faster than
translate().';

CREATE FUNCTION mana_ai.used_up(p_user text, p_agent text, p_scopes text[]) RETURNS TABLE(scope text, unit text, back_at timestamp with time zone)
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
  RETURN QUERY
    SELECT b.scope, x.unit,
           mana_ai.room_at(b.scope, p_user, p_agent, clock_timestamp() - interval '24 hours', x.unit, x.used - x.cap + 1)
      FROM mana_ai.budgets_of(p_user, p_agent, p_scopes) AS b
     CROSS JOIN LATERAL (VALUES ('tokens', b.cap, b.used), ('money', b.micros_cap, b.micros_used)) AS x (unit, cap, used)
     WHERE x.used >= x.cap AND (x.unit = 'tokens' OR x.used > 0)
     ORDER BY array_position(ARRAY['agent', 'user', 'installation'], b.scope), x.unit DESC LIMIT 1;
END $$;

ALTER FUNCTION mana_ai.used_up(p_user text, p_agent text, p_scopes text[]) OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.used_up(p_user text, p_agent text, p_scopes text[]) IS 'The first scope with nothing left at all; no row where each has something.';

CREATE FUNCTION mana_ai.wait_for_room(p_capability text, p_run uuid, p_attempt integer, p_call text, p_note text, p_reason text, p_hold bigint, p_micros bigint, OUT outcome text, OUT charged bigint, OUT look_at timestamp with time zone, OUT is_news boolean, OUT now timestamp with time zone) RETURNS record
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
  settled record := mana_ai.settled_run(p_capability, p_run, p_attempt, p_call);
  run mana_ai.runs := (SELECT r FROM mana_ai.runs AS r WHERE r.run_id = settled.run_id);
  no record;
BEGIN
  charged := settled.charged;
  IF settled.is_open THEN
    BEGIN
      PERFORM mana_ai.note_plan(p_run, p_note::jsonb);
      SELECT * INTO no FROM mana_ai.refusal(run.user_id, run.agent_id, ARRAY['agent', 'user', 'installation'], p_hold, p_micros);
      look_at := CASE WHEN no.scope IS NULL THEN clock_timestamp()  -- there is room by now
                      WHEN no.until = 'holds' THEN clock_timestamp() + interval '5 seconds'
                      WHEN no.until = 'window' THEN greatest(no.back_at, clock_timestamp() + interval '1 second') END;
      UPDATE mana_ai.runs AS r SET state = 'waiting', not_before = NULL, lease_until = NULL, reason = p_reason,
             waiting_for = CASE no.until WHEN 'holds' THEN 'holds' ELSE 'budget' END WHERE r.run_id = p_run;
      UPDATE mana_ai.mission_snapshots AS s SET wake_at = wait_for_room.look_at
       WHERE s.user_id = run.user_id AND s.mission_id = run.mission_id;
      is_news := mana_ai.note_if_new(run.user_id, run.mission_id, run.agent_id, run.due_at, 'skipped-budget', p_reason);
      PERFORM mana_ai.wake_next(run.user_id, run.agent_id, run.mission_id);
      outcome := 'done';
    EXCEPTION WHEN data_exception OR integrity_constraint_violation OR program_limit_exceeded THEN
      outcome := 'refused';
    END;
  ELSIF run.attempt = p_attempt AND run.state = 'waiting' AND run.reason = p_reason THEN
    is_news := mana_ai.was_told(run, 'skipped-budget');
    outcome := 'landed';
  ELSE
    outcome := 'superseded';
  END IF;
  now := clock_timestamp();
END $$;

ALTER FUNCTION mana_ai.wait_for_room(p_capability text, p_run uuid, p_attempt integer, p_call text, p_note text, p_reason text, p_hold bigint, p_micros bigint, OUT outcome text, OUT charged bigint, OUT look_at timestamp with time zone, OUT is_news boolean, OUT now timestamp with time zone) OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.wait_for_room(p_capability text, p_run uuid, p_attempt integer, p_call text, p_note text, p_reason text, p_hold bigint, p_micros bigint, OUT outcome text, OUT charged bigint, OUT look_at timestamp with time zone, OUT is_news boolean, OUT now timestamp with time zone) IS 'Gives the place back until a hold of this size may fit: when the window says, soon after holds, or when a cap changes.
It writes the mission''s row before it reads the caps again: a fold that changed them was either seen, or comes after
and wakes the mission itself. The run gets no not_before; wake_at alone says when. Its owner is told here and not by
whoever hears of it, since the process may die before anybody does; is_news: that differs from what was said last.
Outcomes as of withdraw_run.';

CREATE FUNCTION mana_ai.wait_run(p_capability text, p_run uuid, p_attempt integer, p_call text, p_note text, p_reason text, p_wait_s double precision, p_for text, p_failed boolean, OUT outcome text, OUT charged bigint, OUT look_at timestamp with time zone, OUT is_news boolean, OUT now timestamp with time zone) RETURNS record
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
  settled record := mana_ai.settled_run(p_capability, p_run, p_attempt, p_call);
  run mana_ai.runs := (SELECT r FROM mana_ai.runs AS r WHERE r.run_id = settled.run_id);
BEGIN
  charged := settled.charged;
  is_news := true;
  IF settled.is_open THEN
    BEGIN
      look_at := clock_timestamp() + p_wait_s * interval '1 second';
      PERFORM mana_ai.note_plan(p_run, p_note::jsonb);
      UPDATE mana_ai.runs AS r SET state = 'waiting', not_before = wait_run.look_at, waiting_for = p_for, reason = p_reason,
             lease_until = NULL, failures = r.failures + p_failed::int WHERE r.run_id = p_run;
      UPDATE mana_ai.mission_snapshots AS s SET wake_at = wait_run.look_at
       WHERE s.user_id = run.user_id AND s.mission_id = run.mission_id;
      PERFORM mana_ai.wake_next(run.user_id, run.agent_id, run.mission_id);
      outcome := 'done';
    EXCEPTION WHEN data_exception OR integrity_constraint_violation OR program_limit_exceeded THEN
      outcome := 'refused';
    END;
  ELSIF run.attempt = p_attempt AND run.state = 'waiting' AND run.reason = p_reason THEN
    look_at := run.not_before;
    outcome := 'landed';
  ELSE
    outcome := 'superseded';
  END IF;
  now := clock_timestamp();
END $$;

ALTER FUNCTION mana_ai.wait_run(p_capability text, p_run uuid, p_attempt integer, p_call text, p_note text, p_reason text, p_wait_s double precision, p_for text, p_failed boolean, OUT outcome text, OUT charged bigint, OUT look_at timestamp with time zone, OUT is_news boolean, OUT now timestamp with time zone) OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.wait_run(p_capability text, p_run uuid, p_attempt integer, p_call text, p_note text, p_reason text, p_wait_s double precision, p_for text, p_failed boolean, OUT outcome text, OUT charged bigint, OUT look_at timestamp with time zone, OUT is_news boolean, OUT now timestamp with time zone) IS 'Gives the place back and comes again at look_at: after a back-off, or for research. Its answer is settled first and stays
in the journal. Outcomes as of withdraw_run.';

CREATE FUNCTION mana_ai.waiting_records(p_lo integer, p_hi integer, p_floor bigint, p_limit integer) RETURNS TABLE(seq bigint, owner_id text, table_name text, record_id text, is_shared boolean)
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    BEGIN ATOMIC
 WITH head AS MATERIALIZED (
          SELECT f.seq,
             f.change_id
            FROM mana_ai.change_feed f
           WHERE ((f.seq > waiting_records.p_floor) AND (f.bucket >= waiting_records.p_lo) AND (f.bucket < waiting_records.p_hi))
           ORDER BY f.seq
          LIMIT waiting_records.p_limit
         ), owned AS (
          SELECT h.seq,
             c.id,
             c.user_id,
             c.table_name,
             c.record_id,
             c.op,
             c.space_id,
             mana_ai.is_shared(c.space_id) AS is_shared,
                 CASE
                     WHEN ((c.op = 'insert'::text) OR (NOT mana_ai.is_shared(c.space_id))) THEN c.user_id
                     ELSE mana_ai.owner_of(c.user_id, c.table_name, c.record_id, c.space_id)
                 END AS owner_id
            FROM (head h
              LEFT JOIN mana_ai.router_log c ON ((c.id = h.change_id)))
         ), placed AS MATERIALIZED (
          SELECT o.seq,
             o.id,
             o.user_id,
             o.table_name,
             o.record_id,
             o.op,
             o.space_id,
             o.is_shared,
             o.owner_id,
             ((o.id IS NOT NULL) AND ((o.op = 'insert'::text) OR (NOT o.is_shared) OR ((mana_ai.bucket_of(o.owner_id) >= waiting_records.p_lo) AND (mana_ai.bucket_of(o.owner_id) < waiting_records.p_hi)))) AS is_here
            FROM owned o
         ), left_behind AS (
          DELETE FROM mana_ai.change_feed f
            USING placed p_1
           WHERE ((f.seq = p_1.seq) AND (NOT p_1.is_here))
         ), handed_on AS (
          INSERT INTO mana_ai.change_feed (bucket, change_id, user_id, table_name, record_id, space_id)  SELECT mana_ai.bucket_of(p_1.owner_id) AS bucket_of,
                     p_1.id,
                     p_1.user_id,
                     p_1.table_name,
                     p_1.record_id,
                     p_1.space_id
                    FROM placed p_1
                   WHERE ((p_1.id IS NOT NULL) AND (NOT p_1.is_here))
         )
  SELECT p.seq,
         CASE
             WHEN p.is_here THEN p.owner_id
             ELSE NULL::text
         END AS "case",
     p.table_name,
     p.record_id,
     p.is_shared
    FROM placed p
   ORDER BY p.seq;
END;

ALTER FUNCTION mana_ai.waiting_records(p_lo integer, p_hi integer, p_floor bigint, p_limit integer) OWNER TO mana_router;

COMMENT ON FUNCTION mana_ai.waiting_records(p_lo integer, p_hi integer, p_floor bigint, p_limit integer) IS 'Whose records the next p_limit rows of the feed after p_floor change, in buckets [p_lo, p_hi): their snapshots are locked
before take_changes takes the rows. A member''s row of a shared space whose owner lives in another shard''s bucket is
handed on to that bucket, and an entry without its row is dropped; both return no owner.';

CREATE FUNCTION mana_ai.wake_for_room(p_user text, p_agent text) RETURNS void
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    BEGIN ATOMIC
 UPDATE mana_ai.mission_snapshots SET wake_at = clock_timestamp()
   WHERE ((mission_snapshots.user_id = wake_for_room.p_user) AND (mission_snapshots.mission_id = ( SELECT s.mission_id
            FROM (mana_ai.runs r
              JOIN mana_ai.mission_snapshots s ON (((s.user_id = r.user_id) AND (s.mission_id = r.mission_id))))
           WHERE ((r.user_id = wake_for_room.p_user) AND (r.agent_id = wake_for_room.p_agent) AND (r.state = 'waiting'::text) AND (r.waiting_for = 'holds'::text) AND (s.wake_at > clock_timestamp()))
           ORDER BY r.due_at, r.mission_id
          LIMIT 1
          FOR UPDATE OF s SKIP LOCKED)));
END;

ALTER FUNCTION mana_ai.wake_for_room(p_user text, p_agent text) OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.wake_for_room(p_user text, p_agent text) IS 'Looks again at the oldest mission of the agent that waits for nothing but holds to be settled, and that nobody holds.';

CREATE FUNCTION mana_ai.wake_next(p_user text, p_agent text, p_mission text) RETURNS void
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    BEGIN ATOMIC
 UPDATE mana_ai.mission_snapshots SET wake_at = clock_timestamp()
   WHERE ((mission_snapshots.user_id = wake_next.p_user) AND (mission_snapshots.mission_id = ( SELECT s.mission_id
            FROM mana_ai.mission_snapshots s
           WHERE ((s.user_id = wake_next.p_user) AND (s.agent_id = wake_next.p_agent) AND (s.mission_id <> wake_next.p_mission) AND (s.decision = 'skipped-concurrency'::text) AND (s.wake_at > clock_timestamp()) AND (NOT (EXISTS ( SELECT
                    FROM mana_ai.runs r
                   WHERE ((r.user_id = wake_next.p_user) AND (r.mission_id = s.mission_id) AND ((r.state = 'open'::text) OR ((r.state = 'waiting'::text) AND (r.not_before > clock_timestamp()))))))))
           ORDER BY s.next_run_at NULLS FIRST, s.mission_id
          LIMIT 1
          FOR UPDATE OF s SKIP LOCKED)));
END;

ALTER FUNCTION mana_ai.wake_next(p_user text, p_agent text, p_mission text) OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.wake_next(p_user text, p_agent text, p_mission text) IS 'Looks again at the oldest mission of the agent that waits for a place, when p_mission gives one up. A mission that has
a place or sits out a back-off is left alone, even if it was told to wait for a place before, and so is one that somebody
holds: whoever wakes one holds its own already, and two of them would wait for each other.';

CREATE FUNCTION mana_ai.wake_space(p_user text, p_space text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
  PERFORM set_config('app.current_user_id', p_user, true);
  PERFORM FROM mana_ai.mission_snapshots AS s WHERE s.user_id = p_user AND s.space_id = p_space ORDER BY s.mission_id FOR UPDATE;
  UPDATE mana_ai.mission_snapshots AS s SET wake_at = clock_timestamp()
   WHERE s.user_id = p_user AND s.space_id = p_space AND s.state = 'active' AND s.complete AND NOT s.hidden AND s.wake_at IS NULL;
END $$;

ALTER FUNCTION mana_ai.wake_space(p_user text, p_space text) OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.wake_space(p_user text, p_space text) IS 'Looks again at the missions of somebody who shares a space again: what waited for that waits for no row.';

CREATE FUNCTION mana_ai.was_told(p_run mana_ai.runs, p_decision text) RETURNS boolean
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    BEGIN ATOMIC
 SELECT (EXISTS ( SELECT
            FROM mana_ai.decisions d
           WHERE ((d.user_id = (was_told.p_run).user_id) AND (d.mission_id = (was_told.p_run).mission_id) AND (d.decision = was_told.p_decision) AND (d.reason = (was_told.p_run).reason) AND (d.at >= (was_told.p_run).claimed_at)))) AS "exists";
END;

ALTER FUNCTION mana_ai.was_told(p_run mana_ai.runs, p_decision text) OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.was_told(p_run mana_ai.runs, p_decision text) IS 'Whether this attempt of a run noted this decision: what its lost reply would have called news.';

CREATE FUNCTION mana_ai.withdraw_run(p_capability text, p_run uuid, p_attempt integer, p_call text, p_note text, p_reason text, p_look_s double precision, OUT outcome text, OUT charged bigint, OUT look_at timestamp with time zone, OUT is_news boolean, OUT now timestamp with time zone) RETURNS record
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
  settled record := mana_ai.settled_run(p_capability, p_run, p_attempt, p_call);
  run mana_ai.runs := (SELECT r FROM mana_ai.runs AS r WHERE r.run_id = settled.run_id);
BEGIN
  charged := settled.charged;
  is_news := true;
  IF settled.is_open THEN
    BEGIN
      look_at := clock_timestamp() + p_look_s * interval '1 second';
      PERFORM mana_ai.note_plan(p_run, p_note::jsonb);
      PERFORM mana_ai.close_run(run, 'withdrawn', p_reason);
      PERFORM mana_ai.look_again(run.user_id, run.mission_id, look_at);
      PERFORM mana_ai.note_decision(run.user_id, run.mission_id, run.agent_id, run.due_at, 'withdrawn', p_reason);
      outcome := 'done';
    EXCEPTION WHEN data_exception OR integrity_constraint_violation OR program_limit_exceeded THEN
      outcome := 'refused';
    END;
  ELSIF run.attempt = p_attempt AND run.state = 'withdrawn' AND run.reason = p_reason AND run.cancelled_at IS NULL THEN
    outcome := 'landed';
  ELSE
    outcome := 'superseded';
  END IF;
  now := clock_timestamp();
END $$;

ALTER FUNCTION mana_ai.withdraw_run(p_capability text, p_run uuid, p_attempt integer, p_call text, p_note text, p_reason text, p_look_s double precision, OUT outcome text, OUT charged bigint, OUT look_at timestamp with time zone, OUT is_news boolean, OUT now timestamp with time zone) OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.withdraw_run(p_capability text, p_run uuid, p_attempt integer, p_call text, p_note text, p_reason text, p_look_s double precision, OUT outcome text, OUT charged bigint, OUT look_at timestamp with time zone, OUT is_news boolean, OUT now timestamp with time zone) IS 'Ends a run because the owner no longer wants this occurrence, or somebody else served it. Its answer is settled first.
Outcome: ''done'', ''landed'' (asked before, and the reply was lost), ''superseded'' (another attempt has it, or it is
closed), ''refused'' (a value that cannot be stored).';

CREATE FUNCTION mana_ai.withdraw_waiting(p_user text, p_run uuid, p_reason text, p_mission_version bigint, p_agent_version bigint) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
  run mana_ai.runs;
  mission mana_ai.mission_snapshots;
BEGIN
  PERFORM set_config('app.current_user_id', p_user, true);
  SELECT * INTO run FROM mana_ai.runs WHERE user_id = p_user AND run_id = p_run AND state = 'waiting' FOR UPDATE SKIP LOCKED;
  SELECT * INTO mission FROM mana_ai.mission_snapshots AS s
   WHERE s.user_id = p_user AND s.mission_id = run.mission_id AND s.version = p_mission_version FOR UPDATE SKIP LOCKED;
  IF mission.mission_id IS NULL
     OR p_agent_version IS DISTINCT FROM (SELECT s.version FROM mana_ai.agent_snapshots AS s
                                           WHERE s.user_id = p_user AND s.agent_id = mission.agent_id) THEN
    RETURN false;
  END IF;
  PERFORM mana_ai.close_run(run, 'withdrawn', p_reason);
  PERFORM mana_ai.note_decision(run.user_id, run.mission_id, run.agent_id, run.due_at, 'withdrawn', p_reason);
  RETURN true;
END $$;

ALTER FUNCTION mana_ai.withdraw_waiting(p_user text, p_run uuid, p_reason text, p_mission_version bigint, p_agent_version bigint) OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.withdraw_waiting(p_user text, p_run uuid, p_reason text, p_mission_version bigint, p_agent_version bigint) IS 'Ends a run that only waits, as soon as its owner no longer wants it; for the supervisor, which decides that and says by
which versions of mission and agent. Where those are others by now it does nothing, and so where somebody holds run or
mission: the supervisor waits for nobody, and looks again. Returns whether it ended one.';

CREATE VIEW mana_ai.log_rows AS
 SELECT id,
    app_id,
    table_name,
    record_id,
    user_id,
    op,
    data,
    field_meta,
    client_id,
    created_at,
    schema_version,
    actor,
    origin,
    space_id
   FROM public.sync_changes;

ALTER VIEW mana_ai.log_rows OWNER TO mana_owner;

CREATE FUNCTION mana_ai.write_mission(p_user text, p_mission text, p_data jsonb, p_stamp text, p_actor jsonb, p_origin text) RETURNS void
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    BEGIN ATOMIC
 INSERT INTO mana_ai.log_rows (app_id, table_name, record_id, user_id, op, data, field_meta, client_id, schema_version, actor, origin, space_id)  SELECT 'ai',
             'aiMissions',
             write_mission.p_mission AS p_mission,
             write_mission.p_user AS p_user,
             'update',
             write_mission.p_data AS p_data,
             ( SELECT jsonb_object_agg(key.key, write_mission.p_stamp) AS jsonb_object_agg
                    FROM jsonb_object_keys(write_mission.p_data) key(key)) AS jsonb_object_agg,
             'mana-ai-runner',
             1,
             write_mission.p_actor AS p_actor,
             write_mission.p_origin AS p_origin,
             COALESCE(( SELECT c.space_id
                    FROM mana_ai.log_rows c
                   WHERE ((c.user_id = write_mission.p_user) AND (c.app_id = 'ai'::text) AND (c.table_name = 'aiMissions'::text) AND (c.record_id = write_mission.p_mission) AND (c.op = 'insert'::text))
                   ORDER BY c.created_at, c.id
                  LIMIT 1), ( SELECT s.space_id
                    FROM mana_ai.mission_snapshots s
                   WHERE ((s.user_id = write_mission.p_user) AND (s.mission_id = write_mission.p_mission)))) AS "coalesce";
END;

ALTER FUNCTION mana_ai.write_mission(p_user text, p_mission text, p_data jsonb, p_stamp text, p_actor jsonb, p_origin text) OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.write_mission(p_user text, p_mission text, p_data jsonb, p_stamp text, p_actor jsonb, p_origin text) IS 'Writes one row of a mission into the log, as the sync service would. Its space is that of the mission''s insert.';

CREATE FUNCTION mana_ai.write_state(p_user text, p_table text, p_record text, p_state text, p_stamp text, p_actor jsonb) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
  IF p_table NOT IN ('agents', 'aiMissions') OR p_state NOT IN ('active', 'paused') OR p_actor ->> 'kind' IS DISTINCT FROM 'system' THEN
    RAISE EXCEPTION 'write_state: not a pause or its end' USING ERRCODE = 'check_violation';
  END IF;
  PERFORM set_config('app.current_user_id', p_user, true);
  INSERT INTO mana_ai.log_rows (app_id, table_name, record_id, user_id, op, data, field_meta, client_id, schema_version, actor, origin, space_id)
  SELECT 'ai', p_table, p_record, p_user, 'update', jsonb_build_object('state', p_state), jsonb_build_object('state', p_stamp),
         'mana-ai-runner', 1, p_actor, 'system',
         coalesce((SELECT c.space_id FROM mana_ai.log_rows AS c WHERE c.user_id = p_user AND c.app_id = 'ai' AND c.table_name = p_table
                      AND c.record_id = p_record AND c.op = 'insert' ORDER BY c.created_at, c.id LIMIT 1),
                  (SELECT s.space_id FROM mana_ai.mission_snapshots AS s
                    WHERE p_table = 'aiMissions' AND s.user_id = p_user AND s.mission_id = p_record),
                  (SELECT s.space_id FROM mana_ai.agent_snapshots AS s
                    WHERE p_table = 'agents' AND s.user_id = p_user AND s.agent_id = p_record));
END $$;

ALTER FUNCTION mana_ai.write_state(p_user text, p_table text, p_record text, p_state text, p_stamp text, p_actor jsonb) OWNER TO mana_owner;

COMMENT ON FUNCTION mana_ai.write_state(p_user text, p_table text, p_record text, p_state text, p_stamp text, p_actor jsonb) IS 'Writes one row into the owner''s log that sets a record''s state to active or paused, in the record''s space; for the
gateway.';

CREATE TABLE auth.encryption_vault_audit (
    id text NOT NULL,
    user_id text NOT NULL,
    action text NOT NULL,
    ip_address text,
    user_agent text,
    context text,
    status integer NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT encryption_vault_audit_action CHECK ((action = ANY (ARRAY['init'::text, 'fetch'::text, 'rotate'::text, 'failed_fetch'::text, 'recovery_set'::text, 'recovery_clear'::text, 'zk_enable'::text, 'zk_disable'::text])))
);

ALTER TABLE ONLY auth.encryption_vault_audit FORCE ROW LEVEL SECURITY;

ALTER TABLE auth.encryption_vault_audit OWNER TO mana_owner;

CREATE TABLE auth.encryption_vaults (
    user_id text NOT NULL,
    wrapped_mk text,
    wrap_iv text,
    format_version integer DEFAULT 1 NOT NULL,
    kek_id text DEFAULT 'env-v1'::text NOT NULL,
    recovery_wrapped_mk text,
    recovery_iv text,
    recovery_format_version integer,
    recovery_set_at timestamp with time zone,
    zero_knowledge boolean DEFAULT false NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    rotated_at timestamp with time zone,
    CONSTRAINT encryption_vaults_has_wrap CHECK (((wrapped_mk IS NOT NULL) OR (recovery_wrapped_mk IS NOT NULL))),
    CONSTRAINT encryption_vaults_wrap_iv_pair CHECK ((((wrapped_mk IS NULL) = (wrap_iv IS NULL)) AND ((recovery_wrapped_mk IS NULL) = (recovery_iv IS NULL)))),
    CONSTRAINT encryption_vaults_zk_consistency CHECK (((NOT zero_knowledge) OR ((wrapped_mk IS NULL) AND (recovery_wrapped_mk IS NOT NULL))))
);

ALTER TABLE ONLY auth.encryption_vaults FORCE ROW LEVEL SECURITY;

ALTER TABLE auth.encryption_vaults OWNER TO mana_owner;

CREATE TABLE mana_ai.budget_wakes (
    id bigint NOT NULL,
    whose text NOT NULL,
    wake_at timestamp with time zone NOT NULL
);

ALTER TABLE mana_ai.budget_wakes OWNER TO mana_owner;

ALTER TABLE mana_ai.budget_wakes ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME mana_ai.budget_wakes_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

ALTER TABLE mana_ai.change_feed ALTER COLUMN seq ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME mana_ai.change_feed_seq_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

ALTER TABLE mana_ai.decisions ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME mana_ai.decisions_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE mana_ai.decrypt_audit (
    id bigint NOT NULL,
    user_id text NOT NULL,
    mission_id text NOT NULL,
    iteration_id text,
    table_name text NOT NULL,
    record_id text NOT NULL,
    status text NOT NULL,
    reason text,
    ts timestamp with time zone DEFAULT now() NOT NULL,
    run_id uuid,
    attempt integer,
    release_id uuid,
    CONSTRAINT decrypt_audit_status_check CHECK ((status = ANY (ARRAY['ok'::text, 'failed'::text, 'scope-violation'::text])))
);

ALTER TABLE ONLY mana_ai.decrypt_audit FORCE ROW LEVEL SECURITY;

ALTER TABLE mana_ai.decrypt_audit OWNER TO mana_owner;

CREATE SEQUENCE mana_ai.decrypt_audit_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

ALTER SEQUENCE mana_ai.decrypt_audit_id_seq OWNER TO mana_owner;

ALTER SEQUENCE mana_ai.decrypt_audit_id_seq OWNED BY mana_ai.decrypt_audit.id;

CREATE VIEW mana_ai.fleet_agents AS
 SELECT user_id,
    agent_id,
    state,
    max_tokens_per_day,
    max_concurrent,
    complete,
    hidden,
    problems,
    version,
    (COALESCE(( SELECT sum(t.tokens_used) AS sum
           FROM mana_ai.token_usage t
          WHERE ((t.user_id = a.user_id) AND (t.agent_id = a.agent_id) AND (t.ts > (clock_timestamp() - '24:00:00'::interval)))), (0)::numeric))::bigint AS used_24h,
    (COALESCE(( SELECT sum(h.tokens) AS sum
           FROM mana_ai.token_holds h
          WHERE ((h.user_id = a.user_id) AND (h.agent_id = a.agent_id))), (0)::numeric))::bigint AS held,
    ( SELECT count(*) AS count
           FROM mana_ai.runs r
          WHERE ((r.user_id = a.user_id) AND (r.agent_id = a.agent_id) AND (r.state = 'open'::text))) AS running,
    recorded
   FROM ( SELECT s.user_id,
            s.agent_id,
            s.state,
            s.max_tokens_per_day,
            s.max_concurrent,
            s.complete,
            s.hidden,
            s.problems,
            s.version,
            true AS recorded
           FROM mana_ai.agent_snapshots s
        UNION ALL
         SELECT DISTINCT m.user_id,
            'legacy:ai-default'::text,
            'active'::text,
            NULL::bigint AS int8,
            1,
            true,
            false,
            '{}'::text[] AS text,
            (0)::bigint AS int8,
            false
           FROM mana_ai.mission_snapshots m
          WHERE ((m.agent_id = 'legacy:ai-default'::text) AND (NOT m.hidden) AND (NOT (EXISTS ( SELECT
                   FROM mana_ai.agent_snapshots s
                  WHERE ((s.user_id = m.user_id) AND (s.agent_id = m.agent_id))))))) a;

ALTER VIEW mana_ai.fleet_agents OWNER TO mana_fleet;

CREATE VIEW mana_ai.fleet_decisions AS
 SELECT id,
    user_id,
    mission_id,
    agent_id,
    due_at,
    decision,
    reason,
    at
   FROM mana_ai.decisions;

ALTER VIEW mana_ai.fleet_decisions OWNER TO mana_fleet;

CREATE VIEW mana_ai.fleet_missions AS
 SELECT user_id,
    mission_id,
    agent_id,
    state,
    next_run_at,
    wake_at,
    complete,
    hidden,
    readable,
    problems,
    version,
    decision,
    reason,
    decided_at
   FROM mana_ai.mission_snapshots;

ALTER VIEW mana_ai.fleet_missions OWNER TO mana_fleet;

CREATE TABLE mana_ai.quarantine (
    change_id uuid NOT NULL,
    user_id text NOT NULL,
    table_name text NOT NULL,
    record_id text NOT NULL,
    reason text NOT NULL,
    forced boolean DEFAULT false NOT NULL,
    seen_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);

ALTER TABLE ONLY mana_ai.quarantine FORCE ROW LEVEL SECURITY;

ALTER TABLE mana_ai.quarantine OWNER TO mana_owner;

CREATE VIEW mana_ai.fleet_quarantine AS
 SELECT change_id,
    user_id,
    table_name,
    record_id,
    reason,
    seen_at
   FROM mana_ai.quarantine;

ALTER VIEW mana_ai.fleet_quarantine OWNER TO mana_fleet;

CREATE VIEW mana_ai.fleet_runs AS
 SELECT run_id,
    user_id,
    agent_id,
    mission_id,
    due_at,
    state,
    requested,
    attempt,
    failures,
    reason,
    waiting_for,
    not_before,
    lease_until,
    iteration_id,
    steps,
    tokens,
    model_calls,
    opened_at,
    claimed_at,
    closed_at,
    healed_at,
    stop_reason,
    duplicate_calls,
    dropped_calls,
    refused_calls,
    mana_ai.receipt(answers) AS receipt
   FROM mana_ai.runs;

ALTER VIEW mana_ai.fleet_runs OWNER TO mana_fleet;

CREATE VIEW mana_ai.fleet_unstaged AS
 SELECT user_id,
    mission_id,
    version
   FROM mana_ai.mission_snapshots
  WHERE (awaits_staging AND complete AND (NOT hidden));

ALTER VIEW mana_ai.fleet_unstaged OWNER TO mana_fleet;

CREATE TABLE mana_ai.function_texts (
    name text NOT NULL,
    text_digest text NOT NULL,
    made_digest text NOT NULL,
    put_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);

ALTER TABLE mana_ai.function_texts OWNER TO mana_owner;

CREATE TABLE mana_ai.install (
    only_row boolean DEFAULT true NOT NULL,
    installed_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    slots_from timestamp with time zone,
    CONSTRAINT install_only_row_check CHECK (only_row)
);

ALTER TABLE mana_ai.install OWNER TO mana_owner;

CREATE TABLE mana_ai.journal (
    run_id uuid NOT NULL,
    round integer NOT NULL,
    user_id text NOT NULL,
    request_hash text NOT NULL,
    answer text NOT NULL,
    tokens bigint NOT NULL,
    at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);

ALTER TABLE ONLY mana_ai.journal FORCE ROW LEVEL SECURITY;

ALTER TABLE mana_ai.journal OWNER TO mana_owner;

CREATE TABLE mana_ai.key_releases (
    release_id uuid DEFAULT gen_random_uuid() NOT NULL,
    user_id text NOT NULL,
    agent_id text NOT NULL,
    mission_id text NOT NULL,
    run_id uuid NOT NULL,
    attempt integer NOT NULL,
    outcome text NOT NULL,
    reason text,
    grant_version text,
    record_ids text[] DEFAULT '{}'::text[] NOT NULL,
    expires_at timestamp with time zone,
    ts timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT key_releases_outcome CHECK ((outcome = ANY (ARRAY['released'::text, 'refused'::text])))
);

ALTER TABLE ONLY mana_ai.key_releases FORCE ROW LEVEL SECURITY;

ALTER TABLE mana_ai.key_releases OWNER TO mana_owner;

CREATE TABLE mana_ai.ledger (
    user_id text NOT NULL,
    agent_id text NOT NULL
);

ALTER TABLE ONLY mana_ai.ledger FORCE ROW LEVEL SECURITY;

ALTER TABLE mana_ai.ledger OWNER TO mana_owner;

CREATE TABLE mana_ai.migrations (
    name text NOT NULL,
    applied_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);

ALTER TABLE mana_ai.migrations OWNER TO mana_owner;

CREATE TABLE mana_ai.mission_research_jobs (
    user_id text NOT NULL,
    mission_id text NOT NULL,
    task_id text NOT NULL,
    provider_id text NOT NULL,
    submitted_at timestamp with time zone DEFAULT now() NOT NULL,
    last_polled_at timestamp with time zone
);

ALTER TABLE ONLY mana_ai.mission_research_jobs FORCE ROW LEVEL SECURITY;

ALTER TABLE mana_ai.mission_research_jobs OWNER TO mana_owner;

CREATE TABLE mana_ai.openings (
    opening_id uuid DEFAULT gen_random_uuid() NOT NULL,
    user_id text NOT NULL,
    agent_id text NOT NULL,
    run_id uuid,
    reason text NOT NULL,
    opened_by text NOT NULL,
    address text,
    user_agent text,
    at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    ends_at timestamp with time zone NOT NULL,
    CONSTRAINT openings_are_short CHECK (((ends_at > at) AND (ends_at <= (at + '01:00:00'::interval)))),
    CONSTRAINT openings_say_why CHECK (((length(btrim(reason)) >= 10) AND (length(btrim(reason)) <= 500)))
);

ALTER TABLE ONLY mana_ai.openings FORCE ROW LEVEL SECURITY;

ALTER TABLE mana_ai.openings OWNER TO mana_owner;

CREATE TABLE mana_ai.openings_seen (
    user_id text NOT NULL,
    seen_at timestamp with time zone NOT NULL
);

ALTER TABLE ONLY mana_ai.openings_seen FORCE ROW LEVEL SECURITY;

ALTER TABLE mana_ai.openings_seen OWNER TO mana_owner;

CREATE TABLE mana_ai.operator_sessions (
    cookie_hash bytea NOT NULL,
    address text,
    user_agent text,
    opened_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    seen_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    ends_at timestamp with time zone NOT NULL,
    CONSTRAINT operator_sessions_are_hashed CHECK ((length(cookie_hash) = 32))
);

ALTER TABLE ONLY mana_ai.operator_sessions FORCE ROW LEVEL SECURITY;

ALTER TABLE mana_ai.operator_sessions OWNER TO mana_owner;

CREATE TABLE mana_ai.own_answers (
    user_id text NOT NULL,
    key text NOT NULL,
    request text NOT NULL,
    status integer,
    answer text,
    at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);

ALTER TABLE ONLY mana_ai.own_answers FORCE ROW LEVEL SECURITY;

ALTER TABLE mana_ai.own_answers OWNER TO mana_owner;

CREATE TABLE mana_ai.own_locks (
    name text NOT NULL
);

ALTER TABLE mana_ai.own_locks OWNER TO mana_owner;

CREATE VIEW mana_ai.own_log AS
 SELECT id,
    app_id,
    table_name,
    record_id,
    user_id,
    op,
    data,
    field_meta,
    client_id,
    created_at,
    actor,
    origin,
    space_id
   FROM mana_ai.log_rows
  WHERE ((user_id = current_setting('app.current_user_id'::text, true)) OR (space_id = ANY (string_to_array(current_setting('app.current_user_space_ids'::text, true), ','::text))));

ALTER VIEW mana_ai.own_log OWNER TO mana_owner;

CREATE TABLE mana_ai.owner_key_changes (
    change_id uuid DEFAULT gen_random_uuid() NOT NULL,
    user_id text NOT NULL,
    key_id text NOT NULL,
    action text NOT NULL,
    ip_address text,
    user_agent text,
    at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT owner_key_changes_action CHECK ((action = ANY (ARRAY['registered'::text, 'removed'::text])))
);

ALTER TABLE ONLY mana_ai.owner_key_changes FORCE ROW LEVEL SECURITY;

ALTER TABLE mana_ai.owner_key_changes OWNER TO mana_owner;

CREATE TABLE mana_ai.people (
    user_id text NOT NULL,
    display_name text NOT NULL,
    added_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    removed_at timestamp with time zone,
    CONSTRAINT people_have_names CHECK (((user_id ~ '^[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}$'::text) AND ((length(display_name) >= 1) AND (length(display_name) <= 100))))
);

ALTER TABLE ONLY mana_ai.people FORCE ROW LEVEL SECURITY;

ALTER TABLE mana_ai.people OWNER TO mana_owner;

CREATE TABLE mana_ai.people_trail (
    id bigint NOT NULL,
    user_id text NOT NULL,
    action text NOT NULL,
    detail text,
    done_by text NOT NULL,
    address text,
    user_agent text,
    at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);

ALTER TABLE ONLY mana_ai.people_trail FORCE ROW LEVEL SECURITY;

ALTER TABLE mana_ai.people_trail OWNER TO mana_owner;

ALTER TABLE mana_ai.people_trail ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME mana_ai.people_trail_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE mana_ai.personal_tokens (
    token_id uuid DEFAULT gen_random_uuid() NOT NULL,
    user_id text NOT NULL,
    name text NOT NULL,
    token_hash bytea NOT NULL,
    scopes text[] NOT NULL,
    made_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    used_at timestamp with time zone,
    revoked_at timestamp with time zone,
    CONSTRAINT personal_tokens_are_hashed CHECK ((length(token_hash) = 32)),
    CONSTRAINT personal_tokens_have_names CHECK (((length(name) >= 1) AND (length(name) <= 100))),
    CONSTRAINT personal_tokens_have_scopes CHECK ((scopes <> '{}'::text[]))
);

ALTER TABLE ONLY mana_ai.personal_tokens FORCE ROW LEVEL SECURITY;

ALTER TABLE mana_ai.personal_tokens OWNER TO mana_owner;

CREATE TABLE mana_ai.refresh_tokens (
    token_hash bytea NOT NULL,
    sign_in_id uuid NOT NULL,
    made_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    replaced_at timestamp with time zone,
    CONSTRAINT refresh_tokens_are_hashed CHECK ((length(token_hash) = 32))
);

ALTER TABLE ONLY mana_ai.refresh_tokens FORCE ROW LEVEL SECURITY;

ALTER TABLE mana_ai.refresh_tokens OWNER TO mana_owner;

CREATE TABLE mana_ai.sealed_copies (
    user_id text NOT NULL,
    mission_id text NOT NULL,
    table_name text NOT NULL,
    record_id text NOT NULL,
    data jsonb NOT NULL,
    written_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    source text,
    CONSTRAINT sealed_copies_bounded CHECK (((jsonb_typeof(data) = 'object'::text) AND (length((data)::text) <= 262144))),
    CONSTRAINT sealed_copies_source CHECK ((source ~ '^[0-9a-f]{64}$'::text))
);

ALTER TABLE ONLY mana_ai.sealed_copies FORCE ROW LEVEL SECURITY;

ALTER TABLE mana_ai.sealed_copies OWNER TO mana_owner;

CREATE TABLE mana_ai.shards (
    shard text NOT NULL,
    buckets int4range NOT NULL,
    epoch bigint NOT NULL,
    holder text NOT NULL,
    taken_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    heartbeat_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    folded_at timestamp with time zone,
    ticked_at timestamp with time zone,
    reconcile_after text,
    reconcile_started_at timestamp with time zone,
    reconciled_at timestamp with time zone,
    CONSTRAINT shards_buckets_check CHECK (((NOT isempty(buckets)) AND (buckets <@ int4range(0, 256))))
);

ALTER TABLE mana_ai.shards OWNER TO mana_owner;

CREATE TABLE mana_ai.sign_in_links (
    link_hash bytea NOT NULL,
    user_id text NOT NULL,
    made_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    CONSTRAINT links_are_hashed CHECK ((length(link_hash) = 32))
);

ALTER TABLE ONLY mana_ai.sign_in_links FORCE ROW LEVEL SECURITY;

ALTER TABLE mana_ai.sign_in_links OWNER TO mana_owner;

CREATE TABLE mana_ai.sign_ins (
    sign_in_id uuid DEFAULT gen_random_uuid() NOT NULL,
    user_id text NOT NULL,
    cookie_hash bytea,
    chain_secret bytea,
    address text,
    user_agent text,
    made_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    used_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    ended_at timestamp with time zone,
    ended_by text,
    CONSTRAINT cookies_are_hashed CHECK ((length(cookie_hash) = 32)),
    CONSTRAINT sign_ins_have_one_way CHECK (((cookie_hash IS NULL) <> (chain_secret IS NULL)))
);

ALTER TABLE ONLY mana_ai.sign_ins FORCE ROW LEVEL SECURITY;

ALTER TABLE mana_ai.sign_ins OWNER TO mana_owner;

CREATE SEQUENCE mana_ai.snapshot_version
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

ALTER SEQUENCE mana_ai.snapshot_version OWNER TO mana_owner;

CREATE TABLE mana_ai.spaces (
    space_id text NOT NULL,
    name text NOT NULL,
    made_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT spaces_are_shared CHECK (((space_id <> ''::text) AND (NOT starts_with(space_id, '_personal:'::text)) AND (space_id !~~ '%,%'::text))),
    CONSTRAINT spaces_have_names CHECK (((length(name) >= 1) AND (length(name) <= 100)))
);

ALTER TABLE ONLY mana_ai.spaces FORCE ROW LEVEL SECURITY;

ALTER TABLE mana_ai.spaces OWNER TO mana_owner;

CREATE TABLE mana_ai.standing_approvals (
    user_id text NOT NULL,
    approval_id uuid NOT NULL,
    agent_id text NOT NULL,
    tool text,
    module text,
    until timestamp with time zone,
    per_day integer,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    created_address text,
    created_client text,
    revoked_at timestamp with time zone,
    CONSTRAINT some_a_day CHECK ((per_day > 0)),
    CONSTRAINT tool_or_module CHECK (((tool IS NULL) <> (module IS NULL)))
);

ALTER TABLE ONLY mana_ai.standing_approvals FORCE ROW LEVEL SECURITY;

ALTER TABLE mana_ai.standing_approvals OWNER TO mana_owner;

CREATE TABLE mana_ai.sync_devices (
    user_id text NOT NULL,
    client_id text NOT NULL,
    joined jsonb DEFAULT '{}'::jsonb NOT NULL,
    made_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);

ALTER TABLE ONLY mana_ai.sync_devices FORCE ROW LEVEL SECURITY;

ALTER TABLE mana_ai.sync_devices OWNER TO mana_owner;

CREATE TABLE mana_ai.sync_feeds (
    feed text NOT NULL,
    until timestamp with time zone NOT NULL
)
WITH (fillfactor='70');

ALTER TABLE ONLY mana_ai.sync_feeds FORCE ROW LEVEL SECURITY;

ALTER TABLE mana_ai.sync_feeds OWNER TO mana_owner;

CREATE TABLE mana_ai.sync_late (
    feed text NOT NULL,
    "position" timestamp with time zone NOT NULL,
    change_id uuid NOT NULL
);

ALTER TABLE ONLY mana_ai.sync_late FORCE ROW LEVEL SECURITY;

ALTER TABLE mana_ai.sync_late OWNER TO mana_owner;

CREATE TABLE mana_ai.sync_pending (
    feed text NOT NULL,
    change_id uuid NOT NULL,
    created_at timestamp with time zone NOT NULL,
    noted_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);

ALTER TABLE ONLY mana_ai.sync_pending FORCE ROW LEVEL SECURITY;

ALTER TABLE mana_ai.sync_pending OWNER TO mana_owner;

CREATE SEQUENCE mana_ai.token_usage_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

ALTER SEQUENCE mana_ai.token_usage_id_seq OWNER TO mana_owner;

ALTER SEQUENCE mana_ai.token_usage_id_seq OWNED BY mana_ai.token_usage.id;

CREATE TABLE mana_ai.vault_key_checks (
    user_id text NOT NULL,
    written_for timestamp with time zone NOT NULL,
    key_check text NOT NULL
);

ALTER TABLE ONLY mana_ai.vault_key_checks FORCE ROW LEVEL SECURITY;

ALTER TABLE mana_ai.vault_key_checks OWNER TO mana_owner;

CREATE TABLE mana_ai.visitors (
    sign_in_id uuid DEFAULT gen_random_uuid() NOT NULL,
    user_id text NOT NULL,
    spaces text[] NOT NULL,
    link_hash bytea,
    cookie_hash bytea,
    address text,
    user_agent text,
    made_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    used_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    ended_at timestamp with time zone,
    CONSTRAINT visitors_are_hashed CHECK ((length(COALESCE(link_hash, cookie_hash)) = 32)),
    CONSTRAINT visitors_have_one_way CHECK (((link_hash IS NULL) <> (cookie_hash IS NULL)))
);

ALTER TABLE ONLY mana_ai.visitors FORCE ROW LEVEL SECURITY;

ALTER TABLE mana_ai.visitors OWNER TO mana_owner;

ALTER TABLE ONLY mana_ai.decrypt_audit ALTER COLUMN id SET DEFAULT nextval('mana_ai.decrypt_audit_id_seq'::regclass);

ALTER TABLE ONLY mana_ai.token_usage ALTER COLUMN id SET DEFAULT nextval('mana_ai.token_usage_id_seq'::regclass);

ALTER TABLE ONLY auth.encryption_vault_audit
    ADD CONSTRAINT encryption_vault_audit_pkey PRIMARY KEY (id);

ALTER TABLE ONLY auth.encryption_vaults
    ADD CONSTRAINT encryption_vaults_pkey PRIMARY KEY (user_id);

ALTER TABLE ONLY mana_ai.agent_snapshots
    ADD CONSTRAINT agent_snapshots_pkey PRIMARY KEY (user_id, agent_id);

ALTER TABLE ONLY mana_ai.budget_wakes
    ADD CONSTRAINT budget_wakes_pkey PRIMARY KEY (id);

ALTER TABLE ONLY mana_ai.capability_secrets
    ADD CONSTRAINT capability_secrets_pkey PRIMARY KEY (audience, kid);

ALTER TABLE ONLY mana_ai.change_feed
    ADD CONSTRAINT change_feed_pkey PRIMARY KEY (seq);

ALTER TABLE ONLY mana_ai.copy_requests
    ADD CONSTRAINT copy_requests_pkey PRIMARY KEY (user_id, mission_id);

ALTER TABLE ONLY mana_ai.decisions
    ADD CONSTRAINT decisions_pkey PRIMARY KEY (id);

ALTER TABLE ONLY mana_ai.decrypt_audit
    ADD CONSTRAINT decrypt_audit_pkey PRIMARY KEY (id);

ALTER TABLE ONLY mana_ai.function_texts
    ADD CONSTRAINT function_texts_pkey PRIMARY KEY (name);

ALTER TABLE ONLY mana_ai.install
    ADD CONSTRAINT install_pkey PRIMARY KEY (only_row);

ALTER TABLE ONLY mana_ai.journal
    ADD CONSTRAINT journal_pkey PRIMARY KEY (run_id, round);

ALTER TABLE ONLY mana_ai.key_releases
    ADD CONSTRAINT key_releases_pkey PRIMARY KEY (release_id);

ALTER TABLE ONLY mana_ai.ledger
    ADD CONSTRAINT ledger_pkey PRIMARY KEY (user_id, agent_id);

ALTER TABLE ONLY mana_ai.limits
    ADD CONSTRAINT limits_pkey PRIMARY KEY (kind, user_id, agent_id);

ALTER TABLE ONLY mana_ai.migrations
    ADD CONSTRAINT migrations_pkey PRIMARY KEY (name);

ALTER TABLE ONLY mana_ai.mission_research_jobs
    ADD CONSTRAINT mission_research_jobs_pkey PRIMARY KEY (user_id, mission_id);

ALTER TABLE ONLY mana_ai.mission_snapshots
    ADD CONSTRAINT mission_snapshots_pkey PRIMARY KEY (user_id, mission_id);

ALTER TABLE ONLY mana_ai.proposals
    ADD CONSTRAINT one_proposal_per_step UNIQUE (user_id, mission_id, iteration_id, step_id);

ALTER TABLE ONLY mana_ai.openings
    ADD CONSTRAINT openings_pkey PRIMARY KEY (opening_id);

ALTER TABLE ONLY mana_ai.openings_seen
    ADD CONSTRAINT openings_seen_pkey PRIMARY KEY (user_id);

ALTER TABLE ONLY mana_ai.operator_sessions
    ADD CONSTRAINT operator_sessions_pkey PRIMARY KEY (cookie_hash);

ALTER TABLE ONLY mana_ai.own_answers
    ADD CONSTRAINT own_answers_pkey PRIMARY KEY (user_id, key);

ALTER TABLE ONLY mana_ai.own_locks
    ADD CONSTRAINT own_locks_pkey PRIMARY KEY (name);

ALTER TABLE ONLY mana_ai.owner_key_changes
    ADD CONSTRAINT owner_key_changes_pkey PRIMARY KEY (change_id);

ALTER TABLE ONLY mana_ai.owner_keys
    ADD CONSTRAINT owner_keys_pkey PRIMARY KEY (user_id);

ALTER TABLE ONLY mana_ai.people
    ADD CONSTRAINT people_pkey PRIMARY KEY (user_id);

ALTER TABLE ONLY mana_ai.people_trail
    ADD CONSTRAINT people_trail_pkey PRIMARY KEY (id);

ALTER TABLE ONLY mana_ai.personal_tokens
    ADD CONSTRAINT personal_tokens_pkey PRIMARY KEY (token_id);

ALTER TABLE ONLY mana_ai.personal_tokens
    ADD CONSTRAINT personal_tokens_token_hash_key UNIQUE (token_hash);

ALTER TABLE ONLY mana_ai.proposals
    ADD CONSTRAINT proposals_pkey PRIMARY KEY (user_id, proposal_id);

ALTER TABLE ONLY mana_ai.quarantine
    ADD CONSTRAINT quarantine_pkey PRIMARY KEY (change_id);

ALTER TABLE ONLY mana_ai.refresh_tokens
    ADD CONSTRAINT refresh_tokens_pkey PRIMARY KEY (token_hash);

ALTER TABLE ONLY mana_ai.run_requests
    ADD CONSTRAINT run_requests_pkey PRIMARY KEY (user_id, request_key);

ALTER TABLE ONLY mana_ai.runs
    ADD CONSTRAINT runs_one_per_occurrence UNIQUE (user_id, mission_id, due_at);

ALTER TABLE ONLY mana_ai.runs
    ADD CONSTRAINT runs_pkey PRIMARY KEY (run_id);

ALTER TABLE ONLY mana_ai.sealed_copies
    ADD CONSTRAINT sealed_copies_pkey PRIMARY KEY (user_id, mission_id, table_name, record_id);

ALTER TABLE ONLY mana_ai.shards
    ADD CONSTRAINT shards_own_buckets_alone EXCLUDE USING gist (buckets WITH &&);

ALTER TABLE ONLY mana_ai.shards
    ADD CONSTRAINT shards_pkey PRIMARY KEY (shard);

ALTER TABLE ONLY mana_ai.sign_in_links
    ADD CONSTRAINT sign_in_links_pkey PRIMARY KEY (link_hash);

ALTER TABLE ONLY mana_ai.sign_ins
    ADD CONSTRAINT sign_ins_cookie_hash_key UNIQUE (cookie_hash);

ALTER TABLE ONLY mana_ai.sign_ins
    ADD CONSTRAINT sign_ins_pkey PRIMARY KEY (sign_in_id);

ALTER TABLE ONLY mana_ai.space_members
    ADD CONSTRAINT space_members_pkey PRIMARY KEY (space_id, user_id);

ALTER TABLE ONLY mana_ai.spaces
    ADD CONSTRAINT spaces_pkey PRIMARY KEY (space_id);

ALTER TABLE ONLY mana_ai.standing_approvals
    ADD CONSTRAINT standing_approvals_pkey PRIMARY KEY (user_id, approval_id);

ALTER TABLE ONLY mana_ai.sync_devices
    ADD CONSTRAINT sync_devices_pkey PRIMARY KEY (user_id, client_id);

ALTER TABLE ONLY mana_ai.sync_feeds
    ADD CONSTRAINT sync_feeds_pkey PRIMARY KEY (feed);

ALTER TABLE ONLY mana_ai.sync_late
    ADD CONSTRAINT sync_late_pkey PRIMARY KEY (feed, "position", change_id);

ALTER TABLE mana_ai.token_holds
    ADD CONSTRAINT token_holds_believable CHECK (((tokens <= '8589934592'::bigint) AND (cost_micros <= '1000000000000'::bigint) AND (deadline <= (opened_at + '02:00:00'::interval)))) NOT VALID;

ALTER TABLE ONLY mana_ai.token_holds
    ADD CONSTRAINT token_holds_pkey PRIMARY KEY (call_id);

ALTER TABLE mana_ai.token_usage
    ADD CONSTRAINT token_usage_believable CHECK ((((tokens_used >= 0) AND (tokens_used <= '8589934592'::bigint)) AND ((cost_micros >= 0) AND (cost_micros <= '1000000000000'::bigint)))) NOT VALID;

ALTER TABLE ONLY mana_ai.token_usage
    ADD CONSTRAINT token_usage_pkey PRIMARY KEY (id);

ALTER TABLE ONLY mana_ai.user_settings
    ADD CONSTRAINT user_settings_pkey PRIMARY KEY (user_id);

ALTER TABLE ONLY mana_ai.vault_key_checks
    ADD CONSTRAINT vault_key_checks_pkey PRIMARY KEY (user_id);

ALTER TABLE ONLY mana_ai.visitors
    ADD CONSTRAINT visitors_cookie_hash_key UNIQUE (cookie_hash);

ALTER TABLE ONLY mana_ai.visitors
    ADD CONSTRAINT visitors_link_hash_key UNIQUE (link_hash);

ALTER TABLE ONLY mana_ai.visitors
    ADD CONSTRAINT visitors_pkey PRIMARY KEY (sign_in_id);

ALTER TABLE ONLY public.sync_changes
    ADD CONSTRAINT sync_changes_pkey PRIMARY KEY (id);

CREATE INDEX encryption_vault_audit_at ON auth.encryption_vault_audit USING btree (created_at);

CREATE INDEX encryption_vault_audit_user ON auth.encryption_vault_audit USING btree (user_id, created_at DESC);

CREATE INDEX agent_snapshots_orphans ON mana_ai.agent_snapshots USING btree (agent_id) WHERE (NOT complete);

CREATE UNIQUE INDEX capability_secrets_one_signs ON mana_ai.capability_secrets USING btree (audience) WHERE signs;

CREATE INDEX change_feed_record ON mana_ai.change_feed USING hash (record_id);

CREATE INDEX copy_requests_age ON mana_ai.copy_requests USING btree (asked_at);

CREATE INDEX copy_requests_due ON mana_ai.copy_requests USING btree (due_at) WHERE (due_at IS NOT NULL);

CREATE INDEX decisions_at ON mana_ai.decisions USING btree (at);

CREATE INDEX decisions_mission ON mana_ai.decisions USING btree (user_id, mission_id, id);

CREATE INDEX decrypt_audit_mission ON mana_ai.decrypt_audit USING btree (user_id, mission_id, ts DESC);

CREATE INDEX decrypt_audit_record ON mana_ai.decrypt_audit USING btree (user_id, table_name, record_id, ts DESC);

CREATE INDEX decrypt_audit_release ON mana_ai.decrypt_audit USING btree (release_id) WHERE (release_id IS NOT NULL);

CREATE INDEX decrypt_audit_user ON mana_ai.decrypt_audit USING btree (user_id, ts DESC, id DESC);

CREATE INDEX key_releases_age ON mana_ai.key_releases USING btree (ts);

CREATE INDEX key_releases_run ON mana_ai.key_releases USING btree (run_id);

CREATE INDEX key_releases_user ON mana_ai.key_releases USING btree (user_id, ts DESC, release_id);

CREATE INDEX mission_research_jobs_user ON mana_ai.mission_research_jobs USING btree (user_id, submitted_at DESC);

CREATE INDEX mission_snapshots_agent ON mana_ai.mission_snapshots USING btree (user_id, agent_id);

CREATE INDEX mission_snapshots_damaged ON mana_ai.mission_snapshots USING btree (user_id, mission_id) WHERE ((problems <> '{}'::text[]) OR (NOT complete) OR (NOT readable));

CREATE INDEX mission_snapshots_granted ON mana_ai.mission_snapshots USING btree (bucket) WHERE (((record -> 'grant'::text) <> 'null'::jsonb) AND (NOT hidden));

CREATE INDEX mission_snapshots_in_trouble ON mana_ai.mission_snapshots USING btree (decision, user_id, mission_id) WHERE ((state = 'active'::text) AND (NOT hidden) AND (decision = ANY (ARRAY['failed'::text, 'skipped-budget'::text, 'skipped-grant'::text, 'skipped-unreadable'::text, 'skipped-missing-agent'::text, 'skipped-inputs'::text])));

CREATE INDEX mission_snapshots_orphans ON mana_ai.mission_snapshots USING btree (mission_id) WHERE (NOT complete);

CREATE INDEX mission_snapshots_wake ON mana_ai.mission_snapshots USING btree (wake_at) WHERE (wake_at IS NOT NULL);

CREATE INDEX missions_awaiting_staging ON mana_ai.mission_snapshots USING btree (user_id, mission_id) WHERE awaits_staging;

CREATE INDEX openings_by_time ON mana_ai.openings USING btree (at DESC, opening_id DESC);

CREATE INDEX openings_of_person ON mana_ai.openings USING btree (user_id, at DESC, opening_id DESC);

CREATE INDEX own_answers_age ON mana_ai.own_answers USING btree (at);

CREATE INDEX owner_key_changes_age ON mana_ai.owner_key_changes USING btree (at);

CREATE INDEX owner_key_changes_user ON mana_ai.owner_key_changes USING btree (user_id, at DESC);

CREATE INDEX people_trail_by_age ON mana_ai.people_trail USING btree (at);

CREATE INDEX people_trail_of_person ON mana_ai.people_trail USING btree (user_id, at DESC, id DESC);

CREATE INDEX personal_tokens_by_end ON mana_ai.personal_tokens USING btree (expires_at);

CREATE UNIQUE INDEX personal_tokens_by_name ON mana_ai.personal_tokens USING btree (user_id, name) WHERE (revoked_at IS NULL);

CREATE INDEX proposals_age ON mana_ai.proposals USING btree (decided_at) WHERE (decided_at IS NOT NULL);

CREATE INDEX proposals_by_approval ON mana_ai.proposals USING btree (user_id, approval_id, decided_at) WHERE (approval_id IS NOT NULL);

CREATE INDEX proposals_in_order ON mana_ai.proposals USING btree (user_id, created_at DESC, proposal_id);

CREATE INDEX proposals_late ON mana_ai.proposals USING btree (expires_at) WHERE (state = ANY (ARRAY['pending'::text, 'refused'::text]));

CREATE INDEX proposals_open ON mana_ai.proposals USING btree (user_id, expires_at) WHERE (state = ANY (ARRAY['pending'::text, 'refused'::text]));

CREATE INDEX quarantine_user ON mana_ai.quarantine USING btree (user_id, seen_at DESC);

CREATE INDEX refresh_tokens_of_sign_in ON mana_ai.refresh_tokens USING btree (sign_in_id);

CREATE INDEX run_requests_closed ON mana_ai.run_requests USING btree (closed_at) WHERE (closed_at IS NOT NULL);

CREATE INDEX run_requests_open ON mana_ai.run_requests USING btree (user_id, mission_id, due_at) WHERE (closed_at IS NULL);

CREATE INDEX runs_by_holder ON mana_ai.runs USING btree (holder) WHERE (state = 'open'::text);

CREATE INDEX runs_closed ON mana_ai.runs USING btree (closed_at) WHERE (closed_at IS NOT NULL);

CREATE INDEX runs_failed ON mana_ai.runs USING btree (closed_at) WHERE (state = 'failed'::text);

CREATE INDEX runs_live_of_agent ON mana_ai.runs USING btree (user_id, agent_id) WHERE (state = ANY (ARRAY['open'::text, 'waiting'::text]));

CREATE INDEX runs_newest ON mana_ai.runs USING btree (opened_at DESC, run_id DESC);

CREATE INDEX runs_newest_of_state ON mana_ai.runs USING btree (state, opened_at DESC, run_id DESC);

CREATE UNIQUE INDEX runs_one_live_per_mission ON mana_ai.runs USING btree (user_id, mission_id) WHERE (state = ANY (ARRAY['open'::text, 'waiting'::text]));

CREATE INDEX sealed_copies_age ON mana_ai.sealed_copies USING btree (expires_at);

CREATE INDEX sign_in_links_by_end ON mana_ai.sign_in_links USING btree (expires_at);

CREATE INDEX sign_in_links_of_person ON mana_ai.sign_in_links USING btree (user_id);

CREATE INDEX sign_ins_by_end ON mana_ai.sign_ins USING btree (expires_at);

CREATE INDEX sign_ins_of_person ON mana_ai.sign_ins USING btree (user_id) WHERE (ended_at IS NULL);

CREATE INDEX space_members_by_person ON mana_ai.space_members USING btree (user_id);

CREATE INDEX sync_late_change ON mana_ai.sync_late USING btree (change_id);

CREATE INDEX sync_pending_feed ON mana_ai.sync_pending USING btree (feed);

CREATE INDEX token_holds_agent ON mana_ai.token_holds USING btree (user_id, agent_id);

CREATE INDEX token_holds_deadline ON mana_ai.token_holds USING btree (deadline);

CREATE UNIQUE INDEX token_usage_call ON mana_ai.token_usage USING btree (call_id) WHERE (call_id IS NOT NULL);

CREATE INDEX token_usage_ts ON mana_ai.token_usage USING btree (ts) INCLUDE (tokens_used, cost_micros);

CREATE INDEX token_usage_window ON mana_ai.token_usage USING btree (user_id, agent_id, ts DESC);

CREATE INDEX visitors_by_end ON mana_ai.visitors USING btree (expires_at);

CREATE INDEX visitors_of_person ON mana_ai.visitors USING btree (user_id) WHERE (ended_at IS NULL);

CREATE INDEX idx_sync_changes_shared ON public.sync_changes USING btree (space_id, app_id, created_at) WHERE ((space_id IS NOT NULL) AND (NOT starts_with(space_id, '_personal:'::text)));

CREATE INDEX idx_sync_changes_since ON public.sync_changes USING btree (user_id, app_id, table_name, created_at);

CREATE INDEX idx_sync_changes_table_record ON public.sync_changes USING btree (table_name, record_id, created_at);

CREATE INDEX idx_sync_changes_user_app ON public.sync_changes USING btree (user_id, app_id, created_at);

CREATE INDEX idx_sync_changes_user_space_app_since ON public.sync_changes USING btree (user_id, space_id, app_id, created_at) WHERE (space_id IS NOT NULL);

CREATE TRIGGER forget_revoked AFTER UPDATE OF record, hidden ON mana_ai.mission_snapshots FOR EACH ROW WHEN (((NOT (jsonb_typeof((old.record -> 'grant'::text)) IS DISTINCT FROM 'object'::text)) AND (new.hidden OR (jsonb_typeof((new.record -> 'grant'::text)) IS DISTINCT FROM 'object'::text)))) EXECUTE FUNCTION mana_ai.forget_revoked();

CREATE TRIGGER mana_ai_feed AFTER INSERT ON public.sync_changes REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION mana_ai.feed_changes();

CREATE TRIGGER mana_ai_sync AFTER INSERT ON public.sync_changes REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION mana_ai.note_rows();

ALTER TABLE ONLY mana_ai.journal
    ADD CONSTRAINT journal_run_id_fkey FOREIGN KEY (run_id) REFERENCES mana_ai.runs(run_id) ON DELETE CASCADE;

ALTER TABLE ONLY mana_ai.personal_tokens
    ADD CONSTRAINT personal_tokens_user_id_fkey FOREIGN KEY (user_id) REFERENCES mana_ai.people(user_id);

ALTER TABLE ONLY mana_ai.refresh_tokens
    ADD CONSTRAINT refresh_tokens_sign_in_id_fkey FOREIGN KEY (sign_in_id) REFERENCES mana_ai.sign_ins(sign_in_id) ON DELETE CASCADE;

ALTER TABLE ONLY mana_ai.sign_in_links
    ADD CONSTRAINT sign_in_links_user_id_fkey FOREIGN KEY (user_id) REFERENCES mana_ai.people(user_id);

ALTER TABLE ONLY mana_ai.sign_ins
    ADD CONSTRAINT sign_ins_user_id_fkey FOREIGN KEY (user_id) REFERENCES mana_ai.people(user_id);

ALTER TABLE ONLY mana_ai.space_members
    ADD CONSTRAINT space_members_space_id_fkey FOREIGN KEY (space_id) REFERENCES mana_ai.spaces(space_id);

ALTER TABLE ONLY mana_ai.space_members
    ADD CONSTRAINT space_members_user_id_fkey FOREIGN KEY (user_id) REFERENCES mana_ai.people(user_id);

ALTER TABLE auth.encryption_vault_audit ENABLE ROW LEVEL SECURITY;

CREATE POLICY encryption_vault_audit_user_isolation ON auth.encryption_vault_audit USING ((user_id = current_setting('app.current_user_id'::text, true))) WITH CHECK ((user_id = current_setting('app.current_user_id'::text, true)));

ALTER TABLE auth.encryption_vaults ENABLE ROW LEVEL SECURITY;

CREATE POLICY encryption_vaults_user_isolation ON auth.encryption_vaults USING ((user_id = current_setting('app.current_user_id'::text, true))) WITH CHECK ((user_id = current_setting('app.current_user_id'::text, true)));

CREATE POLICY agent_reads ON mana_ai.agent_snapshots FOR SELECT TO mana_agent USING (true);

CREATE POLICY agent_reads ON mana_ai.change_feed FOR SELECT TO mana_agent USING (true);

CREATE POLICY agent_reads ON mana_ai.decisions FOR SELECT TO mana_agent USING (true);

CREATE POLICY agent_reads ON mana_ai.decrypt_audit FOR SELECT TO mana_agent USING (true);

CREATE POLICY agent_reads ON mana_ai.journal FOR SELECT TO mana_agent USING (true);

CREATE POLICY agent_reads ON mana_ai.ledger FOR SELECT TO mana_agent USING (true);

CREATE POLICY agent_reads ON mana_ai.mission_research_jobs FOR SELECT TO mana_agent USING (true);

CREATE POLICY agent_reads ON mana_ai.mission_snapshots FOR SELECT TO mana_agent USING (true);

CREATE POLICY agent_reads ON mana_ai.quarantine FOR SELECT TO mana_agent USING (true);

CREATE POLICY agent_reads ON mana_ai.run_requests FOR SELECT TO mana_agent USING (true);

CREATE POLICY agent_reads ON mana_ai.runs FOR SELECT TO mana_agent USING (true);

CREATE POLICY agent_reads ON mana_ai.token_holds FOR SELECT TO mana_agent USING (true);

CREATE POLICY agent_reads ON mana_ai.token_usage FOR SELECT TO mana_agent USING (true);

CREATE POLICY agent_reads ON mana_ai.user_settings FOR SELECT TO mana_agent USING (true);

CREATE POLICY agent_reads_own ON mana_ai.owner_keys FOR SELECT TO mana_agent USING ((user_id = ( SELECT mana_ai.capability_user() AS capability_user)));

CREATE POLICY agent_reads_own_missions ON mana_ai.sealed_copies FOR SELECT TO mana_agent USING (((user_id = ( SELECT mana_ai.capability_user() AS capability_user)) AND (expires_at > clock_timestamp()) AND (EXISTS ( SELECT
   FROM mana_ai.mission_snapshots s
  WHERE ((s.user_id = sealed_copies.user_id) AND (s.mission_id = sealed_copies.mission_id) AND (s.agent_id = ( SELECT mana_ai.capability_agent() AS capability_agent)))))));

ALTER TABLE mana_ai.agent_snapshots ENABLE ROW LEVEL SECURITY;

CREATE POLICY agent_within_capability ON mana_ai.agent_snapshots AS RESTRICTIVE TO mana_agent USING ((user_id = ( SELECT mana_ai.capability_user() AS capability_user)));

CREATE POLICY agent_within_capability ON mana_ai.change_feed AS RESTRICTIVE TO mana_agent USING ((user_id = ( SELECT mana_ai.capability_user() AS capability_user)));

CREATE POLICY agent_within_capability ON mana_ai.decisions AS RESTRICTIVE TO mana_agent USING ((user_id = ( SELECT mana_ai.capability_user() AS capability_user)));

CREATE POLICY agent_within_capability ON mana_ai.decrypt_audit AS RESTRICTIVE TO mana_agent USING ((user_id = ( SELECT mana_ai.capability_user() AS capability_user)));

CREATE POLICY agent_within_capability ON mana_ai.journal AS RESTRICTIVE TO mana_agent USING ((user_id = ( SELECT mana_ai.capability_user() AS capability_user)));

CREATE POLICY agent_within_capability ON mana_ai.ledger AS RESTRICTIVE TO mana_agent USING ((user_id = ( SELECT mana_ai.capability_user() AS capability_user)));

CREATE POLICY agent_within_capability ON mana_ai.mission_research_jobs AS RESTRICTIVE TO mana_agent USING ((user_id = ( SELECT mana_ai.capability_user() AS capability_user)));

CREATE POLICY agent_within_capability ON mana_ai.mission_snapshots AS RESTRICTIVE TO mana_agent USING ((user_id = ( SELECT mana_ai.capability_user() AS capability_user)));

CREATE POLICY agent_within_capability ON mana_ai.owner_keys AS RESTRICTIVE TO mana_agent USING ((user_id = ( SELECT mana_ai.capability_user() AS capability_user)));

CREATE POLICY agent_within_capability ON mana_ai.quarantine AS RESTRICTIVE TO mana_agent USING ((user_id = ( SELECT mana_ai.capability_user() AS capability_user)));

CREATE POLICY agent_within_capability ON mana_ai.run_requests AS RESTRICTIVE TO mana_agent USING ((user_id = ( SELECT mana_ai.capability_user() AS capability_user)));

CREATE POLICY agent_within_capability ON mana_ai.runs AS RESTRICTIVE TO mana_agent USING ((user_id = ( SELECT mana_ai.capability_user() AS capability_user)));

CREATE POLICY agent_within_capability ON mana_ai.sealed_copies AS RESTRICTIVE TO mana_agent USING ((user_id = ( SELECT mana_ai.capability_user() AS capability_user)));

CREATE POLICY agent_within_capability ON mana_ai.token_holds AS RESTRICTIVE TO mana_agent USING ((user_id = ( SELECT mana_ai.capability_user() AS capability_user)));

CREATE POLICY agent_within_capability ON mana_ai.token_usage AS RESTRICTIVE TO mana_agent USING ((user_id = ( SELECT mana_ai.capability_user() AS capability_user)));

CREATE POLICY agent_within_capability ON mana_ai.user_settings AS RESTRICTIVE TO mana_agent USING ((user_id = ( SELECT mana_ai.capability_user() AS capability_user)));

ALTER TABLE mana_ai.change_feed ENABLE ROW LEVEL SECURITY;

CREATE POLICY compactor_counts ON mana_ai.agent_snapshots TO mana_compactor USING (true) WITH CHECK (true);

CREATE POLICY compactor_counts ON mana_ai.mission_snapshots TO mana_compactor USING (true) WITH CHECK (true);

CREATE POLICY compactor_forgets ON mana_ai.sync_late TO mana_compactor USING (true);

CREATE POLICY compactor_looks ON mana_ai.change_feed FOR SELECT TO mana_compactor USING (true);

CREATE POLICY compactor_looks ON mana_ai.quarantine FOR SELECT TO mana_compactor USING (true);

ALTER TABLE mana_ai.copy_requests ENABLE ROW LEVEL SECURITY;

ALTER TABLE mana_ai.decisions ENABLE ROW LEVEL SECURITY;

ALTER TABLE mana_ai.decrypt_audit ENABLE ROW LEVEL SECURITY;

CREATE POLICY fleet_reads ON mana_ai.agent_snapshots FOR SELECT TO mana_fleet USING (true);

CREATE POLICY fleet_reads ON mana_ai.decisions FOR SELECT TO mana_fleet USING (true);

CREATE POLICY fleet_reads ON mana_ai.limits FOR SELECT TO mana_fleet, mana_supervisor, mana_gateway USING (true);

CREATE POLICY fleet_reads ON mana_ai.mission_snapshots FOR SELECT TO mana_fleet USING (true);

CREATE POLICY fleet_reads ON mana_ai.quarantine FOR SELECT TO mana_fleet USING (true);

CREATE POLICY fleet_reads ON mana_ai.runs FOR SELECT TO mana_fleet USING (true);

CREATE POLICY fleet_reads ON mana_ai.token_holds FOR SELECT TO mana_fleet USING (true);

CREATE POLICY fleet_reads ON mana_ai.token_usage FOR SELECT TO mana_fleet USING (true);

CREATE POLICY gateway_acts_for_user ON mana_ai.openings_seen TO mana_gateway USING ((user_id = current_setting('app.current_user_id'::text, true))) WITH CHECK ((user_id = current_setting('app.current_user_id'::text, true)));

CREATE POLICY gateway_acts_for_user ON mana_ai.own_answers TO mana_gateway USING ((user_id = current_setting('app.current_user_id'::text, true))) WITH CHECK ((user_id = current_setting('app.current_user_id'::text, true)));

CREATE POLICY gateway_acts_for_user ON mana_ai.proposals TO mana_gateway USING ((user_id = current_setting('app.current_user_id'::text, true))) WITH CHECK ((user_id = current_setting('app.current_user_id'::text, true)));

CREATE POLICY gateway_acts_for_user ON mana_ai.standing_approvals TO mana_gateway USING ((user_id = current_setting('app.current_user_id'::text, true))) WITH CHECK ((user_id = current_setting('app.current_user_id'::text, true)));

CREATE POLICY gateway_adds_as_user ON mana_ai.openings FOR INSERT TO mana_gateway WITH CHECK ((user_id = current_setting('app.current_user_id'::text, true)));

CREATE POLICY gateway_keeps ON mana_ai.operator_sessions TO mana_gateway USING (true) WITH CHECK (true);

CREATE POLICY gateway_keeps ON mana_ai.people TO mana_gateway USING (true) WITH CHECK (true);

CREATE POLICY gateway_keeps ON mana_ai.people_trail TO mana_gateway USING (true) WITH CHECK (true);

CREATE POLICY gateway_keeps ON mana_ai.personal_tokens TO mana_gateway USING (true) WITH CHECK (true);

CREATE POLICY gateway_keeps ON mana_ai.refresh_tokens TO mana_gateway USING (true) WITH CHECK (true);

CREATE POLICY gateway_keeps ON mana_ai.sign_in_links TO mana_gateway USING (true) WITH CHECK (true);

CREATE POLICY gateway_keeps ON mana_ai.sign_ins TO mana_gateway USING (true) WITH CHECK (true);

CREATE POLICY gateway_keeps ON mana_ai.space_members TO mana_gateway USING (true) WITH CHECK (true);

CREATE POLICY gateway_keeps ON mana_ai.spaces TO mana_gateway USING (true) WITH CHECK (true);

CREATE POLICY gateway_keeps ON mana_ai.visitors TO mana_gateway USING (true) WITH CHECK (true);

CREATE POLICY gateway_reads ON mana_ai.openings FOR SELECT TO mana_gateway USING (true);

CREATE POLICY gateway_reads_as_user ON mana_ai.agent_snapshots TO mana_gateway USING ((user_id = current_setting('app.current_user_id'::text, true)));

CREATE POLICY gateway_reads_as_user ON mana_ai.change_feed TO mana_gateway USING ((user_id = current_setting('app.current_user_id'::text, true)));

CREATE POLICY gateway_reads_as_user ON mana_ai.decisions TO mana_gateway USING ((user_id = current_setting('app.current_user_id'::text, true)));

CREATE POLICY gateway_reads_as_user ON mana_ai.decrypt_audit TO mana_gateway USING ((user_id = current_setting('app.current_user_id'::text, true)));

CREATE POLICY gateway_reads_as_user ON mana_ai.journal TO mana_gateway USING ((user_id = current_setting('app.current_user_id'::text, true)));

CREATE POLICY gateway_reads_as_user ON mana_ai.key_releases FOR SELECT TO mana_gateway USING ((user_id = current_setting('app.current_user_id'::text, true)));

CREATE POLICY gateway_reads_as_user ON mana_ai.ledger TO mana_gateway USING ((user_id = current_setting('app.current_user_id'::text, true)));

CREATE POLICY gateway_reads_as_user ON mana_ai.mission_research_jobs TO mana_gateway USING ((user_id = current_setting('app.current_user_id'::text, true)));

CREATE POLICY gateway_reads_as_user ON mana_ai.mission_snapshots TO mana_gateway USING ((user_id = current_setting('app.current_user_id'::text, true)));

CREATE POLICY gateway_reads_as_user ON mana_ai.owner_key_changes FOR SELECT TO mana_gateway USING ((user_id = current_setting('app.current_user_id'::text, true)));

CREATE POLICY gateway_reads_as_user ON mana_ai.owner_keys FOR SELECT TO mana_gateway USING ((user_id = current_setting('app.current_user_id'::text, true)));

CREATE POLICY gateway_reads_as_user ON mana_ai.quarantine TO mana_gateway USING ((user_id = current_setting('app.current_user_id'::text, true)));

CREATE POLICY gateway_reads_as_user ON mana_ai.run_requests TO mana_gateway USING ((user_id = current_setting('app.current_user_id'::text, true)));

CREATE POLICY gateway_reads_as_user ON mana_ai.runs TO mana_gateway USING ((user_id = current_setting('app.current_user_id'::text, true)));

CREATE POLICY gateway_reads_as_user ON mana_ai.sealed_copies FOR SELECT TO mana_gateway USING ((user_id = current_setting('app.current_user_id'::text, true)));

CREATE POLICY gateway_reads_as_user ON mana_ai.token_holds TO mana_gateway USING ((user_id = current_setting('app.current_user_id'::text, true)));

CREATE POLICY gateway_reads_as_user ON mana_ai.token_usage TO mana_gateway USING ((user_id = current_setting('app.current_user_id'::text, true)));

CREATE POLICY gateway_reads_as_user ON mana_ai.user_settings TO mana_gateway USING ((user_id = current_setting('app.current_user_id'::text, true)));

CREATE POLICY issuer_acts_for_user ON mana_ai.vault_key_checks TO mana_issuer USING ((user_id = current_setting('app.current_user_id'::text, true))) WITH CHECK ((user_id = current_setting('app.current_user_id'::text, true)));

CREATE POLICY janitor_prunes ON mana_ai.copy_requests TO mana_janitor USING (true);

CREATE POLICY janitor_prunes ON mana_ai.decisions TO mana_janitor USING (true);

CREATE POLICY janitor_prunes ON mana_ai.decrypt_audit TO mana_janitor USING (true);

CREATE POLICY janitor_prunes ON mana_ai.key_releases TO mana_janitor USING (true);

CREATE POLICY janitor_prunes ON mana_ai.openings TO mana_janitor USING (true);

CREATE POLICY janitor_prunes ON mana_ai.operator_sessions TO mana_janitor USING (true);

CREATE POLICY janitor_prunes ON mana_ai.own_answers TO mana_janitor USING (true);

CREATE POLICY janitor_prunes ON mana_ai.owner_key_changes TO mana_janitor USING (true);

CREATE POLICY janitor_prunes ON mana_ai.people_trail TO mana_janitor USING (true);

CREATE POLICY janitor_prunes ON mana_ai.personal_tokens TO mana_janitor USING (true);

CREATE POLICY janitor_prunes ON mana_ai.proposals TO mana_janitor USING (true);

CREATE POLICY janitor_prunes ON mana_ai.quarantine TO mana_janitor USING (true);

CREATE POLICY janitor_prunes ON mana_ai.refresh_tokens TO mana_janitor USING (true);

CREATE POLICY janitor_prunes ON mana_ai.run_requests TO mana_janitor USING (true);

CREATE POLICY janitor_prunes ON mana_ai.runs TO mana_janitor USING (true);

CREATE POLICY janitor_prunes ON mana_ai.sealed_copies TO mana_janitor USING (true);

CREATE POLICY janitor_prunes ON mana_ai.sign_in_links TO mana_janitor USING (true);

CREATE POLICY janitor_prunes ON mana_ai.sign_ins TO mana_janitor USING (true);

CREATE POLICY janitor_prunes ON mana_ai.token_usage TO mana_janitor USING (true);

CREATE POLICY janitor_prunes ON mana_ai.visitors TO mana_janitor USING (true);

ALTER TABLE mana_ai.journal ENABLE ROW LEVEL SECURITY;

ALTER TABLE mana_ai.key_releases ENABLE ROW LEVEL SECURITY;

ALTER TABLE mana_ai.ledger ENABLE ROW LEVEL SECURITY;

ALTER TABLE mana_ai.limits ENABLE ROW LEVEL SECURITY;

ALTER TABLE mana_ai.mission_research_jobs ENABLE ROW LEVEL SECURITY;

ALTER TABLE mana_ai.mission_snapshots ENABLE ROW LEVEL SECURITY;

ALTER TABLE mana_ai.openings ENABLE ROW LEVEL SECURITY;

ALTER TABLE mana_ai.openings_seen ENABLE ROW LEVEL SECURITY;

ALTER TABLE mana_ai.operator_sessions ENABLE ROW LEVEL SECURITY;

ALTER TABLE mana_ai.own_answers ENABLE ROW LEVEL SECURITY;

CREATE POLICY owner_acts_for_user ON mana_ai.agent_snapshots TO mana_owner USING ((user_id = ( SELECT mana_ai.acting_user() AS acting_user))) WITH CHECK ((user_id = ( SELECT mana_ai.acting_user() AS acting_user)));

CREATE POLICY owner_acts_for_user ON mana_ai.change_feed TO mana_owner USING ((user_id = ( SELECT mana_ai.acting_user() AS acting_user))) WITH CHECK ((user_id = ( SELECT mana_ai.acting_user() AS acting_user)));

CREATE POLICY owner_acts_for_user ON mana_ai.copy_requests TO mana_owner USING ((user_id = ( SELECT mana_ai.acting_user() AS acting_user))) WITH CHECK ((user_id = ( SELECT mana_ai.acting_user() AS acting_user)));

CREATE POLICY owner_acts_for_user ON mana_ai.decisions TO mana_owner USING ((user_id = ( SELECT mana_ai.acting_user() AS acting_user))) WITH CHECK ((user_id = ( SELECT mana_ai.acting_user() AS acting_user)));

CREATE POLICY owner_acts_for_user ON mana_ai.decrypt_audit TO mana_owner USING ((user_id = ( SELECT mana_ai.acting_user() AS acting_user))) WITH CHECK ((user_id = ( SELECT mana_ai.acting_user() AS acting_user)));

CREATE POLICY owner_acts_for_user ON mana_ai.journal TO mana_owner USING ((user_id = ( SELECT mana_ai.acting_user() AS acting_user))) WITH CHECK ((user_id = ( SELECT mana_ai.acting_user() AS acting_user)));

CREATE POLICY owner_acts_for_user ON mana_ai.key_releases TO mana_owner USING ((user_id = ( SELECT mana_ai.acting_user() AS acting_user))) WITH CHECK ((user_id = ( SELECT mana_ai.acting_user() AS acting_user)));

CREATE POLICY owner_acts_for_user ON mana_ai.ledger TO mana_owner USING ((user_id = ( SELECT mana_ai.acting_user() AS acting_user))) WITH CHECK ((user_id = ( SELECT mana_ai.acting_user() AS acting_user)));

CREATE POLICY owner_acts_for_user ON mana_ai.limits TO mana_owner USING ((user_id = ANY (ARRAY[''::text, ( SELECT mana_ai.acting_user() AS acting_user)]))) WITH CHECK ((user_id = ANY (ARRAY[''::text, ( SELECT mana_ai.acting_user() AS acting_user)])));

CREATE POLICY owner_acts_for_user ON mana_ai.mission_research_jobs TO mana_owner USING ((user_id = ( SELECT mana_ai.acting_user() AS acting_user))) WITH CHECK ((user_id = ( SELECT mana_ai.acting_user() AS acting_user)));

CREATE POLICY owner_acts_for_user ON mana_ai.mission_snapshots TO mana_owner USING ((user_id = ( SELECT mana_ai.acting_user() AS acting_user))) WITH CHECK ((user_id = ( SELECT mana_ai.acting_user() AS acting_user)));

CREATE POLICY owner_acts_for_user ON mana_ai.owner_key_changes TO mana_owner USING ((user_id = ( SELECT mana_ai.acting_user() AS acting_user))) WITH CHECK ((user_id = ( SELECT mana_ai.acting_user() AS acting_user)));

CREATE POLICY owner_acts_for_user ON mana_ai.owner_keys TO mana_owner USING ((user_id = ( SELECT mana_ai.acting_user() AS acting_user))) WITH CHECK ((user_id = ( SELECT mana_ai.acting_user() AS acting_user)));

CREATE POLICY owner_acts_for_user ON mana_ai.quarantine TO mana_owner USING ((user_id = ( SELECT mana_ai.acting_user() AS acting_user))) WITH CHECK ((user_id = ( SELECT mana_ai.acting_user() AS acting_user)));

CREATE POLICY owner_acts_for_user ON mana_ai.run_requests TO mana_owner USING ((user_id = ( SELECT mana_ai.acting_user() AS acting_user))) WITH CHECK ((user_id = ( SELECT mana_ai.acting_user() AS acting_user)));

CREATE POLICY owner_acts_for_user ON mana_ai.runs TO mana_owner USING ((user_id = ( SELECT mana_ai.acting_user() AS acting_user))) WITH CHECK ((user_id = ( SELECT mana_ai.acting_user() AS acting_user)));

CREATE POLICY owner_acts_for_user ON mana_ai.sealed_copies TO mana_owner USING ((user_id = ( SELECT mana_ai.acting_user() AS acting_user))) WITH CHECK ((user_id = ( SELECT mana_ai.acting_user() AS acting_user)));

CREATE POLICY owner_acts_for_user ON mana_ai.token_holds TO mana_owner USING ((user_id = ( SELECT mana_ai.acting_user() AS acting_user))) WITH CHECK ((user_id = ( SELECT mana_ai.acting_user() AS acting_user)));

CREATE POLICY owner_acts_for_user ON mana_ai.token_usage TO mana_owner USING ((user_id = ( SELECT mana_ai.acting_user() AS acting_user))) WITH CHECK ((user_id = ( SELECT mana_ai.acting_user() AS acting_user)));

CREATE POLICY owner_acts_for_user ON mana_ai.user_settings TO mana_owner USING ((user_id = ( SELECT mana_ai.acting_user() AS acting_user))) WITH CHECK ((user_id = ( SELECT mana_ai.acting_user() AS acting_user)));

CREATE POLICY owner_compares ON mana_ai.space_members FOR SELECT TO mana_owner USING (true);

CREATE POLICY owner_compares ON mana_ai.spaces FOR SELECT TO mana_owner USING (true);

CREATE POLICY owner_finds_late ON mana_ai.proposals FOR SELECT TO mana_owner USING (((state = ANY (ARRAY['pending'::text, 'refused'::text])) AND (expires_at <= clock_timestamp())));

ALTER TABLE mana_ai.owner_key_changes ENABLE ROW LEVEL SECURITY;

ALTER TABLE mana_ai.owner_keys ENABLE ROW LEVEL SECURITY;

CREATE POLICY owner_reads ON mana_ai.sync_devices FOR SELECT TO mana_owner USING (true);

CREATE POLICY owner_reads ON mana_ai.sync_late FOR SELECT TO mana_owner USING (true);

ALTER TABLE mana_ai.people ENABLE ROW LEVEL SECURITY;

ALTER TABLE mana_ai.people_trail ENABLE ROW LEVEL SECURITY;

ALTER TABLE mana_ai.personal_tokens ENABLE ROW LEVEL SECURITY;

ALTER TABLE mana_ai.proposals ENABLE ROW LEVEL SECURITY;

ALTER TABLE mana_ai.quarantine ENABLE ROW LEVEL SECURITY;

ALTER TABLE mana_ai.refresh_tokens ENABLE ROW LEVEL SECURITY;

CREATE POLICY router_compares ON mana_ai.agent_snapshots FOR SELECT TO mana_router USING (true);

CREATE POLICY router_compares ON mana_ai.mission_snapshots FOR SELECT TO mana_router USING (true);

CREATE POLICY router_moves ON mana_ai.change_feed TO mana_router USING (true) WITH CHECK (true);

CREATE POLICY router_notes ON mana_ai.sync_devices TO mana_router USING (true) WITH CHECK (true);

CREATE POLICY router_publishes ON mana_ai.sync_feeds TO mana_router USING (true) WITH CHECK (true);

CREATE POLICY router_publishes ON mana_ai.sync_late TO mana_router USING (true) WITH CHECK (true);

CREATE POLICY router_publishes ON mana_ai.sync_pending TO mana_router USING (true) WITH CHECK (true);

CREATE POLICY router_takes ON mana_ai.copy_requests TO mana_router USING (true) WITH CHECK (true);

ALTER TABLE mana_ai.run_requests ENABLE ROW LEVEL SECURITY;

ALTER TABLE mana_ai.runs ENABLE ROW LEVEL SECURITY;

ALTER TABLE mana_ai.sealed_copies ENABLE ROW LEVEL SECURITY;

ALTER TABLE mana_ai.sign_in_links ENABLE ROW LEVEL SECURITY;

ALTER TABLE mana_ai.sign_ins ENABLE ROW LEVEL SECURITY;

ALTER TABLE mana_ai.space_members ENABLE ROW LEVEL SECURITY;

ALTER TABLE mana_ai.spaces ENABLE ROW LEVEL SECURITY;

ALTER TABLE mana_ai.standing_approvals ENABLE ROW LEVEL SECURITY;

CREATE POLICY supervisor_schedules ON mana_ai.agent_snapshots TO mana_supervisor USING (true) WITH CHECK (true);

CREATE POLICY supervisor_schedules ON mana_ai.change_feed TO mana_supervisor USING (true) WITH CHECK (true);

CREATE POLICY supervisor_schedules ON mana_ai.decisions TO mana_supervisor USING (true) WITH CHECK (true);

CREATE POLICY supervisor_schedules ON mana_ai.ledger TO mana_supervisor USING (true) WITH CHECK (true);

CREATE POLICY supervisor_schedules ON mana_ai.mission_research_jobs TO mana_supervisor USING (true) WITH CHECK (true);

CREATE POLICY supervisor_schedules ON mana_ai.mission_snapshots TO mana_supervisor USING (true) WITH CHECK (true);

CREATE POLICY supervisor_schedules ON mana_ai.quarantine TO mana_supervisor USING (true) WITH CHECK (true);

CREATE POLICY supervisor_schedules ON mana_ai.run_requests TO mana_supervisor USING (true) WITH CHECK (true);

CREATE POLICY supervisor_schedules ON mana_ai.runs TO mana_supervisor USING (true) WITH CHECK (true);

CREATE POLICY supervisor_schedules ON mana_ai.token_holds TO mana_supervisor USING (true) WITH CHECK (true);

CREATE POLICY supervisor_schedules ON mana_ai.token_usage TO mana_supervisor USING (true) WITH CHECK (true);

CREATE POLICY supervisor_schedules ON mana_ai.user_settings TO mana_supervisor USING (true) WITH CHECK (true);

ALTER TABLE mana_ai.sync_devices ENABLE ROW LEVEL SECURITY;

ALTER TABLE mana_ai.sync_feeds ENABLE ROW LEVEL SECURITY;

ALTER TABLE mana_ai.sync_late ENABLE ROW LEVEL SECURITY;

ALTER TABLE mana_ai.sync_pending ENABLE ROW LEVEL SECURITY;

ALTER TABLE mana_ai.token_holds ENABLE ROW LEVEL SECURITY;

ALTER TABLE mana_ai.token_usage ENABLE ROW LEVEL SECURITY;

ALTER TABLE mana_ai.user_settings ENABLE ROW LEVEL SECURITY;

ALTER TABLE mana_ai.vault_key_checks ENABLE ROW LEVEL SECURITY;

ALTER TABLE mana_ai.visitors ENABLE ROW LEVEL SECURITY;

CREATE POLICY mana_agent_within_capability ON public.sync_changes AS RESTRICTIVE TO mana_agent USING ((((user_id = ( SELECT mana_ai.capability_user() AS capability_user)) OR (space_id = ANY (ARRAY( SELECT jsonb_array_elements_text((( SELECT mana_ai.capability() AS capability) -> 's'::text)) AS jsonb_array_elements_text)))) AND (((app_id = 'ai'::text) AND (table_name = ANY (ARRAY['aiMissions'::text, 'agents'::text]))) OR (((((app_id || '/'::text) || table_name) || '/'::text) || record_id) = ANY (( SELECT mana_ai.capability_scope() AS capability_scope)::text[])) OR ((((app_id || '/'::text) || table_name) || '/*'::text) = ANY (( SELECT mana_ai.capability_scope() AS capability_scope)::text[])))));

CREATE POLICY mana_compactor_deletes ON public.sync_changes FOR DELETE TO mana_compactor USING (true);

CREATE POLICY mana_compactor_only ON public.sync_changes AS RESTRICTIVE FOR DELETE TO mana_compactor USING (((op = 'update'::text) AND (created_at < (clock_timestamp() - '1 day'::interval))));

CREATE POLICY mana_compactor_reads ON public.sync_changes FOR SELECT TO mana_compactor USING (true);

CREATE POLICY mana_router_read ON public.sync_changes FOR SELECT TO mana_router USING (((app_id = 'ai'::text) AND (table_name = ANY (ARRAY['aiMissions'::text, 'agents'::text]))));

ALTER TABLE public.sync_changes ENABLE ROW LEVEL SECURITY;

CREATE POLICY sync_changes_space_member_read ON public.sync_changes FOR SELECT USING (((space_id IS NOT NULL) AND (space_id = ANY (string_to_array(current_setting('app.current_user_space_ids'::text, true), ','::text)))));

CREATE POLICY sync_changes_user_isolation ON public.sync_changes USING ((user_id = current_setting('app.current_user_id'::text, true))) WITH CHECK ((user_id = current_setting('app.current_user_id'::text, true)));

GRANT USAGE ON SCHEMA auth TO mana_issuer;

GRANT USAGE ON SCHEMA mana_ai TO mana_router;
GRANT USAGE ON SCHEMA mana_ai TO mana_fleet;
GRANT USAGE ON SCHEMA mana_ai TO mana_supervisor;
GRANT USAGE ON SCHEMA mana_ai TO mana_agent;
GRANT USAGE ON SCHEMA mana_ai TO mana_keys;
GRANT USAGE ON SCHEMA mana_ai TO mana_gateway;
GRANT USAGE ON SCHEMA mana_ai TO mana_janitor;
GRANT USAGE ON SCHEMA mana_ai TO mana_issuer;
GRANT USAGE ON SCHEMA mana_ai TO mana_compactor;

REVOKE ALL ON FUNCTION mana_ai.acting_user() FROM PUBLIC;

REVOKE ALL ON FUNCTION mana_ai.pad(p_secret bytea, p_byte integer) FROM PUBLIC;

REVOKE ALL ON FUNCTION mana_ai.add_capability_secret(p_audience text, p_kid text, p_secret bytea) FROM PUBLIC;

REVOKE ALL ON FUNCTION mana_ai.answer_copies(p_user text, p_mission text, p_taken uuid, p_answer text) FROM PUBLIC;
GRANT ALL ON FUNCTION mana_ai.answer_copies(p_user text, p_mission text, p_taken uuid, p_answer text) TO mana_gateway;

REVOKE ALL ON FUNCTION mana_ai.audit_outcome(p_capability text, p_release uuid, p_iteration text, p_tables text[], p_records text[], p_statuses text[], p_reasons text[]) FROM PUBLIC;
GRANT ALL ON FUNCTION mana_ai.audit_outcome(p_capability text, p_release uuid, p_iteration text, p_tables text[], p_records text[], p_statuses text[], p_reasons text[]) TO mana_agent;

REVOKE ALL ON FUNCTION mana_ai.base64url(p_bytes bytea) FROM PUBLIC;

REVOKE ALL ON FUNCTION mana_ai.begin_call(p_capability text, p_run uuid, p_attempt integer, p_round integer, p_hash text, p_hold bigint, p_deadline_ms integer, p_micros bigint, OUT outcome text, OUT call_id uuid, OUT answer text, OUT used bigint, OUT held bigint, OUT cap bigint, OUT scope text, OUT unit text, OUT until text) FROM PUBLIC;
GRANT ALL ON FUNCTION mana_ai.begin_call(p_capability text, p_run uuid, p_attempt integer, p_round integer, p_hash text, p_hold bigint, p_deadline_ms integer, p_micros bigint, OUT outcome text, OUT call_id uuid, OUT answer text, OUT used bigint, OUT held bigint, OUT cap bigint, OUT scope text, OUT unit text, OUT until text) TO mana_agent;

REVOKE ALL ON FUNCTION mana_ai.bucket_of(p_user text) FROM PUBLIC;
GRANT ALL ON FUNCTION mana_ai.bucket_of(p_user text) TO mana_router;
GRANT ALL ON FUNCTION mana_ai.bucket_of(p_user text) TO mana_supervisor;
GRANT ALL ON FUNCTION mana_ai.bucket_of(p_user text) TO mana_gateway;

REVOKE ALL ON FUNCTION mana_ai.budget_facts(p_user text, p_agent text, OUT cap bigint, OUT used bigint, OUT back_at timestamp with time zone, OUT full_scope text, OUT full_unit text, OUT full_back_at timestamp with time zone) FROM PUBLIC;
GRANT ALL ON FUNCTION mana_ai.budget_facts(p_user text, p_agent text, OUT cap bigint, OUT used bigint, OUT back_at timestamp with time zone, OUT full_scope text, OUT full_unit text, OUT full_back_at timestamp with time zone) TO mana_supervisor;
GRANT ALL ON FUNCTION mana_ai.budget_facts(p_user text, p_agent text, OUT cap bigint, OUT used bigint, OUT back_at timestamp with time zone, OUT full_scope text, OUT full_unit text, OUT full_back_at timestamp with time zone) TO mana_gateway;

REVOKE ALL ON FUNCTION mana_ai.budgets_of(p_user text, p_agent text, p_scopes text[]) FROM PUBLIC;
GRANT ALL ON FUNCTION mana_ai.budgets_of(p_user text, p_agent text, p_scopes text[]) TO mana_supervisor;
GRANT ALL ON FUNCTION mana_ai.budgets_of(p_user text, p_agent text, p_scopes text[]) TO mana_gateway;

REVOKE ALL ON FUNCTION mana_ai.cancel_run(p_user text, p_run uuid, p_reason text, OUT outcome text, OUT state text, OUT agent_id text, OUT mission_id text) FROM PUBLIC;
GRANT ALL ON FUNCTION mana_ai.cancel_run(p_user text, p_run uuid, p_reason text, OUT outcome text, OUT state text, OUT agent_id text, OUT mission_id text) TO mana_gateway;

REVOKE ALL ON FUNCTION mana_ai.capability(p_audience text) FROM PUBLIC;
GRANT ALL ON FUNCTION mana_ai.capability(p_audience text) TO mana_agent;

REVOKE ALL ON FUNCTION mana_ai.capability_agent() FROM PUBLIC;
GRANT ALL ON FUNCTION mana_ai.capability_agent() TO mana_agent;

REVOKE ALL ON FUNCTION mana_ai.capability_chars() FROM PUBLIC;

REVOKE ALL ON FUNCTION mana_ai.capability_life() FROM PUBLIC;

REVOKE ALL ON FUNCTION mana_ai.capability_proof(p_user text, p_until text) FROM PUBLIC;

REVOKE ALL ON FUNCTION mana_ai.capability_scope() FROM PUBLIC;
GRANT ALL ON FUNCTION mana_ai.capability_scope() TO mana_agent;

REVOKE ALL ON FUNCTION mana_ai.capability_secrets_now() FROM PUBLIC;
GRANT ALL ON FUNCTION mana_ai.capability_secrets_now() TO mana_supervisor;

REVOKE ALL ON FUNCTION mana_ai.capability_user() FROM PUBLIC;
GRANT ALL ON FUNCTION mana_ai.capability_user() TO mana_agent;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE mana_ai.agent_snapshots TO mana_supervisor;
GRANT SELECT ON TABLE mana_ai.agent_snapshots TO mana_agent;
GRANT SELECT ON TABLE mana_ai.agent_snapshots TO mana_gateway;

GRANT SELECT(user_id) ON TABLE mana_ai.agent_snapshots TO mana_router;
GRANT SELECT(user_id) ON TABLE mana_ai.agent_snapshots TO mana_fleet;
GRANT SELECT(user_id) ON TABLE mana_ai.agent_snapshots TO mana_compactor;

GRANT SELECT(agent_id) ON TABLE mana_ai.agent_snapshots TO mana_router;
GRANT SELECT(agent_id) ON TABLE mana_ai.agent_snapshots TO mana_fleet;
GRANT SELECT(agent_id) ON TABLE mana_ai.agent_snapshots TO mana_compactor;

GRANT SELECT(version) ON TABLE mana_ai.agent_snapshots TO mana_fleet;

GRANT SELECT(state) ON TABLE mana_ai.agent_snapshots TO mana_fleet;

GRANT SELECT(max_tokens_per_day) ON TABLE mana_ai.agent_snapshots TO mana_fleet;

GRANT SELECT(max_concurrent) ON TABLE mana_ai.agent_snapshots TO mana_fleet;

GRANT SELECT(complete) ON TABLE mana_ai.agent_snapshots TO mana_fleet;

GRANT SELECT(hidden) ON TABLE mana_ai.agent_snapshots TO mana_fleet;

GRANT SELECT(problems) ON TABLE mana_ai.agent_snapshots TO mana_fleet;

GRANT SELECT(folded_count) ON TABLE mana_ai.agent_snapshots TO mana_router;
GRANT SELECT(folded_count),UPDATE(folded_count) ON TABLE mana_ai.agent_snapshots TO mana_compactor;

GRANT SELECT(folded_digest) ON TABLE mana_ai.agent_snapshots TO mana_router;
GRANT SELECT(folded_digest),UPDATE(folded_digest) ON TABLE mana_ai.agent_snapshots TO mana_compactor;

GRANT SELECT ON TABLE mana_ai.limits TO mana_gateway;
GRANT SELECT ON TABLE mana_ai.limits TO mana_supervisor;
GRANT SELECT ON TABLE mana_ai.limits TO mana_fleet;

REVOKE ALL ON FUNCTION mana_ai.caps_of(p_user text, p_agent text, OUT agent_tokens bigint, OUT agent_micros bigint, OUT agent_source text, OUT user_tokens bigint, OUT user_micros bigint, OUT installation_tokens bigint, OUT installation_micros bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION mana_ai.caps_of(p_user text, p_agent text, OUT agent_tokens bigint, OUT agent_micros bigint, OUT agent_source text, OUT user_tokens bigint, OUT user_micros bigint, OUT installation_tokens bigint, OUT installation_micros bigint) TO mana_supervisor;
GRANT ALL ON FUNCTION mana_ai.caps_of(p_user text, p_agent text, OUT agent_tokens bigint, OUT agent_micros bigint, OUT agent_source text, OUT user_tokens bigint, OUT user_micros bigint, OUT installation_tokens bigint, OUT installation_micros bigint) TO mana_gateway;

REVOKE ALL ON FUNCTION mana_ai.change_digest(p_id uuid) FROM PUBLIC;
GRANT ALL ON FUNCTION mana_ai.change_digest(p_id uuid) TO mana_router;
GRANT ALL ON FUNCTION mana_ai.change_digest(p_id uuid) TO mana_supervisor;
GRANT ALL ON FUNCTION mana_ai.change_digest(p_id uuid) TO mana_gateway;
GRANT ALL ON FUNCTION mana_ai.change_digest(p_id uuid) TO mana_compactor;

GRANT SELECT,DELETE ON TABLE mana_ai.token_holds TO mana_supervisor;
GRANT SELECT ON TABLE mana_ai.token_holds TO mana_agent;
GRANT SELECT ON TABLE mana_ai.token_holds TO mana_fleet;
GRANT SELECT ON TABLE mana_ai.token_holds TO mana_gateway;

GRANT UPDATE(deadline) ON TABLE mana_ai.token_holds TO mana_supervisor;

GRANT SELECT,INSERT ON TABLE mana_ai.token_usage TO mana_supervisor;
GRANT SELECT ON TABLE mana_ai.token_usage TO mana_agent;
GRANT SELECT ON TABLE mana_ai.token_usage TO mana_fleet;
GRANT SELECT ON TABLE mana_ai.token_usage TO mana_gateway;
GRANT DELETE ON TABLE mana_ai.token_usage TO mana_janitor;

GRANT SELECT(ts) ON TABLE mana_ai.token_usage TO mana_janitor;

REVOKE ALL ON FUNCTION mana_ai.charge_expired_holds(p_user text, p_agent text) FROM PUBLIC;

REVOKE ALL ON FUNCTION mana_ai.claim(p_capability text, p_claim uuid, p_mission text, p_due timestamp with time zone, p_lease_ms integer, p_holder text, p_pinned jsonb, p_mission_version bigint, p_agent_version bigint, p_time_zone text, p_inputs jsonb, OUT outcome text, OUT run_id uuid, OUT attempt integer, OUT due_at timestamp with time zone, OUT look_at timestamp with time zone, OUT pinned jsonb, OUT failures integer, OUT lost integer, OUT requested boolean, OUT mission_version bigint, OUT agent_version bigint, OUT time_zone text, OUT record jsonb, OUT inputs jsonb, OUT now timestamp with time zone) FROM PUBLIC;
GRANT ALL ON FUNCTION mana_ai.claim(p_capability text, p_claim uuid, p_mission text, p_due timestamp with time zone, p_lease_ms integer, p_holder text, p_pinned jsonb, p_mission_version bigint, p_agent_version bigint, p_time_zone text, p_inputs jsonb, OUT outcome text, OUT run_id uuid, OUT attempt integer, OUT due_at timestamp with time zone, OUT look_at timestamp with time zone, OUT pinned jsonb, OUT failures integer, OUT lost integer, OUT requested boolean, OUT mission_version bigint, OUT agent_version bigint, OUT time_zone text, OUT record jsonb, OUT inputs jsonb, OUT now timestamp with time zone) TO mana_agent;

GRANT SELECT ON TABLE mana_ai.runs TO mana_supervisor;
GRANT SELECT ON TABLE mana_ai.runs TO mana_agent;
GRANT SELECT ON TABLE mana_ai.runs TO mana_fleet;
GRANT SELECT ON TABLE mana_ai.runs TO mana_gateway;
GRANT DELETE ON TABLE mana_ai.runs TO mana_janitor;

GRANT UPDATE(state) ON TABLE mana_ai.runs TO mana_supervisor;

GRANT UPDATE(lease_until) ON TABLE mana_ai.runs TO mana_supervisor;

GRANT UPDATE(reason) ON TABLE mana_ai.runs TO mana_supervisor;

GRANT UPDATE(closed_at) ON TABLE mana_ai.runs TO mana_supervisor;
GRANT SELECT(closed_at) ON TABLE mana_ai.runs TO mana_janitor;

REVOKE ALL ON FUNCTION mana_ai.close_run(p_run mana_ai.runs, p_state text, p_reason text) FROM PUBLIC;

REVOKE ALL ON FUNCTION mana_ai.commit_run(p_capability text, p_run uuid, p_attempt integer, p_call text, p_note text, p_basis text, p_state text, p_data text, p_floor text, p_actor text, p_next timestamp with time zone, p_iteration text, p_steps integer, p_reason text, OUT outcome text, OUT charged bigint, OUT newer jsonb, OUT now timestamp with time zone) FROM PUBLIC;
GRANT ALL ON FUNCTION mana_ai.commit_run(p_capability text, p_run uuid, p_attempt integer, p_call text, p_note text, p_basis text, p_state text, p_data text, p_floor text, p_actor text, p_next timestamp with time zone, p_iteration text, p_steps integer, p_reason text, OUT outcome text, OUT charged bigint, OUT newer jsonb, OUT now timestamp with time zone) TO mana_agent;

REVOKE ALL ON FUNCTION mana_ai.compact_record(p_user text, p_app text, p_table text, p_record text, p_keep interval, p_after_at timestamp with time zone, p_after_id uuid, p_removes boolean, OUT outcome text, OUT removed bigint, OUT bytes bigint, OUT next_at timestamp with time zone, OUT next_id uuid) FROM PUBLIC;
GRANT ALL ON FUNCTION mana_ai.compact_record(p_user text, p_app text, p_table text, p_record text, p_keep interval, p_after_at timestamp with time zone, p_after_id uuid, p_removes boolean, OUT outcome text, OUT removed bigint, OUT bytes bigint, OUT next_at timestamp with time zone, OUT next_id uuid) TO mana_janitor;

REVOKE ALL ON FUNCTION mana_ai.copy_source(p_user text, p_mission text, p_taken uuid, p_app text, p_table text, p_record text) FROM PUBLIC;
GRANT ALL ON FUNCTION mana_ai.copy_source(p_user text, p_mission text, p_taken uuid, p_app text, p_table text, p_record text) TO mana_gateway;

REVOKE ALL ON FUNCTION mana_ai.end_call(p_capability text, p_call uuid, p_attempt integer, p_hash text, p_answer text, p_tokens bigint, p_micros bigint, p_answers jsonb, OUT charged bigint, OUT journaled boolean) FROM PUBLIC;
GRANT ALL ON FUNCTION mana_ai.end_call(p_capability text, p_call uuid, p_attempt integer, p_hash text, p_answer text, p_tokens bigint, p_micros bigint, p_answers jsonb, OUT charged bigint, OUT journaled boolean) TO mana_agent;

REVOKE ALL ON FUNCTION mana_ai.old_sessions(p_older_s double precision) FROM PUBLIC;
GRANT ALL ON FUNCTION mana_ai.old_sessions(p_older_s double precision) TO mana_supervisor;

REVOKE ALL ON FUNCTION mana_ai.end_sessions(p_older_s double precision, p_pids integer[]) FROM PUBLIC;
GRANT ALL ON FUNCTION mana_ai.end_sessions(p_older_s double precision, p_pids integer[]) TO mana_supervisor;

REVOKE ALL ON FUNCTION mana_ai.feed_changes() FROM PUBLIC;

REVOKE ALL ON FUNCTION mana_ai.forget_revoked() FROM PUBLIC;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE mana_ai.mission_snapshots TO mana_supervisor;
GRANT SELECT ON TABLE mana_ai.mission_snapshots TO mana_agent;
GRANT SELECT ON TABLE mana_ai.mission_snapshots TO mana_gateway;

GRANT SELECT(user_id) ON TABLE mana_ai.mission_snapshots TO mana_router;
GRANT SELECT(user_id) ON TABLE mana_ai.mission_snapshots TO mana_fleet;
GRANT SELECT(user_id) ON TABLE mana_ai.mission_snapshots TO mana_compactor;

GRANT SELECT(mission_id) ON TABLE mana_ai.mission_snapshots TO mana_router;
GRANT SELECT(mission_id) ON TABLE mana_ai.mission_snapshots TO mana_fleet;
GRANT SELECT(mission_id) ON TABLE mana_ai.mission_snapshots TO mana_compactor;

GRANT SELECT(version) ON TABLE mana_ai.mission_snapshots TO mana_fleet;

GRANT SELECT(wake_at) ON TABLE mana_ai.mission_snapshots TO mana_fleet;

GRANT SELECT(next_run_at) ON TABLE mana_ai.mission_snapshots TO mana_fleet;

GRANT SELECT(state) ON TABLE mana_ai.mission_snapshots TO mana_fleet;

GRANT SELECT(agent_id) ON TABLE mana_ai.mission_snapshots TO mana_fleet;

GRANT SELECT(complete) ON TABLE mana_ai.mission_snapshots TO mana_fleet;

GRANT SELECT(hidden) ON TABLE mana_ai.mission_snapshots TO mana_fleet;

GRANT SELECT(readable) ON TABLE mana_ai.mission_snapshots TO mana_fleet;

GRANT SELECT(problems) ON TABLE mana_ai.mission_snapshots TO mana_fleet;

GRANT SELECT(folded_count) ON TABLE mana_ai.mission_snapshots TO mana_router;
GRANT SELECT(folded_count),UPDATE(folded_count) ON TABLE mana_ai.mission_snapshots TO mana_compactor;

GRANT SELECT(folded_digest) ON TABLE mana_ai.mission_snapshots TO mana_router;
GRANT SELECT(folded_digest),UPDATE(folded_digest) ON TABLE mana_ai.mission_snapshots TO mana_compactor;

GRANT SELECT(heal) ON TABLE mana_ai.mission_snapshots TO mana_compactor;

GRANT SELECT(decision) ON TABLE mana_ai.mission_snapshots TO mana_fleet;

GRANT SELECT(reason) ON TABLE mana_ai.mission_snapshots TO mana_fleet;

GRANT SELECT(decided_at) ON TABLE mana_ai.mission_snapshots TO mana_fleet;

GRANT SELECT(awaits_staging) ON TABLE mana_ai.mission_snapshots TO mana_fleet;

REVOKE ALL ON FUNCTION mana_ai.free_missions(p_users text[], p_missions text[]) FROM PUBLIC;
GRANT ALL ON FUNCTION mana_ai.free_missions(p_users text[], p_missions text[]) TO mana_supervisor;

REVOKE ALL ON FUNCTION mana_ai.grant_end(p_user text, p_mission text) FROM PUBLIC;

REVOKE ALL ON FUNCTION mana_ai.granted_mission(p_run uuid, p_attempt integer, p_mission text, OUT outcome text, OUT user_id text, OUT agent_id text, OUT snapshot jsonb, OUT changes jsonb, OUT asked_at timestamp with time zone) FROM PUBLIC;
GRANT ALL ON FUNCTION mana_ai.granted_mission(p_run uuid, p_attempt integer, p_mission text, OUT outcome text, OUT user_id text, OUT agent_id text, OUT snapshot jsonb, OUT changes jsonb, OUT asked_at timestamp with time zone) TO mana_keys;

REVOKE ALL ON FUNCTION mana_ai.heal_mission(p_mission text, p_version bigint, p_iterations jsonb, p_stamp text, p_actor jsonb, p_restored text[]) FROM PUBLIC;
GRANT ALL ON FUNCTION mana_ai.heal_mission(p_mission text, p_version bigint, p_iterations jsonb, p_stamp text, p_actor jsonb, p_restored text[]) TO mana_agent;

REVOKE ALL ON FUNCTION mana_ai.installation_room_at(p_since timestamp with time zone, p_unit text, p_need bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION mana_ai.installation_room_at(p_since timestamp with time zone, p_unit text, p_need bigint) TO mana_owner;
GRANT ALL ON FUNCTION mana_ai.installation_room_at(p_since timestamp with time zone, p_unit text, p_need bigint) TO mana_supervisor;
GRANT ALL ON FUNCTION mana_ai.installation_room_at(p_since timestamp with time zone, p_unit text, p_need bigint) TO mana_gateway;

REVOKE ALL ON FUNCTION mana_ai.installation_spent(p_since timestamp with time zone, OUT used bigint, OUT held bigint, OUT micros_used bigint, OUT micros_held bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION mana_ai.installation_spent(p_since timestamp with time zone, OUT used bigint, OUT held bigint, OUT micros_used bigint, OUT micros_held bigint) TO mana_owner;
GRANT ALL ON FUNCTION mana_ai.installation_spent(p_since timestamp with time zone, OUT used bigint, OUT held bigint, OUT micros_used bigint, OUT micros_held bigint) TO mana_supervisor;
GRANT ALL ON FUNCTION mana_ai.installation_spent(p_since timestamp with time zone, OUT used bigint, OUT held bigint, OUT micros_used bigint, OUT micros_held bigint) TO mana_gateway;

REVOKE ALL ON FUNCTION mana_ai.is_shared(p_space text) FROM PUBLIC;
GRANT ALL ON FUNCTION mana_ai.is_shared(p_space text) TO mana_owner;
GRANT ALL ON FUNCTION mana_ai.is_shared(p_space text) TO mana_supervisor;
GRANT ALL ON FUNCTION mana_ai.is_shared(p_space text) TO mana_compactor;

GRANT SELECT ON TABLE public.sync_changes TO mana_router;
GRANT SELECT,INSERT ON TABLE public.sync_changes TO mana_owner;
GRANT SELECT ON TABLE public.sync_changes TO mana_agent;
GRANT SELECT,DELETE ON TABLE public.sync_changes TO mana_compactor;

GRANT SELECT ON TABLE mana_ai.router_log TO mana_compactor;

REVOKE ALL ON FUNCTION mana_ai.owner_of(p_user text, p_table text, p_record text, p_space text) FROM PUBLIC;
GRANT ALL ON FUNCTION mana_ai.owner_of(p_user text, p_table text, p_record text, p_space text) TO mana_owner;
GRANT ALL ON FUNCTION mana_ai.owner_of(p_user text, p_table text, p_record text, p_space text) TO mana_compactor;

GRANT SELECT,INSERT,DELETE ON TABLE mana_ai.change_feed TO mana_router;
GRANT SELECT ON TABLE mana_ai.change_feed TO mana_supervisor;

GRANT SELECT(table_name) ON TABLE mana_ai.change_feed TO mana_compactor;

GRANT SELECT(record_id) ON TABLE mana_ai.change_feed TO mana_compactor;

REVOKE ALL ON FUNCTION mana_ai.unfolded_rows(p_user text, p_table text, p_record text) FROM PUBLIC;
GRANT ALL ON FUNCTION mana_ai.unfolded_rows(p_user text, p_table text, p_record text) TO mana_owner;

GRANT SELECT ON TABLE mana_ai.owner_keys TO mana_agent;
GRANT SELECT ON TABLE mana_ai.owner_keys TO mana_gateway;

GRANT SELECT ON TABLE mana_ai.user_settings TO mana_supervisor;
GRANT SELECT ON TABLE mana_ai.user_settings TO mana_agent;
GRANT SELECT,INSERT,UPDATE ON TABLE mana_ai.user_settings TO mana_gateway;

REVOKE ALL ON FUNCTION mana_ai.is_as_decided(p_user text, p_mission text, p_agent text, p_basis jsonb) FROM PUBLIC;

REVOKE ALL ON FUNCTION mana_ai.keys_capability(p_capability text, p_run uuid, p_attempt integer) FROM PUBLIC;
GRANT ALL ON FUNCTION mana_ai.keys_capability(p_capability text, p_run uuid, p_attempt integer) TO mana_agent;

GRANT SELECT,INSERT,UPDATE ON TABLE mana_ai.proposals TO mana_gateway;
GRANT DELETE ON TABLE mana_ai.proposals TO mana_janitor;

GRANT SELECT(decided_at) ON TABLE mana_ai.proposals TO mana_janitor;

REVOKE ALL ON FUNCTION mana_ai.late_proposals(p_limit integer) FROM PUBLIC;
GRANT ALL ON FUNCTION mana_ai.late_proposals(p_limit integer) TO mana_gateway;

REVOKE ALL ON FUNCTION mana_ai.load_memory(p_capability text, p_missions text[], p_mission_fields text[], p_agent_fields text[], OUT agent jsonb, OUT missions jsonb, OUT time_zone text, OUT cap bigint, OUT slots_from timestamp with time zone, OUT charges jsonb, OUT holds jsonb, OUT requested jsonb, OUT now timestamp with time zone, OUT agent_record jsonb, OUT forgotten bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION mana_ai.load_memory(p_capability text, p_missions text[], p_mission_fields text[], p_agent_fields text[], OUT agent jsonb, OUT missions jsonb, OUT time_zone text, OUT cap bigint, OUT slots_from timestamp with time zone, OUT charges jsonb, OUT holds jsonb, OUT requested jsonb, OUT now timestamp with time zone, OUT agent_record jsonb, OUT forgotten bigint) TO mana_agent;

REVOKE ALL ON FUNCTION mana_ai.lock_installation() FROM PUBLIC;

REVOKE ALL ON FUNCTION mana_ai.lock_ledger(p_user text, p_agent text) FROM PUBLIC;

GRANT SELECT ON TABLE mana_ai.run_requests TO mana_supervisor;
GRANT SELECT ON TABLE mana_ai.run_requests TO mana_agent;
GRANT SELECT ON TABLE mana_ai.run_requests TO mana_gateway;
GRANT DELETE ON TABLE mana_ai.run_requests TO mana_janitor;

GRANT UPDATE(closed_at) ON TABLE mana_ai.run_requests TO mana_supervisor;
GRANT SELECT(closed_at) ON TABLE mana_ai.run_requests TO mana_janitor;

REVOKE ALL ON FUNCTION mana_ai.look_again(p_user text, p_mission text, p_next timestamp with time zone) FROM PUBLIC;

REVOKE ALL ON FUNCTION mana_ai.may_share(p_user text, p_space text) FROM PUBLIC;
GRANT ALL ON FUNCTION mana_ai.may_share(p_user text, p_space text) TO mana_supervisor;

GRANT SELECT,INSERT,DELETE ON TABLE mana_ai.space_members TO mana_gateway;

REVOKE ALL ON FUNCTION mana_ai.members_of(p_space text) FROM PUBLIC;
GRANT ALL ON FUNCTION mana_ai.members_of(p_space text) TO mana_supervisor;

REVOKE ALL ON FUNCTION mana_ai.unfolded(p_user text, p_table text, p_record text) FROM PUBLIC;

REVOKE ALL ON FUNCTION mana_ai.mission_now(p_user text, p_mission text, p_agent text) FROM PUBLIC;

REVOKE ALL ON FUNCTION mana_ai.missions_to_stage(p_user text) FROM PUBLIC;
GRANT ALL ON FUNCTION mana_ai.missions_to_stage(p_user text) TO mana_gateway;

REVOKE ALL ON FUNCTION mana_ai.model_word(p_text text) FROM PUBLIC;

REVOKE ALL ON FUNCTION mana_ai.move_slot(p_user text, p_mission text, p_due timestamp with time zone, p_next text, p_stamp text, p_actor jsonb, p_missed_after interval, p_missed text) FROM PUBLIC;
GRANT ALL ON FUNCTION mana_ai.move_slot(p_user text, p_mission text, p_due timestamp with time zone, p_next text, p_stamp text, p_actor jsonb, p_missed_after interval, p_missed text) TO mana_supervisor;

REVOKE ALL ON FUNCTION mana_ai.next_to_compact(p_user text, p_app text, p_table text, p_keep interval) FROM PUBLIC;
GRANT ALL ON FUNCTION mana_ai.next_to_compact(p_user text, p_app text, p_table text, p_keep interval) TO mana_janitor;

GRANT SELECT,INSERT ON TABLE mana_ai.decisions TO mana_supervisor;
GRANT SELECT ON TABLE mana_ai.decisions TO mana_agent;
GRANT SELECT ON TABLE mana_ai.decisions TO mana_fleet;
GRANT SELECT ON TABLE mana_ai.decisions TO mana_gateway;
GRANT DELETE ON TABLE mana_ai.decisions TO mana_janitor;

GRANT SELECT(at) ON TABLE mana_ai.decisions TO mana_janitor;

REVOKE ALL ON FUNCTION mana_ai.note_decision(p_user text, p_mission text, p_agent text, p_due timestamp with time zone, p_decision text, p_reason text) FROM PUBLIC;

REVOKE ALL ON FUNCTION mana_ai.note_if_new(p_user text, p_mission text, p_agent text, p_due timestamp with time zone, p_decision text, p_reason text) FROM PUBLIC;

REVOKE ALL ON FUNCTION mana_ai.note_plan(p_run uuid, p_note jsonb) FROM PUBLIC;

REVOKE ALL ON FUNCTION mana_ai.note_release(p_run uuid, p_attempt integer, p_mission text, p_outcome text, p_reason text, p_version text, p_records text[], p_expires timestamp with time zone) FROM PUBLIC;
GRANT ALL ON FUNCTION mana_ai.note_release(p_run uuid, p_attempt integer, p_mission text, p_outcome text, p_reason text, p_version text, p_records text[], p_expires timestamp with time zone) TO mana_keys;

REVOKE ALL ON FUNCTION mana_ai.note_rows() FROM PUBLIC;

REVOKE ALL ON FUNCTION mana_ai.noted_answers(p_answers jsonb) FROM PUBLIC;

REVOKE ALL ON FUNCTION mana_ai.only_fields(p_value jsonb, p_names text[]) FROM PUBLIC;

REVOKE ALL ON FUNCTION mana_ai.only_state(p_fields jsonb) FROM PUBLIC;

REVOKE ALL ON FUNCTION mana_ai.own_ids(p_user text, p_app text, p_table text, p_limit integer) FROM PUBLIC;
GRANT ALL ON FUNCTION mana_ai.own_ids(p_user text, p_app text, p_table text, p_limit integer) TO mana_gateway;

REVOKE ALL ON FUNCTION mana_ai.own_is_sealed(p_user text, p_app text, p_table text) FROM PUBLIC;
GRANT ALL ON FUNCTION mana_ai.own_is_sealed(p_user text, p_app text, p_table text) TO mana_gateway;

REVOKE ALL ON FUNCTION mana_ai.own_lock(p_name text) FROM PUBLIC;

REVOKE ALL ON FUNCTION mana_ai.own_record(p_user text, p_spaces text[], p_app text, p_table text, p_record text, p_hold text, OUT owner text, OUT space text, OUT is_member boolean, OUT snapshot jsonb, OUT changes jsonb, OUT now timestamp with time zone) FROM PUBLIC;
GRANT ALL ON FUNCTION mana_ai.own_record(p_user text, p_spaces text[], p_app text, p_table text, p_record text, p_hold text, OUT owner text, OUT space text, OUT is_member boolean, OUT snapshot jsonb, OUT changes jsonb, OUT now timestamp with time zone) TO mana_gateway;

REVOKE ALL ON FUNCTION mana_ai.own_records(p_user text, p_table text, p_after text, p_limit integer) FROM PUBLIC;
GRANT ALL ON FUNCTION mana_ai.own_records(p_user text, p_table text, p_after text, p_limit integer) TO mana_gateway;

REVOKE ALL ON FUNCTION mana_ai.own_run(p_capability text, p_run uuid, p_attempt integer) FROM PUBLIC;

REVOKE ALL ON FUNCTION mana_ai.own_table(p_user text, p_app text, p_table text, p_most integer) FROM PUBLIC;
GRANT ALL ON FUNCTION mana_ai.own_table(p_user text, p_app text, p_table text, p_most integer) TO mana_gateway;

REVOKE ALL ON FUNCTION mana_ai.own_write(p_user text, p_spaces text[], p_app text, p_table text, p_record text, p_op text, p_data text, p_meta text, p_client text, p_actor text, p_origin text, p_space text, OUT id uuid, OUT created_us bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION mana_ai.own_write(p_user text, p_spaces text[], p_app text, p_table text, p_record text, p_op text, p_data text, p_meta text, p_client text, p_actor text, p_origin text, p_space text, OUT id uuid, OUT created_us bigint) TO mana_gateway;

REVOKE ALL ON FUNCTION mana_ai.publish_feeds(p_feeds text[], p_since timestamp with time zone) FROM PUBLIC;

REVOKE ALL ON FUNCTION mana_ai.put_owner_key(p_user text, p_key_id text, p_public_key bytea, p_address text, p_agent text) FROM PUBLIC;
GRANT ALL ON FUNCTION mana_ai.put_owner_key(p_user text, p_key_id text, p_public_key bytea, p_address text, p_agent text) TO mana_gateway;

REVOKE ALL ON FUNCTION mana_ai.put_sealed_copies(p_user text, p_mission text, p_copies jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION mana_ai.put_sealed_copies(p_user text, p_mission text, p_copies jsonb) TO mana_gateway;

REVOKE ALL ON FUNCTION mana_ai.receipt(p_answers jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION mana_ai.receipt(p_answers jsonb) TO mana_fleet;
GRANT ALL ON FUNCTION mana_ai.receipt(p_answers jsonb) TO mana_gateway;
GRANT ALL ON FUNCTION mana_ai.receipt(p_answers jsonb) TO mana_supervisor;

REVOKE ALL ON FUNCTION mana_ai.record_rows(p_user text, p_table text, p_record text) FROM PUBLIC;
GRANT ALL ON FUNCTION mana_ai.record_rows(p_user text, p_table text, p_record text) TO mana_owner;
GRANT ALL ON FUNCTION mana_ai.record_rows(p_user text, p_table text, p_record text) TO mana_compactor;

REVOKE ALL ON FUNCTION mana_ai.reconcile(p_after text, p_users integer, p_lo integer, p_hi integer) FROM PUBLIC;
GRANT ALL ON FUNCTION mana_ai.reconcile(p_after text, p_users integer, p_lo integer, p_hi integer) TO mana_supervisor;

REVOKE ALL ON FUNCTION mana_ai.refusal(p_user text, p_agent text, p_scopes text[], p_hold bigint, p_micros bigint) FROM PUBLIC;

REVOKE ALL ON FUNCTION mana_ai.remove_owner_key(p_user text, p_address text, p_agent text) FROM PUBLIC;
GRANT ALL ON FUNCTION mana_ai.remove_owner_key(p_user text, p_address text, p_agent text) TO mana_gateway;

REVOKE ALL ON FUNCTION mana_ai.renew(p_capability text, p_runs uuid[], p_attempts integer[], p_lease_ms integer, OUT renewed uuid[], OUT capability text) FROM PUBLIC;
GRANT ALL ON FUNCTION mana_ai.renew(p_capability text, p_runs uuid[], p_attempts integer[], p_lease_ms integer, OUT renewed uuid[], OUT capability text) TO mana_agent;

REVOKE ALL ON FUNCTION mana_ai.replay_records(p_users text[], p_tables text[], p_records text[]) FROM PUBLIC;
GRANT ALL ON FUNCTION mana_ai.replay_records(p_users text[], p_tables text[], p_records text[]) TO mana_supervisor;

REVOKE ALL ON FUNCTION mana_ai.request_copies(p_capability text, p_run uuid, p_attempt integer) FROM PUBLIC;
GRANT ALL ON FUNCTION mana_ai.request_copies(p_capability text, p_run uuid, p_attempt integer) TO mana_agent;

REVOKE ALL ON FUNCTION mana_ai.request_run(p_user text, p_mission text, p_key text, OUT due_at timestamp with time zone, OUT created boolean) FROM PUBLIC;
GRANT ALL ON FUNCTION mana_ai.request_run(p_user text, p_mission text, p_key text, OUT due_at timestamp with time zone, OUT created boolean) TO mana_gateway;

REVOKE ALL ON FUNCTION mana_ai.require_capability(p_capability text) FROM PUBLIC;

REVOKE ALL ON FUNCTION mana_ai.require_keys_capability(p_run uuid, p_attempt integer) FROM PUBLIC;

REVOKE ALL ON FUNCTION mana_ai.room_at(p_scope text, p_user text, p_agent text, p_since timestamp with time zone, p_unit text, p_need bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION mana_ai.room_at(p_scope text, p_user text, p_agent text, p_since timestamp with time zone, p_unit text, p_need bigint) TO mana_supervisor;
GRANT ALL ON FUNCTION mana_ai.room_at(p_scope text, p_user text, p_agent text, p_since timestamp with time zone, p_unit text, p_need bigint) TO mana_gateway;

REVOKE ALL ON FUNCTION mana_ai.room_for_call(p_capability text, p_run uuid, p_attempt integer, p_hold bigint, p_micros bigint, OUT outcome text, OUT used bigint, OUT held bigint, OUT cap bigint, OUT scope text, OUT unit text, OUT until text) FROM PUBLIC;
GRANT ALL ON FUNCTION mana_ai.room_for_call(p_capability text, p_run uuid, p_attempt integer, p_hold bigint, p_micros bigint, OUT outcome text, OUT used bigint, OUT held bigint, OUT cap bigint, OUT scope text, OUT unit text, OUT until text) TO mana_agent;

REVOKE ALL ON FUNCTION mana_ai.rotate_capability_secrets(p_now boolean) FROM PUBLIC;

REVOKE ALL ON FUNCTION mana_ai.set_limit(p_kind text, p_user text, p_agent text, p_tokens bigint, p_micros bigint, p_sets_tokens boolean, p_sets_micros boolean) FROM PUBLIC;
GRANT ALL ON FUNCTION mana_ai.set_limit(p_kind text, p_user text, p_agent text, p_tokens bigint, p_micros bigint, p_sets_tokens boolean, p_sets_micros boolean) TO mana_gateway;

REVOKE ALL ON FUNCTION mana_ai.settle(p_user text, p_agent text, p_call uuid, p_attempt integer, p_hash text, p_answer text, p_tokens bigint, p_micros bigint, p_noted jsonb, OUT charged bigint, OUT journaled boolean) FROM PUBLIC;

REVOKE ALL ON FUNCTION mana_ai.settled_run(p_capability text, p_run uuid, p_attempt integer, p_call text, OUT run_id uuid, OUT is_open boolean, OUT charged bigint) FROM PUBLIC;

REVOKE ALL ON FUNCTION mana_ai.sign_capability(p_user text, p_agent text, p_spaces text[], p_scope text[], p_audience text, p_ttl_s integer) FROM PUBLIC;
GRANT ALL ON FUNCTION mana_ai.sign_capability(p_user text, p_agent text, p_spaces text[], p_scope text[], p_audience text, p_ttl_s integer) TO mana_supervisor;

REVOKE ALL ON FUNCTION mana_ai.sign_payload(p_payload jsonb) FROM PUBLIC;

REVOKE ALL ON FUNCTION mana_ai.skip_run(p_capability text, p_run uuid, p_attempt integer, p_call text, p_note text, p_reason text, p_look_s double precision, OUT outcome text, OUT charged bigint, OUT look_at timestamp with time zone, OUT is_news boolean, OUT now timestamp with time zone) FROM PUBLIC;
GRANT ALL ON FUNCTION mana_ai.skip_run(p_capability text, p_run uuid, p_attempt integer, p_call text, p_note text, p_reason text, p_look_s double precision, OUT outcome text, OUT charged bigint, OUT look_at timestamp with time zone, OUT is_news boolean, OUT now timestamp with time zone) TO mana_agent;

REVOKE ALL ON FUNCTION mana_ai.spent_under(p_kinds text[], p_users text[], p_agents text[]) FROM PUBLIC;
GRANT ALL ON FUNCTION mana_ai.spent_under(p_kinds text[], p_users text[], p_agents text[]) TO mana_gateway;

REVOKE ALL ON FUNCTION mana_ai.stamp_now(p_floor text) FROM PUBLIC;

REVOKE ALL ON FUNCTION mana_ai.state_now(p_user text, p_table text, p_record text, OUT snapshot jsonb, OUT changes jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION mana_ai.state_now(p_user text, p_table text, p_record text, OUT snapshot jsonb, OUT changes jsonb) TO mana_gateway;

REVOKE ALL ON FUNCTION mana_ai.sync_feeds_of(p_user text, p_spaces text[]) FROM PUBLIC;
GRANT ALL ON FUNCTION mana_ai.sync_feeds_of(p_user text, p_spaces text[]) TO mana_router;

REVOKE ALL ON FUNCTION mana_ai.sync_history(p_user text, p_spaces text[], p_app text, p_client text, p_rows jsonb, p_most integer, OUT table_name text, OUT record_id text, OUT id uuid, OUT created_us bigint, OUT op text, OUT data text, OUT field_meta text, OUT author text, OUT client text) FROM PUBLIC;
GRANT ALL ON FUNCTION mana_ai.sync_history(p_user text, p_spaces text[], p_app text, p_client text, p_rows jsonb, p_most integer, OUT table_name text, OUT record_id text, OUT id uuid, OUT created_us bigint, OUT op text, OUT data text, OUT field_meta text, OUT author text, OUT client text) TO mana_gateway;

REVOKE ALL ON FUNCTION mana_ai.sync_page(p_user text, p_spaces text[], p_app text, p_table text, p_client text, p_since timestamp with time zone, p_slot integer, p_until timestamp with time zone, p_rows integer, p_bytes integer, OUT id uuid, OUT author text, OUT client text, OUT table_name text, OUT record_id text, OUT op text, OUT data text, OUT field_meta text, OUT created_us bigint, OUT schema_version integer, OUT actor text, OUT origin text, OUT space_id text, OUT at_us bigint, OUT slot integer, OUT is_more boolean) FROM PUBLIC;
GRANT ALL ON FUNCTION mana_ai.sync_page(p_user text, p_spaces text[], p_app text, p_table text, p_client text, p_since timestamp with time zone, p_slot integer, p_until timestamp with time zone, p_rows integer, p_bytes integer, OUT id uuid, OUT author text, OUT client text, OUT table_name text, OUT record_id text, OUT op text, OUT data text, OUT field_meta text, OUT created_us bigint, OUT schema_version integer, OUT actor text, OUT origin text, OUT space_id text, OUT at_us bigint, OUT slot integer, OUT is_more boolean) TO mana_gateway;

REVOKE ALL ON FUNCTION mana_ai.sync_publish(p_user text, p_spaces text[], p_client text, p_since timestamp with time zone) FROM PUBLIC;
GRANT ALL ON FUNCTION mana_ai.sync_publish(p_user text, p_spaces text[], p_client text, p_since timestamp with time zone) TO mana_gateway;

REVOKE ALL ON FUNCTION mana_ai.sync_push(p_user text, p_spaces text[], p_app text, p_client text, p_rows jsonb, OUT n integer, OUT status text, OUT created_us bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION mana_ai.sync_push(p_user text, p_spaces text[], p_app text, p_client text, p_rows jsonb, OUT n integer, OUT status text, OUT created_us bigint) TO mana_gateway;

REVOKE ALL ON FUNCTION mana_ai.sync_settle(p_older_s double precision, p_most integer, OUT forgotten bigint, OUT published bigint, OUT oldest_s double precision) FROM PUBLIC;
GRANT ALL ON FUNCTION mana_ai.sync_settle(p_older_s double precision, p_most integer, OUT forgotten bigint, OUT published bigint, OUT oldest_s double precision) TO mana_gateway;

REVOKE ALL ON FUNCTION mana_ai.sync_slot(p_id uuid) FROM PUBLIC;

REVOKE ALL ON FUNCTION mana_ai.sync_there(p_user text, p_app text, p_rows jsonb, OUT n integer, OUT created_us bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION mana_ai.sync_there(p_user text, p_app text, p_rows jsonb, OUT n integer, OUT created_us bigint) TO mana_gateway;

REVOKE ALL ON FUNCTION mana_ai.sync_touched(p_user text, p_spaces text[], p_since timestamp with time zone, p_until timestamp with time zone, OUT app_id text, OUT table_name text, OUT client text) FROM PUBLIC;
GRANT ALL ON FUNCTION mana_ai.sync_touched(p_user text, p_spaces text[], p_since timestamp with time zone, p_until timestamp with time zone, OUT app_id text, OUT table_name text, OUT client text) TO mana_gateway;

REVOKE ALL ON FUNCTION mana_ai.sync_watch(p_feeds text[], OUT feed text, OUT until timestamp with time zone, OUT is_noted boolean) FROM PUBLIC;
GRANT ALL ON FUNCTION mana_ai.sync_watch(p_feeds text[], OUT feed text, OUT until timestamp with time zone, OUT is_noted boolean) TO mana_gateway;

REVOKE ALL ON FUNCTION mana_ai.take_changes(p_lo integer, p_hi integer, p_users text[], p_tables text[], p_records text[], p_shared boolean[], p_seqs bigint[], p_bytes bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION mana_ai.take_changes(p_lo integer, p_hi integer, p_users text[], p_tables text[], p_records text[], p_shared boolean[], p_seqs bigint[], p_bytes bigint) TO mana_supervisor;

GRANT SELECT,UPDATE ON TABLE mana_ai.copy_requests TO mana_router;
GRANT DELETE ON TABLE mana_ai.copy_requests TO mana_janitor;

GRANT SELECT(asked_at) ON TABLE mana_ai.copy_requests TO mana_janitor;

REVOKE ALL ON FUNCTION mana_ai.take_copy_requests(p_limit integer, p_lease_s integer) FROM PUBLIC;
GRANT ALL ON FUNCTION mana_ai.take_copy_requests(p_limit integer, p_lease_s integer) TO mana_gateway;

REVOKE ALL ON FUNCTION mana_ai.take_run(p_capability text, p_claim uuid, p_mission text, p_due timestamp with time zone, p_lease_ms integer, p_holder text, p_pinned jsonb, p_mission_version bigint, p_agent_version bigint, p_time_zone text, OUT outcome text, OUT run_id uuid, OUT attempt integer, OUT due_at timestamp with time zone, OUT look_at timestamp with time zone, OUT pinned jsonb, OUT failures integer, OUT lost integer, OUT requested boolean, OUT mission_version bigint, OUT agent_version bigint, OUT time_zone text) FROM PUBLIC;
GRANT ALL ON FUNCTION mana_ai.take_run(p_capability text, p_claim uuid, p_mission text, p_due timestamp with time zone, p_lease_ms integer, p_holder text, p_pinned jsonb, p_mission_version bigint, p_agent_version bigint, p_time_zone text, OUT outcome text, OUT run_id uuid, OUT attempt integer, OUT due_at timestamp with time zone, OUT look_at timestamp with time zone, OUT pinned jsonb, OUT failures integer, OUT lost integer, OUT requested boolean, OUT mission_version bigint, OUT agent_version bigint, OUT time_zone text) TO mana_agent;

REVOKE ALL ON FUNCTION mana_ai.take_shard(p_shard text, p_lo integer, p_hi integer, p_holder text) FROM PUBLIC;
GRANT ALL ON FUNCTION mana_ai.take_shard(p_shard text, p_lo integer, p_hi integer, p_holder text) TO mana_supervisor;

REVOKE ALL ON FUNCTION mana_ai.unbase64url(p_text text) FROM PUBLIC;

REVOKE ALL ON FUNCTION mana_ai.used_up(p_user text, p_agent text, p_scopes text[]) FROM PUBLIC;
GRANT ALL ON FUNCTION mana_ai.used_up(p_user text, p_agent text, p_scopes text[]) TO mana_supervisor;
GRANT ALL ON FUNCTION mana_ai.used_up(p_user text, p_agent text, p_scopes text[]) TO mana_gateway;

REVOKE ALL ON FUNCTION mana_ai.wait_for_room(p_capability text, p_run uuid, p_attempt integer, p_call text, p_note text, p_reason text, p_hold bigint, p_micros bigint, OUT outcome text, OUT charged bigint, OUT look_at timestamp with time zone, OUT is_news boolean, OUT now timestamp with time zone) FROM PUBLIC;
GRANT ALL ON FUNCTION mana_ai.wait_for_room(p_capability text, p_run uuid, p_attempt integer, p_call text, p_note text, p_reason text, p_hold bigint, p_micros bigint, OUT outcome text, OUT charged bigint, OUT look_at timestamp with time zone, OUT is_news boolean, OUT now timestamp with time zone) TO mana_agent;

REVOKE ALL ON FUNCTION mana_ai.wait_run(p_capability text, p_run uuid, p_attempt integer, p_call text, p_note text, p_reason text, p_wait_s double precision, p_for text, p_failed boolean, OUT outcome text, OUT charged bigint, OUT look_at timestamp with time zone, OUT is_news boolean, OUT now timestamp with time zone) FROM PUBLIC;
GRANT ALL ON FUNCTION mana_ai.wait_run(p_capability text, p_run uuid, p_attempt integer, p_call text, p_note text, p_reason text, p_wait_s double precision, p_for text, p_failed boolean, OUT outcome text, OUT charged bigint, OUT look_at timestamp with time zone, OUT is_news boolean, OUT now timestamp with time zone) TO mana_agent;

REVOKE ALL ON FUNCTION mana_ai.waiting_records(p_lo integer, p_hi integer, p_floor bigint, p_limit integer) FROM PUBLIC;
GRANT ALL ON FUNCTION mana_ai.waiting_records(p_lo integer, p_hi integer, p_floor bigint, p_limit integer) TO mana_supervisor;

REVOKE ALL ON FUNCTION mana_ai.wake_for_room(p_user text, p_agent text) FROM PUBLIC;

REVOKE ALL ON FUNCTION mana_ai.wake_next(p_user text, p_agent text, p_mission text) FROM PUBLIC;

REVOKE ALL ON FUNCTION mana_ai.wake_space(p_user text, p_space text) FROM PUBLIC;
GRANT ALL ON FUNCTION mana_ai.wake_space(p_user text, p_space text) TO mana_gateway;

REVOKE ALL ON FUNCTION mana_ai.was_told(p_run mana_ai.runs, p_decision text) FROM PUBLIC;

REVOKE ALL ON FUNCTION mana_ai.withdraw_run(p_capability text, p_run uuid, p_attempt integer, p_call text, p_note text, p_reason text, p_look_s double precision, OUT outcome text, OUT charged bigint, OUT look_at timestamp with time zone, OUT is_news boolean, OUT now timestamp with time zone) FROM PUBLIC;
GRANT ALL ON FUNCTION mana_ai.withdraw_run(p_capability text, p_run uuid, p_attempt integer, p_call text, p_note text, p_reason text, p_look_s double precision, OUT outcome text, OUT charged bigint, OUT look_at timestamp with time zone, OUT is_news boolean, OUT now timestamp with time zone) TO mana_agent;

REVOKE ALL ON FUNCTION mana_ai.withdraw_waiting(p_user text, p_run uuid, p_reason text, p_mission_version bigint, p_agent_version bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION mana_ai.withdraw_waiting(p_user text, p_run uuid, p_reason text, p_mission_version bigint, p_agent_version bigint) TO mana_supervisor;

REVOKE ALL ON FUNCTION mana_ai.write_mission(p_user text, p_mission text, p_data jsonb, p_stamp text, p_actor jsonb, p_origin text) FROM PUBLIC;

REVOKE ALL ON FUNCTION mana_ai.write_state(p_user text, p_table text, p_record text, p_state text, p_stamp text, p_actor jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION mana_ai.write_state(p_user text, p_table text, p_record text, p_state text, p_stamp text, p_actor jsonb) TO mana_gateway;

GRANT INSERT ON TABLE auth.encryption_vault_audit TO mana_issuer;

GRANT SELECT,INSERT,UPDATE ON TABLE auth.encryption_vaults TO mana_issuer;

GRANT SELECT,DELETE ON TABLE mana_ai.budget_wakes TO mana_supervisor;

GRANT SELECT ON TABLE mana_ai.decrypt_audit TO mana_gateway;
GRANT DELETE ON TABLE mana_ai.decrypt_audit TO mana_janitor;

GRANT SELECT(ts) ON TABLE mana_ai.decrypt_audit TO mana_janitor;

GRANT SELECT ON TABLE mana_ai.fleet_agents TO mana_gateway;
GRANT SELECT ON TABLE mana_ai.fleet_agents TO mana_supervisor;

GRANT SELECT ON TABLE mana_ai.fleet_decisions TO mana_gateway;
GRANT SELECT ON TABLE mana_ai.fleet_decisions TO mana_supervisor;

GRANT SELECT ON TABLE mana_ai.fleet_missions TO mana_gateway;
GRANT SELECT ON TABLE mana_ai.fleet_missions TO mana_supervisor;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE mana_ai.quarantine TO mana_supervisor;
GRANT SELECT ON TABLE mana_ai.quarantine TO mana_fleet;
GRANT SELECT ON TABLE mana_ai.quarantine TO mana_gateway;
GRANT DELETE ON TABLE mana_ai.quarantine TO mana_janitor;

GRANT SELECT(change_id) ON TABLE mana_ai.quarantine TO mana_compactor;

GRANT SELECT(seen_at) ON TABLE mana_ai.quarantine TO mana_janitor;

GRANT SELECT ON TABLE mana_ai.fleet_quarantine TO mana_gateway;
GRANT SELECT ON TABLE mana_ai.fleet_quarantine TO mana_supervisor;

GRANT SELECT ON TABLE mana_ai.fleet_runs TO mana_gateway;
GRANT SELECT ON TABLE mana_ai.fleet_runs TO mana_supervisor;

GRANT SELECT ON TABLE mana_ai.fleet_unstaged TO mana_gateway;

GRANT SELECT ON TABLE mana_ai.function_texts TO mana_supervisor;
GRANT SELECT ON TABLE mana_ai.function_texts TO mana_gateway;

GRANT SELECT ON TABLE mana_ai.install TO mana_supervisor;
GRANT SELECT ON TABLE mana_ai.install TO mana_agent;
GRANT SELECT ON TABLE mana_ai.install TO mana_gateway;

GRANT SELECT ON TABLE mana_ai.key_releases TO mana_gateway;
GRANT DELETE ON TABLE mana_ai.key_releases TO mana_janitor;

GRANT SELECT(ts) ON TABLE mana_ai.key_releases TO mana_janitor;

GRANT SELECT ON TABLE mana_ai.ledger TO mana_supervisor;

GRANT SELECT ON TABLE mana_ai.migrations TO mana_supervisor;
GRANT SELECT ON TABLE mana_ai.migrations TO mana_gateway;

GRANT SELECT ON TABLE mana_ai.mission_research_jobs TO mana_supervisor;
GRANT SELECT ON TABLE mana_ai.mission_research_jobs TO mana_agent;

GRANT SELECT ON TABLE mana_ai.openings TO mana_gateway;
GRANT DELETE ON TABLE mana_ai.openings TO mana_janitor;

GRANT INSERT(user_id) ON TABLE mana_ai.openings TO mana_gateway;

GRANT INSERT(agent_id) ON TABLE mana_ai.openings TO mana_gateway;

GRANT INSERT(run_id) ON TABLE mana_ai.openings TO mana_gateway;

GRANT INSERT(reason) ON TABLE mana_ai.openings TO mana_gateway;

GRANT INSERT(opened_by) ON TABLE mana_ai.openings TO mana_gateway;

GRANT INSERT(address) ON TABLE mana_ai.openings TO mana_gateway;

GRANT INSERT(user_agent) ON TABLE mana_ai.openings TO mana_gateway;

GRANT SELECT(at) ON TABLE mana_ai.openings TO mana_janitor;

GRANT INSERT(ends_at) ON TABLE mana_ai.openings TO mana_gateway;

GRANT SELECT,INSERT ON TABLE mana_ai.openings_seen TO mana_gateway;

GRANT UPDATE(seen_at) ON TABLE mana_ai.openings_seen TO mana_gateway;

GRANT SELECT,DELETE ON TABLE mana_ai.operator_sessions TO mana_gateway;
GRANT DELETE ON TABLE mana_ai.operator_sessions TO mana_janitor;

GRANT INSERT(cookie_hash) ON TABLE mana_ai.operator_sessions TO mana_gateway;

GRANT INSERT(address) ON TABLE mana_ai.operator_sessions TO mana_gateway;

GRANT INSERT(user_agent) ON TABLE mana_ai.operator_sessions TO mana_gateway;

GRANT UPDATE(seen_at) ON TABLE mana_ai.operator_sessions TO mana_gateway;

GRANT INSERT(ends_at) ON TABLE mana_ai.operator_sessions TO mana_gateway;
GRANT SELECT(ends_at) ON TABLE mana_ai.operator_sessions TO mana_janitor;

GRANT SELECT,INSERT,UPDATE ON TABLE mana_ai.own_answers TO mana_gateway;
GRANT DELETE ON TABLE mana_ai.own_answers TO mana_janitor;

GRANT SELECT(at) ON TABLE mana_ai.own_answers TO mana_janitor;

GRANT SELECT ON TABLE mana_ai.own_log TO mana_gateway;

GRANT SELECT ON TABLE mana_ai.owner_key_changes TO mana_gateway;
GRANT DELETE ON TABLE mana_ai.owner_key_changes TO mana_janitor;

GRANT SELECT(at) ON TABLE mana_ai.owner_key_changes TO mana_janitor;

GRANT SELECT,INSERT ON TABLE mana_ai.people TO mana_gateway;

GRANT UPDATE(display_name) ON TABLE mana_ai.people TO mana_gateway;

GRANT UPDATE(added_at) ON TABLE mana_ai.people TO mana_gateway;

GRANT UPDATE(removed_at) ON TABLE mana_ai.people TO mana_gateway;

GRANT SELECT,INSERT ON TABLE mana_ai.people_trail TO mana_gateway;
GRANT DELETE ON TABLE mana_ai.people_trail TO mana_janitor;

GRANT SELECT(at) ON TABLE mana_ai.people_trail TO mana_janitor;

GRANT SELECT,INSERT ON TABLE mana_ai.personal_tokens TO mana_gateway;
GRANT DELETE ON TABLE mana_ai.personal_tokens TO mana_janitor;

GRANT SELECT(expires_at) ON TABLE mana_ai.personal_tokens TO mana_janitor;

GRANT UPDATE(used_at) ON TABLE mana_ai.personal_tokens TO mana_gateway;

GRANT UPDATE(revoked_at) ON TABLE mana_ai.personal_tokens TO mana_gateway;

GRANT SELECT,INSERT ON TABLE mana_ai.refresh_tokens TO mana_gateway;

GRANT UPDATE(replaced_at) ON TABLE mana_ai.refresh_tokens TO mana_gateway;

GRANT SELECT ON TABLE mana_ai.sealed_copies TO mana_agent;
GRANT DELETE ON TABLE mana_ai.sealed_copies TO mana_janitor;

GRANT SELECT(user_id) ON TABLE mana_ai.sealed_copies TO mana_gateway;

GRANT SELECT(mission_id) ON TABLE mana_ai.sealed_copies TO mana_gateway;

GRANT SELECT(table_name) ON TABLE mana_ai.sealed_copies TO mana_gateway;

GRANT SELECT(record_id) ON TABLE mana_ai.sealed_copies TO mana_gateway;

GRANT SELECT(written_at) ON TABLE mana_ai.sealed_copies TO mana_gateway;

GRANT SELECT(expires_at) ON TABLE mana_ai.sealed_copies TO mana_janitor;

GRANT SELECT(source) ON TABLE mana_ai.sealed_copies TO mana_gateway;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE mana_ai.shards TO mana_supervisor;
GRANT SELECT ON TABLE mana_ai.shards TO mana_gateway;

GRANT SELECT,INSERT,DELETE ON TABLE mana_ai.sign_in_links TO mana_gateway;
GRANT DELETE ON TABLE mana_ai.sign_in_links TO mana_janitor;

GRANT SELECT(expires_at) ON TABLE mana_ai.sign_in_links TO mana_janitor;

GRANT SELECT,INSERT ON TABLE mana_ai.sign_ins TO mana_gateway;
GRANT DELETE ON TABLE mana_ai.sign_ins TO mana_janitor;

GRANT UPDATE(used_at) ON TABLE mana_ai.sign_ins TO mana_gateway;

GRANT UPDATE(expires_at) ON TABLE mana_ai.sign_ins TO mana_gateway;
GRANT SELECT(expires_at) ON TABLE mana_ai.sign_ins TO mana_janitor;

GRANT UPDATE(ended_at) ON TABLE mana_ai.sign_ins TO mana_gateway;

GRANT UPDATE(ended_by) ON TABLE mana_ai.sign_ins TO mana_gateway;

GRANT USAGE ON SEQUENCE mana_ai.snapshot_version TO mana_supervisor;

GRANT SELECT,INSERT ON TABLE mana_ai.spaces TO mana_gateway;

GRANT SELECT,INSERT,UPDATE ON TABLE mana_ai.standing_approvals TO mana_gateway;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE mana_ai.sync_devices TO mana_router;

GRANT SELECT,INSERT,UPDATE ON TABLE mana_ai.sync_feeds TO mana_router;

GRANT SELECT,INSERT ON TABLE mana_ai.sync_late TO mana_router;
GRANT DELETE ON TABLE mana_ai.sync_late TO mana_compactor;

GRANT SELECT(change_id) ON TABLE mana_ai.sync_late TO mana_compactor;

GRANT SELECT,INSERT,DELETE ON TABLE mana_ai.sync_pending TO mana_router;

GRANT USAGE ON SEQUENCE mana_ai.token_usage_id_seq TO mana_supervisor;

GRANT SELECT,INSERT,UPDATE ON TABLE mana_ai.vault_key_checks TO mana_issuer;

GRANT SELECT,INSERT ON TABLE mana_ai.visitors TO mana_gateway;
GRANT DELETE ON TABLE mana_ai.visitors TO mana_janitor;

GRANT UPDATE(link_hash) ON TABLE mana_ai.visitors TO mana_gateway;

GRANT UPDATE(cookie_hash) ON TABLE mana_ai.visitors TO mana_gateway;

GRANT UPDATE(address) ON TABLE mana_ai.visitors TO mana_gateway;

GRANT UPDATE(user_agent) ON TABLE mana_ai.visitors TO mana_gateway;

GRANT UPDATE(used_at) ON TABLE mana_ai.visitors TO mana_gateway;

GRANT UPDATE(expires_at) ON TABLE mana_ai.visitors TO mana_gateway;
GRANT SELECT(expires_at) ON TABLE mana_ai.visitors TO mana_janitor;

GRANT UPDATE(ended_at) ON TABLE mana_ai.visitors TO mana_gateway;
