//! Proofs that apply to every service; its tests call them with their own data.

use std::collections::BTreeSet;

use foundry_authn::{Caller, MethodPolicies};
use foundry_core::Env;
use foundry_proto::options::v1::Access;
use foundry_proto::watch::v1::watch_authorization_service_server::WatchAuthorizationService;
use foundry_proto::watch::v1::{AuthorizeWatchRequest, AuthorizeWatchResponse};
use foundry_store::{Migrations, Store, StoreOptions};
use prost::Message;
use tonic::{Code, Request, Response, Status};
use tonic_types::StatusExt as _;

/// The edge's request for a caller that opens this watch.
pub fn asking(service: &str, method: &str, request: &impl Message) -> AuthorizeWatchRequest {
    AuthorizeWatchRequest { method: format!("/{service}/{method}"), request: request.encode_to_vec().into() }
}

/// Sends the service a request made by [`asking`], as this caller.
///
/// # Errors
/// The service's refusal.
pub async fn authorize(
    rpc: &impl WatchAuthorizationService,
    caller: &Caller,
    asked: AuthorizeWatchRequest,
) -> Result<AuthorizeWatchResponse, Status> {
    let mut request = Request::new(asked);
    request.extensions_mut().insert(caller.clone());
    rpc.authorize_watch(request).await.map(Response::into_inner)
}

/// The field of the request that a refusal names; empty when it names none.
pub fn refused_field(refusal: &Status) -> String {
    let bad = refusal.get_details_bad_request();
    bad.and_then(|b| b.field_violations.into_iter().next()).map(|v| v.field).unwrap_or_default()
}

/// `AuthorizeWatch` answers for each watch of the service's package that users may open, and for no other method of
/// the product.
///
/// # Panics
/// With the path of a method for which it does not hold.
pub async fn answers_for_each_watch_that_users_may_open(
    rpc: &impl WatchAuthorizationService,
    service: &str,
    caller: &Caller,
) {
    let package = service.rsplit_once('.').map_or("", |(package, _)| package);
    let policies = match MethodPolicies::shared() {
        Ok(policies) => policies,
        Err(e) => panic!("the policies of the methods cannot be read: {e:?}"),
    };
    let mut watches = 0;
    for method in policies.methods() {
        let path = &method.path;
        let ours = path.starts_with(&format!("/{package}."));
        let Some(policy) = &method.policy else { panic!("{path}: it has no policy") };
        // Other streams, such as a fetch, are no watches.
        let is_watch = method.server_streaming && path.contains("/Watch");
        let expected = ours && is_watch && policy.access != Access::Service as i32;
        let asked = AuthorizeWatchRequest { method: path.clone(), ..Default::default() };
        let answered = match authorize(rpc, caller, asked).await {
            Ok(_) => true,
            Err(refusal) => {
                assert_eq!(refusal.code(), Code::InvalidArgument, "{path}: {refusal:?}");
                refused_field(&refusal) != "method"
            }
        };
        assert_eq!(answered, expected, "{path}");
        if expected {
            watches += 1;
            assert!(policy.services.iter().any(|s| s == "gateway"), "{path}: the edge may not open it");
        }
    }
    assert!(watches > 0, "{service} has no watch");
    let nameless = authorize(rpc, caller, AuthorizeWatchRequest::default()).await;
    assert_eq!(nameless.err().map(|refusal| refused_field(&refusal)).as_deref(), Some("method"));
}

const SQLITE_TABLES: &str = "SELECT m.name || '.' || c.name || ' ' || \
         CASE upper(c.type) WHEN 'BLOB' THEN 'bytea' ELSE lower(c.type) END || \
         CASE WHEN c.\"notnull\" = 1 OR c.pk > 0 THEN ' not null' ELSE '' END || \
         CASE WHEN c.pk > 0 THEN ' key ' || c.pk ELSE '' END AS line \
     FROM sqlite_schema m JOIN pragma_table_info(m.name) c WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%' \
     UNION ALL SELECT 'index ' || l.name || CASE l.\"unique\" WHEN 1 THEN ' unique' ELSE '' END || ' (' || \
         (SELECT group_concat(name, ', ') FROM (SELECT name FROM pragma_index_info(l.name) ORDER BY seqno)) || ')' || \
         CASE l.partial WHEN 1 THEN ' partial' ELSE '' END \
     FROM sqlite_schema m JOIN pragma_index_list(m.name) l WHERE m.type = 'table' AND l.origin = 'c'";

const POSTGRES_TABLES: &str = "SELECT t.relname || '.' || c.attname || ' ' || format_type(c.atttypid, NULL) || \
         CASE WHEN c.attnotnull THEN ' not null' ELSE '' END || \
         coalesce(' key ' || array_position(string_to_array(k.indkey::text, ' ')::int[], c.attnum::int), '') AS line \
     FROM pg_attribute c JOIN pg_class t ON t.oid = c.attrelid AND t.relkind = 'r' \
         LEFT JOIN pg_index k ON k.indrelid = t.oid AND k.indisprimary \
     WHERE t.relnamespace = current_schema()::regnamespace AND c.attnum > 0 AND NOT c.attisdropped \
     UNION ALL SELECT 'index ' || n.relname || CASE WHEN i.indisunique THEN ' unique' ELSE '' END || ' (' || \
         (SELECT string_agg(c.attname, ', ' ORDER BY k.place) \
          FROM unnest(string_to_array(i.indkey::text, ' ')::int[]) WITH ORDINALITY AS k (number, place) \
          JOIN pg_attribute c ON c.attrelid = i.indrelid AND c.attnum = k.number) || ')' || \
         CASE WHEN i.indpred IS NULL THEN '' ELSE ' partial' END \
     FROM pg_index i JOIN pg_class n ON n.oid = i.indexrelid \
     WHERE n.relnamespace = current_schema()::regnamespace \
         AND NOT EXISTS (SELECT 1 FROM pg_constraint p WHERE p.conindid = i.indexrelid)";

/// Tables, columns with their types, keys and indexes are the same on both databases; `sqlite` and `postgres` are URLs
/// of empty ones. Defaults, checks and the conditions of partial indexes are not compared.
///
/// # Panics
/// With the differences, and when a database cannot be opened.
pub async fn has_the_same_tables_on_both_databases(migrations: &[&Migrations], sqlite: &str, postgres: &str) {
    let sqlite = tables(migrations, sqlite, SQLITE_TABLES).await;
    let postgres = tables(migrations, postgres, POSTGRES_TABLES).await;
    let only = |a: &BTreeSet<String>, b: &BTreeSet<String>| a.difference(b).cloned().collect::<Vec<_>>();
    let (in_sqlite, in_postgres) = (only(&sqlite, &postgres), only(&postgres, &sqlite));
    assert!(
        in_sqlite.is_empty() && in_postgres.is_empty() && !sqlite.is_empty(),
        "only on SQLite: {in_sqlite:#?}\nonly on PostgreSQL: {in_postgres:#?}"
    );
}

async fn tables(migrations: &[&Migrations], url: &str, sql: &'static str) -> BTreeSet<String> {
    let read = async {
        let store = Store::connect(url, migrations, &Env::system(), StoreOptions::default()).await?;
        let rows = store.query(sql, &[]).await?;
        let lines = rows.iter().map(|row| row.text("line").map(str::to_owned));
        // The migration library's own tables differ: their times have another type on each database.
        let ours = lines.filter(|line| !line.as_ref().is_ok_and(|l| l.starts_with("migrations_"))).collect();
        store.close().await;
        ours
    };
    match read.await {
        Ok(lines) => lines,
        Err(e) => panic!("{url}: {e:?}"),
    }
}
