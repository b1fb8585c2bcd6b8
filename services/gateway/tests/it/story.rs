//! Browsers that connect, leave and come back at any position, during many writes, while the owner is killed and
//! drained; checked by the oracle.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use foundry_watch::oracle::{ClientLog, check};

use crate::browser::{Browser, watch};
use crate::joining::until_watches;
use crate::mesh::{Mesh, Reached, bounded};

const BROWSERS: usize = 12;
/// How often each browser comes back at least, however fast all is written.
const RESUMES: usize = 3;
const COMMITS: i64 = 1_500;
const WRITERS: i64 = 6;
const TASKS: [&str; 2] = ["task_1", "task_2"];

/// Writes until all commits are made; kills or drains the owner now and then.
async fn write(mesh: &Mesh) {
    let owner = &mesh.behind.owner;
    let made = AtomicI64::new(0);
    let writer = |id: i64| {
        let made = &made;
        async move {
            loop {
                let n = made.fetch_add(1, Ordering::SeqCst);
                if n >= COMMITS {
                    return;
                }
                let content = n.to_le_bytes();
                let keys = [format!("w{id}/{}", n % 13), format!("w{id}/x{}", n % 5)];
                let kept = (n % 7 > 0).then_some(&content[..]);
                let task = TASKS[usize::from(n % 3 == 0)];
                owner.put(task, &[(&keys[0], Some(&content)), (&keys[1], kept)]).await;
                match n % 300 {
                    140 => owner.cut().await,
                    290 => owner.drain().await,
                    _ => {}
                }
            }
        }
    };
    futures::future::join_all((0..WRITERS).map(writer)).await;
}

/// One browser: opens, reads for a while, leaves, and resumes where it was, a few times at least, until all is written.
async fn browse(mesh: &Mesh, id: usize, last: &[AtomicI64; 2]) -> Vec<ClientLog> {
    let mut logs = TASKS.map(|task| ClientLog { name: format!("{task} {id}"), ..ClientLog::default() });
    let mut places: [Option<(String, i64)>; 2] = Default::default();
    for round in 0.. {
        let ends = last.each_ref().map(|rev| rev.load(Ordering::SeqCst));
        let is_last = ends[0] > 0 && round >= RESUMES;
        let subs = (0..2).map(|n| {
            let place = places[n].as_ref().map(|(token, rev)| (token.as_str(), *rev));
            watch(u32::try_from(n).unwrap() + 1, TASKS[n], place)
        });
        let mut browser = Browser::open(mesh, &format!("fds_{id}"), subs.collect()).await;
        if is_last {
            browser.until(|b| [1, 2].iter().zip(ends).all(|(sub, end)| b.seen[sub].rev >= end)).await;
        } else {
            let frames = 5 + (id * 7 + round * 13) % 60;
            browser.until(|b| b.order.len() >= frames).await;
        }
        for n in 0..2 {
            let seen = browser.seen.remove(&(u32::try_from(n).unwrap() + 1)).unwrap();
            if !seen.token.is_empty() && seen.rev > 0 {
                places[n] = Some((seen.token, seen.rev));
            }
            logs[n].streams.push(seen.log);
        }
        if is_last {
            return logs.into();
        }
    }
    unreachable!("it is written to an end")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn browsers_keep_the_contract_through_joins_cuts_and_drains() {
    let mesh = Mesh::start_in_time(Reached::Locally).await;
    let owner = &mesh.behind.owner;
    let last = [AtomicI64::new(0), AtomicI64::new(0)];
    let browsed = AtomicBool::new(false);
    let writing = async {
        write(&mesh).await;
        for n in 0..2 {
            last[n].store(owner.history(TASKS[n]).head(), Ordering::SeqCst);
        }
        // Keeps writing, so that browsers waiting for more frames get some. A write that a browser may have seen is never
        // broken off: the history would lack it.
        while !browsed.load(Ordering::SeqCst) {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            for task in TASKS {
                owner.put(task, &[("after", Some(b"x"))]).await;
            }
        }
    };
    let browsing = async {
        let logs = futures::future::join_all((0..BROWSERS).map(|id| browse(&mesh, id, &last))).await;
        browsed.store(true, Ordering::SeqCst);
        logs
    };
    let (logs, ()) = tokio::join!(browsing, writing);
    bounded(until_watches(&mesh, 0)).await;
    let logs: Vec<_> = logs.into_iter().flatten().collect();
    for task in TASKS {
        let mut of_task: Vec<_> = logs.iter().filter(|log| log.name.starts_with(task)).cloned().collect();
        // There were more writes when they left: each log ends at its own revision.
        of_task.iter_mut().for_each(|log| log.cut_short = true);
        let summary = check(&owner.history(task), &of_task).unwrap_or_else(|faults| {
            let first: Vec<_> = faults.iter().take(5).map(ToString::to_string).collect();
            panic!("{} faults:\n{}", faults.len(), first.join("\n"))
        });
        assert!(summary.resumed > 20 && summary.resets == 0, "{summary:?}");
    }
}
