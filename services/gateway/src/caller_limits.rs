//! Limits of one caller: a token bucket of requests, and how many may be in progress.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use foundry_core::{Clock, Env, Error, Result, Timestamp};
use foundry_edge::Allowance;
use foundry_server::{Kind, PeerAddress};

use crate::config::{CallerLimits, Config};

/// Accounts kept before idle ones are dropped.
const MAX_ACCOUNTS: usize = 16_384;

/// The party that a limit applies to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Account {
    /// A user, over all sessions and personal access tokens.
    User(Arc<str>),
    /// An IP address; of IPv6, the network of one customer; one for all of this machine's loopback addresses.
    Address(IpAddr),
    /// A webhook, by the id in the address of a delivery.
    Webhook(Arc<str>),
    /// A caller in this process.
    Local,
}

impl Account {
    /// The account of a peer without a valid credential.
    pub(crate) fn of_peer(peer: Option<PeerAddress>) -> Self {
        match peer {
            None => Self::Local,
            // A process here may call from any address of the loopback network.
            Some(PeerAddress(socket)) if socket.ip().to_canonical().is_loopback() => {
                Self::Address(Ipv4Addr::LOCALHOST.into())
            }
            Some(peer) => Self::Address(peer.network()),
        }
    }

    fn scope(&self) -> &'static str {
        match self {
            Self::User(_) => "user",
            Self::Address(_) => "address",
            Self::Webhook(_) => "webhook",
            Self::Local => "process",
        }
    }
}

/// The use by all accounts; cloning shares it.
#[derive(Clone)]
pub(crate) struct CallerBook(Arc<Inner>);

struct Inner {
    clock: Arc<dyn Clock>,
    caller: CallerLimits,
    anonymous: CallerLimits,
    webhook: CallerLimits,
    usage: Mutex<HashMap<Account, Usage>>,
}

struct Usage {
    /// Requests that may still be made at once.
    left: f64,
    refilled: Timestamp,
    unary_calls: usize,
    streams: usize,
}

impl Usage {
    fn of(&mut self, kind: Kind) -> &mut usize {
        match kind {
            Kind::Unary => &mut self.unary_calls,
            Kind::Stream => &mut self.streams,
        }
    }

    fn refill(&mut self, limits: &CallerLimits, now: Timestamp) {
        let gained = now.since(self.refilled).as_secs_f64() * f64::from(limits.requests_per_second);
        self.left = (self.left + gained).min(f64::from(limits.burst.max(1)));
        self.refilled = now;
    }

    fn is_idle(&self, limits: &CallerLimits, now: Timestamp) -> bool {
        let gained = now.since(self.refilled).as_secs_f64() * f64::from(limits.requests_per_second);
        let full = self.left + gained >= f64::from(limits.burst.max(1));
        self.unary_calls == 0 && self.streams == 0 && (full || limits.requests_per_second == 0)
    }
}

impl CallerBook {
    pub(crate) fn new(config: &Config, env: &Env) -> Self {
        Self(Arc::new(Inner {
            clock: env.clock.clone(),
            caller: config.caller.clone(),
            anonymous: config.anonymous.clone(),
            webhook: config.webhook.clone(),
            usage: Mutex::default(),
        }))
    }

    /// Charges a request and counts it until the permit is dropped.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` with the limit and how long to wait.
    pub(crate) fn enter(&self, account: &Account, kind: Kind) -> Result<Permit> {
        let limits = self.0.limits(account);
        let (name, most) = match kind {
            Kind::Unary => ("unary_calls", limits.unary_calls),
            Kind::Stream => ("streams", limits.streams),
        };
        let mut usage = self.0.usage();
        let usage = self.0.charged(&mut usage, account)?;
        let in_progress = usage.of(kind);
        if *in_progress >= most {
            // Unary calls end soon; streams stay.
            let pause = Duration::from_millis(if kind == Kind::Unary { 250 } else { 5_000 });
            return Err(exceeded(name, account, *in_progress as u64, most as u64, pause));
        }
        *in_progress += 1;
        Ok(Permit { book: self.clone(), account: account.clone(), kind })
    }

    /// Charges a request that may turn out to be free; the charge can be given back.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` at the limit, as for [`CallerBook::enter`].
    pub(crate) fn reserve(&self, account: &Account) -> Result<Reservation> {
        self.charge(account)?;
        Ok(Reservation { book: self.clone(), account: account.clone() })
    }

    /// Checks that a request could be charged, without charging it.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` at the limit, as for [`CallerBook::enter`].
    pub(crate) fn check(&self, account: &Account) -> Result<()> {
        self.reserve(account).map(Reservation::give_back)
    }

    /// Charges a request that has ended already, such as one with a bad token.
    ///
    /// # Errors
    /// As [`CallerBook::enter`].
    pub(crate) fn charge(&self, account: &Account) -> Result<()> {
        self.0.charged(&mut self.0.usage(), account).map(drop)
    }
}

impl Inner {
    fn limits(&self, account: &Account) -> &CallerLimits {
        match account {
            Account::User(_) | Account::Local => &self.caller,
            Account::Address(_) => &self.anonymous,
            Account::Webhook(_) => &self.webhook,
        }
    }

    fn usage(&self) -> MutexGuard<'_, HashMap<Account, Usage>> {
        // Consistent after every change, even if a holder panicked.
        foundry_core::lock(&self.usage)
    }

    fn charged<'a>(&self, all: &'a mut HashMap<Account, Usage>, account: &Account) -> Result<&'a mut Usage> {
        let now = self.clock.now();
        let limits = self.limits(account);
        if all.len() >= MAX_ACCOUNTS && !all.contains_key(account) {
            all.retain(|account, usage| !usage.is_idle(self.limits(account), now));
        }
        let usage = all.entry(account.clone()).or_insert_with(|| Usage {
            left: f64::from(limits.burst.max(1)),
            refilled: now,
            unary_calls: 0,
            streams: 0,
        });
        if limits.requests_per_second == 0 {
            return Ok(usage);
        }
        usage.refill(limits, now);
        if usage.left < 1.0 {
            let rate = f64::from(limits.requests_per_second);
            let pause = Duration::from_secs_f64((1.0 - usage.left) / rate);
            let burst = u64::from(limits.burst);
            return Err(exceeded("requests_per_second", account, burst, burst, pause)
                .with("requests_per_second", limits.requests_per_second.to_string()));
        }
        usage.left -= 1.0;
        Ok(usage)
    }
}

fn exceeded(limit: &str, account: &Account, current: u64, maximum: u64, pause: Duration) -> Error {
    Error::quota(limit, account.scope(), current, maximum).retry_after(pause)
}

/// A charge that can be taken back; dropped, it stays.
pub(crate) struct Reservation {
    book: CallerBook,
    account: Account,
}

impl Reservation {
    pub(crate) fn give_back(self) {
        let burst = f64::from(self.book.0.limits(&self.account).burst.max(1));
        if let Some(usage) = self.book.0.usage().get_mut(&self.account) {
            usage.left = (usage.left + 1.0).min(burst);
        }
    }
}

/// One request in progress.
pub(crate) struct Permit {
    book: CallerBook,
    account: Account,
    kind: Kind,
}

impl Allowance for Permit {
    fn charge(&self) -> Result<()> {
        self.book.charge(&self.account)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(usage) = self.book.0.usage().get_mut(&self.account) {
            *usage.of(self.kind) -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn book(limits: CallerLimits) -> (CallerBook, Arc<foundry_testkit::MockClock>) {
        let test = foundry_testkit::test_env();
        let config = Config { caller: limits.clone(), anonymous: limits, ..Config::default() };
        (CallerBook::new(&config, &test.env), test.clock)
    }

    fn caller(name: &str) -> Account {
        Account::User(name.into())
    }

    #[test]
    fn one_caller_at_its_rate_does_not_slow_another_and_goes_on_later() {
        let limits = CallerLimits { requests_per_second: 10, burst: 3, unary_calls: 9, streams: 9 };
        let (book, clock) = book(limits);
        for _ in 0..3 {
            book.charge(&caller("a")).unwrap();
        }
        let refused = book.charge(&caller("a")).unwrap_err().into_status();
        let details = tonic_types::StatusExt::get_error_details(&refused);
        assert_eq!(details.retry_info().unwrap().retry_delay, Some(Duration::from_millis(100)));
        assert_eq!(details.error_info().unwrap().metadata["limit"], "requests_per_second");
        book.charge(&caller("b")).unwrap();
        clock.advance(Duration::from_millis(100));
        book.charge(&caller("a")).unwrap();
        assert!(book.charge(&caller("a")).is_err());
    }

    #[test]
    fn what_is_given_back_costs_nothing_and_what_is_pending_or_dropped_counts() {
        let limits = CallerLimits { requests_per_second: 1, burst: 2, unary_calls: 9, streams: 9 };
        let (book, _) = book(limits);
        for _ in 0..9 {
            book.check(&caller("a")).unwrap();
            book.reserve(&caller("a")).unwrap().give_back();
        }
        let pending = [(); 2].map(|()| book.reserve(&caller("a")).unwrap());
        assert!(book.check(&caller("a")).is_err() && book.reserve(&caller("a")).is_err());
        let [one, dropped] = pending;
        one.give_back();
        drop(dropped);
        book.charge(&caller("a")).unwrap();
        assert!(book.check(&caller("a")).is_err());
    }

    #[test]
    fn streams_and_calls_in_progress_are_counted_apart_and_given_back() {
        let limits = CallerLimits { requests_per_second: 0, burst: 0, unary_calls: 1, streams: 1 };
        let (book, _) = book(limits);
        let stream = book.enter(&caller("a"), Kind::Stream).unwrap();
        let call = book.enter(&caller("a"), Kind::Unary).unwrap();
        assert_eq!(book.enter(&caller("a"), Kind::Stream).err().unwrap().reason(), "LIMIT_REACHED");
        drop(stream);
        assert!(book.enter(&caller("a"), Kind::Stream).is_ok());
        assert!(book.enter(&caller("a"), Kind::Unary).is_err());
        drop(call);
        assert!(book.enter(&caller("a"), Kind::Unary).is_ok());
    }

    #[test]
    fn the_addresses_of_this_machine_and_of_one_customer_are_one_account_each() {
        let at = |address: &str| Account::of_peer(Some(PeerAddress(address.parse().unwrap())));
        for same in ["127.0.0.18:9", "[::1]:9", "[::ffff:127.0.0.3]:9"] {
            assert_eq!(at(same), at("127.0.0.1:9"), "{same}");
        }
        assert_eq!(at("[2001:db8:1:2::1]:9"), at("[2001:db8:1:2:ffff::2]:9"));
        assert_ne!(at("[2001:db8:1:2::1]:9"), at("[2001:db8:1:3::1]:9"));
        assert_ne!(at("192.0.2.1:9"), at("192.0.2.2:9"));
        assert_eq!(Account::of_peer(None), Account::Local);
    }

    #[test]
    fn idle_accounts_are_dropped_and_busy_ones_kept() {
        let limits = CallerLimits { requests_per_second: 1_000, burst: 1, unary_calls: 1, streams: 1 };
        let (book, clock) = book(limits);
        let _held = book.enter(&caller("busy"), Kind::Unary).unwrap();
        for n in 0..MAX_ACCOUNTS - 1 {
            book.charge(&caller(&n.to_string())).unwrap();
        }
        clock.advance(Duration::from_secs(1));
        book.charge(&caller("new")).unwrap();
        assert_eq!(book.0.usage().len(), 2);
    }
}
