-- People who sign in here, as the role mana_gateway. Whatever lets somebody in is looked up by its SHA-256.

-- people --
SELECT p.user_id, p.display_name, p.added_at, p.removed_at,
       (SELECT count(*) FROM mana_ai.sign_ins AS s WHERE s.user_id = p.user_id AND s.ended_at IS NULL AND s.expires_at > clock_timestamp())
         AS sign_ins,
       (SELECT count(*) FROM mana_ai.personal_tokens AS t WHERE t.user_id = p.user_id AND t.revoked_at IS NULL
           AND t.expires_at > clock_timestamp()) AS tokens,
       ARRAY(SELECT m.space_id FROM mana_ai.space_members AS m WHERE m.user_id = p.user_id ORDER BY 1) AS spaces
  FROM mana_ai.people AS p
 WHERE ($1::text IS NULL OR p.user_id > $1) AND (p.removed_at IS NULL OR $2) ORDER BY p.user_id LIMIT $3

-- has_people --
SELECT EXISTS (SELECT FROM mana_ai.people WHERE removed_at IS NULL)

-- person --
-- Shared lock: a person who is removed meanwhile gets nothing new.
SELECT display_name, removed_at FROM mana_ai.people WHERE user_id = $1 FOR KEY SHARE

-- lock_person --
SELECT display_name, removed_at FROM mana_ai.people WHERE user_id = $1 FOR UPDATE

-- add_person --
INSERT INTO mana_ai.people (user_id, display_name) VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING added_at

-- restore_person --
UPDATE mana_ai.people SET removed_at = NULL, display_name = $2 WHERE user_id = $1

-- remove_person --
UPDATE mana_ai.people SET removed_at = clock_timestamp() WHERE user_id = $1

-- end_ways --
WITH links AS (DELETE FROM mana_ai.sign_in_links WHERE user_id = $1),
     tokens AS (UPDATE mana_ai.personal_tokens SET revoked_at = clock_timestamp() WHERE user_id = $1 AND revoked_at IS NULL),
     spaces AS (DELETE FROM mana_ai.space_members WHERE user_id = $1)
UPDATE mana_ai.sign_ins SET ended_at = clock_timestamp(), ended_by = 'removed' WHERE user_id = $1 AND ended_at IS NULL

-- trail --
INSERT INTO mana_ai.people_trail (user_id, action, detail, done_by, address, user_agent)
VALUES (:user, :action, :detail, :done_by, :address, :user_agent)

-- trail_of --
SELECT id, action, detail, done_by, address, user_agent, at FROM mana_ai.people_trail
 WHERE user_id = $1 AND ($2::bigint IS NULL OR id < $2) ORDER BY id DESC LIMIT $3

-- standing --
-- A person as they are now; nobody where they were removed, or the sign-in that they name is over.
SELECT p.display_name, ARRAY(SELECT m.space_id FROM mana_ai.space_members AS m WHERE m.user_id = p.user_id ORDER BY 1) AS spaces
  FROM mana_ai.people AS p
 WHERE p.user_id = $1 AND p.removed_at IS NULL
   AND ($2::uuid IS NULL OR EXISTS (SELECT FROM mana_ai.sign_ins AS s WHERE s.sign_in_id = $2 AND s.user_id = $1
                                       AND s.ended_at IS NULL AND s.expires_at > clock_timestamp()))

-- by_token --
-- Whose personal token this is; its last use is noted once a minute.
WITH found AS MATERIALIZED (
  SELECT t.token_id, t.user_id, t.name, t.scopes, t.used_at FROM mana_ai.personal_tokens AS t
   WHERE t.token_hash = $1 AND t.revoked_at IS NULL AND t.expires_at > clock_timestamp()),
noted AS (
  UPDATE mana_ai.personal_tokens AS t SET used_at = clock_timestamp() FROM found AS f
   WHERE t.token_id = f.token_id AND (f.used_at IS NULL OR f.used_at < clock_timestamp() - interval '1 minute'))
SELECT f.token_id, f.user_id, f.name, f.scopes, p.display_name,
       ARRAY(SELECT m.space_id FROM mana_ai.space_members AS m WHERE m.user_id = p.user_id ORDER BY 1) AS spaces
  FROM found AS f JOIN mana_ai.people AS p USING (user_id) WHERE p.removed_at IS NULL

-- by_cookie --
-- Whose browser this is; its use is noted once an hour, which puts off its end.
WITH found AS MATERIALIZED (
  SELECT s.sign_in_id, s.user_id, s.made_at, s.used_at FROM mana_ai.sign_ins AS s
   WHERE s.cookie_hash = $1 AND s.ended_at IS NULL AND s.expires_at > clock_timestamp()),
noted AS (
  UPDATE mana_ai.sign_ins AS s SET used_at = clock_timestamp(), expires_at = least(clock_timestamp() + $2, f.made_at + $3)
    FROM found AS f WHERE s.sign_in_id = f.sign_in_id AND s.ended_at IS NULL AND f.used_at < clock_timestamp() - interval '1 hour')
SELECT f.sign_in_id, f.user_id, p.display_name,
       ARRAY(SELECT m.space_id FROM mana_ai.space_members AS m WHERE m.user_id = p.user_id ORDER BY 1) AS spaces
  FROM found AS f JOIN mana_ai.people AS p USING (user_id) WHERE p.removed_at IS NULL

-- add_link --
INSERT INTO mana_ai.sign_in_links (link_hash, user_id, expires_at) VALUES ($1, $2, clock_timestamp() + $3) RETURNING expires_at

-- is_link --
SELECT EXISTS (SELECT FROM mana_ai.sign_in_links AS l JOIN mana_ai.people AS p USING (user_id)
                WHERE l.link_hash = $1 AND l.expires_at > clock_timestamp() AND p.removed_at IS NULL)

-- use_link --
-- Deleting is what uses it up: of two who bring it at once, one finds it.
DELETE FROM mana_ai.sign_in_links AS l USING mana_ai.people AS p
 WHERE l.link_hash = $1 AND l.expires_at > clock_timestamp() AND p.user_id = l.user_id AND p.removed_at IS NULL
RETURNING l.user_id, p.display_name

-- add_sign_in --
INSERT INTO mana_ai.sign_ins (user_id, cookie_hash, chain_secret, address, user_agent, expires_at)
VALUES (:user, :cookie_hash, :chain_secret, :address, :user_agent, clock_timestamp() + :life) RETURNING sign_in_id

-- add_refresh_token --
INSERT INTO mana_ai.refresh_tokens (token_hash, sign_in_id) VALUES ($1, $2) ON CONFLICT DO NOTHING

-- sign_in_of_token --
SELECT sign_in_id FROM mana_ai.refresh_tokens WHERE token_hash = $1

-- lock_sign_in --
SELECT s.user_id, s.chain_secret, s.made_at, s.ended_at, s.expires_at, p.removed_at, p.display_name
  FROM mana_ai.sign_ins AS s JOIN mana_ai.people AS p USING (user_id) WHERE s.sign_in_id = $1 FOR UPDATE OF s

-- refresh_token --
-- A statement of its own after the lock: the one that waited would still see the row as it was before.
SELECT replaced_at, clock_timestamp() AS now FROM mana_ai.refresh_tokens WHERE token_hash = $1

-- replace_refresh_token --
UPDATE mana_ai.refresh_tokens SET replaced_at = $2 WHERE token_hash = $1

-- prolong_sign_in --
UPDATE mana_ai.sign_ins SET used_at = $2, expires_at = $3 WHERE sign_in_id = $1

-- end_sign_in --
UPDATE mana_ai.sign_ins SET ended_at = clock_timestamp(), ended_by = $3 WHERE sign_in_id = $1 AND user_id = $2 AND ended_at IS NULL
RETURNING sign_in_id

-- sign_ins --
SELECT sign_in_id, cookie_hash IS NOT NULL AS is_browser, address, user_agent, made_at, used_at, expires_at FROM mana_ai.sign_ins
 WHERE user_id = $1 AND ended_at IS NULL AND expires_at > clock_timestamp() ORDER BY made_at DESC, sign_in_id LIMIT 200

-- add_token --
INSERT INTO mana_ai.personal_tokens (user_id, name, token_hash, scopes, expires_at)
VALUES (:user, :name, :token_hash, :scopes, clock_timestamp() + :life)
ON CONFLICT (user_id, name) WHERE revoked_at IS NULL DO NOTHING RETURNING token_id, expires_at

-- live_tokens --
SELECT count(*) FROM mana_ai.personal_tokens WHERE user_id = $1 AND revoked_at IS NULL

-- tokens --
SELECT token_id, name, scopes, made_at, expires_at, used_at, expires_at <= clock_timestamp() AS is_expired FROM mana_ai.personal_tokens
 WHERE user_id = $1 AND revoked_at IS NULL ORDER BY name

-- revoke_token --
-- By its id or its name.
UPDATE mana_ai.personal_tokens SET revoked_at = clock_timestamp()
 WHERE user_id = $1 AND (token_id::text = $2 OR name = $2) AND revoked_at IS NULL RETURNING name

-- spaces --
SELECT s.space_id, s.name, s.made_at, ARRAY(SELECT m.user_id FROM mana_ai.space_members AS m WHERE m.space_id = s.space_id ORDER BY 1) AS members
  FROM mana_ai.spaces AS s WHERE ($1::text IS NULL OR s.space_id = $1)
   AND ($2::text IS NULL OR EXISTS (SELECT FROM mana_ai.space_members AS m WHERE m.space_id = s.space_id AND m.user_id = $2))
 ORDER BY s.name, s.space_id LIMIT 1000

-- add_space --
INSERT INTO mana_ai.spaces (space_id, name) VALUES ($1, $2)

-- add_member --
INSERT INTO mana_ai.space_members (space_id, user_id) VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING added_at

-- wake_space --
SELECT mana_ai.wake_space($1, $2)

-- remove_member --
DELETE FROM mana_ai.space_members WHERE space_id = $1 AND user_id = $2 RETURNING added_at

-- memberships --
SELECT space_id FROM mana_ai.space_members WHERE user_id = $1 ORDER BY 1

-- add_visitor --
INSERT INTO mana_ai.visitors (user_id, spaces, link_hash, expires_at)
VALUES ($1, $2, $3, clock_timestamp() + $4) RETURNING expires_at

-- is_visitors_link --
SELECT EXISTS (SELECT FROM mana_ai.visitors WHERE link_hash = $1 AND expires_at > clock_timestamp())

-- visitor_in --
-- Of two who bring a link at once, one finds it.
UPDATE mana_ai.visitors
   SET link_hash = NULL, cookie_hash = :cookie, address = :address, user_agent = :user_agent,
       used_at = clock_timestamp(), expires_at = clock_timestamp() + :life
 WHERE link_hash = :link AND expires_at > clock_timestamp() RETURNING sign_in_id, user_id, spaces

-- visitor_by_cookie --
WITH found AS MATERIALIZED (
  SELECT v.sign_in_id, v.user_id, v.spaces, v.used_at FROM mana_ai.visitors AS v
   WHERE v.cookie_hash = $1 AND v.ended_at IS NULL AND v.expires_at > clock_timestamp()),
noted AS (
  UPDATE mana_ai.visitors AS v SET used_at = clock_timestamp() FROM found AS f
   WHERE v.sign_in_id = f.sign_in_id AND f.used_at < clock_timestamp() - interval '1 hour')
SELECT f.sign_in_id, f.user_id, f.spaces FROM found AS f

-- visitors_of --
SELECT sign_in_id, true AS is_browser, address, user_agent, made_at, used_at, expires_at FROM mana_ai.visitors
 WHERE user_id = $1 AND cookie_hash IS NOT NULL AND ended_at IS NULL AND expires_at > clock_timestamp()
 ORDER BY made_at DESC, sign_in_id LIMIT 200

-- end_visitor --
UPDATE mana_ai.visitors SET ended_at = clock_timestamp() WHERE sign_in_id = $1 AND user_id = $2 AND ended_at IS NULL
RETURNING sign_in_id

-- open_session --
-- A session that is there already stays as it is.
INSERT INTO mana_ai.operator_sessions (cookie_hash, address, user_agent, ends_at)
VALUES (:cookie, :address, :user_agent, :ends_at) ON CONFLICT DO NOTHING

-- session_seen_at --
SELECT seen_at < clock_timestamp() - interval '1 minute' AS is_long_ago FROM mana_ai.operator_sessions
 WHERE cookie_hash = $1 AND ends_at > clock_timestamp()

-- note_session_seen --
UPDATE mana_ai.operator_sessions SET seen_at = clock_timestamp() WHERE cookie_hash = $1

-- open_sessions --
SELECT left(encode(cookie_hash, 'hex'), 12) AS name, address, user_agent, opened_at, seen_at, ends_at
  FROM mana_ai.operator_sessions WHERE ends_at > clock_timestamp() ORDER BY opened_at DESC, cookie_hash LIMIT 1000

-- end_session --
DELETE FROM mana_ai.operator_sessions WHERE left(encode(cookie_hash, 'hex'), 12) = $1

-- end_all_sessions --
DELETE FROM mana_ai.operator_sessions
