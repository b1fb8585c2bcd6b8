//! Random trees and random behaviour of agents: after a hand-over and its import, the tree of the imported commit, in some rounds
//! of the one that `git fetch` gets, equals the tree on disk, or a notice names the difference. A round is made from its seed alone:
//! `FOUNDRY_SEED=7 FOUNDRY_ROUNDS=1 cargo nextest run -p foundry-git rounds::` repeats one.

mod agent;
mod check;
mod dice;
mod fetch;

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use foundry_core::Timestamp;
use foundry_git::{
    CommitId, ImportLimits, MAX_WORK_BUNDLE, Mirror, NoticeKind, WORK_BUNDLE_SCRIPT, WorkBundle,
    WorkBundleOutput, WorkName,
};

use crate::lab::{Lab, Sandbox};
use agent::{Agent, MAX_FILE};
use dice::Dice;

/// Rounds that share a base.
const ROUNDS_OF_A_BASE: u64 = 25;
/// One of so many rounds fetches the work, too: a fetch starts several processes.
const FETCHED: u64 = 10;
/// Failed rounds after which a run ends.
const FAILURES: usize = 20;

#[test]
fn the_imported_tree_is_the_tree_on_disk_or_a_notice_names_the_difference() {
    let number = |name, otherwise| {
        std::env::var(name).map_or(otherwise, |text| text.parse::<u64>().expect("a number"))
    };
    let (first, rounds) = (number("FOUNDRY_SEED", 0), number("FOUNDRY_ROUNDS", 300));
    let (next, failed) = (AtomicU64::new(first / ROUNDS_OF_A_BASE), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                loop {
                    let base = next.fetch_add(1, Ordering::Relaxed);
                    let seeds = base * ROUNDS_OF_A_BASE..(base + 1) * ROUNDS_OF_A_BASE;
                    let seeds = seeds.start.max(first)..seeds.end.min(first + rounds);
                    if seeds.is_empty() || failed.lock().unwrap().len() >= FAILURES {
                        return;
                    }
                    runtime.block_on(of_one_base(base, seeds, &failed));
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{} rounds failed\n{}", failed.len(), failed.join("\n"));
}

async fn of_one_base(base: u64, seeds: std::ops::Range<u64>, failed: &Mutex<Vec<String>>) {
    let lab = Lab::new().await;
    random_base(&lab, base);
    let sandbox = lab.sandbox().await;
    for seed in seeds {
        let mut dice = Dice::new(seed);
        let world = lab.path(&format!("world{seed}"));
        std::fs::create_dir(&world).unwrap();
        lab.sh(&world, "cp -a ../sandbox tree");
        let tree = world.join("tree");
        let mut agent = Agent { tree: &tree, dice: &mut dice, journal: Vec::new() };
        let mut saved = false;
        for _ in 0..=usize::from(agent.dice.chance(15)) {
            (0..=agent.dice.below(8)).for_each(|_| agent.step());
            agent.journal.push("hand over".to_owned());
            let before = check::state(&tree);
            let problems = match hand_over(&sandbox, &tree, seed).await {
                Ok(handed) => {
                    let problems = compared(&sandbox, &tree, &handed, saved, seed).await;
                    saved |= !handed.output.notices.iter().any(|n| n.kind == NoticeKind::RepositoryLost);
                    problems
                }
                Err(why) => vec![why],
            };
            let untouched = before == check::state(&tree);
            let problems = problems
                .into_iter()
                .chain((!untouched).then(|| "the agent's repository was changed".to_owned()));
            let problems: Vec<_> = problems.collect();
            if !problems.is_empty() {
                let text = format!("seed {seed}: {problems:#?}\n  after {:?}", agent.journal);
                failed.lock().unwrap().push(text);
                break;
            }
        }
        if failed.lock().unwrap().is_empty() {
            std::fs::remove_dir_all(&world).unwrap();
        }
    }
}

/// A repository with random files, a submodule, ignored files that were added all the same, and two branches, one of
/// which clashes with changes of `text`.
fn random_base(lab: &Lab, base: u64) {
    let real = lab.real();
    let mut dice = Dice::new(u64::MAX - base);
    let mut owner = Agent { tree: &real, dice: &mut dice, journal: Vec::new() };
    (0..10).for_each(|_| owner.on_files());
    lab.sh(
        &real,
        "rm -rf .gitignore; printf 'ignored/\\n*.log\\n' > .gitignore; rm -rf ignored sub text developed; mkdir ignored; echo kept > ignored/kept
         printf 'one\\ntwo\\nthree\\n' > text
         git add -A --ignore-errors || true; git add -f ignored/kept
         git update-index --add --cacheinfo 160000,$(git rev-parse HEAD),sub
         git commit -q -m base
         git checkout -q -b develop; echo d > developed; git add developed; git commit -q -m develop
         git checkout -q -f -b clash main; echo clash > text; git commit -q -m clash text
         git checkout -q -f main",
    );
}

/// Compares what was imported with what is on disk; in some rounds, what a user fetches of it.
async fn compared(
    sandbox: &Sandbox<'_>,
    tree: &Path,
    handed: &HandedOver,
    saved: bool,
    seed: u64,
) -> Vec<String> {
    if !seed.is_multiple_of(FETCHED) {
        return check::problems(&sandbox.mirror, tree, handed, saved);
    }
    let head = &handed.output.head;
    match fetch::fetched(&sandbox.mirror, &name(seed), head, tree.parent().unwrap()).await {
        Ok((_, tip)) if tip != head.as_str() => vec![format!("{tip} was fetched instead of {head}")],
        Ok((fetched, _)) => check::problems(&fetched, tree, handed, saved),
        Err(why) => vec![format!("the fetch failed: {why}")],
    }
}

fn name(seed: u64) -> WorkName {
    WorkName::parse(&format!("task_{seed}")).unwrap()
}

/// What a hand-over gave, after its import.
pub struct HandedOver {
    pub base: CommitId,
    pub output: WorkBundleOutput,
}

async fn hand_over(sandbox: &Sandbox<'_>, tree: &Path, seed: u64) -> Result<HandedOver, String> {
    let (work, bundle) = (name(seed), tree.with_extension("bundle"));
    let spec = WorkBundle {
        tree: tree.to_owned(),
        base: sandbox.base.clone(),
        work: work.clone(),
        bundle: bundle.clone(),
        time: Timestamp::from_micros(1_700_000_000_000_000),
        max_bytes: MAX_WORK_BUNDLE,
    };
    let limit = [("FOUNDRY_MAX_FILE", MAX_FILE.to_string())];
    let out =
        sandbox.lab.try_sh(tree.parent().unwrap(), WORK_BUNDLE_SCRIPT, &[&spec.env()[..], &limit].concat());
    let said = String::from_utf8_lossy(&out.stderr);
    if !out.status.success() {
        return Err(format!("the hand-over ended with {}: {said}", out.status));
    }
    let output = WorkBundleOutput::parse(&String::from_utf8_lossy(&out.stdout)).map_err(|e| e.to_string())?;
    if output.head != sandbox.base {
        let imported = import(&sandbox.mirror, &work, &bundle, &sandbox.base).await?;
        if imported != output.head {
            return Err(format!("{imported} was imported instead of {}", output.head));
        }
    }
    Ok(HandedOver { base: sandbox.base.clone(), output })
}

async fn import(
    mirror: &Mirror,
    work: &WorkName,
    bundle: &Path,
    base: &CommitId,
) -> Result<CommitId, String> {
    let imported = mirror.import_bundle(work, bundle, base, &ImportLimits::default()).await;
    imported.map(|imported| imported.head).map_err(|e| format!("the import failed: {e}: {}", e.stderr()))
}
