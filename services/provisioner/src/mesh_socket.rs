//! Unix sockets for sandboxes, in a directory that is mounted into them.

use std::path::Path;

/// Listens at a path of any length; replaces a socket that an earlier process left behind.
pub fn listen(path: &Path) -> std::io::Result<tokio::net::UnixListener> {
    use std::os::fd::AsRawFd as _;
    use std::os::unix::fs::PermissionsExt as _;
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(std::io::ErrorKind::InvalidInput.into());
    };
    std::fs::create_dir_all(directory)?;
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o755))?;
    let opened = std::fs::File::open(directory)?;
    // Bound through the open directory, because the whole path may be longer than a socket's path may be.
    let short = Path::new("/proc/self/fd").join(opened.as_raw_fd().to_string()).join(name);
    match std::fs::remove_file(&short) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let listener = std::os::unix::net::UnixListener::bind(&short)?;
    // Sandboxes run as other users; the data directory keeps everybody else out.
    std::fs::set_permissions(&short, std::fs::Permissions::from_mode(0o666))?;
    listener.set_nonblocking(true)?;
    tokio::net::UnixListener::from_std(listener)
}
