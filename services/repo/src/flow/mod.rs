//! The service's background work.

pub mod background;
pub mod collect;
pub mod delete;
pub mod import;
pub mod overview;
pub mod sync;

use std::sync::Arc;

use foundry_flow::Binding;

use crate::context::Context;

/// All flows of the service.
pub fn bindings(cx: &Arc<Context>) -> Vec<Binding> {
    vec![
        sync::SYNC.bind(cx).projection(sync::Shown(cx.env.clone())),
        import::IMPORT.bind(cx).projection(import::Shown),
        delete::DELETE.bind(cx),
        collect::COLLECT.bind(cx),
        overview::OVERVIEW.bind(cx).projection(overview::Shown(cx.env.clone())),
        background::BACKGROUND.bind(cx),
    ]
}
