//! Who may call: a caller proves that it has the key by a code over its own number and the runtime's.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use foundry_core::Env;
use foundry_sandbox::RuntimeKey;
use foundry_sandbox::key::{KEY_BYTES, nonce, same};
use foundry_sandbox::wire::{Hello, SCHEME, VERSION};

use crate::error::{Failure, Kind};

/// Greetings that are remembered: so many that were followed by a proof, and so many that were not.
const REMEMBERED: usize = 256;

/// The greetings and what a caller has to prove for each.
pub(crate) struct Callers {
    key: RuntimeKey,
    instance: String,
    greetings: Mutex<Greetings>,
}

#[derive(Default)]
struct Greetings {
    /// A stranger's greetings push out only each other.
    unproven: VecDeque<Greeting>,
    proven: VecDeque<Greeting>,
}

struct Greeting {
    client: String,
    proof: String,
}

impl Callers {
    pub fn new(key: RuntimeKey, instance: String) -> Self {
        Self { key, instance, greetings: Mutex::default() }
    }

    /// Answers a greeting: proves that the runtime has the key.
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
        let mut greetings = self.greetings.lock().unwrap_or_else(PoisonError::into_inner);
        remember(&mut greetings.unproven, Greeting { client: client.to_owned(), proof });
        Ok(hello)
    }

    /// Checks the `authorization` header of a request.
    pub fn check(&self, header: Option<&[u8]>) -> Result<(), Failure> {
        let given = header.and_then(|h| std::str::from_utf8(h).ok()).and_then(|h| h.split_once(' '));
        let parts = given.filter(|(scheme, _)| *scheme == SCHEME).and_then(|(_, rest)| rest.split_once('.'));
        let proven = parts.is_some_and(|(client, proof)| self.is_proven(client, proof));
        proven
            .then_some(())
            .ok_or_else(|| Failure::new(Kind::Unauthenticated, "a proof of the runtime's key is needed"))
    }

    fn is_proven(&self, client: &str, proof: &str) -> bool {
        let mut greetings = self.greetings.lock().unwrap_or_else(PoisonError::into_inner);
        // Every one is compared, so that the time tells nothing of which number is known.
        let fits = |g: &Greeting| same(&g.client, client) & same(&g.proof, proof);
        let known = greetings.proven.iter().fold(false, |found, g| found | fits(g));
        let new = greetings.unproven.iter().position(fits);
        if let Some(greeting) = new.and_then(|at| greetings.unproven.remove(at)) {
            remember(&mut greetings.proven, greeting);
            return true;
        }
        known
    }
}

fn remember(greetings: &mut VecDeque<Greeting>, greeting: Greeting) {
    if greetings.len() >= REMEMBERED {
        greetings.pop_front();
    }
    greetings.push_back(greeting);
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
    fn believes_a_caller_who_proves_the_key_and_no_other() {
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
    fn a_stranger_who_greets_for_ever_pushes_nobody_out() {
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
