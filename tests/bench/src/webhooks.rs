//! Latency of the answer to a delivery of a webhook, next to a bare echo and a bare commit.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use foundry_proto::repo::v1::create_repository_webhook_request::Target;
use foundry_proto::repo::v1::{CreateRepositoryWebhookRequest, RepositoryWebhookForge};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::Bed;
use crate::commands::{BENCH, bare_commits, echo};
use crate::load::{Lane, Operation, interleave, operation};
use crate::report::Report;
use crate::world::World;

/// The goal for the 99th percentile of an answer; a delivery that takes longer is answered with 503, and counts as failed.
const GOAL: u32 = 250;
/// Numbers of concurrent senders.
const CLIENTS: [usize; 2] = [1, 64];
/// Webhooks that take turns, so that none reaches its rate.
const HOOKS: u64 = 64;
/// Commits in the payload, which is then about as large as that of a usual push.
const COMMITS: usize = 20;

/// A webhook of a world's repository.
struct Hook {
    url: String,
    signature: String,
    body: String,
}

/// None for a build that has no webhooks.
async fn hook(world: &World) -> Option<Hook> {
    let request = CreateRepositoryWebhookRequest {
        organization_id: world.owner.organization_id.clone(),
        target: Some(Target::RepositoryId(world.repository().repository_id.clone())),
        forge: RepositoryWebhookForge::Github.into(),
        ..Default::default()
    };
    let added = world.owner.repo().create_repository_webhook(request).await.ok()?.into_inner();
    let commit = r#"{"id": "0123456789012345678901234567890123456789", "message": "a message of some length, as they are",
        "author": {"name": "A. U. Thor", "email": "author@example.org"}, "added": ["src/new.rs"], "modified": ["src/lib.rs"]}"#;
    let commits = vec![commit; COMMITS].join(", ");
    let body = format!("{{\"ref\": \"refs/heads/main\", \"commits\": [{commits}]}}");
    let secret = added.secret?.value;
    let mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).ok()?.chain_update(&body);
    Some(Hook {
        url: format!("{}{}", world.mesh.url("gateway"), added.repository_webhook?.path),
        signature: format!("sha256={}", hex::encode(mac.finalize().into_bytes())),
        body,
    })
}

fn deliver(hooks: &Arc<Vec<Hook>>, numbers: &Arc<AtomicU64>) -> Operation {
    let (hooks, numbers) = (Arc::clone(hooks), Arc::clone(numbers));
    let client = foundry_http_client::local_client().build().expect("a client");
    operation(move |_| {
        let number = numbers.fetch_add(1, Ordering::Relaxed);
        let hook = &hooks[usize::try_from(number % HOOKS).unwrap_or_default()];
        let request = client
            .post(&hook.url)
            .header("content-type", "application/json")
            .header("x-github-event", "push")
            .header("x-github-delivery", format!("delivery-{number}"))
            .header("x-hub-signature-256", &hook.signature)
            .body(hook.body.clone());
        async move {
            let answer = request.send().await.map_err(|e| e.to_string())?;
            if answer.status().is_success() { Ok(()) } else { Err(answer.status().to_string()) }
        }
    })
}

/// Measures deliveries through the gateway; the synchronizations that they announce are a part of their cost.
pub async fn deliveries(bed: &Bed, report: &mut Report) {
    let dir = tempfile::tempdir().expect("directory");
    let store = bed.databases.open(dir.path(), &[&BENCH]).await;
    report.table(&format!(
        "Delivery of a webhook (push), durable; goal: p99 ≤ {GOAL} ms; floor = echo + commit"
    ));
    let mut lanes = Vec::new();
    for world in &bed.worlds {
        let mut hooks = Vec::new();
        for _ in 0..HOOKS {
            hooks.extend(hook(world).await);
        }
        if hooks.is_empty() {
            continue;
        }
        let (hooks, numbers) = (Arc::new(hooks), Arc::new(AtomicU64::new(0)));
        let deliveries =
            async move |clients: usize| (0..clients).map(|_| deliver(&hooks, &numbers)).collect::<Vec<_>>();
        lanes.push(Lane::new("webhook", world.role, "through the gateway", vec![world.pid()], deliveries));
    }
    lanes.push(echo(bed, "webhook"));
    lanes.push(bare_commits("webhook", &store));
    for clients in CLIENTS {
        interleave(&bed.plan, bed.plan.slice, clients, &lanes, report).await;
    }
    drop(lanes);
    store.close().await;
}
