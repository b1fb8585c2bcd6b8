//! Typed ids: `<prefix>_<32 hex digits>`, time-ordered (UUID version 7), never reused.

use std::fmt;
use std::str::FromStr;

use crate::{Env, Error};

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident = $prefix:literal, $field:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The prefix that distinguishes this kind of id.
            pub const PREFIX: &'static str = $prefix;

            /// A fresh id from the injected clock and randomness.
            pub fn generate(env: &Env) -> Self {
                let uuid = env.random.uuid_at(env.clock.now());
                Self(format!("{}_{}", $prefix, uuid.simple()))
            }

            /// The id that always stands for the same 16 bytes, e.g. the hash of what it names.
            pub fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(format!("{}_{}", $prefix, uuid::Uuid::from_bytes(bytes).simple()))
            }

            /// The textual form, as stored and sent.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = Error;

            /// Fails with `INVALID_ARGUMENT` naming the field when the text has another shape.
            fn from_str(s: &str) -> Result<Self, Error> {
                if has_shape(s, $prefix) {
                    Ok(Self(s.to_owned()))
                } else {
                    Err(Error::invalid_field($field, concat!("must look like ", $prefix, "_<32 hex digits>")))
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = Error;
            fn try_from(s: String) -> Result<Self, Error> {
                s.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    )*};
}

fn has_shape(s: &str, prefix: &str) -> bool {
    s.strip_prefix(prefix)
        .and_then(|rest| rest.strip_prefix('_'))
        .is_some_and(|hex| hex.len() == 32 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
}

ids! {
    /// An organization: the tenant boundary.
    OrganizationId = "org", "organization_id";
    /// A user, as signed in by the auth service.
    UserId = "usr", "user_id";
    /// What a caller signed in with: a personal access token or a sign-in session.
    CredentialId = "crd", "credential_id";
    /// A personal access token.
    AccessTokenId = "pat", "access_token_id";
    /// A sign-in at an identity provider, from its beginning to the session.
    SignInId = "sgn", "sign_in_id";
    /// A sign-in of a program that a user confirms in a browser.
    ProgramSignInId = "psi", "program_sign_in_id";
    /// An account at an identity provider that belongs to a user.
    AccountId = "acc", "account_id";
    /// A registered Git repository.
    RepositoryId = "repo", "repository_id";
    /// A stored credential for a repository or for all at a host.
    RepositoryCredentialId = "rcr", "repository_credential_id";
    /// A place to which a host of repositories announces changes.
    RepositoryWebhookId = "rwh", "repository_webhook_id";
    /// A coding task.
    TaskId = "task", "task_id";
    /// A session (tab) of a task.
    SessionId = "ses", "session_id";
    /// One message of a session, also one queued follow-up.
    MessageId = "msg", "message_id";
    /// A sandbox of the provisioner, in which agents run.
    SandboxId = "sbx", "sandbox_id";
    /// The provisioner's side of a session: an agent conversation in a sandbox.
    AgentSessionId = "agt", "agent_session_id";
    /// A configured endpoint that serves models.
    ModelProviderId = "mpr", "model_provider_id";
    /// A profile: a named configuration of an agent.
    ProfileId = "prf", "profile_id";
    /// A stored file of a message or of an agent.
    AttachmentId = "att", "attachment_id";
    /// An action on branches of a repository.
    JobId = "job", "job_id";
    /// A comment on the changes of a task.
    ReviewCommentId = "rvc", "comment_id";
    /// A durable flow or job.
    FlowId = "flow", "flow_id";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_what_it_generates() {
        let id = TaskId::generate(&Env::system());
        assert_eq!(id.as_str().parse::<TaskId>().unwrap(), id);
    }

    #[test]
    fn refuses_foreign_prefixes_and_hostile_text() {
        for bad in [
            "",
            "task_",
            "ses_0190a0a0a0a07000a000a0a0a0a0a0a0",
            "task_../../etc/passwd",
            "task_0190A0A0A0A07000A000A0A0A0A0A0A0",
        ] {
            let err = bad.parse::<TaskId>().unwrap_err();
            assert_eq!(err.reason(), "INVALID_FIELD", "{bad}");
        }
    }
}
