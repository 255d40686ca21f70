//! Why something did not work, in a sentence.

use std::io;

use crate::status::Status;

/// A status, the system's error number and a sentence that says what to do.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What kind of failure.
    pub status: Status,
    /// The system's error number, or 0.
    pub os_code: i32,
    /// What was tried, what went wrong, what to do.
    pub message: String,
}

/// What calls that can fail for the world's reasons give back.
pub type Outcome<T> = Result<T, Failure>;

impl Failure {
    /// A failure that is not the system's.
    pub fn new(status: Status, message: impl Into<String>) -> Failure {
        Failure { status, os_code: 0, message: message.into() }
    }

    /// A failure of the system while `what` was tried, as in "bind 0.0.0.0:80".
    pub fn from_io(what: &str, error: &io::Error) -> Failure {
        let status = status_of(error);
        let os_code = error.raw_os_error().unwrap_or(0);
        let hint = match status {
            Status::Permission => "; ports below 1024 need CAP_NET_BIND_SERVICE, and a Unix socket a writable folder",
            Status::AddressInUse => "; stop the other socket or choose another port",
            Status::AddressNotAvailable => "; choose an address of this machine, or 0.0.0.0 or [::] for all",
            Status::TooManyFiles => "; raise RLIMIT_NOFILE (ulimit -n)",
            Status::Refused => "; is the server running?",
            Status::Resolve => "; check the name and the resolver",
            Status::Timeout => "; the peer did not answer in time",
            _ => "",
        };
        Failure { status, os_code, message: format!("{what}: {}{hint}", describe(error)) }
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Failure {
        Failure::new(status, status.text())
    }
}

/// "permission denied" without the " (os error 13)" that Rust adds.
fn describe(error: &io::Error) -> String {
    let text = error.to_string();
    let end = text.find(" (os error").unwrap_or(text.len());
    text[..end].to_lowercase()
}

/// The status that tells of this error.
pub fn status_of(error: &io::Error) -> Status {
    use io::ErrorKind as K;
    match error.raw_os_error() {
        Some(libc::EMFILE | libc::ENFILE) => return Status::TooManyFiles,
        Some(libc::ENOMEM | libc::ENOBUFS) => return Status::NoMemory,
        Some(libc::EACCES | libc::EPERM) => return Status::Permission,
        Some(libc::EHOSTUNREACH | libc::ENETUNREACH | libc::EHOSTDOWN | libc::ENETDOWN) => return Status::Unreachable,
        Some(libc::EAFNOSUPPORT | libc::EPROTONOSUPPORT | libc::EOPNOTSUPP) => return Status::Unsupported,
        _ => {}
    }
    match error.kind() {
        K::ConnectionRefused | K::NotFound => Status::Refused,
        K::ConnectionReset | K::ConnectionAborted | K::BrokenPipe => Status::Reset,
        K::AddrInUse => Status::AddressInUse,
        K::AddrNotAvailable => Status::AddressNotAvailable,
        K::TimedOut => Status::Timeout,
        K::InvalidInput => Status::InvalidArgument,
        K::Unsupported => Status::Unsupported,
        K::PermissionDenied => Status::Permission,
        _ => Status::Os,
    }
}
