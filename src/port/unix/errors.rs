//! The error numbers of Unix, and what they mean.

use std::io;

use crate::likely::unlikely;
use crate::port::AcceptError;
use crate::status::Status;

/// What a system call that gives -1 for an error gave.
#[inline]
pub(super) fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// The same for those that give a size.
pub(super) fn check_size(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// Calls again for as long as a signal interrupts.
#[inline(always)]
pub(super) fn retry(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if unlikely(error.raw_os_error() == Some(libc::EINTR)) => {}
            outcome => return outcome,
        }
    }
}

/// No descriptor is left to the process.
pub(in crate::port) fn out_of_descriptors() -> io::Error {
    io::Error::from_raw_os_error(libc::EMFILE)
}

/// The peer reset the connection.
pub(in crate::port) fn connection_reset() -> io::Error {
    io::Error::from_raw_os_error(libc::ECONNRESET)
}

/// The status that tells of this error number, where the kind of the error says less than the number does.
pub(in crate::port) fn status_of_number(number: i32) -> Option<Status> {
    Some(match number {
        libc::EMFILE | libc::ENFILE => Status::TooManyFiles,
        libc::ENOMEM | libc::ENOBUFS => Status::NoMemory,
        libc::EACCES | libc::EPERM => Status::Permission,
        libc::EHOSTUNREACH | libc::ENETUNREACH | libc::EHOSTDOWN | libc::ENETDOWN => Status::Unreachable,
        libc::EAFNOSUPPORT | libc::EPROTONOSUPPORT | libc::EOPNOTSUPP => Status::Unsupported,
        _ => return None,
    })
}

/// What an accept that failed means. Linux hands the new connection's own errors over as those of accept(2), which lists
/// them under "Error handling" and "Errors".
pub(in crate::port) fn accept_error(error: io::Error) -> AcceptError {
    let Some(number) = error.raw_os_error() else { return AcceptError::Listener(error) };
    match number {
        // On most systems one number has both names.
        _ if number == libc::EAGAIN || number == libc::EWOULDBLOCK => AcceptError::NoneWaiting,
        libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM => AcceptError::Exhausted(error),
        libc::ECONNABORTED
        | libc::ECONNRESET
        | libc::EHOSTDOWN
        | libc::EHOSTUNREACH
        | libc::ENETDOWN
        | libc::ENETRESET
        | libc::ENETUNREACH
        | libc::ENOPROTOOPT
        | libc::EOPNOTSUPP
        | libc::EPERM
        | libc::EPROTO
        | libc::EPROTONOSUPPORT
        | libc::ETIMEDOUT => AcceptError::Connection(error),
        #[cfg(target_os = "linux")]
        libc::ENONET | libc::ESOCKTNOSUPPORT => AcceptError::Connection(error),
        _ => AcceptError::Listener(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::status_of;

    fn class(number: i32) -> &'static str {
        match accept_error(io::Error::from_raw_os_error(number)) {
            AcceptError::NoneWaiting => "none waits",
            AcceptError::Connection(error) if error.raw_os_error() == Some(number) => "connection",
            AcceptError::Exhausted(error) if error.raw_os_error() == Some(number) => "exhausted",
            AcceptError::Listener(error) if error.raw_os_error() == Some(number) => "listener",
            other => panic!("the number is lost: {other:?}"),
        }
    }

    #[test]
    fn an_accept_that_fails_tells_whether_the_next_one_can_do_better() {
        assert_eq!(class(libc::EAGAIN), "none waits");
        assert_eq!(class(libc::EWOULDBLOCK), "none waits");
        for number in [
            libc::ECONNABORTED,
            libc::ENETDOWN,
            libc::EPROTO,
            libc::ENOPROTOOPT,
            libc::EHOSTDOWN,
            libc::EHOSTUNREACH,
            libc::EOPNOTSUPP,
            libc::ENETUNREACH,
            libc::EPERM,
            libc::ETIMEDOUT,
        ] {
            assert_eq!(class(number), "connection", "{number}");
        }
        #[cfg(target_os = "linux")]
        assert_eq!(class(libc::ENONET), "connection");
        for number in [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM] {
            assert_eq!(class(number), "exhausted", "{number}");
        }
        for number in [libc::EBADF, libc::EINVAL, libc::ENOTSOCK, libc::EFAULT, libc::EIO] {
            assert_eq!(class(number), "listener", "{number}");
        }
    }

    #[test]
    fn each_number_has_its_status_alone_or_by_its_kind() {
        for (number, status) in [
            (libc::ENFILE, Status::TooManyFiles),
            (libc::ENOBUFS, Status::NoMemory),
            (libc::EPERM, Status::Permission),
            (libc::EHOSTDOWN, Status::Unreachable),
            (libc::EAFNOSUPPORT, Status::Unsupported),
            (libc::ENOENT, Status::Refused),
            (libc::EPIPE, Status::Reset),
            (libc::ETIMEDOUT, Status::Timeout),
            (libc::EIO, Status::Os),
        ] {
            assert_eq!(status_of(&io::Error::from_raw_os_error(number)), status, "{number}");
        }
    }
}
