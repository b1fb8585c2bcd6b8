//! Remotes over HTTPS, with certificates of an authority of the operator's, and through the operator's proxy.

use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use foundry_git::{
    CloneSpec, GitError, GitErrorKind, Mirror, MirrorLimits, Network, Pushed, RemoteUrl, Revision, UrlPolicy,
};
use foundry_secrets::Secret;
use foundry_testkit::{Authority, ConnectProxy, GitHttp};

use crate::lab::{Lab, branch};

/// A name that only the proxy can resolve.
const HIDDEN: &str = "git.corp.example";

struct Host {
    lab: Lab,
    authority: Authority,
}

impl Host {
    async fn new() -> Self {
        let lab = Lab::new().await;
        lab.sh(
            &lab.path(""),
            "mkdir hosted && git clone -q --mirror real hosted/r.git && git -C hosted/r.git config http.receivepack true",
        );
        Self { lab, authority: Authority::new() }
    }

    fn serve(&self, certificate: &Arc<rustls::ServerConfig>) -> GitHttp {
        GitHttp::start_tls(self.lab.path("hosted"), certificate)
    }

    /// The operator's file with this authority.
    fn trusted(&self, authority: &Authority) -> PathBuf {
        let (_, path) = tempfile::NamedTempFile::new_in(self.lab.path("")).unwrap().keep().unwrap();
        std::fs::write(&path, authority.pem()).unwrap();
        path
    }

    async fn mirror(&self, url: &str, network: Network) -> Result<(Mirror, RemoteUrl), GitError> {
        let policy = UrlPolicy { allow_private_addresses: true, network, ..UrlPolicy::default() };
        let remote = RemoteUrl::parse(url, &policy).unwrap();
        let dir = self.lab.path("data/m");
        Ok((Mirror::create(&self.lab.git, dir, &remote, MirrorLimits::default()).await?, remote))
    }

    /// Clones, fetches, and publishes to it.
    async fn works(&self, url: &str, network: Network) {
        let (mirror, remote) = self.mirror(url, network).await.unwrap();
        let lab = &self.lab;
        let base = mirror.resolve(&Revision::Branch(branch("main"))).await.unwrap();
        let spec = CloneSpec {
            base: base.clone(),
            branch: branch("foundry/work"),
            destination: lab.path("sandbox"),
            origin: None,
            lfs: None,
            lfs_content: false,
            submodules_of: None,
            identity: ("Agent".into(), "agent@example.com".into()),
        };
        mirror.clone_into(&spec).await.unwrap();
        lab.sh(&lab.path("hosted/r.git"), "git branch other main");
        assert_eq!(mirror.fetch(&remote).await.unwrap().branches, 2);
        let pushed = mirror.push_branch(&remote, &branch("feat/x"), &base, None).await.unwrap();
        assert!(matches!(pushed, Pushed::Accepted(_)), "{pushed:?}");
        assert_eq!(lab.rev(&lab.path("hosted/r.git"), "feat/x"), base);
        assert_eq!(mirror.remote_tip(&remote, &branch("feat/x")).await.unwrap().commit, Some(base));
    }

    async fn refused(&self, url: &str, network: Network) -> GitError {
        self.mirror(url, network).await.expect_err("a certificate that proves nothing was accepted")
    }
}

#[tokio::test]
async fn a_host_with_a_certificate_of_the_operators_authority_is_cloned_fetched_and_published_to() {
    let host = Host::new().await;
    let server = host.serve(&host.authority.server(&["127.0.0.1", "localhost"]));
    let trusting = || Network::default().trusting(host.trusted(&host.authority));
    host.works(&server.url("r.git"), trusting()).await;
}

#[tokio::test]
async fn a_certificate_that_proves_nothing_is_refused_with_the_cause() {
    let host = Host::new().await;
    let trusting = |authority: &Authority| Network::default().trusting(host.trusted(authority));
    let good = host.serve(&host.authority.server(&["127.0.0.1"]));
    let expired = host.serve(&host.authority.expired_server(&["127.0.0.1"]));
    let other = host.serve(&host.authority.server(&["other.example"]));
    for (what, server, network, words) in [
        ("an authority that is not trusted", &good, trusting(&Authority::new()), "authority"),
        ("without the operator's authority", &good, Network::default(), "authority"),
        ("an expired one", &expired, trusting(&host.authority), "expired"),
        ("for another host", &other, trusting(&host.authority), "another host"),
    ] {
        let error = host.refused(&server.url("r.git"), network).await;
        assert_eq!(
            (error.kind(), error.reason()),
            (GitErrorKind::Certificate, "GIT_CERTIFICATE_REFUSED"),
            "{what}: {}",
            error.stderr()
        );
        assert!(error.message().contains(words), "{what}: {} {}", error.message(), error.stderr());
        assert!(!error.retryable(), "{what}");
        assert!(server.requests().iter().all(|(path, _)| path.is_empty()), "{what}: something was sent");
    }
}

#[tokio::test]
async fn a_host_behind_the_operators_proxy_is_reached_through_it_with_its_password_and_no_other_is() {
    let host = Host::new().await;
    let proxy = ConnectProxy::start(Some(&STANDARD.encode("me:canary")));
    let server = host.serve(&host.authority.server(&[HIDDEN, "127.0.0.1"]));
    let network = |password: &str| {
        let address = format!("http://me:{password}@{}/", proxy.address());
        let through =
            move |url: &url::Url| (url.host_str() == Some(HIDDEN)).then(|| Secret::new(address.clone()));
        Network::default().trusting(host.trusted(&host.authority)).through(through)
    };
    let url = format!("https://{HIDDEN}:{}/r.git", server.port());
    let error = host.refused(&url, network("wrong")).await;
    assert_eq!(error.reason(), "GIT_PROXY_REFUSED", "{}", error.stderr());
    assert!(!format!("{error:?}").contains("wrong"));
    host.works(&url, network("canary")).await;
    let through = proxy.requests();
    assert!(
        through.iter().all(|(target, _)| *target == format!("{HIDDEN}:{}", server.port())),
        "{through:?}"
    );
    let used = through.len();
    let _ = std::fs::remove_dir_all(host.lab.path("data"));
    host.mirror(&server.url("r.git"), network("canary")).await.unwrap();
    assert_eq!(proxy.requests().len(), used, "a host that is an exception was reached through the proxy");
}

#[tokio::test]
async fn a_proxy_that_is_not_there_is_named_as_the_cause() {
    let host = Host::new().await;
    let through = Network::default().through(|_| Some(Secret::new("http://127.0.0.1:1/")));
    let error = host.refused(&format!("https://{HIDDEN}/r.git"), through).await;
    assert_eq!(error.kind(), GitErrorKind::Unreachable, "{}", error.stderr());
}
