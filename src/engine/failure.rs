//! Why something did not work, in a sentence.

use std::fmt;
use std::io;

use crate::pool::room::NoMemory;
use crate::port::status_of;
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
        let hint = match status_of(error) {
            Status::Permission => "; ports below 1024 need CAP_NET_BIND_SERVICE, and a Unix socket a writable folder",
            Status::AddressInUse => "; stop the other socket or choose another port",
            Status::AddressNotAvailable => "; choose an address of this machine, or 0.0.0.0 or [::] for all",
            Status::TooManyFiles => "; raise RLIMIT_NOFILE (ulimit -n)",
            Status::Refused => "; is the server running?",
            Status::Resolve => "; check the name and the resolver",
            Status::Timeout => "; the peer did not answer in time",
            _ => "",
        };
        Failure::with_hint(what, error, hint)
    }

    /// The same of a connect to this address.
    pub fn of_connect(address: &impl fmt::Display, error: &io::Error) -> Failure {
        let what = format!("connect {address}");
        let hint = match status_of(error) {
            Status::Permission => "; a firewall forbids it, or the permissions of the socket's file do",
            Status::AddressInUse => "; another socket has this local address: choose port 0",
            Status::AddressNotAvailable => {
                "; no local port is left to connect from, or local_address is none of this machine"
            }
            _ => return Failure::from_io(&what, error),
        };
        Failure::with_hint(&what, error, hint)
    }

    fn with_hint(what: &str, error: &io::Error, hint: &str) -> Failure {
        let os_code = error.raw_os_error().unwrap_or(0);
        Failure { status: status_of(error), os_code, message: format!("{what}: {}{hint}", describe(error)) }
    }
}

impl From<NoMemory> for Failure {
    fn from(_: NoMemory) -> Failure {
        let message = "the system has no memory for what is to be set aside: lower pool_bytes, max_connections or \
                       receive_buffer_bytes, or raise the limit of the process";
        Failure::new(Status::NoMemory, message)
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
