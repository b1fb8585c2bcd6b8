//! What a sign-in session is for, and how its user signed in.

use foundry_core::{Error, Result};
use foundry_proto::auth::v1::{SessionKind as KindMessage, SignInMeans as MeansMessage};

/// What a session is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SessionKind {
    /// A bearer token of a sign-in without the page, or a session from before kinds were kept.
    Bearer,
    /// The gateway's page, by cookie.
    Page,
    /// A program that a user confirmed.
    Program,
}

impl SessionKind {
    /// The text in the database.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Bearer => "session",
            Self::Page => "page_session",
            Self::Program => "program_session",
        }
    }

    /// From what is stored.
    ///
    /// # Errors
    /// `INTERNAL` for an unknown text.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let found = [Self::Bearer, Self::Page, Self::Program].into_iter().find(|it| it.as_str() == text);
        found.ok_or_else(|| Error::internal(format!("unknown kind of session {text}")))
    }

    /// The kind as callers see it.
    pub(crate) fn message(self) -> KindMessage {
        match self {
            Self::Bearer => KindMessage::Bearer,
            Self::Page => KindMessage::Page,
            Self::Program => KindMessage::Program,
        }
    }
}

/// How a user signed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Means {
    /// Not kept: the session is older than this.
    Unknown,
    /// The secret of the data directory.
    Development,
    /// An identity provider.
    Provider,
    /// A code that the user typed in a browser.
    DeviceCode,
    /// A browser on the machine of the program.
    Browser,
}

impl Means {
    /// The text in the database.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "",
            Self::Development => "development",
            Self::Provider => "provider",
            Self::DeviceCode => "device_code",
            Self::Browser => "browser",
        }
    }

    /// From what is stored.
    ///
    /// # Errors
    /// `INTERNAL` for an unknown text.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let all = [Self::Unknown, Self::Development, Self::Provider, Self::DeviceCode, Self::Browser];
        let found = all.into_iter().find(|it| it.as_str() == text);
        found.ok_or_else(|| Error::internal(format!("unknown means of sign-in {text}")))
    }

    /// The means as callers see them.
    pub(crate) fn message(self) -> MeansMessage {
        match self {
            Self::Unknown => MeansMessage::Unspecified,
            Self::Development => MeansMessage::Development,
            Self::Provider => MeansMessage::Provider,
            Self::DeviceCode => MeansMessage::DeviceCode,
            Self::Browser => MeansMessage::Browser,
        }
    }
}

/// Where a session comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) kind: SessionKind,
    pub(crate) means: Means,
    /// Name of the identity provider; else empty.
    pub(crate) provider: String,
    /// The browser or program, and its machine; empty when unknown.
    pub(crate) device: String,
    /// Its network address; empty when unknown.
    pub(crate) address: String,
}
