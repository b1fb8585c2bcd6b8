//! What reviewers write on lines of a pull request.

use super::ForgeHost;

/// What a reviewer has written on a line.
#[derive(Clone)]
pub(super) struct Remark {
    pub(super) reviewer: String,
    pub(super) path: String,
    pub(super) line: Option<u32>,
    pub(super) text: String,
    /// Place of the review that it belongs to.
    pub(super) review: usize,
    /// Whether somebody has settled its thread.
    pub(super) settled: bool,
}

impl ForgeHost {
    /// Adds a review that wants changes, with a comment on a line.
    pub fn remark(
        &self,
        repository: &str,
        number: u64,
        reviewer: &str,
        (path, line): (&str, u32),
        text: &str,
    ) {
        self.write(repository, number, (reviewer, "CHANGES_REQUESTED"), (path, line), text);
    }

    /// Adds a comment on a line, with a review that says nothing else. A name that ends with `[bot]` is that of a program;
    /// the owner of the repository is who opens pull requests.
    pub fn comment(
        &self,
        repository: &str,
        number: u64,
        reviewer: &str,
        (path, line): (&str, u32),
        text: &str,
    ) {
        self.write(repository, number, (reviewer, "COMMENTED"), (path, line), text);
    }

    fn write(
        &self,
        repository: &str,
        number: u64,
        (reviewer, said): (&str, &str),
        (path, line): (&str, u32),
        text: &str,
    ) {
        self.review(repository, number, reviewer, said);
        self.change(repository, number, |p| {
            p.remarks.push(Remark {
                reviewer: reviewer.to_owned(),
                path: path.to_owned(),
                line: Some(line),
                text: text.to_owned(),
                review: p.reviews.len() - 1,
                settled: false,
            });
        });
    }

    /// Marks all threads of a pull request as settled, as GitLab and Gitea show it.
    pub fn settle(&self, repository: &str, number: u64) {
        self.change(repository, number, |p| p.remarks.iter_mut().for_each(|remark| remark.settled = true));
    }

    /// Moves the comments of a pull request to this line, as a push does; none = the line is no more.
    pub fn move_remarks(&self, repository: &str, number: u64, line: Option<u32>) {
        self.change(repository, number, |p| p.remarks.iter_mut().for_each(|remark| remark.line = line));
    }
}
