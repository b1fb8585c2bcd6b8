//! Cuts a stream of patches into the sections of its files, keeping each within a bound.

/// Starts every section. No line of a section's body can start like it: text lines start with
/// one of ` +-\@`, and base85 lines hold no space.
const MARK: &[u8] = b"diff --git ";

/// One file's part of a patch.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Section {
    pub(super) size: u64,
    /// The bytes, unless there were more than may be kept.
    pub(super) kept: Option<Vec<u8>>,
}

/// Takes the patch in pieces of any size.
pub(super) struct Splitter {
    sections: Vec<Section>,
    /// How many bytes of [`MARK`] the current line has matched; `None` after the line differed.
    matched: Option<usize>,
    keep: usize,
    keep_total: usize,
}

impl Splitter {
    /// Keeps at most `keep` bytes of each section and `keep_total` of all together.
    pub(super) fn new(keep: usize, keep_total: usize) -> Self {
        Self { sections: Vec::new(), matched: Some(0), keep, keep_total }
    }

    pub(super) fn push(&mut self, mut piece: &[u8]) {
        while let Some(first) = piece.first() {
            match self.matched {
                Some(n) if *first == MARK[n] => {
                    piece = &piece[1..];
                    self.matched = Some(n + 1);
                    if n + 1 == MARK.len() {
                        self.sections.push(Section { size: 0, kept: Some(Vec::new()) });
                        self.append(MARK);
                        self.matched = None;
                    }
                }
                Some(n) => {
                    self.append(&MARK[..n]);
                    self.matched = None;
                }
                None => {
                    let end = piece.iter().position(|b| *b == b'\n');
                    let line = &piece[..end.map_or(piece.len(), |at| at + 1)];
                    self.append(line);
                    piece = &piece[line.len()..];
                    self.matched = end.map(|_| 0);
                }
            }
        }
    }

    pub(super) fn finish(mut self) -> Vec<Section> {
        if let Some(n) = self.matched.filter(|n| *n > 0) {
            self.append(&MARK[..n]);
        }
        self.sections
    }

    fn append(&mut self, bytes: &[u8]) {
        let Some(section) = self.sections.last_mut() else { return };
        section.size += bytes.len() as u64;
        let Some(kept) = &mut section.kept else { return };
        if kept.len() + bytes.len() <= self.keep && bytes.len() <= self.keep_total {
            self.keep_total -= bytes.len();
            kept.extend_from_slice(bytes);
        } else {
            self.keep_total += kept.len();
            section.kept = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATCH: &[u8] = b"diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-diff --git a\n+diff --gi\ndiff --git a/y b/y\nnew file mode 100644\n";

    fn split(piece: usize, keep: usize, total: usize) -> Vec<Section> {
        let mut s = Splitter::new(keep, total);
        PATCH.chunks(piece).for_each(|c| s.push(c));
        s.finish()
    }

    #[test]
    fn cuts_at_the_same_places_whatever_the_pieces() {
        let whole = split(PATCH.len(), 1000, 1000);
        assert_eq!(whole.len(), 2);
        assert!(whole[1].kept.as_deref().unwrap().starts_with(b"diff --git a/y"));
        let joined: Vec<u8> = whole.iter().flat_map(|s| s.kept.clone().unwrap()).collect();
        assert_eq!(joined, PATCH);
        for piece in 1..20 {
            assert_eq!(split(piece, 1000, 1000), whole, "pieces of {piece}");
        }
    }

    #[test]
    fn counts_what_it_does_not_keep() {
        let s = split(7, 60, 1000);
        assert!(s[0].kept.is_none() && s[1].kept.is_some());
        assert_eq!(s.iter().map(|s| s.size).sum::<u64>(), PATCH.len() as u64);
    }
}
