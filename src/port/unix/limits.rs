//! What the system says of addresses: how long a name may be, and which number an interface has.

use std::ffi::{CString, OsString};
use std::mem::{offset_of, size_of};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// Where the path of a Unix socket begins in its address.
pub(super) const UNIX_PATH_OFFSET: usize = offset_of!(libc::sockaddr_un, sun_path);

/// The longest path of a Unix socket: the field, less the zero byte at its end (107 bytes on Linux).
pub(in crate::port) const UNIX_PATH_MAX: usize = size_of::<libc::sockaddr_un>() - UNIX_PATH_OFFSET - 1;

/// The path that these bytes are.
pub(in crate::port) fn path_of(bytes: Vec<u8>) -> PathBuf {
    OsString::from_vec(bytes).into()
}

/// The number of the network interface of this name.
pub(in crate::port) fn interface_number(name: &str) -> Option<u32> {
    let name = CString::new(name).ok()?;
    // SAFETY: `name` is a C string that lives for the call; if_nametoindex only reads it.
    let number = unsafe { libc::if_nametoindex(name.as_ptr()) };
    (number != 0).then_some(number)
}
