//! What an error of the system means to the users of the library.

use std::io::{self, ErrorKind as Kind};

use super::system::status_of_number;
use crate::status::Status;

/// The status that tells of this error.
pub fn status_of(error: &io::Error) -> Status {
    if let Some(status) = error.raw_os_error().and_then(status_of_number) {
        return status;
    }
    match error.kind() {
        Kind::ConnectionRefused | Kind::NotFound => Status::Refused,
        Kind::ConnectionReset | Kind::ConnectionAborted | Kind::BrokenPipe => Status::Reset,
        Kind::AddrInUse => Status::AddressInUse,
        Kind::AddrNotAvailable => Status::AddressNotAvailable,
        Kind::TimedOut => Status::Timeout,
        Kind::InvalidInput => Status::InvalidArgument,
        Kind::Unsupported => Status::Unsupported,
        Kind::OutOfMemory => Status::NoMemory,
        Kind::PermissionDenied => Status::Permission,
        _ => Status::Os,
    }
}

#[cfg(test)]
mod tests {
    use super::super::system;
    use super::*;

    #[test]
    fn a_number_says_more_than_its_kind_and_a_kind_serves_without_a_number() {
        assert_eq!(status_of(&system::out_of_descriptors()), Status::TooManyFiles);
        assert_eq!(status_of(&system::connection_reset()), Status::Reset);
        assert_eq!(status_of(&Kind::ConnectionRefused.into()), Status::Refused);
        assert_eq!(status_of(&Kind::Unsupported.into()), Status::Unsupported);
        assert_eq!(status_of(&io::Error::other("a word")), Status::Os);
    }
}
