//! Which branches an action makes again, where, and in which order. A pure function over branches, their parents and what is
//! merged; the commits are made afterwards.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use foundry_git::CommitId;

/// A branch as the remote has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Branch {
    /// Name without `refs/heads/`.
    pub name: String,
    /// Commit that the remote has at its head.
    pub tip: CommitId,
    /// Where it stands; none for the base, and for a branch without any relation to it.
    pub stands: Option<Stands>,
    /// The branch that has everything of it already; empty = none.
    pub merged_into: String,
    /// Its newest commit up to which the base has everything of it; none = nothing.
    pub absorbed: Option<CommitId>,
    /// Why it is left as it is unless the request names it; empty = it is not.
    pub kept: String,
}

/// Where a branch stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stands {
    /// The branch below it.
    pub parent: String,
    /// What this commit contains does not belong to the branch.
    pub from: CommitId,
}

/// The branches that an action is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// All branches of stacks: those that stand on another branch than the base, or have one that stands on them.
    Stacks,
    /// One branch and all above it.
    Subtree(String),
    /// One branch alone; those above it stay.
    One(String),
}

impl Selection {
    /// The branch that the request names.
    pub fn named(&self) -> Option<&str> {
        match self {
            Self::Subtree(name) | Self::One(name) => Some(name),
            Self::Stacks => None,
        }
    }
}

/// What becomes of one branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The branch, without `refs/heads/`.
    pub branch: String,
    /// Its head before.
    pub tip: CommitId,
    /// The branch below it before.
    pub old_parent: String,
    /// The newest commit that it had in common with that.
    pub old_fork: Option<CommitId>,
    /// What is done.
    pub act: Act,
}

/// What is done to one branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Its commits are made again on the head that the parent has then.
    Replay {
        /// The branch below it afterwards.
        parent: String,
        /// What this commit contains does not belong to the branch.
        from: CommitId,
    },
    /// Nothing: the named branch has everything of it.
    Merged(String),
    /// Nothing: it has nothing in common with the base.
    Unrelated,
    /// Nothing: why it is not made again without being named.
    Kept(String),
}

/// Why there is no plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Impossible {
    /// The branch is not at the remote.
    Absent,
    /// It is the default branch.
    Base,
    /// The new parent is not at the remote.
    ParentAbsent,
    /// The new parent is the branch itself, or stands on it.
    Circle,
}

impl Impossible {
    /// The stable reason.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Absent => "BRANCH_NOT_AT_REMOTE",
            Self::Base => "DEFAULT_BRANCH_REFUSED",
            Self::ParentAbsent => "PARENT_NOT_AT_REMOTE",
            Self::Circle => "STACK_CIRCLE",
        }
    }
}

/// The steps of an action, parents first. `move_to` is the new parent of the selected branch.
///
/// # Errors
/// When the selected branch cannot be selected, or cannot have this parent.
pub fn plan(
    base: &str,
    branches: &[Branch],
    selection: &Selection,
    move_to: Option<&str>,
) -> Result<Vec<Step>, Impossible> {
    let forest = Forest::new(base, branches);
    let selected = forest.selected(selection)?;
    let moved = selection.named();
    if let (Some(parent), Some(branch)) = (move_to, moved) {
        if !forest.by_name.contains_key(parent) {
            return Err(Impossible::ParentAbsent);
        }
        if parent == branch || forest.above(branch).contains(parent) {
            return Err(Impossible::Circle);
        }
    }
    let new_parent = |name: &str| move_to.filter(|_| moved == Some(name));
    let mut steps = Vec::new();
    for name in forest.parents_first(&selected, |name| new_parent(name)) {
        let Some(branch) = forest.by_name.get(name) else { continue };
        let parent = branch.stands.as_ref().map_or("", |s| s.parent.as_str());
        let act = match (&branch.stands, new_parent(name)) {
            _ if !branch.merged_into.is_empty() => Act::Merged(forest.unmerged(&branch.merged_into)),
            (Some(_), _) if !branch.kept.is_empty() && moved != Some(name) => Act::Kept(branch.kept.clone()),
            (Some(stands), to) => {
                let parent = to.map_or_else(|| forest.unmerged(&stands.parent), str::to_owned);
                let absorbed = branch.absorbed.as_ref().filter(|_| parent == base);
                Act::Replay { parent, from: absorbed.unwrap_or(&stands.from).clone() }
            }
            (None, _) => Act::Unrelated,
        };
        steps.push(Step {
            branch: name.to_owned(),
            tip: branch.tip.clone(),
            old_parent: parent.to_owned(),
            old_fork: branch.stands.as_ref().map(|s| s.from.clone()),
            act,
        });
    }
    Ok(steps)
}

/// The branches of which a plan must know what is merged: the selected ones, and all that they stand on.
pub fn looked_at(base: &str, branches: &[Branch], selection: &Selection) -> BTreeSet<String> {
    let forest = Forest::new(base, branches);
    let mut all: BTreeSet<String> = BTreeSet::new();
    for start in forest.selected(selection).unwrap_or_default() {
        let mut at = start;
        while all.insert(at.to_owned()) {
            let parent = forest.by_name.get(at).and_then(|b| b.stands.as_ref());
            let Some(parent) = parent.filter(|s| s.parent != base) else { break };
            at = &parent.parent;
        }
    }
    all
}

/// Whether a branch would stand on itself if it got this parent, by the parents that are known.
pub fn is_circle(parents: &HashMap<String, String>, branch: &str, parent: &str) -> bool {
    let (mut at, mut seen) = (parent, BTreeSet::new());
    while seen.insert(at) {
        if at == branch {
            return true;
        }
        let Some(next) = parents.get(at).filter(|next| !next.is_empty()) else { return false };
        at = next;
    }
    false
}

/// All branches of the stack of a branch: what stands on what it stands on, without the base. Jobs on them run one after
/// another. `parents` has the parent of each branch.
pub fn stack_of(base: &str, parents: &HashMap<String, String>, of: &str) -> BTreeSet<String> {
    let mut root = of;
    let mut seen = BTreeSet::from([of]);
    while let Some(parent) = parents.get(root).filter(|p| !p.is_empty() && *p != base)
        && seen.insert(parent)
    {
        root = parent;
    }
    let mut stack = BTreeSet::from([root.to_owned(), of.to_owned()]);
    loop {
        let above: Vec<&String> = parents
            .iter()
            .filter(|(name, parent)| stack.contains(*parent) && !stack.contains(*name) && *name != base)
            .map(|(name, _)| name)
            .collect();
        if above.is_empty() {
            return stack;
        }
        stack.extend(above.into_iter().cloned());
    }
}

/// The branches of all stacks of two or more branches.
pub fn stacked(base: &str, parents: &HashMap<String, String>) -> BTreeSet<String> {
    let on_branch = |parent: &str| !parent.is_empty() && parent != base;
    let mut all = BTreeSet::new();
    for (name, parent) in parents {
        if on_branch(parent) && name != base {
            all.insert(name.clone());
            all.insert(parent.clone());
        }
    }
    all
}

struct Forest<'a> {
    base: &'a str,
    by_name: BTreeMap<&'a str, &'a Branch>,
}

impl<'a> Forest<'a> {
    fn new(base: &'a str, branches: &'a [Branch]) -> Self {
        Self { base, by_name: branches.iter().map(|b| (b.name.as_str(), b)).collect() }
    }

    fn parents(&self) -> HashMap<String, String> {
        let parent = |b: &&Branch| b.stands.as_ref().map(|s| s.parent.clone()).unwrap_or_default();
        self.by_name.values().map(|b| (b.name.clone(), parent(b))).collect()
    }

    fn above(&self, branch: &str) -> BTreeSet<&'a str> {
        let mut above = BTreeSet::new();
        let mut next = vec![branch];
        while let Some(at) = next.pop() {
            for (name, b) in &self.by_name {
                if b.stands.as_ref().is_some_and(|s| s.parent == at) && above.insert(*name) {
                    next.push(name);
                }
            }
        }
        above
    }

    fn selected(&self, selection: &Selection) -> Result<BTreeSet<&'a str>, Impossible> {
        let one = |name: &String| {
            let found = self.by_name.get_key_value(name.as_str()).ok_or(Impossible::Absent)?;
            if name == self.base { Err(Impossible::Base) } else { Ok(*found.0) }
        };
        Ok(match selection {
            Selection::One(name) => BTreeSet::from([one(name)?]),
            Selection::Subtree(name) => {
                let name = one(name)?;
                let mut all = self.above(name);
                all.insert(name);
                all
            }
            Selection::Stacks => {
                let stacked = stacked(self.base, &self.parents());
                self.by_name.keys().copied().filter(|name| stacked.contains(*name)).collect()
            }
        })
    }

    /// The branch itself, or what has everything of it.
    fn unmerged(&self, name: &str) -> String {
        let (mut at, mut seen) = (name, BTreeSet::new());
        while let Some(branch) = self.by_name.get(at)
            && !branch.merged_into.is_empty()
            && seen.insert(at)
        {
            at = &branch.merged_into;
        }
        at.to_owned()
    }

    fn parents_first<'n>(
        &self,
        selected: &BTreeSet<&'a str>,
        new_parent: impl Fn(&str) -> Option<&'n str>,
    ) -> Vec<&'a str> {
        let mut order = Vec::new();
        let mut done = BTreeSet::new();
        for start in selected {
            let (mut path, mut at) = (Vec::new(), *start);
            while selected.contains(at) && !done.contains(at) && !path.contains(&at) {
                path.push(at);
                let stands = self.by_name.get(at).and_then(|b| b.stands.as_ref());
                let parent = new_parent(at).map(str::to_owned).or(stands.map(|s| self.unmerged(&s.parent)));
                let Some((next, _)) = parent.as_deref().and_then(|p| self.by_name.get_key_value(p)) else {
                    break;
                };
                at = next;
            }
            while let Some(name) = path.pop() {
                done.insert(name);
                order.push(name);
            }
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> CommitId {
        let mut id: String = text.bytes().map(|b| format!("{b:02x}")).collect();
        id.extend(std::iter::repeat_n('0', 40 - id.len()));
        CommitId::parse(&id).unwrap()
    }

    /// A branch from `name parent`, whose own commits begin behind the parent's head.
    fn on(name: &str, parent: &str) -> Branch {
        let stands = (!parent.is_empty()).then(|| Stands { parent: parent.to_owned(), from: id(parent) });
        let (merged_into, kept) = (String::new(), String::new());
        Branch { name: name.to_owned(), tip: id(name), stands, merged_into, absorbed: None, kept }
    }

    fn merged(branch: Branch, into: &str) -> Branch {
        Branch { merged_into: into.to_owned(), ..branch }
    }

    fn stack() -> Vec<Branch> {
        let mut all: Vec<Branch> =
            [("main", ""), ("f", "e"), ("b", "a"), ("e", "d"), ("a", "main"), ("d", "c"), ("c", "b")]
                .map(|(name, parent)| on(name, parent))
                .into();
        all.push(on("alone", "main"));
        all
    }

    fn words(planned: Result<Vec<Step>, Impossible>) -> String {
        let step = |s: &Step| match &s.act {
            Act::Replay { parent, from } => {
                let from =
                    ["main", "a", "b", "c", "d", "e"].into_iter().find(|n| id(n) == *from).unwrap_or("?");
                format!("{}:{from}->{parent}", s.branch)
            }
            Act::Merged(into) => format!("{}=merged({into})", s.branch),
            Act::Unrelated => format!("{}=unrelated", s.branch),
            Act::Kept(why) => format!("{}=kept({why})", s.branch),
        };
        match planned {
            Ok(steps) => steps.iter().map(step).collect::<Vec<_>>().join(" "),
            Err(why) => format!("{why:?}"),
        }
    }

    #[test]
    fn plans_are_made_parents_first_and_leave_out_what_is_merged() {
        let squashed = |names: &[(&str, &str)]| -> Vec<Branch> {
            let into =
                |b: &Branch| names.iter().find(|(n, _)| *n == b.name).map_or("", |(_, to)| *to).to_owned();
            stack()
                .into_iter()
                .map(|b| {
                    let to = into(&b);
                    merged(b, &to)
                })
                .collect()
        };
        let (all, sub, one) =
            (Selection::Stacks, |n: &str| Selection::Subtree(n.into()), |n: &str| Selection::One(n.into()));
        let kept = |name: &str| -> Vec<Branch> {
            let why = |b: &Branch| if b.name == name { "merges".to_owned() } else { String::new() };
            stack().into_iter().map(|b| Branch { kept: why(&b), ..b }).collect()
        };
        type Case = (&'static str, Vec<Branch>, Selection, Option<&'static str>, &'static str);
        let cases: &[Case] = &[
            ("whole", stack(), all.clone(), None, "a:main->main b:a->a c:b->b d:c->c e:d->d f:e->e"),
            ("subtree", stack(), sub("d"), None, "d:c->c e:d->d f:e->e"),
            ("one", stack(), one("d"), None, "d:c->c"),
            ("alone", stack(), one("alone"), None, "alone:main->main"),
            (
                "a merged middle: its children stand on what has it",
                squashed(&[("c", "main")]),
                all.clone(),
                None,
                "a:main->main b:a->a c=merged(main) d:c->main e:d->d f:e->e",
            ),
            (
                "merged into its parent",
                squashed(&[("c", "b")]),
                all.clone(),
                None,
                "a:main->main b:a->a c=merged(b) d:c->b e:d->d f:e->e",
            ),
            (
                "merged into one that is merged itself",
                squashed(&[("c", "b"), ("b", "main")]),
                sub("c"),
                None,
                "c=merged(main) d:c->main e:d->d f:e->e",
            ),
            (
                "with merges of its own: left unless it is named",
                kept("c"),
                all.clone(),
                None,
                "a:main->main b:a->a c=kept(merges) d:c->c e:d->d f:e->e",
            ),
            ("above what is named", kept("e"), sub("d"), None, "d:c->c e=kept(merges) f:e->e"),
            ("named", kept("d"), sub("d"), None, "d:c->c e:d->d f:e->e"),
            ("reparent", stack(), sub("d"), Some("a"), "d:c->a e:d->d f:e->e"),
            ("onto the base", stack(), one("d"), Some("main"), "d:c->main"),
            ("onto itself", stack(), sub("d"), Some("d"), "Circle"),
            ("onto its child", stack(), sub("d"), Some("f"), "Circle"),
            ("onto nothing", stack(), sub("d"), Some("gone"), "ParentAbsent"),
            ("the base", stack(), one("main"), None, "Base"),
            ("gone", stack(), sub("gone"), None, "Absent"),
            ("unrelated", vec![on("main", ""), on("pages", "")], one("pages"), None, "pages=unrelated"),
        ];
        for (case, branches, selection, to, expected) in cases {
            assert_eq!(words(plan("main", branches, selection, *to)), *expected, "{case}");
        }
    }

    #[test]
    fn what_a_plan_looks_at_is_what_it_changes_and_what_that_stands_on() {
        let names = |selection| looked_at("main", &stack(), &selection).into_iter().collect::<String>();
        assert_eq!(names(Selection::One("c".into())), "abc");
        assert_eq!(names(Selection::Subtree("e".into())), "abcdef");
        assert_eq!(names(Selection::Stacks), "abcdef");
        assert_eq!(names(Selection::One("gone".into())), "");
    }

    #[test]
    fn a_parent_that_stands_on_the_branch_makes_a_circle() {
        let branches = stack();
        let parents = Forest::new("main", &branches).parents();
        for (branch, parent, expected) in
            [("b", "b", true), ("b", "d", true), ("d", "b", false), ("d", "main", false), ("d", "?", false)]
        {
            assert_eq!(is_circle(&parents, branch, parent), expected, "{branch} on {parent}");
        }
        // One that is there already is not followed for ever.
        let circle = [("x", "y"), ("y", "x")].map(|(b, p)| (b.to_owned(), p.to_owned()));
        assert!(!is_circle(&circle.into(), "a", "x"));
    }

    #[test]
    fn a_stack_is_all_that_is_connected_without_the_base() {
        let branches = stack();
        let parents = Forest::new("main", &branches).parents();
        let names = |set: BTreeSet<String>| set.into_iter().collect::<Vec<_>>().join("");
        assert_eq!(names(stack_of("main", &parents, "d")), "abcdef");
        assert_eq!(names(stack_of("main", &parents, "alone")), "alone");
        assert_eq!(names(stack_of("main", &parents, "unknown")), "unknown");
        assert_eq!(names(stacked("main", &parents)), "abcdef");
    }
}
