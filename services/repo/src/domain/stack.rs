//! Where each branch stands: its parent in the stack, and how far both have moved apart. No I/O.

use std::collections::{BTreeMap, HashMap};

use foundry_git::{CommitId, History};

/// Most commits that are followed from one branch; a count that reaches it means that many or more.
pub const MAX_WALK: usize = 20_000;

/// A branch of the repository, or the work of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Its name, unique.
    pub name: String,
    /// Its head, which the mirror has.
    pub head: CommitId,
    /// For work that exists only in Foundry, the commit that it started from.
    pub started_from: Option<CommitId>,
    /// Where it stood when it was last looked at.
    pub before: Option<Before>,
    /// The parent that a user has given it, whatever its commits say.
    pub given: Option<String>,
}

/// An earlier place of a branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Before {
    /// Name of its parent.
    pub parent: String,
    /// The newest commit that it had in common with the parent.
    pub fork: CommitId,
}

/// Where an action has put a branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// The commit that the branch is at as long as this counts.
    pub head: String,
    /// Name of the branch that it stands on.
    pub parent: String,
    /// The newest commit that both have in common.
    pub fork: String,
}

impl Before {
    /// Where a branch stood: where an action has put its head, otherwise where it was last seen. None on the base.
    pub fn of(
        head: &CommitId,
        base: &str,
        placed: Option<&Placed>,
        seen: Option<(&str, &str)>,
    ) -> Option<Self> {
        let placed = placed.filter(|placed| placed.head == head.as_str());
        let (parent, fork) = placed.map(|p| (p.parent.as_str(), p.fork.as_str())).or(seen)?;
        let fork = CommitId::parse(fork).ok()?;
        (!parent.is_empty() && parent != base).then(|| Self { parent: parent.to_owned(), fork })
    }
}

/// How far two branches have moved apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Apart {
    /// Commits that only the branch has.
    pub ahead: usize,
    /// Commits that only the other one has.
    pub behind: usize,
}

/// The place of a branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// It is the base itself, or there is no base and nothing below it.
    Root,
    /// It has nothing in common with the base.
    Unrelated {
        /// Commits that it has.
        ahead: usize,
    },
    /// It stands on the base.
    OnBase {
        /// Commits that only the branch has.
        ahead: usize,
        /// The commits of the base next to those; the newest one is where they parted.
        forks: Vec<u32>,
    },
    /// It stands on another branch.
    OnBranch {
        /// Position of that branch in the list.
        parent: usize,
        /// How far they have moved apart.
        apart: Apart,
        /// The newest commit that they have in common, by the number in the graph.
        fork: u32,
        /// Commits that the branch has and the base does not.
        ahead_of_base: usize,
        /// As in [`Place::OnBase`]; empty when the branch has nothing in common with the base.
        forks: Vec<u32>,
    },
}

/// Commits that a branch has and the base does not.
struct Reach {
    commits: usize,
    forks: Vec<u32>,
}

/// Walks histories in a graph, with one mark per commit.
struct Walker<'a> {
    history: &'a History,
    /// The round in which each commit was seen last.
    seen: Vec<u32>,
    round: u32,
}

impl Walker<'_> {
    /// Visits the commits of a history that the base does not contain, at most [`MAX_WALK`], and returns the commits of
    /// the base next to them. The visitor returns whether to go on below a commit.
    fn walk(&mut self, from: u32, mut visit: impl FnMut(u32) -> bool) -> Vec<u32> {
        self.round += 1;
        let (mut forks, mut visited) = (Vec::new(), 0);
        let mut next = std::collections::VecDeque::from([from]);
        while let Some(node) = next.pop_front() {
            match self.seen.get_mut(node as usize) {
                Some(round) if *round != self.round => *round = self.round,
                _ => continue,
            }
            if !self.history.is_inside(node) {
                forks.push(node);
                continue;
            }
            visited += 1;
            if visit(node) && visited < MAX_WALK {
                next.extend(self.history.parents(node));
            }
        }
        forks
    }

    fn set(&mut self, from: u32) -> std::collections::HashSet<u32> {
        let mut set = std::collections::HashSet::new();
        self.walk(from, |node| set.insert(node));
        set
    }
}

/// The commits of a branch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Own {
    /// How many it has.
    pub commits: usize,
    /// How many of them are merges.
    pub merges: usize,
}

/// The commits that the history of a head has, and those of `from` and of the base do not.
pub fn own(history: &History, head: &CommitId, from: &CommitId) -> Own {
    let mut walker = Walker { history, seen: vec![0; history.size()], round: 0 };
    let inside = |commit: &CommitId| history.find(commit).filter(|node| history.is_inside(*node));
    let below = inside(from).map(|from| walker.set(from)).unwrap_or_default();
    let mut own = Own::default();
    if let Some(head) = inside(head) {
        walker.walk(head, |node| {
            if below.contains(&node) {
                return false;
            }
            own.commits += 1;
            own.merges += usize::from(history.parents(node).len() > 1);
            true
        });
    }
    own
}

/// The places of the branches, in their order. `base` is the position of the branch that all others are compared with.
pub fn plan(history: &History, base: Option<usize>, branches: &[Known]) -> Vec<Place> {
    let mut plan = Plan::new(history, base, branches);
    let mut places: Vec<Place> = (0..branches.len()).map(|i| plan.place(i)).collect();
    plan.break_cycles(&mut places);
    places
}

/// The order of branches at the same commit, the lowest first.
fn rank(branch: &Known) -> (bool, &str) {
    (branch.started_from.is_some(), branch.name.as_str())
}

/// Whether a branch can stand on this one: what exists only in Foundry carries no branch of the remote.
fn can_carry(parent: &Known, branch: &Known) -> bool {
    parent.started_from.is_none() || branch.started_from.is_some()
}

struct Plan<'a> {
    walker: Walker<'a>,
    base: Option<usize>,
    branches: &'a [Known],
    names: HashMap<&'a str, usize>,
    /// Branches by the commit at their head, those with the smallest name first.
    heads: BTreeMap<u32, Vec<usize>>,
    reaches: Vec<Option<Reach>>,
}

impl<'a> Plan<'a> {
    fn new(history: &'a History, base: Option<usize>, branches: &'a [Known]) -> Self {
        let mut walker = Walker { history, seen: vec![0; history.size()], round: 0 };
        let mut heads: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        let mut reaches = Vec::with_capacity(branches.len());
        for (i, branch) in branches.iter().enumerate() {
            let node = history.find(&branch.head).filter(|node| history.is_inside(*node) && base != Some(i));
            reaches.push(node.map(|node| {
                heads.entry(node).or_default().push(i);
                let mut commits = 0;
                let forks = walker.walk(node, |_| {
                    commits += 1;
                    true
                });
                Reach { commits, forks }
            }));
        }
        for at in heads.values_mut() {
            at.sort_by(|a, b| rank(&branches[*a]).cmp(&rank(&branches[*b])));
        }
        let names = branches.iter().enumerate().map(|(i, b)| (b.name.as_str(), i)).collect();
        Self { walker, base, branches, names, heads, reaches }
    }

    fn place(&mut self, i: usize) -> Place {
        if self.base == Some(i) {
            return Place::Root;
        }
        let Some(Reach { commits, forks }) = &self.reaches[i] else {
            // Everything that it has is in the base too.
            return Place::OnBase { ahead: 0, forks: Vec::new() };
        };
        let (commits, forks) = (*commits, forks.clone());
        let base = self.base.map(|base| &self.branches[base].name);
        if base.is_some() && base == self.branches[i].given.as_ref() && !forks.is_empty() {
            return Place::OnBase { ahead: commits, forks };
        }
        if let Some((parent, fork)) = self.given(i, &forks) {
            let apart = self.apart(i, parent, fork);
            return Place::OnBranch { parent, apart, fork, ahead_of_base: commits, forks };
        }
        let below = self.nearest_below(i).or_else(|| self.start_of_work(i));
        match self.before(i, below.as_ref()).or(below) {
            Some((parent, fork)) => {
                let apart = self.apart(i, parent, fork);
                Place::OnBranch { parent, apart, fork, ahead_of_base: commits, forks }
            }
            None if self.base.is_none() => Place::Root,
            None if forks.is_empty() && commits < MAX_WALK => Place::Unrelated { ahead: commits },
            None => Place::OnBase { ahead: commits, forks },
        }
    }

    fn head(&self, i: usize) -> Option<u32> {
        self.walker.history.find(&self.branches[i].head)
    }

    /// Of the branches whose heads are in the history of this one, that with the longest history. Of several at the
    /// same commit, the first one by name is below the others, and those of the remote below work.
    fn nearest_below(&mut self, i: usize) -> Option<(usize, u32)> {
        let own = self.head(i)?;
        let (heads, reaches, branches) = (&self.heads, &self.reaches, self.branches);
        let mut best: Option<(usize, usize, u32)> = None;
        self.walker.walk(own, |node| {
            let Some(first) = heads.get(&node).and_then(|at| at.first().copied()) else { return true };
            if !can_carry(&branches[first], &branches[i]) {
                return true;
            }
            let is_below = node != own || rank(&branches[first]) < rank(&branches[i]);
            let commits = reaches[first].as_ref().map_or(0, |r| r.commits);
            if first != i && is_below && best.is_none_or(|(_, most, _)| commits > most) {
                best = Some((first, commits, node));
            }
            true
        });
        best.map(|(parent, _, node)| (parent, node))
    }

    /// For work in Foundry: the branch with the shortest history that contains the commit it started from.
    fn start_of_work(&mut self, i: usize) -> Option<(usize, u32)> {
        let start = self.branches[i].started_from.as_ref()?;
        let start = self.walker.history.find(start).filter(|node| self.walker.history.is_inside(*node))?;
        let candidates: Vec<(usize, usize, u32)> = self
            .branches
            .iter()
            .enumerate()
            .filter(|(p, b)| *p != i && b.started_from.is_none())
            .filter_map(|(p, _)| Some((p, self.reaches[p].as_ref()?.commits, self.head(p)?)))
            .collect();
        let containing = candidates.into_iter().filter(|(_, _, head)| self.contains(*head, start));
        let nearest = containing.min_by_key(|(p, commits, _)| (*commits, *p));
        nearest.map(|(parent, ..)| (parent, start))
    }

    fn contains(&mut self, head: u32, wanted: u32) -> bool {
        let mut found = false;
        self.walker.walk(head, |node| {
            found |= node == wanted;
            !found
        });
        found
    }

    /// The earlier parent, if it is still there although it has moved: it got other commits, or was pushed by force.
    fn before(&mut self, i: usize, below: Option<&(usize, u32)>) -> Option<(usize, u32)> {
        let before = self.branches[i].before.as_ref()?;
        let parent = *self.names.get(before.parent.as_str())?;
        let fork = self.walker.history.find(&before.fork).filter(|f| self.walker.history.is_inside(*f))?;
        let (own, other) = (self.head(i)?, self.head(parent)?);
        if parent == i || self.base == Some(parent) || !self.walker.history.is_inside(other) {
            return None;
        }
        if !can_carry(&self.branches[parent], &self.branches[i]) {
            return None;
        }
        if !self.contains(own, fork) || self.contains(other, own) {
            return None;
        }
        // A branch between both is nearer.
        match below {
            Some((nearer, at)) if *nearer == parent || self.contains(*at, fork) => None,
            _ => Some((parent, fork)),
        }
    }

    /// The parent that a user has given it, if it is still there and does not contain the branch itself.
    fn given(&mut self, i: usize, forks: &[u32]) -> Option<(usize, u32)> {
        let parent = *self.names.get(self.branches[i].given.as_deref()?)?;
        if !can_carry(&self.branches[parent], &self.branches[i]) {
            return None;
        }
        let (own, other) = (self.head(i)?, self.head(parent)?);
        if parent == i || !self.walker.history.is_inside(other) || (own != other && self.contains(other, own))
        {
            return None;
        }
        if let Some((before, fork)) = self.before(i, None)
            && before == parent
        {
            return Some((parent, fork));
        }
        let theirs = self.walker.set(other);
        let mut common = None;
        self.walker.walk(own, |node| {
            if common.is_none() && theirs.contains(&node) {
                common = Some(node);
            }
            common.is_none()
        });
        common.or_else(|| forks.first().copied()).map(|fork| (parent, fork))
    }

    fn apart(&mut self, i: usize, parent: usize, fork: u32) -> Apart {
        let (Some(own), Some(other)) = (self.head(i), self.head(parent)) else { return Apart::default() };
        if let (true, [Some(of_own), Some(of_other)]) =
            (fork == other, [i, parent].map(|b| self.reaches[b].as_ref()))
        {
            // All that the parent has, the branch has too.
            return Apart { ahead: of_own.commits.saturating_sub(of_other.commits), behind: 0 };
        }
        let (own, other) = (self.walker.set(own), self.walker.set(other));
        Apart { ahead: own.difference(&other).count(), behind: other.difference(&own).count() }
    }

    /// Earlier parents may form a circle after several pushes by force; the first branch of it then stands on the base.
    fn break_cycles(&self, places: &mut [Place]) {
        let mut state = vec![0u8; places.len()];
        for start in 0..places.len() {
            let (mut path, mut at) = (Vec::new(), start);
            while state[at] == 0 {
                state[at] = 1;
                path.push(at);
                let Place::OnBranch { parent, .. } = &places[at] else { break };
                let parent = *parent;
                if state[parent] == 1 {
                    if let Place::OnBranch { ahead_of_base, forks, .. } = &places[at] {
                        places[at] = Place::OnBase { ahead: *ahead_of_base, forks: forks.clone() };
                    }
                    break;
                }
                at = parent;
            }
            path.into_iter().for_each(|i| state[i] = 2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> CommitId {
        CommitId::parse(&full(name)).unwrap()
    }

    fn full(name: &str) -> String {
        let mut id: String = name.bytes().map(|b| format!("{b:02x}")).collect();
        id.extend(std::iter::repeat_n('0', 40 - id.len()));
        id
    }

    /// A graph of `commit: parents`; commits without a line are in the base.
    fn graph(lines: &[(&str, &[&str])]) -> History {
        let mut history = History::default();
        for (commit, parents) in lines {
            let parents: Vec<String> = parents.iter().map(|p| full(p)).collect();
            history.add(&full(commit), &parents.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
        }
        history
    }

    fn branch(name: &str, head: &str) -> Known {
        Known { name: name.to_owned(), head: id(head), started_from: None, before: None, given: None }
    }

    fn was_on(branch: Known, parent: &str, fork: &str) -> Known {
        Known { before: Some(Before { parent: parent.to_owned(), fork: id(fork) }), ..branch }
    }

    /// `name: parent +ahead -behind (+ahead of base)` for each branch but the base, which comes first.
    fn places(history: &History, branches: &[Known]) -> Vec<String> {
        let placed = plan(history, Some(0), branches);
        let shown = |(i, place): (usize, &Place)| {
            let name = &branches[i].name;
            match place {
                Place::Root => format!("{name}: root"),
                Place::Unrelated { ahead } => format!("{name}: unrelated +{ahead}"),
                Place::OnBase { ahead, .. } => format!("{name}: base +{ahead}"),
                Place::OnBranch { parent, apart, ahead_of_base, .. } => format!(
                    "{name}: {} +{} -{} ({ahead_of_base})",
                    branches[*parent].name, apart.ahead, apart.behind
                ),
            }
        };
        placed.iter().enumerate().skip(1).map(shown).collect()
    }

    #[test]
    fn a_stack_is_found_by_the_nearest_branch_below_each() {
        let history = graph(&[("a", &["m"]), ("b1", &["a"]), ("b2", &["b1"]), ("c", &["b2"]), ("x", &["a"])]);
        let main = branch("main", "m");
        let all = [main, branch("a", "a"), branch("b", "b2"), branch("c", "c"), branch("x", "x")];
        let expected = ["a: base +1", "b: a +2 -0 (3)", "c: b +1 -0 (4)", "x: a +1 -0 (2)"];
        assert_eq!(places(&history, &all), expected);
    }

    #[test]
    fn a_branch_in_the_base_and_one_without_a_common_commit_are_apart_from_stacks() {
        let history = graph(&[("p", &[]), ("q", &["p"])]);
        let all = [branch("main", "m"), branch("merged", "old"), branch("pages", "q")];
        assert_eq!(places(&history, &all), ["merged: base +0", "pages: unrelated +2"]);
    }

    #[test]
    fn branches_at_one_commit_stand_beside_each_other_on_the_first_of_them() {
        let history = graph(&[("a", &["m"]), ("d", &["a"])]);
        let all =
            [branch("main", "m"), branch("c", "a"), branch("a", "a"), branch("d", "d"), branch("b", "a")];
        let expected = ["c: a +0 -0 (1)", "a: base +1", "d: a +1 -0 (2)", "b: a +0 -0 (1)"];
        assert_eq!(places(&history, &all), expected);
    }

    #[test]
    fn a_parent_that_was_pushed_by_force_stays_the_parent() {
        let history = graph(&[("a1", &["m"]), ("a2", &["m"]), ("b", &["a1"])]);
        let all = [branch("main", "m"), branch("a", "a2"), was_on(branch("b", "b"), "a", "a1")];
        assert_eq!(places(&history, &all), ["a: base +1", "b: a +2 -1 (2)"]);
    }

    #[test]
    fn a_branch_that_was_put_between_is_the_parent_and_a_deleted_one_is_not() {
        let history = graph(&[("a1", &["m"]), ("a2", &["m"]), ("n", &["a1"]), ("b", &["n"])]);
        let b = || was_on(branch("b", "b"), "a", "a1");
        let all = [branch("main", "m"), branch("a", "a2"), b(), branch("n", "n")];
        assert_eq!(places(&history, &all)[1], "b: n +1 -0 (3)");
        assert_eq!(places(&history, &[branch("main", "m"), b()]), ["b: base +3"]);
    }

    #[test]
    fn a_parent_that_a_user_has_given_wins_over_what_the_commits_say() {
        let history = graph(&[("a", &["m"]), ("b", &["a"]), ("c", &["b"]), ("x", &["m"])]);
        let given = |parent: &str| Known { given: Some(parent.to_owned()), ..branch("c", "c") };
        let places = |c: Known| {
            places(&history, &[branch("main", "m"), branch("a", "a"), branch("b", "b"), c, branch("x", "x")])
                .remove(2)
        };
        assert_eq!(places(branch("c", "c")), "c: b +1 -0 (3)");
        assert_eq!(places(given("a")), "c: a +2 -0 (3)");
        assert_eq!(places(given("x")), "c: x +3 -1 (3)");
        assert_eq!(places(given("main")), "c: base +3");
        assert_eq!(places(given("gone")), "c: b +1 -0 (3)");
        assert_eq!(places(given("c")), "c: b +1 -0 (3)");
    }

    #[test]
    fn a_branch_stands_where_an_action_has_put_its_head_and_otherwise_where_it_was_seen() {
        let put = Placed { head: full("h"), parent: "a".into(), fork: full("f") };
        let seen = full("g");
        let of = |head: &str, put: Option<&Placed>| {
            let before = Before::of(&id(head), "main", put, Some(("b", &seen)))?;
            Some((before.parent, before.fork))
        };
        assert_eq!(of("h", Some(&put)), Some(("a".into(), id("f"))));
        assert_eq!(of("i", Some(&put)), Some(("b".into(), id("g"))), "somebody has pushed since");
        assert_eq!(of("h", None), Some(("b".into(), id("g"))));
        let on_base = Placed { parent: "main".into(), ..put };
        assert_eq!(of("h", Some(&on_base)), None);
    }

    #[test]
    fn what_exists_only_in_foundry_carries_no_branch_of_the_remote() {
        let history = graph(&[("a", &["m"]), ("b", &["a"]), ("c", &["b"])]);
        let work = |name: &str, head: &str| Known { started_from: Some(id("a")), ..branch(name, head) };
        // It has another branch's head, as a task that resolves its conflict begins with, or is below one.
        let all = [
            branch("main", "m"),
            work("a-work", "a"),
            branch("x", "a"),
            work("b-work", "b"),
            branch("c", "c"),
        ];
        let expected = ["a-work: x +0 -0 (1)", "x: base +1", "b-work: x +1 -0 (2)", "c: x +2 -0 (3)"];
        assert_eq!(places(&history, &all), expected);
    }

    #[test]
    fn the_commits_of_a_branch_are_counted_with_its_merges() {
        let history = graph(&[
            ("a1", &["m"]),
            ("a2", &["a1"]),
            ("b1", &["a1"]),
            ("b2", &["b1", "a2"]),
            ("b3", &["b2", "m"]),
        ]);
        let of = |head: &str, from: &str| own(&history, &id(head), &id(from));
        assert_eq!(of("a2", "m"), Own { commits: 2, merges: 0 });
        assert_eq!(of("b3", "m"), Own { commits: 5, merges: 2 });
        assert_eq!(of("b3", "a2"), Own { commits: 3, merges: 2 });
        assert_eq!(of("b1", "a1"), Own { commits: 1, merges: 0 });
        assert_eq!(of("m", "m"), Own::default());
    }

    #[test]
    fn earlier_parents_never_form_a_circle() {
        let history = graph(&[
            ("x", &["f"]),
            ("y", &["g"]),
            ("z", &["h"]),
            ("f", &["m"]),
            ("g", &["m"]),
            ("h", &["m"]),
        ]);
        let on = |name: &str, parent: &str, fork: &str| was_on(branch(name, name), parent, fork);
        let all = [branch("main", "m"), on("x", "y", "f"), on("y", "z", "g"), on("z", "x", "h")];
        let placed = plan(&history, Some(0), &all);
        assert_eq!(placed.iter().filter(|p| matches!(p, Place::OnBase { .. })).count(), 1);
    }

    #[test]
    fn the_work_of_a_task_stands_on_the_branch_that_it_started_from_although_that_has_moved() {
        let history = graph(&[("a1", &["m"]), ("a2", &["a1"]), ("c", &["a2"]), ("w", &["a1"])]);
        let work = Known { started_from: Some(id("a1")), ..branch("feat/work", "w") };
        let all = [branch("main", "m"), branch("a", "a2"), branch("c", "c"), work];
        assert_eq!(places(&history, &all)[2], "feat/work: a +1 -1 (2)");
    }

    #[test]
    fn a_long_history_is_counted_up_to_the_limit() {
        let names: Vec<String> = (0..=MAX_WALK).map(|n| format!("{n:05}")).collect();
        let mut history = History::default();
        for pair in names.windows(2) {
            history.add(&full(&pair[1]), &[&full(&pair[0])]).unwrap();
        }
        let top = names.last().unwrap();
        history.add(&full("top"), &[&full(top)]).unwrap();
        let all = [branch("main", "00000"), branch("long", "top")];
        assert_eq!(places(&history, &all), [format!("long: base +{MAX_WALK}")]);
    }
}
