//! Disk use of a sandbox: what is below its directories, and deleted files that its processes keep open. Hard links
//! count once, links are not followed, other file systems are left out.

use std::collections::HashSet;
use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use foundry_sandbox::ProcessRef;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, open, openat, statat};

/// Deepest nesting: no path of a program reaches deeper, and each level needs a descriptor.
const MAX_DEPTH: u32 = 2_048;
/// A block as `stat` counts them, in bytes.
const BLOCK: u64 = 512;

/// The disk space and files in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub bytes: u64,
    pub files: u64,
    /// A part could not be measured, since it is nested too deep.
    pub too_deep: bool,
}

/// The counters of a file system, which cost one call: a sandbox cannot have used more than these have grown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ground {
    pub bytes: u64,
    pub files: u64,
}

impl Ground {
    /// The counters of the file system that holds a path; zero when it has none.
    pub fn of(path: &Path) -> Self {
        let Ok(s) = rustix::fs::statvfs(path) else { return Self::default() };
        Self {
            bytes: s.f_blocks.saturating_sub(s.f_bfree).saturating_mul(s.f_frsize),
            files: s.f_files.saturating_sub(s.f_ffree),
        }
    }
}

/// Measures what is below these directories and what these processes keep open although it is deleted.
pub(crate) fn measure(places: &[PathBuf], processes: &[ProcessRef]) -> Usage {
    let mut count = Count::default();
    for place in places {
        // An absent directory uses nothing.
        let _ = count.tree(place);
    }
    for process in processes {
        count.deleted(process.pid);
    }
    count.usage
}

#[derive(Default)]
struct Count {
    usage: Usage,
    /// The file systems of the measured directories.
    devices: HashSet<u64>,
    /// Files with several links or none that are already counted.
    seen: HashSet<(u64, u64)>,
}

/// A directory still to be read.
struct Pending {
    parent: Rc<OwnedFd>,
    name: CString,
    depth: u32,
}

impl Count {
    fn tree(&mut self, place: &Path) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let top = open(place, flags, Mode::empty())?;
        let device = rustix::fs::fstat(&top)?.st_dev;
        self.devices.insert(device);
        let mut pending = Vec::new();
        self.directory(Rc::new(top), 0, device, &mut pending);
        while let Some(Pending { parent, name, depth }) = pending.pop() {
            match openat(&*parent, &name, flags, Mode::empty()) {
                Ok(_) if depth > MAX_DEPTH => self.usage.too_deep = true,
                Ok(opened) => self.directory(Rc::new(opened), depth, device, &mut pending),
                Err(rustix::io::Errno::MFILE | rustix::io::Errno::NFILE) => self.usage.too_deep = true,
                // It was removed, is no directory any more, or may not be read.
                Err(_) => {}
            }
        }
        Ok(())
    }

    fn directory(&mut self, opened: Rc<OwnedFd>, depth: u32, device: u64, pending: &mut Vec<Pending>) {
        // A directory that we lack descriptors or memory to read does not count as empty.
        let mut unread = |e| {
            use rustix::io::Errno;
            self.usage.too_deep |= matches!(e, Errno::MFILE | Errno::NFILE | Errno::NOMEM);
        };
        let entries = match Dir::read_from(&*opened) {
            Ok(entries) => entries,
            Err(e) => return unread(e),
        };
        for entry in entries {
            let entry = match entry {
                Ok(entry) => entry,
                Err(e) => return unread(e),
            };
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let Ok(stat) = statat(&*opened, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            if stat.st_dev != device {
                continue;
            }
            let directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
            if !directory && stat.st_nlink > 1 && !self.seen.insert((stat.st_dev, stat.st_ino)) {
                continue;
            }
            self.usage.files += 1;
            self.usage.bytes += u64::try_from(stat.st_blocks).unwrap_or(0) * BLOCK;
            if directory {
                pending.push(Pending { parent: Rc::clone(&opened), name: name.to_owned(), depth: depth + 1 });
            }
        }
    }

    /// Counts deleted files that a process keeps alive by a descriptor or a memory map. Each thread is checked, since a
    /// thread may have descriptors of its own and the kernel does not show whether it has.
    fn deleted(&mut self, pid: i32) {
        for thread in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
            for entry in fs::read_dir(thread.path().join("fd")).into_iter().flatten().flatten() {
                self.kept(&entry.path());
            }
        }
        let Ok(maps) = fs::read(format!("/proc/{pid}/maps")) else { return };
        for line in String::from_utf8_lossy(&maps).lines().filter(|l| l.ends_with(" (deleted)")) {
            if let Some(range) = line.split(' ').next() {
                self.kept(&PathBuf::from(format!("/proc/{pid}/map_files/{range}")));
            }
        }
    }

    fn kept(&mut self, link: &Path) {
        let Ok(m) = fs::metadata(link) else { return };
        if m.is_file()
            && m.nlink() == 0
            && self.devices.contains(&m.dev())
            && self.seen.insert((m.dev(), m.ino()))
        {
            self.usage.files += 1;
            self.usage.bytes += m.blocks() * BLOCK;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> ProcessRef {
        ProcessRef::of(std::process::id().cast_signed()).unwrap()
    }

    #[test]
    fn counts_hard_links_once_and_what_links_point_to_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("place");
        fs::create_dir_all(place.join("a/b")).unwrap();
        fs::write(place.join("a/b/one"), vec![1u8; 1 << 20]).unwrap();
        fs::hard_link(place.join("a/b/one"), place.join("two")).unwrap();
        fs::write(dir.path().join("outside"), vec![1u8; 1 << 20]).unwrap();
        std::os::unix::fs::symlink(dir.path().join("outside"), place.join("link")).unwrap();
        std::os::unix::fs::symlink(dir.path(), place.join("up")).unwrap();
        let found = measure(&[place.clone(), place.join("absent")], &[]);
        assert_eq!((found.files, found.too_deep), (5, false), "a, b, one, link, up");
        assert!((1 << 20..3 << 19).contains(&found.bytes), "{found:?}");
    }

    #[test]
    fn counts_a_deleted_file_for_as_long_as_a_process_keeps_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = fs::File::create(dir.path().join("gone")).unwrap();
        io::Write::write_all(&mut file, &vec![1u8; 1 << 20]).unwrap();
        file.sync_all().unwrap();
        fs::remove_file(dir.path().join("gone")).unwrap();
        let places = [dir.path().to_owned()];
        assert_eq!(measure(&places, &[]).files, 0);
        let kept = measure(&places, &[own()]);
        assert!(kept.bytes >= 1 << 20, "{kept:?}");
        drop(file);
        assert!(measure(&places, &[own()]).bytes < 1 << 20);
    }

    #[test]
    fn counts_a_deleted_file_that_one_thread_alone_has_open() {
        use std::io::BufRead as _;
        const SCRIPT: &str = "
import ctypes, os, sys, threading
def hide():
    assert ctypes.CDLL(None, use_errno=True).unshare(0x400) == 0  # CLONE_FILES
    file = open('gone', 'wb')
    file.write(b'1' * (1 << 20))
    os.fsync(file.fileno())
    os.remove('gone')
    print('hidden', flush=True)
    threading.Event().wait()
threading.Thread(target=hide, daemon=True).start()
sys.stdin.read()
";
        let dir = tempfile::tempdir().unwrap();
        let mut python = std::process::Command::new("python3");
        python.args(["-c", SCRIPT]).current_dir(dir.path());
        let piped = std::process::Stdio::piped;
        let mut child = python.stdin(piped()).stdout(piped()).spawn().unwrap();
        let mut line = String::new();
        io::BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "hidden\n");
        let process = ProcessRef::of(child.id().cast_signed()).unwrap();
        let found = measure(&[dir.path().to_owned()], &[process]);
        drop(child.stdin.take());
        child.wait().unwrap();
        assert!(found.bytes >= 1 << 20 && found.files == 1, "{found:?}");
    }

    #[test]
    fn says_that_a_tree_is_nested_too_deep_to_be_measured() {
        let dir = tempfile::tempdir().unwrap();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut at = open(dir.path(), flags, Mode::empty()).unwrap();
        for _ in 0..MAX_DEPTH + 10 {
            rustix::fs::mkdirat(&at, "d", Mode::RWXU).unwrap();
            at = openat(&at, "d", flags, Mode::empty()).unwrap();
        }
        assert!(measure(&[dir.path().to_owned()], &[]).too_deep);
    }
}
