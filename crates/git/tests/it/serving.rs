//! Serving a fetch from a mirror, asked in the words of git's protocol.

use bytes::Bytes;
use foundry_git::{CommitId, FetchProtocol, GitError, Mirror, RunLimits, ServedRefs, ServedWork};

use crate::lab::{Lab, Sandbox, branch, work};

fn line(text: &str) -> String {
    format!("{:04x}{text}", text.len() + 4)
}

fn fetch(protocol: FetchProtocol, want: &str) -> Bytes {
    let request = if protocol == FetchProtocol::V2 {
        format!("{}0001{}{}0000", line("command=fetch"), line(&format!("want {want}\n")), line("done\n"))
    } else {
        format!("{}0000{}", line(&format!("want {want} side-band-64k\n")), line("done\n"))
    };
    Bytes::from(request)
}

async fn all(mut piped: foundry_git::Piped) -> Result<Vec<u8>, GitError> {
    let mut out = Vec::new();
    while let Some(piece) = piped.next().await? {
        out.extend_from_slice(&piece);
    }
    Ok(out)
}

struct Served<'a> {
    lab: &'a Lab,
    mirror: &'a Mirror,
    refs: ServedRefs,
}

impl<'a> Served<'a> {
    async fn of(s: &'a Sandbox<'_>, works: &[ServedWork]) -> Self {
        Self { lab: s.lab, mirror: &s.mirror, refs: s.mirror.served_refs(works, true).await.unwrap() }
    }

    async fn ask(&self, protocol: FetchProtocol, body: &Bytes) -> Result<Vec<u8>, GitError> {
        let (scratch, limits) = (self.lab.path("scratch"), RunLimits::default());
        std::fs::create_dir_all(&scratch).unwrap();
        let answered = self.mirror.answer_fetch(&self.refs, protocol, body, &scratch, limits).await?;
        let out = all(answered).await;
        assert_eq!(std::fs::read_dir(&scratch).unwrap().count(), 0, "something is left behind");
        out
    }
}

fn serving(head: &CommitId) -> ServedWork {
    ServedWork { name: work(), branch: Some(branch("feat/x")), head: head.clone() }
}

const PROTOCOLS: [FetchProtocol; 2] = [FetchProtocol::V0, FetchProtocol::V2];

#[tokio::test]
async fn lists_branches_tags_and_the_work_of_tasks_and_nothing_else() {
    let lab = Lab::new().await;
    let s = lab.sandbox().await;
    s.sh("echo x > x");
    let head = s.import().await.head;
    lab.sh(s.mirror.dir(), "git tag v1 main; git update-ref refs/secret/x main");
    let served = Served::of(&s, &[serving(&head)]).await;
    let names: Vec<&str> = served.refs.names().collect();
    assert_eq!(names, ["refs/foundry/tasks/task_1", "refs/heads/feat/x", "refs/heads/main", "refs/tags/v1"]);
    let refs = format!("{}0001{}{}0000", line("command=ls-refs"), line("symrefs"), line("peel"));
    let listed = served.ask(FetchProtocol::V2, &Bytes::from(refs)).await.unwrap();
    let listed = String::from_utf8(listed).unwrap();
    assert!(listed.contains(&format!("{head} refs/heads/feat/x")), "{listed}");
    assert!(listed.contains("HEAD symref-target:refs/heads/main"), "{listed}");
    assert!(!listed.contains("refs/foundry/work") && !listed.contains("secret"), "{listed}");
}

#[tokio::test]
async fn what_a_publication_has_replaced_is_served_to_users_and_not_to_sandboxes() {
    let lab = Lab::new().await;
    let s = lab.sandbox().await;
    s.sh("echo hidden > x; git add x; git commit -q -m one");
    let replaced = s.import().await.head;
    s.mirror.keep_replaced(&foundry_git::WorkName::parse("job_1").unwrap(), &replaced).await.unwrap();
    let served = Served::of(&s, &[]).await;
    assert_eq!(served.refs.names().collect::<Vec<_>>(), ["refs/foundry/replaced/job_1", "refs/heads/main"]);
    for protocol in PROTOCOLS {
        let pack = served.ask(protocol, &fetch(protocol, replaced.as_str())).await.unwrap();
        assert!(pack.windows(4).any(|w| w == b"PACK"), "{protocol:?}");
    }
    let served = Served { refs: s.mirror.served_refs(&[], false).await.unwrap(), ..served };
    let refused = served.ask(FetchProtocol::V2, &fetch(FetchProtocol::V2, replaced.as_str())).await;
    assert_eq!(refused.unwrap_err().reason(), "OBJECT_NOT_ADVERTISED");
}

#[tokio::test]
async fn sends_tips_and_what_they_reach_and_no_hidden_object_in_any_protocol() {
    let lab = Lab::new().await;
    let s = lab.sandbox().await;
    s.sh("echo hidden > x; git add x; git commit -q -m one; echo more > y");
    let hidden = s.import().await.head;
    // Nothing names the work of this task, though its objects are in the mirror.
    let served = Served::of(&s, &[]).await;
    let main = lab.rev(s.mirror.dir(), "main");
    let tree = lab.sh(s.mirror.dir(), "git rev-parse main^{tree}");
    let blob = lab.sh(s.mirror.dir(), "git rev-parse refs/foundry/work/task_1:x");
    for protocol in PROTOCOLS {
        let pack = served.ask(protocol, &fetch(protocol, main.as_str())).await.unwrap();
        assert!(pack.windows(4).any(|w| w == b"PACK"), "{protocol:?}");
        for other in [hidden.as_str(), tree.as_str(), blob.as_str(), &"7".repeat(40), &"7".repeat(64)] {
            let refused = served.ask(protocol, &fetch(protocol, other)).await.unwrap_err();
            assert_eq!(refused.reason(), "OBJECT_NOT_ADVERTISED", "{protocol:?} {other}");
        }
    }
    // With the work served, its tip and the commit below it may be wanted.
    let served = Served::of(&s, &[serving(&hidden)]).await;
    let below = lab.sh(s.mirror.dir(), &format!("git rev-parse {hidden}^"));
    for protocol in PROTOCOLS {
        for known in [hidden.as_str(), &below] {
            let pack = served.ask(protocol, &fetch(protocol, known)).await.unwrap();
            assert!(pack.windows(4).any(|w| w == b"PACK"), "{protocol:?} {known}");
        }
    }
}

#[tokio::test]
async fn work_that_the_mirror_lacks_is_left_out_and_older_work_is_served_as_it_was_recorded() {
    let lab = Lab::new().await;
    let s = lab.sandbox().await;
    s.sh("echo x > x");
    s.import().await;
    // Undone since: the record says so, the mirror's own ref does not.
    let undone = Served::of(&s, &[serving(&s.base)]).await;
    let lost = Served::of(&s, &[serving(&CommitId::parse(&"7".repeat(40)).unwrap())]).await;
    let refs =
        Bytes::from(format!("{}0001{}0000", line("command=ls-refs"), line("ref-prefix refs/foundry/")));
    let listed = String::from_utf8(undone.ask(FetchProtocol::V2, &refs).await.unwrap()).unwrap();
    assert!(listed.contains(&format!("{} refs/foundry/tasks/task_1", s.base)), "{listed}");
    assert_eq!(lost.ask(FetchProtocol::V2, &refs).await.unwrap(), b"0000");
}

#[tokio::test]
async fn what_is_sent_has_a_limit() {
    let lab = Lab::new().await;
    let s = lab.sandbox().await;
    let served = Served::of(&s, &[]).await;
    let scratch = lab.path("scratch");
    std::fs::create_dir_all(&scratch).unwrap();
    let body = fetch(FetchProtocol::V2, lab.rev(s.mirror.dir(), "main").as_str());
    let limits = RunLimits { stdout: 1_000, ..RunLimits::default() };
    let piped =
        s.mirror.answer_fetch(&served.refs, FetchProtocol::V2, &body, &scratch, limits).await.unwrap();
    assert_eq!(all(piped).await.unwrap_err().reason(), "GIT_TOO_LARGE");
}

#[tokio::test]
async fn a_streamed_patch_is_the_whole_patch_and_gives_the_exact_tree() {
    let lab = Lab::new().await;
    let s = lab.sandbox().await;
    s.sh("seq 1 300000 > lock.json; head -c 3000000 /dev/urandom > big; git mv moved elsewhere; chmod +x text
          rm plain; ln -s text plain; printf 'x' > \"$(printf 'a\\tb\\nc \"q\" \\\\ \\303\\244')\"; printf '\\377' > \"$(printf '\\377')\"
          rm gone; echo y >> dir/inner; printf '\\000bin' > blob; : > empty");
    let imported = s.import().await;
    let piped = s
        .mirror
        .stream_patch(&imported.base, &imported.head, RunLimits { stdout: 1 << 30, ..RunLimits::default() })
        .unwrap();
    let patch = all(piped).await.unwrap();
    assert!(patch.len() > 4 << 20, "{}", patch.len());
    std::fs::write(lab.path("all.patch"), &patch).unwrap();
    lab.sh(&lab.real(), &format!("git checkout -q {} && git apply --index ../all.patch", imported.base));
    let tree = lab.sh(&lab.real(), "git write-tree");
    assert_eq!(tree, lab.sh(s.mirror.dir(), &format!("git rev-parse {}^{{tree}}", imported.head)));
}

#[tokio::test]
async fn a_repository_from_a_shallow_clone_is_served_from_where_its_history_begins() {
    let lab = Lab::new().await;
    lab.sh(&lab.real(), "git commit -q --allow-empty -m second");
    lab.sh(
        &lab.path(""),
        "git clone -q --depth 1 \"file://$PWD/real\" shallow; mv real full; mv shallow real",
    );
    let s = lab.sandbox().await;
    s.sh("echo mine > new");
    let head = s.import().await.head;
    let served = Served::of(&s, &[serving(&head)]).await;
    for protocol in PROTOCOLS {
        let pack = served.ask(protocol, &fetch(protocol, head.as_str())).await.unwrap();
        assert!(pack.windows(4).any(|w| w == b"PACK"), "{protocol:?}");
    }
    let begins = format!("shallow {}", s.base);
    let pack = served.ask(FetchProtocol::V2, &fetch(FetchProtocol::V2, head.as_str())).await.unwrap();
    assert!(
        pack.windows(begins.len()).any(|w| w == begins.as_bytes()),
        "the client is not shown where it begins"
    );
}

#[tokio::test]
async fn a_history_is_deepened_where_it_is_served_and_nowhere_else() {
    let lab = Lab::new().await;
    lab.sh(&lab.real(), "for n in 2 3; do git commit -q --allow-empty -m $n; done");
    let s = lab.sandbox().await;
    s.sh("echo hidden > x; git add x; git commit -q -m one; echo more > y");
    let hidden = s.import().await.head;
    let below = lab.sh(s.mirror.dir(), &format!("git rev-parse {hidden}^"));
    let (main, older) = (lab.rev(s.mirror.dir(), "main"), lab.rev(s.mirror.dir(), "main~1"));
    let served = Served::of(&s, &[]).await;
    let deepening = |protocol, begin: &str, how: &str| {
        let (want, begin) = (format!("want {main}"), line(&format!("shallow {begin}\n")));
        let rest = format!("{begin}{}", line(&format!("{how}\n")));
        Bytes::from(if protocol == FetchProtocol::V2 {
            format!("{}0001{}{rest}{}0000", line("command=fetch"), line(&want), line("done\n"))
        } else {
            format!("{}{rest}0000{}", line(&format!("{want} side-band-64k shallow\n")), line("done\n"))
        })
    };
    let says = |sent: &[u8], words: &str| sent.windows(words.len()).any(|w| w == words.as_bytes());
    for protocol in PROTOCOLS {
        for begin in [hidden.as_str(), &below] {
            let sent = served.ask(protocol, &deepening(protocol, begin, "deepen 2147483647")).await.unwrap();
            assert!(says(&sent, "PACK"), "{protocol:?}");
            // Then its parents, which nothing lists, would be sent.
            assert!(!says(&sent, &format!("unshallow {begin}")), "{protocol:?}: hidden commits are sent");
        }
        let sent = served.ask(protocol, &deepening(protocol, older.as_str(), "deepen 2147483647")).await;
        assert!(says(&sent.unwrap(), &format!("unshallow {older}")), "{protocol:?}");
        let absent = deepening(protocol, &"7".repeat(40), "deepen 1");
        assert!(says(&served.ask(protocol, &absent).await.unwrap(), "PACK"), "{protocol:?}");
    }
}
