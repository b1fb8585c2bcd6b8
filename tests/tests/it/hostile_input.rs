//! Bad input gets a typed error, has no effect, and leaves every service healthy.

use foundry_proto::repo::v1::{CreateRepositoryRequest, ListRepositoriesRequest};
use foundry_proto::task::v1::{CreateTaskRequest, GetTaskRequest, ListTasksRequest, SendMessageRequest};
use foundry_tests::story::{register, task_request};
use foundry_tests::{Caller, Mesh, Origin, Shape};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

fn reason(status: &Status) -> String {
    status.get_error_details().error_info().map(|i| i.reason.clone()).unwrap_or_default()
}

async fn assert_refused<T: std::fmt::Debug>(
    what: &str,
    call: impl Future<Output = Result<tonic::Response<T>, Status>>,
    codes: &[Code],
) {
    let status = call.await.expect_err(what);
    assert!(codes.contains(&status.code()), "{what}: {status:?}");
    assert!(!reason(&status).is_empty(), "{what}: no typed reason in {status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_requests_are_refused_with_a_reason_and_without_effect() {
    let mesh = Mesh::start(Shape::Embedded, &[]);
    let ada = mesh.sign_in("ada").await;
    let repository = register(&ada, &Origin::create(mesh.dir())).await;
    let invalid = [Code::InvalidArgument];

    for url in [
        "ext::sh -c touch% /tmp/pwned",
        "--upload-pack=touch /tmp/pwned",
        "../../etc",
        "file:///proc/self/cwd/../x",
        "https://user:secret@example.org/x.git",
        "ssh://example.org/x",
        "git://example.org/x",
        "",
    ] {
        let request = CreateRepositoryRequest {
            organization_id: ada.organization_id.clone(),
            url: url.to_owned(),
            ..CreateRepositoryRequest::default()
        };
        assert_refused(url, ada.repo().create_repository(request), &invalid).await;
    }
    let inside = CreateRepositoryRequest {
        organization_id: ada.organization_id.clone(),
        url: mesh.data().display().to_string(),
        ..CreateRepositoryRequest::default()
    };
    assert_refused("the mesh's own data", ada.repo().create_repository(inside), &invalid).await;

    let good = |prompt: &str| task_request(&ada, &repository, prompt);
    for branch in ["--upload-pack=id", "-x", "a..b", "a b", "a~1", "refs/heads/", ".lock", "a\nb"] {
        let request = CreateTaskRequest { branch: branch.to_owned(), ..good("say x") };
        assert_refused(branch, ada.task().create_task(request), &invalid).await;
    }
    for (what, request) in [
        ("no prompt", good("")),
        ("too large a prompt", good(&"x".repeat((256 << 10) + 1))),
        ("no repository", CreateTaskRequest { repository_id: "../../x".to_owned(), ..good("say x") }),
    ] {
        assert_refused(what, ada.task().create_task(request), &invalid).await;
    }
    let unknown = "task_00000000000000000000000000000000".to_owned();
    assert_refused(
        "unknown task",
        ada.task().get_task(GetTaskRequest { task_id: unknown }),
        &[Code::NotFound],
    )
    .await;
    let message = SendMessageRequest {
        session_id: "ses_00000000000000000000000000000000".to_owned(),
        text: "x".to_owned(),
        ..SendMessageRequest::default()
    };
    assert_refused("unknown session", ada.task().send_message(message), &[Code::NotFound]).await;
    let huge = good(&"x".repeat(5 << 20));
    let codes = [Code::ResourceExhausted, Code::OutOfRange, Code::InvalidArgument];
    assert_refused("over the message limit", ada.task().create_task(huge), &codes).await;
    let stranger = Caller::with_token(&mesh.url("gateway"), "fpat_nonsense", &ada.organization_id);
    let list =
        ListTasksRequest { organization_id: ada.organization_id.clone(), ..ListTasksRequest::default() };
    assert_refused("a made-up token", stranger.task().list_tasks(list.clone()), &[Code::Unauthenticated])
        .await;

    assert!(!std::path::Path::new("/tmp/pwned").exists());
    assert!(ada.task().list_tasks(list).await.unwrap().into_inner().tasks.is_empty());
    let listed =
        ListRepositoriesRequest { organization_id: ada.organization_id.clone(), ..Default::default() };
    assert_eq!(ada.repo().list_repositories(listed).await.unwrap().into_inner().repositories.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_bytes_on_the_socket_leave_the_gateway_serving() {
    use std::io::{Read as _, Write as _};
    let mesh = Mesh::start(Shape::Embedded, &[]);
    let address = mesh.url("gateway").trim_start_matches("http://").to_owned();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    for bytes in [
        b"\x00\xff\xfe garbage \x00\x00".to_vec(),
        [preface.as_slice(), &[0xff; 64]].concat(),
        b"POST /foundry.task.v1.TaskService/GetTask HTTP/1.1\r\nhost: x\r\ncontent-type: application/grpc-web\r\ncontent-length: 5\r\n\r\n\xff\xff\xff\xff\xff".to_vec(),
        b"POST /foundry.task.v1.TaskService/GetTask HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}".to_vec(),
    ] {
        let mut socket = std::net::TcpStream::connect(&address).unwrap();
        socket.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
        socket.write_all(&bytes).unwrap();
        let mut answer = [0u8; 512];
        // Any answer or a close is fine, as long as other clients are not affected.
        let _ = socket.read(&mut answer);
    }
    let ada = mesh.sign_in("ada").await;
    let list =
        ListTasksRequest { organization_id: ada.organization_id.clone(), ..ListTasksRequest::default() };
    ada.task().list_tasks(list).await.unwrap();
}
