//! Descriptors and memory of this process, and a share of its descriptors for each scenario.

use std::io::Write;
use std::sync::{Condvar, Mutex, PoisonError};

/// Descriptors of this process that are not those of attackers.
const OTHER_FILES: u64 = 200;

/// How many entries a folder has; 0 when there is no descriptor to look with.
pub fn count(folder: &str) -> usize {
    std::fs::read_dir(folder).map_or(0, Iterator::count)
}

pub fn status_kib(field: &str) -> u64 {
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else { return 0 };
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// The soft and the hard limit of descriptors.
pub fn files_limit() -> (u64, u64) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes one rlimit to `limit`, which lives for the call.
    assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) }, 0);
    (limit.rlim_cur, limit.rlim_max)
}

/// Sets both; false when the system does not allow it.
pub fn try_set_files(soft: u64, hard: u64) -> bool {
    let limit = libc::rlimit { rlim_cur: soft, rlim_max: hard };
    // SAFETY: the kernel reads one rlimit from `limit`, which lives for the call.
    unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) == 0 }
}

/// Sets both, or ends.
pub fn set_files(soft: u64, hard: u64) {
    assert!(try_set_files(soft, hard), "{}", std::io::Error::last_os_error());
}

/// Scenarios run side by side as long as the descriptors of this process suffice for their peers.
pub struct Files(u64);

static IN_USE: (Mutex<u64>, Condvar) = (Mutex::new(0), Condvar::new());

impl Files {
    /// None, said aloud, where the limit of descriptors is too low; where tools are required that is a failure.
    pub fn take(count: u64) -> Option<Files> {
        let hard = files_limit().1;
        assert!(try_set_files(hard, hard));
        let most = hard.saturating_sub(OTHER_FILES);
        if count > most {
            let needs = format!("{count} descriptors are needed, and the limit is {hard}: raise it (ulimit -Hn 20000)");
            assert!(!std::env::var("WHARF_REQUIRE_TOOLS").is_ok_and(|value| value == "1"), "{needs}");
            let _ = writeln!(std::io::stderr(), "skipped: {needs}");
            return None;
        }
        let in_use = IN_USE.0.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = IN_USE.1.wait_while(in_use, |in_use| *in_use + count > most);
        *wait.unwrap_or_else(PoisonError::into_inner) += count;
        Some(Files(count))
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        *IN_USE.0.lock().unwrap_or_else(PoisonError::into_inner) -= self.0;
        IN_USE.1.notify_all();
    }
}
