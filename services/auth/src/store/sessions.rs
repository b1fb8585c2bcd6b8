//! Table `credentials`: the sign-in sessions in it.

use foundry_core::{CredentialId, Result, Timestamp, UserId};
use foundry_proto::auth::v1::Session as SessionMessage;
use foundry_store::{Guard, Row, Store, Value, WriteSet};

use super::credentials::TABLE;
use super::id;
use crate::domain::session::{Means, Origin, SessionKind};

/// Most valid sessions of programs of one user.
pub(crate) const MAX_PROGRAMS: i64 = 100;

/// A sign-in session without the hash of its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Session {
    pub(crate) credential_id: CredentialId,
    pub(crate) user_id: UserId,
    pub(crate) origin: Origin,
    pub(crate) created_at: Timestamp,
    /// None = never; sessions always have one.
    pub(crate) expires_at: Option<Timestamp>,
    pub(crate) revoked_at: Option<Timestamp>,
    pub(crate) last_used_at: Option<Timestamp>,
}

impl Session {
    fn read(row: &Row) -> Result<Self> {
        let text = |column| row.text(column).map(str::to_owned);
        Ok(Self {
            credential_id: id(row, "credential_id")?,
            user_id: id(row, "user_id")?,
            origin: Origin {
                kind: SessionKind::parse(row.text("kind")?)?,
                means: Means::parse(row.text("means")?)?,
                provider: text("provider")?,
                device: text("device")?,
                address: text("address")?,
            },
            created_at: row.time("created_at")?,
            expires_at: row.opt_time("expires_at")?,
            revoked_at: row.opt_time("revoked_at")?,
            last_used_at: row.opt_time("last_used_at")?,
        })
    }

    /// Adds the session; fails at commit if it is a program's and its user has reached the limit of those.
    pub(crate) fn insert(&self, set: &mut WriteSet, secret_hash: [u8; 32]) {
        let Origin { kind, means, provider, device, address } = &self.origin;
        if *kind == SessionKind::Program {
            let good = [
                ("user_id", (&self.user_id).into()),
                ("kind", kind.as_str().into()),
                ("revoked_at", Value::Null),
            ];
            set.guard(Guard::count_below(&TABLE, &good, MAX_PROGRAMS, "program_sessions_per_user"));
        }
        let values = [
            (&self.credential_id).into(),
            kind.as_str().into(),
            Value::from(&secret_hash[..]),
            (&self.user_id).into(),
            Value::Null,
            "".into(),
            self.created_at.into(),
            self.expires_at.into(),
            self.revoked_at.into(),
            self.last_used_at.into(),
            device.into(),
            means.as_str().into(),
            provider.into(),
            address.into(),
        ];
        set.insert(&TABLE, values);
    }

    /// The session for its user; `current` is the credential of the call.
    pub(crate) fn message(&self, current: &str) -> SessionMessage {
        SessionMessage {
            credential_id: self.credential_id.to_string(),
            kind: self.origin.kind.message().into(),
            device: self.origin.device.clone(),
            means: self.origin.means.message().into(),
            provider: self.origin.provider.clone(),
            address: self.origin.address.clone(),
            create_time: Some(self.created_at.to_proto()),
            last_use_time: self.last_used_at.map(Timestamp::to_proto),
            expire_time: self.expires_at.map(Timestamp::to_proto),
            revoke_time: self.revoked_at.map(Timestamp::to_proto),
            current: self.credential_id.as_str() == current,
        }
    }
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT credential_id, user_id, kind, means, provider, device, address, created_at, expires_at, revoked_at, ",
            "last_used_at FROM credentials WHERE kind IN ('session', 'page_session', 'program_session') ",
            $rest
        )
    };
}

/// The session with this id, also one that has ended.
pub(crate) async fn find(store: &Store, credential_id: &str) -> Result<Option<Session>> {
    let rows = store.query(select!("AND credential_id = $1"), &[credential_id.into()]).await?;
    rows.first().map(Session::read).transpose()
}

/// A user's sessions that are valid at this time, newest first. Starts below the id `before`, or at the newest if that is
/// empty.
pub(crate) async fn of_user(
    store: &Store,
    user: &UserId,
    now: Timestamp,
    before: &str,
    limit: u32,
) -> Result<Vec<Session>> {
    const SQL: &str = select!(
        "AND user_id = $1 AND revoked_at IS NULL AND expires_at > $2 AND ($3 = '' OR credential_id < $3) \
         ORDER BY credential_id DESC LIMIT $4"
    );
    let rows = store.query(SQL, &[user.into(), now.into(), before.into(), limit.into()]).await?;
    rows.iter().map(Session::read).collect()
}
