//! The tables as diesel sees them; the truth is in `migrations/`.

#![expect(missing_docs, reason = "the migrations say what each column means")]

diesel::table! {
    accounts (name) {
        name -> Text,
        auth_tenant_id -> Text,
        storage -> Text,
        settings -> Text,
        serves_namespace -> Nullable<Text>,
        is_deleting -> Bool,
        created_at -> Timestamp,
        version -> BigInt,
        audit_pulls -> Bool,
        next_deletion_at -> Nullable<Timestamp>,
    }
}

diesel::table! {
    repos (id) {
        id -> BigInt,
        account_name -> Text,
        name -> Text,
        next_gc_at -> Nullable<Timestamp>,
    }
}

diesel::table! {
    blobs (id) {
        id -> BigInt,
        account_name -> Text,
        digest -> Text,
        size_bytes -> BigInt,
        pushed_at -> Timestamp,
        next_validation_at -> Timestamp,
        validation_error -> Nullable<Text>,
        next_merge_at -> Nullable<Timestamp>,
    }
}

diesel::table! {
    blob_chunks (blob_id, number) {
        blob_id -> BigInt,
        number -> Integer,
        object_id -> Text,
        storage -> Text,
        size_bytes -> BigInt,
    }
}

diesel::table! {
    blob_mounts (repo_id, blob_id) {
        repo_id -> BigInt,
        blob_id -> BigInt,
        is_used -> Bool,
        keep_until -> Timestamp,
    }
}

diesel::table! {
    uploads (id) {
        id -> Text,
        repo_id -> BigInt,
        size_bytes -> BigInt,
        chunk_count -> Integer,
        hash_state -> Binary,
        created_at -> Timestamp,
        updated_at -> Timestamp,
    }
}

diesel::table! {
    upload_chunks (upload_id, number) {
        upload_id -> Text,
        number -> Integer,
        object_id -> Text,
        storage -> Text,
        size_bytes -> BigInt,
    }
}

diesel::table! {
    loose_objects (object_id) {
        object_id -> Text,
        kind -> Text,
        account_name -> Text,
        storage -> Text,
        noted_at -> Timestamp,
        is_kept -> Bool,
        is_swept -> Bool,
        reserved_bytes -> BigInt,
    }
}

diesel::table! {
    manifests (repo_id, digest) {
        repo_id -> BigInt,
        digest -> Text,
        media_type -> Text,
        content -> Binary,
        object_id -> Text,
        storage -> Text,
        subject_digest -> Nullable<Text>,
        pushed_at -> Timestamp,
        last_pulled_at -> Nullable<Timestamp>,
        next_validation_at -> Timestamp,
        validation_error -> Nullable<Text>,
        gc_status -> Nullable<Text>,
    }
}

diesel::table! {
    manifest_blob_refs (repo_id, digest, blob_id) {
        repo_id -> BigInt,
        digest -> Text,
        blob_id -> BigInt,
    }
}

diesel::table! {
    manifest_manifest_refs (repo_id, parent_digest, child_digest) {
        repo_id -> BigInt,
        parent_digest -> Text,
        child_digest -> Text,
    }
}

diesel::table! {
    tags (repo_id, name) {
        repo_id -> BigInt,
        name -> Text,
        digest -> Text,
        pushed_at -> Timestamp,
        last_pulled_at -> Nullable<Timestamp>,
    }
}

diesel::table! {
    users (name) {
        name -> Text,
        password_hash -> Text,
        grants -> Text,
        created_at -> Timestamp,
        is_disabled -> Bool,
    }
}

diesel::table! {
    robots (id) {
        id -> Text,
        account_name -> Text,
        name -> Text,
        description -> Text,
        permissions -> Text,
        repositories -> Text,
        is_disabled -> Bool,
        expires_at -> Nullable<Timestamp>,
        created_at -> Timestamp,
        created_by -> Text,
        last_used_at -> Nullable<Timestamp>,
    }
}

diesel::table! {
    secrets (id) {
        id -> Text,
        kind -> Text,
        hash -> Text,
        subject -> Text,
        identity -> Text,
        description -> Text,
        audience -> Nullable<Text>,
        parent_id -> Nullable<Text>,
        created_at -> Timestamp,
        created_by -> Text,
        expires_at -> Nullable<Timestamp>,
        last_used_at -> Nullable<Timestamp>,
    }
}

diesel::table! {
    revocations (kind, value) {
        kind -> Text,
        value -> Text,
        version -> BigInt,
        expires_at -> Timestamp,
    }
}

diesel::table! {
    revocation_counter (id) {
        id -> BigInt,
        version -> BigInt,
    }
}

diesel::table! {
    storage_moves (account_name) {
        account_name -> Text,
        target -> Text,
        keeps_old -> Bool,
        state -> Text,
        started_at -> Timestamp,
        copied_at -> Timestamp,
        finished_at -> Nullable<Timestamp>,
        moved_objects -> BigInt,
        moved_bytes -> BigInt,
        failures -> Integer,
        error -> Nullable<Text>,
        next_step_at -> Nullable<Timestamp>,
    }
}

diesel::table! {
    containers (account_name, storage) {
        account_name -> Text,
        storage -> Text,
        is_releasing -> Bool,
        next_sweep_at -> Timestamp,
    }
}

diesel::table! {
    quota_books (kind, owner) {
        kind -> Text,
        owner -> Text,
        bytes -> BigInt,
        reserved_bytes -> BigInt,
        manifests -> BigInt,
        repositories -> BigInt,
        has_own_limits -> Bool,
        bytes_limit -> Nullable<BigInt>,
        manifests_limit -> Nullable<BigInt>,
        repositories_limit -> Nullable<BigInt>,
    }
}

diesel::table! {
    audit_events (id) {
        id -> Text,
        at -> Timestamp,
        action -> Text,
        outcome -> Text,
        user_name -> Nullable<Text>,
        account -> Nullable<Text>,
        auth_tenant_id -> Nullable<Text>,
        event -> Text,
        seq -> Nullable<BigInt>,
        hash -> Nullable<Text>,
    }
}

diesel::table! {
    audit_chain (id) {
        id -> BigInt,
        seq -> BigInt,
        hash -> Text,
    }
}

diesel::table! {
    audit_heads (seq, is_anchor) {
        seq -> BigInt,
        is_anchor -> Bool,
        statement -> Text,
    }
}

diesel::table! {
    audit_sinks (name) {
        name -> Text,
        delivered_seq -> BigInt,
        failures -> Integer,
        next_delivery_at -> Timestamp,
    }
}

diesel::table! {
    rate_limit_buckets (account_name, action, who) {
        account_name -> Text,
        action -> Text,
        who -> Text,
        empty_at -> BigInt,
    }
}

diesel::table! {
    unknown_objects (account_name, storage, object_id) {
        account_name -> Text,
        storage -> Text,
        object_id -> Text,
        kind -> Text,
        found_at -> Timestamp,
    }
}

diesel::table! {
    trash_manifests (repo_id, digest) {
        repo_id -> BigInt,
        digest -> Text,
        media_type -> Text,
        content -> Binary,
        subject_digest -> Nullable<Text>,
        pushed_at -> Timestamp,
        last_pulled_at -> Nullable<Timestamp>,
        tags -> Text,
        deleted_at -> Timestamp,
        deleted_by -> Text,
        deleted_with -> Nullable<Text>,
        purge_at -> Timestamp,
    }
}

diesel::table! {
    trash_blob_refs (repo_id, digest, blob_id) {
        repo_id -> BigInt,
        digest -> Text,
        blob_id -> BigInt,
    }
}

diesel::table! {
    tag_history (id) {
        id -> BigInt,
        repo_id -> BigInt,
        tag -> Text,
        digest -> Nullable<Text>,
        changed_at -> Timestamp,
        changed_by -> Text,
        replaced_at -> Nullable<Timestamp>,
    }
}

diesel::table! {
    legal_holds (repo_id, tag) {
        repo_id -> BigInt,
        tag -> Text,
        hold_until -> Timestamp,
        reason -> Text,
        placed_by -> Text,
        placed_at -> Timestamp,
    }
}

diesel::joinable!(repos -> accounts (account_name));
diesel::joinable!(blobs -> accounts (account_name));
diesel::joinable!(blob_chunks -> blobs (blob_id));
diesel::joinable!(blob_mounts -> blobs (blob_id));
diesel::joinable!(blob_mounts -> repos (repo_id));
diesel::joinable!(uploads -> repos (repo_id));
diesel::joinable!(upload_chunks -> uploads (upload_id));
diesel::joinable!(manifests -> repos (repo_id));
diesel::joinable!(tags -> repos (repo_id));
diesel::joinable!(robots -> accounts (account_name));
diesel::joinable!(trash_manifests -> repos (repo_id));
diesel::joinable!(tag_history -> repos (repo_id));
diesel::joinable!(legal_holds -> repos (repo_id));
diesel::joinable!(containers -> accounts (account_name));
diesel::joinable!(storage_moves -> accounts (account_name));

diesel::allow_tables_to_appear_in_same_query!(
    accounts,
    repos,
    blobs,
    blob_chunks,
    blob_mounts,
    uploads,
    upload_chunks,
    loose_objects,
    manifests,
    manifest_blob_refs,
    manifest_manifest_refs,
    tags,
    users,
    robots,
    secrets,
    revocations,
    revocation_counter,
    storage_moves,
    containers,
    quota_books,
    audit_events,
    audit_chain,
    audit_heads,
    audit_sinks,
    unknown_objects,
    trash_manifests,
    trash_blob_refs,
    tag_history,
    legal_holds,
);
