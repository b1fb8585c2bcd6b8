//! Authentication: a caller proves possession of the key by a code over its nonce and the runtime's.

use std::collections::VecDeque;
use std::sync::Mutex;

use foundry_core::Env;
use foundry_sandbox::RuntimeKey;
use foundry_sandbox::key::{KEY_BYTES, nonce, same};
use foundry_sandbox::wire::{Hello, SCHEME, VERSION};

use crate::error::{Failure, Kind};

/// Hellos that are remembered: this many proven ones and this many unproven ones.
const REMEMBERED: usize = 256;

/// The hellos and the proof expected for each.
pub(crate) struct Callers {
    key: RuntimeKey,
    instance: String,
    hellos: Mutex<Hellos>,
}

#[derive(Default)]
struct Hellos {
    /// Without the key a client can evict unproven hellos only.
    unproven: VecDeque<Pending>,
    proven: VecDeque<Pending>,
}

struct Pending {
    client: String,
    proof: String,
}

impl Callers {
    pub fn new(key: RuntimeKey, instance: String) -> Self {
        Self { key, instance, hellos: Mutex::default() }
    }

    /// Answers a hello with the runtime's nonce and proof.
    pub fn greet(&self, env: &Env, client: &str) -> Result<Hello, Failure> {
        if client.len() != KEY_BYTES * 2 || !client.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(Failure::invalid(format!("the nonce must be {} hexadecimal digits", KEY_BYTES * 2)));
        }
        let own = nonce(env);
        let hello = Hello {
            proof: self.key.runtime_proof(client, &own),
            nonce: own,
            instance: self.instance.clone(),
            version: VERSION,
        };
        let proof = self.key.client_proof(client, &hello.nonce);
        let mut hellos = foundry_core::lock(&self.hellos);
        remember(&mut hellos.unproven, Pending { client: client.to_owned(), proof });
        Ok(hello)
    }

    /// Checks the `authorization` header of a request.
    pub fn check(&self, header: Option<&[u8]>) -> Result<(), Failure> {
        let given = header.and_then(|h| std::str::from_utf8(h).ok()).and_then(|h| h.split_once(' '));
        let parts = given.filter(|(scheme, _)| *scheme == SCHEME).and_then(|(_, rest)| rest.split_once('.'));
        let proven = parts.is_some_and(|(client, proof)| self.is_proven(client, proof));
        proven
            .then_some(())
            .ok_or_else(|| Failure::new(Kind::Unauthenticated, "proof of the runtime's key is required"))
    }

    fn is_proven(&self, client: &str, proof: &str) -> bool {
        let mut hellos = foundry_core::lock(&self.hellos);
        // No early exit: the time taken must not depend on which nonce matches.
        let fits = |g: &Pending| same(&g.client, client) & same(&g.proof, proof);
        let known = hellos.proven.iter().fold(false, |found, g| found | fits(g));
        let new = hellos.unproven.iter().position(fits);
        if let Some(pending) = new.and_then(|at| hellos.unproven.remove(at)) {
            remember(&mut hellos.proven, pending);
            return true;
        }
        known
    }
}

fn remember(hellos: &mut VecDeque<Pending>, pending: Pending) {
    if hellos.len() >= REMEMBERED {
        hellos.pop_front();
    }
    hellos.push_back(pending);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(client: &str, proof: &str) -> String {
        format!("{SCHEME} {client}.{proof}")
    }

    fn allows(callers: &Callers, header: &str) -> bool {
        callers.check(Some(header.as_bytes())).is_ok()
    }

    #[test]
    fn accepts_only_the_proof_of_the_key() {
        let env = Env::system();
        let key = RuntimeKey::generate(&env);
        let callers = Callers::new(key.clone(), "run1".into());
        let client = nonce(&env);
        let hello = callers.greet(&env, &client).unwrap();
        assert!(same(&hello.proof, &key.runtime_proof(&client, &hello.nonce)));
        let proof = key.client_proof(&client, &hello.nonce);
        assert!(allows(&callers, &header(&client, &proof)));
        assert!(allows(&callers, &header(&client, &proof)), "again");
        let other = nonce(&env);
        for bad in [
            header(&client, &hello.proof),
            header(&other, &proof),
            header(&client, ""),
            format!("Bearer {client}.{proof}"),
            String::new(),
        ] {
            assert!(!allows(&callers, &bad), "{bad}");
        }
        assert!(callers.check(None).is_err());
        assert!(callers.greet(&env, "short").is_err());
    }

    #[test]
    fn hellos_without_a_proof_do_not_evict_a_proven_one() {
        let env = Env::system();
        let key = RuntimeKey::generate(&env);
        let callers = Callers::new(key.clone(), "run1".into());
        let client = nonce(&env);
        let hello = callers.greet(&env, &client).unwrap();
        let header = header(&client, &key.client_proof(&client, &hello.nonce));
        assert!(allows(&callers, &header));
        for _ in 0..REMEMBERED * 2 {
            callers.greet(&env, &nonce(&env)).unwrap();
        }
        assert!(allows(&callers, &header));
    }
}
