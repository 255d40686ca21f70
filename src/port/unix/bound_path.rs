//! The file that a listening Unix socket leaves behind: removed with the socket, and when a process died before it could.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Owns the path that a socket was bound to; its drop removes the file. A number, so that a stream's socket stays small.
#[derive(Debug)]
pub(super) struct BoundPath(u32);

struct Bound {
    number: u32,
    path: PathBuf,
    device: u64,
    inode: u64,
}

static BOUND: Mutex<Vec<Bound>> = Mutex::new(Vec::new());

fn bound() -> MutexGuard<'static, Vec<Bound>> {
    BOUND.lock().unwrap_or_else(PoisonError::into_inner)
}

impl BoundPath {
    /// No path: every socket but a listening Unix one.
    pub(super) const NONE: BoundPath = BoundPath(0);

    /// Owns a path that was bound a moment ago.
    pub(super) fn of(path: &Path) -> BoundPath {
        // The directory may change before the file is removed.
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let Ok(file) = fs::symlink_metadata(&path) else { return BoundPath::NONE };
        let mut all = bound();
        let number = all.iter().map(|one| one.number).max().unwrap_or(0) + 1;
        all.push(Bound { number, path, device: file.dev(), inode: file.ino() });
        BoundPath(number)
    }

    #[cold]
    fn remove(&self) {
        let mut all = bound();
        let Some(place) = all.iter().position(|one| one.number == self.0) else { return };
        let bound = all.swap_remove(place);
        drop(all);
        // Somebody else's socket may be there by now.
        let ours = |file: fs::Metadata| (file.dev(), file.ino()) == (bound.device, bound.inode);
        if fs::symlink_metadata(&bound.path).is_ok_and(ours) {
            let _ = fs::remove_file(&bound.path);
        }
    }
}

impl Drop for BoundPath {
    #[inline]
    fn drop(&mut self) {
        if self.0 != 0 {
            self.remove();
        }
    }
}

/// Removes a socket's file on which nobody listens any more; `connect` tries that. Gives whether the path is free now.
/// Whoever starts two servers on one path in the same instant can lose one of them: there is no atomic call for this.
pub(super) fn remove_if_stale(path: &Path, connect: impl FnOnce() -> io::Result<()>) -> bool {
    let Ok(file) = fs::symlink_metadata(path) else { return false };
    if !file.file_type().is_socket() {
        return false;
    }
    match connect() {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path).is_ok(),
        _ => false,
    }
}
