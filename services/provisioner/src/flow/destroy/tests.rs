//! Work that cannot be saved at once, or not at all.

use std::time::Duration;

use foundry_core::MessageId;
use foundry_proto::provisioner::v1 as p;

use crate::domain::SandboxState;
use crate::ops;
use crate::testing::Fixture;

async fn destroy(f: &Fixture, id: &str) {
    let request = p::DestroySandboxRequest { sandbox_id: id.to_owned(), ..Default::default() };
    ops::destroy_sandbox::destroy_sandbox(&f.shared, &f.task, request).await.unwrap();
    f.run().await;
}

#[tokio::test]
async fn tries_again_to_save_the_work_and_says_for_good_that_it_could_not() {
    let f = Fixture::new().await;
    let id = f.ensure().await.sandbox_id.to_string();
    f.run().await;
    // The runtime is alive, but nothing answers at its port.
    destroy(&f, &id).await;
    let first = f.sandbox(&id).await;
    assert_eq!((first.state, first.condition.waiting_on.as_str()), (SandboxState::Destroying, "work_saved"));
    f.env.clock.advance(Duration::from_secs(5));
    f.run().await;
    let second = f.sandbox(&id).await;
    assert_eq!((second.state, second.condition.attempt), (SandboxState::Destroying, 2), "not given up");
    f.env.clock.advance(Duration::from_secs(61));
    f.run().await;
    let gone = f.sandbox(&id).await;
    assert_eq!((gone.state, gone.condition.reason.as_str()), (SandboxState::Destroyed, "WORK_NOT_SAVED"));
    assert!(f.provider.names().is_empty());
}

#[tokio::test]
async fn the_clone_is_released_once_the_repo_service_answers_and_the_destruction_does_not_wait_for_that() {
    let f = Fixture::new().await;
    let id = f.ensure().await.sandbox_id.to_string();
    f.run().await;
    assert_eq!(f.repo.clones.lock().unwrap().0, [id.as_str()]);
    f.provider.kill(&id);
    *f.repo.down.lock().unwrap() = true;
    destroy(&f, &id).await;
    assert_eq!(f.sandbox(&id).await.state, SandboxState::Destroyed);
    assert!(f.repo.clones.lock().unwrap().1.is_empty());
    *f.repo.down.lock().unwrap() = false;
    f.env.clock.advance(Duration::from_secs(5));
    f.run().await;
    assert_eq!(f.repo.clones.lock().unwrap().1, [id]);
}

#[tokio::test]
async fn says_what_is_lost_with_a_dead_runtime_only_where_a_prompt_came() {
    for prompted in [false, true] {
        let f = Fixture::new().await;
        let made = f.ensure().await;
        let id = made.sandbox_id.to_string();
        f.run().await;
        let session = f.made_ready(&f.session(&made).await).await;
        if prompted {
            let prompt = p::PromptAgentSessionRequest {
                session_id: session.session_id.to_string(),
                message_id: MessageId::generate(&f.env.env).to_string(),
                text: "hi".into(),
                ..Default::default()
            };
            ops::prompt_agent_session::prompt_agent_session(&f.shared, &f.task, prompt).await.unwrap();
        }
        f.provider.kill(&id);
        destroy(&f, &id).await;
        let gone = f.sandbox(&id).await;
        assert_eq!(gone.state, SandboxState::Destroyed);
        assert_eq!(gone.condition.reason, if prompted { "WORK_NOT_SAVED" } else { "" });
    }
}
