//! ListProcesses: what runs in a sandbox at this moment; passed through to the sandbox, not stored.

use std::time::Duration;

use foundry_authn::Caller;
use foundry_core::{Code, Error, Timestamp};
use foundry_proto::common::v1::Role;
use foundry_proto::provisioner::v1::{ListProcessesRequest, ListProcessesResponse, Process};

use super::sandbox_for;
use crate::domain::SandboxState;
use crate::shared::Shared;

/// How long the sandbox may take to answer.
const LIMIT: Duration = Duration::from_secs(9);
/// Sandboxes that are asked at the same time, so that hanging ones block no more requests than this.
pub const CONCURRENT_LISTINGS: usize = 8;

/// Asks the sandbox, which must be ready: without a runtime there is nothing to ask.
pub async fn list_processes(
    shared: &Shared,
    caller: &Caller,
    request: ListProcessesRequest,
) -> Result<ListProcessesResponse, Error> {
    let sandbox = sandbox_for(shared, caller, &request.sandbox_id, Role::Viewer).await?;
    if sandbox.facts.is_none() || sandbox.state != SandboxState::Ready {
        let text = format!("the sandbox is {} and has no running runtime", sandbox.state.as_str());
        return Err(Error::precondition("RUNTIME_ABSENT", sandbox.sandbox_id.as_str(), text)
            .next_action("wait until the sandbox is ready"));
    }
    let client = shared.client(&sandbox)?;
    let Ok(_place) = shared.listings.try_acquire() else { return Err(busy()) };
    let listing = tokio::select! {
        listing = client.processes() => {
            listing.map_err(|e| Error::from(foundry_sandbox::ProviderError::from(e)))?
        }
        () = shared.env.clock.sleep(LIMIT) => return Err(silent()),
    };
    Ok(ListProcessesResponse {
        processes: listing.processes.into_iter().map(process).collect(),
        read_time: Some(shared.env.clock.now().to_proto()),
        truncated: listing.truncated,
    })
}

fn process(p: foundry_sandbox::Process) -> Process {
    Process {
        pid: p.pid,
        parent_pid: p.parent,
        command: p.command,
        state: p.state.to_string(),
        cpu_millis: p.cpu_millis,
        rss_bytes: p.rss_bytes,
        start_time: Some(Timestamp::from_micros(p.start_micros).to_proto()),
    }
}

fn busy() -> Error {
    let most = CONCURRENT_LISTINGS as u64;
    Error::quota("process_listings", "this server", most, most)
        .retry_after(Duration::from_secs(1))
        .next_action("try again; other sandboxes are slow to respond")
}

fn silent() -> Error {
    Error::new(
        Code::DeadlineExceeded,
        "RUNTIME_TIMEOUT",
        format!("the sandbox did not list its processes within {LIMIT:?}"),
    )
    .retry_after(Duration::from_secs(1))
    .next_action("try again; the sandbox may be overloaded")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use foundry_proto::provisioner::v1::DestroySandboxRequest;

    use super::*;
    use crate::testing::Fixture;
    use crate::testing::agent::FakeAgent;

    fn of(id: &str) -> ListProcessesRequest {
        ListProcessesRequest { sandbox_id: id.to_owned() }
    }

    #[tokio::test]
    async fn asks_a_living_sandbox_and_no_other_and_not_for_strangers() {
        let f = Fixture::new().await;
        let agent = FakeAgent::serve(&f).await;
        let id = f.ensure().await.sandbox_id.to_string();
        let early = list_processes(&f.shared, &f.member, of(&id)).await.unwrap_err();
        assert_eq!((early.code(), early.reason()), (Code::FailedPrecondition, "RUNTIME_ABSENT"));
        f.run().await;
        agent.says(
            0,
            r#"{"truncated":true,"processes":[{"pid":2,"parent":1,"state":"R","cpu_millis":3,"rss_bytes":4,"start_micros":5,"command":"x\ny"}]}"#,
        );
        let answer = list_processes(&f.shared, &f.member, of(&id)).await.unwrap();
        let p = &answer.processes[0];
        assert_eq!((p.pid, p.parent_pid, p.state.as_str(), p.cpu_millis, p.rss_bytes), (2, 1, "R", 3, 4));
        assert_eq!(p.command, "x\u{fffd}y");
        assert!(answer.truncated && answer.processes.len() == 1 && answer.read_time.is_some());
        agent.says(0, "rubbish");
        let odd = list_processes(&f.shared, &f.member, of(&id)).await.unwrap_err();
        assert_eq!((odd.code(), odd.reason()), (Code::Unavailable, "RUNTIME_MALFORMED"));
        let destroy = DestroySandboxRequest { sandbox_id: id.clone(), ..Default::default() };
        crate::ops::destroy_sandbox::destroy_sandbox(&f.shared, &f.task, destroy).await.unwrap();
        assert!(f.sandbox(&id).await.facts.is_some(), "it still runs");
        let doomed = list_processes(&f.shared, &f.member, of(&id)).await.unwrap_err();
        assert_eq!(doomed.reason(), "RUNTIME_ABSENT");
        let foreign = list_processes(&f.shared, &f.stranger, of(&id)).await.unwrap_err();
        let absent = foundry_core::SandboxId::generate(&f.env.env);
        let absent_answer = list_processes(&f.shared, &f.stranger, of(absent.as_str())).await.unwrap_err();
        assert_eq!((foreign.code(), absent_answer.code()), (Code::NotFound, Code::NotFound));
    }

    #[tokio::test]
    async fn sandboxes_that_hang_take_their_places_only_and_give_them_back() {
        let f = Fixture::new().await;
        let agent = FakeAgent::serve(&f).await;
        let id = f.ensure().await.sandbox_id.to_string();
        f.run().await;
        agent.hang();
        let hanging: Vec<_> = (0..CONCURRENT_LISTINGS)
            .map(|_| {
                let (shared, caller, request) = (Arc::clone(&f.shared), f.member.clone(), of(&id));
                Box::pin(async move { list_processes(&shared, &caller, request).await })
            })
            .collect();
        let all = futures::future::join_all(hanging);
        tokio::pin!(all);
        tokio::select! {
            _ = &mut all => panic!("nobody answers"),
            () = agent.until_asked(CONCURRENT_LISTINGS) => {}
        }
        let refused = list_processes(&f.shared, &f.member, of(&id)).await.unwrap_err();
        assert_eq!((refused.code(), refused.reason()), (Code::ResourceExhausted, "LIMIT_REACHED"));
        f.env.clock.advance(LIMIT);
        for answer in all.await {
            let e = answer.unwrap_err();
            assert_eq!((e.code(), e.reason()), (Code::DeadlineExceeded, "RUNTIME_TIMEOUT"));
        }
        assert_eq!(f.shared.listings.available_permits(), CONCURRENT_LISTINGS);
    }
}
