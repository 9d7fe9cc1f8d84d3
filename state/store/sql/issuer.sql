-- The vault, as the role mana_issuer: every statement runs in a transaction that named one person with act_as.

-- now --
SELECT clock_timestamp()

-- find_vault --
SELECT wrapped_mk, wrap_iv, format_version, kek_id, recovery_wrapped_mk, recovery_iv, recovery_format_version, recovery_set_at,
       zero_knowledge, created_at, rotated_at
  FROM auth.encryption_vaults WHERE user_id = $1

-- lock_vault --
SELECT wrapped_mk, wrap_iv, format_version, kek_id, recovery_wrapped_mk, recovery_iv, recovery_format_version, recovery_set_at,
       zero_knowledge, created_at, rotated_at
  FROM auth.encryption_vaults WHERE user_id = $1 FOR UPDATE

-- add_vault --
-- Of several first requests at once, one adds; the others wait for it here and then find its row.
INSERT INTO auth.encryption_vaults (user_id, wrapped_mk, wrap_iv, format_version, kek_id, created_at) VALUES ($1, $2, $3, $4, $5, $6)
    ON CONFLICT (user_id) DO NOTHING

-- save_vault --
UPDATE auth.encryption_vaults
   SET wrapped_mk = :wrapped_mk, wrap_iv = :wrap_iv, format_version = :format_version, kek_id = :kek_id,
       recovery_wrapped_mk = :recovery_wrapped_mk, recovery_iv = :recovery_iv,
       recovery_format_version = :recovery_format_version, recovery_set_at = :recovery_set_at,
       zero_knowledge = :zero_knowledge, rotated_at = :rotated_at
 WHERE user_id = :user

-- key_check --
SELECT key_check FROM mana_ai.vault_key_checks WHERE user_id = $1 AND written_for = $2

-- save_key_check --
INSERT INTO mana_ai.vault_key_checks (user_id, written_for, key_check) VALUES ($1, $2, $3)
    ON CONFLICT (user_id) DO UPDATE SET written_for = excluded.written_for, key_check = excluded.key_check

-- add_audit --
-- The id is ours: the auth service's own table gives none.
INSERT INTO auth.encryption_vault_audit (id, user_id, action, ip_address, user_agent, context, status)
VALUES (gen_random_uuid()::text, $1, $2, $3, $4, $5, $6)
