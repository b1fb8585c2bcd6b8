//! What a database cannot store: NUL characters in a text.

use foundry_store::{DialectSql, Guard, Scope, WriteSet};

use crate::backends::{Fixture, ITEMS, item};

async fn a_nul_character_is_replaced_and_what_it_names_is_found(f: Fixture) {
    let other = Scope::other("agent", "a\0b");
    let mut set = item("a\0b", "o", None);
    set.scope(other.clone());
    f.store.commit(set).await.unwrap();
    const BY_ID: &str = "SELECT id FROM items WHERE id = $1";
    let found = f.store.query(BY_ID, &["a\0b".into()]).await.unwrap();
    assert_eq!(found[0].text("id").unwrap(), "a\u{FFFD}b");
    let snapshot = f.store.snapshot().await.unwrap();
    assert_eq!(snapshot.query(BY_ID, &["a\0b".into()]).await.unwrap(), found);
    drop(snapshot);
    assert_eq!(f.store.head(&Scope::other("agent", "a\0b")).await.unwrap(), 1);
    let mut set = WriteSet::new();
    set.guard(Guard::exists(&ITEMS, &[("id", "a\0b".into())]));
    set.update(&ITEMS, &["a\0b".into()], &[("owner", "\0".into())], &[]);
    f.store.commit(set).await.unwrap();
    const TAKE: &str = "UPDATE items SET size = 9 WHERE owner = $1 RETURNING id";
    let taken = f.store.write(DialectSql { sqlite: TAKE, postgres: TAKE }, &["\0".into()]).await.unwrap();
    assert_eq!(taken, found);
}

crate::on_every_backend! { a_nul_character_is_replaced_and_what_it_names_is_found }
