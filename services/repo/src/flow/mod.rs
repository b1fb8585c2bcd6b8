//! The service's background work.

#[cfg(test)]
mod access_tests;
pub mod action;
#[cfg(test)]
mod app_tests;
pub mod background;
pub mod base_files;
pub mod check;
pub mod collect;
pub mod delete;
pub mod forget_deliveries;
pub mod import;
pub mod overview;
pub mod publish;
pub mod published;
pub mod pull_request;
pub mod pulls;
mod pushing;
pub mod sync;
#[cfg(test)]
mod tests;
pub mod turn;

use std::sync::Arc;
use std::time::Duration;

use foundry_flow::Binding;

use crate::context::Context;

/// How long ended flows are kept that run by themselves for every repository.
const KEPT: Duration = Duration::from_secs(24 * 3600);

/// All flows of the service.
pub fn bindings(cx: &Arc<Context>) -> Vec<Binding> {
    vec![
        sync::SYNC.bind(cx).projection(sync::Shown(cx.env.clone())),
        check::CHECK.bind(cx).projection(check::Shown),
        import::IMPORT.bind(cx).projection(import::Shown(cx.env.clone())),
        delete::DELETE.bind(cx),
        collect::COLLECT.bind(cx),
        base_files::BASE_FILES.bind(cx),
        publish::PUBLISH.bind(cx).projection(publish::Shown(cx.env.clone())),
        publish::settle::SETTLE.bind(cx),
        action::ACTION.bind(cx).projection(action::Shown(cx.env.clone())),
        action::settle::SETTLE.bind(cx),
        overview::OVERVIEW.bind(cx).projection(overview::Shown(cx.env.clone())),
        pulls::PULLS.bind(cx),
        background::BACKGROUND.bind(cx),
        forget_deliveries::FORGET.bind(cx),
    ]
}
