INSERT INTO dxy.migration_audit (migration_id, at, actor, code_version, action, from_state, to_state, reason, details,
    counts_before, counts_after)
VALUES (%(migration_id)s, %(at)s, %(actor)s, %(code_version)s, %(action)s, %(from_state)s, %(to_state)s, %(reason)s, %(details)s,
    %(counts_before)s, %(counts_after)s);
