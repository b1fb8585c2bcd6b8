use std::os::unix::fs::PermissionsExt as _;

use foundry_testkit::{seeded_env, test_env};

use super::*;

const HERE: Column<'_> =
    Column { service: "provisioner", table: "model_providers", row: "mp_1", column: "key" };

fn keys(text: &str) -> Keys {
    let mut keys = Vec::new();
    add(&mut keys, text).unwrap();
    Keys { keys: keys.into(), random: test_env().env.random }
}

fn line(byte: u8) -> String {
    hex::encode([byte; 32])
}

fn refusal(opened: Result<Secret>) -> String {
    let error = opened.unwrap_err();
    assert_eq!(error.reason(), "SECRET_UNREADABLE");
    error.message().to_owned()
}

#[test]
fn a_secret_is_read_back_and_is_never_sealed_alike() {
    let keys = keys(&line(1));
    for text in ["", "sk-ant-1", &"x".repeat(100_000)] {
        let (one, two) =
            (keys.seal(HERE, &Secret::new(text)).unwrap(), keys.seal(HERE, &Secret::new(text)).unwrap());
        assert_ne!(one, two, "each has its own nonce");
        let stored = Sealed::from_bytes(one.as_bytes());
        assert_eq!(keys.open(HERE, &stored).unwrap(), Secret::new(text));
        assert!(text.is_empty() || !one.as_bytes().windows(text.len()).any(|w| w == text.as_bytes()));
    }
}

#[test]
fn a_secret_is_refused_in_every_other_column() {
    let keys = keys(&line(1));
    let sealed = keys.seal(HERE, &Secret::new("x")).unwrap();
    for elsewhere in [
        Column { service: "repo", ..HERE },
        Column { table: "profiles", ..HERE },
        Column { row: "mp_2", ..HERE },
        Column { column: "headers", ..HERE },
        // The same characters, split differently.
        Column { row: "mp_1k", column: "ey", ..HERE },
    ] {
        assert!(refusal(keys.open(elsewhere, &sealed)).contains("another row"), "{elsewhere}");
    }
}

#[test]
fn a_changed_or_missing_byte_is_refused_wherever_it_is() {
    let keys = keys(&line(1));
    let sealed = keys.seal(HERE, &Secret::new("sk-ant-1")).unwrap();
    for at in 0..sealed.as_bytes().len() {
        let mut bytes = sealed.as_bytes().to_vec();
        bytes[at] ^= 1;
        refusal(keys.open(HERE, &Sealed::from_bytes(bytes)));
        refusal(keys.open(HERE, &Sealed::from_bytes(&sealed.as_bytes()[..at])));
    }
    let longer = [sealed.as_bytes(), &[0]].concat();
    refusal(keys.open(HERE, &Sealed::from_bytes(longer)));
}

#[test]
fn another_key_is_refused_even_under_the_same_id() {
    let sealed = keys(&line(1)).seal(HERE, &Secret::new("x")).unwrap();
    let other = keys(&line(2));
    assert!(refusal(other.open(HERE, &sealed)).contains(&sealed.key_id().unwrap()));
    let mut forged = sealed.as_bytes().to_vec();
    forged[KEY_ID].copy_from_slice(&other.keys[0].id);
    refusal(other.open(HERE, &Sealed::from_bytes(forged)));
}

#[test]
fn a_new_first_key_reads_old_secrets_and_encrypts_new_ones() {
    let old = keys(&line(1));
    let sealed = old.seal(HERE, &Secret::new("x")).unwrap();
    assert!(!old.needs_reencryption(&sealed));

    let both = keys(&format!("# 2031-01\n{}\n\n{}\n{}\n", line(2), line(1), line(1)));
    assert_eq!(both.keys.len(), 2, "a key that is given twice is one key");
    assert!(both.needs_reencryption(&sealed));
    let renewed = both.reencrypt(HERE, &sealed).unwrap();
    assert!(!both.needs_reencryption(&renewed));
    assert_eq!(keys(&line(2)).open(HERE, &renewed).unwrap(), Secret::new("x"));
    refusal(old.open(HERE, &renewed));
    refusal(both.reencrypt(Column { row: "mp_2", ..HERE }, &sealed).map(|_| Secret::new("")));
}

#[tokio::test]
async fn the_own_key_file_is_made_once_and_refused_when_others_can_read_it() {
    let dir = tempfile::tempdir().unwrap();
    let own = dir.path().join("secrets.key");
    // Two processes that start at once have different randomness.
    let (one, two) = (seeded_env(1).env, seeded_env(2).env);
    let (one, two) = tokio::join!(Keys::load(&[], &own, &one), Keys::load(&[], &own, &two));
    let (one, two) = (one.unwrap(), two.unwrap());
    let sealed = one.seal(HERE, &Secret::new("x")).unwrap();
    assert_eq!(two.open(HERE, &sealed).unwrap(), Secret::new("x"));
    assert_eq!(std::fs::metadata(&own).unwrap().permissions().mode() & 0o777, 0o600);

    for mode in [0o640, 0o604] {
        std::fs::set_permissions(&own, std::fs::Permissions::from_mode(mode)).unwrap();
        for sources in [vec![], vec![KeySource::File(own.clone())]] {
            let error = Keys::load(&sources, &own, &test_env().env).await.unwrap_err();
            assert_eq!(error.reason(), "SECRET_FILE_UNUSABLE");
        }
    }
}

#[tokio::test]
async fn sources_are_read_in_order_and_a_wrong_line_is_named_without_its_content() {
    let dir = tempfile::tempdir().unwrap();
    let (own, file) = (dir.path().join("own.key"), dir.path().join("keys"));
    crate::replace_secret_file(&file, &line(1)).unwrap();
    let command = KeySource::Command(vec!["echo".into(), line(2)]);
    let env = test_env().env;
    let loaded = Keys::load(&[command, KeySource::File(file.clone())], &own, &env).await.unwrap();
    assert!(!own.exists(), "with sources there is no file of its own");
    let old = keys(&line(1)).seal(HERE, &Secret::new("x")).unwrap();
    loaded.open(HERE, &old).unwrap();
    assert_eq!(
        loaded.seal(HERE, &Secret::new("x")).unwrap().key_id(),
        Some(hex::encode(keys(&line(2)).keys[0].id))
    );

    for (text, why) in [("", "no key"), ("\n# only words\n", "no key"), ("\nhunter2", "line 2")] {
        crate::replace_secret_file(&file, text).unwrap();
        let error = Keys::load(&[KeySource::File(file.clone())], &own, &env).await.unwrap_err();
        assert_eq!(error.reason(), "SECRET_KEY_UNUSABLE");
        assert!(error.message().contains(why) && !error.message().contains("hunter2"), "{error}");
    }
}

#[test]
fn nothing_secret_is_shown() {
    let keys = keys(&line(0xab));
    let sealed = keys.seal(HERE, &Secret::new("hunter2")).unwrap();
    let shown = format!("{keys:?} {sealed:?}");
    assert!(!shown.contains("abab") && !shown.contains("hunter2"), "{shown}");
    assert!(!shown.contains(&format!("{:?}", sealed.as_bytes())), "{shown}");
}
